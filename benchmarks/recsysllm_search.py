"""RecSysLLM's exact search beside 20 beams and a full enumeration.

    python -m benchmarks.recsysllm_search [--titles 148 1038 12101] [--users 4] [--steps 1000]

Titles are chains of words in which the next word follows from the one before (40 choices by Zipf's
law), after one of a fifth as many brands. A small random LLaMA is trained on them for some steps,
each title after a prompt that names its brand and noise; ``--steps 0`` leaves it untrained, which
makes all names about as likely and is the worst case. Of each catalogue the exact top 10 must be
the list and the scores (to 1e-3) of a full enumeration, which scores all titles packed. Printed are
CPU seconds (beams and exact take turns, the fastest of five counts), tokens read for a user, the
share of lists that is proven, and the share of the exact top 10 that 20 beams find. Goal: at most 3
times the time of the beams, printed as beams over exact, at least 1/3. One thread; the last line is
JSON.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmarks.clock import cpu_seconds
from benchmarks.evaluate import alternate
from benchmarks.report import Part, finish_parts
from legos.data.ragged import Ragged, from_lengths
from legos.systems.recsysllm.automaton import Automaton, Slot, build_trie
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone
from legos.systems.recsysllm.beam_search import Ranked, rank_entities
from legos.systems.recsysllm.decoding import read_prompts, score_candidates, token_losses
from legos.systems.recsysllm.exact_search import Found, SearchWork, find_entities
from legos.systems.recsysllm.masking import ENTITY, Blanks
from legos.systems.recsysllm.positions import IGNORE, Examples, build_examples, lay_out
from legos.systems.recsysllm.settings import PositionSettings
from legos.systems.recsysllm.units import Documents

WORDS, BEAMS, TOP, GOAL, NOISE, BATCH, ROUNDS = 4_000, 20, 10, 1 / 3, 6, 64, 5


def make_titles(count: int) -> Ragged:
    """A brand, then 1 to 11 words, each of 40 that may follow the one before."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 13, (count,), generator=generator)
    brands = max(1, count // 5)
    words = [(brands ** torch.rand(count, generator=generator)).long()]
    for _ in range(11):
        draw = (40 ** torch.rand(count, generator=generator)).long()
        words.append((words[-1] * 31 + draw * 7) % (WORDS - 1) + 1)
    table = torch.stack(words, 1)
    return from_lengths(table[torch.arange(12) < lengths[:, None]], lengths)


def make_examples(
    titles: Ragged, backbone: DecoderBackbone, automaton: Automaton, seed: int
) -> Examples:
    """A prompt of a title's brand and noise, a blank, and the title in it."""
    generator = torch.Generator().manual_seed(seed)
    count = len(titles)
    noise = torch.randint(1, WORDS, (count, NOISE), generator=generator)
    prompts = torch.cat([titles.values[titles.offsets[:-1], None], noise], 1)
    rows = [torch.cat([prompts[row], titles.row(row)]) for row in range(count)]
    units = torch.ones(count, NOISE + 2, dtype=torch.int64)
    units[:, -1] = titles.lengths
    entity = torch.zeros_like(units, dtype=torch.bool)
    entity[:, -1] = True
    ends = (NOISE + 1 + titles.lengths)[:, None]
    documents = Documents(
        from_lengths(torch.cat(rows).int(), units.flatten()),
        torch.arange(count + 1) * (NOISE + 2), entity.flatten(),
        torch.zeros(entity.numel(), dtype=torch.bool), torch.full((entity.numel(),), -1),
    )  # fmt: skip
    spans = torch.cat([torch.full_like(ends, NOISE + 1), ends], 1)
    blanks = Blanks(
        from_lengths(spans, torch.ones(count, dtype=torch.int64)), torch.full((count,), ENTITY)
    )
    return build_examples(documents, blanks, backbone.special, PositionSettings(), automaton)


def make_backbone() -> DecoderBackbone:
    """A LLaMA of two layers, random."""
    from transformers import LlamaConfig, LlamaForCausalLM  # type: ignore[attr-defined]

    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=WORDS, hidden_size=128, intermediate_size=384, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256,
        tie_word_embeddings=True, attn_implementation="sdpa",
    )  # fmt: skip
    return DecoderBackbone(LlamaForCausalLM(shape))


def learn(backbone: DecoderBackbone, titles: Ragged, automaton: Automaton, steps: int) -> float:
    """Train on titles after their prompts; the last loss in nats a token."""
    generator, loss = torch.Generator().manual_seed(1), torch.zeros(())
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=3e-3)
    backbone.train()
    for step in range(steps):
        drawn = torch.randint(len(titles), (BATCH,), generator=generator)
        examples = make_examples(titles.select(drawn), backbone, automaton, seed=step)
        layout = lay_out(examples, pad=0)
        states = backbone.states(layout.inputs, layout.mask).flatten(0, 1)
        asked = examples.targets != IGNORE
        loss = token_losses(backbone, states[layout.slots[asked]], examples.targets[asked]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    backbone.eval()
    return float(loss.detach())


def measure(count: int, users: int, steps: int) -> Part:
    """The three ways over one catalogue."""
    titles, backbone = make_titles(count), make_backbone()
    trie = build_trie(titles)
    slot, automaton = Slot(trie, torch.arange(count)), Automaton(trie, PositionSettings())
    loss = learn(backbone, titles, automaton, steps)
    wanted = torch.randint(count, (users,), generator=torch.Generator().manual_seed(2))
    prompts = make_examples(titles.select(wanted), backbone, automaton, seed=-1).prompts()
    ranked: list[Ranked] = []
    exact: list[Found] = []
    whole: list[Tensor] = []
    read = read_prompts(backbone, prompts)

    def beams() -> None:
        ranked.append(rank_entities(backbone, read, slot, automaton, num_beams=BEAMS))

    def search() -> None:
        work = SearchWork(dive=BEAMS)
        exact.append(find_entities(backbone, read, slot, automaton, count=TOP, work=work))

    def enumerate_all() -> None:
        owners = torch.arange(users).repeat_interleave(count)
        every = titles.select(torch.arange(count).repeat(users))
        found = score_candidates(backbone, read, every, owners, automaton, max_tokens=256)
        whole.append(found.view(users, count))

    seconds = [*alternate(beams, search, ROUNDS), cpu_seconds(enumerate_all)]
    nodes = slot.nodes.long()  # (J,) titles that are the same end at the same node
    best = torch.full((users, trie.num_nodes), -torch.inf)
    best[:, nodes] = whole[0]
    top = best.topk(TOP, 1)
    found = exact[0]
    same = bool((found.nodes.sort(1).values == top.indices.sort(1).values).all())
    apart = float((found.scores - top.values).abs().max())
    hits = (ranked[0].nodes[:, :, None] == top.indices[:, None]).any(1).float().mean()
    ratio = seconds[0] / seconds[1]
    print(
        f"{count:,} titles ({trie.num_nodes:,} nodes), {users} users, {loss:.2f} nats a token "
        f"after {steps} steps: {BEAMS} beams {seconds[0]:.2f} s, exact {seconds[1]:.2f} s "
        f"({1 / ratio:.2f} times), enumeration {seconds[2]:.2f} s; "
        f"{found.read.double().mean():.0f} tokens read for a user; lists "
        f"{'equal' if same else 'DIFFER'}, scores differ by {apart:.1e}, "
        f"{(found.proven == TOP).double().mean():.0%} proven; beams find {hits:.0%} of "
        f"the top {TOP}",
        flush=True,
    )
    holds = same and apart <= 1e-3 and ratio >= GOAL
    return Part(seconds[1], seconds[0], ratio, holds)


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recsysllm_search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--titles", type=int, nargs="+", default=[148, 1_038, 12_101], help="of each catalogue")
    add("--users", type=int, default=4, help="prompts searched at once")
    add("--steps", type=int, default=1_000, help="of training before the search")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {str(n): measure(n, options.users, options.steps) for n in options.titles}
    finish_parts("recsysllm_search", found, dict.fromkeys(found, GOAL))


if __name__ == "__main__":
    main()

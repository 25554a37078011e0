"""RecSysLLM's scoring, search and training step, each against the straightforward way.

    python -m benchmarks.recsysllm [--quick] [--only candidates search exclusion pool train]
                                   [--data FOLDER]

  candidates  100 candidates of a prompt that lists them (P5's protocol): the prompt is read once
              and all candidates in one forward beside each other, against one forward a candidate
              (prompt, [START], its tokens; the head on its tokens alone). Scores are the same to
              5e-5 and four roundings (at -1,400, a title of 65 tokens under few layers, float32
              goes in steps of 1e-4); of the first candidates to 5e-5 without roundings, in
              float64. Goal: 10 times as fast. The same after prompts without the list is printed
              too: most tokens are then the candidates' own, which both sides read.
  search      The 20 likeliest of 12,101 titles: our beams against transformers' ``generate`` with
              ``prefix_allowed_tokens_fn`` over a tree of dictionaries. Both sum log-probabilities
              of the whole vocabulary and read prompts one way (``generate`` cannot do otherwise).
              ``generate`` gives up a title that ends outside the 20 best steps, ours does not: so
              with 20 beams ours must be at least as likely at every rank, titles that both found
              must score the same, and with as many beams as titles the rankings must be equal
              (over a part of the catalogue). Goal: 5 times as fast.
  exclusion   Titles that 16 users have had, closed by a walk up the tree from each, against asking
              every title for every user, over 10,000, 100,000 and 1,000,000 titles: seconds and
              what peak memory grows by. Both must bar the same titles. Goal: 50 times as fast at a
              million.
  pool        The names of 100,000 items and as many users as entities, every word tokenized once,
              against every name tokenized whole, without and with a blank before it. Tokens must
              be the same. Goal: 5 CPU seconds.
  train       A whole training step (drawing examples, packing, loss, clipping, AdamW) in tokens a
              second, against a bare forward and backward of the same language model with the same
              adapters over as many tokens in full rows, a plain head over as many targets, and no
              mask. In float32, and in bf16 where the CPU computes in it. Goal: 0.7 of its speed.

The full form takes SmolLM2-135M with its pretrained weights, cut to four layers, some ten minutes;
--quick a small random LLaMA, two minutes. Titles are synthetic, as long as those of Amazon Beauty;
--data takes those of real tables, split leave-last-out. The other side is written down in
``benchmarks/recsysllm_plain.py``. One thread, CPU seconds, the sides take turns and the fastest
turn of each counts. The last line is JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from benchmarks.evaluate import alternate
from benchmarks.recsysllm_data import FULL, NEGATIVES, QUICK, Setting
from benchmarks.recsysllm_exclusion import GOAL, exclusion_section
from benchmarks.recsysllm_plain import PlainScorer, PlainSearch, PrefixTree, Title, bare_step
from benchmarks.recsysllm_pool import GOAL as POOL_GOAL
from benchmarks.recsysllm_pool import pool_section
from benchmarks.report import Part, finish_parts
from legos.data.ragged import Ragged
from legos.errors import LegosError
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone
from legos.systems.recsysllm.beam_search import Ranked, rank_entities
from legos.systems.recsysllm.decoding import read_prompts, score_candidates
from legos.systems.recsysllm.positions import IGNORE, Examples
from legos.systems.recsysllm.recipe import InfillRecipe, TrainingStream
from legos.systems.trie import NOWHERE, Slot
from legos.training.trainer import take_step
from legos.workplace.device import make_accelerator

BEAMS, FEW_TITLES, FEW_CANDIDATES = 20, 60, 8
GOALS = {"candidates": 10.0, "search": 5.0, "exclusion": GOAL, "pool": POOL_GOAL, "train": 0.7}
SUM, STEPS = 5e-5, 5e-7  # by which float32 scores may differ: in all, and four steps of their size


def candidates_section(setting: Setting) -> Part:
    """Packed candidates against one forward each, with and without their list in the prompt."""
    backbone = setting.backbone("full")
    nn.init.normal_(backbone.intra.table.weight, std=0.02)  # as if it were trained
    plain = PlainScorer(backbone, PrefixTree(lists(setting.world.pool.sequences)))
    found = {
        name: score_prompts(setting, backbone, plain, listed=name == "listed")
        for name in ("listed", "unlisted")
    }
    exact = exact_difference(setting, backbone, plain.tree)
    print(f"candidates: the first {FEW_CANDIDATES} in float64 differ by {exact:.1e}", flush=True)
    same = exact <= SUM and max(each["of_allowed"] for each in found.values()) <= 1
    return Part(
        {name: each["ours"] for name, each in found.items()},
        {name: each["other"] for name, each in found.items()},
        {name: each["ratio"] for name, each in found.items()},
        same and found["listed"]["ratio"] >= GOALS["candidates"],
    )


def score_prompts(
    setting: Setting, backbone: DecoderBackbone, plain: PlainScorer, *, listed: bool
) -> dict[str, float]:
    """Both sides over the same prompts and candidates."""
    frozen, scale = setting.candidates(), setting.scale
    users = scale.listed_users if listed else scale.users
    prompts = setting.prompts(backbone, users, frozen if listed else None)
    keys = frozen.items[:users].flatten()
    candidates = setting.world.pool.surfaces("item", keys, space=True)
    owners = torch.arange(users).repeat_interleave(1 + NEGATIVES)
    titles, given = lists(candidates), prompt_rows(prompts)
    results: list[Tensor] = [torch.empty(0), torch.empty(0)]

    def ours() -> None:
        results[0] = score_candidates(
            backbone, read_prompts(backbone, prompts), candidates, owners, setting.world.automaton
        )

    def theirs() -> None:
        scores = []
        for owner, title in zip(owners.tolist(), titles, strict=True):
            tokens, intra = given[owner]
            scores.append(plain.score(tokens, intra, title))
        results[1] = torch.tensor(scores)

    packed, single = alternate(ours, theirs, 1 if listed else scale.rounds)
    difference = float((results[0] - results[1]).abs().max())
    print(
        f"candidates, {'listed' if listed else 'not listed'}: prompts of "
        f"{prompts.lengths.tolist()} tokens, {1 + NEGATIVES} titles each: packed {packed:.2f} s, "
        f"one by one {single:.2f} s: {single / packed:.1f} times; scores from "
        f"{float(results[1].min()):.0f} to {float(results[1].max()):.0f} differ by "
        f"{difference:.1e}",
        flush=True,
    )
    share = ((results[0] - results[1]).abs() / (SUM + STEPS * results[1].abs())).max()
    return {
        "ours": packed, "other": single, "ratio": single / packed, "of_allowed": float(share),
    }  # fmt: skip


def exact_difference(setting: Setting, backbone: DecoderBackbone, tree: PrefixTree) -> float:
    """By how much both sides differ in float64; the backbone is left in it."""
    backbone.double()
    plain = PlainScorer(backbone, tree)
    prompts = setting.prompts(backbone, 1, None)
    keys = setting.candidates().items[0, :FEW_CANDIDATES]
    titles = setting.world.pool.surfaces("item", keys, space=True)
    owners = torch.zeros(len(titles), dtype=torch.int64)
    packed = score_candidates(
        backbone, read_prompts(backbone, prompts), titles, owners, setting.world.automaton
    )
    (tokens, intra), *_ = prompt_rows(prompts)
    single = [plain.score(tokens, intra, title) for title in lists(titles)]
    return float((packed - torch.tensor(single, dtype=torch.float64)).abs().max())


def search_section(setting: Setting) -> Part:
    """Our beams against ``generate``."""
    backbone, pool = setting.backbone("full"), setting.world.pool
    prompts = setting.prompts(backbone, setting.scale.users, None)
    given = [tokens for tokens, _ in prompt_rows(prompts)]
    few_keys = torch.arange(FEW_TITLES)

    def sides(slot: Slot, beams: int, rounds: int) -> tuple[tuple[float, float], dict[str, float]]:
        surfaces = lists(pool.surfaces("item", slot.keys, space=True))
        plain = PlainSearch(backbone, surfaces)
        results: list[list[list[Title]]] = [[], []]

        def ours() -> None:
            read = read_prompts(backbone, prompts, bidirectional=False)
            ranked = rank_entities(backbone, read, slot, setting.world.automaton, num_beams=beams)
            results[0] = written(ranked, slot, surfaces)

        def theirs() -> None:
            results[1] = plain.search(given, beams)

        seconds = alternate(ours, theirs, rounds)
        return seconds, compare(*results)

    exact = sides(pool.slot("item", space=True, keys=few_keys), FEW_TITLES, 1)[1]
    (ours, other), found = sides(pool.slot("item", space=True), BEAMS, setting.scale.rounds)
    print(
        f"search: prompts of {prompts.lengths.tolist()} tokens, {BEAMS} beams over "
        f"{len(setting.world.families.catalogue.items):,} titles: ours {ours:.2f} s, generate "
        f"{other:.2f} s: {other / ours:.1f} times; {found['both']:.0%} of ours found by both, "
        f"their scores differ by {found['difference']:.1e}; generate is more likely at no rank by "
        f"more than {found['worse']:.1e}; {FEW_TITLES} titles with as many beams: the same title "
        f"at {exact['same_rank']:.0%} of the ranks",
        flush=True,
    )
    same = max(found["of_allowed"], exact["of_allowed"]) <= 1
    holds = same and exact["same_rank"] == 1 and found["both"] > 0
    return Part(ours, other, other / ours, holds and other / ours >= GOALS["search"])


def written(ranked: Ranked, slot: Slot, surfaces: Sequence[list[int]]) -> list[list[Title]]:
    """Tokens and scores of what our search found, the best first."""
    rows = {int(key): row for row, key in enumerate(slot.keys)}
    found = []
    for nodes, scores in zip(ranked.nodes, ranked.scores, strict=True):
        there = nodes != NOWHERE
        first = slot.entities(nodes[there])
        keys = first.values[first.offsets[:-1]].tolist()
        pairs = zip(keys, scores[there].tolist(), strict=True)
        found.append([Title(tuple(surfaces[rows[key]]), score) for key, score in pairs])
    return found


def compare(ours: Sequence[Sequence[Title]], other: Sequence[Sequence[Title]]) -> dict[str, float]:
    """How two rankings of every prompt differ.

    Returns:
        ``same_rank``: share of ranks with the same title; ``both``: share of our titles that the
        other has; ``difference``: largest of scores of the same title; ``worse``: the most by which
        the other's score at a rank is above ours; ``of_allowed``: the largest of both as a share of
        what rounding may do.
    """
    ranks = same = both = 0
    apart: list[tuple[float, float]] = [(0.0, 0.0)]  # differences of a title's scores, and shares
    worse: list[tuple[float, float]] = [(0.0, 0.0)]
    for own, others in zip(ours, other, strict=True):
        known = {title.tokens: title.score for title in others}
        ranks += len(own)
        for title in own:
            if title.tokens in known:
                both += 1
                apart.append(measured(abs(title.score - known[title.tokens]), title.score))
        for title, at_rank in zip(own, others, strict=False):
            same += title.tokens == at_rank.tokens
            worse.append(measured(at_rank.score - title.score, title.score))
    return {
        "same_rank": same / ranks, "both": both / ranks, "difference": max(apart)[0],
        "worse": max(worse)[0], "of_allowed": max(share for _, share in apart + worse),
    }  # fmt: skip


def measured(difference: float, score: float) -> tuple[float, float]:
    """A difference, and as a share of what rounding may do to a score of that size."""
    return difference, difference / (SUM + STEPS * abs(score))


def train_section(setting: Setting) -> Part:
    """Training steps against forward and backward alone, in every precision of this CPU."""
    precisions = ["fp32"]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        precisions.append("bf16")
    else:
        print("train: this CPU does not compute in bf16", flush=True)
    found = {name: train_in(setting, name) for name in precisions}
    return Part(
        {name: each["ours"] for name, each in found.items()},
        {name: each["other"] for name, each in found.items()},
        {name: each["ratio"] for name, each in found.items()},
        min(each["ratio"] for each in found.values()) >= GOALS["train"],
    )


def train_in(setting: Setting, name: str) -> dict[str, float]:
    """Both sides in one precision; ours draws the same examples in every turn."""
    backbone, train, steps = setting.backbone("paper"), setting.train, setting.scale.steps
    stream = TrainingStream(setting.world, backbone.special, train)
    AcceleratorState._reset_state()  # a process has one precision otherwise
    accelerator = make_accelerator(device="cpu", precision=name, deterministic=False)
    recipe = InfillRecipe(accelerator, backbone, stream, setting.settings, train)
    drawn = [stream.examples(step) for step in range(steps)]
    read = [0]

    def ours() -> None:
        recipe.progress.step = 0
        backbone.train()
        for _ in range(steps):
            take_step(recipe)

    def bare() -> None:
        read[0] = 0
        backbone.train()
        for examples in drawn:
            with accelerator.autocast():
                read[0] += bare_step(
                    backbone, examples.tokens, examples.targets != IGNORE,
                    usual_length(examples), train.batch_tokens,
                )  # fmt: skip
            recipe.replicas.optimizers[""].zero_grad()

    seconds = alternate(ours, bare, setting.scale.rounds)
    tokens = sum(examples.tokens.numel() for examples in drawn)
    targets = sum(int((examples.targets != IGNORE).sum()) for examples in drawn)
    rates = tokens / seconds[0], read[0] / seconds[1]
    print(
        f"train, {name}: {steps} steps of {train.batch_size} examples, {tokens:,} "
        f"tokens, {targets:,} of them predicted: ours {rates[0]:,.0f} tokens/s, bare "
        f"{rates[1]:,.0f} tokens/s: {rates[0] / rates[1]:.2f} of it",
        flush=True,
    )
    return {"ours": rates[0], "other": rates[1], "ratio": rates[0] / rates[1]}


def usual_length(examples: Examples) -> int:
    """Of the example in which the average token stands: rows as wide cost the same attention."""
    return int(examples.lengths.square().sum()) // int(examples.lengths.sum())


def lists(rows: Ragged) -> list[list[int]]:
    """Packed rows as lists."""
    return [part.tolist() for part in rows.values.split(rows.lengths.tolist())]


def prompt_rows(prompts: Examples) -> list[tuple[Tensor, Tensor]]:
    """Tokens and intra-positions of each prompt."""
    lengths = prompts.lengths.tolist()
    return list(zip(prompts.tokens.split(lengths), prompts.intra.split(lengths), strict=True))


SECTIONS: Mapping[str, Callable[[Setting], Part]] = {
    "candidates": candidates_section,
    "search": search_section,
    "exclusion": exclusion_section,
    "pool": pool_section,
    "train": train_section,
}


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recsysllm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a small random language model; ratios are rougher")
    add(
        "--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections; default: all"
    )
    add("--data", type=Path, metavar="FOLDER", help="tables (default: synthetic titles and users)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        setting = Setting(QUICK if options.quick else FULL, options.data)
    except LegosError as error:
        parser.error(str(error))
    print(setting.says, flush=True)
    found = {name: SECTIONS[name](setting) for name in dict.fromkeys(options.only)}
    finish_parts("recsysllm", found, GOALS)


if __name__ == "__main__":
    main()

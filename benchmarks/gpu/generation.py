"""Part ``generate``: what RecSysLLM writes and scores, beside the CPU and transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.gpu.outcome import Row, Tell, trying
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.systems import Prompts
from benchmarks.recsysllm import compare, lists, prompt_rows, written
from benchmarks.recsysllm_plain import PlainScorer, PlainSearch, PrefixTree, Title
from legos.systems.recsysllm.automaton import Automaton
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone
from legos.systems.recsysllm.beam_search import Ranked, rank_entities
from legos.systems.recsysllm.decoding import fill_blanks, read_prompts, score_candidates
from legos.systems.recsysllm.positions import Examples
from legos.systems.trie import Slot

BEAMS, CANDIDATES, NEW = 20, 100, 64  # the tokens of a text
SAME = 0.95  # of the ranks have the CPU's title; two scores may be the same but for rounding
SCORES = {"fp32": 1e-3, "bf16": 0.5, "fp16": 0.1}
"""By how much the log-probability of a title may differ from the CPU's in fp32."""
GOALS = {"beams": 5.0, "candidates": 5.0}
_PROMPT = "sequential-2"  # lists no candidates


class World(NamedTuple):
    """A backbone and prompts on one device.

    Attributes:
        backbone: in evaluation mode.
        prompts: of some users, one blank each.
        slot: every title.
        automaton: of all entities.
    """

    backbone: DecoderBackbone
    prompts: Examples
    slot: Slot
    automaton: Automaton

    def to(self, device: torch.device | str) -> World:
        """The same on another device; the backbone is moved."""
        return World(
            self.backbone.to(device), self.prompts.to(device), self.slot.to(device),
            self.automaton.to(device),
        )  # fmt: skip


def open_world(setting: Setting) -> tuple[Prompts, World]:
    """Titles, users and a random language model, on the CPU in fp32."""
    sizes = setting.sizes
    prompts = Prompts(
        setting.language(sizes.soft), items=sizes.titles, users=4 * sizes.users, batch_size=1
    )
    backbone, world = prompts.backbone("full"), prompts.world
    task = world.families.users["sequential"]
    instances = task.evaluate(torch.arange(sizes.users), _PROMPT, "test", None)
    given = world.examples(instances, backbone.special).prompts()
    return prompts, World(backbone.eval(), given, world.pool.slot("item", space=True),
                          world.automaton)  # fmt: skip


def generation_part(setting: Setting, tell: Tell) -> None:
    """Beams over all titles, candidates side by side, free texts."""
    prompts, here = open_world(setting)
    surfaces = lists(prompts.world.pool.surfaces("item", here.slot.keys, space=True))

    expected = titles_of(ranked(here, setting.accelerator("fp32", "cpu")), here.slot, surfaces)
    there = here.to(setting.device)
    for precision in ("fp32", *setting.precisions):
        if precision == "fp32" and setting.device.type == "cpu":
            continue  # it would be compared with itself
        with trying(tell, f"beams, {precision}", setting.device):
            found = ranked(there, setting.accelerator(precision))
            tell(_beside_cpu(precision, titles_of(found, here.slot, surfaces), expected))
    with trying(tell, "beams beside generate", setting.device):
        _beams(setting, tell, there, here.slot, surfaces)
    with trying(tell, "candidates", setting.device):
        _candidates(setting, tell, prompts, there)
    for precision in ("fp32", "bf16"):
        with trying(tell, f"free texts, {precision}", setting.device):
            _texts(setting, tell, there, precision)


def ranked(world: World, accelerator: Accelerator, *, both_ways: bool = True) -> Ranked:
    """The best titles of every prompt; ``both_ways``: the prompt sees all of itself."""
    with torch.no_grad(), accelerator.autocast():
        read = read_prompts(world.backbone, world.prompts, bidirectional=both_ways)
        return rank_entities(world.backbone, read, world.slot, world.automaton, num_beams=BEAMS)


def titles_of(found: Ranked, slot: Slot, surfaces: list[list[int]]) -> list[list[Title]]:
    """Tokens and scores of what was ranked; ``slot``: on the CPU."""
    return written(Ranked(found.nodes.cpu(), found.scores.cpu()), slot, surfaces)


def _beside_cpu(precision: str, found: list[list[Title]], expected: list[list[Title]]) -> Row:
    apart = compare(found, expected)
    allowed, exact = SCORES[precision], precision == "fp32"
    holds = apart["difference"] <= allowed and (not exact or apart["same_rank"] >= SAME)
    target = f"at most {allowed:g}" + (f", {SAME:.0%} of the ranks the same" * exact)
    return Row(
        f"beams, {precision}", apart["difference"],
        against="fp32 on the CPU: log-probabilities apart by", target=target, holds=holds,
        note=f"same title at {apart['same_rank']:.0%} of the ranks, {apart['both']:.0%} on both",
    )  # fmt: skip


def _beams(
    setting: Setting,
    tell: Tell,
    world: World,
    slot: Slot,
    surfaces: list[list[int]],
) -> None:
    plain, given = PlainSearch(world.backbone, surfaces), [t for t, _ in prompt_rows(world.prompts)]
    accelerator = setting.accelerator("fp32")
    results: dict[str, Any] = {}

    def ours() -> None:
        results["ours"] = ranked(world, accelerator, both_ways=False)

    def theirs() -> None:
        results["theirs"] = plain.search(given, BEAMS)

    seconds = setting.in_turns({"ours": ours, "theirs": theirs})
    ratio = seconds["theirs"] / seconds["ours"]
    apart = compare(titles_of(results["ours"], slot, surfaces), results["theirs"])
    same = apart["difference"] <= SCORES["fp32"] and apart["worse"] <= SCORES["fp32"]
    tell(
        Row(f"{BEAMS} beams over {len(surfaces):,} titles, {len(given)} users", seconds["ours"],
            "s", "transformers' generate", seconds["theirs"], ratio,
            f"at least {GOALS['beams']:g} times as fast, at no rank less likely",
            setting.judged(ratio >= GOALS["beams"]) if same else False,
            f"{apart['both']:.0%} of the titles found by both")
    )  # fmt: skip


def _candidates(setting: Setting, tell: Tell, prompts: Prompts, world: World) -> None:
    pool, users = prompts.world.pool, len(world.prompts)
    generator = torch.Generator().manual_seed(0)
    keys = torch.randint(setting.sizes.titles, (users * CANDIDATES,), generator=generator)
    titles = pool.surfaces("item", keys, space=True)
    given, owners = titles.to(setting.device), torch.arange(users).repeat_interleave(CANDIDATES)
    owners = owners.to(setting.device)
    plain = PlainScorer(world.backbone, PrefixTree(lists(pool.sequences)))
    rows, texts = prompt_rows(world.prompts), lists(titles)
    results: dict[str, Tensor] = {}

    def ours() -> None:
        read = read_prompts(world.backbone, world.prompts)
        results["ours"] = score_candidates(
            world.backbone, read, given, owners, world.automaton
        ).cpu()

    def theirs() -> None:  # of the first user alone
        scores = [plain.score(*rows[0], text) for text in texts[:CANDIDATES]]
        results["theirs"] = torch.tensor(scores)

    seconds = setting.in_turns({"ours": ours, "theirs": theirs})
    ratio = users * seconds["theirs"] / seconds["ours"]
    apart = float((results["ours"][:CANDIDATES] - results["theirs"]).abs().max())
    tell(
        Row(f"{CANDIDATES} candidates of {users} users", seconds["ours"], "s",
            "one forward each (one user's, times users)", users * seconds["theirs"], ratio,
            f"at least {GOALS['candidates']:g} times as fast, same scores to {SCORES['fp32']:g}",
            setting.judged(ratio >= GOALS["candidates"]) if apart <= SCORES["fp32"] else False,
            f"scores differ by {apart:.1e}")
    )  # fmt: skip


def _texts(setting: Setting, tell: Tell, world: World, precision: str) -> None:
    """Tokens a second of texts of one length, beside a loop over the bare model."""
    accelerator, end = setting.accelerator(precision), world.backbone.special.end
    count: list[int] = []

    def without_end(scores: Tensor) -> Tensor:
        scores[:, end] = -torch.inf  # so that both sides write equally many
        return scores.argmax(-1)

    def ours() -> None:
        with torch.no_grad(), accelerator.autocast():
            read = read_prompts(world.backbone, world.prompts)
            filled = fill_blanks(
                world.backbone, read, world.automaton, max_new=NEW, choose=without_end
            )
        count.append(filled.tokens.values.numel())

    seconds = setting.in_turns({"ours": ours, "bare": bare_writer(world, accelerator)})
    rates = {name: count[-1] / each for name, each in seconds.items()}
    tell(
        Row(f"free texts of {len(world.prompts)} users, {precision}", rates["ours"], "tokens/s",
            "bare greedy loop with a cache", rates["bare"], rates["ours"] / rates["bare"])
    )  # fmt: skip


def bare_writer(world: World, accelerator: Accelerator) -> Callable[[], None]:
    """As many tokens by the bare model: a cache, argmax, no positions of entities, no masks."""
    from transformers import DynamicCache

    backbone: Any = world.backbone
    width = int(world.prompts.prompt_lengths.max())
    ids = torch.zeros_like(world.prompts.prompt_lengths)[:, None].repeat(1, width)

    def run() -> None:
        with torch.no_grad(), accelerator.autocast():
            cache, tokens = DynamicCache(), ids
            for _ in range(NEW):
                out = backbone.model(input_ids=tokens, past_key_values=cache, use_cache=True)
                scores = out.last_hidden_state[:, -1] @ backbone.token_table.T
                tokens = scores.argmax(-1)[:, None]

    return run

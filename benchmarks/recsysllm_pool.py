"""Section ``pool``: the names of a large catalogue and of its users as entities.

The other side tokenizes every name twice as it is written, without and with a blank before it, in
one call of the same tokenizer.
"""

from __future__ import annotations

from time import perf_counter

import torch

from benchmarks.clock import cpu_seconds
from benchmarks.recsysllm_data import SEED, Setting, make_titles
from benchmarks.report import Part
from legos.data.ragged import Ragged, from_rows
from legos.lm.tokenizer import token_ids
from legos.systems.recsysllm.automaton import EntityPool
from legos.systems.recsysllm.catalogue import item_names
from legos.systems.recsysllm.units import UnitTokenizer

NAMES, GOAL = 100_000, 5.0  # items, and as many users; seconds


def whole_names(tokenizer: UnitTokenizer, names: list[str]) -> Ragged:
    """Token ids of every surface, tokenized whole."""
    surfaces = [surface for name in names for surface in (name, f" {name}")]
    return from_rows(token_ids(tokenizer.fast, surfaces), "int32").tensors()


def pool_section(setting: Setting) -> Part:
    """Both sides over the same names; tokens must be the same, and ours take at most the goal."""
    titles = make_titles(setting.language.tokenizer, NAMES, seed=SEED)
    items, _ = item_names(titles, [""] * NAMES, max_words=30)
    texts = {"item": items, "user": [f"user_{number}" for number in range(NAMES)]}
    tokenizer, found = UnitTokenizer(setting.language.tokenizer), []
    begin = perf_counter()
    ours = cpu_seconds(lambda: found.append(EntityPool(tokenizer, texts).sequences))
    wall = perf_counter() - begin
    names = [*texts["item"], *texts["user"]]
    other = cpu_seconds(lambda: found.append(whole_names(tokenizer, names)))
    same = all(
        torch.equal(getattr(found[0], part), getattr(found[1], part))
        for part in ("values", "offsets")
    )
    print(
        f"pool: {NAMES:,} titles and as many users, {len(found[0].values):,} tokens: by words "
        f"{ours:.1f} CPU s ({wall:.1f} s by the clock), whole names {other:.1f} CPU s: "
        f"{other / ours:.1f} times; same tokens: {same}",
        flush=True,
    )
    return Part(ours, other, other / ours, same and ours <= GOAL)

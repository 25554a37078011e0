"""Section ``exclusion``: what users have had, closed in the tree of titles, at growing catalogues.

Each side has a process of its own, which makes the tree and then excludes the histories of 16
users. The other side filters the full enumeration: every title for every user.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.alone import alone
from benchmarks.clock import cpu_seconds
from benchmarks.recsysllm_data import Setting
from benchmarks.report import Part
from legos.data.ragged import Ragged, from_lengths
from legos.systems.exclusion import Exclusion
from legos.systems.trie import Slot, build_trie
from legos.workplace.device import peak_memory_mb, reset_peak_memory

CATALOGUES, USERS, HISTORY, GOAL = (10_000, 100_000, 1_000_000), 16, 20, 50.0
_WORDS = 30_000


def make_slot(items: int) -> Slot:
    """Titles of 3 to 16 tokens drawn by Zipf's law, as those of a catalogue share beginnings."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 17, (items,), generator=generator)
    draw = torch.rand(int(lengths.sum()), generator=generator)
    return Slot(build_trie(from_lengths((_WORDS**draw).long(), lengths)), torch.arange(items))


def histories(items: int) -> Ragged:
    """Items of each user."""
    drawn = torch.randint(items, (USERS * HISTORY,), generator=torch.Generator().manual_seed(1))
    return from_lengths(drawn, torch.full((USERS,), HISTORY))


def filtered(slot: Slot, excluded: Ragged) -> Tensor:
    """``user * nodes + node`` of what is no answer, by asking each title for each user."""
    ends, num_nodes = slot.trie.ends, slot.trie.num_nodes
    keys, nodes = slot.keys[ends.values], ends.rows  # (n,) of each title
    stride = int(torch.cat([slot.keys, excluded.values]).max()) + 1
    users = torch.arange(len(excluded))[:, None]
    banned = torch.isin(users * stride + keys, excluded.rows * stride + excluded.values)  # (B, n)
    at, hits = (users * num_nodes + nodes)[banned].unique(return_counts=True)
    barred: Tensor = at[hits == ends.lengths[at % num_nodes]]
    return barred


def exclude(side: str, items: int) -> tuple[float, float, Tensor]:
    """CPU seconds, MiB that the peak grows by, and the ends that are no answers."""
    slot, had, cpu = make_slot(items), histories(items), torch.device("cpu")
    walk = side == "walk"
    if walk:
        _ = slot.nodes  # made once a catalogue, not for each page of users
    found = []
    reset_peak_memory(cpu)
    before = peak_memory_mb(cpu)["process"]
    seconds = cpu_seconds(
        lambda: found.append(Exclusion.of(slot, had).ends if walk else filtered(slot, had))
    )
    return seconds, peak_memory_mb(cpu)["process"] - before, found[0]


def exclusion_section(setting: Setting) -> Part:
    """Both sides at three sizes; the goal is the ratio at the largest."""
    rows, same = {}, True
    for items in CATALOGUES:
        walk, plain = (alone(exclude, side, items).result for side in ("walk", "filter"))
        rows[items] = walk[:2], plain[:2]
        same &= torch.equal(walk[2], plain[2])
        print(
            f"exclusion, {USERS} users with {HISTORY} of {items:>9,} titles: walk "
            f"{walk[0] * 1e3:8.2f} ms and {walk[1]:6.1f} MiB, filter {plain[0] * 1e3:8.2f} ms and "
            f"{plain[1]:6.1f} MiB: {plain[0] / walk[0]:.0f} times",
            flush=True,
        )
    ours, other = rows[CATALOGUES[-1]]
    ratio = other[0] / ours[0]
    return Part(
        {"seconds": ours[0], "mib": ours[1]}, {"seconds": other[0], "mib": other[1]}, ratio,
        same and ratio >= GOAL,
    )  # fmt: skip

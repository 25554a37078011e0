"""What users may not be given, as nodes of the tree, against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.systems.exclusion import Exclusion
from legos.systems.trie import Slot, build_trie
from tests.systems.recsysllm.small import ragged

pools = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=12)
histories = st.lists(st.lists(st.integers(90, 120), max_size=14), min_size=1, max_size=3)


@pytest.mark.slow
@settings(deadline=None, max_examples=80)
@given(pools, histories)
def test_nodes_with_nothing_but_excluded_entities_are_closed(
    pool: list[list[int]], excluded: list[list[int]]
) -> None:
    """Some entities share a name, some excluded numbers are none's, some come twice."""
    trie = build_trie(ragged(pool))
    keys = torch.arange(len(pool)) * 2 + 95
    exclusion = Exclusion.of(Slot(trie, keys), ragged(excluded))
    prefixes = sorted({tuple(row[:n]) for row in pool for n in range(len(row) + 1)}, key=len)
    node_of = {
        prefix: int(trie.find(ragged([list(prefix)]))[0]) if prefix else 0 for prefix in prefixes
    }
    users = torch.arange(len(excluded)).repeat_interleave(len(prefixes))
    nodes = torch.tensor([node_of[prefix] for prefix in prefixes] * len(excluded))
    edges, allowed = trie.allowed(nodes)
    exclusion.close(users, nodes, allowed)
    barred = exclusion.bars(users, nodes).view(len(excluded), -1)
    for user, own in enumerate(excluded):
        left = [tuple(row) for row, key in zip(pool, keys.tolist(), strict=True) if key not in own]
        for at, prefix in enumerate(prefixes):
            here = user * len(prefixes) + at
            ending = prefix in map(tuple, pool)
            assert bool(barred[user, at]) == (ending and prefix not in left)
            open_nodes = set((edges[here] + 1)[allowed[here]].tolist())
            depth = len(prefix) + 1
            assert open_nodes == {node_of[r[:depth]] for r in left if r[: depth - 1] == prefix
                                  and len(r) >= depth}  # fmt: skip


def test_keys_of_a_slot_ascend() -> None:
    with pytest.raises(ValueError, match="ascending"):
        Slot(build_trie(ragged([[1], [2]])), torch.tensor([5, 4]))

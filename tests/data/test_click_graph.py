"""The graph of what is read after what: by hand, of the training split alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from legos.data.click_graph import click_graph
from legos.data.interactions import Interactions
from legos.data.tables import Tables
from tests.bricks import interactions, lists, quick
from tests.tiny import tiny_tables

SHOWN = ([9, 8], [1, 0])


def split(histories: list[list[int]], owners: list[int], rows: list[int]) -> Interactions:
    """An impression a named history, of its owner."""
    made = interactions(histories, [(owners[row], row, *SHOWN) for row in rows])
    return replace(made, history_users=torch.tensor(owners))


def test_the_graph_by_hand() -> None:
    histories = [[1, 2, 3], [1, 2], [4, 2, 3, 3, 2], [0]]
    graph = click_graph(split(histories, [0, 1, 2, 3], [0, 1, 2, 3]), 10)
    # before 2: item 1 twice, items 3 and 4 once; before 3: item 2 twice; 3 after 3 is no edge
    assert lists(graph) == [[], [], [1, 3, 4], [2], [], [], [], [], [], []]


def test_a_reader_counts_once_with_the_longest_history_that_training_reads() -> None:
    histories = [[1, 2], [1, 2, 3], [1, 2, 3, 4], [3, 2]]
    graph = click_graph(split(histories, [0, 0, 0, 1], [1, 0, 1, 3]), 6)
    # of reader 0 the second history, once; the third is of another split
    assert lists(graph) == [[], [], [1, 3], [2], [], []]


def test_nothing_read_gives_no_edges() -> None:
    assert lists(click_graph(split([[], [5]], [0, 1], [0, 1]), 6)) == [[]] * 6


@quick
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_the_graph_counts_pairs_as_a_loop_does(seed: int, readers: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 9, (readers,), generator=generator).tolist()
    histories = [torch.randint(5, (n,), generator=generator).tolist() for n in lengths]
    numbers = list(range(readers))
    found = lists(click_graph(split(histories, numbers, numbers), 5))
    counts = [dict.fromkeys(range(5), 0) for _ in range(5)]
    for history in histories:
        for before, after in pairwise(history):
            counts[after][before] += before != after
    for after, row in enumerate(counts):
        expected = sorted((b for b in row if row[b]), key=lambda before: (-row[before], before))
        assert found[after] == expected


def test_the_graph_of_tables_ignores_what_valid_and_test_read(tmp_path: Path) -> None:
    tables = Tables.load(tiny_tables(tmp_path / "tables"))
    train = Interactions.from_tables(tables, "train", history_length=6)
    graph = click_graph(train, tables.num_items)
    assert len(graph.values)
    read = torch.zeros(len(train.histories), dtype=torch.bool)
    read[train.history_rows] = True
    others = (~read)[train.histories.rows]  # histories of valid and test alone
    assert others.any()
    changed = replace(
        train,
        histories=replace(train.histories, values=train.histories.values.where(~others, 0)),
    )
    assert lists(click_graph(changed, tables.num_items)) == lists(graph)

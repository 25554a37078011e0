"""Lists are those of a full enumeration of all items, whatever the shape of the tree."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.evaluation.rank import NO_ITEM
from legos.systems.tiger.writer import Writer, user_tokens
from tests.systems.tiger.tigers import all_scores, histories, ragged, reading, small_tiger

rows_of_items = st.lists(st.lists(st.integers(0, 29), max_size=6), min_size=1, max_size=5)


@pytest.mark.slow
@pytest.mark.parametrize("softmax", ["tree", "level"])
@settings(deadline=None, max_examples=15)
@given(rows=rows_of_items, seed=st.integers(0, 9), count=st.integers(1, 12), data=st.data())
def test_lists_are_those_of_all_items(
    softmax: str, rows: list[list[int]], seed: int, count: int, data: st.DataObject
) -> None:
    model = small_tiger(seed=seed, softmax=softmax)
    offered = data.draw(st.lists(st.integers(0, 29), min_size=1, max_size=30, unique=True))
    barred = data.draw(
        st.lists(st.lists(st.integers(0, 29), max_size=25), min_size=len(rows), max_size=len(rows))
    )
    writer = Writer(model, torch.tensor(sorted(offered)))
    best = writer.lists(histories(rows), ragged(barred), count)
    scores = all_scores(model, reading(rows))
    for row, own in enumerate(barred):
        left = [item for item in sorted(offered) if item not in own]
        left.sort(key=lambda item: -float(scores[row, item]))
        expected = [*left[:count], *[NO_ITEM] * (count - len(left[:count]))]
        assert best.items[row].tolist() == expected
        found = best.scores[row, : len(left[:count])].double()
        torch.testing.assert_close(found, scores[row, left[:count]], rtol=1e-5, atol=1e-5)
    assert best.proven is not None
    assert best.proven.tolist() == [count] * len(rows)


@pytest.mark.parametrize("pages", [(1, 1), (2, 5), (128, 10_000)])
def test_scores_of_given_items_do_not_depend_on_pages(
    monkeypatch: pytest.MonkeyPatch, pages: tuple[int, int]
) -> None:
    monkeypatch.setattr("legos.systems.tiger.writer._READERS", pages[0])
    monkeypatch.setattr("legos.systems.tiger.writer._TUPLES", pages[1])
    rows, model = [[1, 2], [], [5], [9, 9, 9, 3]], small_tiger()
    writer = Writer(model, torch.arange(30))
    items = torch.tensor([[3, 1, 29], [4, 4, 0], [28, 1, 2], [3, 9, 5]])
    expected = all_scores(model, reading(rows)).gather(1, items)
    torch.testing.assert_close(writer.scores(histories(rows), items), expected.float())
    best = writer.lists(histories(rows), ragged([[]] * 4), 5)
    assert best.items.tolist() == all_scores(model, reading(rows)).topk(5).indices.tolist()


def test_user_tokens_follow_the_ids_and_not_their_order() -> None:
    names = ["A1", "B7", "C3", "U-9"]
    tokens = user_tokens(names, 2000)
    assert tokens[-1] == 2000
    assert user_tokens(names[::-1], 2000)[:-1].tolist() == tokens[:-1].flip(0).tolist()
    assert set(user_tokens(names, 1)[:-1].tolist()) == {0}

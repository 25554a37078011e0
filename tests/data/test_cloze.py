"""Blanks in users' sequences: which clicks are hidden, what a row sees, what it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from legos.data.batch import SingleRows, TrainingRows
from legos.data.catalogue_rows import CatalogueRows
from legos.data.cloze import ClozeRows
from legos.data.interactions import Interactions
from legos.item.id import IDConfig
from legos.registry import Cloze
from legos.systems.bricks.losses import batch_loss
from legos.user.bert4rec import BERT4RecConfig
from tests.bricks import interactions, quick, random_recommender, random_store
from tests.data.test_windows import ITEMS, growing, rows_of

HALF = Cloze(0.5, 0.2)


def clicks_of(data: Interactions) -> Tensor:
    return data.candidates.values[data.labels == 1]


def cloze_rows(
    data: Interactions, cloze: Cloze = HALF, *, loss: str = "full_softmax", seed: int = 3
) -> ClozeRows:
    return ClozeRows(rows_of(data, loss), data, cloze, seed=seed)


def everything(rows: ClozeRows) -> Tensor:
    return torch.arange(rows.units)


@pytest.mark.slow
@quick
@given(
    st.lists(st.integers(0, 23), min_size=1, max_size=6),
    st.integers(1, 8),
    st.integers(0, 9),
    st.sampled_from([Cloze(0.01, 0.0), HALF, Cloze(0.99, 0.0), Cloze(0.5, 1.0)]),
)
def test_a_blank_hides_the_click_of_its_row_alone(
    lengths: list[int], most: int, seed: int, cloze: Cloze
) -> None:
    data = growing([*lengths, 1], most, seed)
    rows, clicks = cloze_rows(data, cloze, loss="softmax"), clicks_of(data)
    sequences = rows.batch(everything(rows), pass_number=seed)
    blanks = sequences.blanks
    assert blanks is not None
    assert len(sequences) == int(blanks.sum()) == rows.count(everything(rows), pass_number=seed)
    assert sequences.history.shape[1] <= most + 1
    owners = blanks.nonzero()[:, 0]
    assert bool(blanks.any(1).all())
    if cloze.last_share == 1.0:
        assert torch.equal(blanks.nonzero()[:, 1], sequences.history_mask.sum(1) - 1)
    shown = sequences.items[sequences.history].where(sequences.history_mask & ~blanks, -1)
    for row, owner, place in zip(sequences.rows, owners, blanks.nonzero()[:, 1], strict=True):
        click = sequences.candidates[list(sequences.rows).index(row), 0]
        assert sequences.items[click] == clicks[row]
        before = data.histories.row(int(data.history_rows[row])).tolist()
        seen = [item for item in shown[owner, :place].tolist() if item >= 0]
        assert len(seen) <= len(before)
        assert is_part(seen, before)


def is_part(some: list[int], of: list[int]) -> bool:
    """Whether some items are among others in this order."""
    left = iter(of)
    return all(item in left for item in some)


def test_every_click_is_a_row_of_one_sequence() -> None:
    data = growing([7, 1, 4, 9, 0, 2], most=5)
    rows = cloze_rows(data, Cloze(1 - 1e-9, 0.0))
    batch = rows.batch(everything(rows), pass_number=0)
    assert sorted(batch.rows.tolist()) == list(range(23))
    assert len(rows) == 23


def test_what_is_hidden_follows_from_seed_pass_and_row_alone() -> None:
    data = growing([7, 1, 4, 9, 12, 2], most=20)
    rows, units = cloze_rows(data), torch.tensor([4, 0, 2])
    together = rows.batch(units, pass_number=2).rows.tolist()
    alone = [rows.batch(units[[at]], pass_number=2).rows.tolist() for at in range(3)]
    assert together == [row for each in alone for row in each]
    assert together == cloze_rows(data).batch(units, pass_number=2, step=9).rows.tolist()
    assert together != rows.batch(units, pass_number=3).rows.tolist()
    assert together != cloze_rows(data, seed=4).batch(units, pass_number=2).rows.tolist()


def test_shares_are_as_asked() -> None:
    data = growing([10] * 300, most=20)
    rows = cloze_rows(data, Cloze(0.3, 0.25))
    passes = [rows.batch(everything(rows), pass_number=number) for number in range(6)]
    blanks = torch.cat([batch.blanks for batch in passes if batch.blanks is not None])
    alone = (blanks.sum(1) == 1) & blanks[:, -1]
    others = blanks[~alone]
    assert float(alone.double().mean()) == pytest.approx(0.25 + 0.75 * 0.1 * 0.3, abs=0.03)
    assert float(others.double().mean()) == pytest.approx(0.3, abs=0.02)
    mean = float(blanks.sum(1).double().mean())
    assert rows.units_of(1000) == pytest.approx(1000 / mean, rel=0.03)
    assert rows.units_of(1) == 1


def test_a_click_that_is_not_the_next_item_ends_a_sequence_of_its_own() -> None:
    histories = [[1, 2], [1, 2, 3], [1, 2, 3, 4]]
    shown = [(0, 0, [9, 3], [1, 1]), (0, 1, [8], [1]), (0, 2, [5, 6], [1, 1])]
    rows = cloze_rows(interactions(histories, shown), Cloze(1 - 1e-9, 0.0))
    batch = rows.batch(everything(rows), pass_number=0)
    assert batch.blanks is not None
    items = batch.history.where(~batch.blanks, -1)
    found = [row[mask].tolist() for row, mask in zip(items, batch.history_mask, strict=True)]
    # the click on 3 is in the history that follows; those on 9 and 8 are not; 5 and 6 come together
    assert found == [[1, 2, -1, 4, -1], [1, 2, -1], [1, 2, 3, -1], [1, 2, 3, 4, -1]]
    assert batch.targets is not None
    assert batch.targets.values.tolist() == [3, 5, 9, 8, 6]


@pytest.mark.parametrize("loss", ["full_softmax", "softmax"])
def test_the_last_click_alone_is_learned_as_a_row_of_its_own(loss: str) -> None:
    """Where nothing else is hidden, the user at the blank is the user of the history before it."""
    data = growing([7, 1, 4, 9, 0, 2], most=20)
    rows = rows_of(data, loss)
    cloze = cloze_rows(data, Cloze(0.5, 1.0), loss=loss)
    store, user = random_store(num_items=ITEMS), BERT4RecConfig(dropout=0.0)
    model = random_recommender(store, item=IDConfig(id_dropout=0.0), user=user).double()
    batch = cloze.batch(everything(cloze), pass_number=1)
    alone = rows.batch(batch.rows, pass_number=1)
    measured = []
    for each in (batch, alone):
        model.zero_grad()
        total, losses = batch_loss(loss, model(each, store.batch(each.items)), each, len(each))
        total.backward()
        measured.append([losses, *(weight.grad.clone() for weight in model.parameters())])
    for one, other in zip(*measured, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_the_loss_of_blanks_by_hand() -> None:
    data = growing([4, 3], most=9)
    rows = cloze_rows(data, Cloze(0.6, 0.0))
    store = random_store(num_items=ITEMS)
    model = random_recommender(
        store, item=IDConfig(id_dropout=0.0), user=BERT4RecConfig(dropout=0.0)
    ).double()
    batch = rows.batch(everything(rows), pass_number=0)
    assert len(batch) > 2
    total, losses = batch_loss("full_softmax", model(batch, store.whole()), batch, len(batch))
    assert batch.blanks is not None
    vectors = model.encode_items(store.whole())
    clicks, row = clicks_of(data), 0
    for sequence, mask, blanks in zip(batch.history, batch.history_mask, batch.blanks, strict=True):
        users = model.user_encoder.fill(vectors[sequence][None], mask[None], blanks[None])
        for user in users:
            scores = vectors @ user
            expected = scores.exp().sum().log() - scores[clicks[batch.rows[row]]]
            torch.testing.assert_close(losses[row], expected.detach())
            row += 1
    torch.testing.assert_close(total.detach(), losses.sum())


def test_rows_of_several_clicks_are_refused() -> None:
    data = growing([3], most=9)
    rows: SingleRows = CatalogueRows(
        data, offered=torch.ones(ITEMS, dtype=torch.bool), row="impression", history="given"
    )
    with pytest.raises(ValueError, match="a single click"):
        ClozeRows(rows, data, HALF, seed=1)


def test_negatives_are_those_of_the_row() -> None:
    data = replace(growing([7, 1, 4], most=20))
    rows = rows_of(data, "softmax")
    assert isinstance(rows, TrainingRows)
    cloze = ClozeRows(rows, data, HALF, seed=3)
    batch = cloze.batch(everything(cloze), pass_number=5)
    alone = rows.batch(batch.rows, pass_number=5)
    assert torch.equal(batch.items[batch.candidates], alone.items[alone.candidates])

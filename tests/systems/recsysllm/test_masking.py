"""Blanks never split an entity, never touch, and leave room for Part B."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from legos.errors import DataError
from legos.systems.recsysllm.masking import (
    DOCUMENT,
    ENTITY,
    SENTENCE,
    Blanks,
    document_blank,
    entity_blanks,
    sample_blanks,
    sentence_blanks,
)
from legos.systems.recsysllm.settings import MaskingSettings
from legos.systems.recsysllm.units import Documents
from tests.systems.recsysllm.small import chosen, drawn, random_documents

ONLY = {
    ENTITY: {"sentence_weight": 0, "document_weight": 0},
    SENTENCE: {"entity_weight": 0, "document_weight": 0},
    DOCUMENT: {"entity_weight": 0, "sentence_weight": 0},
}


def _fractions(documents: Documents, blanks: Blanks) -> np.ndarray:
    masked = torch.zeros(len(documents), dtype=torch.int64)
    lengths = blanks.ranges.values[:, 1] - blanks.ranges.values[:, 0]
    masked.index_add_(0, blanks.ranges.rows, lengths)
    return (masked / documents.tokens.lengths).numpy()


def _inside_entity(documents: Documents) -> set[tuple[int, int]]:
    """Places (document, token) that have the same entity before and behind them."""
    inside = set()
    for row in range(len(documents)):
        place = 0
        for unit in range(int(documents.offsets[row]), int(documents.offsets[row + 1])):
            length = int(documents.units.lengths[unit])
            if documents.is_entity[unit]:
                inside |= {(row, place + at) for at in range(1, length)}
            place += length
    return inside


@pytest.mark.parametrize("level", ONLY)
def test_no_blank_begins_or_ends_inside_an_entity(level: int) -> None:
    documents = random_documents(300, seed=level)
    blanks = drawn(documents, **ONLY[level])
    inside = _inside_entity(documents)
    edges = {
        (row, int(place))
        for row, span in zip(blanks.ranges.rows.tolist(), blanks.ranges.values, strict=True)
        for place in span
    }
    assert not edges & inside
    values, rows = blanks.ranges.values, blanks.ranges.rows
    assert bool((values[:, 1] > values[:, 0]).all())
    neighbours = rows[1:] == rows[:-1]
    gaps = (values[1:, 0] - values[:-1, 1])[neighbours]
    assert bool((gaps >= (1 if level == ENTITY else 0)).all())  # disjoint; entity: non-adjacent
    if level == ENTITY:
        whole = blanks.levels == DOCUMENT  # documents of one entity have no other blank
        assert bool((_fractions(documents, blanks)[~whole.numpy()] < 1).all())


def test_entity_level_leaves_something_visible() -> None:
    long = MaskingSettings(mean_length=30.0)
    for lengths in ([1, 1], [3, 2, 1], [1] * 9):
        for seed in range(10):
            uniform = np.random.default_rng(seed).random(100)
            found = entity_blanks(np.array(lengths), uniform, long, room=9)
            assert 0 < sum(end - first for first, end in found) < len(lengths)


@pytest.mark.slow
def test_entity_level_masks_about_as_much_as_measured_for_the_specification() -> None:
    documents = random_documents(800, seed=5, units=(20, 60))
    found = _fractions(documents, drawn(documents, **ONLY[ENTITY]))
    assert 0.15 < found.mean() < 0.20  # the overshoot comes from whole entities (.175)
    assert np.quantile(found, 0.05) > 0.13
    assert np.quantile(found, 0.95) < 0.26


@pytest.mark.slow
def test_document_level_is_uniform_between_half_and_all() -> None:
    documents = random_documents(2000, seed=6, units=(20, 40))
    blanks = drawn(documents, **ONLY[DOCUMENT])
    found = _fractions(documents, blanks)
    assert bool((blanks.ranges.lengths == 1).all())
    assert 0.5 <= found.min() <= found.max() <= 1.0
    assert found.mean() == pytest.approx(0.75, abs=0.01)
    assert np.quantile(found, [0.25, 0.75]) == pytest.approx([0.625, 0.875], abs=0.02)


def test_document_blank_takes_one_of_the_nearest_ranges() -> None:
    lengths = np.array([3, 1, 1, 2])  # figure 1
    settings = MaskingSettings()
    assert document_blank(lengths, np.array([0.999, 0.0]), settings) == (0, 4)
    found = {document_blank(lengths, np.array([0.0, draw / 8]), settings) for draw in range(8)}
    assert found == {(0, 2), (1, 4)}  # want 3.5 of 7: only these have 4 tokens; 3 are too few


def test_sentence_blanks_are_whole_sentences_and_one_stays() -> None:
    lengths, ends = np.array([1, 4, 1, 1, 1, 2]), np.array([0, 0, 1, 0, 1, 0], dtype=bool)
    whole = {(0, 3), (3, 5), (5, 6)}
    settings = MaskingSettings(sentence_ratio=1.0)
    for seed in range(20):
        uniform = np.random.default_rng(seed).random(8)
        found = sentence_blanks(lengths, ends, uniform, settings, room=9)
        assert len(found) == 2
        assert set(found) < whole
    assert sentence_blanks(lengths, ends, np.zeros(8), MaskingSettings(), room=9) == [(0, 3)]


@pytest.mark.slow
def test_levels_are_mixed_and_draws_depend_on_seed_epoch_and_row_alone() -> None:
    documents = random_documents(3000, seed=7)
    blanks = drawn(documents, seed=1)
    shares = torch.bincount(blanks.levels, minlength=3) / 3000
    assert shares.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.04)
    some = torch.tensor([17, 4])
    part = sample_blanks(
        chosen(documents, some.tolist()), some, MaskingSettings(), seed=1, epoch=0, max_tokens=1024
    )
    assert part.ranges.values.tolist() == blanks.ranges.select(some).values.tolist()
    again = drawn(documents, seed=1, epoch=1)
    assert again.ranges.values.tolist() != blanks.ranges.values.tolist()


def test_part_a_and_part_b_fit_the_limit() -> None:
    documents = random_documents(200, seed=8, units=(10, 14))
    limit = int(documents.tokens.lengths.max()) + 4
    blanks = sample_blanks(
        documents, torch.arange(200), MaskingSettings(ratio=0.8), seed=0, epoch=0, max_tokens=limit
    )
    together = documents.tokens.lengths + 2 * blanks.ranges.lengths
    assert int(together.max()) <= limit
    assert int(blanks.ranges.lengths.max()) > 2
    with pytest.raises(DataError, match="one blank needs"):
        sample_blanks(
            documents, torch.arange(200), MaskingSettings(), seed=0, epoch=0, max_tokens=limit - 3
        )

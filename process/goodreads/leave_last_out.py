"""The benchmark's protocol: last book = test, second last = valid, the rest = train prefixes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from legos.data.manifest import Negatives
from legos.data.ragged import Ragged, RaggedArray, aranges
from legos.errors import DataError
from process.negatives import draw_negatives
from process.raw import TRAIN, Impressions, RawData

SPLIT_RULE = "last book = test, second last = valid, every earlier one with a prefix = train"
HELD_OUT = 2  # books a user
NEGATIVES_IN_TRAIN, NEGATIVES_IN_EVALUATION = 4, 20
NEGATIVES: Mapping[str, Negatives] = {
    TRAIN: "popularity",
    "valid": "popularity",
    "test": "popularity",
    "valid_uniform": "uniform",
    "test_uniform": "uniform",
}
UNREAD = 0.2  # weight of a book nobody has read, so that every book can be a negative


def leave_last_out(sequences: RaggedArray, num_items: int, seed: int) -> dict[str, Impressions]:
    """Cut every user's sequence into impressions and draw their negatives.

    Negatives of ``train``, ``valid`` and ``test`` are drawn in proportion to how often a book is
    read in train, those of ``valid_uniform`` and ``test_uniform`` uniformly. A held-out impression
    has no negative that its user reads in any split. One of train excludes the user's books of
    train alone: were the held-out ones excluded too, "never a negative" would give the answer away.

    Args:
        sequences: ``U`` rows of item rows, oldest first, at least 3 each.
        num_items: number of books.
        seed: of the negatives and of the order of candidates.

    Raises:
        DataError: a sequence of fewer than 3 books.
    """
    if len(sequences.lengths) == 0 or int(sequences.lengths.min()) < 3:
        raise DataError("a user with fewer than 3 books cannot be split into train, valid and test")
    generator = np.random.default_rng(seed)
    lengths = sequences.lengths
    trained = sequences.keep(sequences.to_end > HELD_OUT)
    popular = np.bincount(trained.values, minlength=num_items) + UNREAD
    uniform = np.ones(num_items)
    users = np.arange(len(lengths))
    train = aranges(np.ones_like(lengths), lengths - 3)
    splits = {}
    for name, of, targets, count in (
        (TRAIN, train.rows, train.values, NEGATIVES_IN_TRAIN),
        ("valid", users, lengths - 2, NEGATIVES_IN_EVALUATION),
        ("test", users, lengths - 1, NEGATIVES_IN_EVALUATION),
        ("valid_uniform", users, lengths - 2, NEGATIVES_IN_EVALUATION),
        ("test_uniform", users, lengths - 1, NEGATIVES_IN_EVALUATION),
    ):
        known = trained if name == TRAIN else sequences
        weights = uniform if NEGATIVES[name] == "uniform" else popular
        negatives = draw_negatives(generator, known, of, count, weights)
        rows = _impressions(generator, sequences, of, targets, negatives)
        splits[name] = replace(rows, negatives=NEGATIVES[name])
    return splits


def _impressions(
    generator: np.random.Generator,
    sequences: RaggedArray,
    users: np.ndarray,
    targets: np.ndarray,
    negatives: np.ndarray,
) -> Impressions:
    """One impression a target: the books before it as history, it and its negatives shuffled.

    Args:
        users: ``(n,)`` int64 rows of ``sequences``.
        targets: ``(n,)`` int64 position of the positive within its sequence.
        negatives: ``(n, K)`` int32.
    """
    start = sequences.offsets[users]
    inside = aranges(start, targets)
    candidates = np.concatenate([sequences.values[start + targets][:, None], negatives], axis=1)
    order = generator.random(candidates.shape).argsort(axis=1)
    return Impressions(
        impression_id=np.arange(1, len(users) + 1).astype(str).astype(object),
        user=users.astype(np.int32),
        time=np.full(len(users), -1, dtype=np.int64),
        history_values=sequences.values[inside.values].astype(np.int32),
        history_offsets=inside.offsets,
        candidate_values=np.take_along_axis(candidates, order, axis=1).ravel().astype(np.int32),
        candidate_offsets=np.arange(len(users) + 1, dtype=np.int64) * candidates.shape[1],
        labels=(order == 0).astype(np.int8).ravel(),
    )


@dataclass(frozen=True)
class Agreement:
    """How far two benchmarks are the same.

    Attributes:
        impressions: per split of both, those with equal user, history and positives: all.
        texts: per text field, the number of books whose text differs.
    """

    impressions: dict[str, int]
    texts: dict[str, int]


def compare(ours: RawData, given: RawData) -> Agreement:
    """Check that two benchmarks ask the same questions; negatives may differ, they are seeded.

    Raises:
        DataError: a book or an impression is in one but not in the other.
    """
    left, right = (raw.items.set_index("item_id") for raw in (ours, given))
    for book in left.index.symmetric_difference(right.index)[:1]:
        raise DataError(f"item {book!r} is not in both benchmarks")
    agreed = {}
    for name, impressions in ours.splits.items():
        if name not in given.splits:
            continue
        mine, theirs = _questions(ours, impressions), _questions(given, given.splits[name])
        for user, history, positives in (mine - theirs) + (theirs - mine):
            raise DataError(
                f"split {name!r}: user {user!r} with history {' '.join(history)!r} and positive "
                f"{' '.join(positives)!r} is not in both benchmarks"
            )
        agreed[name] = mine.total()
    right = right.loc[left.index]
    texts = {field: int((left[field] != right[field]).sum()) for field in ours.text_fields}
    return Agreement(agreed, texts)


def _questions(
    raw: RawData, rows: Impressions
) -> Counter[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """(user, history, positives) of every impression, as ids."""
    ids = raw.items["item_id"].to_numpy(dtype=object)
    users = np.asarray(raw.users, dtype=object)[rows.user]
    history = ids[rows.history_values]
    positives = Ragged(ids[rows.candidate_values], rows.candidate_offsets).keep(rows.labels == 1)
    return Counter(
        (user, tuple(history[a:b]), tuple(positives.values[c:d]))
        for user, a, b, c, d in zip(
            users,
            rows.history_offsets[:-1],
            rows.history_offsets[1:],
            positives.offsets[:-1],
            positives.offsets[1:],
            strict=True,
        )
    )

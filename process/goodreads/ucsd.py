"""The UCSD Book Graph dump becomes impressions, by ONCE's rules (its scripts 1 to 7).

What differs from ONCE: every draw is seeded and nothing is asked on the way; time zones count; the
ten random books of a user are books that the user has not read, held-out ones counting as unread in
train; a row is an impression (one user in one split) and not a single book.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from legos.data.ragged import Ragged, RaggedArray, from_owners, offsets_of
from legos.errors import DataError
from process.bad_lines import MAX_BAD, BadLine, BadLines
from process.described import Described
from process.goodreads.interactions import Filters, Ratings, read_ratings
from process.json_blocks import Lines, read_blocks
from process.negatives import draw_negatives
from process.raw import Impressions, Numbered, RawData
from process.spilled_texts import TextBlock
from process.ties import count_ties, without_unused

RANDOM_BOOKS = 10  # added to every user's dislikes
SPLITS = ("train", "valid", "test")
TEXT_FIELDS = ("title", "description")
SPLIT_RULE = (
    "a user's first 6 to 9 positives are the history (1 to 5 for a tenth of the users, the cold "
    "ones), later positives are train, valid and test in the ratio 80:10:10 by position"
)


def read_ucsd(
    books: Sequence[Path],
    interactions: Sequence[Path],
    *,
    name: str,
    filters: Filters,
    seed: int = 1,
    max_bad: float = MAX_BAD,
) -> RawData:
    """Read the dump; one impression a user and split.

    Args:
        books: ``goodreads_books*.json.gz``: book_id, title, description.
        interactions: ``goodreads_interactions*.json.gz``: user_id, book_id, rating, date_added.
        name: of the data set.
        filters: which users and books stay.
        seed: of users kept, cuts, random books and the order of candidates.
        max_bad: the share of lines of books, and of interactions, that may be bad.

    Raises:
        DataError: a damaged file, too many bad lines, or nothing passes the filters.
    """
    generator = np.random.default_rng(seed)
    ratings, oddities = read_ratings(interactions, filters, generator, seed, BadLines(max_bad))
    ratings = _stable(ratings, filters)
    bad_books = BadLines(max_bad)
    described = _described(books, frozenset(ratings.book_ids), bad_books)
    oddities |= {f"{what} (books)": count for what, count in bad_books.oddities().items()}
    titled = described.titled(ratings.book_ids)
    oddities["books without a title, dropped"] = int((~titled).sum())
    ratings = _stable(_keep(ratings, titled[ratings.book]), filters)
    count = _random_books(ratings)
    if count < RANDOM_BOOKS:
        oddities["random books a user, fewer than ten since one reads nearly all"] = count
    columns = described.columns(ratings.book_ids)
    texts = {name: columns.get(name, [""] * len(ratings.book_ids)) for name in TEXT_FIELDS}
    oddities["books without a description"] = sum(not text for text in iter(texts["description"]))
    return RawData(
        name=name,
        layout="goodreads-ucsd",
        items=pd.DataFrame({"item_id": ratings.book_ids}, dtype=object),
        text_fields=TEXT_FIELDS,
        item_texts=texts,
        category_fields=(),
        users=ratings.user_ids,
        splits=_splits(ratings, filters, generator),
        split_rule=SPLIT_RULE,
        sources=[*books, *interactions],
        oddities=oddities,
        settings={**asdict(filters), "seed": seed},
        time_ties=count_ties(ratings.user, ratings.time),
    )


def _stable(ratings: Ratings, filters: Filters) -> Ratings:
    """Drop rare books and users with few positives until all that stay pass."""
    while True:
        readers = np.bincount(ratings.book, minlength=len(ratings.book_ids))
        positives = np.bincount(ratings.user[ratings.positive], minlength=len(ratings.user_ids))
        stays = (readers >= filters.fewest_readers)[ratings.book]
        stays &= (positives >= filters.fewest_positives)[ratings.user]
        if not stays.any():
            raise DataError(
                f"no user has {filters.fewest_positives} positive books that have "
                f"{filters.fewest_readers} ratings each; loosen --fewest-positives or "
                "--fewest-readers, or keep more --users"
            )
        if stays.all():
            return _renumber(ratings)
        ratings = _keep(ratings, stays)


def _keep(ratings: Ratings, stays: np.ndarray) -> Ratings:
    return replace(
        ratings,
        user=ratings.user[stays],
        book=ratings.book[stays],
        positive=ratings.positive[stays],
        time=ratings.time[stays],
    )


def _renumber(ratings: Ratings) -> Ratings:
    """Forget users and books without ratings."""
    user_ids, user = without_unused(ratings.user_ids, ratings.user)
    book_ids, book = without_unused(ratings.book_ids, ratings.book)
    return replace(ratings, user_ids=user_ids, book_ids=book_ids, user=user, book=book)


def _described(paths: Sequence[Path], wanted: frozenset[str], bad: BadLines) -> Described:
    """Title and description of the wanted books; of several lines of a book the fullest counts."""

    def is_unwanted(book: str) -> bool:
        return book not in wanted

    found = Described(TEXT_FIELDS, _fullness)
    for books, texts in read_blocks(
        paths, "reading books", parse_books, bad, overlooked=is_unwanted
    ):
        found.add([book if book in wanted else None for book in books], texts)
    bad.check()
    return found


def parse_books(lines: Lines, _: None) -> tuple[tuple[list[str], TextBlock], bool]:
    """Ids and texts of a block's books; a book whose texts cannot be read is left out."""
    books, texts = list[str](), list[str]()
    for row in lines:
        book = ""
        try:
            book = str(row.integer("book_id"))
            title = row.text("title") or row.text("title_without_series")
            found = title, row.text("description")
        except BadLine as error:
            lines.refuse(error, book)
        else:
            books.append(book)
            texts += found
    return (books, TextBlock(list(map(str.encode, texts)))), True


def _fullness(fields: Mapping[str, str]) -> tuple[int, int, tuple[str, ...]]:
    """Sorts descriptions of one book: texts, then characters, then the texts themselves."""
    texts = tuple(fields.get(name, "") for name in TEXT_FIELDS)
    return len(fields), sum(map(len, texts)), texts


def _splits(
    ratings: Ratings, filters: Filters, generator: np.random.Generator
) -> dict[str, Impressions]:
    num_users, num_items = len(ratings.user_ids), len(ratings.book_ids)
    by_user = from_owners(ratings.book, ratings.user, num_users)
    liked = _first(ratings, ratings.positive, filters.longest)
    disliked = _first(ratings, ~ratings.positive, filters.longest)
    count = _random_books(ratings)
    random_books = draw_negatives(
        generator, by_user, np.arange(num_users), count, np.ones(num_items)
    )
    positives = from_owners(liked, ratings.user[liked], num_users)
    cut = np.minimum(_cuts(num_users, generator), positives.lengths - 1)
    part_of_positive = _parts(positives.lengths - cut, positives, cut)
    negative_user = np.concatenate([ratings.user[disliked], np.arange(num_users).repeat(count)])
    negative_book = np.concatenate([ratings.book[disliked], random_books.ravel()])
    order = np.lexsort((generator.random(len(negative_user)), negative_user))
    negatives = from_owners(negative_book[order], negative_user[order], num_users)
    nothing = np.zeros(num_users, dtype=np.int64)
    part_of_negative = _parts(negatives.lengths, negatives, nothing)
    trained = np.ones(len(ratings.book), dtype=bool)
    trained[positives.values[part_of_positive > 0]] = False
    in_train = np.flatnonzero((part_of_negative == 0) & (order >= len(disliked)))
    drawn = order[in_train] - len(disliked)
    negatives.values[in_train] = _of_train(ratings, trained, generator).ravel()[drawn]
    history = positives.keep(part_of_positive < 0)
    history = Ragged(ratings.book[history.values], history.offsets)
    splits = {}
    for part, name in enumerate(SPLITS):
        asked = positives.keep(part_of_positive == part)
        splits[name] = _impressions(
            asked, negatives.keep(part_of_negative == part), history, ratings, generator
        )
        if len(splits[name]) == 0:
            raise DataError(f"no user has a book left for split {name!r}; loosen the filters")
    return splits


def _random_books(ratings: Ratings) -> int:
    """How many random books a user gets: ten, or what the keenest reader has left."""
    most = int(np.bincount(ratings.user).max())
    return min(RANDOM_BOOKS, len(ratings.book_ids) - most)


def _of_train(ratings: Ratings, trained: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Random negatives of train, drawn as if held-out positives were not known.

    Were they excluded, "never a negative" would give the answer away.

    Args:
        ratings: of all users.
        trained: mask of the ratings that are not held-out positives.
        generator: source of the draws.

    Returns:
        ``(U, n)`` book rows.
    """
    num_users, num_items = len(ratings.user_ids), len(ratings.book_ids)
    known = from_owners(ratings.book[trained], ratings.user[trained], num_users)
    users, weights = np.arange(num_users), np.ones(num_items)
    return draw_negatives(generator, known, users, _random_books(ratings), weights)


def _first(ratings: Ratings, mask: np.ndarray, longest: int) -> np.ndarray:
    """Positions of every user's first ``longest`` ratings under the mask."""
    positions = np.flatnonzero(mask)
    user = ratings.user[positions]
    rank = np.arange(len(user)) - np.searchsorted(user, user)
    return positions[rank < longest]


def _cuts(num_users: int, generator: np.random.Generator) -> np.ndarray:
    """History lengths ``(U,)``: a tenth 1 to 5 (cold), a tenth each 6, 7 and 8, the rest 9."""
    bin_of_user = np.minimum(generator.integers(0, 10, num_users), 4)
    cold = generator.integers(1, 6, num_users)
    return np.where(bin_of_user == 0, cold, bin_of_user + 5)


def _parts(lengths: np.ndarray, lists: RaggedArray, cut: np.ndarray) -> np.ndarray:
    """The part of every value: -1 before the cut, then 0 train, 1 valid, 2 test.

    Valid and test get a tenth each of what follows the cut, rounded down but one book at least; a
    single book is test.
    """
    tenth = np.maximum(lengths // 10, 1)
    rank = lists.positions - lists.spread(cut)
    to_end = lists.spread(lengths) - rank
    share = lists.spread(tenth)
    parts = np.where(to_end <= share, 2, np.where(to_end <= 2 * share, 1, 0))
    return np.where(rank < 0, -1, parts)


def _impressions(
    asked: RaggedArray,
    negatives: RaggedArray,
    history: RaggedArray,
    ratings: Ratings,
    generator: np.random.Generator,
) -> Impressions:
    """One impression a user with positives; candidates in random order.

    Args:
        asked: positions in ``ratings`` of every user's positives.
        negatives, history: book rows.
    """
    users = np.flatnonzero(asked.lengths)
    asked, negatives, history = (lists.select(users) for lists in (asked, negatives, history))
    row = np.concatenate([asked.rows, negatives.rows])
    book = np.concatenate([ratings.book[asked.values], negatives.values])
    label = np.repeat([1, 0], [len(asked.values), len(negatives.values)])
    order = np.lexsort((generator.random(len(row)), row))
    return Impressions(
        impression_id=Numbered(len(users)),
        user=users.astype(np.int32),
        time=ratings.time[asked.values[asked.offsets[:-1]]],
        history_values=history.values.astype(np.int32),
        history_offsets=history.offsets,
        candidate_values=book[order].astype(np.int32),
        candidate_offsets=offsets_of(asked.lengths + negatives.lengths),
        labels=label[order].astype(np.int8),
        negatives="rated",
    )

"""Generated raw files of the shapes of Amazon, Goodreads and MovieLens, every run the same."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

USERS_A_REVIEW = 10.3 / 29.5  # Amazon 2023, books: 29.5 M reviews of 10.3 M users
VIEWERS_A_RATING = 0.2009 / 32  # MovieLens 32M: 32 M ratings of 200,948 users
READERS_A_RATING = 0.876 / 229  # UCSD Book Graph: 229 M interactions of 876,145 users
_BLOCK = 1 << 16  # lines made at once
_LONGEST = 300  # interactions of a user of Amazon's


@dataclass(frozen=True)
class Size:
    """How much raw data to generate.

    Attributes:
        interactions: lines of the file of interactions.
        items: lines of the file of items.
        words: of a text on average.
    """

    interactions: int
    items: int
    words: int = 80


def write_amazon(size: Size, folder: Path) -> tuple[Path, Path]:
    """``reviews.json.gz`` in the form of 2014, by user, and ``meta.json.gz``."""
    generator = np.random.default_rng(0)
    users = _users(size.interactions, int(size.interactions * USERS_A_REVIEW), generator)
    folder.mkdir(parents=True)
    reviews, metadata = folder / "reviews.json.gz", folder / "meta.json.gz"
    with gzip.open(reviews, "wt", encoding="utf-8", compresslevel=1) as file:
        for rows in _blocks(size.interactions):
            items = _popular(size.items, len(rows), generator)
            stars = generator.choice([1, 2, 3, 4, 5], len(rows), p=[0.05, 0.05, 0.1, 0.2, 0.6])
            times = generator.integers(1_100_000_000, 1_400_000_000, len(rows))
            texts = _texts(len(rows), size.words, generator)
            file.writelines(
                f'{{"reviewerID": "A{user:013d}", "asin": "B{item:09d}", "reviewerName": "J. Doe", '
                f'"helpful": [0, 0], "reviewText": "{text}", "overall": {star}.0, '
                f'"summary": "{text[:30]}", "unixReviewTime": {time}}}\n'
                for user, item, star, time, text in zip(
                    users[rows].tolist(), items.tolist(), stars.tolist(), times.tolist(), texts,
                    strict=True,
                )
            )  # fmt: skip
    with gzip.open(metadata, "wt", encoding="utf-8", compresslevel=1) as file:
        for rows in _blocks(size.items):
            texts = _texts(len(rows), size.words, generator)
            file.writelines(
                json.dumps({
                    "asin": f"B{item:09d}", "title": text[:50], "description": text,
                    "brand": f"brand {item % 5000}", "price": item % 97 + 0.99,
                    "categories": [["Books", f"shelf {item % 30}", f"corner {item % 600}"]],
                    "imUrl": "http://x.y/z.jpg", "salesRank": {"Books": item},
                }) + "\n"
                for item, text in zip(rows.tolist(), texts, strict=True)
            )  # fmt: skip
    return reviews, metadata


def write_goodreads(size: Size, folder: Path) -> tuple[Path, Path]:
    """``interactions.json.gz`` in the form of the UCSD dump, by user, and ``books.json.gz``."""
    generator = np.random.default_rng(0)
    readers = max(20, int(size.interactions * READERS_A_RATING))
    users = np.sort(generator.integers(0, readers, size.interactions))
    folder.mkdir(parents=True)
    interactions, books = folder / "interactions.json.gz", folder / "books.json.gz"
    with gzip.open(interactions, "wt", encoding="utf-8", compresslevel=1) as file:
        for rows in _blocks(size.interactions):
            items = _popular(size.items, len(rows), generator)
            stars = generator.choice(6, len(rows), p=[0.54, 0.01, 0.03, 0.1, 0.16, 0.16])
            days = generator.integers(1, 29, len(rows))
            seconds = generator.integers(10, 60, len(rows))
            file.writelines(
                f'{{"user_id": "{user:032x}", "book_id": "{item}", "review_id": "{row:032x}", '
                f'"is_read": {"true" if star else "false"}, "rating": {star}, '
                f'"review_text_incomplete": "", "date_added": "Tue Nov {day:02d} 11:37:{second} '
                f'-0800 2015", "date_updated": "Tue Nov 17 11:37:35 -0800 2015", "read_at": "", '
                '"started_at": ""}\n'
                for row, user, item, star, day, second in zip(
                    rows.tolist(), users[rows].tolist(), items.tolist(), stars.tolist(),
                    days.tolist(), seconds.tolist(), strict=True,
                )
            )  # fmt: skip
    with gzip.open(books, "wt", encoding="utf-8", compresslevel=1) as file:
        for rows in _blocks(size.items):
            texts = _texts(len(rows), size.words, generator)
            file.writelines(
                json.dumps({
                    "book_id": str(item), "title": text[:40], "title_without_series": text[:40],
                    "description": text, "isbn": "", "series": [], "publisher": "", "url": "",
                    "popular_shelves": [{"count": "3", "name": "to-read"}], "similar_books": [],
                }) + "\n"
                for item, text in zip(rows.tolist(), texts, strict=True)
            )  # fmt: skip
    return books, interactions


def write_movielens(size: Size, folder: Path) -> Path:
    """A folder with ``ratings.csv`` of 32M's columns, by user, and ``movies.csv``."""
    generator = np.random.default_rng(0)
    viewers = max(20, int(size.interactions * VIEWERS_A_RATING))
    users = 1 + np.sort(generator.integers(0, viewers, size.interactions))
    folder.mkdir(parents=True)
    with (folder / "ratings.csv").open("w", encoding="utf-8") as file:
        file.write("userId,movieId,rating,timestamp\n")
        for rows in _blocks(size.interactions):
            movies = 1 + _popular(size.items, len(rows), generator)
            stars = generator.integers(1, 11, len(rows)) / 2
            times = generator.integers(790_000_000, 1_700_000_000, len(rows))
            file.writelines(
                f"{user},{movie},{star},{time}\n"
                for user, movie, star, time in zip(
                    users[rows].tolist(), movies.tolist(), stars.tolist(), times.tolist(),
                    strict=True,
                )
            )  # fmt: skip
    with (folder / "movies.csv").open("w", encoding="utf-8") as file:
        file.write("movieId,title,genres\n")
        titles = _texts(size.items, 3, generator)
        file.writelines(
            f'{row},"{title[:60]}, The ({1920 + row % 100})",Comedy|Drama\n'
            for row, title in enumerate(titles, start=1)
        )
    return folder


def _blocks(count: int) -> Iterator[np.ndarray]:
    return (np.arange(at, min(at + _BLOCK, count)) for at in range(0, count, _BLOCK))


def _users(count: int, users: int, generator: np.random.Generator) -> np.ndarray:
    """``(count,)`` sorted; how many a user wrote follows a power law."""
    lengths = np.minimum(generator.zipf(2.0, users), _LONGEST)
    return np.sort(generator.choice(users, count, p=lengths / lengths.sum()))


def _popular(items: int, count: int, generator: np.random.Generator) -> np.ndarray:
    return (items * generator.random(count) ** 2).astype(np.int64)


def _texts(count: int, words: int, generator: np.random.Generator) -> list[str]:
    """Cut out of one long text at random places; lengths are log-normal."""
    letters = generator.integers(97, 123, (30_000, 12)).astype(np.uint8).view("S12")[:, 0]
    sizes = generator.integers(2, 10, len(letters))
    entries = np.array([word[:size].decode() for word, size in zip(letters, sizes, strict=True)])
    long = " ".join(entries[(len(entries) * generator.random(200_000) ** 3).astype(np.int64)])
    lengths = np.minimum(generator.lognormal(np.log(6 * words) - 0.32, 0.8, count), 30_000)
    begins = generator.integers(0, len(long) - 30_000, count)
    return [
        long[begin : begin + length].strip()
        for begin, length in zip(begins.tolist(), lengths.astype(int).tolist(), strict=True)
    ]

"""Tiny raw files of every release, written by hand."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from process.raw import Impressions, RawData

# user, item, rating, seconds
TINY = [
    ("u1", "a", 5.0, 100), ("u1", "b", 4.0, 200), ("u1", "c", 2.0, 300), ("u1", "d", 5.0, 400),
    ("u2", "b", 3.0, 150), ("u2", "a", 5.0, 50), ("u2", "c", 4.0, 250), ("u2", "e", 1.0, 500),
    ("u3", "d", 4.0, 120), ("u3", "c", 5.0, 220), ("u3", "f", 5.0, 320),
    ("u4", "a", 4.0, 600), ("u4", "e", 4.0, 700),
]  # fmt: skip


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    return path


def write_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    return write_lines(path, (json.dumps(row) for row in rows))


def review_2014(user: str, item: str, rating: Any, time: int, **changes: Any) -> dict[str, Any]:
    """A line of reviews_X_5.json.gz (2014) or X_5.json.gz (2018)."""
    return {
        "reviewerID": user, "asin": item, "reviewerName": "J", "helpful": [0, 0],
        "reviewText": f"{user} on\n {item}.", "overall": rating, "summary": f"about {item}",
        "unixReviewTime": time, "reviewTime": "01 1, 1970", **changes,
    }  # fmt: skip


def review_2023(user: str, item: str, rating: float, time: int) -> dict[str, Any]:
    """A line of X.jsonl.gz (2023)."""
    return {
        "rating": rating, "title": f"about {item}", "text": f"{user} on {item}.", "images": [],
        "asin": f"variant of {item}", "parent_asin": item, "user_id": user,
        "timestamp": time * 1000 + 7, "helpful_vote": 0, "verified_purchase": True,
    }  # fmt: skip


def review_prepared(user: str, item: str, rating: float, time: int) -> dict[str, Any]:
    """A line of a prepared reviews.jsonl."""
    return {
        "user_id": user, "item_id": item, "rating": rating, "timestamp": time,
        "summary": f"about {item}", "review": f"{user} on {item}.",
    }  # fmt: skip


def write_prepared(
    folder: Path, rows: Sequence[tuple[str, str, float, int]] = TINY, *, titled: str = "abcdef"
) -> Path:
    """A folder with reviews.jsonl and items.jsonl."""
    write_json_lines(folder / "reviews.jsonl", (review_prepared(*row) for row in rows))
    items = sorted({row[1] for row in rows})
    write_json_lines(
        folder / "items.jsonl",
        (
            {"item_id": item, "title": f"Item {item}" if item in titled else "",
             "categories": [["Top", "Middle", f"leaf {ord(item[0]) % 2}"]]}
            for item in items
        ),
    )  # fmt: skip
    return folder


def write_sequences(folder: Path, sequences: dict[str, list[str]]) -> Path:
    """A folder with sequences.tsv and items.jsonl."""
    write_lines(
        folder / "sequences.tsv", (f"{user}\t{' '.join(row)}" for user, row in sequences.items())
    )
    items = sorted({item for row in sequences.values() for item in row})
    write_json_lines(
        folder / "items.jsonl", ({"item_id": item, "title": f"Item {item}"} for item in items)
    )
    return folder


def dump(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value))
    return path


def write_public(folder: Path) -> Path:
    """CLLM4Rec's folder: 3 users, 5 items (item 4 is in no matrix)."""
    train, valid, test = np.zeros((3, 3, 5), dtype=np.float32)
    train[0, [0, 2]] = train[1, [1]] = train[2, [3, 0]] = 1
    valid[0, 1] = valid[1, 2] = test[0, 3] = test[1, 0] = test[2, 1] = 1
    dump(folder / "meta.pkl", {"num_users": 3, "num_items": 5})
    for name, dense in (("train", train), ("val", valid), ("test", test)):
        users, items = dense.nonzero()
        values = np.append(np.ones(len(users), dtype=np.float32), 0)  # a stored 0 is none
        places = (np.append(users, 0), np.append(items, 4))
        matrix = scipy.sparse.csr_matrix((values, places), shape=dense.shape)
        scipy.sparse.save_npz(folder / f"{name}_matrix.npz", matrix)
    wrote = "user_{} wrote the following review for item_{}:"
    reviews = [[wrote.format(0, 2), " I like\nit"], [wrote.format(2, 3), " My son does"]]
    dump(folder / "user_item_texts/review.pkl", reviews)
    titles = [[f"The title of item_{item} is:", f" Thing {item}"] for item in range(5)]
    dump(folder / "item_texts/title.pkl", titles)
    return folder


def rows_of(raw: RawData, split: str) -> list[tuple[str, list[str], list[str], list[str]]]:
    """User, history, positives and negatives of every impression, as ids."""
    rows: Impressions = raw.splits[split]
    ids, found = raw.items["item_id"].to_numpy(), []
    for i, user in enumerate(rows.user):
        history = ids[rows.histories.row(i)]
        part = slice(rows.candidate_offsets[i], rows.candidate_offsets[i + 1])
        shown, labels = ids[rows.candidate_values[part]], rows.labels[part]
        found.append(
            (raw.users[user], list(history), list(shown[labels == 1]), list(shown[labels == 0]))
        )
    return found

"""A small raw data set with reviews, some of them with holes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

USERS, ITEMS = 24, 50
FEATURES = ("strap", "battery", "lotion", "cover")
OPINIONS = ("great", "weak", "soft", "cheap")


def write_raw(folder: Path) -> Path:
    """24 users of 2 to 9 reviews each on 50 items, some without title, rating, headline or text."""
    numbers = np.random.default_rng(3)
    folder.mkdir(parents=True)
    titles = [f"Thing number {item}, deluxe" for item in range(ITEMS)]
    titles[4], titles[5], titles[6] = "", titles[7], ""
    with (folder / "items.jsonl").open("w") as handle:
        for item, title in enumerate(titles):
            row = {"item_id": f"i{item}", "title": title, "brand": "Acme" if item % 2 else ""}
            handle.write(json.dumps(row) + "\n")
    with (folder / "reviews.jsonl").open("w") as handle:
        for user in range(USERS):
            count = 2 if user < 2 else int(numbers.integers(4, 10))
            for at, item in enumerate(numbers.permutation(ITEMS)[:count].tolist()):
                feature, opinion = FEATURES[item % 4], OPINIONS[(user + at) % 4]
                review: dict[str, str | int] = {
                    "user_id": f"u{user}",
                    "item_id": f"i{item}",
                    "rating": 0 if (user + at) % 11 == 0 else int(numbers.integers(1, 6)),
                    "timestamp": 1_000_000 + 86_400 * at,
                    "summary": "" if at % 4 == 3 else f"A {opinion} one by u{user}",
                    "review": "" if item % 9 == 8 else f"I got it. The {feature} is {opinion}! Ok.",
                }
                handle.write(json.dumps(review) + "\n")
    return folder

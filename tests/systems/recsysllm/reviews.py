"""A small raw data set with reviews, some of them with holes, and the tasks made of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from legos.data.tables import Tables
from legos.systems.recsysllm.prompts import Instance
from legos.systems.recsysllm.settings import TaskSettings
from legos.systems.recsysllm.tasks.events import Sequences
from legos.systems.recsysllm.world import TaskFamilies
from process.amazon.assemble import Options, read_prepared
from process.interactions.filters import Filters
from process.interactions.impressions import Negatives
from process.raw import TokenizerSpec
from process.tables import write_tables

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


def reviewed_tables(folder: Path) -> Tables:
    """Tables of them split leave-last-out, made by the real command's code."""
    options = Options(filters=Filters(), negatives=Negatives(4, (5, 9), 0))
    raw = read_prepared(write_raw(folder / "raw"), name="reviewed", options=options)
    write_tables(raw, folder / "tables", [TokenizerSpec("words", "words")], unitok=False)
    return Tables.load(folder / "tables")


SETTINGS = TaskSettings(num_negatives=5, next_samples=2, choose_samples=2, will_samples=2)


def families(tables: Tables, *, seed: int = 0, **changes: object) -> TaskFamilies:
    chosen = TaskSettings.model_validate({**SETTINGS.model_dump(), **changes})
    return TaskFamilies.from_tables(tables, chosen, seed=seed)


def past_of(one: Instance) -> list[int]:
    """Items of the past that a prompt tells of, without those that are candidates, too."""
    past = [unit.key for unit in one.prompt if unit.entity_type == "item" and unit.event >= 0]
    return [item for item in past if item not in one.candidates]


def items_of(one: Instance) -> set[int]:
    """Items that an example is about or names."""
    units = [unit for unit in (*one.prompt, *one.answer) if unit.entity_type == "item"]
    return {one.item, *one.candidates, *(unit.key for unit in units)}


def held_out_pairs(sequences: Sequences) -> set[int]:
    """``user * num_items + item`` of valid and test events."""
    both = torch.cat([sequences.targets("valid"), sequences.targets("test")])
    return set((sequences.users.repeat(2) * sequences.num_items + both).tolist())


def epoch_of(made: TaskFamilies, epoch: int) -> dict[str, list[Instance]]:
    return {
        name: task.train(torch.arange(len(task)), epoch=epoch)
        for name, task in {**made.users, **made.about_reviews}.items()
    }

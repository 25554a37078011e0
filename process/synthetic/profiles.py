"""What the newsroom's readers say of themselves: planted interests, with noise, and a region."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from legos.files import write_text
from process.synthetic.stories import SUBCATEGORIES
from process.synthetic.world import World

SILENT = 0.3  # share of users without a profile
MISTAKEN = 0.2  # share of the named interests that are any category
REGIONS = ("north", "east", "south", "west", "centre", "coast")
_CATEGORIES = tuple(dict.fromkeys(category for category, _ in SUBCATEGORIES))


def write_profiles(world: World, user_ids: np.ndarray, path: Path) -> None:
    """Write JSON lines ``{"user_id", "interests": [...], "region"}``, one a user who talks.

    A user names the favourite categories; the region tells nothing. The draws have a generator of
    their own, so that the raw files beside are the same with and without profiles.
    """
    generator = np.random.default_rng([world.config.seed, 1])
    category = np.array([_CATEGORIES.index(name) for name, _ in SUBCATEGORIES])
    lines = []
    for user, interest in zip(user_ids, world.interest, strict=True):
        favourites = np.unique(category[interest > 0])
        mistaken = generator.random(len(favourites)) < MISTAKEN
        named = np.where(
            mistaken, generator.integers(len(_CATEGORIES), size=len(mistaken)), favourites
        )
        region, silent = generator.choice(REGIONS), generator.random() < SILENT
        if not silent:
            interests = [_CATEGORIES[index] for index in dict.fromkeys(named.tolist())]
            lines.append({"user_id": user, "interests": interests, "region": str(region)})
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))

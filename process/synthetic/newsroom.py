"""The newsroom on disk: MIND's raw files, and what only a generator knows beside them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from legos.errors import DataError
from legos.files import atomic_folder, output_lock
from process.synthetic.impressions import Day, clicks_before, histories, simulate_day
from process.synthetic.profiles import write_profiles
from process.synthetic.reachable import auc, auc_by_impression
from process.synthetic.stories import SUBCATEGORIES, Story, write_stories
from process.synthetic.world import NewsroomConfig, World, make_world

CLICK_PROBABILITY = "click_probability.tsv"


@dataclass(frozen=True)
class Reachable:
    """AUC over all candidates and mean AUC inside an impression, by kind of knowledge."""

    knowledge: str
    auc: float
    auc_by_impression: float


def write_newsroom(
    config: NewsroomConfig, folder: Path, profiles: Path | None = None
) -> list[Reachable]:
    """Generate a newsroom and write ``train/`` and ``dev/`` in MIND's raw layout.

    The same config gives the same bytes. ``folder`` is replaced as a whole or not at all;
    ``profiles`` gets what users say of themselves.

    Returns:
        What scores can reach on ``dev``.

    Raises:
        DataError: ``folder`` holds something else than a newsroom, or the sizes are too small.
    """
    _check(config)
    with output_lock(folder):
        if folder.exists() and any(folder.iterdir()) and not _is_newsroom(folder):
            raise DataError(f"{folder}: holds something else than a newsroom; choose another --raw")
        return _write(config, folder, profiles)


def _write(config: NewsroomConfig, folder: Path, profiles: Path | None) -> list[Reachable]:
    generator = np.random.default_rng(config.seed)
    world = make_world(config, generator)
    before = clicks_before(world, generator)
    days = [simulate_day(world, day, generator) for day in range(config.training_days + 1)]
    clicked, ranges = histories(days, before, config)
    stories = write_stories(generator, world.subcategory, world.angle)
    news_ids = np.array(
        [f"N{10_000 + i}" for i in generator.permutation(config.news)], dtype=object
    )
    user_ids = np.array([f"U{10_000 + i}" for i in generator.permutation(config.users)], object)
    histories_by_day = [
        [" ".join(news_ids[clicked[a:b]]) for a, b in zip(start, stop, strict=True)]
        for start, stop in ranges
    ]
    with atomic_folder(folder) as temporary:
        for name, part in (("train", slice(0, -1)), ("dev", slice(-1, None))):
            place = temporary / name
            place.mkdir()
            _write_behaviors(place, days[part], histories_by_day[part], news_ids, user_ids)
            mentioned = _mentioned(days[part], clicked, ranges[part])
            _write_news(place / "news.tsv", mentioned, world, stories, news_ids)
    if profiles is not None:
        write_profiles(world, user_ids, profiles)
    return _reachable(world, days)


def _check(config: NewsroomConfig) -> None:
    """Sizes that would leave a day without news, or an impression without enough of them."""
    least = 20 * (config.training_days + 15)
    if config.news < least:
        raise DataError(f"--news {config.news}: at least {least}, so that every day has its news")
    if config.users < 10 or config.training_days < 2:
        raise DataError("--users must be at least 10 and --days at least 2")
    if not 0 <= config.noise < 1 or not 0 <= config.cold_share <= 0.5:
        raise DataError("--noise must be in [0, 1) and --cold in [0, 0.5]")


def _is_newsroom(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} == {"train", "dev"} and (
        folder / "dev" / CLICK_PROBABILITY
    ).is_file()


def _mentioned(
    days: list[Day], clicked: np.ndarray, ranges: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """News rows that the days' candidates or histories hold, in order of publication."""
    parts = [day.candidates for day in days]
    for start, stop in ranges:
        depth = np.zeros(len(clicked) + 1, dtype=np.int64)
        np.add.at(depth, start, 1)
        np.add.at(depth, stop, -1)
        parts.append(clicked[np.cumsum(depth[:-1]) > 0])
    return np.unique(np.concatenate(parts))


def _write_news(
    path: Path, rows: np.ndarray, world: World, stories: list[Story], news_ids: np.ndarray
) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            story = stories[row]
            category, subcategory = SUBCATEGORIES[world.subcategory[row]]
            columns = (
                news_ids[row],
                category,
                subcategory,
                story.title,
                story.abstract,
                f"https://newsroom.invalid/{news_ids[row]}.html",
                story.title_entities,
                story.abstract_entities,
            )
            file.write("\t".join(columns) + "\n")


def _write_behaviors(
    place: Path,
    days: list[Day],
    history_texts: list[list[str]],
    news_ids: np.ndarray,
    user_ids: np.ndarray,
) -> None:
    """``behaviors.tsv`` and, row for row, ``click_probability.tsv``."""
    number = 0
    with (
        (place / "behaviors.tsv").open("w", encoding="utf-8", newline="\n") as behaviors,
        (place / CLICK_PROBABILITY).open("w", encoding="utf-8", newline="\n") as probabilities,
    ):
        for day, texts in zip(days, history_texts, strict=True):
            suffix = np.where(day.clicked, "-1", "-0").astype(object)
            shown = news_ids[day.candidates] + suffix
            chance = np.char.mod("%.6f", day.probability)
            for row, text in enumerate(texts):
                number += 1
                part = slice(day.offsets[row], day.offsets[row + 1])
                user, when = user_ids[day.users[row]], _mind_time(int(day.times[row]))
                behaviors.write(f"{number}\t{user}\t{when}\t{text}\t{' '.join(shown[part])}\n")
                probabilities.write(f"{number}\t{' '.join(chance[part])}\n")


def _mind_time(seconds: int) -> str:
    """``11/12/2019 2:14:46 PM``: no leading zeros before the minutes, as in MIND."""
    moment = time.gmtime(seconds)
    half = "AM" if moment.tm_hour < 12 else "PM"
    hour = moment.tm_hour % 12 or 12
    return (
        f"{moment.tm_mon}/{moment.tm_mday}/{moment.tm_year} "
        f"{hour}:{moment.tm_min:02d}:{moment.tm_sec:02d} {half}"
    )


def _reachable(world: World, days: list[Day]) -> list[Reachable]:
    """AUCs on the last day of what a model could know."""
    dev, rows = days[-1], days[-1].rows
    clicks = np.concatenate([day.candidates[day.clicked] for day in days[:-1]])
    popularity = np.bincount(clicks, minlength=len(world.popularity))
    scores = {
        "clicks in training (popularity)": popularity[dev.candidates],
        "planted taste, without popularity and recency": world.taste(
            dev.users[rows], dev.candidates
        ),
        "click probability (best reachable)": dev.probability,
    }
    return [
        Reachable(
            knowledge,
            auc(values, dev.clicked),
            auc_by_impression(values, dev.clicked, rows),
        )
        for knowledge, values in scores.items()
    ]

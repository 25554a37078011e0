"""MIND folders -> ``RawData``: which file is which split, and what is dropped or counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from legos.data.ragged import RaggedArray, from_lengths
from legos.data.spans import split_at_spaces
from legos.errors import DataError
from process.columns import ColumnReader
from process.mind.behaviors import (
    CATEGORY_FIELDS,
    IN_NEWS,
    TEXT_FIELDS,
    UNKNOWN_TIME,
    Behaviors,
    UnknownCandidates,
    read_behaviors,
    read_news,
)
from process.mind.halves import RULE, Halves, read_halves
from process.mind.new_items import NAMES, read_new_items
from process.mind.translations import translate
from process.raw import TRAIN, Impressions, RawData
from process.tsv import Block, find_file, read_blocks, require_file, what_is_there

SECONDS_A_DAY = 24 * 60 * 60
DESCRIBE = f"is not in news.tsv; describe it there, or in one of {', '.join(NAMES[1:])}"
VALID, TEST, UNLABELLED_TEST = "valid", "test", "test_unlabelled"


@dataclass(frozen=True)
class _Split:
    """The impressions of one split, users still as ids."""

    behaviors: Behaviors
    oracle: np.ndarray | None

    def only(self, mask: np.ndarray) -> _Split:
        """The impressions where ``mask (n,)`` is True."""
        oracle = self.oracle
        if oracle is not None:
            oracle = oracle[mask[self.behaviors.candidates.rows]]
        return _Split(self.behaviors.take(mask), oracle)

    def known(self) -> _Split:
        """Without unknown candidates, and without impressions that are left with none."""
        whole = self.behaviors
        known = whole.candidates.values >= 0
        if known.all():
            return self
        part = Behaviors(
            path=whole.path,
            impression_id=whole.impression_id,
            user_id=whole.user_id,
            time=whole.time,
            history=whole.history,
            candidates=whole.candidates.keep(known),
            labels=whole.labels[known],
        )
        oracle = None if self.oracle is None else self.oracle[known]
        return _Split(part, oracle).only(part.candidates.lengths > 0)


def read_mind(
    train: Path,
    dev: Path | None = None,
    test: Path | None = None,
    *,
    valid: Path | None = None,
    further: Mapping[str, Path] | None = None,
    news: Sequence[Path] = (),
    name: str = "mind",
    layout: str = "mind",
    unknown_candidates: UnknownCandidates = "error",
    translations: Sequence[Path] = (),
    halves: Path | None = None,
) -> RawData:
    """Read a data set in MIND's layout.

    Every folder holds ``behaviors.tsv`` (or ``.gz``); ``news.tsv`` lies in it or beside it. The
    splits that have no folder are cut off the end of the training days: the last day is ``test``
    (unless ``dev`` is given), the last day before that is ``valid`` (unless ``valid`` is given).

    Args:
        train: folder of the training impressions.
        dev: folder of the labelled evaluation impressions: split ``test``.
        test: folder of MIND's test impressions without labels: split ``test_unlabelled``.
        valid: folder of the validation impressions.
        further: further evaluation splits: name -> folder.
        news: the news files; found by themselves when empty.
        name: name of the data set.
        layout: what the manifest calls the layout.
        unknown_candidates: ``error``, or ``drop``: leave out candidates that are in no news file.
        translations: folders of xMIND, one a language (``process.mind.translations``).
        halves: ONCE's list of impressions, which halves ``dev`` into ``valid`` and ``test``
            (``process.mind.halves``); it takes the place of ``valid``.

    Raises:
        DataError: names the file and line, or the folder, and what was expected.
    """
    folders = {TRAIN: train, VALID: valid, TEST: dev, UNLABELLED_TEST: test}
    given = {split: folder for split, folder in folders.items() if folder} | _further(further or {})
    files = {split: require_file(folder, "behaviors.tsv") for split, folder in given.items()}
    news = list(news) or _find_news(given.values())
    items, oddities = read_news(news)
    translated = translate(items, translations, oddities)
    splits, sources = _read_splits(files, items, unknown_candidates, oddities)
    _require_labels(splits)
    splits, rule = _completed(splits, halves, oddities)
    users, impressions = _number_users(splits)
    return RawData(
        name=name,
        layout=layout,
        items=translated.items,
        text_fields=(*TEXT_FIELDS, *translated.fields),
        category_fields=CATEGORY_FIELDS,
        users=users,
        splits=impressions,
        split_rule=rule,
        sources=[*news, *translated.paths, *sources, *([halves] if halves else [])],
        oddities=dict(oddities),
        settings={"unknown_candidates": unknown_candidates},
    )


def read_mind_impressions(
    folder: Path,
    tables: Path,
    *,
    news: Path | None = None,
    name: str = "impressions",
    unknown_candidates: UnknownCandidates = "error",
) -> RawData:
    """Read new impressions for a model trained on finished tables.

    Args:
        folder: holds ``behaviors.tsv``, with or without labels, and where there are items the
            tables do not know a file that describes them, see ``new_items``.
        tables: the finished tables; their items need no line, and where one is given the tables'
            content counts, since that is what the model was trained on.
        news: that file, where it lies elsewhere.
        name: name of the data set.
        unknown_candidates: as in ``read_mind``.

    Returns:
        Data with the one split ``impressions``, for ``process.tables.new_impressions_tables``.
    """
    parent = ColumnReader(tables)
    items = parent.items()
    behaviors = require_file(folder, "behaviors.tsv")
    described = read_new_items(folder, parent, news)
    oddities: Counter[str] = Counter()
    if described is not None:
        oddities = described.oddities
        new = ~described.items["item_id"].isin(items["item_id"])
        oddities["items the trained set knows already (its content counts)"] = int((~new).sum())
        items = pd.concat([items, described.items.loc[new, list(items)]], ignore_index=True)
    files = {"impressions": behaviors}
    splits, sources = _read_splits(files, items, unknown_candidates, oddities, cure=DESCRIBE)
    users, impressions = _number_users(splits)
    return RawData(
        name=name,
        layout="mind",
        items=items,
        text_fields=parent.text_fields,
        category_fields=parent.category_fields,
        number_fields=parent.number_fields,
        users=users,
        splits=impressions,
        split_rule="all of them",
        sources=[*([described.path] if described else []), *sources],
        oddities=dict(+oddities),
        settings={"unknown_candidates": unknown_candidates},
    )


def _further(folders: Mapping[str, Path]) -> dict[str, Path]:
    taken = [split for split in folders if split in (TRAIN, VALID, TEST)]
    if taken:
        raise DataError(f"split {taken[0]!r} has an argument of its own: --{taken[0]} FOLDER")
    return dict(folders)


def _find_news(folders: Iterable[Path]) -> list[Path]:
    """The news file of every folder, in it or beside it, each once."""
    found: dict[Path, Path] = {}
    for folder in folders:
        path = find_file(folder, "news.tsv") or find_file(folder.parent, "news.tsv")
        if path is None:
            raise DataError(
                f"{folder / 'news.tsv'}: no such file, and none in {folder.parent}"
                f"{what_is_there(folder)}"
            )
        found.setdefault(path.resolve(), path)
    return list(found.values())


def _read_splits(
    files: Mapping[str, Path],
    items: pd.DataFrame,
    unknown_candidates: UnknownCandidates,
    oddities: Counter[str],
    *,
    cure: str = IN_NEWS,
) -> tuple[dict[str, _Split], list[Path]]:
    """The impressions of every split without unknown candidates, and the files read.

    ``cure``: as in ``read_behaviors``.
    """
    index = pd.Index(items["item_id"], dtype=object)
    splits: dict[str, _Split] = {}
    sources: list[Path] = []
    for split, path in files.items():
        behaviors, odd = read_behaviors(
            path, index, unknown_candidates=unknown_candidates, cure=cure
        )
        oddities.update(odd)
        sources.append(path)
        probabilities = find_file(path.parent, "click_probability.tsv")
        oracle = None
        if probabilities is not None:
            oracle = read_click_probability(probabilities, behaviors)
            sources.append(probabilities)
        whole = _Split(behaviors, oracle)
        splits[split] = whole.known()
        left = len(splits[split].behaviors)
        dropped = int((behaviors.candidates.values < 0).sum())
        if dropped:
            oddities["candidates absent from news.tsv (dropped)"] += dropped
            oddities["impressions left with no candidate (dropped)"] += len(behaviors) - left
        if left == 0:
            raise DataError(f"{path}: none of the candidates is in news.tsv; is it the right one?")
    return splits, sources


def _require_labels(splits: Mapping[str, _Split]) -> None:
    for split in (TRAIN, VALID, TEST):
        if split in splits and not splits[split].behaviors.labelled:
            raise DataError(
                f"{splits[split].behaviors.path}: the candidates have no labels, expected "
                f"'N1-0 N2-1' in split {split!r}"
            )
    unlabelled = splits.get(UNLABELLED_TEST)
    if unlabelled is not None and unlabelled.behaviors.labelled:
        raise DataError(
            f"{unlabelled.behaviors.path}: the candidates have labels, expected none in a "
            f"{UNLABELLED_TEST!r} split; name the split yourself with --split NAME=FOLDER"
        )


def _completed(
    splits: dict[str, _Split], halves: Path | None, oddities: Counter[str]
) -> tuple[dict[str, _Split], str]:
    """All splits, those without a folder cut off others, and the rule by which that was done."""
    if halves is not None:
        splits = splits | _halved(splits, read_halves(halves), oddities)
    missing = [split for split in (VALID, TEST) if split not in splits]
    return _split_by_time(splits, missing), _describe_rule(missing) if halves is None else RULE


def _halved(
    splits: Mapping[str, _Split], halves: Halves, oddities: Counter[str]
) -> dict[str, _Split]:
    """Valid and test out of the impressions of dev."""
    dev = splits.get(TEST)
    if dev is None or VALID in splits:
        raise DataError(
            f"{halves.path}: halves dev into valid and test, so it needs dev and no --valid FOLDER"
        )
    ids = dev.behaviors.impression_id
    is_valid = halves.in_first(ids, dev.behaviors.path, oddities)
    return {VALID: dev.only(is_valid), TEST: dev.only(~is_valid)}


def _split_by_time(splits: dict[str, _Split], missing: Sequence[str]) -> dict[str, _Split]:
    """Cut the missing splits off the last days of train: ``test`` the last, ``valid`` before."""
    if not missing:
        return splits
    train = splits[TRAIN].behaviors
    day = np.where(train.time == UNKNOWN_TIME, -1, train.time // SECONDS_A_DAY)
    days = np.unique(day[day >= 0])
    if len(days) <= len(missing):
        options = " and ".join(f"--{split} FOLDER" for split in missing)
        has = f"on {len(days)} days" if len(days) else "without times"
        raise DataError(
            f"{train.path}: impressions {has}, so {' and '.join(missing)} cannot be the last "
            f"{'day' if len(missing) == 1 else 'days'} of train; give {options}"
        )
    cut = {split: day == days[-1 - i] for i, split in enumerate(reversed(missing))}
    parts = {TRAIN: splits[TRAIN].only(~np.any(list(cut.values()), axis=0))}
    for split in (VALID, TEST):
        parts[split] = splits[TRAIN].only(cut[split]) if split in cut else splits[split]
    return parts | {split: part for split, part in splits.items() if split not in parts}


def _describe_rule(missing: Sequence[str]) -> str:
    rules = {
        (): "a folder each",
        (VALID,): "by time: the last day of train is valid",
        (TEST,): "by time: the last day of train is test",
        (VALID, TEST): "by time: the last day of train is test, the day before it valid",
    }
    return rules[tuple(missing)]


def _number_users(splits: Mapping[str, _Split]) -> tuple[np.ndarray, dict[str, Impressions]]:
    codes, users = pd.factorize(
        np.concatenate([split.behaviors.user_id for split in splits.values()])
    )
    impressions: dict[str, Impressions] = {}
    begin = 0
    for split, part in splits.items():
        rows = part.behaviors
        candidates: RaggedArray = rows.candidates
        impressions[split] = Impressions(
            impression_id=rows.impression_id,
            user=codes[begin : begin + len(rows)].astype(np.int32),
            time=rows.time,
            history_values=rows.history.values,
            history_offsets=rows.history.offsets,
            candidate_values=candidates.values,
            candidate_offsets=candidates.offsets,
            labels=rows.labels,
            oracle=part.oracle,
            negatives="shown",
        )
        begin += len(rows)
    return users, impressions


COLUMNS = ("impression id", "click probabilities")


def read_click_probability(path: Path, behaviors: Behaviors) -> np.ndarray:
    """Read the probabilities of every candidate of a behaviors file.

    Args:
        path: ``click_probability.tsv``: impression id, TAB, one number a candidate.
        behaviors: the file they belong to; impressions may stand in another order.

    Returns:
        ``(M,)`` float32 aligned with ``behaviors.candidates``.

    Raises:
        DataError: with file and line: an unknown, missing or repeated impression, another number
            of candidates, or no probability.
    """
    known = pd.Index(behaviors.impression_id, dtype=object)
    counts = behaviors.candidates.lengths
    rows: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for block in read_blocks(path, COLUMNS):
        found = known.get_indexer(pd.Index(block.columns["impression id"], dtype=object))
        values.append(_parse(block, found, counts, behaviors.path))
        rows.append(found)
    order = np.concatenate(rows)
    missing = np.setdiff1d(np.arange(len(known)), order)
    if len(missing) or len(order) != len(known):
        what = f"lacks impression {known[missing[0]]!r}" if len(missing) else "repeats impressions"
        raise DataError(f"{path}: {what} of {behaviors.path}; expected each of them once")
    lists = from_lengths(np.concatenate(values), counts[order])
    aligned: np.ndarray = lists.select(np.argsort(order)).values
    return aligned


def _parse(block: Block, rows: np.ndarray, counts: np.ndarray, behaviors: Path) -> np.ndarray:
    unknown = np.flatnonzero(rows < 0)
    if len(unknown):
        name = block.columns["impression id"][unknown[0]]
        raise DataError(f"{block.at(int(unknown[0]))}: impression {name!r} is not in {behaviors}")
    texts = block.columns["click probabilities"]
    found = np.diff(split_at_spaces(texts).offsets)
    wrong = np.flatnonzero(found != counts[rows])
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{block.at(row)}: {found[row]} probabilities, the impression has "
            f"{counts[rows[row]]} candidates in {behaviors}"
        )
    numbers = np.array(" ".join(texts.tolist()).split(), dtype=object)
    values = pd.to_numeric(pd.Series(numbers), errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(bad):
        row = int(np.searchsorted(np.cumsum(found), bad[0], side="right"))
        raise DataError(
            f"{block.at(row)}: {numbers[bad[0]]!r} is no click probability, expected 0 to 1"
        )
    return values.astype(np.float32)

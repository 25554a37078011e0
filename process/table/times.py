"""A column of times: epochs in s, ms, µs or ns, dates; recognised, and refused where mixed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pandas as pd

from process.moments import LATEST, with_words
from process.table.values import NOTHING, each, plain_of

TICKS = 1_000_000  # a second
UNKNOWN = -1
FORMS = (
    "numbers that are no moments: they order the events, no more",
    "Unix seconds",
    "Unix milliseconds",
    "Unix microseconds",
    "Unix nanoseconds",
    "dates such as 20250131, read as UTC",
    "dates and times with their zones",
    "dates and times without a zone, read as UTC",
    "dates such as 31.01.2025, read as UTC",
    "dates such as 2025年1月31日, read as UTC",
    "dates such as 31/01/2025, read as UTC",
    "dates such as 01/31/2025, read as UTC",
)
SMALL, SECONDS, MILLISECONDS, MICROSECONDS, NANOSECONDS = range(5)
COMPACT, ZONED, PLAIN, DOTTED, CHINESE, DAY_FIRST, MONTH_FIRST = range(5, 12)
Dates = Literal["day-first", "month-first"]
EXPECTED = (
    "a time from 1970 to now: Unix seconds, ms, µs or ns, or a date such as 2025-01-31 18:30:00"
)
_SWAPPED = re.compile(r"\d{1,2}[/-]\d{1,2}[/-]\d{2,4}(?:[ T].*)?")
UNSWAPPED = (
    "a date that can be read in one way, such as 2024-12-31 or 31.12.2024; --dates day-first or "
    "--dates month-first says how it is meant"
)
_LOOKED_AT = 1_000  # first values of a column that may hold times
_LEAST = 1e8  # Unix seconds of 1973; below are counters, years and days of spreadsheets
_DAYS_TO_1970 = 25_569  # of spreadsheets, which count from 1899-12-30
_UNITS = ((1e17, NANOSECONDS, 1e3), (1e14, MICROSECONDS, 1.0), (1e11, MILLISECONDS, 1e-3))
_ZONE = r"(?:Z|[+-]\d\d:?\d\d)$"
_CLOCK = r"(\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?)"
_EITHER = re.compile(
    rf"(\d{{1,2}})[/-](\d{{1,2}})[/-](\d{{4}})(?:,?[ T]+{_CLOCK}(?: ?([AaPp])\.?[Mm]\.?)?)?"
)
_GERMAN = re.compile(rf"(\d{{1,2}})\.(\d{{1,2}})\.(\d{{4}})(?:,?[ T]+{_CLOCK})?")
_SLASHED = re.compile(rf"(\d{{4}})[/.](\d{{1,2}})[/.](\d{{1,2}})(?:[ T]+{_CLOCK})?")
_KANJI = re.compile(rf"(\d{{4}})年(\d{{1,2}})月(\d{{1,2}})日?(?: *{_CLOCK})?")


def read_times(
    values: np.ndarray, *, zoned: bool, dates: Dates | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times of a block.

    Args:
        values: ``(n,)`` of any form.
        zoned: datetimes that had a time zone.
        dates: how 05/06/2025 is meant; None: that it cannot be told.

    Returns:
        ``(n,)`` int64 Unix microseconds, -1 where there is nothing; ``(n,)`` int8 place in
        ``FORMS``, -1 where there is nothing; ``(n,)`` bool: what is no possible time.
    """
    if values.dtype.kind == "M":
        moments = values.astype("datetime64[us]").astype(np.int64)
        empty = np.isnat(values)
        form = np.where(empty, -1, ZONED if zoned else PLAIN)
        return _checked(np.where(empty, UNKNOWN, moments), form, np.zeros(len(values), bool))
    if values.dtype.kind in "iuf":
        return _checked(*_epochs(values.astype(np.float64), values))
    cells = pd.Series([_cell(value) for value in values.tolist()], dtype=object)
    filled = (cells != "").to_numpy()
    as_numbers = pd.to_numeric(cells.where(filled), errors="coerce")
    numeric = as_numbers.notna().to_numpy()
    ticks, form = np.full(len(cells), UNKNOWN), np.full(len(cells), -1)
    wrong = np.zeros(len(cells), dtype=bool)
    if numeric.any():
        whole = as_numbers[numeric].to_numpy()
        ticks[numeric], form[numeric], wrong[numeric] = _epochs(whole.astype(np.float64), whole)
    dated = filled & ~numeric
    if dated.any():
        ticks[dated], form[dated], wrong[dated] = _dates(cells[dated], dates)
    return _checked(ticks, form, wrong)


def holds_dates(values: np.ndarray) -> bool:
    """Whether the first values ``(n,)`` of a column are dates, those of two readings included."""
    values = values[:_LOOKED_AT]
    _, form, wrong = read_times(values, zoned=False)
    if wrong.any():
        return not (wrong & ~are_swapped(values)).any()
    known = form[form >= 0]
    return bool(len(known)) and bool((known > COMPACT).all())


def are_swapped(values: np.ndarray) -> np.ndarray:
    """``(n,)`` bool: dates such as 05/06/2025, where day and month may be swapped."""
    return each(values, lambda value: _SWAPPED.fullmatch(plain_of(value)) is not None, bool)


def _cell(value: Any) -> str:
    if type(value) is not str:
        if value is None or value != value:
            return ""
        value = value.isoformat() if hasattr(value, "isoformat") else str(value)
    text: str = value.strip()
    return "" if text.lower() in NOTHING else text


def _epochs(numbers: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Units by size: as seconds 1e11 is the year 5138."""
    wrong, empty = np.isinf(numbers), np.isnan(numbers)
    numbers = np.where(wrong | empty, 0, numbers)
    form, ticks = np.where(numbers < _LEAST, SMALL, SECONDS), np.floor(numbers * TICKS)
    for least, unit, factor in _UNITS:
        mine = (numbers >= least) & (form == SECONDS)
        form[mine] = unit
        ticks[mine] = np.floor(numbers[mine] / factor)
    moments = np.where(np.abs(ticks) < 2**62, ticks, -(2.0**40)).astype(np.int64)
    if exact.dtype.kind in "iu":  # float64 rounds nanoseconds
        for unit, factor in ((MICROSECONDS, 1), (NANOSECONDS, 1000)):
            mine = form == unit
            moments[mine] = exact[mine] // factor
        mine = form == MILLISECONDS
        moments[mine] = exact[mine] * 1000
    compact = (numbers >= 19000101) & (numbers <= 21001231) & (numbers % 1 == 0)
    if compact.any():
        days = pd.to_datetime(
            pd.Series(numbers[compact].astype(np.int64).astype(str)),
            format="%Y%m%d", errors="coerce",
        )  # fmt: skip
        known = days.notna().to_numpy()
        places = np.flatnonzero(compact)[known]
        moments[places] = days[known].to_numpy().astype("datetime64[us]").astype(np.int64)
        form[places] = COMPACT
    moments[empty], form[empty] = UNKNOWN, -1
    return moments, form, wrong


def _dates(cells: pd.Series[Any], dates: Dates | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    texts = cells.str.replace(r" ?(?:UTC|GMT)$", "Z", regex=True)
    found = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    form = np.where(texts.str.contains(_ZONE, regex=True).to_numpy(bool), ZONED, PLAIN)
    moments = found.dt.tz_localize(None).to_numpy()
    ticks = moments.astype("datetime64[us]").astype(np.int64, copy=True)
    wrong = found.isna().to_numpy(copy=True)
    for place in np.flatnonzero(wrong).tolist():
        moment = _other(texts.iloc[place], dates)
        if moment is not None:
            ticks[place], form[place] = moment
            wrong[place] = False
    return ticks, form, wrong


def _other(text: str, dates: Dates | None) -> tuple[int, int] | None:
    """Microseconds and form of a date that is not ISO; None where it can be read in two ways."""
    try:
        if german := _GERMAN.fullmatch(text):
            day, month, year, clock = german.groups()
            return _moment(year, month, day, clock), DOTTED
        if slashed := _SLASHED.fullmatch(text):
            return _moment(*slashed.groups()), PLAIN
        if chinese := _KANJI.fullmatch(text):
            return _moment(*chinese.groups()), CHINESE
        if dates is not None and (either := _EITHER.fullmatch(text)):
            one, other, year, clock, half = either.groups()
            clock = clock if half is None else _of_24_hours(clock, half)
            if dates == "day-first":
                return _moment(year, other, one, clock), DAY_FIRST
            return _moment(year, one, other, clock), MONTH_FIRST
        if text[:1].isalpha():
            return with_words(text) * TICKS, ZONED
    except (ValueError, KeyError, OverflowError):
        return None
    return None


def _of_24_hours(clock: str, half: str) -> str:
    """12:30 a is 0:30, 1:30 p is 13:30; ValueError for an hour that no such clock shows."""
    hour, rest = clock.split(":", 1)
    if not 1 <= int(hour) <= 12:
        raise ValueError(clock)
    return f"{int(hour) % 12 + 12 * (half.lower() == 'p'):02}:{rest}"


def _moment(year: str, month: str, day: str, clock: str | None) -> int:
    clock = clock or "00:00"
    hour = clock if clock[1] != ":" else f"0{clock}"
    moment = datetime.fromisoformat(f"{year}-{int(month):02}-{int(day):02}T{hour}")
    return round(moment.replace(tzinfo=UTC).timestamp() * TICKS)


def read_small(ticks: np.ndarray) -> tuple[np.ndarray, str]:
    """A whole column of numbers too small for Unix times, as what it says.

    Args:
        ticks: ``(n,)`` int64 the numbers, times ``TICKS``.

    Returns:
        ``(n,)`` int64 Unix microseconds where they are years or days of a spreadsheet, else as they
        were, which keeps their order; and how they were read.
    """
    latest = LATEST * TICKS
    years = ticks // TICKS
    if not (ticks % TICKS).any() and years.min() >= 1970 and years.max() <= 2100:
        moments = (years - 1970).astype("datetime64[Y]").astype("datetime64[us]").astype(np.int64)
        if moments.max() <= latest:
            return moments, "years, read as their first day"
    moments = (ticks - _DAYS_TO_1970 * TICKS) * 86_400
    if moments.min() >= 0 and moments.max() <= latest:
        return moments, "days since 1900, as spreadsheets write dates, read as UTC"
    return ticks, FORMS[SMALL]


def _checked(
    ticks: np.ndarray, form: np.ndarray, wrong: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = form >= 0
    wrong = wrong | (known & ((ticks < 0) | (ticks > LATEST * TICKS)))
    return np.where(wrong | ~known, UNKNOWN, ticks), form.astype(np.int8), wrong

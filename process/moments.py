"""Times as raw files write them, as Unix seconds."""

from __future__ import annotations

import calendar
import time
from collections import Counter
from datetime import UTC, datetime

import numpy as np

from process.json_lines import Row

UNKNOWN_TIME = -1
A_DAY = 24 * 60 * 60
FORMS = "Unix seconds or milliseconds, an ISO date, or 'Tue Nov 17 11:37:35 -0800 2015'"
_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}
_TICKS = ((10**17, 10**9, "nanoseconds"), (10**14, 10**6, "microseconds"))
LATEST = time.time() + A_DAY
_MILLISECONDS = 10**11  # as seconds this is the year 5138
SHOPS_ON_THE_WEB = 788_918_400  # 1995


def read_moment(row: Row, key: str, notes: Counter[str], *, milliseconds: bool = False) -> int:
    """A time as Unix seconds, -1 where there is none.

    Args:
        row: the line.
        key: of the time.
        notes: counts the times that were read in another unit or form than declared.
        milliseconds: the source's documentation says so.

    Raises:
        BadLine: neither a number nor a date, before 1970 or in the future.
    """
    value = row.values.get(key)
    if type(value) is int and not milliseconds and 0 <= value < LATEST:
        return value
    text = value.strip() if isinstance(value, str) else ""
    if value is None or (isinstance(value, str) and not text):
        return UNKNOWN_TIME
    if text and not text.lstrip("+-").replace(".", "", 1).isdecimal():
        seconds = _date(row, key, text)
    elif len(text) == 4 and text.isdecimal():
        notes["times that are a year, read as its first day"] += 1
        seconds = calendar.timegm((int(text), 1, 1, 0, 0, 0))
    else:
        seconds = _number(row, key, notes, milliseconds)
    if not 0 <= seconds <= LATEST:
        raise row.bad(key, "a time between 1970 and now")
    return seconds


def plain_moments(times: np.ndarray, *, milliseconds: bool) -> tuple[np.ndarray, np.ndarray]:
    """What ``read_moment`` makes of whole numbers in the declared unit, without a note.

    Args:
        times: ``(n,)`` int64.
        milliseconds: the source's documentation says so.

    Returns:
        ``(n,)`` int64 Unix seconds, and ``(n,)`` bool: which of them are plain.
    """
    if not milliseconds:
        return times, (times >= 0) & (times < LATEST)
    seconds = times // 1000
    return seconds, (times >= _MILLISECONDS) & (seconds < LATEST)


def _number(row: Row, key: str, notes: Counter[str], milliseconds: bool) -> int:
    number = row.number(key)
    if number is None or number != number:
        raise row.bad(key, FORMS)
    for least, ticks, name in _TICKS:
        if number >= least:
            notes[f"times in {name}, read as such"] += 1
            return int(number // ticks)
    if number >= _MILLISECONDS:
        if not milliseconds:
            notes["times in milliseconds, read as such"] += 1
        return int(number // 1000)
    if milliseconds and number >= SHOPS_ON_THE_WEB:
        notes["times in seconds, read as such"] += 1
        return int(number)
    return int(number // 1000 if milliseconds else number)


def _date(row: Row, key: str, text: str) -> int:
    """Of a date with words, or of an ISO date; without a zone it is UTC."""
    try:
        if text[0].isalpha():
            return with_words(text)
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() // 1)
    except (ValueError, KeyError, OverflowError):
        raise row.bad(key, FORMS) from None


def with_words(text: str) -> int:
    """``Tue Nov 17 11:37:35 -0800 2015``; a loop over millions, so no ``strptime``."""
    _, month, day, clock, zone, year = text.split(" ")
    hour, minute, second = (int(part) for part in clock.split(":"))
    if len(zone) != 5 or zone[0] not in "+-":
        raise ValueError
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second <= 60):
        raise ValueError
    offset = int(zone[0] + "1") * (int(zone[1:3]) * 3600 + int(zone[3:]) * 60)
    day_of_month = int(day)
    number = _MONTHS[month]
    if not 1 <= day_of_month <= calendar.monthrange(int(year), number)[1]:
        raise ValueError
    return calendar.timegm((int(year), number, day_of_month, hour, minute, second)) - offset

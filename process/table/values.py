"""Cells of any form as ids, texts, numbers and lists."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from legos.data.texts import one_line
from legos.errors import DataError

NO_ID = frozenset({"nan", "null", "none", "n/a", "#n/a", "<na>", r"\n"})  # "NA", "-" may be ids
NOTHING = frozenset({"", "na", "n/a", "nan", "none", "null", r"\n", "-", "#n/a", "<na>"})
_MONEY = re.compile(r"^(?:[$€£¥₹]|USD|EUR|CNY|RMB)|(?:[$€£¥₹元]|USD|EUR|CNY|RMB)$", re.IGNORECASE)
_BLANKS = re.compile(r"[\s\u00a0\u202f']")  # people and spreadsheets group digits by them
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_WITH_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d*)?")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?E\+\d+", re.IGNORECASE)  # an id that a spreadsheet spoiled
_SCALED = re.compile(r"\s*([\d.,]+)\s*(/\s*\d+|%)\s*")
_SEPARATORS = ("|", ";", ",")


def each(values: np.ndarray, convert: Callable[[Any], Any], dtype: Any = object) -> np.ndarray:
    """``(n,)``: what a function makes of every value; equal texts are converted once."""
    if values.dtype == object and all(type(value) is str for value in values):
        codes, distinct = pd.factorize(values, use_na_sentinel=False)
        made = np.fromiter((convert(value) for value in distinct), dtype, len(distinct))
        return made[codes]
    return np.fromiter((convert(value) for value in values.tolist()), dtype, len(values))


def id_of(value: Any) -> str:
    """The id of somebody or something, "" where there is none: no list, object or flag is one."""
    if isinstance(value, bool | np.bool_ | list | dict | tuple | np.ndarray):
        return ""
    name = plain_of(value)
    return "" if name.lower() in NO_ID else name


def plain_of(value: Any) -> str:
    """A single value as text, "" where there is none or only bytes; 12.0 as ``12``."""
    if type(value) is str:
        return value.strip()
    if value is None or value != value or isinstance(value, bytes):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def is_spoiled(name: str) -> bool:
    """Whether an id is in scientific notation, so that its last digits are gone."""
    return _SCIENTIFIC.fullmatch(name) is not None


def text_of(value: Any) -> str:
    """A text on one line without markup, of a list all entries; "" where there is none."""
    if isinstance(value, np.ndarray | list | tuple):
        return ", ".join(filter(None, map(text_of, value)))
    if isinstance(value, dict):
        return one_line(json.dumps(value, ensure_ascii=False, default=str))
    text = plain_of(value)
    return one_line(text) if text else ""


def list_of(value: Any) -> list[str]:
    """The entries of a list, however it is written: ``[..]`` in JSON or Python, ``a|b``, ``a, b``.

    Args:
        value: a list, or a text.
    """
    if isinstance(value, np.ndarray | list | tuple):
        return list(filter(None, map(plain_of, value)))
    text = plain_of(value)
    if text.startswith(("[", "(")) and text.endswith(("]", ")")):
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, list | tuple):
                return list_of(list(found))
        text = text[1:-1]
    mark = next((mark for mark in _SEPARATORS if mark in text), None)
    parts = text.split(mark)  # at blanks where there is no other mark
    return list(filter(None, (part.strip().strip("'\"") for part in parts)))


def decimal_comma(cells: Iterable[str], *, commas: bool) -> bool:
    """Whether numbers are written ``1.234,56``.

    Args:
        cells: all that are filled.
        commas: the file's separator is no comma, so that one is a decimal mark where both could be.

    Raises:
        DataError: some are written so and others ``1,234.56``.
    """
    german, english, either = "", "", False
    for cell in cells:
        at = cell.rfind(",")
        if at < 0:
            continue
        if cell.rfind(".") > at or cell.count(",") > 1:
            english = english or cell
        elif "." in cell or len(cell) - at - 1 != 3:
            german = german or cell
        else:
            either = True
    if german and english:
        raise DataError(f"{german!r} and {english!r} are numbers of different countries")
    return bool(german) or (either and not english and commas)


def number_of(text: str, comma: bool) -> float:
    """A number, perhaps with a currency and grouped digits; NaN where it is none."""
    text = _BLANKS.sub("", _MONEY.sub("", text.strip()).strip())
    if _GROUPED.fullmatch(text) and not comma:
        text = text.replace(",", "")
    elif comma and _WITH_COMMA.fullmatch(text):
        text = text.replace(".", "").replace(",", ".") if "," in text or _many(text) else text
    if not _PLAIN.fullmatch(text):
        return math.nan
    return float(text)


def without_scale(values: np.ndarray) -> np.ndarray:
    """``(n,)``: ratings such as ``4/5`` or ``80 %`` without what they are of, if that is one."""
    if values.dtype != object:
        return values
    texts = {value for value in values.tolist() if isinstance(value, str)}
    scales = {found[2].replace(" ", "") for text in texts if (found := _SCALED.fullmatch(text))}
    if len(scales) != 1:
        return values
    return each(values, lambda x: _SCALED.sub(r"\1", x) if isinstance(x, str) else x)


def _many(text: str) -> bool:
    return text.count(".") > 1


def numbers(values: np.ndarray, *, commas: bool) -> tuple[np.ndarray, np.ndarray]:
    """Cells as numbers.

    Args:
        values: ``(n,)`` of any form.
        commas: as ``decimal_comma``.

    Returns:
        ``(n,)`` float64, NaN where there is nothing, and ``(n,)`` bool: what is no finite number.

    Raises:
        DataError: as ``decimal_comma``.
    """
    if values.dtype.kind in "iufb":
        found = values.astype(np.float64)
        return np.where(np.isinf(found), np.nan, found), np.isinf(found)
    cells = each(values, _cell)
    empty = cells == ""
    filled = [cell for cell in pd.unique(cells) if cell]
    comma = decimal_comma(filled, commas=commas)
    found = each(cells, lambda cell: number_of(cell, comma), np.float64)
    found[~np.isfinite(found)] = np.nan
    return found, np.isnan(found) & ~empty


def _cell(value: Any) -> str:
    """A cell as text, "" for nothing; what is no single value stays visibly none."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Decimal):
        return str(value)
    text = str(value) if isinstance(value, np.ndarray | list | dict) else plain_of(value)
    return "" if text.lower() in NOTHING else text


def shown(value: Any) -> str:
    """A value as errors print it."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def listed(names: Sequence[str], most: int = 12) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

"""Columns of items or users as fields: what kind each is, by its values, and their values."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from legos.errors import DataError
from process.table.roles import plain
from process.table.times import COMPACT, TICKS, read_times
from process.table.values import each, list_of, numbers, shown, text_of

Kind = Literal["text", "category", "number", "list", "left out"]
KINDS: tuple[Kind, ...] = ("text", "category", "number", "list")
STANDARD: Mapping[str, Sequence[str]] = {  # what a field is called -> what people call it
    "title": (
        "title", "name", "titel", "bezeichnung", "artikelname", "produktname", "product_name",
        "movie_title", "item_name", "product_title", "标题", "名称", "商品名称", "商品标题",
        "产品名称",
    ),
    "description": (
        "description", "beschreibung", "desc", "produktbeschreibung", "描述", "商品描述",
        "简介", "详情",
    ),
    "abstract": ("abstract", "zusammenfassung", "摘要"),
    "brand": ("brand", "marke", "hersteller", "manufacturer", "品牌"),
    "price": ("price", "preis", "verkaufspreis", "价格", "单价", "售价"),
    "category": ("category", "kategorie", "warengruppe", "类别", "分类", "类目"),
    "authors": ("authors", "author", "autor", "autoren", "作者"),
    "age": ("age", "alter", "年龄"),
    "country": ("country", "land", "国家"),
    "gender": ("gender", "sex", "geschlecht", "性别"),
    "color": ("color", "colour", "farbe", "颜色"),
}  # fmt: skip
TEXTS = frozenset({"title", "description", "abstract"})
RESERVED = frozenset({"item_id", "user_id", "history", "impression_id", "synthetic", "split"})
_CODES = re.compile(r"(?:^|_)(?:id|ids|code|nr|no|ean|gtin|upc|isbn|zip|plz|number|nummer)$")
_LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_UNNAMED = re.compile(r"\(unnamed\)|unnamed: ?\d+|__index_level_\d+__", re.IGNORECASE)
_LISTED = re.compile(r"\[.*\]|\(.*\)")
_SAMPLE = 20_000  # filled values that decide on a kind
_MANY_WORDS = 4.0  # mean of a text
_MANY_SIGNS = 15.0  # where words have no blanks between them
_DIFFERENT = 0.5  # share of different values from which on words are a text
_MOST_CATEGORIES = 10_000


@dataclass(frozen=True)
class Field:
    """One column of a file, as a field of tables.

    Attributes:
        column: in the file.
        name: of the field.
        kind: of the field.
        why: what decided on it.
    """

    column: str
    name: str
    kind: Kind
    why: str


def choose_fields(
    columns: Mapping[str, np.ndarray], given: Mapping[str, Kind], *, commas: bool
) -> list[Field]:
    """What each column becomes.

    Args:
        columns: ``(n,)`` values each.
        given: column -> the kind that the user says.
        commas: as ``process.table.values.decimal_comma``.
    """
    taken: set[str] = set()
    fields = []
    for place, (column, values) in enumerate(columns.items(), start=1):
        name = _name(column, place, taken)
        kind, why = (given[column], "as declared") if column in given else ("left out", "")
        if column not in given:
            kind, why = _guess(name, values, commas=commas)
            if kind == "number" and _UNNAMED.fullmatch(column):
                kind, why = "left out", "numbers without a name, such as those of rows"
        fields.append(Field(column, name, kind, why))
        if kind != "left out":
            taken.add(name)
    return fields


def field_values(values: np.ndarray, field: Field, label: str, *, commas: bool) -> np.ndarray:
    """The values of a field: str with "" for nothing, or float32 with NaN.

    Raises:
        DataError: a number field holds what is no number.
    """
    if field.kind != "number":
        convert = _join if field.kind == "list" else text_of
        return each(values, convert)
    found, wrong = numbers(values, commas=commas)
    if wrong.all() or wrong.mean() > 0.5 or field.why.startswith("dates"):
        ticks, form, impossible = read_times(values, zoned=False)
        if not impossible.any() and (form >= 0).any():
            return np.where(form < 0, np.nan, ticks / (86_400 * TICKS)).astype(np.float32)
    with np.errstate(over="ignore"):
        single = found.astype(np.float32)
    wrong |= np.isinf(single)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{label}: number field {field.column!r}: {int(wrong.sum()):,} values are not "
            f"32-bit numbers, the first is {shown(values[row])}; --text or --category "
            f"{field.column} reads it as words"
        )
    return single


def _join(value: object) -> str:
    return ", ".join(map(text_of, list_of(value)))


def _guess(name: str, values: np.ndarray, *, commas: bool) -> tuple[Kind, str]:
    if values.dtype.kind in "iuf":
        return _of_numbers(name, values.astype(np.float64))
    if values.dtype.kind == "b":
        return "category", "yes or no"
    if values.dtype.kind == "M":
        return "number", "dates, in days since 1970"
    filled = _filled(values)
    if not len(filled):
        return "left out", "empty"
    if isinstance(filled[0], dict):
        return "left out", "objects"
    if isinstance(filled[0], np.ndarray | list | tuple):
        return "list", "lists"
    words = each(filled, text_of)
    if (words == "").all():
        return "left out", "empty"
    try:
        found, wrong = numbers(filled, commas=commas)
    except DataError:
        found, wrong = np.zeros(0), np.ones(1, dtype=bool)
    if not wrong.any():
        return _of_numbers(name, found)
    return _of_words(name, words)


def _filled(values: np.ndarray) -> np.ndarray:
    """At most ``_SAMPLE`` values that are there, from the whole column."""
    present = values[pd.notna(values)] if values.dtype == object else values
    if len(present) and isinstance(present[0], str):
        present = present[present != ""]
    step = max(1, len(present) // _SAMPLE)
    chosen: np.ndarray = present[::step]
    return chosen


def _of_numbers(name: str, found: np.ndarray) -> tuple[Kind, str]:
    known = found[~np.isnan(found)]
    if not len(known):
        return "left out", "empty"
    whole = bool((known % 1 == 0).all())
    different = len(np.unique(known))
    if whole and _CODES.search(name):
        if different > _DIFFERENT * len(known) and different > 50:
            return "left out", "numbers that name each row"
        return "category", "numbers that name something"
    if whole and set(np.unique(known)) <= {0.0, 1.0}:
        return "category", "0 or 1"
    return "number", "numbers"


def _of_words(name: str, words: np.ndarray) -> tuple[Kind, str]:
    filled = [word for word in words.tolist() if word]
    distinct = set(filled)
    if all(_LINK.fullmatch(word) for word in filled[:200]):
        return "left out", "links"
    if sum(map(bool, map(_LISTED.fullmatch, filled))) > 0.9 * len(filled):
        return "list", "lists in brackets"
    if sum("|" in word for word in filled) > 0.5 * len(filled):
        return "list", "values with | between them"
    array = np.array(filled, dtype=object)
    _, form, wrong = read_times(array, zoned=False)
    if not wrong.any() and (form >= COMPACT).all():
        return "number", "dates, in days since 1970"
    if name in TEXTS:
        return "text", f"called {name}"
    blanks = sum(word.count(" ") + 1 for word in filled) / len(filled)
    signs = sum(map(len, filled)) / len(filled)
    varied = len(distinct) > _DIFFERENT * len(filled) and len(distinct) > 10
    if _CODES.search(name) and varied and blanks < 1.5:
        return "left out", "words that name each row"
    if blanks >= _MANY_WORDS or (signs >= _MANY_SIGNS and varied):
        return "text", f"{blanks:.0f} words, {signs:.0f} characters"
    if varied or len(distinct) > _MOST_CATEGORIES:
        return "text", f"{len(distinct):,} different values"
    return "category", f"{len(distinct):,} different values"


def _name(column: str, place: int, taken: set[str]) -> str:
    """A field's name: letters, digits and underscores."""
    own = plain(column)
    for standard, others in STANDARD.items():
        if own in map(plain, others) and standard not in taken:
            return standard
    latin = unicodedata.normalize("NFKD", column.replace("ß", "ss")).encode("ascii", "ignore")
    name = re.sub(r"[^a-z0-9]+", "_", latin.decode().lower()).strip("_") or f"field_{place}"
    if name in RESERVED:
        name = f"{name}_"
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def given_kinds(
    texts: Sequence[str], categories: Sequence[str], numbers: Sequence[str], lists: Sequence[str]
) -> dict[str, Kind]:
    """Column -> kind as the options say.

    Raises:
        DataError: a column is given two kinds.
    """
    found: dict[str, Kind] = {}
    for kind, names in zip(KINDS, (texts, categories, numbers, lists), strict=True):
        for name in names:
            if found.setdefault(name, kind) != kind:
                raise DataError(f"--{kind} {name}: is given as --{found[name]} already")
    return found

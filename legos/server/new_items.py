"""New items of a request, by the fields of the data set or the columns of the user's own file."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter, ValidationError

from legos.server.refusals import Refusal, refuse, show, show_name
from legos.server.schemas import LONGEST_ID, Fault, Id, NewItem
from legos.server.served import Served

_ID = "item_id"
_AN_ID: TypeAdapter[str] = TypeAdapter(Id)


def rows_of(served: Served, items: Sequence[NewItem]) -> list[dict[str, Any]]:
    """The items by item_id and fields of the data set.

    Args:
        served: the run that they are added to.
        items: each field by its name or by the column of the file that the tables were made from.

    Raises:
        Refusal: an id is missing or taken, a field is unknown or given twice.
    """
    rows: list[dict[str, Any]] = []
    seen = set[str]()
    for place, item in enumerate(items):
        row = _named(served, place, item)
        name = row[_ID]
        if served.has_item(name) or name in seen:
            where = f"items.{place}.{_ID}"
            raise refuse(409, Fault(field=where, found=show(name), expected="a new id"))
        seen.add(name)
        rows.append(row)
    return rows


def _named(served: Served, place: int, item: NewItem) -> dict[str, Any]:
    """One item by the names of the data set."""
    own, row = served.own_columns, dict[str, Any]()
    known = [_ID, *served.fields]
    given = {} if item.item_id is None else {_ID: item.item_id}
    for name, value in (given | (item.model_extra or {})).items():
        field = name if name in known else own.get(name, name)
        where = f"items.{place}.{show_name(name)}"
        if field not in known:
            raise refuse(422, _unknown(where, name, known, own))
        if field in row:
            expected = f"either {name} or {field}"
            raise refuse(422, Fault(field=where, found="a second value", expected=expected))
        row[field] = _as_id(where, value) if field == _ID else value
    if _ID not in row:
        column = next((column for column, field in own.items() if field == _ID), None)
        expected = "an id" + (f" (or {column}, the column of your file)" if column else "")
        raise refuse(422, Fault(field=f"items.{place}.{_ID}", found="nothing", expected=expected))
    return row


def _unknown(where: str, name: str, known: Sequence[str], own: dict[str, str]) -> Fault:
    columns = {field: column for column, field in own.items()}
    both = [f"{each} (or {columns[each]})" if each in columns else each for each in known]
    return Fault(
        field=where,
        found="an unknown field",
        expected=f"only {', '.join(both)}",
        nearest=get_close_matches(name, [*known, *own], n=1),
    )


def _as_id(where: str, value: Any) -> str:
    try:
        return _AN_ID.validate_python(value, strict=True)
    except ValidationError:
        expected = f"a text of 1 to {LONGEST_ID:,} characters, or a whole number"
        raise refuse(422, Fault(field=where, found=show(value), expected=expected)) from None


def refuse_too_many(served: Served, count: int, most: int) -> None:
    """Refuse more items than a server keeps."""
    if len(served.added) + count > most:
        raise Refusal(
            409,
            f"items: {len(served.added):,} were added already, the maximum is "
            f"{most:,} (--max-new-items); train a run with them",
        )

"""Files of items or users: one row each, read whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from legos.errors import DataError
from process.bad_lines import BadLine, BadLines
from process.table.fields import Field, Kind, choose_fields, field_values
from process.table.joining import refuse_two_writings
from process.table.roles import find_column, find_roles, plain
from process.table.sources import Source
from process.table.values import each, id_of, is_spoiled, shown
from process.ties import by_hash

FURTHER: Mapping[
    str, Mapping[str, Sequence[str]]
] = {  # usual names of a role in files of items and of users alone
    "item": {"item": ("id", "编号", "nr", "nummer", "code")},
    "user": {"user": ("id", "编号", "nr", "nummer")},
}


@dataclass
class Rows:
    """What files say of items or users, one row each.

    Attributes:
        ids: as they stand there.
        first: the place of each, to begin a message with.
        values: one column a field, str or float32.
        fields: what became of every column.
        column: that has the ids.
        label: what the first file is called.
        oddities: counts.
    """

    ids: list[str]
    first: list[str]
    values: pd.DataFrame
    fields: list[Field]
    column: str
    label: str
    oddities: dict[str, int] = field(default_factory=dict)

    @property
    def source_columns(self) -> dict[str, str]:
        """``item_id`` and fields -> their columns, where these are called otherwise."""
        kept = {each.name: each.column for each in self.fields if each.kind != "left out"}
        named = {"item_id": self.column, **kept}
        return {name: column for name, column in named.items() if name != column}

    def named(self, *kinds: Kind) -> tuple[str, ...]:
        """Names of the fields of some kinds."""
        return tuple(each.name for each in self.fields if each.kind in kinds)


def read_rows(
    sources: Sequence[Source],
    role: str,
    *,
    given: str | None,
    kinds: Mapping[str, Kind],
    leave_out: Sequence[str] = (),
    bad: BadLines,
) -> Rows:
    """Read all rows; of several with one id the fullest counts, wherever it stands.

    Args:
        sources: the files.
        role: ``item`` or ``user``.
        given: what the user calls the column of ids; every source has it, or one of a usual name.
        kinds: column -> kind, as the user says.
        leave_out: columns that the user does not want.
        bad: counts the lines that cannot be read.

    Raises:
        DataError: a damaged file, too many bad lines, or most ids are repeated.
    """
    column, blocks = "", []
    for source in sources:
        name, read = _read(source, role, given=given, leave_out=leave_out, bad=bad)
        column = column or name
        blocks += read
    label = sources[0].label
    if not sum(len(block.ids) for block in blocks):
        bad.check()
        raise DataError(f"{label}: no line can be read")
    columns = _joined([block.columns for block in blocks], [len(block.ids) for block in blocks])
    every = np.concatenate([block.ids for block in blocks])
    at = [block.source.at(line) for block in blocks for line in block.lines.tolist()]
    kept, twice = _fullest(every, columns)
    refuse_two_writings({every[row]: row for row in kept.tolist()}, at.__getitem__)
    if twice > 0.5 * len(every):
        raise _mostly_repeated(label, role, column, twice, len(every))
    kept = kept[by_hash(every[kept])]  # lines in another order choose the same kinds
    columns = {name: found[kept] for name, found in columns.items()}
    same = {plain(name): name for name in columns}
    said = {same[plain(name)]: kind for name, kind in kinds.items() if plain(name) in same}
    commas = all(source.commas for source in sources)
    fields = choose_fields(columns, said, commas=commas)
    values = {
        field.name: field_values(columns[field.column], field, label, commas=commas)
        for field in fields
        if field.kind != "left out"
    }
    oddities = {f"{role}s described again, the fullest line kept": twice} if twice else {}
    return Rows(
        ids=every[kept].tolist(),
        first=[at[row] for row in kept.tolist()],
        values=pd.DataFrame(values, index=range(len(kept))),
        fields=fields,
        column=column,
        label=label,
        oddities=oddities,
    )


def _mostly_repeated(label: str, role: str, column: str, twice: int, lines: int) -> DataError:
    other = "events" if role == "item" else "items or events"
    return DataError(
        f"{label}: {twice:,} of {lines:,} lines have an id ({column!r}) that another line has; is "
        f"this the file of {other}? --{role} COLUMN names the column of ids"
    )


@dataclass(frozen=True)
class _Block:
    """Rows of a source that have an id.

    Attributes:
        source: where they stand.
        ids, lines: ``(n,)`` each.
        columns: the others by name, ``(n,)`` each.
    """

    source: Source
    ids: np.ndarray
    lines: np.ndarray
    columns: dict[str, np.ndarray]


def _read(
    source: Source, role: str, *, given: str | None, leave_out: Sequence[str], bad: BadLines
) -> tuple[str, list[_Block]]:
    """The column of ids of a source, and its rows."""
    column = find_roles(source, {role: given}, wanted=[role], further=FURTHER[role])[role]
    unwanted = {find_column(source, name, "--leave-out") for name in leave_out} | {column}
    names = [name for name in source.names if name not in unwanted]
    blocks = []
    for block in source.blocks([column, *names], bad):
        ids = each(block.columns[column], id_of)
        good = _good(source, ids, block.lines, column, bad)
        kept = {name: block.columns[name][good] for name in names}
        blocks.append(_Block(source, ids[good], block.lines[good], kept))
    return column, blocks


def _good(
    source: Source, ids: np.ndarray, lines: np.ndarray, column: str, bad: BadLines
) -> np.ndarray:
    """``(n,)`` bool: the rows that have an id."""
    for row in np.flatnonzero(ids == "").tolist():
        at = source.at(int(lines[row]))
        bad.add(BadLine(at, f"no {column!r}", f"no {column!r}, so it is nothing's line"))
    spoiled = each(ids, is_spoiled, bool)
    if spoiled.any():
        row = int(spoiled.argmax())
        raise DataError(
            f"{source.at(int(lines[row]))}: id {shown(ids[row])} is in scientific notation: a "
            "spreadsheet has dropped its last digits; export the column as text"
        )
    good: np.ndarray = ids != ""
    return good


def _joined(
    parts: Sequence[Mapping[str, np.ndarray]], sizes: Sequence[int]
) -> dict[str, np.ndarray]:
    """Columns of all blocks, None where a block has none of a name."""
    names = list(dict.fromkeys(name for part in parts for name in part))
    joined = {}
    for name in names:
        blocks = [
            part[name] if name in part else np.full(size, None, dtype=object)
            for part, size in zip(parts, sizes, strict=True)
        ]
        if len({block.dtype for block in blocks}) > 1:
            blocks = [block.astype(object) for block in blocks]
        joined[name] = np.concatenate(blocks)
    return joined


def _fullest(ids: np.ndarray, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, int]:
    """``(k,)`` the row of each id in order of first appearance, and how many rows are left out."""
    repeated = pd.Series(ids).duplicated(keep=False).to_numpy()
    best: dict[str, tuple[tuple[int, int, list[str]], int]] = {}
    for row in np.flatnonzero(repeated).tolist():
        cells = [str(values[row]) for values in columns.values() if not _is_empty(values[row])]
        fullness = (len(cells), sum(map(len, cells)), cells)
        best[ids[row]] = max(best.get(ids[row], (fullness, row)), (fullness, row), key=_first)
    keep = ~repeated
    keep[[row for _, row in best.values()]] = True
    return np.flatnonzero(keep), int((~keep).sum())


def _first(entry: tuple[tuple[int, int, list[str]], int]) -> tuple[int, int, list[str]]:
    return entry[0]


def _is_empty(value: object) -> bool:
    if isinstance(value, np.ndarray | list | tuple | dict):
        return not len(value)
    return value is None or value == "" or value != value

"""``exp.compare``: the sections that it names are put into the experiment; a curve over its rows.

An entry is a name, or a mapping that names a section (``model: naml``) beside keys that override
its own; ``data`` beside a model names its data, ``train`` overrides keys of ``exp.train`` for it.
``compare.data`` names data of the comparison's own: ``cs: {data: goodreads, fields: ...}``.
``cross`` of a model stands for many rows: of each of its mappings, from words to keys of the model,
one word is chosen; a row is called after its words. ``without`` names rows to leave out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import PurePath
from typing import Any

from legos.config.compare_schema import ComparedModel
from legos.config.document import Document, KeyPath, merge
from legos.config.model_schema import SystemModel
from legos.config.models import put_over, read_section, write_out
from legos.config.overrides import Arguments
from legos.config.references import referenced_variables, resolve
from legos.config.schema import RunConfig
from legos.config.yaml_files import KINDS
from legos.errors import ConfigError, nearest

OF_THE_ROW = tuple(key for key in ComparedModel.model_fields if key not in SystemModel.model_fields)
"""Keys of an entry that are none of its model's."""
_COMPARE: KeyPath = ("exp", "compare")
_NAMES = tuple(f"{kind}.name" for kind in KINDS)
_LISTS = {"model": "models", "embed": "embeds"}  # by kind the key of exp.compare


def read_compared(run: Document, arguments: Arguments) -> dict[str, int]:
    """Put sections where ``exp.compare`` names them; returns how many there are by kind.

    The experiment has a mapping ``compare``. A ``--model`` or ``--embed`` of the command line
    takes the place of all.

    Raises:
        ConfigError: a section is not there or cannot be read.
    """
    compare = run.data["exp"]["compare"]
    counts: dict[str, int] = {}
    own = Document({}, {})
    if isinstance(compare.get("data"), dict):
        own = run.part((*_COMPARE, "data"))
        del compare["data"]
    for kind, key in _LISTS.items():
        if kind in arguments.yamls and key in compare:
            compare[key] = [arguments.yamls[kind]]
        entries = compare.get(key)
        if not isinstance(entries, list) or not all(
            isinstance(entry, str | dict) for entry in entries
        ):
            continue  # the schema says what is wrong
        if kind == "model":
            _write_out_crosses(run)
            _leave_out(run)
        for index in range(len(entries)):
            place: KeyPath = (*_COMPARE, key, str(index))
            _read_entry(run, place, kind, arguments)
            if kind == "model":
                _read_row(run, place, own, arguments)
        counts[kind] = len(entries)
    return counts


def copies(run: Document, kind: str, counts: Mapping[str, int]) -> Iterator[KeyPath]:
    """Where ``exp.compare`` holds further sections of a kind."""
    for index in range(counts.get("model" if kind == "data" else kind, 0)):
        prefix: KeyPath = (*_COMPARE, _LISTS.get(kind, "models"), str(index))
        if kind != "data":
            yield prefix
        elif isinstance(run.data["exp"]["compare"]["models"][index].get("data"), dict):
            yield (*prefix, "data")


def _write_out_crosses(run: Document) -> None:
    """Put the rows of each ``cross`` in its place."""
    given = _rows(run)
    _put_rows(run, [row for index, entry in enumerate(given) for row in _crossed(entry, index)])


def _rows(run: Document) -> list[Document]:
    """The entries of ``exp.compare.models``."""
    count = len(run.data["exp"]["compare"]["models"])
    return [run.part((*_COMPARE, "models", str(index))) for index in range(count)]


def _put_rows(run: Document, rows: Sequence[Document]) -> None:
    """Put entries in the place of all those of ``exp.compare.models``."""
    run.data["exp"]["compare"]["models"][:] = [{} for _ in rows]
    for index, row in enumerate(rows):
        run.put((*_COMPARE, "models", str(index)), row)


def _crossed(entry: Document, index: int) -> Iterator[Document]:
    """The rows that an entry stands for."""
    if not isinstance(entry.data, dict) or "cross" not in entry.data:
        yield entry
        return
    lines = entry.data["cross"]
    if not isinstance(lines, list) or not all(
        isinstance(line, dict) and line and all(isinstance(keys, dict) for keys in line.values())
        for line in lines
    ):
        raise ConfigError(
            f"{entry.place(('cross',))}: exp.compare.models.{index}.cross: expected a list of "
            "mappings, each from words to keys of the model, such as [{a: {lr: 0.1}, b: {lr: 1}}]"
        )
    for words in product(*lines):
        row = entry.part(())
        del row.data["cross"]
        for number, word in enumerate(words):
            merge(row, entry.part(("cross", str(number), word)))
        yield Document({**row.data, "name": "-".join(words)}, row.places)


def _leave_out(run: Document) -> None:
    """Drop the rows that ``exp.compare.without`` names, and the key."""
    compare = run.data["exp"]["compare"]
    if "without" not in compare:
        return
    key = (*_COMPARE, "without")
    where = f"{run.place(key)}: {'.'.join(key)}"
    unwanted = compare.pop("without")
    if unwanted is None:
        return
    if not isinstance(unwanted, list) or not all(isinstance(name, str) for name in unwanted):
        raise ConfigError(f"{where}: expected a list of names of rows, found {unwanted!r}")
    rows = _rows(run)
    names = [_row_name(row.data) for row in rows]
    for name in unwanted:
        if name not in names:
            raise ConfigError(f"{where}: no row is called {name!r}; {nearest(name, names)}")
    kept = [row for row, name in zip(rows, names, strict=True) if name not in unwanted]
    if not kept:
        raise ConfigError(f"{where}: no row is left")
    _put_rows(run, kept)


def _row_name(entry: Any) -> str:
    """The name of a row that is not read yet: its own, else that of its YAML."""
    name = entry.get("name", entry.get("model")) if isinstance(entry, dict) else entry
    return PurePath(str(name)).stem


def _read_entry(run: Document, place: KeyPath, kind: str, arguments: Arguments) -> None:
    """Write out a section in place; one without a name is written out already."""
    given = run.part(place)
    entry: Any = given.data
    name = entry.get(kind) if isinstance(entry, dict) else entry
    if isinstance(entry, dict) and ("system" in entry or name is None):
        return  # key `model` of a system names a language model
    try:
        if not isinstance(name, str):
            raise ConfigError(f"expected the name or path of a {kind} YAML, found {name!r}")
        section = read_section(kind, _name_meant(name, run.place(place), arguments))
    except ConfigError as error:
        raise ConfigError(f"{run.place(place)}: {'.'.join(place)}: {error}") from None
    if isinstance(entry, dict):
        del entry[kind]
        if kind == "model":
            put_over(section, given)
            write_out(section)
        else:
            merge(section, given)
    run.put(place, section)


def _name_meant(name: str, place: str, arguments: Arguments) -> str:
    """The name of a section after its ``${...}``, which only variables can fill this early."""
    arguments.in_names.update(referenced_variables(name))
    alone = Document({"exp": {"name": name}}, {("exp", "name"): place})
    return str(resolve(alone, arguments.variables).data["exp"]["name"])


def _read_row(run: Document, place: KeyPath, own: Document, arguments: Arguments) -> None:
    """Write out the data of a row."""
    row = run.part(place).data
    data, where = row.get("data"), (*place, "data")
    if isinstance(data, str) and data in own.data:
        run.put(where, own.part((data,)))
    if data is not None:
        _read_entry(run, where, "data", arguments)


@dataclass(frozen=True)
class Curve:
    """Rows of a comparison that differ in one number.

    Attributes:
        key: dotted key of the number.
        values: by the row's label, ascending.
    """

    key: str
    values: dict[str, float]


def comparison_curve(config: RunConfig) -> Curve | None:
    """What ``exp.compare.curve`` asks for; None where it asks for nothing.

    Rows lie on the curve where all but their names and that number is the same; of several such
    sets it is the largest.

    Raises:
        ConfigError: there are no two such rows with different numbers.
    """
    key = config.exp.compare.curve if config.exp.compare else None
    if key is None:
        return None
    sets: dict[str, dict[str, float]] = {}
    known: dict[str, float] = {}
    for row in config.rows():
        plain = dict(_flat(row.runs[0].model_dump(mode="json")))
        numbers = {name: each for name, each in plain.items() if type(each) in (int, float)}
        known |= numbers
        if key in numbers:
            rest = {name: each for name, each in plain.items() if name not in (key, *_NAMES)}
            same = sets.setdefault(json.dumps(rest, sort_keys=True), {})
            same[row.label] = numbers[key]
    if not sets:
        raise ConfigError(f"exp.compare.curve: no row has a number {key!r}; {nearest(key, known)}")
    found = max(sets.values(), key=len)
    if len(set(found.values())) < 2:
        raise ConfigError(
            f"exp.compare.curve: no two rows differ in {key} alone; name the same model twice in "
            "exp.compare.models, with other names and numbers"
        )
    return Curve(key, dict(sorted(found.items(), key=lambda entry: entry[1])))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every leaf in a tree of mappings and lists."""
    if not isinstance(value, dict | list) or not value:
        yield prefix, value
        return
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _flat(each, f"{prefix}.{key}" if prefix else str(key))

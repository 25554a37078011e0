"""``exp.compare`` before it is checked: the content of each section that it names is put there.

An entry is a name, or a mapping that names a section (``model: naml``) beside keys that override
its own; ``data`` beside a model names its data, ``train`` overrides keys of ``exp.train`` for it.
``compare.data`` names data of the comparison's own: ``cs: {data: goodreads, fields: ...}``.
``cross`` of a model stands for many rows: of each of its mappings, from words to keys of the model,
one word is chosen; a row is called after its words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from legos.config.model_schema import ComparedModel, SystemModel
from legos.config.models import put_over, write_out
from legos.config.overrides import Arguments
from legos.config.sections import read_section
from legos.config.yaml_files import Document, KeyPath, merge
from legos.errors import ConfigError

OF_THE_ROW = tuple(key for key in ComparedModel.model_fields if key not in SystemModel.model_fields)
"""Keys of an entry that are none of its model's."""
_COMPARE: KeyPath = ("exp", "compare")
_LISTS = {"model": "models", "embed": "embeds"}  # by kind the key of exp.compare


def read_compared(run: Document, arguments: Arguments) -> dict[str, int]:
    """Put sections where ``exp.compare`` names them; returns how many there are by kind.

    A ``--model`` or ``--embed`` of the command line takes the place of all.

    Raises:
        ConfigError: a section is not there or cannot be read.
    """
    compare = run.data["exp"].get("compare")
    counts: dict[str, int] = {}
    if not isinstance(compare, dict):
        return counts
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
        for index in range(len(entries)):
            place: KeyPath = (*_COMPARE, key, str(index))
            _read_entry(run, place, kind)
            if kind == "model":
                _read_row(run, place, own)
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
    entries = run.data["exp"]["compare"]["models"]
    given = [run.part((*_COMPARE, "models", str(index))) for index in range(len(entries))]
    rows = [row for index, entry in enumerate(given) for row in _crossed(entry, index)]
    entries[:] = [{} for _ in rows]
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


def _read_entry(run: Document, place: KeyPath, kind: str) -> None:
    """Write out a section in place; one without a name is written out already."""
    given = run.part(place)
    entry: Any = given.data
    name = entry.get(kind) if isinstance(entry, dict) else entry
    if isinstance(entry, dict) and ("system" in entry or name is None):
        return  # key `model` of a system names a language model
    try:
        if not isinstance(name, str):
            raise ConfigError(f"expected the name or path of a {kind} YAML, found {name!r}")
        section = read_section(kind, name)
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


def _read_row(run: Document, place: KeyPath, own: Document) -> None:
    """Write out the data and the training of a row."""
    row = run.part(place).data
    if isinstance(row.get("train"), dict) and "train" in run.data["exp"]:
        train = run.part(("exp", "train"))
        merge(train, run.part((*place, "train")))
        run.put((*place, "train"), train)
    data, where = row.get("data"), (*place, "data")
    if isinstance(data, str) and data in own.data:
        run.put(where, own.part((data,)))
    if data is not None:
        _read_entry(run, where, "data")

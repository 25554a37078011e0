"""The logs that ONCE published become answers of a store.

A summary is a line ``id TAB [mark] text``; everything else is JSON lines ``{"uid", "interest" |
"topics" | "news" | "book"}``, the value a list, an object, or a string that is JSON again or text
with marks (``[topics]``, ``[region]``) and a list below each. Models copied remarks of the prompt,
too: ``[region] (optional)`` is the mark, and no region. The scripts that wrote the logs were
resumed and asked again what they found too poor, so an id can stand on several lines: the last good
one counts. Nothing is dropped in silence: every line is counted, and what cannot be read is counted
by its reason.

The models saw whole histories, held-out items included: answers about users have the source
``published`` and leak the targets.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from legos.errors import ConfigError, DataError
from legos.files import sha256_of_text
from process.genre.answers import AnswerError, now, read_answer
from process.genre.scheme import Scheme
from process.genre.types import Answer, whole_characters

PUBLISHED = "published"
MODEL = "gpt-3.5-turbo"  # ONCE's, for all of its logs
_RETRY = "is a book."  # what ONCE's script took for no answer and asked again
_MARK = re.compile(r"^\s*\[(\w+)\]\s*", re.MULTILINE)
_HEADER = re.compile(
    r"^[^\S\n]*[*#]*[^\S\n]*\[(\w+)\][*]*(?:[^\S\n]*\([^)\n]*\))*[^\S\n]*:?[^\S\n]*", re.MULTILINE
)
_BULLET = re.compile(r"^\s*(?:[-*•–]+|\(?\d+[.)])\s*")
_REMARK = re.compile(r"\(?\s*\b(?:optional|if any|left? blank|blank)\b\s*\)?", re.IGNORECASE)
_NONE = frozenset(
    {"", "none", "n/a", "na", "nil", "null", "unknown", "unclear", "unspecified", "empty",
     "not applicable", "not available", "not specified", "no region", "no specific region"}
)  # fmt: skip
_SEPARATOR = re.compile(r"\s*[;,](?!\s*D\.?\s?C\b)\s*")  # "Washington, D.C." is one place
_REGION_KEYS = ("region", "regions")
_OTHER_NAMES = {"regions": "region", "topic": "topics", "interest": "interests"}
_VALUE_KEYS = ("interest", "interests", "topics", "news", "book")


@dataclass
class Log:
    """One log, read."""

    path: Path
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last good answer of every key."""
    texts: dict[str, str] = field(default_factory=dict)
    """Its text as the log has it."""
    rows: int = 0
    duplicates: int = 0
    """Readable rows whose key had occurred before."""
    retries: int = 0
    """Rows that ONCE's script took for no answer."""
    bad: Counter[str] = field(default_factory=Counter)
    """Rows that cannot be used, by reason."""
    bad_lines: list[int] = field(default_factory=list)
    """1-based numbers of the first ten of them."""
    notes: Counter[str] = field(default_factory=Counter)
    """What was put right in the answers that are used."""

    def describe(self) -> str:
        """One line, and one for every reason."""
        lines = [
            f"{self.path}: {self.rows:,} rows, {len(self.values):,} answers, "
            f"{self.duplicates:,} duplicates, {self.retries:,} retries, "
            f"{self.bad.total():,} bad rows"
        ]
        lines += [f"  bad: {reason}: {count:,}" for reason, count in self.bad.most_common()]
        if self.bad_lines:
            lines.append(f"  first bad lines: {', '.join(map(str, self.bad_lines))}")
        lines += [f"  put right: {note}: {count:,}" for note, count in self.notes.most_common()]
        return "\n".join(lines)


def read_log(path: Path, scheme: Scheme, users: Mapping[str, str] | None = None) -> Log:
    """Read one of ONCE's logs as the answers of a scheme.

    Args:
        path: the log.
        scheme: decides the format and the keys of an answer.
        users: raw user id by the log's ``uid``; without it the ``uid`` is the raw id.

    Raises:
        DataError: no such file, or not one of its lines is an answer.
        ConfigError: there are no logs of this kind.
    """
    parse = _parser(scheme)
    log = Log(path)
    good: dict[str, bool] = {}
    for number, line in _lines(path):
        log.rows += 1
        try:
            if not line.strip():
                raise AnswerError("blank line")
            key, text, value = parse(line)
            if users is not None:
                key = _known_user(key, users)
            value, left_out = _fitted(value, scheme)
            parsed = read_answer(json.dumps(value), scheme.answer_schema_of_import())
            parsed.notes.extend(left_out)
        except AnswerError as error:
            log.bad[_kind(error.reason)] += 1
            log.bad_lines += [number] if len(log.bad_lines) < 10 else []
            continue
        retry = scheme.task == "summary" and text.rstrip().endswith(_RETRY)
        log.retries += retry
        log.duplicates += key in log.values
        if retry and good.get(key):
            continue
        good[key] = not retry
        log.values[key], log.texts[key] = parsed.value, whole_characters(text)
        log.notes.update(re.sub(r"\d+", "N", note) for note in parsed.notes)
    if not log.values:
        raise DataError(f"{path}: no line is an answer of {scheme.name}\n{log.describe()}")
    return log


def answers_of(log: Log, scheme: Scheme, *, number: int = 1) -> Iterator[Answer]:
    """The lines of a store for a log.

    Args:
        log: a log.
        scheme: what it was read as.
        number: of a generator's log: which round it is.
    """
    for raw, value in log.values.items():
        key = f"{raw}#{number}" if scheme.task == "generator" else raw
        yield {
            "hash": sha256_of_text(json.dumps([PUBLISHED, scheme.name, key])),
            "key": key,
            "scheme": scheme.name,
            "version": 0,
            "source": PUBLISHED,
            "model": MODEL,
            "parameters": {},
            "answer": value,
            "text": log.texts[raw],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0},
            "seconds": 0.0,
            "time": now(),
            "notes": [],
        }


def read_user_ids(path: Path) -> dict[str, str]:
    """Raw user id by ONCE's ``uid``.

    The file is UniTok v3's ``tok.uid.dat`` (line i is user i) or a table with the columns
    ``uid_index`` and ``user_id``, TAB between them.

    Raises:
        DataError: no such file, or neither.
    """
    if not path.is_file():
        raise DataError(f"--user-ids {path}: no such file")
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    header = lines[0].split("\t")
    if len(header) == 1:
        return {str(row): user for row, user in enumerate(lines)}
    if not {"uid_index", "user_id"} <= set(header):
        raise DataError(f"{path}:1: found {header}, expected the columns uid_index and user_id")
    index, user = header.index("uid_index"), header.index("user_id")
    rows = [line.split("\t") for line in lines[1:]]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(f"{path}:{number}: {len(row)} columns, expected {len(header)}")
    return {row[index]: row[user] for row in rows}


def _parser(scheme: Scheme) -> Callable[[str], tuple[str, str, dict[str, Any]]]:
    if scheme.task == "summary":
        name = next(iter(scheme.answer["properties"]))
        return lambda line: _summary(line, name)
    if scheme.task == "compressor":
        raise ConfigError(f"--scheme {scheme.name}: ONCE published no such log")
    return lambda line: _json_line(line, scheme)


def _summary(line: str, name: str) -> tuple[str, str, dict[str, Any]]:
    """``id TAB [mark] text``."""
    key, tab, text = line.partition("\t")
    if not tab or not key.strip():
        raise AnswerError("no id and TAB")
    found = _MARK.match(text)
    if found and found[1] != name:
        raise AnswerError(f"mark [{found[1]}] in place of [{name}]")
    plain = text[found.end() :] if found else text
    if not plain.strip():
        raise AnswerError("empty answer")
    return key.strip(), text, {name: " ".join(plain.split())}


def _json_line(line: str, scheme: Scheme) -> tuple[str, str, dict[str, Any]]:
    """``{"uid": 0, <key>: value}``; the value can be JSON again, or text with marks."""
    try:
        row = json.loads(line)
    except ValueError:
        raise AnswerError("the line is not JSON") from None
    if not isinstance(row, dict) or isinstance(row.get("uid"), bool | float | None | list | dict):
        raise AnswerError("no uid")
    names = [name for name in _VALUE_KEYS if name in row]
    if not names:
        raise AnswerError(f"none of the keys {', '.join(_VALUE_KEYS)}")
    value = row[names[0]]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, str):
        value = _inner(value, scheme)
    if isinstance(value, list):
        value = {_list_key(scheme): value}
    if not isinstance(value, dict):
        raise AnswerError(f"the answer is a {type(value).__name__}")
    beside = {name: row[name] for name in _REGION_KEYS if name in row}
    return str(row["uid"]), text, {**beside, **value}


def _fitted(value: Mapping[str, Any], scheme: Scheme) -> tuple[dict[str, Any], list[str]]:
    """An answer by the scheme's names and types, and what is left out for that.

    Published lists are ordered, the strongest first: of a list the first entry stands where the
    scheme has one text. An entry like ``none`` is no entry.
    """
    known = scheme.answer["properties"]
    fitted: dict[str, Any] = {}
    notes = []
    for given, part in value.items():
        name = given if given in known else _OTHER_NAMES.get(given.lower(), given)
        kind = known.get(name, {}).get("type")
        if kind in ("array", "string") and name in _REGION_KEYS:
            part = _places(part)
        if kind == "string" and isinstance(part, list):
            if len(part) > 1:
                notes.append(f"{name}: {len(part) - 1} further entries left out")
            part = part[0] if part else None
        if part is not None:
            fitted[name] = part
    return fitted, notes


def _places(part: Any) -> Any:
    """The regions of a list, or of one text that lists them; what says "none" is left out."""
    if part is None or isinstance(part, str):
        part = _SEPARATOR.split(part or "")
    if not isinstance(part, list):
        return part
    cleaned = [_without_remark(entry) if isinstance(entry, str) else entry for entry in part]
    return [entry for entry in cleaned if str(entry).lower().strip(" .") not in _NONE]


def _without_remark(entry: str) -> str:
    return _REMARK.sub("", entry).strip(" :*\t")


def _inner(text: str, scheme: Scheme) -> Any:
    try:
        return json.loads(text, strict=False)
    except ValueError:
        pass
    if _HEADER.search(text):
        return _marked(text, scheme)
    try:
        return read_answer(text, {"type": "object"}).value
    except AnswerError as error:
        raise AnswerError(f"inside the string: {error.reason}") from None


def _marked(text: str, scheme: Scheme) -> dict[str, list[str]]:
    """``[topics]`` and ``[region]``, each with a list below it or behind it."""
    known = scheme.answer["properties"]
    pieces = _HEADER.split(text)
    found: dict[str, list[str]] = {}
    for given, part in zip(pieces[1::2], pieces[2::2], strict=True):
        name = given.lower() if given.lower() in known else _OTHER_NAMES.get(given.lower(), "")
        if name not in known:
            continue
        lines = [_without_remark(_BULLET.sub("", line)) for line in part.splitlines()]
        entries = [entry.strip() for line in lines for entry in _SEPARATOR.split(line)]
        found.setdefault(name, []).extend(e for e in entries if e.lower() not in _NONE)
    return found


def _list_key(scheme: Scheme) -> str:
    for name, part in scheme.answer["properties"].items():
        if part["type"] == "array":
            return str(name)
    raise AnswerError("the answer is a list")


def _known_user(key: str, users: Mapping[str, str]) -> str:
    if key not in users:
        raise AnswerError("uid is in no row of --user-ids")
    return users[key]


def _kind(reason: str) -> str:
    """A reason without what is of one row only, so that rows can be counted."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "…", reason)[:120]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}:{number}: not UTF-8 ({error.reason})") from None
            yield number, line

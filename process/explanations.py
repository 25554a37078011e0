"""Published explanations out of pickles, as JSON lines that ``legos.systems.recsysllm`` reads.

Two forms. NLG4RS (NETE, PETER): a list of records with ``user``, ``item`` and ``template``, the
tuple (feature, opinion, sentence, sentiment). P5: a list, or a dict of lists by split, of records
with ``reviewerID``, ``asin``, ``feature`` and ``explanation``. Nothing in a pickle is run. The
mining tool sometimes finds no sentence and does not say so; such records are left out and counted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from legos.command_line import CommandParser
from legos.errors import DataError
from legos.files import write_text
from process.command import run_cli
from process.restricted_pickle import restricted_load

DESCRIPTION = """\
Convert pickles of published explanation data to JSON lines with user, item, rating, feature,
opinion, sentence and sentiment. Pickles are read without executing them; pickles that load classes
are refused.
"""


def read_published(path: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Records of a pickle in one form.

    Returns:
        records, and counts: ``records``, ``without a sentence``, ``without a feature`` (both left
        out).

    Raises:
        DataError: missing, damaged, refused, or of no known form; names the record.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open("rb") as handle:
        content = restricted_load(handle, str(path))
    found: list[dict[str, Any]] = []
    counts = {"records": 0, "without a sentence": 0, "without a feature": 0}
    for where, record in _records(path, content):
        one = _common(where, record)
        counts["records"] += 1
        if not one["sentence"]:
            counts["without a sentence"] += 1
        elif not one["feature"]:
            counts["without a feature"] += 1
        else:
            found.append(one)
    if not found:
        raise DataError(
            f"{path}: {counts['records']:,} records, but none has a sentence and a feature; is it "
            "mined data?"
        )
    return found, counts


def write_published(source: Path, output: Path) -> dict[str, int]:
    """Read a pickle and write its records, whole or not at all; returns the counts.

    Raises:
        DataError: as :func:`read_published`.
    """
    records, counts = read_published(source)
    lines = (json.dumps(record, ensure_ascii=False) for record in records)
    write_text(output, "\n".join(lines) + "\n")
    return counts


def _records(path: Path, content: Any) -> Iterator[tuple[str, Any]]:
    parts = content if isinstance(content, dict) else {"": content}
    for name, records in parts.items():
        if not isinstance(records, list):
            raise DataError(
                f"{path}: {name or 'content'} is a {type(records).__name__}, expected a list of "
                "records or a dict of such lists"
            )
        for number, record in enumerate(records):
            yield f"{path}: record {number}{f' of {name}' if name else ''}", record


def _common(where: str, record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise DataError(f"{where}: a {type(record).__name__}, expected a dict")
    if {"user", "item", "template"} <= record.keys():
        template = record["template"]
        if not isinstance(template, tuple | list) or len(template) < 3:
            raise DataError(
                f"{where}: template is {template!r}, expected (feature, opinion, sentence, "
                "sentiment)"
            )
        feature, opinion, sentence, *rest = template
        return _one(
            record["user"], record["item"], record.get("rating"), feature, opinion, sentence,
            rest[0] if rest else 0,
        )  # fmt: skip
    if {"reviewerID", "asin"} <= record.keys():
        return _one(
            record["reviewerID"], record["asin"], record.get("overall"), record.get("feature"), "",
            record.get("explanation"), 0,
        )  # fmt: skip
    raise DataError(
        f"{where}: keys {', '.join(map(str, record)) or 'none'}; expected user, item, template or "
        "reviewerID, asin, feature, explanation"
    )


def _one(
    user: Any, item: Any, rating: Any, feature: Any, opinion: Any, sentence: Any, sentiment: Any
) -> dict[str, Any]:
    number = isinstance(rating, int | float) and not isinstance(rating, bool)
    known = isinstance(sentiment, int | float) and not isinstance(sentiment, bool)
    return {
        "user": str(user),
        "item": str(item),
        "rating": float(rating) if number else None,
        "feature": _text(feature),
        "opinion": _text(opinion),
        "sentence": _text(sentence),
        "sentiment": (sentiment > 0) - (sentiment < 0) if known else 0,
    }


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.explanations``."""
    parser = CommandParser(
        "python -m process.explanations",
        description=DESCRIPTION,
        epilog="example:\n  python -m process.explanations --pickle reviews.pickle --output "
        "data/explanations.jsonl",
    )
    parser.add_argument("--pickle", type=Path, required=True, metavar="FILE", help="published file")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON lines")
    return parser


def main(args: argparse.Namespace) -> None:
    """Write the explanations of a pickle as JSON lines."""
    counts = write_published(args.pickle, args.output)
    print(f"{args.output}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))


if __name__ == "__main__":
    run_cli(main, build_parser())

"""The data YAML of own tables, with comments that teach, and the command to type next."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any

NAME = "data.yaml"
LONGEST_TEXT = 100  # tokens; more make training slow
LONGEST_HISTORY = 50  # NRMS, section 4.1
_THINGS: Mapping[str, str] = {  # word in the name of a column or data set -> what an item is
    "movie": "movie", "movielens": "movie", "film": "movie", "book": "book", "news": "news article",
    "ebnerd": "news article", "article": "article", "product": "product", "sku": "product",
    "asin": "product", "song": "song", "track": "track", "game": "game", "steam": "game",
    "recipe": "recipe", "restaurant": "restaurant", "business": "business", "yelp": "business",
}  # fmt: skip


def data_yaml(manifest: Mapping[str, Any], folder: Path) -> str:
    """The text of ``data.yaml``.

    Args:
        manifest: of the tables.
        folder: where the tables go.
    """
    place = json.dumps(folder.as_posix(), ensure_ascii=False)  # "#" and ": " mean something in YAML
    lines = [
        f"# {manifest['name']}: {manifest['summary']['items']:,} items, "
        f"{manifest['summary']['users']:,} users; made with the tables, yours to edit",
        f"# {next_command(folder)}",
        f"name: {manifest['name']}  # results go to runs/{manifest['name']}/",
        f"folder: {place}  # the tables that lie beside this file",
        *_fields(manifest),
        *_user_fields(manifest),
        *_history(manifest),
        "group_by: impression  # metrics are means over impressions; user: over users",
        *_splits(manifest),
    ]
    return "\n".join(lines) + "\n"


def next_command(folder: Path) -> str:
    """The command that trains and measures a first model of these tables."""
    return f"legos run --data {shlex.quote(folder.as_posix())}"


def _asked_again(manifest: Mapping[str, Any]) -> bool:
    return bool(manifest["settings"]["reader"].get("asked_again", False))


def _has_lists(manifest: Mapping[str, Any]) -> bool:
    return bool(manifest["layout"] == "own-lists")


def _columns(manifest: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Column, kind and tokenizer of the item fields, texts first and shortest first."""
    texts = [
        (name, field["tokenizers"][0])
        for name, field in manifest["fields"].items()
        if field["kind"] == "text" and not name.startswith("prompt")  # constants of Legommenders'
    ]
    texts.sort(key=lambda text: (text[0] != "title", _tokens(manifest, *text)["mean"]))
    found = [(f"{name}@{tokenizer}", "text", name) for name, tokenizer in texts]
    found += [
        (name, "category", name)
        for name, field in manifest["fields"].items()
        if field["kind"] == "category"
    ]
    return found


def _tokens(manifest: Mapping[str, Any], name: str, tokenizer: str) -> Mapping[str, float]:
    tokens: Mapping[str, float] = manifest["summary"]["text"][f"{name}@{tokenizer}"]["tokens"]
    return tokens


def _fields(manifest: Mapping[str, Any]) -> Iterator[str]:
    columns = _columns(manifest)
    numbers = [name for name, field in manifest["fields"].items() if field["kind"] == "number"]
    if not columns and not numbers:
        yield "fields: []  # items have none; models of ids go without"
    else:
        yield "fields:  # what item encoders read, in this order; remove what tells nothing"
    called = manifest.get("source_columns", {})
    for column, kind, name in columns:
        source = json.dumps(called.get(name), ensure_ascii=False)
        yield f"  - column: {column}" + (f"  # {source} of the file" if name in called else "")
        if kind == "text":
            tokens = _tokens(manifest, *column.split("@"))
            length = min(LONGEST_TEXT, max(5, 5 * ceil(tokens["p90"] / 5)))
            length = manifest["settings"]["reader"].get("lengths", {}).get(column, length)
            yield (
                f"    length: {length}  # tokens kept: the median text has {tokens['p50']:.0f}, "
                f"one in ten more than {tokens['p90']:.0f}, the longest {tokens['p100']:.0f}"
            )
        else:
            count = manifest["summary"]["categories"].get(name, 0)
            yield f"    # a category: {count:,} different values"
    for name in numbers:
        yield from _number(name)
    yield f'prompt: "{thing(manifest)}:"  # what a language model reads before the fields'


def thing(manifest: Mapping[str, Any]) -> str:
    """What an item is in one word or two, where the source's names tell; else ``item``."""
    reader = manifest["settings"]["reader"]
    names = [
        manifest["layout"],
        (reader.get("origin") or {}).get("layout"),
        (reader.get("columns") or {}).get("item"),
        *(name for to, name in manifest.get("source_columns", {}).items() if to != "user_id"),
    ]
    for name in filter(None, names):
        for word in re.findall(r"[A-Z]?[a-z]+", name):  # of movie_title, movieId
            if thing := _THINGS.get(word.lower()):
                return thing
    return "item"


def _number(name: str) -> Iterator[str]:
    yield f"  - column: {name}"
    yield "    number: bucketed  # ten quantile buckets; or standardised, projected"


def _user_fields(manifest: Mapping[str, Any]) -> Iterator[str]:
    fields = manifest.get("user_fields", {})
    if not fields:
        return
    yield "user_fields:  # what users say of themselves; user encoder `profile` reads it"
    for name, field in fields.items():
        if field["kind"] == "text":
            yield f"  - column: {name}@{field['tokenizers'][0]}"
            yield "    length: 30  # tokens kept"
        elif field["kind"] == "category":
            yield f"  - column: {name}"
        else:
            yield from _number(name)


def _history(manifest: Mapping[str, Any]) -> Iterator[str]:
    lengths = [split["history_length"] for split in manifest["summary"]["splits"].values()]
    most = max(int(length["p99"]) for length in lengths)
    kept = max(1, min(LONGEST_HISTORY, most))
    longest = max(int(length["p100"]) for length in lengths)
    yield (
        f"history_length: {kept}  # the most recent clicks that a user encoder sees; the longest "
        f"history stored has {longest}"
    )


def _splits(manifest: Mapping[str, Any]) -> Iterator[str]:
    names = list(manifest["summary"]["splits"])
    held_out = [name for name in names if name.startswith("test")]
    others = [name for name in names if name not in ("train", "valid")]
    chosen = [name for name in held_out if name in ("test", "test_uniform")] or held_out[:1]
    yield f"splits:  # {manifest['split_rule']}"
    yield "  train: train  # its clicks are trained on"
    if _asked_again(manifest):
        yield "  valid: valid  # clicks of train asked again: shows the fit, not how good it is"
    else:
        yield "  valid: valid  # watched by early stopping"
    further = [name for name in held_out if name not in chosen]
    more = f"; there is {', '.join(further)}, too" if further else ""
    yield f"  test: [{', '.join(chosen or others[:1])}]  # measured once, at the end{more}"
    if not _has_lists(manifest) and "valid_uniform" in names:
        yield "  # negatives of valid and test are drawn by popularity, of *_uniform uniformly"

"""A mapping with the place of every key, and walks over such trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """A mapping with the place of every key.

    Attributes:
        data: plain values.
        places: "file:line" of a key path; a place of a prefix holds for what is below it.
    """

    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Where a key stands, or the nearest key above it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return ""

    def part(self, prefix: KeyPath) -> Document:
        """A copy of what lies below a key path."""
        depth = len(prefix)
        places = {path[depth:]: at for path, at in self.places.items() if path[:depth] == prefix}
        return Document(deepcopy(value_at(self.data, prefix)), places)

    def put(self, prefix: KeyPath, section: Document) -> None:
        """Place a document below a key path whose parent is there, instead of what stood there."""
        parent, key = value_at(self.data, prefix[:-1]), prefix[-1]
        parent[int(key) if isinstance(parent, list) else key] = section.data
        self.forget(prefix)
        self.places.update({(*prefix, *path): place for path, place in section.places.items()})

    def forget(self, prefix: KeyPath) -> None:
        """Drop the places of a key path and of all below it."""
        for path in [path for path in self.places if path[: len(prefix)] == prefix]:
            del self.places[path]


def merge(base: Document, added: Document) -> None:
    """Put ``added`` over ``base``; mappings are merged key by key, lists and values replaced."""

    def put(below: dict[str, Any], over: dict[str, Any]) -> None:
        for key, value in over.items():
            if isinstance(value, dict) and isinstance(below.get(key), dict):
                put(below[key], value)
            else:
                below[key] = value

    put(base.data, added.data)
    base.places.update(added.places)


def value_at(value: Any, path: Sequence[str]) -> Any:
    """What lies at a key path of mappings and lists; None where nothing does."""
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def texts(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Every text in a tree with its key path; keys are texts, too."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield (*path, key), key
            yield from texts(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from texts(below, (*path, str(index)))


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A tree with every text changed; keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: map_texts(below, change) for key, below in value.items()}
    if isinstance(value, list):
        return [map_texts(below, change) for below in value]
    return value


def leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every value in a tree of mappings with its key path; a list and an empty mapping are one."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from leaves(below, (*path, str(key)))
    else:
        yield path, value

"""Faults of files, drawn with a seed: what a kill, another program or a person may do to them."""

from __future__ import annotations

import copy
import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DEEP = 100_000
OTHERS: tuple[Any, ...] = (None, [], {}, "text", -1, 10**30, 1.5, True, [[]], {"a": None})


@dataclass(frozen=True)
class Mutation:
    """New content of a file.

    Attributes:
        name: what was done.
        content: the bytes; None: the file is gone.
        fatal: whether a command must refuse it; others it may take.
    """

    name: str
    content: bytes | None
    fatal: bool = True


def mutations(
    path: Path, rng: random.Random, *, count: int, free: frozenset[str]
) -> list[Mutation]:
    """``count`` mutations of a file; those of its bytes and of its own format in turns.

    Args:
        path: the file; its ending says the format.
        rng: draws them.
        count: how many.
        free: keys whose absence or value no reader needs to mind.
    """
    content = path.read_bytes()
    of_format = {".npy": _arrays, ".json": _values, ".jsonl": _lines}.get(path.suffix)
    kinds = [list(_bytes(content, path.suffix, rng))]
    if of_format is not None:
        kinds.append(list(of_format(content, rng, free)))
    for each in kinds:
        rng.shuffle(each)
    chosen = [
        each[turn] for turn in range(max(map(len, kinds))) for each in kinds if turn < len(each)
    ]
    return chosen[:count]


def _bytes(content: bytes, suffix: str, rng: random.Random) -> Iterator[Mutation]:
    yield Mutation("missing", None, fatal=suffix != ".jsonl")
    yield Mutation("empty", b"", fatal=suffix != ".jsonl")
    yield Mutation("first half", content[: len(content) // 2], fatal=suffix != ".jsonl")
    yield Mutation(
        "without its end", content[: -max(2, len(content) // 9)], fatal=suffix != ".jsonl"
    )
    yield Mutation("random bytes", rng.randbytes(max(10, len(content))) + b"\n")
    yield Mutation("zeros", bytes(len(content)) + b"\n")
    yield Mutation("a pickle", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07" + content)
    yield Mutation("an archive", b"PK\x03\x04" + content)
    yield Mutation("nested deep", b"[" * DEEP + b"]" * DEEP + b"\n")
    for _ in range(4):
        spoiled = bytearray(content)
        place = rng.randrange(min(len(spoiled), 120))
        spoiled[place] ^= 1 << rng.randrange(8)
        yield Mutation(f"bit of byte {place}", bytes(spoiled), fatal=False)


def _values(content: bytes, rng: random.Random, free: frozenset[str]) -> Iterator[Mutation]:
    value = json.loads(content)
    yield Mutation("null", b"null")
    yield Mutation("a number", b"17")
    yield Mutation("another kind", b"{}" if isinstance(value, list) else b"[]")
    yield Mutation("UTF-16", content.decode().encode("utf-16"))
    yield Mutation("byte order mark", b"\xef\xbb\xbf" + content, fatal=False)
    yield Mutation("not UTF-8", content.replace(b'"', b'"\xff', 1))
    places = [place for place in _places(value) if not free & set(place)]
    for place in rng.sample(places, min(len(places), 14)):
        yield from _at(value, place, rng)
    if isinstance(value, dict):
        extra = json.dumps({**value, "a key of a later version": 1}).encode()
        yield Mutation("extra key", extra, fatal=False)
        key = next(iter(value))
        twice = f"{{{json.dumps(key)}: {json.dumps(value[key])}, ".encode()
        yield Mutation("a key twice", content.replace(b"{", twice, 1))
    elif value:
        yield Mutation("an entry more", json.dumps([*value, "one more"]).encode())
        yield Mutation("an entry less", json.dumps(value[1:]).encode())


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys and, of lists, the first entry, down to the fourth level."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else list(enumerate(value))[:1]
        if isinstance(value, list)
        else ()
    )
    for key, below in inside:
        yield (*place, key)
        if len(place) < 3:
            yield from _places(below, (*place, key))


def _at(value: Any, place: tuple[Any, ...], rng: random.Random) -> Iterator[Mutation]:
    name = ".".join(map(str, place))
    old = value
    for key in place:
        old = old[key]
    if isinstance(place[-1], str):
        yield Mutation(f"{name} gone", json.dumps(_without(value, place)).encode())
    # another kind of value; a number may replace a number unnoticed
    other = rng.choice(
        [each for each in OTHERS if _kind(each) != _kind(old) and each not in ({}, [])]
    )
    yield Mutation(f"{name} is {other!r}", json.dumps(_with(value, place, other)).encode())
    text = json.dumps(_with(value, place, "@"))
    yield Mutation(f"{name} nested", text.replace('"@"', "[" * DEEP + "]" * DEEP).encode())
    yield Mutation(f"{name} is NaN", text.replace('"@"', "NaN").encode())
    yield Mutation(f"{name} is half a pair", text.replace('"@"', '"\\ud83d"').encode())
    if type(old) is int:
        yield Mutation(
            f"{name} is negative", json.dumps(_with(value, place, -7)).encode(), fatal=False
        )
        yield Mutation(
            f"{name} is huge", json.dumps(_with(value, place, 10**40)).encode(), fatal=False
        )


def _kind(value: Any) -> str:
    return (
        "number"
        if isinstance(value, int | float) and not isinstance(value, bool)
        else type(value).__name__
    )


def _with(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    changed = copy.deepcopy(value)
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = new
    return changed


def _without(value: Any, place: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(value)
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    del inside[place[-1]]
    return changed


def _lines(content: bytes, rng: random.Random, free: frozenset[str]) -> Iterator[Mutation]:
    lines = content.splitlines(keepends=True)
    number = rng.randrange(len(lines))
    for mutation in _values(lines[number], rng, free):
        if mutation.content is None or mutation.name in ("UTF-16", "extra key", "byte order mark"):
            continue
        new = [*lines[:number], mutation.content.replace(b"\n", b" ") + b"\n", *lines[number + 1 :]]
        yield Mutation(f"line {number + 1}: {mutation.name}", b"".join(new), mutation.fatal)


def _arrays(content: bytes, rng: random.Random, free: frozenset[str]) -> Iterator[Mutation]:
    array = np.load(io.BytesIO(content))
    for dtype in (
        "int16",
        "float64" if array.dtype != np.float64 else "float16",
        "complex64",
        "U3",
    ):
        yield Mutation(f"as {dtype}", _npy(array.astype(dtype)))
    yield Mutation(
        "other byte order",
        _npy(array.astype(array.dtype.newbyteorder(">")))
        if array.dtype.itemsize > 1
        else _npy(array.astype("uint16")),
    )
    yield Mutation("objects", _objects(array))
    yield Mutation("an axis more", _npy(array[None]))
    yield Mutation("no axis", _npy(array.reshape(-1)[:1].reshape(())))
    yield Mutation("bytes behind the end", content + b"\0" * array.dtype.itemsize)
    for shape in ("(10000000000000,)", "(-1,)", "('a',)", "(1.5,)", "[3]", "(2,2,2)"):
        yield Mutation(f"shape {shape}", _header(array, shape=shape))
    yield Mutation("a program in its header", _header(array, shape="().__class__"))
    yield Mutation("type of fields", _header(array, descr="[('a', '<i4'), ('b', '<i4')]"))
    yield Mutation("no type", _header(array, descr="'nothing'"))
    if "values" not in free and array.dtype.kind == "i" and array.size:
        for number in (-1, np.iinfo(array.dtype).max):
            spoiled = array.copy()
            spoiled.reshape(-1)[-1] = number
            yield Mutation(f"holds {number}", _npy(spoiled))
    if "offsets" in free and array.size > 2:
        falling = array.copy()
        falling[1] = falling[-1] + 1
        yield Mutation("falling offsets", _npy(falling))
        yield Mutation("offsets that begin late", _npy(np.concatenate([[1], array[1:]])))


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _objects(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array.astype(object), allow_pickle=True)
    return file.getvalue()


def _header(array: np.ndarray, *, shape: str | None = None, descr: str | None = None) -> bytes:
    described = descr or repr(array.dtype.str)
    text = f"{{'descr': {described}, 'fortran_order': False, 'shape': {shape or array.shape}, }}"
    header = text.encode() + b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + array.tobytes()

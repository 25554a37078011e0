"""Writing a hidden-state cache: shard by shard, each sealed with its hash, resumed after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import ConfigError, DataError, nearest
from legos.files import write_array, write_json
from legos.lm.hidden_files import (
    DTYPES,
    FACTS,
    FORMAT,
    LAYOUT,
    MANIFEST,
    OFFSETS,
    TOKENS,
    CachedPart,
    Layout,
    Manifest,
    Shard,
    content_of,
    finished_parts,
    leftovers,
    lock,
    read_facts,
    read_json,
    read_texts,
    same_tokens,
    shard_path,
    shard_problem,
    to_array,
)
from legos.sharing import Sharing
from legos.terminal import shown_bytes

SHARD_BYTES = 2**27  # what a kill may cost, and what each part holds in memory while writing
_NAMED = 5  # items that an error names
_LARGEST_ID = torch.iinfo(torch.int32).max


@dataclass
class _Progress:
    """A part on its way: its sealed shards, None where one is missing."""

    part: CachedPart
    shards: list[Shard | None]


def write_parts(
    path: Path,
    facts: Mapping[str, Any],
    tokens: Ragged,
    parts: Sequence[CachedPart],
    states: Callable[[Ragged], Mapping[str, Tensor]],
    *,
    dtype: str,
    names: Callable[[int], str],
    advance: Callable[[int], None],
    shard_bytes: int,
    sharing: Sharing,
) -> None:
    """Store what is missing of some parts in the cache at ``path``.

    The arguments and errors are those of :meth:`legos.lm.hidden_cache.HiddenCache.write`.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"hidden states as {dtype!r}; {nearest(dtype, DTYPES)}")
    with ExitStack() as held:

        def prepare() -> tuple[list[tuple[int, int]], list[_Progress]]:
            held.enter_context(lock(path))
            return _prepare(path, facts, tokens, parts, dtype, shard_bytes)

        pages, todo = sharing.first(prepare)
        sizes = [int(tokens.offsets[stop] - tokens.offsets[first]) for first, stop in pages]
        missing = [
            number
            for number in range(len(pages))
            if any(entry.shards[number] is None for entry in todo)
        ]
        advance(sum(sizes) - sum(sizes[number] for number in missing))

        def compute(number: int) -> list[Shard | None]:
            """The shards of a page, those that were missing made now."""
            first, stop = pages[number]
            page = tokens.select(torch.arange(first, stop))
            wanted = [entry.part for entry in todo if entry.shards[number] is None]
            found = _compute(page, first, wanted, states, dtype, names)
            shards: list[Shard | None] = []
            for entry in todo:
                shard = entry.shards[number]
                if shard is None:
                    target = shard_path(path / entry.part.name, number)
                    shard = _seal(target, found.pop(entry.part.name), dtype, first, stop)
                shards.append(shard)
            return shards

        for number, shards in sharing.in_turns(missing, compute):
            for entry, shard in zip(todo, shards, strict=True):
                entry.shards[number] = shard
            advance(sizes[number])
        sharing.first(lambda: _finish(path, todo, dtype))


def _prepare(
    path: Path,
    facts: Mapping[str, Any],
    tokens: Ragged,
    parts: Sequence[CachedPart],
    dtype: str,
    shard_bytes: int,
) -> tuple[list[tuple[int, int]], list[_Progress]]:
    """Items of every shard, and the parts that are not finished; the folder is ready for them."""
    for file in leftovers(path):
        file.unlink()
    finished = finished_parts(path)
    parts = [part for part in parts if part.name not in finished]
    if not parts:
        return [], []
    bounds = _known_bounds(path, tokens)
    known = bounds is not None
    if bounds is None:
        bounds = split(tokens.offsets, parts, dtype, shard_bytes)
    pages = list(pairwise(bounds))
    todo = [_Progress(part, _sealed(path, part, pages, tokens, dtype)) for part in parts]
    _refuse_small_disk(path, todo, pages, tokens, dtype, texts_too=not known)
    if not known:
        _write_head(path, facts, tokens, bounds)
    return pages, todo


def _finish(path: Path, todo: Sequence[_Progress], dtype: str) -> None:
    """Write the manifests.

    Raises:
        DataError: a shard that another process wrote is not here.
    """
    for part, shards in ((entry.part, entry.shards) for entry in todo):
        for number, shard in enumerate(shards):
            file = shard_path(path / part.name, number)
            if shard is None or not file.is_file():
                raise DataError(f"{file}: missing; all processes must write to the same folder")
        content = {"per": part.per, "width": part.width, "dtype": dtype, "shards": shards}
        manifest = Manifest.model_validate(content)
        write_json(path / part.name / MANIFEST, manifest.model_dump())


def split(offsets: Tensor, parts: Sequence[CachedPart], dtype: str, shard_bytes: int) -> list[int]:
    """Bounds of consecutive items whose rows take at most so many bytes in every part.

    Args:
        offsets: ``(N + 1,)`` int64 first token of each item.
        parts: what is stored of them.
        dtype: as what.
        shard_bytes: the most; a larger item is alone.
    """
    count = offsets.numel() - 1
    most = {"token": int(offsets[-1]), "item": count}
    for part in parts:
        most[part.per] = min(most[part.per], shard_bytes // part.row_bytes(dtype))
    bounds = [0]
    while bounds[-1] < count:
        first = bounds[-1]
        limit = offsets[first] + most["token"]
        by_tokens = int(torch.searchsorted(offsets, limit, right=True)) - 1
        bounds.append(max(first + 1, min(by_tokens, first + most["item"])))
    return bounds


def _known_bounds(path: Path, tokens: Ragged) -> list[int] | None:
    """The shards of a cache that was begun; DataError when it was begun with other tokens."""
    if not (path / LAYOUT).is_file():
        return None
    read_facts(path)
    layout = read_json(path / LAYOUT, Layout)
    values, offsets = read_texts(path, layout)
    if not same_tokens(tokens, values, offsets):
        raise DataError(f"{path}: made from other token ids though its facts are the same")
    return layout.bounds


def _write_head(path: Path, facts: Mapping[str, Any], tokens: Ragged, bounds: list[int]) -> None:
    """Everything but the parts; the layout last, since it says that the rest is there."""
    if tokens.values.numel() and int(tokens.values.max()) > _LARGEST_ID:
        raise DataError(f"{path}: token id {int(tokens.values.max())} does not fit in 32 bits")
    write_json(path / FACTS, {"format": FORMAT, "facts": dict(facts)})
    write_array(path / TOKENS, tokens.values.int().numpy())
    write_array(path / OFFSETS, tokens.offsets.numpy())
    layout = Layout(
        items=len(tokens),
        tokens=content_of(path / TOKENS),
        offsets=content_of(path / OFFSETS),
        bounds=bounds,
    )
    write_json(path / LAYOUT, layout.model_dump())


def _sealed(
    path: Path,
    part: CachedPart,
    pages: Sequence[tuple[int, int]],
    tokens: Ragged,
    dtype: str,
) -> list[Shard | None]:
    """The shards that an earlier write finished and that are still what it wrote."""
    shards: list[Shard | None] = []
    for number, (first, stop) in enumerate(pages):
        target = shard_path(path / part.name, number)
        shards.append(None)
        try:
            shard = read_json(target.with_suffix(".json"), Shard)
            problem = shard_problem(target, shard, part.width, dtype)
        except DataError:
            continue  # missing or damaged: it is written again
        expected = (first, stop, part.rows(tokens.offsets, first, stop))
        if problem is None and (shard.first, shard.stop, shard.rows) == expected:
            shards[-1] = shard
    return shards


def _refuse_small_disk(
    path: Path,
    todo: Sequence[_Progress],
    pages: Sequence[tuple[int, int]],
    tokens: Ragged,
    dtype: str,
    *,
    texts_too: bool,
) -> None:
    needed = 4 * tokens.values.numel() + 8 * tokens.offsets.numel() if texts_too else 0
    for entry in todo:
        for (first, stop), shard in zip(pages, entry.shards, strict=True):
            if shard is None:
                rows = entry.part.rows(tokens.offsets, first, stop)
                needed += rows * entry.part.row_bytes(dtype)
    free = shutil.disk_usage(path).free
    if needed > free:
        raise ConfigError(
            f"{path}: the states take {shown_bytes(needed)}, the disk has {shown_bytes(free)} "
            "left; give another --exp.cache.folder, fewer exp.cache.layers, or a 16-bit cache_dtype"
        )


def _compute(
    page: Ragged,
    first: int,
    parts: Sequence[CachedPart],
    states: Callable[[Ragged], Mapping[str, Tensor]],
    dtype: str,
    names: Callable[[int], str],
) -> dict[str, Tensor]:
    """States of the items from ``first`` on, as stored; all are checked before one is written."""
    found = states(page) if page.values.numel() else {}
    stored: dict[str, Tensor] = {}
    for part in parts:
        shape = (part.rows(page.offsets, 0, len(page)), part.width)
        values = found[part.name] if page.values.numel() else torch.zeros(shape)
        if values.shape != shape:
            raise ValueError(f"{part.name}: states of shape {tuple(values.shape)}, not {shape}")
        stored[part.name] = values.to(DTYPES[dtype])
        _refuse_not_finite(part, values, stored[part.name], page, first, dtype, names)
    return stored


def _refuse_not_finite(
    part: CachedPart,
    values: Tensor,
    stored: Tensor,
    page: Ragged,
    first: int,
    dtype: str,
    names: Callable[[int], str],
) -> None:
    """Raise DataError naming the items with a number that is none, or that became none."""
    bad = ~torch.isfinite(stored).all(1)
    if not bad.any():
        return
    rows = bad.nonzero().squeeze(1).cpu()
    items = (rows if part.per == "item" else page.rows[rows].unique()).tolist()
    shown = ", ".join(repr(names(first + item)) for item in items[:_NAMED])
    more = f" and {len(items) - _NAMED:,} more" if len(items) > _NAMED else ""
    which = f"{part.name}: the language model's states of items {shown}{more}"
    if torch.isfinite(values[bad]).all():
        largest = float(values[bad].abs().max())
        limit = torch.finfo(DTYPES[dtype]).max
        raise DataError(
            f"{which} reach {largest:g}, more than {dtype} holds ({limit:g}); "
            "set cache_dtype: bf16 or fp32"
        )
    raise DataError(f"{which} are not finite; set another dtype, or look at their texts")


def _seal(path: Path, values: Tensor, dtype: str, first: int, stop: int) -> Shard:
    """Write a shard, then beside it what it must be."""
    write_array(path, to_array(values, dtype))
    content = content_of(path).model_dump()
    shard = Shard(**content, first=first, stop=stop, rows=len(values))
    write_json(path.with_suffix(".json"), shard.model_dump())
    return shard

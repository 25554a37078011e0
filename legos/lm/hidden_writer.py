"""Writing a hidden-state cache: shard by shard, each sealed with its hash, resumed after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import ConfigError, DataError, nearest
from legos.files import write_array, write_json
from legos.lm.hidden_cache import HiddenCache
from legos.lm.hidden_files import (
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
    read_head,
    read_json,
    shard_path,
    shard_problem,
    to_array,
)
from legos.lm.text_model import DTYPES
from legos.sharing import ALONE, Sharing
from legos.terminal import shown_bytes

SHARD_BYTES = 2**27  # what a kill may cost, and what each part holds in memory while writing
_NAMED = 5  # items that an error names
_LARGEST_ID = torch.iinfo(torch.int32).max

_Shards = list[Shard | None]  # of a part; None where one is missing


def write_parts(
    cache: HiddenCache,
    tokens: Ragged,
    parts: Sequence[CachedPart],
    states: Callable[[Ragged], Mapping[str, Tensor]],
    *,
    dtype: str,
    advance: Callable[[int], None] = lambda count: None,
    shard_bytes: int = SHARD_BYTES,
    sharing: Sharing = ALONE,
) -> None:
    """Compute and store what is missing of the parts, all in one pass over the items.

    A killed write goes on with its missing shards. Processes that share compute a shard each, into
    one folder; the first of them holds the lock and finishes the parts.

    Args:
        cache: to write to.
        tokens: token ids of the N items, ``(P,)`` int64.
        parts: what to store; those that are finished are left alone.
        states: token ids of some items -> for each part's name its ``(rows, width)``. It is called
            with what one shard holds, never for items without any token: their rows are 0.
        dtype: as which they are stored: fp32, fp16 or bf16.
        advance: told the tokens of each shard once they are done.
        shard_bytes: the most that a shard takes, unless one item takes more. A cache that was
            begun keeps its shards.
        sharing: with which other processes; the files are the same.

    Raises:
        DataError: states are not finite (the message names the items), or a file is damaged.
        ConfigError: the disk has too little room.
        CacheInUseError: another process writes this cache.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"hidden states as {dtype!r}; {nearest(dtype, DTYPES)}")
    writer = _Writer(cache, tokens.to("cpu"), dtype)
    with ExitStack() as held:

        def prepare() -> tuple[list[tuple[int, int]], list[tuple[CachedPart, _Shards]]]:
            held.enter_context(lock(cache.path))
            return writer.prepare(parts, shard_bytes)

        pages, todo = sharing.first(prepare)
        sizes = [int(writer.offsets[stop] - writer.offsets[first]) for first, stop in pages]
        missing = _unwritten(len(pages), todo)
        advance(sum(sizes) - sum(sizes[number] for number in missing))

        def compute(number: int) -> _Shards:
            """The shards of a page, those that were missing made now."""
            wanted = [part for part, shards in todo if shards[number] is None]
            made = writer.write(number, *pages[number], wanted, states)
            return [shards[number] or made[part.name] for part, shards in todo]

        for number, found in sharing.in_turns(missing, compute):
            for (_, shards), shard in zip(todo, found, strict=True):
                shards[number] = shard
            advance(sizes[number])
        sharing.first(lambda: writer.finish(todo))


def split(offsets: Tensor, parts: Sequence[CachedPart], dtype: str, shard_bytes: int) -> list[int]:
    """Bounds of consecutive items whose rows take at most so many bytes in every part.

    A larger item is alone; offsets ``(N + 1,)`` int64 are the first token of each item.
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


def _unwritten(pages: int, todo: Sequence[tuple[CachedPart, _Shards]]) -> list[int]:
    """Pages of which some part lacks its shard."""
    return [page for page in range(pages) if any(shards[page] is None for _, shards in todo)]


@dataclass(frozen=True)
class _Writer:
    """One process's part of a write."""

    cache: HiddenCache
    tokens: Ragged
    dtype: str

    @property
    def path(self) -> Path:
        return self.cache.path

    @property
    def offsets(self) -> Tensor:
        return self.tokens.offsets

    def prepare(
        self, parts: Sequence[CachedPart], shard_bytes: int
    ) -> tuple[list[tuple[int, int]], list[tuple[CachedPart, _Shards]]]:
        """Items of every shard, and the parts that are not finished; the folder is ready."""
        for file in leftovers(self.path):
            file.unlink()
        finished = finished_parts(self.path)
        parts = [part for part in parts if part.name not in finished]
        if not parts:
            return [], []
        known = self._known_bounds()
        bounds = known or split(self.offsets, parts, self.dtype, shard_bytes)
        pages = list(pairwise(bounds))
        todo = [(part, self._sealed(part, pages)) for part in parts]
        self._refuse_small_disk(todo, pages, texts_too=known is None)
        if known is None:
            self._write_head(bounds)
        return pages, todo

    def write(
        self,
        number: int,
        first: int,
        stop: int,
        parts: Sequence[CachedPart],
        states: Callable[[Ragged], Mapping[str, Tensor]],
    ) -> dict[str, Shard]:
        """Store shard ``number`` of some parts; all are checked before one is written."""
        page = self.tokens.select(torch.arange(first, stop))
        found = states(page) if page.values.numel() else {}
        stored: dict[str, Tensor] = {}
        for part in parts:
            shape = (part.rows(page.offsets, 0, len(page)), part.width)
            values = found[part.name] if page.values.numel() else torch.zeros(shape)
            if values.shape != shape:
                raise ValueError(f"{part.name}: states of shape {tuple(values.shape)}, not {shape}")
            stored[part.name] = values.to(DTYPES[self.dtype])
            self._refuse_not_finite(part, values, stored[part.name], page, first)
        made = {}
        for name in list(stored):
            values, path = stored.pop(name), shard_path(self.path / name, number)
            write_array(path, to_array(values, self.dtype))
            content = content_of(path).model_dump()
            made[name] = Shard(**content, first=first, stop=stop, rows=len(values))
            write_json(path.with_suffix(".json"), made[name].model_dump())
        return made

    def finish(self, todo: Sequence[tuple[CachedPart, _Shards]]) -> None:
        """Write the manifests; DataError: a shard that another process wrote is not here."""
        for part, shards in todo:
            for number, shard in enumerate(shards):
                file = shard_path(self.path / part.name, number)
                if shard is None or not file.is_file():
                    raise DataError(f"{file}: missing; all processes must write to the same folder")
            content = {"per": part.per, "width": part.width, "dtype": self.dtype, "shards": shards}
            manifest = Manifest.model_validate(content)
            write_json(self.path / part.name / MANIFEST, manifest.model_dump())

    def _known_bounds(self) -> list[int] | None:
        """The shards of a cache that was begun; DataError when it was begun with other tokens."""
        if not (self.path / LAYOUT).is_file():
            return None
        layout, _ = read_head(self.path, self.tokens)
        return layout.bounds

    def _write_head(self, bounds: list[int]) -> None:
        """Everything but the parts; the layout last, since it says that the rest is there."""
        path, values = self.path, self.tokens.values
        if values.numel() and int(values.max()) > _LARGEST_ID:
            raise DataError(f"{path}: token id {int(values.max())} does not fit in 32 bits")
        write_json(path / FACTS, {"format": FORMAT, "facts": self.cache.facts})
        write_array(path / TOKENS, values.int().numpy())
        write_array(path / OFFSETS, self.offsets.numpy())
        layout = Layout(
            items=len(self.tokens),
            tokens=content_of(path / TOKENS),
            offsets=content_of(path / OFFSETS),
            bounds=bounds,
        )
        write_json(path / LAYOUT, layout.model_dump())

    def _sealed(self, part: CachedPart, pages: Sequence[tuple[int, int]]) -> _Shards:
        """The shards that an earlier write finished and that are still what it wrote."""
        shards: _Shards = []
        for number, (first, stop) in enumerate(pages):
            target = shard_path(self.path / part.name, number)
            shards.append(None)
            try:
                shard = read_json(target.with_suffix(".json"), Shard)
                problem = shard_problem(target, shard, part.width, self.dtype)
            except DataError:
                continue  # missing or damaged: it is written again
            expected = (first, stop, part.rows(self.offsets, first, stop))
            if problem is None and (shard.first, shard.stop, shard.rows) == expected:
                shards[-1] = shard
        return shards

    def _refuse_small_disk(
        self,
        todo: Sequence[tuple[CachedPart, _Shards]],
        pages: Sequence[tuple[int, int]],
        *,
        texts_too: bool,
    ) -> None:
        needed = 4 * self.tokens.values.numel() + 8 * self.offsets.numel() if texts_too else 0
        for part, shards in todo:
            for (first, stop), shard in zip(pages, shards, strict=True):
                if shard is None:
                    needed += part.rows(self.offsets, first, stop) * part.row_bytes(self.dtype)
        free = shutil.disk_usage(self.path).free
        if needed > free:
            raise ConfigError(
                f"{self.path}: the states take {shown_bytes(needed)}, the disk has "
                f"{shown_bytes(free)} left; give another --exp.cache.folder, fewer "
                "exp.cache.layers, or a 16-bit cache_dtype"
            )

    def _refuse_not_finite(
        self, part: CachedPart, values: Tensor, stored: Tensor, page: Ragged, first: int
    ) -> None:
        """Raise DataError naming the items with a number that is none, or that became none."""
        bad = ~torch.isfinite(stored).all(1)
        if not bad.any():
            return
        rows = bad.nonzero().squeeze(1).cpu()
        items = (rows if part.per == "item" else page.rows[rows].unique()).tolist()
        shown = ", ".join(repr(self.cache.names(first + item)) for item in items[:_NAMED])
        more = f" and {len(items) - _NAMED:,} more" if len(items) > _NAMED else ""
        which = f"{part.name}: the language model's states of items {shown}{more}"
        if torch.isfinite(values[bad]).all():
            largest = float(values[bad].abs().max())
            limit = torch.finfo(DTYPES[self.dtype]).max
            raise DataError(
                f"{which} reach {largest:g}, more than {self.dtype} holds ({limit:g}); "
                "set cache_dtype: bf16 or fp32"
            )
        raise DataError(f"{which} are not finite; set another dtype, or look at their texts")

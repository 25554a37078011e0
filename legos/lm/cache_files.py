"""Looking after hidden-state caches: what there is, whether it is whole, what can go."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from legos.errors import DataError
from legos.lm.hidden_files import (
    FACTS,
    FINGERPRINT,
    LOCK,
    MANIFEST,
    USED,
    CacheInUseError,
    Manifest,
    content_problem,
    finished_parts,
    leftovers,
    lock,
    read_facts,
    read_head,
    read_manifest,
    shard_path,
    shard_problem,
)
from legos.progress import PlainConsole, progress_bar
from legos.terminal import shown_bytes

_COLUMNS = ("model", "fingerprint", "data", "parts", "dtype", "items", "tokens", "size", "state")
_NUMBERS = ("items", "tokens", "size")
_REMOVED = ".removed"  # end of the name of a cache on its way out
_WIDEST = 500
_DAY = 24 * 60 * 60


@dataclass(frozen=True)
class _Whole:
    """A cache whose small files are as they should be."""

    data: str
    items: int
    tokens: int
    manifests: dict[str, Manifest]  # of the finished parts
    problems: dict[str, str]  # of the parts whose manifest is damaged
    unfinished: list[str]  # parts without a manifest


def find_caches(folder: Path) -> list[Path]:
    """Folders of the caches below a folder: ``<folder>/<model>/<fingerprint>``."""
    found = (path for pattern in ("*", "*/*", "*/*/*") for path in folder.glob(pattern))
    named = (path for path in found if FINGERPRINT.fullmatch(path.name) and not path.is_symlink())
    # what has neither was never ours, whatever its name: prune must not touch it
    return sorted(path for path in named if any((path / name).is_file() for name in (LOCK, FACTS)))


def list_caches(folder: Path) -> None:
    """Print a line for every cache below a folder."""
    caches = find_caches(folder)
    if not caches:
        print(f"{folder}: no caches")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in (*_COLUMNS, "last used"):
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=True)
    for path in caches:
        table.add_row(*_cells(path, folder))
    # a pipe is 80 columns wide to rich, and a cut number is worse than a long line
    PlainConsole(width=_WIDEST).print(table)


def verify_caches(folder: Path) -> None:
    """Compare every byte of every finished part with its hash and print how many are whole.

    DataError: something is damaged; the message has a line for each such file.
    """
    problems: list[str] = []
    shards = size = parts = 0
    work: list[tuple[Path, str, Manifest]] = []
    for path in find_caches(folder):
        try:
            whole = _read(path)
        except DataError as error:
            problems += [str(error)] if finished_parts(path) else []
            continue
        problems += whole.problems.values()
        work += [(path, name, manifest) for name, manifest in whole.manifests.items()]
    total = sum(shard.bytes for *_, manifest in work for shard in manifest.shards)
    with progress_bar("reading", total, percent=True) as bar:
        for path, name, manifest in work:
            for number, shard in enumerate(manifest.shards):
                place = shard_path(path / name, number)
                problem = shard_problem(place, shard, manifest.width, manifest.dtype)
                problems += [problem] if problem else []
                bar.advance(shard.bytes)
            parts, shards = parts + 1, shards + len(manifest.shards)
            size += sum(shard.bytes for shard in manifest.shards)
    if problems:
        raise DataError("\n".join([f"{folder}: {len(problems)} damaged", *problems]))
    print(
        f"{folder}: {parts} parts in {shards} files, {shown_bytes(size)}, all as they were written"
    )


def prune_caches(folder: Path, keep_days: int | None) -> None:
    """Remove what is of no use and print what it freed; what another process writes is left.

    With ``keep_days`` also caches that nothing has read or written for so long.
    """
    total = 0
    for pattern in ("*", "*/*", "*/*/*"):
        for path in folder.glob(f"{pattern}{_REMOVED}"):  # a prune that was killed
            if FINGERPRINT.fullmatch(path.name.removesuffix(_REMOVED)):
                total += _remove(path, "left by a killed prune")
    for path in find_caches(folder):
        try:
            with lock(path):
                total += _prune(path, keep_days)
        except CacheInUseError as error:
            print(f"kept {error}")
            continue
        with suppress(OSError):  # other caches of the model are there
            if path.parent != folder:
                path.parent.rmdir()
    print(f"{folder}: {shown_bytes(total)} freed")


def _read(path: Path) -> _Whole:
    """What a cache says of itself; DataError where what all its parts need is damaged."""
    facts = read_facts(path)
    layout, texts = read_head(path)
    manifests, problems = {}, {}
    names = finished_parts(path)
    for name in names:
        try:
            manifests[name] = read_manifest(path, name, layout, texts.offsets)
        except DataError as error:
            problems[name] = str(error)
    folders = sorted(part.name for part in path.iterdir() if part.is_dir())
    return _Whole(
        data=str(facts.get("data", "")),
        items=layout.items,
        tokens=len(texts.values),
        manifests=manifests,
        problems=problems,
        unfinished=[name for name in folders if name not in names],
    )


def _cells(path: Path, folder: Path) -> list[str]:
    """The line of a cache."""
    model = path.parent.relative_to(folder).as_posix()
    size = shown_bytes(_size(path))
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(_used(path)))
    try:
        whole = _read(path)
    except DataError:
        state = "damaged" if finished_parts(path) else "unfinished"
        return [model, path.name[:12], "", "", "", "", "", size, state, used]
    types = sorted({manifest.dtype for manifest in whole.manifests.values()})
    parts = [*whole.manifests, *(f"{name} (unfinished)" for name in whole.unfinished)]
    state = "finished" if whole.manifests and not whole.unfinished else "unfinished"
    return [
        model,
        path.name[:12],
        whole.data,
        ", ".join(parts),
        ", ".join(types),
        f"{whole.items:,}",
        f"{whole.tokens:,}",
        size,
        "damaged" if whole.problems else state,
        used,
    ]


def _prune(path: Path, keep_days: int | None) -> int:
    """Remove what can go of a cache whose lock is held; returns the bytes."""
    if keep_days is not None and time.time() - _used(path) > keep_days * _DAY:
        return _remove_cache(path, f"not used for more than {keep_days} days")
    try:
        whole = _read(path)
    except DataError as error:
        return _remove_cache(path, str(error) if (path / FACTS).is_file() else "never begun")
    useless = dict.fromkeys(whole.unfinished, "unfinished") | whole.problems
    for name, manifest in whole.manifests.items():
        for number, shard in enumerate(manifest.shards):
            problem = content_problem(shard_path(path / name, number), shard, hashed=False)
            if problem is not None:
                useless.setdefault(name, problem)
    if not whole.manifests.keys() - useless.keys():
        return _remove_cache(path, "; ".join(useless.values()) or "without any part")
    freed = 0
    for name, reason in sorted(useless.items()):
        (path / name / MANIFEST).unlink(missing_ok=True)  # first: it would say that all is there
        freed += _remove(path / name, reason)
    for file in leftovers(path):
        freed += file.stat().st_size
        file.unlink()
    return freed


def _remove_cache(path: Path, reason: str) -> int:
    """Out of the way in one step, so that no process ever begins to write into half a cache."""
    aside = path.with_name(path.name + _REMOVED)
    path.rename(aside)
    return _remove(aside, reason, shown=path)


def _remove(path: Path, reason: str, *, shown: Path | None = None) -> int:
    size = _size(path)
    shutil.rmtree(path)
    print(f"removed {shown or path} ({shown_bytes(size)}): {reason}")
    return size


def _size(path: Path) -> int:
    """Bytes of all files below a folder, which others may be changing."""
    total = 0
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def _used(path: Path) -> float:
    """When a cache was last opened, or its last part finished; seconds since 1970."""
    files = [path, path / FACTS, path / USED, *path.glob(f"*/{MANIFEST}")]
    return max(file.stat().st_mtime for file in files if file.exists())

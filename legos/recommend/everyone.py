"""Lists of all users as one file: page by page, by all processes, going on after a kill.

<folder>/<name>.json          beside the file: which run made it, and how
<folder>/.<name>.parts/       until it is written
    facts.json                what decides the lists
    00000.parquet ...         the lists of a page of users, each written as a whole
    lock                      held by the process that writes
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from legos.errors import ConfigError, DataError
from legos.files import InUseError, atomic_path, hold, sha256_of_text, write_json
from legos.progress import progress_bar
from legos.records import read_json
from legos.sharing import Sharing

PAGE = 1_024  # users of a part: what a kill may cost
_FACTS = "facts.json"


def write_lists(
    output: Path,
    users: Sequence[str],
    recommend: Callable[[Sequence[str]], list[pd.DataFrame]],
    *,
    facts: Mapping[str, Any],
    origin: Mapping[str, Any],
    sharing: Sharing,
    page: int = PAGE,
) -> Path:
    """Write a list of each user, whole or not at all; the same call goes on after a kill.

    Columns are user_id, rank (from 1), item_id and score.

    Args:
        output: a ``.parquet``, ``.csv`` or ``.jsonl`` file; one that is there is replaced.
        users: ids.
        recommend: a list of each of some users.
        facts: what decides the lists; parts of other ones are no use.
        origin: what the JSON file beside the lists says, with the facts and the number of users.
        sharing: with which other processes, each of which calls this.
        page: users that are done together.

    Raises:
        ConfigError: another kind of file, or a page of no users.
        InUseError: another process is writing this file.
    """
    refuse_other_kind(output)
    if page < 1:
        raise ConfigError(f"page: {page}; expected 1 or more users")
    parts = output.with_name(f".{output.name}.parts")
    pages = [slice(begin, begin + page) for begin in range(0, len(users), page)]
    about = {**origin, **facts, "users": len(users)}
    facts = {**facts, "users": sha256_of_text(json.dumps(list(users))), "page": page}

    def compute(number: int) -> None:
        own = users[pages[number]]
        frame = in_rows(own, recommend(own))
        with atomic_path(_part(parts, number)) as temporary:
            frame.to_parquet(temporary, index=False)

    with ExitStack() as held:
        missing = sharing.first(lambda: _begin(held, parts, output, facts, len(pages)))
        done = len(users) - sum(len(users[pages[number]]) for number in missing)
        with progress_bar("recommending", len(users), done=done) as bar:
            for number, _ in sharing.in_turns(missing, compute):
                bar.advance(len(users[pages[number]]))
        sharing.first(lambda: _join(parts, len(pages), output, about))
    return output


def beside(output: Path) -> Path:
    """The JSON file that says which run made a file of lists."""
    return output.with_name(f"{output.name}.json")


def describe_lists(output: Path) -> str:
    """One line on a file of lists: how many, and the run that made them."""
    about = read_json(beside(output))
    trained = str(about["trained"]).replace("T", " ").replace("+00:00", " UTC")
    return (
        f"{output}: lists of {about['users']:,} users by {about['folder']} (model "
        f"{about['model']}, trained {trained}); details: {beside(output)}"
    )


def refuse_other_kind(path: Path) -> None:
    """Raise ConfigError for a file that is no .parquet, .csv or .jsonl."""
    if path.suffix not in _WRITERS:
        raise ConfigError(f"{path}: expected a file that ends with {', '.join(_WRITERS)}")


def in_rows(readers: Sequence[str], lists: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Lists of readers under each other: user_id, rank, item_id, score."""
    sizes = [len(each) for each in lists]
    ranks = [np.arange(1, size + 1, dtype=np.int32) for size in sizes]
    return pd.DataFrame(
        {
            "user_id": np.repeat(np.array(readers, dtype=object), sizes),
            "rank": np.concatenate([np.zeros(0, np.int32), *ranks]),
            "item_id": np.concatenate([np.zeros(0, object), *(each["item_id"] for each in lists)]),
            "score": np.concatenate([np.zeros(0, np.float32), *(each["score"] for each in lists)]),
        }
    ).astype({"user_id": "str", "item_id": "str", "score": "float32"})


def write_frames(path: Path, frames: Iterator[pd.DataFrame]) -> None:
    """Write frames of the same columns under each other into one file, whole or not at all."""
    with atomic_path(path) as temporary:
        _WRITERS[path.suffix](temporary, frames)


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number:05d}.parquet"


def _begin(
    held: ExitStack, parts: Path, output: Path, facts: Mapping[str, Any], count: int
) -> list[int]:
    """Claim the folder of parts; which of them are missing."""

    def busy(owner: str) -> InUseError:
        return InUseError(f"{output}: process {owner} is writing this file; wait for it")

    held.enter_context(hold(parts / "lock", busy))
    known = parts / _FACTS
    if not known.is_file() or read_json(known) != facts:
        for stale in parts.glob("*.parquet"):
            stale.unlink()
        write_json(known, dict(facts))
    return [number for number in range(count) if not _part(parts, number).is_file()]


def _join(parts: Path, count: int, output: Path, about: Mapping[str, Any]) -> None:
    """Write the parts as one file, what they are beside it, and remove the parts."""
    paths = [_part(parts, number) for number in range(count)]
    lost = [path for path in paths if not path.is_file()]
    if lost:
        raise DataError(f"{lost[0]}: missing; all processes must write to the same folder")
    beside(output).unlink(missing_ok=True)  # never beside the lists of another run
    write_frames(output, (pd.read_parquet(path) for path in paths))
    write_json(beside(output), dict(about))
    shutil.rmtree(parts, ignore_errors=True)


def _write_parquet(path: Path, frames: Iterator[pd.DataFrame]) -> None:
    import pyarrow as pa  # a third of a second
    import pyarrow.parquet as pq

    schema = pa.schema(
        [("user_id", pa.string()), ("rank", pa.int32()), ("item_id", pa.string()),
         ("score", pa.float32())]
    )  # fmt: skip
    with pq.ParquetWriter(path, schema) as writer:
        for frame in frames:
            writer.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False))


def _write_csv(path: Path, frames: Iterator[pd.DataFrame]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("user_id,rank,item_id,score\n")
        for frame in frames:
            frame.to_csv(file, index=False, header=False, float_format="%.9g")


def _write_lines(path: Path, frames: Iterator[pd.DataFrame]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for frame in frames:
            for row in frame.to_dict("records"):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


_WRITERS: dict[str, Callable[[Path, Iterator[pd.DataFrame]], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_lines,
}

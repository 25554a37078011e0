"""Every command that takes long on real data, on data so small that it takes seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

from legos.config.schema import RunConfig
from legos.data.vector_files import write_item_vectors
from legos.errors import run_command
from legos.modes.main import run
from tests.forked import python
from tests.lm.shipped import dense, ship
from tests.modes.test_search import EXP as SEARCH
from tests.modes.tiny_config import NAML, POOLING, tiny_config, tiny_yamls
from tests.process.amazon.amazon_files import write_prepared
from tests.process.genre.asking import tiny_scheme
from tests.process.genre.server import FaultyServer, Told
from tests.process.mind_files import write_mind
from tests.process.table.own import SMALL
from tests.shop import write_shop
from tests.systems.recsysllm.reviews import reviewed_tables
from tests.tiny import tiny_tables
from tests.training.systems import MORE, SYSTEMS, lora_config

CONFIG = "config.json"
ANSWERS = "store"
_INTO = "--output data --tokenizer words=words"


class Command(NamedTuple):
    """What is typed, or a run by its settings.

    Attributes:
        words: of Python, as ``-m legos table ...``; none: the run of ``config.json``.
        folder: the working folder, with all that the command reads and writes.
    """

    words: Sequence[str]
    folder: Path


def perform(command: Command, printed: Path) -> None:
    """Do a command in this process, in pieces so small that each takes several.

    Args:
        command: what.
        printed: what it prints is appended to this file.
    """
    from legos.lm.hidden_writer import write_parts
    from legos.lm.text_vectors import TextEncoder
    from legos.recommend.run import TrainedRun

    os.chdir(command.folder)
    with (
        patch.dict(write_parts.__kwdefaults__, shard_bytes=1_024),
        patch.dict(TrainedRun.recommend_all.__kwdefaults__, page=4),
        patch.object(TextEncoder.pages, "__defaults__", (200,)),
    ):
        words = list(command.words) or ["-m", __name__]
        python(words, {**os.environ, "OMP_NUM_THREADS": "1"}, printed, printed)


def ready() -> None:
    """Do nothing, once what commands import is there."""


def _settled(config: RunConfig, folder: Path) -> list[str]:
    (folder / CONFIG).write_text(config.model_dump_json())
    return []


def _own_tables(folder: Path, stack: ExitStack) -> list[str]:
    write_shop(folder, **SMALL)
    return _legos(f"table --items items.csv --events events.csv {_INTO}")


def _amazon(folder: Path, stack: ExitStack) -> list[str]:
    items = [f"i{number}" for number in range(200)]
    rows = [
        (f"u{user}", items[(5 * user + n) % 200], 5.0 - (user * n) % 3, 100 * n + user)
        for user in range(40)
        for n in range(1, 7)
    ]
    write_prepared(folder / "raw", rows, titled="".join(items))
    return f"-m process.amazon prepared --raw raw {_INTO}".split()


def _mind(folder: Path, stack: ExitStack) -> list[str]:
    write_mind(folder / "raw")
    return f"-m process.mind --raw raw {_INTO}".split()


def _bricks(folder: Path, stack: ExitStack) -> list[str]:
    exp = "name: test\nmode: train_test\ndevice: cpu\ntrain: {epochs: 8, checkpoint_steps: 4}\n"
    return _by_yamls(folder, exp)


def _search(folder: Path, stack: ExitStack) -> list[str]:
    return _by_yamls(folder, SEARCH)


def _by_yamls(folder: Path, exp: str) -> list[str]:
    tiny_yamls(folder, exp)
    files = " ".join(f"--{kind}={kind}.yaml" for kind in ("data", "model", "exp"))
    return _legos(f"run {files} --exp.runs_folder=runs")


def _comparison(folder: Path, stack: ExitStack) -> list[str]:
    config = tiny_config(
        tiny_tables(folder / "tables"),
        folder / "runs",
        mode="compare",
        compare={"models": [NAML, {**POOLING, "name": "plain"}], "seeds": [1, 2]},
        baselines=["random", "popularity"],
        train={"epochs": 2, "checkpoint_steps": 5},
    )
    return _settled(config, folder)


def _cache(folder: Path, stack: ExitStack) -> list[str]:
    cache = {"folder": str(folder / "cache"), "layers": [1, 2], "pooled": True}
    tables = tiny_tables(folder / "tables")
    return _settled(lora_config(tables, folder, mode="cache", cache=cache), folder)


def _item_vectors(folder: Path, stack: ExitStack) -> list[str]:
    tiny_tables(folder / "tables", num_items=600)
    ship(folder / "model", heads=(dense(16, 4),))
    words = "--tables tables --model model --output vectors.safetensors"
    return ["-m", "process.item_vectors", *words.split()]


def _semantic_codes(folder: Path, stack: ExitStack) -> list[str]:
    vectors = torch.randn(3_000, 16, generator=torch.Generator().manual_seed(1))
    ids = [f"N{row}" for row in range(len(vectors))]
    write_item_vectors(folder / "vectors.safetensors", ids, vectors)
    words = "--vectors vectors.safetensors --output codes.safetensors --size 64 --unique"
    return ["-m", "process.semantic_codes", *words.split()]


def _vocabulary(folder: Path, stack: ExitStack) -> list[str]:
    tables = reviewed_tables(folder).folder
    shape = "--max-name-words 4 --width 16 --heads 2 --layers 2"
    words = f"--tables {tables} --output words {shape}"
    return ["-m", "process.vocabulary", *words.split()]


def _genre(folder: Path, stack: ExitStack) -> list[str]:
    tiny_tables(folder / "tables")
    scheme = tiny_scheme(folder).name
    told = Told('{"interests": ["sea", "war"]}', delay=0.05)
    server = stack.enter_context(FaultyServer(lambda asked: told))
    words = f"run --scheme {scheme} --data tables --store {ANSWERS} --model fake"
    return ["-m", "process.genre", *words.split(), "--base-url", server.base_url]


def _trained(folder: Path) -> None:
    run(tiny_config(tiny_tables(folder / "tables"), folder / "runs", train={"epochs": 1}))


def _lists(folder: Path, stack: ExitStack) -> list[str]:
    _trained(folder)
    return _legos("recommend runs --all --k 5 --device cpu --output lists.parquet")


def _vectors(folder: Path, stack: ExitStack) -> list[str]:
    _trained(folder)
    return _legos("vectors runs --device cpu --output vectors")


def _legos(line: str) -> list[str]:
    return ["-m", "legos", *line.split()]


def _system(name: str) -> Callable[[Path, ExitStack], list[str]]:
    return lambda folder, stack: _settled({**SYSTEMS, **MORE}[name](folder), folder)


COMMANDS: dict[str, Callable[[Path, ExitStack], list[str]]] = {
    "legos table": _own_tables,
    "process.amazon": _amazon,
    "process.mind": _mind,
    "legos run, bricks": _bricks,
    "legos run, LoRA": _system("lora"),
    "legos run, CLLM4Rec": _system("cllm4rec"),
    "legos run, RecSysLLM": _system("recsysllm"),
    "legos run, TIGER": _system("tiger"),
    "legos run, search": _search,
    "legos run, compare": _comparison,
    "legos run, cache": _cache,
    "process.item_vectors": _item_vectors,
    "process.semantic_codes": _semantic_codes,
    "process.vocabulary": _vocabulary,
    "process.genre run": _genre,
    "legos recommend": _lists,
    "legos vectors": _vectors,
}
"""By name what makes the inputs in a folder and returns the words; see :class:`Command`."""


def main() -> None:
    """Do the run whose settings are in the working folder."""

    def command(_: Any) -> None:
        run(RunConfig.model_validate_json(Path(CONFIG).read_text()))

    sys.exit(run_command(command, []))


if __name__ == "__main__":
    main()

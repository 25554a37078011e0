"""What two processes write together: ``python -m tests.lm.shared_items TABLES FOLDER``.

``python -m tests.lm.shared_items FOLDER`` writes the small cache alone; its last process is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from legos.baselines import text_cosine
from legos.baselines.base import make_baseline
from legos.baselines.data import BaselineData
from legos.data.ragged import Ragged
from legos.data.tables import Tables
from legos.errors import LegosError, run_command
from legos.evaluation.baselines import share_texts
from legos.lm.hidden_writer import write_parts
from legos.modes.cache import cache_states
from legos.modes.embed import write_vectors
from legos.progress import PlainConsole
from legos.sharing import ALONE, Sharing
from legos.workplace.device import joined_processes, make_accelerator
from tests.lm.cached import PARTS, TOKENS, cache, states
from tests.modes.test_embed import job
from tests.modes.tiny_config import tiny_config
from tests.workplace.test_language import language_config

SMALL = 64  # bytes a shard: four rows of a layer in fp32
PAGES = 5  # shards that makes of the small cache
EXP = {"mode": "cache", "cache": {"layers": [1, 2], "pooled": True}}


def write(
    folder: Path, sharing: Sharing, reading: Callable[[int], float] = lambda page: 1.0
) -> list[list[int]]:
    """Write the small cache; returns the token ids of each page that this process computed.

    ``reading`` is told of pages before they are computed, and multiplies their states.
    """
    pages: list[list[int]] = []
    done: list[int] = []

    def computed(page: Ragged) -> Mapping[str, Tensor]:
        factor = reading(len(pages))
        pages.append(page.values.tolist())
        return {name: values * factor for name, values in states(page).items()}

    write_parts(
        cache(folder),
        TOKENS, PARTS, computed, dtype="fp32", shard_bytes=SMALL, advance=done.append,
        sharing=sharing,
    )  # fmt: skip
    assert sum(done) == TOKENS.values.numel()
    return pages


def everything(tables: Path, folder: Path, sharing: Sharing) -> None:
    """A cache of every part, item vectors and text vectors, of tiny models."""
    accelerator = sharing.accelerator or make_accelerator(
        device="cpu", precision="fp32", deterministic=False
    )
    console = PlainConsole(quiet=True)
    with patch.dict(write_parts.__kwdefaults__ or {}, shard_bytes=4_096):
        cache_states(language_config(tables, folder, exp=dict(EXP)), accelerator, console)
    asked = job(tables, folder / "embed", batch_tokens=40)
    write_vectors(asked.exp, asked.data, accelerator, console)
    with patch.object(text_cosine, "_CACHE", folder / "baselines"):
        config, read = tiny_config(tables, folder, baselines=["text_cosine"]), Tables.load(tables)
        share_texts(config, read, accelerator, {}, lambda split: folder / split)
        if sharing.is_first:
            assert sharing == ALONE or list((folder / "baselines").iterdir())
            split = BaselineData(read, "test")
            make_baseline("text_cosine").pair_scores(split)


def begun_and_broken(folder: Path, sharing: Sharing) -> None:
    """Go on with caches of 0, 1, ... finished pages; be refused by a lock; end with an error."""
    for begun in range(PAGES):
        own = len(write(folder / f"begun{begun}", sharing))
        counts = [count for _, count in sharing.in_turns(range(2), lambda _, own=own: own)]
        assert counts == [(PAGES - begun + 1) // 2, (PAGES - begun) // 2]
    with pytest.raises(LegosError, match=r"process \d+ is working on this cache"):
        write(folder / "locked", sharing)
    with pytest.raises(LegosError, match=r"states of items 'N105' are not finite"):
        write(folder / "broken", sharing, lambda page: torch.nan if is_last() and page else 1.0)


def is_last() -> bool:
    return os.environ["RANK"] == "1"


def killed(page: int) -> float:
    if is_last() and page == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0


def main() -> int:
    words = [Path(word) for word in sys.argv[1:]]

    def command(_: object) -> None:
        accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
        with joined_processes(accelerator):
            sharing = Sharing.between(accelerator)
            if len(words) == 1:
                write(words[0], sharing, killed)
                return
            everything(words[0], words[1], sharing)
            begun_and_broken(words[1], sharing)

    return run_command(command, ["--traceback"])


if __name__ == "__main__":
    sys.exit(main())

"""One run from its configuration: what ``exp.mode`` says, or new impressions to be scored."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from legos.config.schema import RunConfig
from legos.progress import PlainConsole
from legos.terminal import as_started
from legos.workplace.device import (
    joined_processes,
    launched_alone,
    make_accelerator,
)


def run(
    config: RunConfig,
    impressions: Path | None = None,
    *,
    words: Sequence[str] = (),
    verbose: bool = False,
) -> dict[str, Any]:
    """Do what ``exp.mode`` says and return what ``results.json`` holds.

    Args:
        config: data, model, experiment and token vectors.
        impressions: tables of new impressions to score with a trained model.
        words: the command line that ``config`` was loaded from; mode search loads trials from it.
        verbose: print the tables by items and users, too.

    Raises:
        LegosError: what a user did wrong, from any part.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the training is saved.
    """
    accelerator = make_accelerator(
        device=config.exp.device,
        precision=config.exp.precision,
        deterministic=config.exp.deterministic,
    )
    with joined_processes(accelerator):
        return _run(config, accelerator, impressions, words, verbose)


def _run(
    config: RunConfig,
    accelerator: Accelerator,
    impressions: Path | None,
    words: Sequence[str],
    verbose: bool,
) -> dict[str, Any]:
    console = PlainConsole(quiet=not accelerator.is_main_process)
    if launched_alone():
        told = (
            "notice: accelerate launch started only one process: on a CPU it does not start "
            "others; results are the same. `torchrun --nproc-per-node 2 worker.py "
            "...` starts two"
        )
        print(as_started(told), file=sys.stderr)
    # each mode is imported on its own: some of them need half a second of torch more than others
    if config.exp.mode == "compare":
        from legos.modes.compare import compare

        return compare(config, accelerator, console, verbose=verbose)
    if config.exp.mode == "search":
        from legos.modes.search import search

        return search(config, words, accelerator, console, verbose=verbose)
    if config.exp.mode == "cache":
        from legos.modes.cache import cache_states

        return cache_states(config, accelerator, console)
    if config.exp.mode == "embed":
        from legos.modes.embed import write_vectors

        return write_vectors(config.exp, config.data, accelerator, console)
    if config.exp.mode == "export":
        from legos.modes.export import export

        return export(config, accelerator, console)
    if impressions is not None:
        from legos.modes.new_impressions import score_new_impressions

        return score_new_impressions(config, accelerator, impressions, console)
    from legos.modes.train_test import run_and_show

    return run_and_show(config, accelerator, console, verbose=verbose)

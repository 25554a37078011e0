"""For the whole suite: one thread a process, and the same random numbers for a test each time."""

from __future__ import annotations

import gc
import os
import random

import numpy as np
import pytest
import torch

# More threads than free cores are slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


_LONG = 5.0  # seconds of a test on a free core that asks for the mark slow


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="the first case of each test, without the marks slow and multiprocess",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under ``--quick`` leave one case of each test, of those that take no other processes."""
    if not config.getoption("quick"):
        return
    left_out, seen = {"multiprocess", "nightly", "slow"}, set[str]()
    quick, others = list[pytest.Item](), list[pytest.Item]()
    for item in items:
        test = item.nodeid.partition("[")[0]
        is_quick = test not in seen and not any(item.get_closest_marker(name) for name in left_out)
        (quick if is_quick else others).append(item)
        if is_quick:
            seen.add(test)
    items[:] = quick
    config.hook.pytest_deselected(items=others)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what slows ``make test-quick``."""
    for report in terminalreporter.getreports("passed"):
        marks = report.keywords.keys() & {"multiprocess", "nightly", "slow"}
        if report.duration > _LONG and not marks:
            place = f"{report.duration:.0f} s and not marked slow: {report.nodeid}"
            terminalreporter.write_line(place)


def pytest_collection_finish() -> None:
    """Leave out what is imported from the garbage collections of every run: a third of a second."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed before any fixture: a test that fails once in a thousand draws fails always or never."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)

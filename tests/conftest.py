"""For the whole suite: one thread a process, and the same random numbers for a test each time."""

from __future__ import annotations

import gc
import os
import random
import sys

import pytest

# More threads than free cores are slower.
os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_LONG = 5.0  # seconds of a test on a free core that asks for the mark slow


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="the first case of each test, without the marks slow and multiprocess",
    )


@pytest.hookimpl(trylast=True)  # after hypothesis has loaded the profile of the command line
def pytest_configure(config: pytest.Config) -> None:
    """Under ``--quick`` draw ten examples, where a test of hypothesis names no number."""
    if config.getoption("quick"):
        from hypothesis import settings

        settings.register_profile("quick", settings(), max_examples=10)
        settings.load_profile("quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that fork; under ``--quick`` leave one case of each quick test.

    The first half goes to the first worker, so most forks come from one server.
    """
    forking = {item.path for item in items if item.get_closest_marker("multiprocess")}
    items.sort(key=lambda item: item.path not in forking)
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
    """Spare every run what no test can see: hundreds of waits for the disk, stacks of seeds.

    Without a GPU ``torch.manual_seed`` keeps the stack of each call for the day that CUDA starts,
    a millisecond each. Tests kill processes, never the machine: no file has to be on the disk.
    """
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if not torch.cuda.is_available():
        torch.manual_seed = torch.default_generator.manual_seed
    os.fsync = lambda file: None
    _freeze()


_modules = 0  # that were imported when objects were frozen


def _freeze() -> None:
    """Leave what is imported out of the garbage collections of every run, half a second each."""
    global _modules
    if len(sys.modules) > _modules + 100:
        gc.collect()
        gc.freeze()
        _modules = len(sys.modules)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed before any fixture: a test that fails once in a thousand draws fails always or never."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    _freeze()

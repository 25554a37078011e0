"""A part of a benchmark in a process of its own, for its peak memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch

from legos.workplace.device import peak_memory_mb


class Alone(NamedTuple):
    """What a process of its own measured.

    Attributes:
        result: of the function.
        mib: the process's peak memory; the libraries take some 250 MiB of it.
    """

    result: Any
    mib: float


def alone(function: Callable[..., Any], *arguments: Any) -> Alone:
    """Call a function of a module in a new process with as many threads as this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, torch.get_num_threads(), function, *arguments).result()


def _measured(threads: int, function: Callable[..., Any], *arguments: Any) -> Alone:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    result = function(*arguments)
    return Alone(result, peak_memory_mb(torch.device("cpu"))["process"])


def bar(share: float, width: int = 30) -> str:
    """A bar of a chart in text, for a share from 0 to 1."""
    return "#" * max(1, round(share * width))

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

"""The state of every random-number generator a brick may use, as plain values and tensors."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from legos.errors import CheckpointError


def seed_everything(seed: int, *, rank: int = 0) -> None:
    """Seed python, numpy and torch; each process differently, so that dropout differs."""
    seed = (seed + 1_000_003 * rank) % 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_values() -> dict[str, Any]:
    """States of python's and numpy's generators as JSON values."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, [int(key) for key in keys], position, has_gauss, cached],
    }


def random_tensors() -> dict[str, Tensor]:
    """States of torch's generators: CPU, and the current CUDA device where there is one."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random(
    values: Mapping[str, Any], tensors: Mapping[str, Tensor], *, origin: object
) -> None:
    """Go on from ``random_values()`` and ``random_tensors()``.

    Raises:
        CheckpointError: they are no such states.
    """
    try:
        version, internal, gauss = values["python"]
        random.setstate((version, tuple(internal), gauss))
        name, keys, position, has_gauss, cached = values["numpy"]
        np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
        restore_random_tensors(tensors)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CheckpointError(
            f"{origin}: holds no states of random-number generators ({error}); delete this "
            "checkpoint and train again"
        ) from None


def restore_random_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Let torch's generators go on from ``random_tensors()``."""
    torch.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])

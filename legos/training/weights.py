"""Conversion between modules and the named tensors of a checkpoint.

Only what training changes is stored: parameters that take gradients and persistent buffers. Frozen
parameters (a pretrained table) are rebuilt from their source; their hash is kept to see that they
are the same. Sharded parameters (FSDP) are gathered when read and sharded again when written.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from legos.errors import CheckpointError

_SHOWN = 3  # differences named in an error


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Trained parameters and persistent buffers by name; collective when sharded."""
    return {name: whole(tensor) for name, tensor in _stored(model)}


def load_model_tensors(model: nn.Module, tensors: Mapping[str, Tensor], *, origin: object) -> None:
    """Copy stored tensors into a model.

    Raises:
        CheckpointError: names or shapes differ; the message lists the first differences.
    """
    own = dict(_stored(model))
    differences = [f"{name} is not in the checkpoint" for name in own if name not in tensors]
    differences += [f"{name} is not in the model" for name in tensors if name not in own]
    differences += [
        f"{name} is {tuple(tensors[name].shape)} in the checkpoint, {tuple(own[name].shape)} in "
        "the model"
        for name in own
        if name in tensors and own[name].shape != tensors[name].shape
    ]
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise CheckpointError(
            f"{origin}: checkpoint of another model: {'; '.join(differences[:_SHOWN])}{more}"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(_like(tensors[name], tensor))


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names start with a prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def frozen_hashes(model: nn.Module) -> dict[str, str]:
    """SHA-256 of every frozen parameter by name.

    A module with an attribute ``fingerprint`` answers for all of its own: the gigabytes of a
    language model are hashed once, as files.
    """
    known = {
        name: module.fingerprint
        for name, module in model.named_modules()
        if isinstance(getattr(module, "fingerprint", None), str)
    }
    found = {
        name: _sha256(whole(parameter))
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad and not any(name.startswith(f"{k}.") for k in known)
    }
    return {**known, **found}


def check_frozen(found: Mapping[str, str], expected: Mapping[str, str], *, origin: object) -> None:
    """Check by hash that rebuilt frozen parameters are those of the training.

    Raises:
        CheckpointError: one of them differs.
    """
    if dict(found) != dict(expected):
        names = sorted(set(found) ^ set(expected)) or sorted(
            name for name in found if found[name] != expected[name]
        )
        raise CheckpointError(
            f"{origin}: frozen weights differ from those used in training: "
            f"{', '.join(names[:_SHOWN])}; use the same pretrained model and vocabulary"
        )


def optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Moments as ``<parameter>/<moment>``; collective when sharded."""
    return {
        f"{name}/{key}": whole(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(
    model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor], *, origin: object
) -> None:
    """Load moments into an optimizer.

    Raises:
        CheckpointError: they belong to parameters that the model does not have.
    """
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, moment = key.rpartition("/")
        if name not in parameters:
            raise CheckpointError(f"{origin}: holds moments of {name!r}, not in the model")
        parameter = parameters[name]
        if value.dim() and value.shape != parameter.shape:
            raise CheckpointError(
                f"{origin}: moments of {name} are {tuple(value.shape)}, the parameter "
                f"{tuple(parameter.shape)}"
            )
        # a step count is a scalar, on the parameter's device only where Adam is fused
        if value.dim() == 0:
            device = parameter.device if optimizer.defaults.get("fused") else "cpu"
            moved = value.to(device, copy=True)
        else:
            moved = _like(value, parameter)
        optimizer.state[parameter][moment] = moved


def _stored(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    kept = model.state_dict().keys()  # without non-persistent buffers
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name, parameter
    for name, buffer in model.named_buffers():
        if name in kept:
            yield name, buffer


def whole(tensor: Tensor) -> Tensor:
    """Detach a tensor; a sharded one is gathered from all processes."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _like(value: Tensor, target: Tensor) -> Tensor:
    value = value.to(target.device)
    if isinstance(target, DTensor):
        return distribute_tensor(value, target.device_mesh, target.placements)
    return value.clone()


def _sha256(tensor: Tensor) -> str:
    array = tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return hashlib.sha256(array.data).hexdigest()


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
    """Restore ``random_values()`` and ``random_tensors()``.

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
            f"{origin}: has no states of random-number generators ({error}); delete this "
            "checkpoint and train again"
        ) from None


def restore_random_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Restore torch's generators from ``random_tensors()``."""
    torch.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])

"""Checkpoints: a folder of safetensors and JSON that is replaced as a whole.

    model.safetensors      trained parameters and buffers; frozen ones are rebuilt, not stored
    optimizer.safetensors  moments and random-number states (absent in ``best``)
    state.json             format, step, epoch, hashes of the two files, ...

Nothing is pickled. A crash at any point leaves the old or the new checkpoint loadable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from legos.errors import CheckpointError
from legos.files import atomic_folder, recover_folder, sha256_of_file, sha256_of_text, write_json
from legos.records import Record, Sha256, check_record, read_json

FORMAT = 1
MODEL_FILE, OPTIMIZER_FILE, STATE_FILE = "model.safetensors", "optimizer.safetensors", "state.json"


_HINT = "delete this checkpoint and train again"


class StateRecord(Record):
    """``state.json``, as far as every system has it."""

    format: int
    files: dict[str, Sha256]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes:
        model: trained parameters and buffers by name.
        optimizer: moments and random-number states by name; empty where only scoring is meant.
        state: plain JSON values.
    """

    model: Mapping[str, Tensor]
    state: Mapping[str, Any]
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Put a checkpoint in the place of ``folder``, whole or not at all.

    Raises:
        CheckpointError: the disk is full.
    """
    with atomic_folder(folder) as temporary:
        try:
            save_file(_storable(checkpoint.model), temporary / MODEL_FILE)
            if checkpoint.optimizer:
                save_file(_storable(checkpoint.optimizer), temporary / OPTIMIZER_FILE)
        except SafetensorError as error:  # it wraps what the operating system says
            raise CheckpointError(
                f"{folder}: not written ({error}); earlier checkpoints are intact; rerun the "
                "command to resume"
            ) from None
        files = {path.name: sha256_of_file(path) for path in sorted(temporary.iterdir())}
        state = {"format": FORMAT, **checkpoint.state, "files": files}
        write_json(temporary / STATE_FILE, state)


def has_checkpoint(folder: Path) -> bool:
    """Whether a checkpoint is there, after undoing what a crash left.

    Raises:
        CheckpointError: its tensors are there, but not its state.
    """
    recover_folder(folder)
    if (folder / STATE_FILE).is_file():
        return True
    if (folder / MODEL_FILE).is_file() and (folder / OPTIMIZER_FILE).is_file():
        raise CheckpointError(f"{folder}: {STATE_FILE} is missing beside its tensors; {_HINT}")
    return False


def checkpoint_in(folder: Path) -> Path:
    """The best checkpoint of a run folder, or the folder itself where it is one.

    Raises:
        CheckpointError: there is none.
    """
    best = folder / "checkpoints" / "best"
    for found in (best, folder):
        if has_checkpoint(found):
            return found
    raise CheckpointError(f"{folder}: no trained model here")


def checkpoint_content(folder: Path) -> str:
    """A hash of the tensors of a checkpoint, as they were when it was written."""
    return sha256_of_text(json.dumps(_read_state(folder)["files"], sort_keys=True))


def read_checkpoint(folder: Path, state: type[StateRecord] = StateRecord) -> Checkpoint:
    """Read and verify a checkpoint.

    Args:
        folder: of the checkpoint.
        state: schema of its ``state.json``.

    Raises:
        CheckpointError: missing, cut short, damaged, of another format, or of another system.
    """
    content = _read_state(folder, state)
    files, known = content["files"], (MODEL_FILE, OPTIMIZER_FILE)
    tensors = {name: _read_tensors(folder / name, files[name]) for name in known if name in files}
    return Checkpoint(
        model=tensors[MODEL_FILE], state=content, optimizer=tensors.get(OPTIMIZER_FILE, {})
    )


def _read_state(folder: Path, schema: type[StateRecord] = StateRecord) -> dict[str, Any]:
    if not (folder / STATE_FILE).is_file():
        raise CheckpointError(
            f"{folder}: no checkpoint ({STATE_FILE} is missing); give a run folder or one of "
            "its checkpoints/best, checkpoints/last"
        )
    path = folder / STATE_FILE
    content: dict[str, Any] = read_json(path, error=CheckpointError, hint=_HINT)
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(content, dict) and found != FORMAT:
        raise CheckpointError(f"{path}: checkpoint format {found!r}, this version reads {FORMAT}")
    files = check_record(content, schema, str(path), CheckpointError, _HINT).files
    if MODEL_FILE not in files:
        raise CheckpointError(f"{path}: names no {MODEL_FILE}; {_HINT}")
    return content


def _read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing, although {STATE_FILE} names it; {_HINT}")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: cut short or damaged ({error}); {_HINT}") from None
    if sha256_of_file(path) != sha256:
        raise CheckpointError(f"{path}: damaged, its bytes differ from what was written; {_HINT}")
    return tensors


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

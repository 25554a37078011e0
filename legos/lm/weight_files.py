"""Tensors in weight files: their names, shapes and numbers, read without a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from legos.errors import ConfigError
from legos.lm.locate import INDEX, SINGLE, refuse_adapter, shards


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, with its name there and its dtype as safetensors calls it: ``BF16``."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def is_weight(self) -> bool:
        """Whether it was learned: a mask, a counter or positions written out were not."""
        is_mask = len(self.shape) == 4 and self.shape[-1] == self.shape[-2]
        return bool(
            self.dtype.startswith(("F", "BF"))
            and self.shape not in ((), (1,))
            and not is_mask
            and not self.name.endswith("inv_freq")
        )

    def read(self) -> Tensor:
        """All of it."""
        from safetensors import safe_open

        with safe_open(self.file, "pt") as content:
            whole: Tensor = content.get_tensor(self.name)
        return whole


def base_prefix(model: Any) -> str:
    """What a file with a head writes before the names of a model without one."""
    return f"{getattr(model, 'base_model_prefix', '')}."


def stored_as(stored: Mapping[str, StoredTensor], name: str, model: Any) -> StoredTensor | None:
    """A model's tensor in its files, under its own name or the one with a head; None: in none."""
    return stored.get(name) or stored.get(base_prefix(model) + name)


def rows_of(tensor: Any) -> Tensor:
    """The first, middle and last row of a tensor or a slice of a file; vectors whole."""
    shape = tensor.shape if isinstance(tensor, Tensor) else tensor.get_shape()
    if len(shape) < 2 or shape[0] < 4:
        whole: Tensor = tensor if isinstance(tensor, Tensor) else tensor[:]
        return whole
    count = shape[0]
    return torch.cat([tensor[row : row + 1] for row in (0, count // 2, count - 1)])


def sampled_rows(tensors: Iterable[StoredTensor]) -> Iterator[tuple[StoredTensor, Tensor]]:
    """Every tensor with some of its rows, see :func:`rows_of`."""
    from safetensors import safe_open

    by_file = defaultdict(list)
    for tensor in tensors:
        by_file[tensor.file].append(tensor)
    for file, inside in by_file.items():
        with safe_open(file, "pt") as content:
            for tensor in inside:
                part = content.get_slice if tensor.shape else content.get_tensor
                yield tensor, rows_of(part(tensor.name))


def stored_tensors(folder: Path) -> Mapping[str, StoredTensor]:
    """The tensors that transformers reads of a folder; nothing but headers is read.

    Raises:
        ConfigError: as :func:`weight_files`; or a file is cut short, the index names tensors that
            no file holds, or the folder holds an adapter.
    """
    from safetensors import SafetensorError, safe_open

    refuse_adapter(folder)
    files, listed = weight_files(folder)
    found: dict[str, StoredTensor] = {}
    for file in files:
        try:
            with safe_open(file, "pt") as content:
                for name in content.keys():  # noqa: SIM118 - a file, no mapping
                    part: Any = content.get_slice(name)
                    shape = tuple(part.get_shape())
                    found[name] = StoredTensor(file, name, shape, str(part.get_dtype()))
        except (SafetensorError, OSError) as error:
            raise ConfigError(
                f"{file}: cut short or damaged ({error}); fetch the file again"
            ) from None
    lost = [name for name in listed if name not in found or found[name].file != listed[name]]
    if lost:
        raise ConfigError(
            f"{folder / INDEX}: names {len(listed)} tensors, {len(lost)} of them are not where "
            f"it says, first {lost[0]} in {listed[lost[0]].name}; fetch the folder again"
        )
    return found


def weight_files(folder: Path) -> tuple[list[Path], dict[str, Path]]:
    """The files that transformers reads, and by tensor the file that the index names.

    Raises:
        ConfigError: there are no safetensors weights, or a file is missing.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE], {}
    if not (folder / INDEX).is_file():
        raise _no_weights(folder)
    listed = shards(folder)
    files = sorted(set(listed.values()))
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise ConfigError(
            f"{folder}: {len(missing)} of {len(files)} weight files are missing, first "
            f"{missing[0] if missing else 'all'} ({INDEX} names it); fetch them again"
        )
    return files, listed


def _no_weights(folder: Path) -> ConfigError:
    text = f"{folder}: no {SINGLE} and no {INDEX} here"
    pickles = sorted(file.name for end in ("bin", "pt", "pth") for file in folder.glob(f"*.{end}"))
    safe = sorted(file.name for file in folder.glob("*.safetensors"))
    if pickles:
        text += (
            f"; weights as pickles are not read ({pickles[0]}), for they can run code; "
            "AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER) converts them"
        )
    elif safe:
        text += f"; {', '.join(safe[:3])}: rename it if it holds the whole model"
    return ConfigError(text)

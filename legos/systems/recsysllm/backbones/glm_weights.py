"""Published weights of GLM and ChatGLM as a state dict of our :class:`GlmBackbone`.

Three layouts: Megatron's ``mp_rank_XX_model_states.pt`` in any number of shards; the files of the
Hugging Face hub, which hold the same keys as they are or under ``glm.``; ChatGLM, whose fused
projection lies head by head (query, key and value of a head together) instead of in three blocks.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from legos.errors import ConfigError
from legos.lm.audit import describe_instead

_SHARD = re.compile(r"mp_rank_(\d+)_model_states\.pt")
_PREFIXES = ("module.", "glm.", "base_model.")
_DROPPED = ("rotary_emb.inv_freq",)


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, under GLM's names.

    Args:
        path: a ``.safetensors``, ``.bin`` or ``.pt`` file, or a folder of shards of any layout.

    Raises:
        ConfigError: there is nothing to read, or a file holds more than tensors.
    """
    files = [path] if path.is_file() else sorted(path.glob("*")) if path.is_dir() else []
    shards = sorted(
        (file for file in files if _SHARD.fullmatch(file.name)),
        key=lambda file: int(_SHARD.fullmatch(file.name)[1]),  # type: ignore[index] # it matches
    )
    if shards:
        ranks = [int(_SHARD.fullmatch(file.name)[1]) for file in shards]  # type: ignore[index]
        if path.is_dir() and ranks != list(range(len(ranks))):
            raise ConfigError(f"{path}: shards {ranks}; expected 0 to {max(ranks)}, each once")
        return clean_names(merge_shards([_module(_load(file), file) for file in shards]))
    found: dict[str, Tensor] = {}
    safe = [file for file in files if file.suffix == ".safetensors"]
    for file in safe or [file for file in files if file.suffix in (".bin", ".pt")]:
        found.update(_load_safe(file) if safe else _module(_load(file), file))
    if not found:
        raise ConfigError(
            f"{path}: no weights here; expected *.safetensors, *.bin or mp_rank_XX_model_states.pt"
        )
    return clean_names(found)


def has_shards(folder: Path) -> bool:
    """Whether there are shards of Megatron in a folder."""
    return any(_SHARD.fullmatch(file.name) for file in folder.glob("*.pt"))


def merge_shards(shards: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Shards of a tensor-parallel model as one: the inverse of how Megatron splits it.

    Args:
        shards: in the order of their ranks, all with the same keys.

    Raises:
        ConfigError: keys differ.
    """
    for rank, shard in enumerate(shards):
        if shard.keys() != shards[0].keys():
            different = sorted(shard.keys() ^ shards[0].keys())
            raise ConfigError(f"shard {rank}: its keys differ from those of shard 0 ({different})")
    return {name: _merged(name, [shard[name] for shard in shards]) for name in shards[0]}


def split_shards(weights: Mapping[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """What :func:`merge_shards` puts together again.

    Raises:
        ConfigError: a tensor cannot be divided into so many parts.
    """
    shards: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for name, tensor in weights.items():
        axis = _split_axis(name)
        blocks = list(tensor.chunk(3)) if "query_key_value" in name else [tensor]
        if axis is not None and blocks[0].shape[axis] % count:
            raise ConfigError(f"{name}: {tuple(tensor.shape)} cannot be split into {count} shards")
        for rank, shard in enumerate(shards):
            parts = [block if axis is None else block.chunk(count, axis)[rank] for block in blocks]
            shard[name] = torch.cat(parts).clone()
    return shards


def clean_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the prefixes of wrappers; ChatGLM's token table where GLM has it."""
    clean: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        bare = name
        while bare.startswith(_PREFIXES):
            bare = bare.partition(".")[2]
        bare = bare.replace("transformer.word_embeddings", "word_embeddings")
        if not bare.endswith(_DROPPED):
            clean[bare] = tensor
    return clean


def heads_to_blocks(weights: Mapping[str, Tensor], num_heads: int) -> dict[str, Tensor]:
    """ChatGLM's fused projections, head by head, as three blocks."""
    return {
        name: _regrouped(tensor, num_heads) if "query_key_value" in name else tensor
        for name, tensor in weights.items()
    }


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, origin: str) -> None:
    """Fill a model; every parameter must be there, in its shape, and nothing else.

    Args:
        model: a :class:`legos.systems.recsysllm.backbones.glm.GlmBackbone`; of one without numbers
            the tensors become what is given, in its dtypes.
        weights: under its names.
        origin: for errors.

    Raises:
        ConfigError: a key is missing or unknown, or a shape differs.
    """
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unknown:
        instead = describe_instead(missing, list(own), list(weights)) if missing else ""
        raise ConfigError(
            f"{origin}: {len(missing)} of {len(own)} parameters are missing {missing[:3]} and "
            f"{len(unknown)} unknown {unknown[:3]}; "
            f"{instead or 'does the configuration fit these weights?'}"
        )
    for name, tensor in own.items():
        if tensor.shape != weights[name].shape:
            raise ConfigError(
                f"{origin}: {name} is {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}"
            )
    cast = {name: weights[name].to(tensor.dtype) for name, tensor in own.items()}
    model.load_state_dict(cast, assign=True)


def _split_axis(name: str) -> int | None:
    """Along which axis Megatron splits a parameter; None: every shard has all of it."""
    if "position" in name:
        return None
    if "query_key_value" in name or "dense_h_to_4h" in name or "word_embeddings" in name:
        return 0
    if name.endswith(("attention.dense.weight", "dense_4h_to_h.weight")):
        return 1
    return None


def _merged(name: str, parts: list[Tensor]) -> Tensor:
    axis = _split_axis(name)
    if axis is None or len(parts) == 1:
        return parts[0]
    if "query_key_value" in name:
        thirds = [part.chunk(3) for part in parts]
        return torch.cat([third[block] for block in range(3) for third in thirds])
    return torch.cat(parts, axis)


def _regrouped(tensor: Tensor, num_heads: int) -> Tensor:
    rows = tensor.shape[0]
    by_head = tensor.reshape(num_heads, 3, rows // (3 * num_heads), *tensor.shape[1:])
    return by_head.transpose(0, 1).reshape(tensor.shape)


def _load(file: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # Megatron's own settings
            return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{file}: cannot be read as plain tensors ({reason}); save its weights as safetensors"
        ) from None


def _load_safe(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(file)
    except SafetensorError as error:
        raise ConfigError(f"{file}: damaged ({error})") from None
    return tensors


def _module(content: Any, file: Path) -> dict[str, Tensor]:
    weights = content.get("module", content) if isinstance(content, dict) else content
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise ConfigError(f"{file}: expected tensors by name, or a key `module` that holds them")
    return weights

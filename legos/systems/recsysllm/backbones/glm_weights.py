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

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from legos.errors import ConfigError
from legos.lm.audit import describe_instead

_SHARD = re.compile(r"mp_rank_(\d+)_model_states\.pt")
_PREFIXES = ("module.", "glm.", "base_model.")
_DROPPED = ("rotary_emb.inv_freq",)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint in shards of any layout, under GLM's names.

    Raises:
        ConfigError: there is nothing to read, or a file holds more than tensors.
    """
    shards = _shards(folder)
    if shards:
        if list(shards) != list(range(len(shards))):
            raise ConfigError(
                f"{folder}: shards {list(shards)}; expected 0 to {max(shards)}, each once"
            )
        return clean_names(merge_shards([_tensors(file) for file in shards.values()]))
    files = sorted(folder.glob("*.safetensors"))
    files = files or sorted([*folder.glob("*.bin"), *folder.glob("*.pt")])
    if not files:
        raise ConfigError(
            f"{folder}: no weights here; expected *.safetensors, *.bin or "
            "mp_rank_XX_model_states.pt"
        )
    weights: dict[str, Tensor] = {}
    for file in files:
        weights.update(_tensors(file))
    return clean_names(weights)


def has_shards(folder: Path) -> bool:
    """Whether there are shards of Megatron in a folder."""
    return bool(_shards(folder))


def _shards(folder: Path) -> dict[int, Path]:
    """Megatron's files by rank, ascending."""
    ranks = {file: _SHARD.fullmatch(file.name) for file in folder.glob("*.pt")}
    return dict(sorted((int(match[1]), file) for file, match in ranks.items() if match))


def merge_shards(shards: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Shards of a tensor-parallel model, in the order of their ranks, as one.

    Raises:
        ConfigError: keys differ.
    """
    merged = {}
    for rank, shard in enumerate(shards):
        if shard.keys() != shards[0].keys():
            different = sorted(shard.keys() ^ shards[0].keys())
            raise ConfigError(f"shard {rank}: its keys differ from those of shard 0 ({different})")
    for name in shards[0]:
        parts, axis = [shard[name] for shard in shards], split_axis(name)
        if "query_key_value" in name:  # queries, keys and values lie in every shard
            thirds = [part.chunk(3) for part in parts]
            parts = [third[block] for block in range(3) for third in thirds]
        if axis is None or len(shards) == 1:
            merged[name] = shards[0][name]
        else:
            merged[name] = torch.cat(parts, axis)
    return merged


def split_axis(name: str) -> int | None:
    """Along which axis Megatron splits a parameter; None: every shard has all of it."""
    if "position" in name:
        return None
    if "query_key_value" in name or "dense_h_to_4h" in name or "word_embeddings" in name:
        return 0
    return 1 if name.endswith(("attention.dense.weight", "dense_4h_to_h.weight")) else None


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

    def regrouped(tensor: Tensor) -> Tensor:
        by_head: Tensor = tensor.unflatten(0, (num_heads, 3, -1))
        return by_head.transpose(0, 1).reshape(tensor.shape)

    return {
        name: regrouped(tensor) if "query_key_value" in name else tensor
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


def _tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file; of torch's own those under `module`, if there is such a key."""
    if file.suffix == ".safetensors":
        try:
            tensors: dict[str, Tensor] = load_file(file)
        except SafetensorError as error:
            raise ConfigError(f"{file}: damaged ({error})") from None
        return tensors
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # Megatron's own settings
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{file}: cannot be read as plain tensors ({reason}); save its weights as safetensors"
        ) from None
    weights = content.get("module", content) if isinstance(content, dict) else content
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise ConfigError(f"{file}: expected tensors by name, or a key `module` that holds them")
    return weights

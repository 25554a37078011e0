"""Folders of tiny random GLMs, as they are published."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from legos.files import write_json
from legos.systems.recsysllm.backbones.glm import GlmBackbone, GlmConfig
from legos.systems.recsysllm.backbones.glm_weights import split_axis
from legos.systems.recsysllm.positions import SpecialTokens
from tests.systems.recsysllm.system import word_language_model

LAYOUTS = ("megatron", "hub", "chatglm")
HEADS = 2


def glm_folder(folder: Path, layout: str) -> tuple[dict[str, Any], GlmBackbone]:
    """A folder in one of the published layouts, what a model YAML says of it, and the model."""
    words = word_language_model(folder)["shape"]["vocab_size"]
    rotary = layout == "chatglm"
    names = ["[MASK]", "[sMASK]", "[gMASK]"]
    names += ["<sop>", "<eop>"] if rotary else ["<|startofpiece|>", "<|endofpiece|>", "[CLS]"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if rotary:  # among its words; GLM's other tokenizers have them behind
        tokenizer.add_special_tokens(names)
        tokenizer.save(str(folder / "tokenizer.json"))
    else:
        write_json(folder / "added_tokens.json", {n: words + at for at, n in enumerate(names)})
    ids = [words + at for at in range(len(names))]
    special = SpecialTokens(*ids[:5], pad=0, cls=None if rotary else ids[5])
    shape: dict[str, Any] = {
        "num_layers": 2, "hidden_size": 16, "num_heads": HEADS, "vocab_size": words + 9,
        "max_positions": 512,
    }  # fmt: skip
    if rotary:
        shape |= {"position_encoding": "rope2d", "tied_head": False, "scaled_residual": True}
        shape |= {"inner_size": 40, "dropout": 0.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = GlmBackbone(GlmConfig(**shape), special)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    said: dict[str, Any] = {"name": "tiny-glm", "path": str(folder)}
    if layout == "megatron":
        (folder / "config.json").unlink()  # Megatron writes none
        for rank, shard in enumerate(split_shards(model.state_dict(), 1)):
            content = {"module": shard, "args": argparse.Namespace(fp16=True), "iteration": 3}
            torch.save(content, folder / f"mp_rank_{rank:02d}_model_states.pt")
        return {**said, "shape": {"model_type": "glm_infill", **shape}}, model.eval()
    published = {
        "num_layers": 2, "hidden_size": 16, "num_attention_heads": HEADS,
        "vocab_size": words + 9, "max_sequence_length": 512,
        "model_type": "chatglm" if rotary else "glm",
        **({"inner_hidden_size": 40, "layernorm_epsilon": 1e-5} if rotary else {}),
    }  # fmt: skip
    write_json(folder / "config.json", published)
    weights = {
        (name if rotary else f"glm.{name}"): _by_heads(tensor)
        if rotary and "query_key_value" in name
        else tensor
        for name, tensor in model.state_dict().items()
    }
    torch.save(weights, folder / "pytorch_model.bin")
    return said, model.eval()


def split_shards(weights: Mapping[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """As Megatron splits a model over so many devices."""
    shards: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for name, tensor in weights.items():
        axis = split_axis(name)
        blocks = list(tensor.chunk(3)) if "query_key_value" in name else [tensor]
        for rank, shard in enumerate(shards):
            parts = [block if axis is None else block.chunk(count, axis)[rank] for block in blocks]
            shard[name] = torch.cat(parts).clone()
    return shards


def _by_heads(tensor: Tensor) -> Tensor:
    """Three blocks -> query, key and value of each head together."""
    size = len(tensor) // (3 * HEADS)
    parts = tensor.reshape(3, HEADS, size, *tensor.shape[1:])
    return parts.transpose(0, 1).reshape(tensor.shape).contiguous()

"""GLM: parameter counts, published layouts, adapters saved, loaded and merged."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from legos.errors import ConfigError
from legos.lm.adapt import lora_parameters, merge_lora
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone, choose_parts
from legos.systems.recsysllm.backbones.glm import SHAPES, GlmBackbone, GlmConfig
from legos.systems.recsysllm.backbones.glm_weights import (
    heads_to_blocks,
    load_weights,
    merge_shards,
    read_weights,
)
from legos.systems.recsysllm.positions import GLM_GPT2, Inputs
from legos.systems.recsysllm.settings import DecoderSettings
from tests.systems.recsysllm.glm_folders import split_shards
from tests.systems.recsysllm.small import CHATGLM, SHARED, small_glm, small_llama


def _inputs(count: int = 7) -> tuple[Inputs, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens, inter, intra = (
        torch.randint(high, (2, count), generator=generator) for high in (66, 9, 5)
    )
    mask = torch.rand(2, 1, count, count, generator=generator) < 0.6
    mask = mask | torch.eye(count, dtype=torch.bool)
    return Inputs(tokens, inter, intra, torch.arange(count).expand(2, count)), mask


def _logits(model: GlmBackbone) -> Tensor:
    inputs, mask = _inputs()
    return model.logits(model.states(inputs, mask)).detach()


def _norm(states: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    centred = states - states.mean(-1, keepdim=True)
    scaled = centred / (states.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _linear(states: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _turned(vector: Tensor, position: int) -> Tensor:
    """One half of a head as complex numbers: pair (j, j + size / 2) turns by its own angle."""
    half = len(vector) // 2
    angles = torch.tensor([position / 10_000 ** (2 * j / len(vector)) for j in range(half)])
    turned = torch.complex(vector[:half], vector[half:]) * torch.polar(torch.ones(half), angles)
    return torch.cat([turned.real, turned.imag])


def _reference(weights: dict[str, Tensor], *, layers: int, heads: int, chatglm: bool) -> Tensor:
    """One row, one head, one query at a time, from the published keys."""
    inputs, mask = _inputs()
    rows = []
    for row in range(2):
        states = weights["word_embeddings.weight"][inputs.tokens[row]]
        if not chatglm:
            states = states + weights["transformer.position_embeddings.weight"][inputs.inter[row]]
            block = weights["transformer.block_position_embeddings.weight"]
            states = states + block[inputs.intra[row]]
        count, width = states.shape
        size, scale = width // heads, math.sqrt(2 * layers)
        for layer in range(layers):
            at = f"transformer.layers.{layer}"
            normed = _norm(states, weights, f"{at}.input_layernorm")
            blocks = _linear(normed, weights, f"{at}.attention.query_key_value").split(width, -1)
            mixed = torch.zeros(count, width)
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                query, key, value = (block[:, part] for block in blocks)
                if chatglm:
                    query, key = (
                        torch.stack([
                            torch.cat([
                                _turned(each[t][: size // 2], int(inputs.inter[row, t])),
                                _turned(each[t][size // 2 :], int(inputs.intra[row, t])),
                            ])
                            for t in range(count)
                        ])
                        for each in (query, key)
                    )  # fmt: skip
                for t in range(count):
                    scores = (key @ query[t]) / math.sqrt(size)
                    weight = scores.masked_fill(~mask[row, 0, t], -math.inf).softmax(-1)
                    mixed[t, part] = weight @ value
            kept = normed * scale if chatglm else states
            states = kept + _linear(mixed, weights, f"{at}.attention.dense")
            normed = _norm(states, weights, f"{at}.post_attention_layernorm")
            inner = _linear(normed, weights, f"{at}.mlp.dense_h_to_4h")
            inner = 0.5 * inner * (1 + torch.tanh(0.7978845608 * (inner + 0.044715 * inner**3)))
            kept = normed * scale if chatglm else states
            states = kept + _linear(inner, weights, f"{at}.mlp.dense_4h_to_h")
        rows.append(_norm(states, weights, "transformer.final_layernorm"))
    head = weights["lm_head.weight" if chatglm else "word_embeddings.weight"]
    return torch.stack(rows) @ head.T


@pytest.mark.parametrize("chatglm", [False, True])
def test_logits_equal_a_slow_reference(chatglm: bool) -> None:
    model = small_glm(**(CHATGLM if chatglm else {}))
    expected = _reference(dict(model.state_dict()), layers=3, heads=2, chatglm=chatglm)
    assert torch.allclose(_logits(model), expected, atol=1e-4)


def test_parameter_counts_of_the_published_models() -> None:
    shape = SHAPES["glm-10b"]
    with torch.device("meta"):
        one, two = (
            sum(
                p.numel() for p in GlmBackbone(GlmConfig(**{**shape, "num_layers": n})).parameters()
            )
            for n in (1, 2)
        )  # layers are alike, and slow to make
        assert one + (shape["num_layers"] - 1) * (two - one) == 9_880_682_496
        for targets, count in (("linear", 25_165_824), ("qkv", 6_291_456)):
            model = GlmBackbone(GlmConfig(**{**shape, "num_layers": 2}))
            choose_parts(model, DecoderSettings(lora_targets=(targets,)))
            assert sum(p.numel() for p in lora_parameters(model)) * 24 == count
            trained = {name for name, p in model.named_parameters() if p.requires_grad}
            assert all("lora_" in name for name in trained)  # tables of positions stay frozen


def test_adapters_on_the_shape_of_smollm2() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=49_152, hidden_size=576, num_hidden_layers=3, num_attention_heads=9,
        num_key_value_heads=3, intermediate_size=1536, tie_word_embeddings=True,
    )  # fmt: skip
    for targets, count in (("linear", 2_442_240), ("qkv", 645_120)):
        with torch.device("meta"):
            model: Any = LlamaForCausalLM(config)
            adapter = DecoderBackbone.__new__(DecoderBackbone)
            nn.Module.__init__(adapter)
            adapter.model = model.model
            adapter.inter, adapter.intra = nn.Linear(1, 1), nn.Linear(1, 1)
            adapter.new_tokens = nn.Parameter(torch.zeros(5, 576))
            choose_parts(adapter, DecoderSettings(lora_targets=(targets,)))
        assert sum(p.numel() for p in lora_parameters(adapter)) * 10 == count


def test_special_ids_of_glm_with_the_words_of_gpt2() -> None:
    ids = GLM_GPT2
    assert (ids.start, ids.end, ids.cls, ids.mask) == (50257, 50258, 50259, 50260)
    assert (ids.document_mask, ids.sentence_mask, ids.pad) == (50263, 50264, 50256)
    assert GlmConfig(**SHAPES["glm-10b"]).vocab_size == 50_304 == 128 * 393
    vocabulary = SHARED / "gpt2-tokenizer" / "vocab.json"
    if vocabulary.is_file():
        import json

        assert len(json.loads(vocabulary.read_text())) == ids.start
    with pytest.raises(ConfigError, match="too small"):
        small_glm(vocab_size=60)
    with pytest.raises(ValueError, match="multiple of 4"):
        GlmConfig(num_layers=1, hidden_size=12, num_heads=2, position_encoding="rope2d")


def _fresh(**more: Any) -> GlmBackbone:
    model = small_glm(**more)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("shards", [1, 2])
def test_megatron_shards(shards: int, tmp_path: Path) -> None:
    model = small_glm()
    split = split_shards(model.state_dict(), shards)
    rows = split[0]["transformer.layers.0.attention.query_key_value.weight"].shape[0]
    assert rows == 48 // shards
    for rank, shard in enumerate(split):
        content = {"module": shard, "args": argparse.Namespace(x=1), "iteration": 7}
        torch.save(content, tmp_path / f"mp_rank_{rank:02d}_model_states.pt")
    loaded = _fresh()
    load_weights(loaded, read_weights(tmp_path), origin="here")
    assert torch.equal(_logits(loaded), _logits(model))
    if shards == 2:  # q | k | v lie in each shard: joining shards end to end is wrong
        name = "transformer.layers.0.attention.query_key_value.weight"
        naive = {**merge_shards(split), name: torch.cat([shard[name] for shard in split])}
        load_weights(loaded, naive, origin="here")
        assert not torch.allclose(_logits(loaded), _logits(model), atol=1e-3)
        with pytest.raises(ConfigError, match="keys differ"):
            merge_shards([split[0], {}])


@pytest.mark.parametrize("prefix", ["", "glm.", "module."])
@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_files_of_the_hub(prefix: str, kind: str, tmp_path: Path) -> None:
    model, loaded = small_glm(), _fresh()
    weights = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    if kind == "bin":
        torch.save(weights, tmp_path / "pytorch_model.bin")
    else:
        half = len(weights) // 2
        save_file(dict(list(weights.items())[:half]), tmp_path / "model-1.safetensors")
        save_file(dict(list(weights.items())[half:]), tmp_path / "model-2.safetensors")
    load_weights(loaded, read_weights(tmp_path), origin="here")
    assert torch.equal(_logits(loaded), _logits(model))


def test_chatglm_lies_head_by_head(tmp_path: Path) -> None:
    model, loaded = small_glm(**CHATGLM), _fresh(**CHATGLM)
    published: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if "query_key_value" in name:  # (3, heads, size) -> (heads, 3, size)
            tensor = (
                tensor.reshape(3, 2, 8, *tensor.shape[1:]).transpose(0, 1).reshape(tensor.shape)
            )
        published[name.replace("word_embeddings", "transformer.word_embeddings")] = tensor
    published["transformer.layers.0.attention.rotary_emb.inv_freq"] = torch.ones(2)
    torch.save(published, tmp_path / "pytorch_model.bin")
    weights = read_weights(tmp_path)
    load_weights(loaded, heads_to_blocks(weights, 2), origin="here")
    assert torch.equal(_logits(loaded), _logits(model))
    load_weights(loaded, weights, origin="here")
    assert not torch.allclose(_logits(loaded), _logits(model), atol=1e-3)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = small_glm()
    weights = dict(model.state_dict())
    with pytest.raises(ConfigError, match=r"1 of \d+ parameters are missing"):
        load_weights(model, dict(list(weights.items())[1:]), origin="here")
    cut = {**weights, "word_embeddings.weight": weights["word_embeddings.weight"][:65]}
    with pytest.raises(ConfigError, match=r"word_embeddings.weight is \(65, 16\)"):
        load_weights(model, cut, origin="here")
    with pytest.raises(ConfigError, match="no weights here"):
        read_weights(tmp_path)
    torch.save({"module": {"w": Path("x")}}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="save its weights as safetensors"):
        read_weights(tmp_path)


@pytest.mark.parametrize("family", ["glm", "llama"])
def test_saved_loaded_and_merged_models_give_the_same_logits(family: str, tmp_path: Path) -> None:
    def fresh() -> Any:
        model: Any = small_glm() if family == "glm" else DecoderBackbone(small_llama())
        choose_parts(model, DecoderSettings())
        return model.eval()

    inputs, mask = _inputs()
    inputs = Inputs(inputs.tokens % 60, inputs.inter, inputs.intra, inputs.order)
    model = fresh()
    plain = model.logits(model.states(inputs, mask)).detach()
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)
    logits = model.logits(model.states(inputs, mask)).detach()
    assert not torch.allclose(plain, logits, atol=1e-3)
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    save_file(trained, tmp_path / "trained.safetensors")
    from safetensors.torch import load_file

    loaded = fresh()
    missing = loaded.load_state_dict(load_file(tmp_path / "trained.safetensors"), strict=False)
    assert not missing.unexpected_keys
    assert torch.equal(loaded.logits(loaded.states(inputs, mask)), logits)
    merge_lora(loaded)
    assert torch.allclose(loaded.logits(loaded.states(inputs, mask)), logits, atol=1e-4)
    assert not lora_parameters(loaded)

"""Linear layers in 8 and 4 bits: what is kept, and that adapters learn beside them exactly."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from legos.errors import ConfigError
from legos.lm.adapt import QuantisedLinear, add_lora, lora_parameters, quantise
from legos.lm.cut import cut_below
from legos.lm.load import LanguageModel
from legos.lm.locate import packaged
from legos.lm.settings import LanguageModelSource, LoadSettings, Quantised
from legos.systems.cllm4rec.model import build_backbone
from legos.systems.cllm4rec.settings import SoftPromptSettings
from tests.lm.families import small_model
from tests.systems.cllm4rec.small import small_model as small_word_model
from tests.systems.recsysllm.small import small_glm

needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="needs requirements-quantised.txt"
)
KINDS: tuple[Any, ...] = ("int8", pytest.param("nf4", marks=needs_bitsandbytes))
IDS = torch.randint(2, 60, (2, 6), generator=torch.Generator().manual_seed(1))


def _layers(model: nn.Module) -> list[tuple[str, QuantisedLinear]]:
    return [(p, m) for p, m in model.named_modules() if isinstance(m, QuantisedLinear)]


def _with_random_adapters(model: nn.Module) -> None:
    add_lora(model, rank=2, alpha=4.0, dropout=0.0, targets=["linear"])
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in lora_parameters(model):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def _run(model: Any, family: str) -> torch.Tensor:
    if family != "glm_infill":
        found: torch.Tensor = model(input_ids=IDS).last_hidden_state
        return found
    states = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(3))
    mask = torch.ones(6, 6, dtype=torch.bool).tril()[None, None].expand(2, 1, 6, 6)
    order = torch.arange(6).expand(2, 6)
    result: torch.Tensor = model(states, order, order, mask, None)
    return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["bert", "llama", "gpt2", "glm_infill"])
def test_adapters_have_the_gradients_they_have_beside_the_dequantised_weights(
    family: str, kind: Quantised
) -> None:
    plain = small_glm().transformer if family == "glm_infill" else small_model(family)
    whole = copy.deepcopy(plain)
    quantise(plain, kind)
    assert _layers(plain)
    for path, layer in _layers(plain):
        original: Any = whole.get_submodule(path)
        weight = layer.dequantised(torch.float32)
        transposed = type(original).__name__ == "Conv1D"
        original.weight.data.copy_(weight.T if transposed else weight)
    found = []
    for model in (plain, whole):
        _with_random_adapters(model)
        states = _run(model.eval(), family)
        (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
        found.append([states.detach(), *(p.grad for p in lora_parameters(model))])
    assert len(found[0]) > 8
    for quantised, exact in zip(*found, strict=True):
        assert exact.abs().max() > 1e-3
        torch.testing.assert_close(quantised, exact, rtol=1e-5, atol=1e-5)


def quantised_bytes(rows: int, columns: int, kind: Quantised) -> int:
    """Bytes of codes and scales: a scale a row in int8, one for 64 numbers in nf4."""
    count = rows * columns
    return count + 4 * rows if kind == "int8" else -(-count // 2) + 4 * -(-count // 64)


@pytest.mark.parametrize(("kind", "error"), [("int8", 0.5 / 127), *(
    pytest.param("nf4", 0.16, marks=needs_bitsandbytes),
)])  # fmt: skip
def test_a_weight_lies_in_the_bytes_that_are_said_and_near_its_numbers(
    kind: Quantised, error: float
) -> None:
    linear = nn.Linear(130, 7)
    layer = QuantisedLinear(linear, kind)
    size = sum(p.numel() * p.element_size() for p in (layer.weight, layer.scales))
    assert size == quantised_bytes(7, 130, kind)
    weight = linear.weight.detach()
    apart = (layer.dequantised(torch.float32) - weight).abs()
    assert apart.max() <= error * weight.abs().max() + 1e-6
    cast = copy.deepcopy(layer).bfloat16()  # a cast of the model rounds no scale
    assert torch.equal(cast.dequantised(torch.float32), layer.dequantised(torch.float32))
    zero = nn.Linear(4, 4)
    nn.init.zeros_(zero.weight)
    assert not QuantisedLinear(zero, kind).dequantised(torch.float32).any()


def test_autocast_computes_in_its_dtype() -> None:
    layer = QuantisedLinear(nn.Linear(8, 4), "int8")
    values = torch.randn(3, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(values)
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()
    assert values.grad is not None
    assert values.grad.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_read_audited_quantised_and_cut(kind: Quantised, tmp_path: Path) -> None:
    model: Any = small_model("llama")
    model.save_pretrained(tmp_path)
    language = LanguageModel(
        LanguageModelSource(path=str(tmp_path)), LoadSettings(quantised=kind, dtype="bf16")
    )
    found = language.load()
    assert language.report is not None
    assert len(_layers(found)) == 4 * 7
    assert next(found.parameters()).dtype == torch.bfloat16  # the token table is not quantised
    cut_below(found, 2)
    _with_random_adapters(found)
    states = found(inputs_embeds=torch.randn(1, 5, 16), attention_mask=torch.ones(1, 5))
    states.last_hidden_state.float().sum().backward()
    assert all(parameter.grad is not None for parameter in lora_parameters(found))


@pytest.mark.parametrize("family", ["gpt2", "untied", "t5"])
def test_a_backbone_of_cllm4rec_is_quantised_but_for_tables_and_head(
    family: str, tmp_path: Path
) -> None:
    small_word_model(family).save_pretrained(tmp_path)
    settings = SoftPromptSettings(
        quantised="int8", dtype="bf16", train="lora", gradient_checkpointing=True
    )
    language = LanguageModel(LanguageModelSource(path=str(tmp_path)), settings)
    backbone = build_backbone(language, settings)
    assert _layers(backbone)
    assert not isinstance(backbone.head, QuantisedLinear)
    trained = [p for p in backbone.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    assert not any(
        isinstance(m, QuantisedLinear) and p.endswith(".wo") for p, m in _layers(backbone)
    )


def test_nf4_says_which_package_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("legos.lm.adapt.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"nf4: needs the package bitsandbytes; `pip install"):
        LanguageModel(packaged("minilm"), LoadSettings(quantised="nf4")).load()


def test_attention_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model: Any = small_model("llama")
    model.save_pretrained(tmp_path)
    source = LanguageModelSource(path=str(tmp_path))
    kinds = {
        kind: LanguageModel(source, LoadSettings(attention=kind)).load()
        for kind in ("sdpa", "eager")
    }
    for kind, loaded in kinds.items():
        assert loaded.config._attn_implementation == kind
    states = [loaded(input_ids=IDS).last_hidden_state for loaded in kinds.values()]
    torch.testing.assert_close(*states, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr("legos.lm.load.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="flash_attention_2: needs the package flash_attn"):
        LanguageModel(source, LoadSettings(attention="flash_attention_2")).load()

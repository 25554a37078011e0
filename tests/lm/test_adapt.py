"""LoRA: where it goes, how much it is, that it starts at nothing and merges into the weights."""

from __future__ import annotations

import copy

import pytest
import torch

from legos.errors import ConfigError
from legos.lm.adapt import add_lora, choose_trained, lora_parameters, merge_lora
from legos.lm.cut import cut_below
from legos.lm.settings import BackboneSettings
from tests.lm.families import FAMILIES, LAYERS, small_model

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
IDS = torch.randint(2, 97, (2, 6), generator=torch.Generator().manual_seed(1))


@EVERY_FAMILY
def test_new_adapters_change_nothing_and_merging_keeps_what_they_learned(family: str) -> None:
    plain = small_model(family)
    adapted = copy.deepcopy(plain)
    add_lora(adapted, rank=4, alpha=8.0, dropout=0.1)
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    with torch.no_grad():
        same = adapted.eval()(input_ids=IDS).last_hidden_state
        torch.testing.assert_close(same, plain(input_ids=IDS).last_hidden_state)
        generator = torch.Generator().manual_seed(2)
        for parameter in lora_parameters(adapted):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        learned = adapted(input_ids=IDS).last_hidden_state
        assert (learned - same).abs().max() > 1e-2
        merge_lora(adapted)
        torch.testing.assert_close(
            adapted(input_ids=IDS).last_hidden_state, learned, rtol=0, atol=1e-5
        )
    assert not lora_parameters(adapted)
    assert adapted.state_dict().keys() == plain.state_dict().keys()


def test_only_kept_layers_get_adapters_on_queries_and_values() -> None:
    model = small_model("llama")
    cut_below(model, 3)
    add_lora(model, rank=4, alpha=8.0, dropout=0.0)
    # one layer: q 16 x 16, v 16 x 8 (two key-value heads of four)
    assert sum(p.numel() for p in lora_parameters(model)) == 4 * (16 + 16) + 4 * (16 + 8)
    assert len(lora_parameters(model)) == 4


def test_targets_may_be_named_and_unknown_ones_are_refused() -> None:
    model = small_model("bert")
    with pytest.raises(ConfigError, match=r"lora_targets: .*'q_proj'.*query"):
        add_lora(model, rank=2, alpha=2.0, dropout=0.0, targets=["q_proj", "query"])
    add_lora(model, rank=2, alpha=2.0, dropout=0.0, targets=["key"])
    assert len(lora_parameters(model)) == 2 * LAYERS


def test_adapters_of_a_16_bit_model_are_trained_in_32() -> None:
    model = small_model("llama").bfloat16()
    add_lora(model, rank=2, alpha=2.0, dropout=0.0)
    assert {parameter.dtype for parameter in lora_parameters(model)} == {torch.float32}
    assert model(input_ids=IDS).last_hidden_state.dtype == torch.bfloat16


def test_frozen_is_frozen() -> None:
    model = small_model("bert")
    choose_trained(model, BackboneSettings())
    assert not any(parameter.requires_grad for parameter in model.parameters())

"""Who attends to whom, eager equals sdpa, padding, fresh adapters and the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from legos.errors import ConfigError, DataError
from legos.systems.recsysllm.backbones.decoder import (
    DecoderBackbone,
    PositionRows,
    choose_parts,
)
from legos.systems.recsysllm.decoding import token_losses
from legos.systems.recsysllm.positions import (
    IGNORE,
    Examples,
    Inputs,
    Layout,
    attention_mask,
    build_examples,
    lay_out,
)
from legos.systems.recsysllm.recipe import InfillLoss
from legos.systems.recsysllm.settings import DecoderSettings, PositionSettings
from tests.systems.recsysllm.small import (
    FAMILIES,
    automaton_of,
    drawn,
    random_documents,
    small_backbone,
    small_glm,
    small_llama,
)


def _examples(backbone: Any, count: int = 5, *, seed: int = 0) -> Examples:
    documents = random_documents(count, seed=seed, units=(5, 9))
    own = PositionSettings()
    return build_examples(
        documents, drawn(documents, ratio=0.4, sentence_weight=0), backbone.special, own,
        automaton_of(documents, own),
    )  # fmt: skip


def _logits(backbone: Any, examples: Examples, layout: Layout) -> Tensor:
    states = backbone.states(layout.inputs, layout.mask)
    logits: Tensor = backbone.logits(states).flatten(0, 1)[layout.slots]
    return logits


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_packing_change_nothing(family: str) -> None:
    backbone = small_backbone(family)
    examples = _examples(backbone)
    one_by_one = torch.cat([
        _logits(backbone, one, lay_out(one, pad=0))
        for one in (examples.select(torch.tensor([row])) for row in range(5))
    ])  # fmt: skip
    for options in ({}, {"row_tokens": 60}, {"row_tokens": 100}):
        layout = lay_out(examples, pad=7, **options)
        assert torch.allclose(_logits(backbone, examples, layout), one_by_one, atol=2e-5), options
    assert len(lay_out(examples, pad=0, row_tokens=100).mask) < 5


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("family", ["glm", "chatglm", "llama"])
def test_who_attends_to_whom(family: str, bidirectional: bool) -> None:
    backbone = small_backbone(family)
    examples = _examples(backbone)
    row = int(examples.masks.lengths.argmax())
    one = examples.select(torch.tensor([row]))
    length, total = int(one.prompt_lengths[0]), len(one.tokens)
    layout = lay_out(one, pad=0, bidirectional=bidirectional)
    before = _logits(backbone, one, layout)

    def changed(place: int) -> Tensor:
        tokens = layout.inputs.tokens.clone()
        tokens[0, place] = 9
        inputs = Inputs(tokens, layout.inputs.inter, layout.inputs.intra, layout.inputs.order)
        after = _logits(backbone, one, Layout(inputs, layout.mask, layout.slots, layout.real))
        return (after != before).any(-1)

    assert changed(total - 1).nonzero()[:, 0].tolist() == [total - 1]
    first = 0 if bidirectional else 2
    assert changed(2).tolist() == [place >= first for place in range(total)]
    for place in range(length, total):  # A and earlier blanks are the same to the last bit
        assert changed(place).tolist() == [at >= place for at in range(total)]


def test_eager_and_sdpa_agree_and_what_must_raise_does() -> None:
    adapters = [DecoderBackbone(small_llama(attention=kind)) for kind in ("sdpa", "eager")]
    examples = _examples(adapters[0])
    layout = lay_out(examples, pad=0)
    first, second = (_logits(adapter, examples, layout) for adapter in adapters)
    assert torch.allclose(first, second, atol=1e-5)
    raw = adapters[1].model(
        inputs_embeds=adapters[1].embed(layout.inputs.tokens), attention_mask=layout.mask,
        position_ids=layout.inputs.order,
    ).last_hidden_state  # fmt: skip
    wrong = adapters[1].logits(raw).flatten(0, 1)[layout.slots]
    assert not torch.allclose(wrong, first, atol=1e-3)  # why a bool mask must not reach eager
    float_mask: Any = layout.mask.float()
    for backbone in (*adapters, small_glm()):
        for mask in (None, float_mask, layout.real):
            with pytest.raises(ConfigError, match="expected bool of shape"):
                backbone.states(layout.inputs, mask)
    with pytest.raises(ConfigError, match="flash_attention_2"):
        attention_mask(layout.mask, "flash_attention_2", torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_gives_no_nan(family: str, dtype: torch.dtype) -> None:
    backbone = small_backbone(family).to(dtype)
    examples = _examples(backbone)
    layout = lay_out(examples, pad=0)
    assert not bool(layout.real.all())
    assert bool(layout.mask.any(-1).all())
    loss = InfillLoss(backbone, "tokens")(examples, layout)
    loss.backward()
    assert bool(loss.isfinite())
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_fresh_adapter_is_the_model_it_was(family: str) -> None:
    base = small_backbone(family).model
    if family == "llama":
        base = small_llama()
    tokens = torch.randint(1, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    order = torch.arange(9).expand(2, 9)
    causal = torch.ones(9, 9, dtype=torch.bool).tril().expand(2, 1, 9, 9)
    expected = base(input_ids=tokens, attention_mask=causal, position_ids=order)
    states = expected[0] if family == "gpt2" else base.model(
        input_ids=tokens, attention_mask=causal, position_ids=order
    ).last_hidden_state  # fmt: skip
    adapter = DecoderBackbone(base).eval()
    inputs = Inputs(tokens, order % 4, order % 5, order)
    found = adapter.states(inputs, causal)
    assert torch.equal(found, states)
    if family == "llama":
        assert torch.equal(adapter.logits(found)[..., :60], expected.logits)
    choose_parts(adapter, DecoderSettings())
    assert torch.equal(adapter.states(inputs, causal), states)  # LoRA's B is zero at first
    torch.nn.init.normal_(adapter.intra.table.weight)
    assert not torch.equal(adapter.states(inputs, causal), states)


def test_position_modes_of_a_decoder_differ() -> None:
    sequential, glm = DecoderBackbone(small_llama()), DecoderBackbone(
        small_llama(), position_mode="glm"
    )  # fmt: skip
    examples = _examples(sequential)
    layout = lay_out(examples, pad=0)
    first, second = (_logits(backbone, examples, layout) for backbone in (sequential, glm))
    in_prompt = examples.targets == IGNORE
    assert torch.equal(first[in_prompt], second[in_prompt])
    assert not torch.allclose(first[~in_prompt], second[~in_prompt], atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_those_of_all_logits_at_once(family: str) -> None:
    backbone = small_backbone(family)
    examples = _examples(backbone)
    layout = lay_out(examples, pad=0, row_tokens=80)
    logits, at = _logits(backbone, examples, layout), examples.targets != IGNORE
    each = functional.cross_entropy(logits[at], examples.targets[at], reduction="none")
    rows = torch.arange(5).repeat_interleave(examples.lengths)[at]
    of_examples = torch.stack([each[rows == row].mean() for row in range(5)]).mean()
    for reduction, expected in (("tokens", each.mean()), ("examples", of_examples)):
        backbone.zero_grad()
        expected.backward(retain_graph=True)
        gradients = [p.grad.clone() for p in backbone.parameters() if p.grad is not None]
        backbone.zero_grad()
        loss = InfillLoss(backbone, reduction)(examples, layout)  # type: ignore[arg-type]
        loss.backward()
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
        found = [p.grad for p in backbone.parameters() if p.grad is not None]
        assert len(found) == len(gradients)
        for one, two in zip(found, gradients, strict=True):
            assert torch.allclose(one, two, atol=1e-5)
    states = backbone.states(layout.inputs, layout.mask).flatten(0, 1)[layout.slots[at]]
    small = token_losses(backbone, states, examples.targets[at], max_logits=1)  # one at a time
    assert torch.allclose(small, each, atol=1e-5)
    assert token_losses(backbone, states[:0], examples.targets[:0]).shape == (0,)


def test_presets_train_what_they_should() -> None:
    glm, llama = small_glm(), DecoderBackbone(small_llama())
    choose_parts(glm, DecoderSettings(lora_targets=("qkv",)))
    choose_parts(llama, DecoderSettings())
    of_glm = {name for name, p in glm.named_parameters() if p.requires_grad}
    assert all("query_key_value.lora_" in name for name in of_glm)
    assert len(of_glm) == 3 * 2
    of_llama = {name for name, p in llama.named_parameters() if p.requires_grad}
    assert len(of_llama) == 3 * 7 * 2 + 3
    assert {"inter.table.weight", "intra.table.weight", "new_tokens"} < of_llama


def test_what_an_adapter_cannot_do_is_told(caplog: pytest.LogCaptureFixture) -> None:
    backbone = DecoderBackbone(small_llama(), rows=PositionRows(inter=9, intra=4))
    with pytest.raises(DataError, match="expected 0 to 64"):
        backbone.embed(torch.tensor([[65]]))
    torch.nn.init.normal_(backbone.intra.table.weight)
    far = backbone.intra(torch.tensor([3, 9]))
    assert torch.equal(far[0], far[1])
    assert "position 9: the table ends at 3" in caplog.text
    model = small_llama()
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(ConfigError, match="final_logit_softcapping"):
        DecoderBackbone(model)

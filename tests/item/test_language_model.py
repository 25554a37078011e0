"""A language model as item encoder equals transformers' own forward, cut and cached or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from legos.data.items import ItemBatch, ItemStore
from legos.data.ragged import Ragged
from legos.errors import DataError
from legos.item.language_model import LanguageModelConfig, LanguageModelEncoder
from legos.lm.adapt import lora_parameters
from legos.lm.states import TOKENS, StateReader, layer_name
from legos.lm.text_model import layer_stack
from tests.bricks import ragged
from tests.lm.families import FAMILIES, LAYERS, small_model

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
LENGTHS = [5, 1, 9, 3, 9, 2, 7]


class SmallModel:
    """Stands for a loaded language model."""

    def __init__(self, family: str, dropout: float = 0.0) -> None:
        self.family, self.shapes_only, self.fingerprint = family, False, "small"
        self.config: Any = small_model(family).config
        self.name, self.num_layers, self.width = family, LAYERS, 16
        self.output_width = getattr(self.config, "word_embed_proj_dim", 16)

    def instance(self) -> nn.Module:
        """The same weights every time, without dropout."""
        model = small_model(self.family)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            for name in ("dropout", "attention_dropout", "activation_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        return model

    def layer(self, number: int) -> int:
        """As the real one."""
        return number + LAYERS if number < 0 else number


def tokens() -> Ragged:
    generator = torch.Generator().manual_seed(0)
    return ragged(
        [torch.randint(2, 97, (length,), generator=generator).tolist() for length in LENGTHS]
    )


def items(language: dict[str, Ragged]) -> ItemBatch:
    store = ItemStore(
        fields={}, texts={}, categories={}, num_items=len(LENGTHS), language=dict(language)
    )
    return store.batch(torch.tensor([2, 0, 6, 1, 4]))


def encoder(family: str, **settings: Any) -> LanguageModelEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return LanguageModelEncoder(
            LanguageModelConfig(**settings),
            language_model=SmallModel(family),  # type: ignore[arg-type]
            hidden_size=6,
        )


def cached(family: str, layer: int) -> dict[str, Ragged]:
    states = StateReader(SmallModel(family).instance(), layers=[layer])(tokens())
    return {layer_name(layer): Ragged(states[layer_name(layer)], tokens().offsets)}


def padded_states(family: str, model: nn.Module) -> tuple[Tensor, Tensor]:
    """transformers' own final states of the items of :func:`items`, and their mask."""
    values, mask = tokens().padded_tail(torch.tensor([2, 0, 6, 1, 4]), 99)
    values = values.masked_fill(~mask, getattr(model.config, "pad_token_id", None) or 0)  # type: ignore[arg-type]
    output = model(input_ids=values, attention_mask=mask.long())
    return output.last_hidden_state, mask


@EVERY_FAMILY
@pytest.mark.parametrize("pooling", ["attention", "mean", "first", "last"])
def test_every_pooling_of_the_whole_model(family: str, pooling: Any) -> None:
    brick = encoder(family, pooling=pooling, attention_size=5)
    states, mask = padded_states(family, brick.language_model)
    if pooling == "attention":
        projected = brick.project(states)
        assert brick.attention is not None
        logits = brick.attention.scores(projected).masked_fill(~mask, -torch.inf)
        expected = (logits.softmax(1)[..., None] * projected).sum(1)
    else:
        rows = torch.arange(len(mask))
        pooled = {
            "mean": (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True),
            "first": states[:, 0],
            "last": states[rows, mask.sum(1) - 1],
        }[pooling]
        expected = brick.project(pooled)
    found = brick(items({TOKENS: tokens()}))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def cuts(*layers: int) -> pytest.MarkDecorator:
    """Every family with adapters above the second of these layers, two families with all of it."""
    return pytest.mark.parametrize(
        ("family", "layer", "lora_rank"),
        [
            pytest.param(
                family,
                layer,
                rank,
                marks=[]
                if family in ("bert", "llama") or (layer, rank) == (layers[1], 2)
                else [pytest.mark.nightly],
            )
            for family in FAMILIES
            for layer in layers
            for rank in (0, 2)
        ],
    )


@cuts(*range(1, LAYERS))
def test_cached_equals_uncut_with_its_gradients_for_every_layer(
    family: str, layer: int, lora_rank: int
) -> None:
    whole = encoder(family, lora_rank=lora_rank, lora_dropout=0.0)
    above = encoder(family, lora_rank=lora_rank, lora_dropout=0.0, layer=layer)
    above.project.load_state_dict(whole.project.state_dict())
    above.attention.load_state_dict(whole.attention.state_dict())  # type: ignore[union-attr]
    kept = dict(above.named_parameters())
    ours = dict(whole.named_parameters())
    if lora_rank:  # B starts at zero, which would hide A's gradient
        for name, parameter in kept.items():
            if "lora_" in name:
                values = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4))
                parameter.data.copy_(values * 0.2)
                ours[name].data.copy_(values * 0.2)
        for name, parameter in ours.items():
            if "lora_" in name and name not in kept:
                parameter.data.zero_()  # below the cut nothing is adapted
    full, resumed = whole(items({TOKENS: tokens()})), above(items(cached(family, layer)))
    assert (full - resumed).abs().max() < 1e-6
    weights = torch.randn(full.shape, generator=torch.Generator().manual_seed(5))
    (full * weights).sum().backward()
    (resumed * weights).sum().backward()
    trained = [name for name, parameter in kept.items() if parameter.requires_grad]
    assert trained
    for name in trained:
        torch.testing.assert_close(kept[name].grad, ours[name].grad, rtol=1e-4, atol=1e-6)


def test_training_the_kept_layers_leaves_the_original_alone() -> None:
    original = SmallModel("llama").instance()
    before = {name: value.clone() for name, value in original.state_dict().items()}
    brick = encoder("llama", layer=2)
    optimizer = torch.optim.Adam([p for p in brick.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        brick(items(cached("llama", 2))).square().sum().backward()
        optimizer.step()
    moved = dict(layer_stack(brick.language_model)[1].named_parameters())
    kept = layer_stack(original)[1].named_parameters()
    old = {name: value for name, value in kept if int(name.split(".")[0]) >= 2}
    assert moved.keys() == old.keys()
    assert all(not torch.equal(moved[name], old[name]) for name in old)
    assert all(torch.equal(value, before[name]) for name, value in original.state_dict().items())


@pytest.mark.slow
def test_with_lora_only_adapters_and_head_are_trained() -> None:
    brick = encoder("bert", layer=2, lora_rank=2)
    names = {name for name, parameter in brick.named_parameters() if parameter.requires_grad}
    inside = {name for name in names if name.startswith("language_model")}
    assert inside
    assert all("lora_" in name for name in inside)
    assert {name.split(".")[0] for name in names - inside} == {"project", "attention"}


def test_frozen_trains_only_the_head_and_never_drops_out() -> None:
    brick = encoder("bert", frozen=True).train()
    assert not any(p.requires_grad for p in brick.language_model.parameters())
    assert not brick.language_model.training
    assert brick.training
    vectors = brick(items({TOKENS: tokens()}))
    vectors.sum().backward()
    assert brick.project.weight.grad is not None


@cuts(0, 2)
def test_gradient_checkpointing_changes_no_gradient(
    family: str, layer: int, lora_rank: int
) -> None:
    read = items(cached(family, layer) if layer else {TOKENS: tokens()})
    gradients, runs = [], []
    for checkpointing in (False, True):
        brick = encoder(
            family,
            layer=layer,
            lora_rank=lora_rank,
            lora_dropout=0.0,
            gradient_checkpointing=checkpointing,
        ).train()
        for parameter in lora_parameters(brick.language_model):
            values = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4))
            parameter.data.copy_(values * 0.2)
        count: list[int] = []
        last = layer_stack(brick.language_model)[1][-1]
        inside = next(
            module
            for module in last.modules()
            if isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm")
        )
        inside.register_forward_hook(lambda *_, count=count: count.append(1))
        brick(read).square().sum().backward()
        gradients.append([p.grad for p in brick.parameters()])
        runs.append(len(count))
    assert runs[1] == 2 * runs[0]
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-5, atol=1e-7)


def test_16_bit_weights_below_32_bit_heads() -> None:
    brick = encoder("llama", lora_rank=2, layer=1)
    brick.language_model.to(torch.bfloat16)
    vectors = brick(items(cached("llama", 1)))
    assert vectors.dtype == torch.float32
    exact = encoder("llama", lora_rank=2, layer=1)(items(cached("llama", 1)))
    torch.testing.assert_close(vectors, exact, rtol=0.1, atol=0.05)


def test_items_without_what_it_reads_are_refused() -> None:
    with pytest.raises(DataError, match="no 'layer_1' for a language model"):
        encoder("bert", layer=1)(items({TOKENS: tokens()}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frozen": True, "lora_rank": 4}, "LoRA is a way of training"),
        ({"quantised": "nf4"}, "needs LoRA or frozen"),
        ({"dtype": "bf16"}, "weights that are trained stay fp32"),
        ({"pooling": "max"}, "'attention', 'mean', 'first', 'last' or 'shipped'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        LanguageModelConfig(**settings)

"""A model cut at any layer, fed with the cached state, equals the whole model."""

from __future__ import annotations

import copy

import pytest
import torch

from legos.errors import ConfigError
from legos.lm.cut import cut_below, cut_meanwhile, forward_above
from legos.lm.text_model import layer_stack
from tests.lm.families import FAMILIES, LAYERS, small_model

IDS = torch.randint(2, 97, (3, 7), generator=torch.Generator().manual_seed(0))
MASK = torch.arange(7) < torch.tensor([7, 3, 5])[:, None]
CUTS = pytest.mark.parametrize("cut", range(1, LAYERS))


@CUTS
@pytest.mark.parametrize("family", FAMILIES)
def test_cut_and_fed_with_the_state_equals_the_whole(family: str, cut: int) -> None:
    whole = small_model(family)
    with torch.no_grad():
        full = whole(input_ids=IDS, attention_mask=MASK.long(), output_hidden_states=True)
    above = copy.deepcopy(whole)
    cut_below(above, cut)
    state = full.hidden_states[cut]
    # what stands under the mask is no longer known: the cache holds real tokens alone
    state = torch.where(MASK[..., None], state, 1e2)
    with torch.no_grad():
        found = forward_above(above, state, MASK, {})
    torch.testing.assert_close(found[MASK], full.last_hidden_state[MASK], rtol=0, atol=1e-6)


@CUTS
@pytest.mark.parametrize("family", FAMILIES)
def test_kept_layers_get_the_same_gradient_under_the_same_names(family: str, cut: int) -> None:
    whole = small_model(family)
    above = copy.deepcopy(whole)
    cut_below(above, cut)
    full = whole(input_ids=IDS, attention_mask=MASK.long(), output_hidden_states=True)
    full.last_hidden_state[MASK].square().sum().backward()
    state = full.hidden_states[cut].detach()
    forward_above(above, state, MASK, {})[MASK].square().sum().backward()
    path = layer_stack(whole)[0]
    below = tuple(f"{path}.{number}." for number in range(cut))
    original = dict(whole.named_parameters())
    trained = {name: p for name, p in above.named_parameters() if p.requires_grad}
    assert {name for name in original if name.startswith(path) and not name.startswith(below)} == {
        name for name in trained if name.startswith(path)
    }
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, original[name].grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_below_the_cut_and_the_token_table_are_let_go(family: str) -> None:
    model = small_model(family)
    cut_below(model, LAYERS - 1)
    path = layer_stack(model)[0]
    names = {name for name, _ in model.named_parameters() if name.startswith(path)}
    assert all(name.startswith(f"{path}.{LAYERS - 1}.") for name in names)
    assert model.get_input_embeddings().weight.shape[0] == 1  # type: ignore[operator]


def test_no_dropout_of_the_embeddings_falls_on_a_cached_state() -> None:
    model = small_model("gpt2", embd_pdrop=0.9, resid_pdrop=0.0, attn_pdrop=0.0)
    state = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1))
    cut_below(model, 2)
    exact = forward_above(model.eval(), state, MASK, {})
    found = forward_above(model.train(), state, MASK, {})
    torch.testing.assert_close(found[MASK], exact[MASK])


@pytest.mark.parametrize(("family", "before"), [("bert", "embeddings.dropout"), ("gpt2", "drop")])
def test_only_dropout_that_nothing_depends_on_stops(family: str, before: str) -> None:
    def rates(model: torch.nn.Module) -> dict[str, float]:
        return {
            name: module.p
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Dropout)
        }

    model = small_model(family)
    given = rates(model)
    assert given[before] > 0
    cut_below(model, 2)
    left = rates(model)
    assert left == {name: 0.0 if name == before else given[name] for name in left}


def test_a_model_is_whole_again_after_it_was_cut_meanwhile() -> None:
    model = small_model("gpt2")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model(input_ids=IDS).last_hidden_state
    with cut_meanwhile(model, 2):
        assert model.state_dict().keys() != before.keys()
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(model(input_ids=IDS).last_hidden_state, expected)


@pytest.mark.parametrize("cut", [-1, LAYERS, 99])
def test_a_cut_outside_the_layers_is_refused(cut: int) -> None:
    with pytest.raises(ConfigError, match=rf"layer {cut}: .* has 4 layers"):
        cut_below(small_model("llama"), cut)


def test_a_model_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be cut"):
        cut_below(torch.nn.Linear(2, 2), 1)

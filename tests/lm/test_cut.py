"""A model cut at any layer, fed with the cached state, equals the whole model."""

from __future__ import annotations

import copy

import pytest
import torch

from legos.errors import ConfigError
from legos.lm.cut import cut_below, layer_stack
from tests.lm.families import FAMILIES, LAYERS, small_model

IDS = torch.randint(2, 97, (3, 7), generator=torch.Generator().manual_seed(0))
MASK = torch.arange(7) < torch.tensor([7, 3, 5])[:, None]
CUTS = pytest.mark.parametrize("cut", range(LAYERS))


@CUTS
@pytest.mark.parametrize("family", FAMILIES)
def test_cut_and_fed_with_the_state_equals_the_whole(family: str, cut: int) -> None:
    whole = small_model(family)
    with torch.no_grad():
        full = whole(input_ids=IDS, attention_mask=MASK.long(), output_hidden_states=True)
    above = copy.deepcopy(whole)
    cut_below(above, cut)
    assert len(layer_stack(above)[2]) == LAYERS - cut
    state = full.hidden_states[cut]
    # what stands under the mask is no longer known: the cache holds real tokens alone
    state = torch.where(MASK[..., None], state, 1e2)
    with torch.no_grad():
        found = above(inputs_embeds=state, attention_mask=MASK.long()).last_hidden_state
    torch.testing.assert_close(found[MASK], full.last_hidden_state[MASK], rtol=0, atol=1e-6)


@CUTS
@pytest.mark.parametrize("family", FAMILIES)
def test_kept_layers_get_the_same_gradient(family: str, cut: int) -> None:
    whole = small_model(family)
    above = copy.deepcopy(whole)
    cut_below(above, cut)
    full = whole(input_ids=IDS, attention_mask=MASK.long(), output_hidden_states=True)
    full.last_hidden_state[MASK].square().sum().backward()
    state = full.hidden_states[cut].detach()
    above(inputs_embeds=state, attention_mask=MASK.long()).last_hidden_state[
        MASK
    ].square().sum().backward()
    below = dict(layer_stack(whole)[2][cut:].named_parameters())
    kept = dict(layer_stack(above)[2].named_parameters())
    assert below.keys() == kept.keys()
    for name, parameter in kept.items():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, below[name].grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cut", [-1, LAYERS, 99])
def test_a_cut_outside_the_layers_is_refused(cut: int) -> None:
    with pytest.raises(ConfigError, match=rf"layer {cut}: .* has 4 layers"):
        cut_below(small_model("llama"), cut)


def test_a_model_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be cut"):
        cut_below(torch.nn.Linear(2, 2), 0)

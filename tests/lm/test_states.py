"""The states of a pass are transformers' own, whatever the batching, and the pass stops early."""

from __future__ import annotations

import pytest
import torch

from legos.data.ragged import Ragged
from legos.lm.states import POOLED, StateReader, layer_name
from legos.lm.text_model import layer_stack
from tests.bricks import ragged
from tests.lm.families import FAMILIES, LAYERS, small_model

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)


def texts() -> Ragged:
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 1, 9, 0, 3, 9, 2]
    return ragged(
        [torch.randint(2, 97, (length,), generator=generator).tolist() for length in lengths]
    )


@EVERY_FAMILY
@pytest.mark.parametrize("batch_tokens", [1, 10, 1000])
def test_states_are_those_of_each_text_alone(family: str, batch_tokens: int) -> None:
    model, tokens = small_model(family), texts()
    reader = StateReader(model, layers=range(LAYERS), pooled=True, batch_tokens=batch_tokens)
    found = reader(tokens)
    assert found[layer_name(0)].shape == (29, 16)
    final = 8 if family == "opt_projected" else 16
    assert found[POOLED].shape == (7, LAYERS * 16 + final)
    assert not found[POOLED][3].any()  # it has no token
    for item in (0, 1, 2, 4, 5, 6):
        ids = tokens.select(torch.tensor([item])).values
        with torch.no_grad():
            alone = model(
                input_ids=ids[None],
                attention_mask=torch.ones_like(ids)[None],
                output_hidden_states=True,
            ).hidden_states
        begin, end = tokens.offsets[item], tokens.offsets[item + 1]
        for layer in range(LAYERS):
            states = found[layer_name(layer)][begin:end]
            torch.testing.assert_close(states, alone[layer][0], rtol=0, atol=1e-5)
        means = torch.cat([states[0].mean(0) for states in alone])
        torch.testing.assert_close(found[POOLED][item], means, rtol=0, atol=1e-5)


@EVERY_FAMILY
def test_no_layer_runs_above_the_highest_that_is_kept(family: str) -> None:
    model, ran = small_model(family), []
    for number, layer in enumerate(layer_stack(model)[1]):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    found = StateReader(model, layers=(2, 1))(texts())
    assert set(found) == {"layer_1", "layer_2"}
    assert set(ran) == {0, 1}


def test_hooks_are_gone_afterwards() -> None:
    model = small_model("llama")
    StateReader(model, layers=(1,))(texts())
    ids = torch.tensor([[3, 4]])
    assert model(input_ids=ids).last_hidden_state.shape == (1, 2, 16)

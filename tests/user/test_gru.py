"""The GRU over padded histories against torch's GRU over each history by itself."""

from __future__ import annotations

import pytest
import torch

from legos.user.gru import GRUConfig
from tests.bricks import user_input
from tests.user.built import built


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("output_projection", [False, True])
def test_it_is_the_last_state_of_every_history(num_layers: int, output_projection: bool) -> None:
    config = GRUConfig(num_layers=num_layers, dropout=0.3, output_projection=output_projection)
    module, given = built(config), user_input()
    found = given(module)
    for row, length in enumerate(given.mask.sum(1).tolist()):
        expected = torch.zeros(16, dtype=torch.float64)
        if length:
            _, last = module.gru(given.history[row : row + 1, :length])
            expected = last[-1, 0]
            if output_projection:
                expected = module.output.weight @ expected + module.output.bias
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)


def test_one_step_is_the_equations_of_the_paper() -> None:
    module, given = built(GRUConfig()), user_input((1,))
    item = given.history[0, 0]
    of_item = module.gru.weight_ih_l0 @ item + module.gru.bias_ih_l0
    reset, update, new = of_item.chunk(3)
    of_state = module.gru.bias_hh_l0.chunk(3)  # the state before is zero
    reset, update = torch.sigmoid(reset + of_state[0]), torch.sigmoid(update + of_state[1])
    expected = (1 - update) * torch.tanh(new + reset * of_state[2])
    torch.testing.assert_close(given(module)[0], expected, rtol=0, atol=1e-12)


def test_items_are_dropped_while_training_alone() -> None:
    module, given = built(GRUConfig(input_dropout=0.5)), user_input((7, 7))
    torch.testing.assert_close(given(module), given(built(GRUConfig())))
    torch.manual_seed(0)
    assert not torch.allclose(given(module.train()), given(module.eval()))


def test_the_last_state_is_dropped_while_training_alone() -> None:
    module, given = built(GRUConfig(dropout=0.5)), user_input((7, 7))
    assert not (given(module) == 0).any()
    torch.manual_seed(0)
    assert (given(module.train()) == 0).any()

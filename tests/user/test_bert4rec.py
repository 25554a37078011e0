"""BERT4Rec is BERT over a history and a mask token, and learns from blanks as the paper has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from legos.user.bert4rec import BERT4Rec, BERT4RecConfig
from tests.bricks import HIDDEN_SIZE, random_recommender, random_store, user_input
from tests.item.padded import Array, dense, numbers

LENGTHS = (0, 1, 3, 7, 2)


def built(**changes: object) -> BERT4Rec:
    config = BERT4RecConfig.model_validate({"max_history": 9, **changes})
    encoder: BERT4Rec = random_recommender(random_store(), user=config).user_encoder.double()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return encoder.eval()


def norm(layer: nn.LayerNorm, values: Array) -> Array:
    spread = values - values.mean(-1, keepdims=True)
    scaled = spread / np.sqrt((spread**2).mean(-1, keepdims=True) + layer.eps)
    return scaled * numbers(layer.weight) + numbers(layer.bias)


def transcribed(encoder: BERT4Rec, sequence: Array, blanks: list[int], *, heads: int) -> Array:
    """Outputs at the blanks of one sequence, head by head and place by place, in numpy."""
    sequence = sequence.copy()
    sequence[blanks] = numbers(encoder.mask_token)
    places = np.arange(len(sequence))
    if encoder.positions.from_end:
        places = places[::-1]
    values = norm(encoder.norm, sequence + numbers(encoder.positions.vectors)[places])
    width = HIDDEN_SIZE // heads
    for layer in encoder.transformer.layers:
        query, key, value = np.split(dense(layer.self_attention.project, values), 3, axis=1)
        joined = np.zeros_like(values)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = np.exp(query[:, part] @ key[:, part].T / width**0.5)
            joined[:, part] = scores / scores.sum(1, keepdims=True) @ value[:, part]
        values = norm(layer.attention_norm, values + dense(layer.self_attention.output, joined))
        wide = torch.from_numpy(dense(layer.feed_forward.widen, values))
        fed = dense(layer.feed_forward.narrow, nn.functional.gelu(wide).numpy())
        values = norm(layer.feed_forward_norm, values + fed)
    projected = torch.from_numpy(dense(encoder.output, values[blanks]))
    return norm(encoder.output_norm, nn.functional.gelu(projected).numpy())


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("positions", ["oldest", "newest"])
def test_the_user_is_the_output_at_a_mask_after_the_history(heads: int, positions: str) -> None:
    encoder, shown = built(num_heads=heads, positions=positions), user_input(LENGTHS)
    for row, found in zip(range(len(LENGTHS)), numbers(shown(encoder)), strict=True):
        read = numbers(shown.history[row][shown.mask[row]])
        asked = np.concatenate([read, np.zeros((1, HIDDEN_SIZE))])
        expected = transcribed(encoder, asked, [len(read)], heads=heads)[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_blanks_are_filled_from_both_sides_whatever_they_hide() -> None:
    encoder, shown = built(), user_input((7, 0, 4, 1))
    blanks = torch.zeros_like(shown.mask)
    blanks[[0, 0, 0, 2, 3], [1, 2, 6, 0, 0]] = True
    found = encoder.fill(shown.history, shown.mask, blanks)
    expected = [
        transcribed(encoder, numbers(shown.history[row, :length]), places, heads=2)
        for row, length, places in ((0, 7, [1, 2, 6]), (2, 4, [0]), (3, 1, [0]))
    ]
    np.testing.assert_allclose(numbers(found), np.concatenate(expected), rtol=0, atol=1e-9)
    other = shown.history.masked_fill(blanks[..., None], 1e6)
    assert torch.equal(encoder.fill(other, shown.mask, blanks), found)


def test_its_layers_are_those_of_transformers_bert() -> None:
    encoder, shown = built(num_layers=3), user_input((7,))
    config = BertConfig(
        vocab_size=2,
        hidden_size=HIDDEN_SIZE,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=4 * HIDDEN_SIZE,
        max_position_embeddings=10,
        layer_norm_eps=encoder.norm.eps,
    )
    bert = BertModel(config, add_pooling_layer=False).double().eval()
    bert.load_state_dict(as_bert(encoder), strict=False)
    bert.embeddings.token_type_embeddings.weight.data.zero_()
    asked = torch.cat([shown.history, encoder.mask_token.expand(1, 1, -1)], 1)
    state = bert(inputs_embeds=asked).last_hidden_state[:, -1]
    expected = encoder.output_norm(nn.functional.gelu(encoder.output(state)))
    torch.testing.assert_close(shown(encoder), expected, rtol=0, atol=1e-9)


def as_bert(encoder: BERT4Rec) -> dict[str, Tensor]:
    """The weights under the names of transformers."""
    found = {"embeddings.position_embeddings.weight": encoder.positions.vectors}
    found |= prefixed("embeddings.LayerNorm", encoder.norm)
    for number, layer in enumerate(encoder.transformer.layers):
        at, project = f"encoder.layer.{number}", layer.self_attention.project
        for name, weight, bias in zip(
            ("query", "key", "value"), project.weight.chunk(3), project.bias.chunk(3), strict=True
        ):
            found |= {f"{at}.attention.self.{name}.weight": weight}
            found |= {f"{at}.attention.self.{name}.bias": bias}
        found |= prefixed(f"{at}.attention.output.dense", layer.self_attention.output)
        found |= prefixed(f"{at}.attention.output.LayerNorm", layer.attention_norm)
        found |= prefixed(f"{at}.intermediate.dense", layer.feed_forward.widen)
        found |= prefixed(f"{at}.output.dense", layer.feed_forward.narrow)
        found |= prefixed(f"{at}.output.LayerNorm", layer.feed_forward_norm)
    return found


def prefixed(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}

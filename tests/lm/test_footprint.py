"""Memory told from shapes alone is that of a real training: weights to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from legos.lm.adapt import choose_trained
from legos.lm.cut import cut_below
from legos.lm.footprint import Footprint, activations_of, counted, transformer_run, weights_of
from legos.lm.load import LanguageModel
from legos.lm.settings import BackboneSettings, LanguageModelSource
from legos.lm.text_model import layers_of
from legos.systems.recsysllm.check import glm_run
from tests.lm.families import LAYERS, small_model
from tests.lm.test_quantised import needs_bitsandbytes
from tests.systems.recsysllm.small import small_glm

ROWS, WIDTH = 3, 8
HOW: list[Any] = [
    {"train": "full"},
    {"train": "lora", "lora_rank": 2},
    {"train": "lora", "lora_rank": 2, "dtype": "bf16", "lora_targets": "linear"},
    {"train": "lora", "lora_rank": 2, "quantised": "int8"},
    pytest.param({"train": "lora", "quantised": "nf4", "dtype": "bf16"}, marks=needs_bitsandbytes),
]


def _model(folder: Path, how: dict[str, Any], *, shapes_only: bool) -> nn.Module:
    settings = BackboneSettings.model_validate(how)
    source = LanguageModelSource(path=str(folder))
    model = LanguageModel(source, settings, shapes_only=shapes_only).instance()
    choose_trained(model, settings)
    return model


def _saved(model: nn.Module, run: Any) -> int:
    """Bytes that a real forward pass keeps beside weights."""
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found = [0]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            found[0] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    assert output.requires_grad
    return found[0]


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("how", HOW, ids=lambda how: "-".join(map(str, how.values())))
def test_shapes_alone_tell_the_memory_of_a_training(how: dict[str, Any], tmp_path: Path) -> None:
    original: Any = small_model("llama")
    original.save_pretrained(tmp_path)
    model: Any = _model(tmp_path, how, shapes_only=False).train()
    skeleton = _model(tmp_path, how, shapes_only=True)
    told = weights_of(skeleton, layers_of(skeleton))
    ids = torch.randint(0, 97, (ROWS, WIDTH))
    mask = torch.ones(ROWS, WIDTH, dtype=torch.int64).tril(WIDTH - ROWS)  # of texts of 6, 7 and 8
    call = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    kept = _saved(model, lambda: model(**call).last_hidden_state)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained)
    model(input_ids=ids).last_hidden_state.float().sum().backward()
    optimizer.step()
    assert told.parameters == _bytes(model.parameters())
    assert told.gradients == _bytes(parameter.grad for parameter in trained)
    states = [each for state in optimizer.state.values() for each in state.values()]
    assert told.moments == _bytes(states)
    numbers = sum(each.numbers for each in counted(skeleton))
    assert numbers - sum(p.numel() for p in trained) * (how["train"] == "lora") == sum(
        parameter.numel() for parameter in original.parameters()
    )
    run = transformer_run(ROWS, WIDTH)
    found = activations_of(skeleton, run, autocast=False)
    assert found is not None
    assert found.kept == pytest.approx(kept, rel=0.1)
    assert len(found.layers) == LAYERS
    assert found.checkpointed < found.kept


def test_layers_below_a_cut_keep_nothing(tmp_path: Path) -> None:
    original: Any = small_model("bert")
    original.save_pretrained(tmp_path)
    language = LanguageModel(LanguageModelSource(path=str(tmp_path)), shapes_only=True)
    skeleton = language.instance()
    cut_below(skeleton, 2, like=language.twin(2))
    choose_trained(skeleton, BackboneSettings(train="lora"))
    call = transformer_run(ROWS, WIDTH)
    found = activations_of(skeleton, call, autocast=False)
    assert found.layers[:2] == (0, 0)
    assert min(found.layers[2:]) > 0
    half = activations_of(skeleton, call, autocast=True)
    assert sum(half.layers) < 0.6 * sum(found.layers)


def test_a_glm_is_counted_as_it_is() -> None:
    model = small_glm(dropout=0.0).transformer.train()
    ids = torch.zeros(ROWS, WIDTH, dtype=torch.int64)
    mask = torch.ones(ROWS, 1, WIDTH, WIDTH, dtype=torch.bool)
    vectors = torch.randn(ROWS, WIDTH, 16, requires_grad=True)
    kept = _saved(model, lambda: model(vectors, ids, ids, mask, None))
    call = glm_run(ROWS, WIDTH, 16, learn=True)
    found = activations_of(model.to("meta"), call, autocast=False)
    assert found.kept == pytest.approx(kept, rel=0.1)


def test_devices_share_under_fsdp_and_copy_under_ddp() -> None:
    model = nn.ModuleDict(
        {"table": nn.Embedding(10, 4), "layers": nn.ModuleList(nn.Linear(4, 4) for _ in range(6))}
    )
    table, layer = 4 * 40, 4 * 20
    whole = table + 6 * layer
    layers: Any = model["layers"]
    footprint = Footprint(weights_of(model, layers), lambda processes: None)
    alone, ddp, fsdp = (footprint.needed(*each) for each in ((1, None), (4, "DDP"), (4, "FSDP")))
    assert (alone.parameters, alone.gradients, alone.moments) == (whole, whole, 2 * whole + 13 * 4)
    assert (ddp.parameters, ddp.gradients, ddp.moments) == (whole, 2 * whole, alone.moments)
    assert fsdp.parameters == 6 * layer // 4 + 2 * layer + table
    assert fsdp.gradients == 6 * layer // 4 + layer + table
    assert fsdp.moments == (2 * 6 * layer + 12 * 4) // 4 + 2 * table + 4

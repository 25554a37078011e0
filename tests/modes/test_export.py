"""A trained language model as a Hugging Face folder: it computes what the item encoder computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from legos.config.schema import RunConfig
from legos.errors import CheckpointError, ConfigError
from legos.item.language_model import LanguageModelConfig, LanguageModelEncoder
from legos.lm.adapt import lora_parameters
from legos.lm.cut import forward_above
from legos.lm.load import LanguageModel
from legos.lm.locate import packaged
from legos.lm.settings import LanguageModelSource
from legos.lm.states import StateReader, layer_name
from legos.lm.word_model import whole_language_model
from legos.modes.export import write_language_model
from legos.modes.main import run
from tests.lm.cached import ragged
from tests.lm.families import FAMILIES, LAYERS, small_model
from tests.modes.tiny_config import tiny_config
from tests.tiny import tiny_tables
from tests.workplace.test_language import SOURCE, language_config

IDS = torch.randint(2, 97, (3, 7), generator=torch.Generator().manual_seed(0))


def encoder_over(language_model: LanguageModel, **settings: Any) -> LanguageModelEncoder:
    """An item encoder in evaluation mode, all that it trains filled with random numbers."""
    config = LanguageModelConfig(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)  # adapters begin at random
        encoder = LanguageModelEncoder(config, language_model=language_model, hidden_size=8)
    generator = torch.Generator().manual_seed(3)
    changed = lora_parameters(encoder.language_model) or [
        parameter for parameter in encoder.language_model.parameters() if parameter.requires_grad
    ]
    with torch.no_grad():
        for parameter in changed:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return encoder.eval()


@torch.no_grad()
def trained_states(original: nn.Module, trained: Any, layer: int) -> Tensor:
    """States cached at a layer of the original, then the kept layers: ``(3, 7, E)``."""
    if not layer:
        states: Tensor = trained(input_ids=IDS).last_hidden_state
        return states
    cached = StateReader(original, layers=[layer])(ragged(IDS.tolist()))[layer_name(layer)]
    mask = torch.ones_like(IDS, dtype=torch.bool)
    return forward_above(trained, cached.unflatten(0, IDS.shape), mask, {})


def trained_parts() -> list[Any]:
    """Every family whole and with adapters above a cut; two of them with all at every cut."""
    return [
        pytest.param(
            family,
            layer,
            rank,
            id=f"{family}-{layer}-{'lora' if rank else 'tuned'}",
            marks=[]
            if family in ("bert", "llama") or (layer, rank) in ((0, 0), (2, 4))
            else [pytest.mark.nightly],
        )
        for family in FAMILIES
        for layer in (0, 2, LAYERS - 1)
        for rank in (0, 4)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "layer", "rank"), trained_parts())
def test_the_exported_model_equals_cached_states_and_trained_layers(
    family: str, layer: int, rank: int, tmp_path: Path
) -> None:
    small_model(family).save_pretrained(tmp_path / "original")  # type: ignore[operator]
    source = LanguageModelSource.model_validate(str(tmp_path / "original"))
    language_model = LanguageModel(source)
    encoder = encoder_over(language_model, layer=layer, lora_rank=rank, lora_alpha=4.0)
    expected = trained_states(language_model.load(), encoder.language_model, layer)
    whole = whole_language_model(language_model, encoder.language_model, layer)
    whole.save_pretrained(tmp_path / "exported")  # type: ignore[operator]
    exported = AutoModel.from_pretrained(tmp_path / "exported").eval()
    with torch.no_grad():
        found = exported(input_ids=IDS).last_hidden_state
        unchanged = language_model.load()(input_ids=IDS).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found - unchanged).abs().max() > 1e-2
    assert exported.config.num_hidden_layers == LAYERS


def test_another_layer_than_the_cut_is_refused() -> None:
    language_model = LanguageModel(LanguageModelSource(**SOURCE))
    encoder = encoder_over(language_model, layer=2)
    with pytest.raises(ConfigError, match="cut at layer 1 keeps 2 layers, the trained model has 1"):
        whole_language_model(language_model, encoder.language_model, 1)


@pytest.mark.nightly
@pytest.mark.slow
def test_a_gguf_file_becomes_a_normal_folder(tmp_path: Path) -> None:
    language_model = LanguageModel(packaged("smollm2"))
    encoder = encoder_over(language_model, layer=28, lora_rank=2)
    expected = trained_states(language_model.load(), encoder.language_model, 28)
    whole = whole_language_model(language_model, encoder.language_model, 28)
    write_language_model(tmp_path / "exported", whole, language_model, {})
    again = LanguageModel(LanguageModelSource.model_validate(str(tmp_path / "exported")))
    assert again.located.gguf is None
    text = "A good book, über alles"
    assert again.tokenizer.encode(text).ids == language_model.tokenizer.encode(text).ids
    exported = again.load()
    kept = exported.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in whole.state_dict().items())
    with torch.no_grad():
        found = exported(input_ids=IDS).last_hidden_state
    # numbers up to 20; float32 is 6e-4 off float64 here, with merged and with separate adapters
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return tiny_tables(tmp_path / "tables")


def trained(tables: Path, folder: Path, **item: Any) -> tuple[RunConfig, Path]:
    """A finished training, and its run folder."""
    exp = {"mode": "train", "train": {"epochs": 1, "item_lr": 0.005}}
    config = language_config(tables, folder, exp=exp, **item)
    results = run(config)
    return config, folder / "runs" / "tiny" / "tiny-naml" / results["run"]


def exporting(config: RunConfig, **more: Any) -> RunConfig:
    exp = config.exp.model_copy(update={"mode": "export", **more})
    return config.model_copy(update={"exp": exp})


@pytest.mark.slow
def test_a_run_is_exported_with_its_tokenizer_and_where_it_comes_from(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, place = trained(tables, tmp_path, layer=2, lora_rank=2, lora_alpha=8.0)
    summary = run(exporting(config))
    folder = place / "export" / "language_model"
    assert Path(summary["folder"]) == folder
    assert f"--llm_ver {folder}" in capsys.readouterr().out
    original = LanguageModel(LanguageModelSource(**SOURCE))
    found = load_file(folder / "model.safetensors")
    best = load_file(place / "checkpoints" / "best" / "model.safetensors")
    inside = "item_encoder.language_model.encoder.layer.2.attention.self"
    for name, expected in original.load().state_dict().items():
        if name.startswith("encoder.layer.2.") and ("query.w" in name or "value.w" in name):
            adapted = f"{inside}.{'query' if 'query' in name else 'value'}"
            down = best[f"{adapted}.lora_A.default.weight"]
            up = best[f"{adapted}.lora_B.default.weight"]
            assert up.abs().max() > 1e-4
            expected = expected + up @ down * (8.0 / 2)  # Hu et al., section 4.1
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-6)
    words = AutoTokenizer.from_pretrained(folder)("news: a good book")["input_ids"]
    assert words == original.tokenizer.encode("news: a good book").ids
    facts = json.loads((folder / "legos.json").read_text())
    assert facts["run"] == place.name
    assert facts["checkpoint"] == str(place / "checkpoints" / "best")
    assert (facts["layer"], facts["lora"]["rank"], facts["lora"]["alpha"]) == (2, 2, 8.0)
    assert facts["fingerprint"] == original.fingerprint


@pytest.mark.slow
def test_a_named_run_goes_to_a_named_folder_and_nothing_else_is_replaced(
    tables: Path, tmp_path: Path
) -> None:
    config, place = trained(tables, tmp_path, layer=-1)
    target = tmp_path / "exported"
    section = config.exp.export.model_copy(update={"folder": target})
    again = exporting(config, load=place, export=section)
    run(again)
    run(again)  # an earlier export may be replaced
    found = load_file(target / "model.safetensors")
    best = load_file(place / "checkpoints" / "best" / "model.safetensors")
    stem = "item_encoder.language_model."
    kept = [name for name in best if name.startswith(stem) and "encoder.layer" in name]
    assert kept
    for name in kept:
        assert torch.equal(found[name.removeprefix(stem)], best[name])
    (target / "legos.json").unlink()
    (target / "mine.txt").write_text("precious")
    with pytest.raises(ConfigError, match="is not an export"):
        run(again)
    assert (target / "mine.txt").read_text() == "precious"


def test_what_cannot_be_exported_is_refused(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="uses no language model"):
        run(tiny_config(tables, tmp_path, mode="export"))
    exp = {"mode": "export"}
    with pytest.raises(ConfigError, match="'iisan' trains nothing"):
        run(language_config(tables, tmp_path, exp=dict(exp), name="iisan"))
    with pytest.raises(ConfigError, match="quantised: int8"):
        run(language_config(tables, tmp_path, exp=dict(exp), quantised="int8", frozen=True))
    with pytest.raises(CheckpointError, match="no trained model here"):
        run(language_config(tables, tmp_path, exp=dict(exp), layer=2))
    assert not (tmp_path / "runs").exists()

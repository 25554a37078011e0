"""Language models from a package, a folder, a GGUF file, the hub or a shape; refusals that help."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from legos.errors import ConfigError
from legos.lm.load import LanguageModel
from legos.lm.locate import locate
from legos.lm.settings import LanguageModelSource
from tests.lm.families import FAMILIES, small_model, smollm2

SHAPE = {"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 3, "vocab_size": 99}
SHAPE |= {"num_attention_heads": 2, "intermediate_size": 8}


def random_model(seed: int = 0, **more: object) -> LanguageModel:
    source = LanguageModelSource(random=True, shape=SHAPE, tokenizer="minilm", seed=seed)
    return LanguageModel(source, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_folder_is_read_back(family: str, tmp_path: Path) -> None:
    model = small_model(family)
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    loaded = LanguageModel(LanguageModelSource.model_validate(str(tmp_path)))
    assert (loaded.width, loaded.num_layers) == (16, 4)
    found, expected = loaded.load().state_dict(), model.state_dict()
    assert {name for name in expected if "pooler" not in name} == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_random_weights_are_the_same_by_seed_and_leave_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (random_model(seed).load() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    names = dict(first.named_parameters())
    assert all(torch.equal(p, names[name]) for name, p in again.named_parameters())
    assert not all(torch.equal(p, names[name]) for name, p in other.named_parameters())
    assert random_model(0).fingerprint != random_model(1).fingerprint


def test_shapes_need_no_weights() -> None:
    source = LanguageModelSource(hub="nobody/nothing", shape=SHAPE)
    model = LanguageModel(source, shapes_only=True).instance()
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.numel() for p in random_model().load().parameters()
    )


def test_llama_7b_and_13b_have_their_published_sizes() -> None:
    """6.7 and 13.0 billion (Touvron et al., 2023, table 2), less the head over the vocabulary."""
    import yaml

    known = yaml.safe_load(Path("config/llm.yaml").read_text(encoding="utf-8"))
    for name, expected in (("7b", 6_738_415_616), ("13b", 13_015_864_320)):
        model = LanguageModel(LanguageModelSource(name=name, **known[name]), shapes_only=True)
        head = 32_000 * model.width
        assert sum(p.numel() for p in model.instance().parameters()) == expected - head


def test_a_change_of_weights_changes_the_fingerprint(tmp_path: Path) -> None:
    model = small_model("llama")
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    source = LanguageModelSource.model_validate(str(tmp_path))
    before = LanguageModel(source).fingerprint
    file = tmp_path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert LanguageModel(source).fingerprint != before


def test_weights_as_pickles_are_refused(tmp_path: Path) -> None:
    model = small_model("llama")
    model.config.save_pretrained(tmp_path)  # type: ignore[operator, union-attr]
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="pickles are not read"):
        LanguageModel(LanguageModelSource.model_validate(str(tmp_path))).load()


@pytest.mark.slow
def test_a_gguf_file_is_read_with_its_tokenizer() -> None:
    model = smollm2()
    assert (model.width, model.num_layers, model.longest) == (576, 30, 8192)
    assert model.tokenizer.decode(model.tokenizer.encode("a good book").ids) == "a good book"


def test_what_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*_: object, **__: object) -> str:
        raise OSError("no network here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ConfigError, match=r"'7b' \(huggyllama/llama-7b\).*hf download huggyllama"):
        locate(LanguageModelSource(name="7b", hub="huggyllama/llama-7b"))
    with pytest.raises(ConfigError, match=r"nowhere.*neither a name of config/llm.yaml nor"):
        locate(LanguageModelSource.model_validate("./nowhere"))
    with pytest.raises(ConfigError, match="package no_such_package, which is not installed"):
        locate(LanguageModelSource(name="x", package="no_such_package/model"))


@pytest.mark.parametrize(
    ("value", "attribute", "name"),
    [
        ("owner/model", "hub", "model"),
        ("./folder/model", "path", "model"),
        ("/a/b/Model.Q4.gguf", "path", "Model.Q4"),
    ],
)
def test_a_bare_text_is_a_path_or_a_hub_name(value: str, attribute: str, name: str) -> None:
    source = LanguageModelSource.model_validate(value)
    assert getattr(source, attribute) == value
    assert source.name == name


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "exactly one of"),
        ({"path": "a", "hub": "b/c"}, "exactly one of"),
        ({"random": True}, "need a shape and a tokenizer"),
        ({"path": "a", "shape": {"hidden_size": 3}}, "needs a model_type"),
        ({"path": "a", "lora": 3}, "Extra inputs"),
    ],
)
def test_a_source_that_says_too_little_or_too_much_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LanguageModelSource.model_validate(value)

"""Presets set what the paper and its public code differ in; what is given wins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from legos.errors import ConfigError, DataError
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource
from legos.lm.text_model import layer_stack
from legos.lm.word_model import keep_layers
from legos.systems.cllm4rec.model import build_cllm4rec, soft_std
from legos.systems.cllm4rec.settings import PRESETS, Cllm4RecConfig
from legos.systems.cllm4rec.tokenizer import SoftTokenizer, Vocabulary
from tests.systems.cllm4rec.small import small_backbone, small_model, word_tokenizer


def leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = leaves(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
        found |= inner
    return found


def test_both_presets_say_everything_they_differ_in() -> None:
    presets = {name: Cllm4RecConfig.model_validate({"preset": name}) for name in PRESETS}
    dumped = {name: leaves(config.model_dump()) for name, config in presets.items()}
    for name, config in dumped.items():
        assert {key: config[key] for key in leaves(PRESETS[name])} == leaves(PRESETS[name])
    differing = {
        key for key in dumped["paper"] if dumped["paper"][key] != dumped["public_code"][key]
    }
    equal = {"recommendation.reorder"}  # both shuffle prompts
    assert differing - {"preset"} == leaves(PRESETS["paper"]).keys() - equal
    assert dumped["paper"] == leaves(Cllm4RecConfig().model_dump())


def test_what_is_given_wins() -> None:
    config = Cllm4RecConfig.model_validate(
        {"preset": "public_code", "recommendation": {"target": "holdout"}, "score_first_main": True}
    )
    assert config.recommendation.target == "holdout"
    assert config.recommendation.test_order == "random"
    assert config.score_first_main
    for wrong in ({"preset": "papers"}, {"mutual": {"wieght": 1}}, {"soft_init": -1.0}):
        with pytest.raises(ValidationError):
            Cllm4RecConfig.model_validate(wrong)


def test_standard_deviation_of_fresh_tables() -> None:
    backbone = small_backbone("gpt2")
    assert soft_std(backbone, Cllm4RecConfig()) == 0.1
    assert soft_std(backbone, Cllm4RecConfig(soft_init=0.5)) == 0.5
    spread = soft_std(backbone, Cllm4RecConfig(soft_init="token_table"))
    assert spread == pytest.approx(float(backbone.token_table.std()))
    t5 = small_backbone("t5")
    del t5.model.config.initializer_range  # the family has none
    assert soft_std(t5, Cllm4RecConfig()) == pytest.approx(float(t5.token_table.std()))
    assert soft_std(small_backbone("opt"), Cllm4RecConfig()) == 0.1


@pytest.mark.parametrize("init", ["pretrained", "random"])
@pytest.mark.parametrize("family", ["gpt2", "untied", "t5"])
def test_a_model_from_files(family: str, init: str, tmp_path: Any) -> None:
    model = small_model(family)
    model.save_pretrained(tmp_path)
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=word_tokenizer()).save_pretrained(tmp_path)
    language = LanguageModel(LanguageModelSource(path=str(tmp_path)))
    config = Cllm4RecConfig.model_validate(
        {"backbone": {"init": init, "layers": 2}, "soft_init": "token_table"}
    )
    built = build_cllm4rec(language, config, users=5, items=9, seed=3)
    backbone = built.model.backbone
    expected = model.get_output_embeddings()
    expected = (model.get_input_embeddings() if expected is None else expected).weight
    assert torch.equal(backbone.output_table, expected) == (init == "pretrained")
    assert (backbone.head is not None) == (family == "untied")
    prompts = built.templates.history(torch.tensor([4]))
    assert prompts.values.tolist()[0] == backbone.words + 4
    with torch.no_grad():
        states = backbone.states(prompts, prompts.lengths, built.model.collaborative)
    assert states.shape == (4, 16)
    again = build_cllm4rec(language, config, users=5, items=9, seed=3).model
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), built.model.parameters(), strict=True)
    )


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="the backbone's table only 5"):
        SoftTokenizer(word_tokenizer(), Vocabulary(5, 2, 2))
    with pytest.raises(DataError, match="user 101: expected 0 to 1"):
        Vocabulary(97, 2, 2).user_tokens(torch.tensor([1, 101]))
    with pytest.raises(ConfigError, match="0 items"):
        Vocabulary(5, 2, 0)


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_a_cut_in_the_middle_keeps_both_ends(family: str) -> None:
    whole = small_model(family, num_hidden_layers=5, num_layers=5, num_decoder_layers=5)
    cut = small_model(family, num_hidden_layers=5, num_layers=5, num_decoder_layers=5)
    keep_layers(cut, 3, cut="middle")

    def stacks(model: Any) -> list[torch.nn.ModuleList]:
        if family == "t5":
            return [model.encoder.block, model.decoder.block]
        return [layer_stack(model.base_model)[1]]

    for found, layers in zip(stacks(cut), stacks(whole), strict=True):
        assert len(found) == 3
        for number, kept in zip((0, 1, 4), found, strict=True):
            for name, parameter in layers[number].named_parameters():
                assert torch.equal(kept.get_parameter(name), parameter)
    if family != "t5":
        numbers = {m.layer_idx for m in cut.modules() if hasattr(m, "layer_idx")}
        assert numbers == {0, 1, 2}

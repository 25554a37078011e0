"""Every kind of language model is equal when cut, or refused in a line: as the docs say."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig

from benchmarks.language_models import PAGE, Documented, documented, kinds, row_of
from legos.errors import ConfigError
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource
from legos.lm.text_model import quiet_transformers
from legos.lm.verify import TOLERANCE, try_kind

VERDICTS = documented(PAGE.read_text(encoding="utf-8"))
VERSION = PAGE.read_text(encoding="utf-8").split("transformers ")[1].split(",")[0]
same_version = pytest.mark.skipif(
    transformers.__version__ != VERSION, reason="the docs are of another transformers"
)
KNOWN = {
    *("bert", "roberta", "deberta-v2", "electra", "modernbert", "t5", "bart", "gpt2", "opt"),
    *("bloom", "llama", "mistral", "qwen2", "qwen3", "gemma3_text", "granite", "granitemoe"),
    *("glm", "gpt_neox", "falcon", "mpt", "mamba"),
}
BERT = {
    "model_type": "bert",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 30522,
}


def each_kind() -> list[Any]:
    """All kinds: the known ones and the first of each reason for a refusal run always."""
    first: dict[tuple[str, str], str] = {}
    for kind, row in VERDICTS.items():
        first.setdefault((row.verdict, cause(row)), kind)
    always = {*first.values(), *KNOWN}
    return [
        kind if kind in always else pytest.param(kind, marks=pytest.mark.nightly)
        for kind in VERDICTS
    ]


def cause(row: Documented) -> str:
    """A reason without names, numbers and what transformers says."""
    return re.sub(r"\w*[A-Z0-9]\w*", "", row.reason).split("(")[0]


@pytest.mark.parametrize("kind", each_kind())
def test_a_kind_is_equal_or_refused_as_the_docs_say(kind: str) -> None:
    if kind not in transformers.CONFIG_MAPPING:
        pytest.skip("not in this transformers")
    row = row_of(kind)
    if row.difference is None:
        assert row.reason
        assert "\n" not in row.reason
    if transformers.__version__ == VERSION:
        assert row.verdict == VERDICTS[kind].verdict


@pytest.mark.slow
@same_version
def test_the_docs_have_every_kind_of_text_model() -> None:
    with quiet_transformers():
        assert [*VERDICTS] == kinds()[0]


@pytest.mark.parametrize("kind", ["granite", "bloom", "deberta-v2", "gpt2", "t5", "modernbert"])
def test_kinds_that_compute_beside_their_layers_are_equal(kind: str) -> None:
    assert VERDICTS[kind].verdict == "equal"


@pytest.mark.parametrize("kind", ["fnet", "nystromformer", "yoso", "convbert"])
def test_kinds_whose_items_depend_on_padding_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="depend on the padding of its batch"):
        try_kind(AutoConfig.for_model(kind, num_hidden_layers=2), name=kind)


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "granite", "embedding_multiplier": 12.0, "residual_multiplier": 0.3},
        {"model_type": "deberta-v2", "conv_kernel_size": 3, "relative_attention": True},
        {"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True},
        {"model_type": "falcon", "alibi": True},
        {"model_type": "opt", "word_embed_proj_dim": 512, "do_layer_norm_before": False},
        {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 2},
    ],
    ids=lambda options: options["model_type"],
)
@pytest.mark.parametrize("layer", [1, 3])
def test_options_of_a_configuration_are_tried(options: dict[str, object], layer: int) -> None:
    config = AutoConfig.for_model(**options, num_hidden_layers=4)
    tried = try_kind(config, name="small", layer=layer, lora=True)
    assert tried.cut <= TOLERANCE


@pytest.mark.parametrize(
    ("kind", "read_by"),
    [("gemma3", "gemma3_text"), ("llama4", "llama4_text"), ("qwen2_5_vl", "qwen2_5_vl_text")],
)
def test_a_multimodal_model_gives_its_text_model(kind: str, read_by: str) -> None:
    shape = AutoConfig.for_model(kind).to_dict()
    model = LanguageModel(
        LanguageModelSource(name="wide", random=True, shape=shape, tokenizer="minilm"),
        shapes_only=True,
    )
    text = model.skeleton()
    assert text.config.model_type == read_by  # type: ignore[union-attr]
    assert model.num_layers == text.config.num_hidden_layers  # type: ignore[union-attr]
    assert model.width == text.config.hidden_size  # type: ignore[union-attr]
    assert not any("vision" in name or "visual" in name for name, _ in text.named_parameters())


def test_an_encoder_decoder_is_read_by_its_encoder() -> None:
    shape = {"model_type": "t5", "d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8,
             "d_ff": 32, "vocab_size": 99}  # fmt: skip
    model = LanguageModel(
        LanguageModelSource(name="t5", random=True, shape=shape, tokenizer="minilm")
    )
    names = [name for name, _ in model.load().named_parameters()]
    assert not any("decoder" in name for name in names)
    whole = [name for name, _ in model.load(decoder=True).named_parameters()]
    assert any("decoder" in name for name in whole)
    ids = torch.randint(2, 99, (2, 5))
    assert model.load()(input_ids=ids).last_hidden_state.shape == (2, 5, 16)


def test_names_of_linear_layers_are_checked_before_anything_is_loaded() -> None:
    config = AutoConfig.for_model(**BERT)
    with pytest.raises(ConfigError, match="no linear layer is called 'q_proj'; choose from: "):
        try_kind(config, name="bert", layer=11, lora=True, targets=("q_proj",))

"""The longest text of every kind of positions, and tokens that a table has no row for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from legos.data.vector_files import Encoding
from legos.errors import ConfigError
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource
from legos.lm.text_model import longest_text, verify_longest
from legos.lm.text_vectors import text_vectors
from legos.lm.token_vectors import language_model_token_vectors
from legos.lm.tokenizer import fit_to_table

_SMALL: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 34,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_KINDS: dict[str, tuple[dict[str, Any], int]] = {
    "bert": ({}, 34),
    "electra": ({"embedding_size": 8}, 34),
    "roberta": ({}, 32),
    "camembert": ({}, 32),
    "xlm-roberta": ({}, 32),
    "xlm-roberta-xl": ({}, 32),
    "mpnet": ({}, 32),
    "longformer": ({"attention_window": 4}, 32),
    "data2vec-text": ({}, 32),
    "roberta-prelayernorm": ({}, 32),
    "esm": ({"position_embedding_type": "absolute"}, 32),
    "luke": ({"entity_vocab_size": 10, "entity_emb_size": 16}, 32),
    "xmod": ({"default_language": "en_XX"}, 32),
    "opt": ({"ffn_dim": 16, "word_embed_proj_dim": 16}, 34),
    "biogpt": ({}, 34),
    "gpt2": ({}, 34),
    "llama": ({}, 34),
}


def model_of(kind: str) -> Any:
    more, _ = _KINDS[kind]
    config = transformers.AutoConfig.for_model(kind, **{**_SMALL, **more})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.AutoModel.from_config(config).eval()


def reads(model: Any, length: int) -> bool:
    ids = torch.full((1, length), 5)
    try:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("kind", _KINDS)
def test_the_longest_text_is_read_and_one_token_more_is_not(kind: str) -> None:
    model, (_, expected) = model_of(kind), _KINDS[kind]
    found = longest_text(model, model.config)
    assert found == expected
    verify_longest(model, found, kind)
    assert reads(model, expected)
    if kind != "llama":  # positions by rotation end nowhere
        assert not reads(model, expected + 1)


def test_a_longest_text_that_the_model_cannot_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="should read 33 tokens"):
        verify_longest(model_of("mpnet"), 33, "x")


def test_a_configuration_without_a_limit_has_none() -> None:
    config = transformers.BloomConfig(hidden_size=16, n_layer=1, n_head=2, vocab_size=20)
    assert longest_text(transformers.BloomModel(config), config) is None


def words(count: int = 20) -> Tokenizer:
    """Words w0, w1, ...; every text ends with w2."""
    tokenizer = Tokenizer(WordLevel({f"w{index}": index for index in range(count)}, "w3"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A w2", special_tokens=[("w2", 2)])
    return tokenizer


def folder_of(kind: str, folder: Path, tokenizer: Tokenizer) -> LanguageModel:
    model_of(kind).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    return LanguageModel(LanguageModelSource.model_validate(str(folder)))


def test_words_without_a_vector_are_refused_by_name(tmp_path: Path) -> None:
    model = folder_of("bert", tmp_path, words(22))
    with pytest.raises(ConfigError, match=r"20 rows, its tokenizer 2 tokens .*: 'w20' \(20\), "):
        _ = model.tokenizer
    with pytest.raises(ConfigError, match=r"'w20' \(20\)"):
        text_vectors(["w5"], tmp_path, Encoding(max_length=8))


def test_an_added_word_without_a_vector_is_refused() -> None:
    tokenizer = words()
    tokenizer.add_tokens(["police"])
    with pytest.raises(ConfigError, match=r"1 tokens beyond them: 'police' \(20\)"):
        fit_to_table(tokenizer, 20, "x")
    assert fit_to_table(tokenizer, 21, "x") is tokenizer


def test_a_special_token_without_a_vector_is_read_as_text() -> None:
    tokenizer = words()
    tokenizer.add_special_tokens([AddedToken("<image>", special=True)])
    assert tokenizer.encode("w4 <image>").ids == [4, 20, 2]
    fitted = fit_to_table(tokenizer, 20, "x")
    assert max(fitted.encode("w4 <image> w5").ids) < 20
    assert fitted.encode("w4 w5").ids == [4, 5, 2]


def test_a_special_token_of_every_text_without_a_vector_is_refused() -> None:
    tokenizer = words()
    tokenizer.add_special_tokens([AddedToken("<end>", special=True)])
    tokenizer.post_processor = TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 20)])
    with pytest.raises(ConfigError, match="'<end>' \\(20\\)"):
        fit_to_table(tokenizer, 20, "x")


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("gpt_neox", {}),
        ("bloom", {}),
        ("falcon", {}),
        ("modernbert", {"cls_token_id": 0, "sep_token_id": 2}),
        ("electra", {"embedding_size": 8}),
        ("albert", {"embedding_size": 8}),
        ("opt", {"ffn_dim": 16, "word_embed_proj_dim": 8}),
        ("t5", {"d_kv": 8, "d_ff": 16}),
        ("gpt2", {}),
        ("llama", {}),
    ],
)
def test_a_token_table_is_the_models_own_input_embeddings(
    kind: str, more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_KINDS, kind, (more, 0))
    model = folder_of(kind, tmp_path, words())
    found = language_model_token_vectors(model.source)
    expected: Any = model.load()
    assert torch.equal(found.vectors, expected.get_input_embeddings().weight)
    assert found.tokens == [f"w{index}" for index in range(20)]
    assert model.table_width == found.vectors.shape[1]


def test_a_table_reads_nothing_else_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = folder_of("bert", tmp_path, words())
    monkeypatch.setattr(LanguageModel, "load", lambda *_: pytest.fail("the model was loaded"))
    assert language_model_token_vectors(model.source).vectors.shape == (20, 16)


def test_a_table_in_float16_is_read_as_it_is(tmp_path: Path) -> None:
    model = folder_of("bert", tmp_path, words())
    half: Any = model.load().half()
    half.save_pretrained(tmp_path)
    found = language_model_token_vectors(model.source).vectors
    assert found.dtype == torch.float32
    assert torch.equal(found, half.get_input_embeddings().weight.float())


def test_the_table_of_a_model_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    model = folder_of("bert", tmp_path, words())
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 3}))
    with pytest.raises(ConfigError, match="are missing from its files and would be random"):
        language_model_token_vectors(model.source)

"""Sentence encoders as they are shipped give the vectors of sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from legos.errors import ConfigError
from legos.lm.sentence import pool
from legos.lm.sentence_files import MODES, Pooling, sentence_files
from legos.lm.text_vectors import TextEncoder, as_shipped, text_vectors
from tests.lm.shipped import KINDS, TEXTS, WIDTH, dense, ship, write

CLOSE = 1e-5
GEMMA = (dense(WIDTH, 48, "Identity", bias=False), dense(48, WIDTH, "Identity", bias=False))
COUNTED = ("bert", "distilbert", "mpnet")
PROMPTS = {"query": "query: ", "passage": "passage: ", "instruct": "instruct :\nquery : "}


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """The library takes its time; without it there is nothing to compare with."""
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")


def library(folder: Path, **settings: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", **settings)


def vectors(folder: Path, **how: Any) -> np.ndarray:
    return text_vectors(TEXTS, folder, as_shipped(folder, **how))


def agrees(folder: Path, *, batch_size: int = 2, **how: Any) -> np.ndarray:
    """Ours, equal to ``encode``."""
    expected = library(folder).encode(TEXTS, batch_size=batch_size)
    found = vectors(folder, task="plain", **how)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < CLOSE
    return found


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_of_transformer_with_dense_heads(kind: str, left: bool, tmp_path: Path) -> None:
    pooling = {"embedding_dimension": WIDTH, "pooling_mode": "mean"}
    if kind in ("qwen3", "llama"):
        pooling["pooling_mode"] = "lasttoken"
    folder = ship(tmp_path, kind, pooling=pooling, heads=(*GEMMA, ("Normalize", {})), left=left)
    # where positions are counted from the padding, the library's vectors depend on the batch
    found = agrees(folder, batch_size=1 if left and kind in COUNTED else 2)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("mode", [*MODES, ["cls", "max", "mean_sqrt_len_tokens"]])
def test_each_pooling_on_either_side_of_padding(
    mode: str | list[str], left: bool, tmp_path: Path
) -> None:
    pooling = {"embedding_dimension": WIDTH, "pooling_mode": mode}
    agrees(ship(tmp_path, "modernbert", pooling=pooling, left=left))


@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_that_pooling_leaves_out(mode: str, tmp_path: Path) -> None:
    pooling = {"embedding_dimension": WIDTH, "pooling_mode": mode, "include_prompt": False}
    folder = ship(tmp_path, pooling=pooling, whole={"prompts": PROMPTS})
    expected = library(folder).encode(TEXTS, prompt_name="instruct", batch_size=3)
    found = vectors(folder, prompt_name="instruct")
    assert np.abs(found - expected).max() < CLOSE
    write(folder / "1_Pooling/config.json", {**pooling, "include_prompt": True})
    if mode != "lasttoken":
        assert np.abs(vectors(folder, prompt_name="instruct") - expected).max() > CLOSE


def test_switches_of_older_files_join_vectors_in_their_order(tmp_path: Path) -> None:
    pooling = {
        "word_embedding_dimension": WIDTH,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_cls_token": True,
        "pooling_mode_max_tokens": False,
    }
    folder = ship(tmp_path, pooling=pooling, inside="0_Transformer")
    found = agrees(folder)
    assert found.shape == (len(TEXTS), 2 * WIDTH)
    files = sentence_files(folder / "0_Transformer")
    assert files is not None
    assert files.pooling.modes == ("cls", "mean")


@pytest.mark.parametrize(
    "heads",
    [
        (dense(WIDTH, 5), dense(5, 9, "ReLU", bias=False), ("LayerNorm", {"dimension": 9})),
        (dense(WIDTH, WIDTH, "GELU", use_residual=True), dense(WIDTH, 3, use_residual=True)),
        (("Normalize", {}), ("Dropout", {}), dense(WIDTH, 7, "SiLU")),
    ],
)
def test_heads_in_a_row(heads: tuple[tuple[str, dict[str, Any]], ...], tmp_path: Path) -> None:
    write(tmp_path / "3_Dropout/config.json", {"dropout": 0.1})
    agrees(ship(tmp_path, heads=heads))


@pytest.mark.slow
def test_prompts_of_tasks(tmp_path: Path) -> None:
    whole = {"prompts": PROMPTS, "default_prompt_name": "passage"}
    model = library(ship(tmp_path, whole=whole))
    for task, encode in (
        ("plain", model.encode),
        ("query", model.encode_query),
        ("document", model.encode_document),
    ):
        assert np.abs(vectors(tmp_path, task=task) - encode(TEXTS)).max() < CLOSE, task
    named = vectors(tmp_path, prompt_name="instruct")
    own = vectors(tmp_path, task="query", prompt=PROMPTS["instruct"])
    assert np.abs(named - model.encode(TEXTS, prompt_name="instruct")).max() < CLOSE
    assert np.array_equal(named, own)
    assert as_shipped(tmp_path, task="query", prompt="").prompt == ""
    with pytest.raises(ConfigError, match="no prompt is called 'pasage'; did you mean 'passage'"):
        as_shipped(tmp_path, prompt_name="pasage")


@pytest.mark.slow
def test_length_and_lower_case(tmp_path: Path) -> None:
    folder = ship(tmp_path, backbone={"max_seq_length": 6, "do_lower_case": True})
    found = agrees(folder)
    read = TextEncoder(folder, as_shipped(folder)).read(TEXTS)
    assert read.cut.tolist() == [1, 0, 15, 0, 8]
    write(folder / "sentence_bert_config.json", {"max_seq_length": 6})
    assert np.abs(agrees(folder)[3] - found[3]).max() > CLOSE  # Heaven is no word
    write(folder / "sentence_bert_config.json", {"max_seq_length": None})
    encoder = TextEncoder(folder, as_shipped(folder))
    assert encoder.longest == 40  # of tokenizer and positions
    lengths = {"max_seq_length": 9, "document_length": 5}
    write(folder / "sentence_bert_config.json", lengths)
    expected = library(folder).encode_document(TEXTS)
    assert np.abs(vectors(folder) - expected).max() < CLOSE
    assert np.abs(agrees(folder) - expected).max() > CLOSE


def test_dimensions_are_cut_and_scaled_again_where_vectors_have_length_one(tmp_path: Path) -> None:
    folder = ship(tmp_path, heads=(("Normalize", {}),))
    model = library(folder)
    expected = model.encode(TEXTS, truncate_dim=5, normalize_embeddings=True)
    assert np.abs(vectors(folder, dimensions=5) - expected).max() < CLOSE
    write(folder / "config_sentence_transformers.json", {"truncate_dim": 7})
    assert agrees(folder).shape[1] == 7
    with pytest.raises(ConfigError, match=r"dimensions 99: .* makes vectors of 16 numbers"):
        vectors(folder, dimensions=99)


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_a_decoder_that_reads_in_both_directions(kind: str, tmp_path: Path) -> None:
    folder = ship(tmp_path / "causal", kind)
    both = ship(tmp_path / "both", kind, config={"is_causal": False})
    switched = vectors(folder, bidirectional=True)
    assert np.abs(switched - library(both).encode(TEXTS)).max() < CLOSE
    assert np.abs(switched - vectors(folder)).max() > 1e-3


def test_a_kind_that_stays_causal_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    folder = ship(tmp_path, "llama")
    forward = transformers.LlamaModel.forward

    def causal(self: Any, *arguments: Any, **named: Any) -> Any:
        self.config.is_causal = True
        return forward(self, *arguments, **named)

    monkeypatch.setattr(transformers.LlamaModel, "forward", causal)
    with pytest.raises(ConfigError, match=r"bidirectional: LlamaModel .* from left to right"):
        vectors(folder, bidirectional=True)


@pytest.mark.parametrize("mode", MODES)
def test_pooling_by_hand(mode: str) -> None:
    states = torch.tensor([[1.0, 4.0], [3.0, -2.0], [5.0, 0.0], [7.0, 7.0]])
    expected = {
        "cls": [[1.0, 4.0], [7.0, 7.0]],
        "max": [[5.0, 4.0], [7.0, 7.0]],
        "mean": [[3.0, 2 / 3], [7.0, 7.0]],
        "mean_sqrt_len_tokens": [[9 / 3**0.5, 2 / 3**0.5], [7.0, 7.0]],
        "weightedmean": [[(1 + 6 + 15) / 6, (4 - 4 + 0) / 6], [7.0, 7.0]],
        "lasttoken": [[5.0, 0.0], [7.0, 7.0]],
    }[mode]
    offsets = torch.tensor([0, 3, 3, 4])
    found = pool(states, offsets, Pooling((mode,), include_prompt=True))
    assert torch.allclose(found[[0, 2]], torch.tensor(expected))
    assert torch.equal(found[1], torch.zeros(2))  # without tokens
    behind = pool(states, offsets, Pooling((mode,), include_prompt=False), prompt=1)
    assert torch.allclose(behind[2], states[3])  # its last token stays
    if mode == "weightedmean":  # places count from the start of the text
        assert torch.allclose(behind[0], (2 * states[1] + 3 * states[2]) / 5)


def test_a_folder_without_modules_has_none(tmp_path: Path) -> None:
    assert sentence_files(tmp_path) is None
    with pytest.raises(ConfigError, match=r"no modules\.json, so no prompt 'query'"):
        as_shipped(tmp_path, prompt_name="query")


WHOLE = "modules.json"


def changed(folder: Path, name: str, value: Any) -> Path:
    """The same encoder with another file."""
    write(folder / name, value)
    return folder


def modules(*types: str) -> list[dict[str, Any]]:
    return [{"idx": n, "name": str(n), "path": f"{n}_X", "type": t} for n, t in enumerate(types)]


OWN = "sentence_transformers.models."
POOLED = {"word_embedding_dimension": WIDTH}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (WHOLE, {}, r"modules\.json: expected a list of modules"),
        (WHOLE, [{"path": ""}], r"modules\.json: type: this key is missing"),
        (
            WHOLE,
            modules(f"{OWN}Transformer", f"{OWN}Pooling", f"{OWN}WordWeights"),
            r"module 'sentence_transformers\.models\.WordWeights' is not known; known are "
            "Transformer, Pooling, Dense, LayerNorm, Normalize, Dropout",
        ),
        (
            WHOLE,
            modules("custom_st.Transformer", f"{OWN}Pooling"),
            r"module 'custom_st\.Transformer' is code of its own, which is never run",
        ),
        (WHOLE, modules(f"{OWN}Pooling", f"{OWN}Transformer"), "expected a Transformer, then"),
        (
            WHOLE,
            [{"path": "../..", "type": f"{OWN}Transformer"}, *modules("", f"{OWN}Pooling")[1:]],
            r"path '\.\./\.\.' of sentence_transformers\.models\.Transformer leaves the folder",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "men"}, "pooling_mode 'men'; did you mean 'mea"),
        ("1_Pooling/config.json", [], r"1_Pooling/config\.json: expected an object, found \[\]"),
        (
            "2_Dense/config.json",
            {"in_features": 9, "out_features": 4},
            "2_Dense: reads vectors of 9 numbers, those before it have 16",
        ),
        (
            "2_Dense/config.json",
            {"in_features": WIDTH, "out_features": 5},
            r"linear\.weight has shape \(4, 16\), expected \(5, 16\)",
        ),
        (
            "2_Dense/config.json",
            {"in_features": WIDTH, "out_features": 4, "bias": False},
            r"linear\.bias has no place; expected linear\.weight",
        ),
        (
            "2_Dense/config.json",
            {"in_features": WIDTH, "out_features": 4, "activation_function": "torch.nn.ReLu"},
            r"activation_function 'torch\.nn\.ReLu' is not known; did you mean 'ReLU'\?",
        ),
        (
            "2_Dense/config.json",
            {"in_features": WIDTH, "out_features": 4, "activation_function": "os.system"},
            r"activation_function 'os\.system' is not known",
        ),
        (
            "2_Dense/config.json",
            {"in_features": 16, "out_features": 4, "module_input_name": "token_embeddings"},
            "module_input_name: expected 'sentence_embedding'",
        ),
        (
            "sentence_bert_config.json",
            {"transformer_task": "fill-mask"},
            r"sentence_bert_config\.json: transformer_task: expected 'feature-extraction'",
        ),
        (
            "sentence_bert_config.json",
            {"model_args": {"torch_dtype": "bfloat16", "add_pooling_layer": True}},
            r"model_args: expected \{\}, found .* put settings of the transformer into its own",
        ),
        (
            "sentence_bert_config.json",
            {"modality_config": {"text": {"method": "forward", "method_output_name": "logits"}}},
            r"modality_config\.text: expected .*last_hidden_state",
        ),
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": "qeury"},
            "default_prompt_name: no prompt is called 'qeury'; did you mean 'query'",
        ),
    ],
)
def test_what_is_not_known_is_refused(name: str, value: Any, message: str, tmp_path: Path) -> None:
    folder = changed(ship(tmp_path, heads=(dense(WIDTH, 4),)), name, value)
    with pytest.raises(ConfigError, match=message):
        vectors(folder)


def test_pickles_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    weights = ship(tmp_path, heads=(dense(WIDTH, 4),)) / "2_Dense/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ConfigError, match=r"2_Dense/model\.safetensors: damaged"):
        vectors(tmp_path)
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin is a pickle, which can run code"):
        vectors(tmp_path)


def test_16_bit_settings_of_the_library_change_nothing(tmp_path: Path) -> None:
    folder = ship(tmp_path)
    plain = vectors(folder)
    said = {"max_seq_length": 14, "model_args": {"torch_dtype": "bfloat16"}}
    assert np.array_equal(vectors(changed(folder, "sentence_bert_config.json", said)), plain)


def test_a_cache_knows_every_file_of_the_encoder(tmp_path: Path) -> None:
    folder = ship(tmp_path / "model", heads=(dense(WIDTH, 4, "Identity"),))

    def cached() -> np.ndarray:
        return text_vectors(TEXTS, folder, cache=tmp_path / "cache")

    first = cached()
    assert np.array_equal(cached(), first)
    write(folder / "1_Pooling/config.json", {**POOLED, "pooling_mode": "max"})
    second = cached()
    ship(tmp_path / "other", heads=(dense(WIDTH, 4, "Identity", bias=False),))
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "other/2_Dense" / name).replace(folder / "2_Dense" / name)
    third = cached()
    assert len({each.tobytes() for each in (first, second, third)}) == 3
    assert len(list((tmp_path / "cache").iterdir())) == 3

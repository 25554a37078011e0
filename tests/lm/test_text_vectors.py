from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from legos.data.vector_files import Encoding
from legos.errors import ConfigError
from legos.lm import text_vectors as module
from legos.lm.locate import model_folder
from legos.lm.text_vectors import TextEncoder, text_vectors

TEXTS = ["The Fisherman", "", "A tale set in Victorian London, delving into lives.", "Heaven"]


@pytest.mark.slow
def test_vectors_equal_the_models_own_forward_without_padding() -> None:
    transformers = pytest.importorskip("transformers")
    folder = str(model_folder("minilm"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    found = text_vectors(TEXTS, model_folder("minilm"), Encoding(max_length=128))
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        assert np.allclose(states[0].mean(0).numpy(), vector, atol=1e-5)


def test_cache_is_read_again_and_missed_when_anything_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder("minilm")
    calls: list[int] = []

    def encode(encoder: TextEncoder, texts: list[str], *others: object) -> np.ndarray:
        calls.append(encoder.how.max_length or 0)
        return np.ones((len(texts), 3), np.float32)

    monkeypatch.setattr(module, "_encode", encode)
    first = text_vectors(TEXTS, folder, cache=tmp_path)
    assert np.array_equal(text_vectors(TEXTS, folder, cache=tmp_path), first)
    assert len(calls) == 1
    text_vectors([*TEXTS[:-1], "Hell"], folder, cache=tmp_path)
    text_vectors(TEXTS, folder, Encoding(max_length=16), cache=tmp_path)
    text_vectors(["".join(TEXTS)], folder, cache=tmp_path)
    assert len(calls) == 4
    assert len(list(tmp_path.iterdir())) == 4
    damaged = next(tmp_path.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-4])
    for texts, length in (
        (TEXTS, None),
        ([*TEXTS[:-1], "Hell"], None),
        (TEXTS, Encoding(max_length=16)),
    ):
        text_vectors(texts, folder, length, cache=tmp_path)
    text_vectors(["".join(TEXTS)], folder, cache=tmp_path)
    assert len(calls) == 5  # the damaged one again, the others from the cache


@pytest.mark.slow
def test_normalised_vectors_have_length_one_whatever_the_batches() -> None:
    folder = model_folder("minilm")
    plain = text_vectors(TEXTS, folder, Encoding(max_length=128))
    found = text_vectors(TEXTS, folder, batch_tokens=1, normalise=True)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert np.allclose(found, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-5)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no language model to encode texts: no config\.json"):
        text_vectors(TEXTS, tmp_path, cache=tmp_path)
    with pytest.raises(ConfigError, match=r"max_length 9999: .* at most 512 tokens"):
        text_vectors(TEXTS, model_folder("minilm"), Encoding(max_length=9999))

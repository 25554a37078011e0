"""One vector a text: the mean of a language model's last hidden states over the real tokens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from legos.files import sha256_of_file, sha256_of_text, write_array

_VERSION = "mean-1"  # of the computation; part of the fingerprint
_TOKENS_A_BATCH = 4_096


def text_vectors(
    texts: Sequence[str],
    folder: Path,
    *,
    cache: Path | None = None,
    max_length: int = 128,
) -> np.ndarray:
    """Encode texts, or read what an earlier call encoded.

    Args:
        texts: N texts.
        folder: a Hugging Face encoder with a fast tokenizer; only local files are read.
        cache: folder of ``<fingerprint>.npy``; the fingerprint covers weights, tokenizer, texts
            and length, so that a change of any is another file.
        max_length: tokens a text keeps, special tokens included.

    Returns:
        ``(N, E)`` float32.
    """
    path = None
    if cache is not None:
        path = cache / f"{_fingerprint(texts, folder, max_length)}.npy"
        if path.is_file():
            cached: np.ndarray = np.load(path, allow_pickle=False)
            return cached
    vectors = _encode(texts, folder, max_length)
    if path is not None:
        write_array(path, vectors)
    return vectors


def _fingerprint(texts: Sequence[str], folder: Path, max_length: int) -> str:
    weights = [sha256_of_file(file) for file in sorted(folder.glob("*.safetensors"))]
    tokenizer = sha256_of_file(folder / "tokenizer.json")
    content = sha256_of_text("\x00".join(texts))
    return sha256_of_text(" ".join([_VERSION, *weights, tokenizer, content, str(max_length)]))[:24]


@torch.no_grad()
def _encode(texts: Sequence[str], folder: Path, max_length: int) -> np.ndarray:
    from rich.progress import Progress
    from tokenizers import Tokenizer
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    disable_progress_bar()  # of loading weights; the one below is ours
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    model = AutoModel.from_pretrained(str(folder), local_files_only=True).eval().float()
    encoded = [entry.ids for entry in tokenizer.encode_batch(list(texts))]
    lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    order = np.argsort(-lengths, kind="stable")  # longest first: a batch is as long as its first
    with Progress(transient=True) as progress:
        task = progress.add_task("encoding texts", total=len(texts))
        begin = 0
        while begin < len(order):
            longest = int(lengths[order[begin]])
            rows = order[begin : begin + max(1, _TOKENS_A_BATCH // max(1, longest))]
            ids = torch.zeros(len(rows), longest, dtype=torch.int64)
            for place, row in enumerate(rows):
                ids[place, : lengths[row]] = torch.tensor(encoded[row])
            mask = torch.arange(longest) < torch.from_numpy(lengths[rows])[:, None]
            states = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
            total = (states * mask[..., None]).sum(1)
            vectors[rows] = (total / mask.sum(1, keepdim=True).clamp(min=1)).numpy()
            begin += len(rows)
            progress.advance(task, len(rows))
    return vectors

"""Vectors of item texts by a sentence encoder, against sentence-transformers' own ``encode``.

    python -m benchmarks.sentence_vectors [--quick] [--threads N]

2,000 texts of 4 to 250 words (a median of 30), all-MiniLM-L6-v2 from its package, on the CPU in
float32: ``legos.lm.text_vectors`` in pages of 4,096 tokens, and ``encode`` in batches of 32, its
default. Both cut texts at 256 tokens and sort them by length; models are loaded before. The vectors
must agree to 1e-5. CPU seconds, sides take turns and the fastest turn counts. Goal: no slower.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from benchmarks.evaluate import alternate
from benchmarks.report import finish
from legos.lm.locate import model_folder
from legos.lm.text_vectors import TextEncoder, as_shipped

TEXTS, QUICK = 2_000, 200
CLOSE, GOAL = 1e-5, 1.0


def make_texts(count: int) -> list[str]:
    """Texts of whole words of the model's vocabulary, lengths as those of titles and abstracts."""
    stored = json.loads((model_folder("minilm") / "tokenizer.json").read_text(encoding="utf-8"))
    words = sorted(word for word in stored["model"]["vocab"] if word.isalpha() and word.isascii())
    generator = np.random.default_rng(0)
    lengths = np.exp(generator.normal(np.log(30), 1.0, count)).clip(4, 250).astype(int)
    return [" ".join(generator.choice(words, length)) for length in lengths]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} texts")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    texts = make_texts(QUICK if options.quick else TEXTS)
    folder = model_folder("minilm")
    encoder = TextEncoder(folder, as_shipped(folder))
    library = SentenceTransformer(str(folder), device="cpu")

    def ours() -> np.ndarray:
        tokens = encoder.read(texts).tokens
        vectors = np.empty((len(texts), encoder.width), dtype=np.float32)
        for items, found in encoder.encode(tokens, encoder.pages(tokens)):
            vectors[items.numpy()] = found.numpy()
        return vectors

    def other() -> np.ndarray:
        return np.asarray(library.encode(texts, show_progress_bar=False))

    apart = float(np.abs(ours() - other()).max())
    seconds = alternate(ours, other, 3)
    ratio = seconds[0] / seconds[1]
    print(f"{len(texts):,} texts: {seconds[0]:.1f} s, the library {seconds[1]:.1f} s")
    print(f"largest difference {apart:.1g}")
    finish(
        name="sentence_vectors",
        ours=seconds[0],
        other=seconds[1],
        ratio=ratio,
        target=GOAL,
        holds=apart < CLOSE and ratio <= GOAL,
    )


if __name__ == "__main__":
    main()

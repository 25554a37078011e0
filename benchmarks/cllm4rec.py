"""A pretraining epoch of CLLM4Rec over texts, against the same written down plainly.

    python -m benchmarks.cllm4rec [--quick]

Reviews of 4 to 400 tokens, as unevenly long as real ones, over a random LLaMA with a vocabulary of
30,522. The other side (``benchmarks/cllm4rec_plain.py``) makes every batch from strings, runs
prompt and text in two passes with a key-value cache, pads, and holds all logits. Both sides compute
the same loss, to 1e-5. Measured are the step (forward, backward, Adam), the preparation of an
epoch's batches, and tokens a second against a bare forward and backward of the same language model
over rows without padding, with a plain head over the words that are predicted. One thread, CPU
seconds, the sides take turns and the fastest turn of each counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.cllm4rec_plain import PlainContent
from benchmarks.evaluate import alternate
from benchmarks.report import finish
from legos.data.rows import pack
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource
from legos.systems.cllm4rec.backbone import SoftPromptBackbone
from legos.systems.cllm4rec.batches import ContentLM, PromptBatch, content_kind
from legos.systems.cllm4rec.corpus import Corpus, TokenStore
from legos.systems.cllm4rec.losses import combine, predicted_positions
from legos.systems.cllm4rec.model import Assembled, build_cllm4rec
from legos.systems.cllm4rec.settings import Cllm4RecConfig

USERS, ITEMS, BATCH, WORDS = 2_000, 1_000, 20, 30_522
STEP, PREPARATION, BARE = 3.0, 5.0, 0.7
SETTINGS = Cllm4RecConfig.model_validate({"preset": "public_code", "max_length": 512})


def language_model(hidden: int, layers: int) -> LanguageModel:
    """A random LLaMA with the tokenizer of MiniLM."""
    shape = {
        "model_type": "llama",
        "vocab_size": WORDS,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 64,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    }
    return LanguageModel(
        LanguageModelSource(name="llama", random=True, shape=shape, tokenizer="minilm")
    )


def make_reviews(tokenizer: object, count: int, *, seed: int = 0) -> Corpus:
    """Words of the vocabulary in texts of log-normal length."""
    generator = np.random.default_rng(seed)
    vocabulary: dict[str, int] = tokenizer.get_vocab()  # type: ignore[attr-defined]
    words = np.array(sorted(word for word in vocabulary if word.isalpha() and len(word) > 2))
    lengths = np.exp(generator.normal(4.0, 0.9, count)).clip(4, 400).astype(int)
    texts = [" ".join(generator.choice(words, length)) for length in lengths]
    users = torch.from_numpy(generator.integers(0, USERS, count)).sort().values
    items = torch.from_numpy(generator.integers(0, ITEMS, count))
    return Corpus(torch.full((count,), content_kind("review")), users, items, texts)


class Sides:
    """Both sides over the same reviews, weights and tables.

    Args:
        language: the language model.
        reviews: how many.
        folder: of the token store.
    """

    def __init__(self, language: LanguageModel, reviews: int, folder: Path) -> None:
        self.assembled: Assembled = build_cllm4rec(language, SETTINGS, users=USERS, items=ITEMS)
        self.model = self.assembled.model.train()
        content = self.model.content
        assert content is not None
        self.corpus = make_reviews(language.tokenizer, reviews)
        store = TokenStore(folder, {"benchmark": reviews})
        begin = time.process_time()
        tokenizer = self.assembled.tokenizer
        store.write(self.corpus, lambda texts: tokenizer.encode_plain(texts, leading_space=True))
        self.tokenizing = time.process_time() - begin
        found = store.open()
        self.source = ContentLM(
            found.kinds, found.users, found.items, found.texts, self.assembled.templates, SETTINGS
        )
        self.plain = PlainContent(
            self.model.backbone.model, language.tokenizer, content, self.model.collaborative
        )
        users, items = self.corpus.users.tolist(), self.corpus.items.tolist()
        self.reviews = list(zip(users, items, self.corpus.texts, strict=True))
        self.optimizer = torch.optim.Adam(self.model.learning("content").values(), fused=True)
        self.numbers = torch.arange(reviews).split(BATCH)

    def batches(self) -> list[PromptBatch]:
        """An epoch's batches, ours."""
        return [self.source.batch(rows) for rows in self.numbers]

    def plain_batches(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """An epoch's batches from strings."""
        return [self.plain.batch([self.reviews[row] for row in rows]) for rows in self.numbers]

    def loss(self, batch: PromptBatch) -> Tensor:
        """Of one batch, ours."""
        return combine(self.model(batch, "content"), SETTINGS.mutual)

    def step(self, loss: Callable[[], Tensor]) -> None:
        """Forward, backward, Adam."""
        loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def bare(self, batch: PromptBatch) -> None:
        """See :func:`bare_step`."""
        bare_step(self.model.backbone, batch, self.model.backbone.token_table)


def bare_step(backbone: SoftPromptBackbone, batch: PromptBatch, table: Tensor) -> None:
    """Forward and backward of the language model alone, over full rows of a batch's tokens.

    Args:
        backbone: whose language model, adapters included.
        batch: on its device; users and items are read as its last word.
        table: ``(V, D)`` the head, over which as many tokens are predicted as in the batch.
    """
    packed = pack(batch.tokens, backbone.row_tokens)
    count = len(batch.tokens.values)
    width = min(packed.width, count)
    rows = count // width
    words = batch.tokens.values[: rows * width].clamp(max=backbone.words - 1)
    vectors = backbone.token_table[words].view(rows, width, -1).detach().requires_grad_(True)
    states = backbone.model(inputs_embeds=vectors, use_cache=False)
    predicted = predicted_positions(batch.tokens, batch.prompt_lengths, score_first_main=False)
    predicted = predicted[predicted < len(words)]
    flat = states.last_hidden_state.reshape(len(words), -1)[predicted - 1]
    targets = words[predicted].clamp(max=len(table) - 1)
    functional.cross_entropy((flat @ table.T).float(), targets).backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller language model")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    torch.manual_seed(0)
    hidden, layers, reviews, steps, rounds = (128, 2, 400, 2, 2) if quick else (384, 6, 2000, 4, 3)
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(language_model(hidden, layers), reviews, Path(folder))
        ours, plain = sides.batches()[:steps], sides.plain_batches()[:steps]
        weight = SETTINGS.mutual.weight
        pairs = [
            (float(sides.loss(a).detach()), float(sides.plain.loss(b, weight).detach()))
            for a, b in zip(ours, plain, strict=True)
        ]
        difference = max(abs(a - b) / abs(b) for a, b in pairs)
        step = alternate(
            lambda: [sides.step(lambda b=batch: sides.loss(b)) for batch in ours],
            lambda: [sides.step(lambda b=batch: sides.plain.loss(b, weight)) for batch in plain],
            rounds,
        )
        _, bare = alternate(lambda: None, lambda: [sides.bare(batch) for batch in ours], rounds)
        preparation = alternate(sides.batches, sides.plain_batches, rounds)
    tokens = sum(len(batch.tokens.values) for batch in ours)
    fill = tokens / sum(each[0].numel() + each[2].numel() for each in plain)
    ratios = {
        "step": step[1] / step[0],
        "preparation": preparation[1] / preparation[0],
        "of_bare": bare / step[0],
    }
    print(
        f"{tokens:,} tokens in {steps} steps (fill {fill:.2f}): ours {step[0]:.2f} s, plain "
        f"{step[1]:.2f} s, bare {bare:.2f} s; batches of an epoch of {reviews:,} reviews: ours "
        f"{preparation[0]:.3f} s (tokenized once, {sides.tokenizing:.2f} s), plain "
        f"{preparation[1]:.2f} s; losses differ by {difference:.1e}"
    )
    finish(
        name="cllm4rec",
        ours={"step_seconds": step[0] / steps, "tokens_per_second": tokens / step[0]},
        other={"step_seconds": step[1] / steps, "bare_tokens_per_second": tokens / bare},
        ratio=ratios,
        target={"step": STEP, "preparation": PREPARATION, "of_bare": BARE},
        holds=difference < 1e-5
        and ratios["step"] >= STEP
        and ratios["preparation"] >= PREPARATION
        and ratios["of_bare"] >= BARE,
    )


if __name__ == "__main__":
    main()

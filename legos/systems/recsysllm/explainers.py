"""Explanation models over ids, as baselines: NRT and PETER.

NRT: Li et al., "Neural rating regression with abstractive tips generation", SIGIR 2017
(arXiv:1708.00154): user and item give a rating, all three the first state of a GRU, which writes.
PETER: Li, Zhang and Chen, "Personalized transformer for explainable recommendation", ACL 2021
(arXiv:2105.11601): user and item are the first two tokens of a small Transformer, which see each
other; the user's place predicts the rating, the item's the words of the sentence in any order, and
what follows the sentence itself. PETER+ has the feature word as a third token.

Here words are those between blanks, positions are learned, sentences are written greedily, and the
epoch with the least error on the valid sentences is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from legos.blocks.mlp import MLP
from legos.errors import DataError
from legos.systems.recsysllm.baselines import keep_best
from legos.systems.recsysllm.measure_settings import ExplanationModelSettings

ExplainerKind = Literal["nrt", "peter", "peter+"]
EXPLAINERS: dict[ExplainerKind, str] = {
    "nrt": "NRT (ids alone)",
    "peter": "PETER (ids alone)",
    "peter+": "PETER+ (ids and the feature)",
}
"""By kind its title in tables."""
_PAD, _BEGIN, _END, _UNKNOWN = range(4)
_RATING_SHARE = {"nrt": 1.0, "peter": 0.1, "peter+": 0.1}  # of the loss, as published


class Sentences(NamedTuple):
    """N explanations.

    Attributes:
        users, items: ``(N,)`` int64.
        stars: ``(N,)`` float32, NaN = unknown.
        sentences, features: N texts each; a feature is one word.
    """

    users: Tensor
    items: Tensor
    stars: Tensor
    sentences: Sequence[str]
    features: Sequence[str]


class Vocabulary:
    """The most frequent words of training; the others are unknown."""

    def __init__(self, texts: Sequence[str], size: int) -> None:
        counted = Counter(chain.from_iterable(text.split() for text in texts))
        self._words = ["", "", "", "?", *(word for word, _ in counted.most_common(size))]
        self._numbers = {word: row for row, word in enumerate(self._words) if row > _UNKNOWN}

    def __len__(self) -> int:
        return len(self._words)

    def encode(self, texts: Sequence[str], most: int) -> Tensor:
        """``(N, W)`` int64: at most so many words, [END], padding."""
        rows = [[self._numbers.get(word, _UNKNOWN) for word in t.split()[:most]] for t in texts]
        width = 1 + max(map(len, rows), default=0)
        padded = [[*row, _END, *[_PAD] * (width - 1 - len(row))] for row in rows]
        return torch.tensor(padded, dtype=torch.int64).view(len(rows), width)

    def numbers(self, words: Sequence[str]) -> Tensor:
        """``(N,)`` int64 of single words."""
        return torch.tensor([self._numbers.get(w, _UNKNOWN) for w in words], dtype=torch.int64)

    def decode(self, row: Sequence[int]) -> str:
        """Words up to [END]."""
        return " ".join(self._words[word] for word in row[: [*row, _END].index(_END)])


class Told(NamedTuple):
    """Predictions of a model for B pairs.

    Attributes:
        words: ``(B, W, V)`` logits of the next word after each.
        stars: ``(B,)`` ratings.
        context: ``(B, V)`` logits of the words of the sentence in any order; None: not predicted.
    """

    words: Tensor
    stars: Tensor
    context: Tensor | None


class Nrt(nn.Module):
    """NRT.

    Args:
        num_words: V.
        known: masks of the users and of the items that training has sentences of.
        own: sizes.
    """

    def __init__(
        self, num_words: int, known: tuple[Tensor, Tensor], own: ExplanationModelSettings
    ) -> None:
        super().__init__()
        size = own.size
        self.tables = nn.ModuleList([_table(mask, size) for mask in known])
        self.rating = MLP(
            input_size=2 * size, hidden_sizes=(size,), output_size=1, dropout=own.dropout
        )
        self.words = nn.Embedding(num_words, size)
        self.first = nn.Linear(2 * size + 1, size)
        self.gru = nn.GRU(size, size, batch_first=True)
        self.dropout, self.head = nn.Dropout(own.dropout), nn.Linear(size, num_words)

    def forward(self, users: Tensor, items: Tensor, hints: Tensor, words: Tensor) -> Told:
        """Users, items, hints ``(B,)`` and the words so far ``(B, W)``; hints are not read."""
        both = torch.cat([self.tables[0](users), self.tables[1](items)], 1)  # (B, 2D)
        stars = self.rating(both)  # (B, 1)
        state = torch.tanh(self.first(torch.cat([both, stars], 1)))[None]  # (1, B, D)
        states, _ = self.gru(self.dropout(self.words(words)), state.contiguous())
        return Told(self.head(self.dropout(states)), stars.squeeze(1), None)


class Peter(nn.Module):
    """PETER, or PETER+ with ``hinted``; the other arguments as of :class:`Nrt`."""

    def __init__(
        self,
        num_words: int,
        known: tuple[Tensor, Tensor],
        own: ExplanationModelSettings,
        *,
        hinted: bool,
    ) -> None:
        super().__init__()
        size, self.ahead = own.size, 3 if hinted else 2  # tokens before the words
        self.tables = nn.ModuleList([_table(mask, size) for mask in known])
        self.words = nn.Embedding(num_words, size)
        self.positions = nn.Embedding(self.ahead + own.max_words + 1, size)
        layer = nn.TransformerEncoderLayer(
            size, own.num_heads, 4 * size, own.dropout, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, own.num_layers, enable_nested_tensor=False)
        self.rating = MLP(input_size=size, hidden_sizes=(size,), output_size=1, dropout=own.dropout)
        self.head = nn.Linear(size, num_words)

    def forward(self, users: Tensor, items: Tensor, hints: Tensor, words: Tensor) -> Told:
        """Users, items, hints ``(B,)`` and the words so far ``(B, W)``."""
        first = [self.tables[0](users), self.tables[1](items), self.words(hints)][: self.ahead]
        tokens = torch.cat([torch.stack(first, 1), self.words(words)], 1)  # (B, A + W, D)
        width = tokens.shape[1]
        later = torch.ones(width, width, dtype=torch.bool, device=tokens.device).triu(1)
        later[0, 1] = False  # user and item see each other
        places = torch.arange(width, device=tokens.device)
        states = self.layers(tokens + self.positions(places), mask=later)
        stars = self.rating(states[:, 0]).squeeze(1)
        return Told(self.head(states[:, self.ahead :]), stars, self.head(states[:, 1]))


def _table(known: Tensor, size: int) -> nn.Embedding:
    """Vectors of ids; those that training does not know stay zeros."""
    table = nn.Embedding(known.numel(), size)
    with torch.no_grad():
        table.weight.normal_(std=0.1).mul_(known[:, None])
    return table


class Explainer:
    """A trained model that writes sentences about pairs."""

    def __init__(
        self, model: Nrt | Peter, vocabulary: Vocabulary, own: ExplanationModelSettings
    ) -> None:
        self._model, self._vocabulary, self._own = model.eval(), vocabulary, own

    @torch.no_grad()
    def write(self, users: Tensor, items: Tensor, features: Sequence[str]) -> list[str]:
        """A sentence for each of B pairs, greedily; ``features`` are B hints."""
        hints, texts = self._vocabulary.numbers(features), []
        for rows in torch.arange(len(users)).split(self._own.batch_size):
            words = torch.full((len(rows), 1), _BEGIN)
            for _ in range(self._own.max_words):
                told = self._model(users[rows], items[rows], hints[rows], words)
                scores = told.words[:, -1].clone()
                scores[:, [_PAD, _BEGIN, _UNKNOWN]] = -torch.inf
                words = torch.cat([words, scores.argmax(1)[:, None]], 1)
            texts += [self._vocabulary.decode(row) for row in words[:, 1:].tolist()]
        return texts


@dataclass(frozen=True)
class _Batches:
    """Sentences as numbers, and the losses of a model over them."""

    found: Sentences
    words: Tensor  # (N, W) with [END]
    hints: Tensor  # (N,)
    own: ExplanationModelSettings
    rating_share: float

    @classmethod
    def of(
        cls,
        found: Sentences,
        vocabulary: Vocabulary,
        own: ExplanationModelSettings,
        kind: ExplainerKind,
    ) -> _Batches:
        words = vocabulary.encode(found.sentences, own.max_words)
        hints = vocabulary.numbers(found.features)
        return cls(found, words, hints, own, _RATING_SHARE[kind])

    def losses(self, model: Nrt | Peter, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """By batch the loss of training, and the negative log-likelihood of each word ``(M,)``."""
        for rows in order.split(self.own.batch_size):
            words = self.words[rows]
            begin = torch.full((len(rows), 1), _BEGIN)
            users, items = self.found.users[rows], self.found.items[rows]
            told = model(users, items, self.hints[rows], torch.cat([begin, words[:, :-1]], 1))
            real = words != _PAD
            nats = F.cross_entropy(told.words[real], words[real], reduction="none")
            loss, stars = nats.mean(), self.found.stars[rows]
            if bool((known := ~stars.isnan()).any()):
                off = told.stars[known] - stars[known]
                loss = loss + self.rating_share * off.square().mean()
            if told.context is not None:
                spoken = real & (words != _END)
                chances = told.context.log_softmax(1).gather(1, words)
                loss = loss - chances[spoken].sum() / spoken.sum().clamp(min=1)
            yield loss, nats

    @torch.no_grad()
    def error(self, model: Nrt | Peter) -> float:
        """Mean negative log-likelihood of a word."""
        order = torch.arange(len(self.words))
        return float(torch.cat([nats for _, nats in self.losses(model.eval(), order)]).mean())


def train_explainer(
    kind: ExplainerKind,
    train: Sentences,
    valid: Sentences,
    *,
    num_users: int,
    num_items: int,
    seed: int,
    settings: ExplanationModelSettings | None = None,
) -> Explainer:
    """Train on the CPU; the same seed gives the same model.

    ``valid`` tells when to stop; without any, training ends after all epochs.

    Raises:
        DataError: no training sentence.
    """
    own = settings or ExplanationModelSettings()
    if not len(train.users):
        raise DataError("no training explanation; expected at least one")
    vocabulary = Vocabulary([*train.sentences, *train.features], own.vocabulary)
    known = (
        torch.bincount(train.users, minlength=num_users) > 0,
        torch.bincount(train.items, minlength=num_items) > 0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Nrt | Peter = (
            Nrt(len(vocabulary), known, own)
            if kind == "nrt"
            else Peter(len(vocabulary), known, own, hinted=kind == "peter+")
        )
        batches, held_out = (_Batches.of(each, vocabulary, own, kind) for each in (train, valid))
        optimizer = torch.optim.Adam(model.parameters(), lr=own.lr)

        def one_pass() -> None:
            for loss, _ in batches.losses(model.train(), torch.randperm(len(train.users))):
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

        keep_best(
            model, one_pass, (lambda: held_out.error(model)) if len(valid.users) else None,
            epochs=own.epochs, patience=own.patience,
        )  # fmt: skip
    return Explainer(model, vocabulary, own)

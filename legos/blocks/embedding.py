"""Vectors of tokens and categories: one table a vocabulary, random or pretrained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from legos.blocks.dropout import Dropout
from legos.blocks.experts import ProjectionSettings
from legos.blocks.packed import PackedTokens, concatenate, gather, one_token_each, pack
from legos.data.items import ItemBatch, ItemField
from legos.data.numbers import NumberScale
from legos.data.ragged import Ragged

_RANDOM_STD = 0.1  # as word vectors are commonly started; small enough for softmax over scores
_TAKEN_KEYS = frozenset(dir(nn.ModuleDict()))


def module_key(name: str) -> str:
    """The key of a field or vocabulary in an ``nn.ModuleDict``.

    That takes neither dots nor the names of its own attributes, such as ``type`` and ``items``.
    """
    key = name.replace(".", "·")
    return f"{key}·" if key in _TAKEN_KEYS else key


class VocabularyEmbedding(nn.Module):
    """The vectors of one vocabulary.

    A pretrained table whose width differs from ``hidden_size`` is projected. A frozen table is
    left out of checkpoints.

    Args:
        size: V, number of entries.
        table: ``(V, E)`` float32 pretrained vectors, or None for random ones.
        frozen: keep the pretrained vectors as they are.
        dropout: rate on the vectors of the distinct tokens of a batch.
    """

    def __init__(
        self,
        *,
        size: int,
        hidden_size: int,
        table: Tensor | None = None,
        frozen: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if table is None:
            table, frozen = torch.randn(size, hidden_size) * _RANDOM_STD, False
        self.table = nn.Parameter(table, requires_grad=not frozen)
        width = table.shape[1]
        self.project = nn.Linear(width, hidden_size) if width != hidden_size else nn.Identity()
        self.dropout = Dropout(dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """``(N,)`` int64 -> ``(N, D)``."""
        vectors: Tensor = self.dropout(self.project(gather(self.table, ids)))
        return vectors

    def packed(self, tokens: Ragged) -> PackedTokens:
        """The vectors of packed tokens; each distinct token is looked up and projected once."""
        present = torch.zeros(self.table.shape[0], dtype=torch.bool, device=tokens.values.device)
        present[tokens.values] = True
        ids = present.nonzero()[:, 0]  # (U,)
        place = present.cumsum(0) - 1  # (V,) where an id stands among the distinct ones
        return pack(tokens, self(ids), place[tokens.values])


class NumberEmbedding(nn.Module):
    """The vectors of one number field.

    ``standardised``: a learned vector times the standardised number, as in factorisation machines
    and AutoInt (Song et al., CIKM 2019, equation 5); zeros for the mean. ``projected``: a linear
    layer over it, so that the mean has a vector, too. ``bucketed``: a learned vector a bucket. An
    unknown number has a learned vector. The scale belongs to the checkpoint.
    """

    def __init__(self, scale: NumberScale, *, hidden_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.treatment = scale.treatment
        self.mean: Tensor
        self.deviation: Tensor
        self.edges: Tensor
        self.register_buffer("mean", torch.tensor(scale.mean))
        self.register_buffer("deviation", torch.tensor(scale.deviation))
        self.register_buffer("edges", torch.tensor(scale.edges))
        rows = scale.buckets if scale.treatment == "bucketed" else 2  # row 0 is for the unknown
        self.table = nn.Parameter(torch.randn(rows, hidden_size) * _RANDOM_STD)
        self.project = nn.Linear(1, hidden_size) if scale.treatment == "projected" else None
        self.dropout = Dropout(dropout)

    def forward(self, numbers: Tensor) -> Tensor:
        """``(N,)`` float32, NaN = unknown -> ``(N, D)``."""
        unknown = numbers.isnan()
        numbers = numbers.masked_fill(unknown, 0.0)  # NaN times a gradient of zero is NaN
        if self.treatment == "bucketed":
            rows = (1 + torch.bucketize(numbers, self.edges)).masked_fill(unknown, 0)
            vectors = gather(self.table, rows)
        else:
            standard = ((numbers - self.mean) / self.deviation)[:, None]  # (N, 1)
            known = standard * self.table[1] if self.project is None else self.project(standard)
            vectors = torch.where(unknown[:, None], self.table[0], known)
        dropped: Tensor = self.dropout(vectors)
        return dropped


class FieldEmbeddings(nn.Module):
    """Vectors of all item fields; fields of one vocabulary share one table.

    To bricks a number is one more category: an item has one vector of it.

    Args:
        fields: what each field is, by name.
        vocabularies: the table of each vocabulary the fields use.
        hidden_size: D of every vector that comes out.
        dropout: rate on the vectors of numbers.
    """

    def __init__(
        self,
        *,
        fields: Mapping[str, ItemField],
        vocabularies: Mapping[str, VocabularyEmbedding],
        hidden_size: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.fields = dict(fields)
        self.hidden_size = hidden_size
        self.vocabularies = nn.ModuleDict(
            {module_key(name): vectors for name, vectors in vocabularies.items()}
        )
        self.numbers = nn.ModuleDict(
            {
                module_key(name): NumberEmbedding(
                    field.number, hidden_size=hidden_size, dropout=dropout
                )
                for name, field in fields.items()
                if field.number is not None
            }
        )

    @property
    def text_fields(self) -> list[str]:
        """Names of the fields that are lists of tokens, in the order of the data YAML."""
        return [name for name, field in self.fields.items() if field.is_text]

    @property
    def category_fields(self) -> list[str]:
        """Names of the fields that are one category or number an item."""
        return [name for name, field in self.fields.items() if not field.is_text]

    def of_texts(self) -> FieldEmbeddings:
        """The same vectors, as bricks see them that read texts alone."""
        fields = {name: self.fields[name] for name in self.text_fields}
        tables = {field.vocabulary: self._table(name) for name, field in fields.items()}
        return FieldEmbeddings(fields=fields, vocabularies=tables, hidden_size=self.hidden_size)

    def text(self, name: str, items: ItemBatch) -> PackedTokens:
        """Token vectors of a text field."""
        return self._table(name).packed(items.texts[name])

    def category(self, name: str, items: ItemBatch) -> Tensor:
        """``(N, D)`` vectors of a category or number field."""
        vectors: Tensor
        if self.fields[name].number is not None:
            vectors = self.numbers[module_key(name)](items.numbers[name])
        else:
            vectors = self._table(name)(items.categories[name])
        return vectors

    def tokens(self, items: ItemBatch) -> PackedTokens:
        """All that an item has as one list of tokens: its texts, then each category as a token."""
        texts = [self.text(name, items) for name in self.text_fields]
        categories = [self.category(name, items) for name in self.category_fields]
        return concatenate([*texts, *(one_token_each(vectors) for vectors in categories)])

    def _table(self, name: str) -> VocabularyEmbedding:
        key = module_key(self.fields[name].vocabulary)
        return cast(VocabularyEmbedding, self.vocabularies[key])


@runtime_checkable
class CatalogueScorer(Protocol):
    """A predictor that scores users with items they share by matrix products."""

    def catalogue(self, user: Tensor, items: Tensor) -> Tensor:
        """Users as the user encoder gave them, ``(B, ...)``, and ``(N, D)`` -> ``(B, N)``."""


@runtime_checkable
class ProductScorer(Protocol):
    """A predictor whose scores are products of two vectors."""

    def factors(self, user: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, D)`` and ``(N, D)`` -> both of them scaled, whose inner products are the scores."""


class IDVectors(nn.Module):
    """Look up vectors by id; what training never saw is one shared vector.

    Args:
        known: ``(V,)`` bool, True = occurs in the training split.
        size: width of the vectors.
        id_dropout: rate at which known ids are shown as unknown while training.
        initial_std: standard deviation of the initial vectors.
        learn_unknown: the shared vector is learned; zeros otherwise.

    Attributes:
        sparse: the gradient has the rows that were looked up alone, for an optimizer that reads it.
    """

    def __init__(
        self,
        *,
        known: Tensor,
        size: int,
        id_dropout: float,
        initial_std: float = _RANDOM_STD,
        learn_unknown: bool = True,
    ) -> None:
        super().__init__()
        self.known: Tensor
        self.register_buffer("known", known, persistent=False)
        self.id_dropout, self.sparse = id_dropout, False
        self.vectors = nn.Parameter(torch.randn(known.numel(), size) * initial_std)
        self.unknown = nn.Parameter(torch.randn(size) * initial_std) if learn_unknown else None

    def look_up(self, ids: Tensor) -> Tensor:
        """``(N,)`` int64 -> ``(N, size)``; ids beyond the known range are unknown."""
        count, vectors = len(self.known), cast(Tensor, self.vectors)
        if len(ids) == count and torch.equal(ids, torch.arange(count, device=ids.device)):
            known = self.known  # all of them as they are
        else:
            inside = ids < count
            ids = ids.where(inside, 0)
            known = self.known[ids] & inside
            if self.sparse:
                vectors = functional.embedding(ids, self.vectors, sparse=True)
            else:
                vectors = gather(self.vectors, ids)
        if self.training and self.id_dropout > 0:
            known = known & (torch.rand(known.shape, device=known.device) >= self.id_dropout)
        others = (~known).nonzero()[:, 0]  # few: a copy is cheaper than a choice at every number
        if self.unknown is None:
            return vectors.index_fill(0, others, 0.0)
        return vectors.index_copy(0, others, self.unknown.expand(len(others), -1))


FIELDS = 2
"""F: the user and the candidate."""


def side_by_side(user: Tensor, candidates: Tensor) -> Tensor:
    """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C, 2D)``: user, then candidate."""
    return torch.cat([user.expand_as(candidates), candidates], -1)


def as_fields(user: Tensor, candidates: Tensor) -> Tensor:
    """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C, F, D)``: user, then candidate."""
    return torch.stack([user.expand_as(candidates), candidates], -2)


def pairwise_products(fields: Tensor) -> Tensor:
    """Sum of the inner products of all pairs of fields: ``(..., F, D)`` -> ``(...)``.

    Rendle, "Factorization Machines", ICDM 2010, lemma 3.1: half of the square of the sum less the
    sum of the squares.
    """
    return 0.5 * (fields.sum(-2).square() - fields.square().sum(-2)).sum(-1)


class FieldAttention(nn.Module):
    """One interacting layer of AutoInt: heads of attention between the fields, residual, ReLU.

    Song et al., CIKM 2019, equations 5-8; the attention is not scaled.

    Args:
        input_size: width of a field that comes in.
        num_heads: heads.
        head_size: width of a head; fields come out ``num_heads * head_size`` wide.
    """

    def __init__(self, *, input_size: int, num_heads: int, head_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.project = nn.Linear(input_size, 3 * num_heads * head_size, bias=False)
        self.residual = nn.Linear(input_size, num_heads * head_size, bias=False)

    def forward(self, fields: Tensor) -> Tensor:
        """``(..., F, I)`` -> ``(..., F, h * d)``."""
        shape = (*fields.shape[:-1], 3, self.num_heads, -1)
        query, key, value = self.project(fields).view(shape).movedim(-3, 0)  # (..., F, h, d)
        weights = torch.einsum("...ihd,...jhd->...hij", query, key).softmax(-1)
        attended = torch.einsum("...hij,...jhd->...ihd", weights, value).flatten(-2)
        return torch.relu(attended + self.residual(fields))


class GivenVectorsSettings(ProjectionSettings):
    """What bricks over given vectors have in common."""

    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate on the given vectors and after every hidden layer."""
    normalise: bool = False
    """Scale every given vector to length 1 first."""
    tune: bool = False
    """Train the given vectors themselves, too; they then belong to the checkpoint."""


class GivenVectors(nn.Module):
    """Look up a given vector and project it.

    Vectors that are not trained are a frozen parameter: left out of checkpoints, which remember
    their hash, and not sent around by every step of a training with many processes.

    Args:
        vectors: ``(n, E)`` float32; a row of NaN for who has none.
    """

    def __init__(
        self, settings: GivenVectorsSettings, *, vectors: Tensor, hidden_size: int
    ) -> None:
        super().__init__()
        self.normalise = settings.normalise
        present = ~vectors.isnan().any(1)
        self.present: Tensor
        self.register_buffer("present", present, persistent=False)
        self.vectors = nn.Parameter(
            vectors.where(present[:, None], 0.0), requires_grad=settings.tune
        )
        self.dropout = Dropout(settings.dropout)
        self.project = settings.projection(vectors.shape[1], hidden_size, dropout=settings.dropout)
        self.missing = nn.Parameter(torch.randn(hidden_size) * 0.1)

    def look_up(self, ids: Tensor) -> Tensor:
        """``(N,)`` int64 -> ``(N, D)``; ids beyond the given vectors have none."""
        inside = ids < self.present.numel()
        ids = ids.where(inside, 0)
        vectors = gather(self.vectors, ids)  # (N, E)
        if self.normalise:
            length = vectors.norm(dim=1, keepdim=True)
            vectors = vectors / length.where(length > 0, 1.0)
        projected = self.project(self.dropout(vectors))  # (N, D)
        return torch.where((self.present[ids] & inside)[:, None], projected, self.missing)

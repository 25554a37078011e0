"""The assembled model: the only place where item encoder, user encoder and predictor meet."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

import legos.item
import legos.predictor
import legos.user  # noqa: F401 - the three imports fill the registries
from legos.blocks.contrastive import LearnsLabels
from legos.blocks.embedding import (
    CatalogueScorer,
    FieldEmbeddings,
    ProductScorer,
    VocabularyEmbedding,
)
from legos.blocks.packed import FillsBlanks, Penalised, ReadsPrefixes, encode_history, gather
from legos.blocks.standardised import Standardises
from legos.data.batch import Batch, BatchUsers, Reads
from legos.data.items import ItemBatch, ItemField, ItemStore
from legos.data.ragged import Ragged, offsets_of
from legos.errors import ConfigError, nearest
from legos.lm.load import LanguageModel
from legos.registry import (
    BrickConfig,
    PredictorConfig,
    Registry,
    UserEncoderConfig,
    UserOutput,
    item_encoders,
    predictors,
    refuse_unfit,
    user_encoders,
)


class ModelChoice(Protocol):
    """The part of a model YAML that names the bricks."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def item(self) -> BrickConfig: ...
    @property
    def user(self) -> UserEncoderConfig: ...
    @property
    def predictor(self) -> PredictorConfig: ...


class KnownEntities(Protocol):
    """What the training split has seen."""

    @property
    def items(self) -> Tensor:
        """``(items,)`` bool."""

    @property
    def users(self) -> Tensor:
        """``(users,)`` bool."""


_SOURCES = {
    "embeddings": "item fields: data.fields names none; an item encoder like `id` reads no content",
    "profile_embeddings": "user fields: name them in data.user_fields",
    "item_vectors": "given item vectors: name their file in embed.item_vectors",
    "user_vectors": "given user vectors: name their file in embed.user_vectors",
    "item_codes": "semantic codes: name their file in embed.item_codes",
    "click_graph": "a click graph, and what users say has none",
    "language_model": "a language model, and users have no texts for one yet",
}


@dataclass(frozen=True)
class TokenTable:
    """Pretrained vectors of one vocabulary.

    Attributes:
        vectors: ``(V, E)`` float32.
        frozen: keep them as they are.
        fingerprint: what they were made from; checkpoints remember it.
    """

    vectors: Tensor
    frozen: bool
    fingerprint: str


class Factors(NamedTuple):
    """Scores of all items as products, of which a loss need not hold all at once.

    Attributes:
        users: ``(B, D)``.
        items: ``(C, D)``.
    """

    users: Tensor
    items: Tensor


class Scored(NamedTuple):
    """What a forward pass gives.

    Attributes:
        scores: ``(B, C)``, or the factors of those of all items.
        penalty: ``(B,)`` to be added to the loss of each row, or None.
    """

    scores: Tensor | Factors
    penalty: Tensor | None


_AXES: dict[UserOutput, str] = {
    "vector": "B D",
    "vector_per_candidate": "B C D",
    "interests": "B K D",
    "interests_per_candidate": "B C K D",
    "sequence": "B H D",
}


class Recommender(nn.Module):
    """Item encoder → user encoder → predictor.

    Args:
        item_encoder: content of N items -> ``(N, D)``.
        user_encoder: ``(B, H, D)`` and mask -> what ``output`` says.
        predictor: users and ``(B, C, D)`` -> ``(B, C)``.
        output: of the user encoder.
    """

    def __init__(
        self,
        *,
        item_encoder: nn.Module,
        user_encoder: nn.Module,
        predictor: nn.Module,
        output: UserOutput = "vector",
    ) -> None:
        super().__init__()
        self.item_encoder = item_encoder
        self.user_encoder = user_encoder
        self.predictor = predictor
        self.output = output

    @property
    def factors(self) -> bool:
        """Whether a user is encoded without knowing the candidates, so that users are cached."""
        return self.output in ("vector", "interests")

    @property
    def standardises(self) -> bool:
        """Whether a score goes by all that is offered beside its candidate."""
        return isinstance(self.predictor, Standardises)

    def encode_items(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``; without what a training step has no use for."""
        fused_late = getattr(self.user_encoder, "late_fusion", False)
        if (
            self.training
            and fused_late
            and self.standardises
            and isinstance(self.item_encoder, LearnsLabels)
        ):
            return self.item_encoder.clicked(items)
        vectors: Tensor = self.item_encoder(items)
        refuse_shape(self.item_encoder, vectors, "N D", N=len(items))
        return vectors

    def encode_users(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """Item vectors ``(B, H, D)`` and bool ``(B, H)`` -> what ``output`` says."""
        user = encode_history(self.user_encoder, history, mask, users)
        sizes = dict(zip("BHD", history.shape, strict=True))
        refuse_shape(self.user_encoder, user, _AXES[self.output], **sizes)
        return user

    def encode_prefixes(self, history: Tensor, mask: Tensor, reads: Reads) -> Tensor:
        """Item vectors ``(S, H, D)`` and bool ``(S, H)`` -> the user of each row, ``(B, D)``.

        Zeros where a row reads nothing, as the encoders give them.
        """
        if not isinstance(self.user_encoder, ReadsPrefixes):
            raise ValueError(f"{type(self.user_encoder).__name__} does not read prefixes")
        states = self.user_encoder.states(history, mask)  # (P, D)
        refuse_shape(self.user_encoder, states, "P D", P=int(mask.sum()), D=history.shape[2])
        if not len(states):  # the first clicks of new users alone
            return states.sum() + states.new_zeros(len(reads.length), states.shape[1])
        before = offsets_of(mask.sum(1))[reads.sequence]  # (B,)
        user = gather(states, (before + reads.length - 1).clamp(min=0))
        return user * (reads.length[:, None] > 0).to(user.dtype)

    def encode_blanks(self, history: Tensor, mask: Tensor, blanks: Tensor) -> Tensor:
        """Item vectors ``(S, H, D)``, two bool ``(S, H)`` -> the user at each blank, ``(B, D)``."""
        if not isinstance(self.user_encoder, FillsBlanks):
            raise ValueError(f"{type(self.user_encoder).__name__} does not fill blanks")
        users = self.user_encoder.fill(history, mask, blanks)
        refuse_shape(self.user_encoder, users, "B D", B=int(blanks.sum()), D=history.shape[2])
        return users

    def score(
        self,
        user: Tensor,
        candidates: Tensor,
        mask: Tensor | None = None,
        offered: Tensor | None = None,
    ) -> Tensor:
        """Users as the user encoder gave them, and ``(B, C, D)`` -> ``(B, C)``.

        ``mask`` is the history's ``(B, H)``, which only an output ``sequence`` has need of;
        ``offered`` ``(B, C)``, True = a real candidate, only a predictor that standardises.
        """
        if self.factors:
            user = user[:, None]  # (B, 1, ...): the same for every candidate
        masked = (mask,) if self.output == "sequence" else ()
        if self.standardises and not self.training:
            masked = (offered,)
        scores: Tensor = self.predictor(user, candidates, *masked)
        refuse_shape(self.predictor, scores, "B C", B=len(user), C=candidates.shape[1])
        return scores

    def score_catalogue(self, user: Tensor, items: Tensor) -> Tensor:
        """Users as the user encoder gave them, and items that all share, ``(C, D)`` -> ``(B, C)``.

        Only for a user encoder that does not look at candidates.
        """
        if isinstance(self.predictor, CatalogueScorer):
            return self.predictor.catalogue(user, items)
        return self.score(user, items.expand(user.shape[0], *items.shape))

    def forward(
        self,
        batch: Batch,
        items: ItemBatch,
        profiles: ItemStore | None = None,
        vectors: Tensor | None = None,
        labelled: Sequence[ItemBatch] = (),
    ) -> Scored:
        """Score a batch.

        Args:
            batch: B rows.
            items: content of its distinct items.
            profiles: content of all users.
            vectors: ``(N, D)`` of the items, where they are encoded already.
            labelled: content of items to be compared by a label, a label field each.
        """
        if vectors is None:
            vectors = self.encode_items(items)  # (N, D)
        history = take(vectors, batch.history)  # (B, H, D)
        shared = batch.targets is not None
        candidates = None if shared else take(vectors, batch.candidates)  # (B, C, D)
        users = BatchUsers(
            ids=batch.users,
            items=items,
            history=batch.history,
            candidates=candidates,
            candidate_items=None if shared else batch.candidates,
            profiles=profiles,
        )
        if batch.blanks is not None:
            user = self.encode_blanks(history, batch.history_mask, batch.blanks)
        elif batch.reads is not None:
            user = self.encode_prefixes(history, batch.history_mask, batch.reads)
        else:
            user = self.encode_users(history, batch.history_mask, users)
        penalty = None
        if self.training and isinstance(self.user_encoder, Penalised):
            penalty = self.user_encoder.penalty(user)
        if labelled and isinstance(self.item_encoder, LearnsLabels):
            # the mean over a step's rows is the loss of its labels, however the rows are split
            every_row = self.item_encoder.label_loss(labelled).expand(len(batch))
            penalty = every_row if penalty is None else penalty + every_row
        if candidates is not None:
            scores = self.score(user, candidates, batch.history_mask, batch.candidate_mask)
            if batch.drawn.shared is not None:
                others = self.score_catalogue(user, take(vectors, batch.drawn.shared))  # (B, K)
                scores = torch.cat([scores, others], 1)
            return Scored(scores, penalty)
        catalogue = batch.candidates[0]  # distinct items, ascending
        whole = len(catalogue) == len(vectors)
        offered = vectors if whole else take(vectors, catalogue)  # (C, D)
        if isinstance(self.predictor, ProductScorer):
            return Scored(Factors(*self.predictor.factors(user, offered)), penalty)
        return Scored(self.score_catalogue(user, offered), penalty)


def refuse_shape(brick: nn.Module, found: Tensor, axes: str, **sizes: int) -> None:
    """Raise ConfigError where a brick, such as one of a plug-in, gives what the next cannot read.

    Args:
        axes: names of the axes that are expected, "B D".
        sizes: of those that are known.
    """
    names = axes.split()
    if found.ndim == len(names) and all(
        sizes.get(name, size) == size for name, size in zip(names, found.shape, strict=True)
    ):
        return
    kind = type(brick)
    expected = ", ".join(f"{name}={sizes[name]}" if name in sizes else name for name in names)
    raise ConfigError(
        f"{kind.__module__}.{kind.__name__}: gave a tensor of shape {tuple(found.shape)}, expected "
        f"({expected}); see docs/add-a-lego.md"
    )


def take(vectors: Tensor, index: Tensor) -> Tensor:
    """Rows of ``(N, D)`` at ``(...)`` positions -> ``(..., D)``."""
    return gather(vectors, index.reshape(-1)).view(*index.shape, vectors.shape[-1])


def build_recommender(
    choice: ModelChoice,
    store: ItemStore,
    *,
    known: KnownEntities,
    seed: int,
    tables: Mapping[str, TokenTable] | None = None,
    embedding_dropout: float = 0.0,
    profiles: ItemStore | None = None,
    item_vectors: Tensor | None = None,
    user_vectors: Tensor | None = None,
    item_codes: Tensor | None = None,
    click_graph: Ragged | None = None,
    language_model: LanguageModel | None = None,
) -> Recommender:
    """Assemble the model a YAML describes.

    Args:
        choice: the bricks and the hidden size D.
        store: the items, for the fields that embeddings are needed for.
        known: items and users of the training split.
        seed: of the initial weights; the same seed gives the same weights.
        tables: pretrained vectors by vocabulary; others start at random.
        embedding_dropout: rate on token, category and number vectors.
        profiles: the users' fields.
        item_vectors: ``(items, E)`` float32 given vectors.
        user_vectors: ``(users, E)`` float32 given vectors.
        item_codes: ``(items, L)`` int64 semantic codes, -1 where an item has none.
        click_graph: a row an item, the items read before it in training, most frequent first.
        language_model: that reads ``store.language``.

    Raises:
        ConfigError: bricks or sizes that do not fit together, or something a brick needs is not
            there.
    """
    refuse_unfit(choice.user, choice.predictor)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tables, size = tables or {}, choice.hidden_size
        context: dict[str, Any] = {
            "hidden_size": size,
            "known_items": known.items,
            "known_users": known.users,
            **_embeddings(store, profiles, size, tables, embedding_dropout),
            "aspects": None,  # those of the item encoder, which is built first
            "item_vectors": item_vectors,
            "user_vectors": user_vectors,
            "item_codes": item_codes,
            "click_graph": click_graph,
            "language_model": language_model,
        }
        item = _build("model.item", item_encoders, choice.item, context)
        context["hidden_size"] = getattr(item, "output_size", size)
        context["aspects"] = getattr(item, "aspects", None)
        return Recommender(
            item_encoder=item,
            user_encoder=_build("model.user", user_encoders, choice.user, context),
            predictor=_build("model.predictor", predictors, choice.predictor, context),
            output=choice.user.output,
        )


def _build(
    key: str, registry: Registry, config: BrickConfig, context: Mapping[str, Any]
) -> nn.Module:
    """A brick; what it refuses is told with its place in the configuration."""
    try:
        return build_brick(registry, config, context)
    except ConfigError as error:
        raise ConfigError(f"{key} ({config.name}): {error}") from None


def build_brick(registry: Registry, config: BrickConfig, context: Mapping[str, Any]) -> nn.Module:
    """Instantiate a brick from its settings and from what the context offers.

    A setting that is itself the settings of a brick is built first and given under its name; an
    item encoder inside a user encoder reads the users' profiles. A brick can do without what has a
    default in its signature.

    Raises:
        ConfigError: the brick needs something that this run does not have, or asks for something
            that no run gives.
    """
    inside = _inside(config, context)
    try:
        nested = {
            key: _nested(registry, value, inside)
            for key, value in config
            if isinstance(value, BrickConfig)
        }
    except _NoFields:
        if not config.reads_texts_alone:
            raise
        raise ConfigError(
            f"{config.name} reads only texts, and data.fields names no text field; name one "
            "there, or choose a model that reads item ids, such as --model sasrec"
        ) from None
    brick, offered = registry.brick(config.name), {**context, **nested}
    given = {}
    for key, argument in list(inspect.signature(brick).parameters.items())[1:]:
        if offered.get(key) is not None:
            given[key] = offered[key]
        elif key not in offered and getattr(config, key, None) is not None:
            raise ConfigError(f"{brick.__name__} takes {key}, a setting: read settings.{key}")
        elif argument.default is argument.empty:
            if key not in offered:
                raise ConfigError(f"{brick.__name__} takes {key}, unknown; {nearest(key, offered)}")
            raise (_NoFields if key == "embeddings" else ConfigError)(
                f"{config.name} needs {_SOURCES[key]}"
            )
    module: nn.Module = brick(config, **given)
    return module


class _NoFields(ConfigError):
    """An item encoder reads item fields, and there are none."""


def _inside(config: BrickConfig, context: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a brick's own bricks are offered: of the item fields only texts, if it says so."""
    fields: FieldEmbeddings | None = context.get("embeddings")
    if not config.reads_texts_alone or fields is None:
        return context
    return {**context, "embeddings": fields.of_texts() if fields.text_fields else None}


def _nested(outer: Registry, config: BrickConfig, context: Mapping[str, Any]) -> nn.Module:
    if isinstance(config, UserEncoderConfig):
        return build_brick(user_encoders, config, context)
    if outer is user_encoders:
        if context["profile_embeddings"] is None:
            raise ConfigError(f"{config.name} needs {_SOURCES['profile_embeddings']}")
        context = {
            **context,
            "hidden_size": context["profile_embeddings"].hidden_size,
            "embeddings": context["profile_embeddings"],
            "known_items": context["known_users"],
            "item_vectors": None,
            "item_codes": None,
            "click_graph": None,
            "language_model": None,
        }
    return build_brick(item_encoders, config, context)


def _embeddings(
    store: ItemStore,
    profiles: ItemStore | None,
    hidden_size: int,
    tables: Mapping[str, TokenTable],
    dropout: float,
) -> dict[str, FieldEmbeddings | None]:
    """Vectors of item fields and of user fields, None where there are no fields.

    One vocabulary has one table in both.
    """
    users = {} if profiles is None else profiles.fields
    sizes = {
        field.vocabulary: field.size
        for field in (*store.fields.values(), *users.values())
        if field.number is None
    }
    vocabularies = {
        name: VocabularyEmbedding(
            size=size,
            hidden_size=hidden_size,
            table=tables[name].vectors if name in tables else None,
            frozen=name in tables and tables[name].frozen,
            dropout=dropout,
        )
        for name, size in sizes.items()
    }

    def over(fields: Mapping[str, ItemField]) -> FieldEmbeddings | None:
        if not fields:
            return None
        names = {field.vocabulary: None for field in fields.values() if field.number is None}
        return FieldEmbeddings(
            fields=fields,
            vocabularies={name: vocabularies[name] for name in names},
            hidden_size=hidden_size,
            dropout=dropout,
        )

    return {"embeddings": over(store.fields), "profile_embeddings": over(users)}

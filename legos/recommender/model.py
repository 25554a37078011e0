"""The model: content and histories through three bricks to scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from legos.blocks.contrastive import LearnsLabels
from legos.blocks.embedding import CatalogueScorer, ProductScorer
from legos.blocks.packed import FillsBlanks, Penalised, ReadsPrefixes, encode_history, gather
from legos.blocks.standardised import Standardises
from legos.data.batch import Batch, BatchUsers, Reads
from legos.data.items import ItemBatch, ItemStore
from legos.data.ragged import offsets_of
from legos.errors import ConfigError
from legos.registry import UserOutput


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

"""MINER (ACL 2022): several interest vectors per user, each with its own attention.

Li et al., "MINER: Multi-Interest Matching Network for News Recommendation", Findings of ACL 2022,
section 3: poly attention, disagreement regularisation, category-aware attention weighting.
Predictor ``interests`` goes with it.

The regularisation is the mean cosine similarity over all pairs of interests less that of every
interest with itself, which is constant. How the paper weighs the category similarity could not be
verified: the weight is learned here, from ``category_weight`` on.

``padded_length`` is Legommenders' form: it sets the logits of padding to 1e-30 where it means to
exclude it, so that padding takes the weight of a logit of zero and short histories give short
interests. (There the padding's values are those of item 0; here they are zeros.) It has neither the
regularisation nor the category similarity.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import masked_softmax
from legos.blocks.embedding import FieldEmbeddings, VocabularyEmbedding, module_key
from legos.blocks.packed import gather
from legos.data.batch import BatchUsers
from legos.errors import ConfigError, nearest
from legos.registry import UserEncoderConfig, UserOutput, user_encoders


class PolyAttentionConfig(UserEncoderConfig):
    name: Literal["poly_attention"] = "poly_attention"
    num_codes: int = Field(32, ge=1)
    """Context codes, so many interests has a user (32 in the paper)."""
    code_size: int = Field(200, ge=1)
    """Width of the context codes (200 in the paper)."""
    disagreement_weight: float = Field(0.8, ge=0)
    """Weight in the loss of the similarity of a user's interests (0.8 in the paper; 0: none)."""
    category_bias: str | None = None
    """Item field of categories: items read in a category like the candidate's get more attention.
    Null: interests do not depend on the candidate, and users are encoded once."""
    category_weight: float = 1.0
    """What the learned weight of the category similarity starts from."""
    padded_length: int = Field(0, ge=0)
    """Legommenders' form: the history length up to which padding takes part in the attention."""

    @property
    def output(self) -> UserOutput:
        """Several interests; one set for each candidate with ``category_bias``."""
        return "interests" if self.category_bias is None else "interests_per_candidate"


@user_encoders.register(PolyAttentionConfig)
class PolyAttentionUser(nn.Module):
    """Pool the history once for each context code.

    Raises:
        ConfigError: ``category_bias`` is no category field.
    """

    order_aware = False

    def __init__(
        self,
        settings: PolyAttentionConfig,
        *,
        hidden_size: int,
        embeddings: FieldEmbeddings | None = None,
    ) -> None:
        super().__init__()
        self.disagreement_weight = settings.disagreement_weight
        self.padded_length = settings.padded_length
        self.project = nn.Linear(hidden_size, settings.code_size, bias=False)
        self.codes = nn.Linear(settings.code_size, settings.num_codes, bias=False)
        nn.init.xavier_uniform_(self.codes.weight, gain=5 / 3)  # codes that start alike stay alike
        self.similarity = (
            None
            if settings.category_bias is None
            else CategorySimilarity(
                embeddings=embeddings, field=settings.category_bias, weight=settings.category_weight
            )
        )

    def forward(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """``(B, H, D)``, bool ``(B, H)`` and users -> ``(B, K, D)``; zeros for no history.

        With ``category_bias`` ``(B, C, K, D)``.
        """
        logits = self.codes(torch.tanh(self.project(history))).mT  # (B, K, H)
        if self.similarity is not None:
            bias = self.similarity(users)  # (B, C, H)
            logits = logits[:, None] + bias[:, :, None]  # (B, C, K, H)
        mask = mask.view(mask.shape[0], *[1] * (logits.dim() - 2), -1)  # (B, ..., 1, H)
        weights = self._weights(logits, mask)
        interests = weights.flatten(1, -2) @ history  # (B, K, D) or (B, C * K, D)
        return interests.view(*weights.shape[:-1], -1)

    def penalty(self, user: Tensor) -> Tensor:
        """Interests from ``forward`` -> ``(B,)``: the similarity of a user's interests."""
        user = user.to(torch.promote_types(user.dtype, torch.float32))
        directions = F.normalize(user, dim=-1)  # (B, ..., K, D)
        pairs = directions.sum(-2).square().sum(-1) - directions.square().sum((-2, -1))
        similarity = pairs / user.shape[-2] ** 2  # (B,) or (B, C)
        return self.disagreement_weight * similarity.view(user.shape[0], -1).mean(1)

    def _weights(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Attention ``(B, ..., K, H)`` over the real positions."""
        if not self.padded_length:
            return masked_softmax(logits, mask)
        padding = (self.padded_length - mask.sum(-1, keepdim=True)).clamp(min=0)  # (B, ..., 1, 1)
        lowest = torch.finfo(logits.dtype).min
        logits = logits.masked_fill(~mask, lowest)
        beyond = padding.to(logits.dtype).log().clamp(min=lowest)  # so many logits of zero
        beyond = beyond.expand(*logits.shape[:-1], 1)
        return torch.cat([logits, beyond], -1).softmax(-1)[..., :-1].where(mask, 0.0)


class CategorySimilarity(nn.Module):
    """Weighted cosine similarity of the categories of history items and candidates.

    Args:
        embeddings: vectors of every item field.
        field: name of a category field.
        weight: what the learned weight starts from.

    Raises:
        ConfigError: there is no such category field.
    """

    def __init__(self, *, embeddings: FieldEmbeddings | None, field: str, weight: float) -> None:
        super().__init__()
        if embeddings is None or field not in embeddings.category_fields:
            known = [] if embeddings is None else embeddings.category_fields
            is_text = embeddings is not None and field in embeddings.fields
            what = "is a text field" if is_text else "is no item field"
            choices = (
                nearest(field, known)
                if known
                else "data.fields names no category, leave category_bias out"
            )
            raise ConfigError(f"category_bias {field!r} {what}; {choices}")
        self.field = field
        key = module_key(embeddings.fields[field].vocabulary)
        self.vectors = cast(VocabularyEmbedding, embeddings.vocabularies[key])
        self.weight = nn.Parameter(torch.tensor([weight]))

    def forward(self, users: BatchUsers) -> Tensor:
        """Users with candidates -> ``(B, C, H)``."""
        if users.candidate_items is None:
            raise ValueError("the users come without candidates, and this encoder needs them")
        category = users.items.categories[self.field]  # (N,)
        both = category[torch.cat([users.history, users.candidate_items], 1)]  # (B, H + C)
        distinct, place = torch.unique(both, return_inverse=True)
        directions = F.normalize(self.vectors(distinct), dim=-1)  # (U, D)
        directions = gather(directions, place.flatten()).view(*place.shape, -1)
        length = users.history.shape[1]
        similarity: Tensor = directions[:, length:] @ directions[:, :length].mT
        return self.weight * similarity

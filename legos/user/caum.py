"""CAUM (SIGIR 2022): attention and convolution over the history, both aware of the candidate.

Qi, Wu, Wu and Huang, "News Recommendation with Candidate-aware User Modeling", SIGIR 2022
(arXiv:2204.04726), section 2.2:

- candidate-aware self-attention: in each head the logit of item j for item i is
  ``q_i . W_r c_j + q_n . W_c c_j``, where the query ``q_n`` comes from the candidate n;
- candidate-aware CNN: a window of items and the candidate together go through a linear filter;
- both are joined by a linear layer, and an MLP over (joined item, candidate) gives the weights by
  which the items are summed.

The text of the paper was not at hand when this was written. Not verified are: the sizes that the
settings quote, that the values of the attention are projected, the scaling of its logits by the
root of a head's width (added here, as is usual), and the depth of the MLP. Beyond its ends a
history is padded with zeros; the released code wraps around, which would read padding as
neighbours, and concatenates the candidate to the items before an ordinary self-attention.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import head_width, masked_softmax
from legos.blocks.dropout import Dropout
from legos.data.batch import BatchUsers
from legos.errors import ConfigError
from legos.registry import UserEncoderConfig, UserOutput, user_encoders
from legos.settings import Count


class CAUMConfig(UserEncoderConfig):
    name: Literal["caum"] = "caum"
    num_heads: int = Field(8, ge=1)
    """Heads of the self-attention; must divide hidden_size (20 heads of 20 in the paper)."""
    kernel_size: int = Field(3, ge=1)
    """Items that a filter sees; odd (3 in the paper: one to each side)."""
    num_filters: int = Field(400, ge=1)
    """Filters of the CNN (400 in the paper)."""
    attention_sizes: tuple[Count, Count] = (100, 50)
    """Hidden widths of the MLP that weighs an item; not taken from the paper."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate on what comes in and on the joined vectors (0.2 in the paper)."""

    @property
    def output(self) -> UserOutput:
        """One vector for each candidate."""
        return "vector_per_candidate"


@user_encoders.register(CAUMConfig)
class CAUM(nn.Module):
    """Encode the history anew for each candidate.

    Raises:
        ConfigError: ``num_heads`` does not divide ``hidden_size``, or ``kernel_size`` is even.
    """

    order_aware = True

    def __init__(self, settings: CAUMConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.dropout = Dropout(settings.dropout)
        self.self_attention = CandidateAwareSelfAttention(
            hidden_size=hidden_size, num_heads=settings.num_heads
        )
        self.cnn = CandidateAwareCNN(
            hidden_size=hidden_size,
            kernel_size=settings.kernel_size,
            num_filters=settings.num_filters,
        )
        self.join = nn.Linear(settings.num_filters + hidden_size, hidden_size)
        self.weigh = nn.Sequential(
            nn.Linear(2 * hidden_size, settings.attention_sizes[0]),
            nn.Tanh(),
            nn.Linear(settings.attention_sizes[0], settings.attention_sizes[1]),
            nn.Tanh(),
            nn.Linear(settings.attention_sizes[1], 1, bias=False),
        )

    def forward(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """``(B, H, D)``, bool ``(B, H)`` and users -> ``(B, C, D)``; zeros for no history."""
        if users.candidates is None:
            raise ValueError("the users come without candidates, and this encoder needs them")
        candidates = self.dropout(users.candidates)
        history = self.dropout(history.where(mask[..., None], 0.0))
        far = self.self_attention(history, candidates, mask)  # (B, C, H, D)
        near = self.cnn(history, candidates)  # (B, C, H, filters)
        joined = self.join(self.dropout(torch.cat([near, far], -1)))  # (B, C, H, D)
        pairs = torch.cat([joined, candidates[:, :, None].expand_as(joined)], -1)
        weights = masked_softmax(self.weigh(pairs).squeeze(-1), mask[:, None])  # (B, C, H)
        user: Tensor = (weights[:, :, None] @ joined).squeeze(2)
        return user


class CandidateAwareSelfAttention(nn.Module):
    """Multi-head self-attention whose keys also answer a query of the candidate.

    Args:
        num_heads: must divide ``hidden_size``.
    """

    def __init__(self, *, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        head_width(hidden_size, num_heads)
        self.num_heads = num_heads
        self.item_query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.candidate_query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.project = nn.Linear(hidden_size, 3 * hidden_size, bias=False)

    def forward(self, history: Tensor, candidates: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)``, ``(B, C, D)`` and bool ``(B, H)`` -> ``(B, C, H, D)``; finite for no item.

        An item's logits are those without candidate plus a number for each key and candidate, so
        nothing is projected once a candidate.
        """
        batch, count, length = *candidates.shape[:2], history.shape[1]
        item_query, candidate_query = (
            self._heads(project(vectors)) * (vectors.shape[-1] // self.num_heads) ** -0.5
            for project, vectors in (
                (self.item_query, history),
                (self.candidate_query, candidates),
            )
        )
        item_key, candidate_key, value = map(self._heads, self.project(history).chunk(3, -1))
        own = item_query @ item_key.mT  # (B, h, H, H)
        shared = candidate_query @ candidate_key.mT  # (B, h, C, H)
        shared = shared.masked_fill(~mask[:, None, None], torch.finfo(shared.dtype).min)
        weights = (own[:, :, None] + shared[:, :, :, None]).softmax(-1)  # (B, h, C, H, H)
        attended = weights.view(batch, self.num_heads, count * length, length) @ value
        far: Tensor = rearrange(attended, "b h (c s) d -> b c s (h d)", c=count)
        return far

    def _heads(self, vectors: Tensor) -> Tensor:
        return rearrange(vectors, "b s (h d) -> b h s d", h=self.num_heads)


class CandidateAwareCNN(nn.Module):
    """Linear filters over a window of items and the candidate.

    Args:
        kernel_size: items that a filter sees.
        num_filters: of the CNN.
    """

    def __init__(self, *, hidden_size: int, kernel_size: int, num_filters: int) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(
                f"kernel_size {kernel_size} is even; a centred window needs odd: choose "
                f"{kernel_size - 1} or {kernel_size + 1}"
            )
        self.window = nn.Conv1d(hidden_size, num_filters, kernel_size, padding=kernel_size // 2)
        self.candidate = nn.Linear(hidden_size, num_filters, bias=False)

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        """``(B, H, D)`` and ``(B, C, D)`` -> ``(B, C, H, filters)``."""
        local: Tensor = self.window(history.mT).mT  # (B, H, filters)
        shift: Tensor = self.candidate(candidates)  # (B, C, filters)
        return local[:, None] + shift[:, :, None]

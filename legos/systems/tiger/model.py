"""The network of TIGER: an encoder reads the codes of a history, a decoder writes the next ones.

Differs from the paper: a level's softmax is over the codes of that level, not over all tokens, of
which the others could never stand there; and with ``reads: causal`` the encoder sees what comes
before alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from legos.blocks.dropout import Dropout
from legos.blocks.packed import LengthBuckets, gather
from legos.data.ragged import Ragged, offsets_of
from legos.errors import ConfigError
from legos.systems.tiger.layers import (
    DecoderLayer,
    EncoderLayer,
    Memory,
    RelativePositions,
    norm,
)
from legos.systems.tiger.quantiser import Quantiser
from legos.systems.tiger.settings import TigerModel


class Reading(NamedTuple):
    """Sequences and who reads how much of them.

    Attributes:
        items: V sequences of items, oldest first.
        users: ``(V,)`` int64 token of the user of each; the number of tokens: unknown, the mean.
        rows: ``(R,)`` int64 sequence of each reader.
        lengths: ``(R,)`` int64 items of it that the reader sees, the first ones.
    """

    items: Ragged
    users: Tensor
    rows: Tensor
    lengths: Tensor


class Tiger(nn.Module):
    """T5 over semantic codes, with an input table that is the output's, too.

    Args:
        own: the settings.
        codes: ``(items, L)`` int64 tuples of codes, all different.
        sizes: codes of each of the L levels.
        quantiser: gives further items codes.
    """

    def __init__(
        self, own: TigerModel, codes: Tensor, sizes: Sequence[int], quantiser: Quantiser
    ) -> None:
        super().__init__()
        self.sizes, self.users, self.width = tuple(sizes), own.users, own.width
        self.codes: Tensor
        self.register_buffer("codes", codes)
        self.quantiser = quantiser
        firsts = torch.from_numpy(offsets_of(torch.tensor(self.sizes).numpy())[:-1])
        self.firsts: Tensor  # (L,) row of the table where the codes of each level begin
        self.register_buffer("firsts", firsts, persistent=False)
        rows = sum(self.sizes) + 1 + own.users  # codes, what a tuple starts with, users
        self.table = nn.Parameter(torch.randn(rows, own.width))
        both_ways = own.reads == "both_ways"
        self.encoder_positions, self.decoder_positions = (
            RelativePositions(heads=own.heads, width=own.width, both_ways=each)
            for each in (both_ways, False)
        )
        self.encoder = nn.ModuleList(EncoderLayer(own) for _ in range(own.layers))
        self.decoder = nn.ModuleList(DecoderLayer(own) for _ in range(own.layers))
        self.encoder_norm, self.decoder_norm = norm(own.width), norm(own.width)
        self.dropout = Dropout(own.dropout)

    @property
    def levels(self) -> int:
        """L."""
        return len(self.sizes)

    @property
    def start(self) -> int:
        """Row of the table that a tuple starts with."""
        return sum(self.sizes)

    def extend(self, codes: Tensor) -> None:
        """Further items by their tuples ``(n, L)``.

        Raises:
            ConfigError: a last code is beyond those that there are.
        """
        most = int(codes[:, -1].max()) if len(codes) else -1
        if most >= self.sizes[-1]:
            raise ConfigError(
                f"new items: {most + 1:,} items have the same codes, and the last code tells "
                f"{self.sizes[-1]:,} apart; train again with them"
            )
        self.codes = torch.cat([self.codes, codes.to(self.codes.device)])

    def read(self, reading: Reading) -> Memory:
        """Encode sequences, each once."""
        items, levels = reading.items, self.levels
        lengths = 1 + levels * items.lengths  # (V,) the user first
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        begins = torch.zeros(int(offsets[-1]), dtype=torch.bool, device=offsets.device)
        begins[offsets[:-1]] = True
        rows = torch.empty_like(begins, dtype=torch.int64)  # (P,)
        rows[begins] = self.start + 1 + reading.users
        rows[~begins] = (self.codes[items.values] + self.firsts).flatten()
        table: Tensor = self.table
        if bool((reading.users >= self.users).any()):
            table = torch.cat([table, table[self.start + 1 :].mean(0, keepdim=True)])
        values = self.dropout(gather(table, rows))
        within = LengthBuckets(Ragged(rows, offsets))
        bias = self.encoder_positions(within.longest)
        for layer in self.encoder:
            values = layer(values, within, bias)
        states = self.dropout(self.encoder_norm(values))
        return Memory(states, offsets[reading.rows], 1 + levels * reading.lengths)

    def decode(self, memory: Memory, codes: Tensor) -> Tensor:
        """States before each code of C tuples of R readers: ``(R, C, L)`` -> ``(R, C, L, D)``."""
        rows = torch.full_like(codes, self.start)
        rows[..., 1:] = (codes + self.firsts)[..., :-1]
        values = self.dropout(gather(self.table, rows.flatten()).view(*rows.shape, -1))
        bias = self.decoder_positions(self.levels)
        for layer in self.decoder:
            values = layer(values, memory, bias)
        return self.outputs(values)

    def outputs(self, values: Tensor) -> Tensor:
        """What the decoder's last layer gives, ``(..., D)``, ready for :meth:`logits`."""
        normed: Tensor = self.dropout(self.decoder_norm(values))
        scaled: Tensor = normed * self.width**-0.5
        return scaled

    def logits(self, states: Tensor, level: int) -> Tensor:
        """Of the codes of a level: ``(..., D)`` -> ``(..., size)`` float32 or more."""
        first, size = int(self.firsts[level]), self.sizes[level]
        scores: Tensor = states @ self.table[first : first + size].T
        return scores if scores.dtype == torch.float64 else scores.float()

    def losses(self, memory: Memory, codes: Tensor) -> Tensor:
        """What the negative log-probability of tuples ``(R, C, L)`` is: ``(R, C)``."""
        states = self.decode(memory, codes)
        total = states.new_zeros(
            codes.shape[:2], dtype=torch.promote_types(states.dtype, torch.float)
        )
        for level in range(self.levels):
            logits = self.logits(states[:, :, level], level).flatten(0, 1)
            found = F.cross_entropy(logits, codes[..., level].flatten(), reduction="none")
            total = total + found.view(total.shape)
        return total

    def forward(self, reading: Reading, items: Tensor) -> Tensor:
        """The loss of the next item of each reader: ``(R,)`` int64 -> ``(R,)``."""
        return self.losses(self.read(reading), self.codes[items][:, None])[:, 0]

"""The network of TIGER: an encoder reads the codes of a history, a decoder generates the next.

Differs from the paper: a softmax is over the codes of a level, not over all tokens, of which the
others could never stand there, and with ``softmax: tree`` over those that lead to an item; with
``reads: causal`` the encoder sees what comes before alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from legos.blocks.dropout import Dropout
from legos.blocks.packed import LengthBuckets, gather
from legos.data.ragged import Ragged, from_lengths, offsets_of
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
from legos.systems.trie import Trie, build_trie


class Reading(NamedTuple):
    """Sequences, and how much of them each reader sees.

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
    """T5 over semantic codes, with one table for input and output.

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
        self.by_items, self.by_tree = own.history == "items", own.softmax == "tree"
        self._tree: Trie | None = None
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

    @property
    def tree(self) -> Trie:
        """The tree of the tuples of all items, on the device of the codes."""
        device = self.codes.device
        if self._tree is None or self._tree.tokens.device != device:
            self._tree = tree_of(self.codes).to(device)
        return self._tree

    def extend(self, codes: Tensor) -> None:
        """Add items with their tuples ``(n, L)``.

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
        self._tree = None

    def read(self, reading: Reading) -> Memory:
        """Encode sequences, each once."""
        tokens = 1 if self.by_items else self.levels
        lengths = 1 + tokens * reading.items.lengths  # (V,) the user first
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        begins = torch.zeros(int(offsets[-1]), dtype=torch.bool, device=offsets.device)
        begins[offsets[:-1]] = True
        place = (~begins).cumsum(0) - 1 + len(lengths)  # (P,) of each token: users come first
        place[begins] = torch.arange(len(lengths), device=begins.device)
        vectors = torch.cat([self._users(reading.users), self._items(reading.items.values)])
        values = self.dropout(gather(vectors, place))
        within = LengthBuckets(Ragged(place, offsets))
        bias = self.encoder_positions(within.longest)
        for layer in self.encoder:
            values = layer(values, within, bias)
        states = self.dropout(self.encoder_norm(values))
        return Memory(states, offsets[reading.rows], 1 + tokens * reading.lengths)

    def _users(self, users: Tensor) -> Tensor:
        """Embed users, ``(V,)`` int64 -> ``(V, D)``."""
        table = self.table[self.start + 1 :]
        if bool((users >= self.users).any()):
            table = torch.cat([table, table.mean(0, keepdim=True)])
        return gather(table, users)

    def _items(self, items: Tensor) -> Tensor:
        """Embed items, ``(n,)`` int64 -> ``(n * L, D)``, or ``(n, D)``."""
        codes = self.codes[items] + self.firsts
        vectors = gather(self.table, codes.flatten())
        return vectors.view(*codes.shape, self.width).sum(1) if self.by_items else vectors

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
        """Outputs of the decoder's last layer, ``(..., D)``, ready for :meth:`logits`."""
        normed: Tensor = self.dropout(self.decoder_norm(values))
        scaled: Tensor = normed * self.width**-0.5
        return scaled

    def logits(self, states: Tensor, level: int) -> Tensor:
        """Logits of the codes of a level: ``(..., D)`` -> ``(..., size)``, at least float32."""
        first, size = int(self.firsts[level]), self.sizes[level]
        scores: Tensor = states @ self.table[first : first + size].T
        return scores if scores.dtype == torch.float64 else scores.float()

    def losses(self, memory: Memory, codes: Tensor) -> Tensor:
        """Negative log-probability of tuples ``(R, C, L)``: ``(R, C)``."""
        states = self.decode(memory, codes).flatten(0, 1)  # (R * C, L, D)
        tuples = codes.flatten(0, 1)
        dtype = torch.promote_types(states.dtype, torch.float)
        total = states.new_zeros(len(tuples), dtype=dtype)
        nodes = torch.zeros_like(tuples[:, 0])
        for level in range(self.levels):
            own = tuples[:, level]
            some = self.open_rows(nodes)
            chances = self.chances(states[some, level], level, nodes[some])
            total = total.index_add(0, some, -chances.gather(1, own[some, None])[:, 0])
            nodes = self.tree.step(nodes, own) if self.by_tree else nodes
        return total.view(codes.shape[:2])

    def open_rows(self, nodes: Tensor) -> Tensor:
        """Numbers of the nodes ``(n,)`` whose next code is open, int64."""
        if not self.by_tree:
            return torch.arange(len(nodes), device=nodes.device)
        offsets = self.tree.offsets
        return (offsets[nodes + 1] - offsets[nodes] > 1).nonzero()[:, 0]

    def chances(self, states: Tensor, level: int, nodes: Tensor) -> Tensor:
        """Log-probabilities ``(n, size)`` of the codes of a level after states ``(n, D)``.

        Args:
            nodes: ``(n,)`` int64 of :attr:`tree` that states are of; the numbers of codes that do
                not follow mean nothing with ``softmax: tree``.
        """
        logits = self.logits(states, level)
        if not self.by_tree:
            return logits.log_softmax(1)
        edges, mask = self.tree.allowed(nodes)  # (n, W)
        competing = logits.gather(1, self.tree.tokens[edges].long())
        competing = competing.masked_fill(~mask, -torch.inf)
        return logits - competing.logsumexp(1, keepdim=True)

    def forward(self, reading: Reading, items: Tensor) -> Tensor:
        """The loss of the next item of each reader: ``(R,)`` int64 -> ``(R,)``."""
        return self.losses(self.read(reading), self.codes[items][:, None])[:, 0]


def tree_of(codes: Tensor) -> Trie:
    """The tree of tuples ``(n, L)``, on the CPU."""
    lengths = torch.full((len(codes),), codes.shape[1])
    return build_trie(from_lengths(codes.cpu().flatten(), lengths))

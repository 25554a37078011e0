"""How fast and how much a client may ask: an even pace a minute, and budgets that end a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

from legos.errors import ConfigError
from process.genre.types import Message, Usage

_BYTES_A_TOKEN = 2  # English has four: budgets must hold for every language and tokenizer
_TOKENS_A_MESSAGE = 8  # what a chat template adds


def estimated_tokens(messages: Iterable[Message]) -> int:
    """At most how many tokens messages are likely to be, before any server has counted them."""
    count = 0
    for message in messages:
        length = len(message["content"].encode("utf-8", errors="replace"))
        count += -(-length // _BYTES_A_TOKEN) + _TOKENS_A_MESSAGE
    return count


class Pace:
    """Lets so much through a minute, evenly; a vendor's window may be shorter than a minute.

    Args:
        per_minute: None lets everything through.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._seconds_each = 0.0 if per_minute is None else 60.0 / per_minute
        self._free_at = 0.0

    async def take(self, amount: float = 1.0) -> None:
        """Wait for one's turn."""
        now = time.monotonic()
        turn = max(now, self._free_at)
        self._free_at = turn + amount * self._seconds_each
        if turn > now:
            await asyncio.sleep(turn - now)

    def correct(self, amount: float) -> None:
        """What was taken turned out to be more (or, below 0, less) than said."""
        self._free_at += amount * self._seconds_each


class Stopped(Exception):
    """Nothing more may be sent: a budget or the time is spent. No mistake of anyone's."""


@dataclass(frozen=True)
class Budget:
    """What one run may spend; None is no limit.

    Attributes:
        requests: sent, repeated ones included.
        tokens: of prompts and answers.
        cost: in the currency of the prices.
    """

    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if limit is not None and not limit > 0:
                raise ConfigError(f"budget of {name}: {limit} found, expected more than 0")


@dataclass(frozen=True)
class _Amount:
    requests: int = 0
    tokens: int = 0
    cost: float = 0.0


class Purse:
    """Keeps a budget among requests that are in flight at the same time.

    A request first sets aside the most that it can cost, so that all in flight together cannot
    overspend; when less is left than that, it waits for what the others did not use.

    Args:
        budget: that must not be exceeded.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._spent = _Amount()
        self._aside: list[_Amount] = []
        self._changed = asyncio.Condition()

    async def set_aside(self, usage: Usage, cost: float) -> _Amount:
        """Reserve one request of at most this size.

        Raises:
            Stopped: the budget has no room for it, and nothing in flight can make room.
        """
        wanted = _Amount(1, usage.prompt_tokens + usage.completion_tokens, cost)
        async with self._changed:
            while (short := self._short_of(wanted)) is not None:
                if not self._aside:
                    raise Stopped(short)
                await self._changed.wait()
            self._aside.append(wanted)
        return wanted

    async def settle(self, reserved: _Amount, usage: Usage, cost: float, *, sent: bool) -> None:
        """Replace a reservation by what it really took."""
        async with self._changed:
            self._aside.remove(reserved)
            self._spent = _Amount(
                self._spent.requests + sent,
                self._spent.tokens + usage.prompt_tokens + usage.completion_tokens,
                self._spent.cost + cost,
            )
            self._changed.notify_all()

    def _short_of(self, wanted: _Amount) -> str | None:
        for name, limit in vars(self._budget).items():
            if limit is None:
                continue
            spent = getattr(self._spent, name)
            aside = sum(getattr(amount, name) for amount in self._aside)
            if spent + aside + getattr(wanted, name) > limit:
                return f"the budget of {name} ({limit:g}) is spent: {spent:g} used"
        return None

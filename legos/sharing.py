"""Work on items, users or shards, shared between processes: not a bit of the result changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from legos.errors import LegosError, describe

Page = TypeVar("Page", Tensor, slice)
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sharing:
    """Which pages of a piece of work this process does.

    Attributes:
        accelerator: of the processes that share; None = this process does all.
    """

    accelerator: Accelerator | None = None

    @classmethod
    def between(cls, accelerator: Accelerator) -> Sharing:
        """Share between all processes, where there are more than one."""
        return cls(None if accelerator.num_processes == 1 else accelerator)

    @property
    def is_first(self) -> bool:
        """Whether this process writes what all have made."""
        return self.accelerator is None or self.accelerator.is_main_process

    def in_turns(
        self, pages: Sequence[Item], compute: Callable[[Item], Result]
    ) -> Iterator[tuple[Item, Result]]:
        """Yield each page with what one of n processes computes of it, in order, in every process.

        They compute n pages at a time and wait for each other, so that each knows how far all are.

        Args:
            pages: the same in every process.
            compute: of a page what processes can send each other.

        Raises:
            LegosError: another process raised an error.
        """
        count = 1 if self.accelerator is None else self.accelerator.num_processes
        for begin in range(0, len(pages), count):
            turn = pages[begin : begin + count]
            found = self._exchanged(compute, self.own(turn))
            yield from zip(turn, found, strict=True)

    def first(self, compute: Callable[[], Result]) -> Result:
        """What the first process computes, in every process; errors as :meth:`in_turns`."""
        return self._exchanged(lambda _: compute(), [None] if self.is_first else [])[0]

    def _exchanged(self, compute: Callable[[Item], Result], pages: Sequence[Item]) -> list[Result]:
        """What all processes compute of their own pages; an error of one ends all."""
        if self.accelerator is None:
            return [compute(page) for page in pages]
        found: list[Result] = []
        error: Exception | None = None
        try:
            found = [compute(page) for page in pages]
        except Exception as raised:
            error = raised
        own = found, error and describe(error)[0]
        try:
            everything = gather_object([own])
        finally:
            if error is not None:
                raise error
        for number, (_, message) in enumerate(everything):
            if message is not None:
                raise LegosError(f"process {number}: {message}")
        return [result for results, _ in everything for result in results]

    def fill(self, pages: Sequence[Page], compute: Callable[[Page], Tensor], count: int) -> Tensor:
        """Compute rows page by page, every n-th page in each of n processes.

        Args:
            pages: at least one; together they name each row once.
            compute: page of m rows -> ``(m, ...)``.
            count: number of rows.

        Returns:
            ``(count, ...)``, complete in every process. The parts are added up, and x + 0 is x:
            nothing is rounded.
        """
        own = self.own(pages)
        first = pages[0] if not own else own[0]  # without own pages, one tells the shape
        values = compute(first)
        filled = values.new_zeros(count, *values.shape[1:])
        if own:
            filled[first] = values
        for page in own[1:]:
            filled[page] = compute(page)
        return self.added(filled)

    def gathered(self, pages: Sequence[Item], compute: Callable[[Item], Result]) -> list[Result]:
        """What is computed of each page, in the order of the pages, in every process.

        Args:
            pages: every n-th is computed in each of n processes.
            compute: of a page what processes can send each other.
        """
        own = self.own(range(len(pages)))
        found = self._exchanged(lambda number: (number, compute(pages[number])), own)
        return [result for _, result in sorted(found, key=lambda pair: pair[0])]

    def own(self, pages: Sequence[Item]) -> Sequence[Item]:
        """The pages of this process."""
        if self.accelerator is None:
            return pages
        return pages[self.accelerator.process_index :: self.accelerator.num_processes]

    def added(self, values: Tensor) -> Tensor:
        """The sum over all processes of what each has, in every process."""
        if self.accelerator is None:
            return values
        total: Tensor = self.accelerator.reduce(values, "sum")
        return total


ALONE = Sharing()

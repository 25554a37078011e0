"""Sharing the pages of an evaluation between processes, without changing a bit of the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

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
        found = [(number, compute(pages[number])) for number in self.own(range(len(pages)))]
        if self.accelerator is not None:
            found = gather_object(found)
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

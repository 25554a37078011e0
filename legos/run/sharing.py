"""Sharing the pages of an evaluation between processes, without changing a bit of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accelerate import Accelerator
from torch import Tensor


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

    def own(self, pages: Sequence[Tensor]) -> Sequence[Tensor]:
        """Every n-th page, n being the number of processes."""
        if self.accelerator is None:
            return pages
        return pages[self.accelerator.process_index :: self.accelerator.num_processes]

    def merge(self, filled: Tensor) -> Tensor:
        """Put together what the processes filled into zeros; x + 0 is x, so nothing is rounded."""
        if self.accelerator is None:
            return filled
        merged: Tensor = self.accelerator.reduce(filled, "sum")
        return merged


ALONE = Sharing()

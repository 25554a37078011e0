"""When a training is to save."""

from __future__ import annotations

import time


class SaveTimes:
    """Times since the last save.

    Args:
        minutes: save at least so often.
        steps: save every so many steps, too; 0: by time alone.
    """

    def __init__(self, minutes: float, steps: int = 0) -> None:
        self._minutes, self._steps = minutes, steps
        self.saved()

    def due(self, step: int) -> bool:
        """Whether it is time to save after so many steps."""
        elapsed = (time.monotonic() - self._saved_at) / 60
        return elapsed > self._minutes or (self._steps > 0 and step % self._steps == 0)

    def saved(self) -> None:
        """Note that it has just been saved."""
        self._saved_at = time.monotonic()

"""Ctrl-C and SIGTERM while training: finish the step, save, then stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which the first signal is noted and the second one interrupts at once.

    Attributes:
        requested: a signal has come; the loop is to save and stop after its step.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # signals reach only the main thread; a run in another thread keeps its owner's handlers
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        if self.requested and kind is None:  # after the loop last looked
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A block that changes no state worth finishing: a signal interrupts it at once."""
        self._at_once = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.requested or self._at_once:
            raise KeyboardInterrupt
        self.requested = True

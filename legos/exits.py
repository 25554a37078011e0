"""How every command ends: its exit code, and one message instead of a stack trace.

| code | |
|---|---|
| 0 | done |
| 1 | a fault of this toolkit: one line with type, message and place |
| 2 | a user's mistake, a full disk, too little memory: one message |
| 130 | Ctrl-C |
| 141 | whoever read the output went away (``| head``) |
"""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from legos.errors import (
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    LegosError,
    describe_memory_error,
    describe_os_error,
)
from legos.terminal import plain_output, printable

EXIT_FAULT = 1
EXIT_NO_READER = 141

TRACEBACK = "--traceback"
_TRACEBACK_VARIABLE = "LEGOS_TRACEBACK"
_ROOT = Path(__file__).resolve().parents[1]
_LONGEST = 500  # characters of a message that libraries may make arbitrarily long


def run_command(
    command: Callable[[Sequence[str]], int | None], words: Sequence[str], *, interrupted: str = ""
) -> int:
    """Run a command and return its exit code; whatever it raises becomes one message.

    ``--traceback`` among the words, or the environment variable ``LEGOS_TRACEBACK``, shows the
    stack trace of any error before its message.

    Args:
        command: is given the words without ``--traceback``; its own exit code, None for 0.
        words: of the command line.
        interrupted: said after Ctrl-C.
    """
    traced = TRACEBACK in words or os.environ.get(_TRACEBACK_VARIABLE, "0") not in ("", "0")
    try:
        with plain_output():
            code = command([word for word in words if word != TRACEBACK]) or 0
            sys.stdout.flush()  # a full disk or a closed pipe is told here, not at the very end
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            _discard_output()
            return EXIT_NO_READER
        if traced:
            print(printable("".join(traceback.format_exception(error))), file=sys.stderr)
        message, code = describe(error)
        print(f"error: {printable(message)}", file=sys.stderr)
        _discard_output()
    return code


def describe(error: Exception) -> tuple[str, int]:
    """Return the message for an error and the exit code that goes with it."""
    if isinstance(error, LegosError):
        return str(error), EXIT_USER_ERROR
    told = describe_memory_error(error) or describe_os_error(error)
    if told is not None:
        return told, EXIT_USER_ERROR
    return _describe_fault(error), EXIT_FAULT


def _describe_fault(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return (
        f"{text} ({_place(error)}). This is a fault of legos, not of yours: report it in the issue "
        f"tracker of the repository, with the output of the same command and {TRACEBACK}"
    )


def _place(error: Exception) -> str:
    """``legos/training/step.py:21, in _check``: the innermost line of this toolkit."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)]
    frame = (own or list(frames))[-1]
    path = Path(frame.filename)
    shown = path.relative_to(_ROOT) if _is_own(frame.filename) else path
    return f"{shown.as_posix()}:{frame.lineno}, in {frame.name}"


def _is_own(filename: str) -> bool:
    path = Path(filename)
    return path.is_relative_to(_ROOT) and "site-packages" not in path.parts


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), select.POLLOUT)
    except (OSError, ValueError):  # closed, or no file
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _discard_output() -> None:
    """What cannot be written any more must not fail a second time when Python ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

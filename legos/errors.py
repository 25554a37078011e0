"""The errors a user can cause, each one clear message, and the nearest valid name for a typo."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


class LegosError(ValueError):
    """What a user did wrong: shown as one message without a stack trace, exit code 2.

    The message says what was wrong, the value found, where it came from, what was expected.
    """


class ConfigError(LegosError):
    """A YAML or a command line asks for something that cannot be."""


class DataError(LegosError):
    """A raw file or a table is not what it should be."""


class CheckpointError(LegosError):
    """A checkpoint is missing, damaged, or of another model."""


def describe_os_error(error: OSError) -> str:
    """One line about what the operating system refused: ``runs/a.json: No space left on device``.

    Args:
        error: from any file operation; libraries raise some without a number or a file name.
    """
    text = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {text}" if error.filename else text


def nearest(name: str, choices: Iterable[str]) -> str:
    """The tail of an error about an unknown name: the nearest choice, then all of them.

    Args:
        name: what was given.
        choices: the valid names.

    Returns:
        For example ``did you mean 'cnn'? choose from: attention, cnn, pooling``.
    """
    known = sorted(choices)
    by_lower_case = {choice.lower(): choice for choice in known}
    close = get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    hint = f"did you mean {by_lower_case[close[0]]!r}? " if close else ""
    return f"{hint}choose from: {', '.join(known)}"

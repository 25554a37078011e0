"""The errors a user can cause, each one clear message, and the nearest valid name for a typo."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from legos.terminal import shown_bytes

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


class OutOfMemory(LegosError):
    """The machine or its GPU has less memory than a run needs."""


_CPU_MEMORY = re.compile(
    r"DefaultCPUAllocator|std::bad_alloc|Unable to allocate|[Cc]annot allocate memory|"
    r"Storage size calculation overflowed"
)
_GPU_MEMORY = re.compile(
    r"(?:CUDA|HIP|XPU|MPS)\b.*out of memory|\w+_STATUS_(?:ALLOC_FAILED|NOT_ENOUGH_WORKSPACE)|"
    r"CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    re.DOTALL,
)
_ASKED_FOR = re.compile(r"(?:[Tt]ried|Unable) to allocate ([\d.]+) ?(bytes|[KMGTPE]i?B)")


def describe_memory_error(error: BaseException, settings: Sequence[str] = ()) -> str | None:
    """One line about memory that ran out: on what, how much was asked for, which settings help.

    Recognises ``MemoryError``, numpy's, those of torch on the CPU (a ``RuntimeError``), on CUDA
    and on other accelerators, and the operating system's ``ENOMEM``.

    Args:
        error: any exception.
        settings: keys that take less memory, each with what to do: ``exp.train.batch_size: 32``.

    Returns:
        None where memory is not the reason.
    """
    text = str(error)
    refused = isinstance(error, OSError) and error.errno == errno.ENOMEM
    known = isinstance(error, (MemoryError, RuntimeError))
    on_gpu = known and (
        type(error).__name__ == "OutOfMemoryError" or _GPU_MEMORY.search(text) is not None
    )
    on_cpu = refused or isinstance(error, MemoryError)
    if not (on_gpu or on_cpu or (known and _CPU_MEMORY.search(text))):
        return None
    asked = _ASKED_FOR.search(text)
    size = ""
    if asked:
        count, unit = float(asked[1]), asked[2]
        told = shown_bytes(count) if unit == "bytes" else f"{count:.1f} {unit}"
        size = f" ({told} more were asked for)"
    told = f"out of memory on {'the GPU' if on_gpu else 'this machine'}{size}"
    if settings:
        return f"{told}; these settings need less: {'; '.join(settings)}"
    return f"{told}; give it less to do at a time, or free memory that other programs hold"


_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
_FROM_RUST = re.compile(r"([^:]+) \(os error \d+\)")


def describe_os_error(error: BaseException) -> str | None:
    """One line about what the operating system refused: ``runs/a.json: No space left on device``.

    Recognises ``OSError``, numpy's without a reason (a write that came to a full disk), and
    safetensors' and tokenizers', which hold the reason in their text.

    Args:
        error: any exception.

    Returns:
        None where the operating system is not the reason.
    """
    wrapped = _FROM_RUST.search(str(error))
    if not isinstance(error, OSError):
        return wrapped[1].strip() if wrapped else None
    if error.errno is None and _SHORT_WRITE.search(str(error)):
        text = f"{os.strerror(errno.ENOSPC)} ({error})"
    else:
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

"""The errors a user can cause, each one clear message, and the nearest valid name for a typo."""

from __future__ import annotations

import errno
import os
import re
import select
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from legos.terminal import IN_CHECKOUT, as_started, plain_output, printable, shown_bytes

EXIT_FAULT, EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_NO_READER = 1, 2, 130, 141
TRACEBACK = "--traceback"
_TRACEBACK_VARIABLE = "LEGOS_TRACEBACK"
_ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("legos", "process")
_EXTRAS = {
    "genre": ("httpx2", "jsonschema", "openai", "tenacity"),
    "serve": ("fastapi", "prometheus_client", "uvicorn"),
    "faiss": ("faiss",),
    "search": ("optuna",),
    "quantised": ("bitsandbytes",),
}
_guests: dict[str, Path] = {}  # code that is not ours, by what it is called
_LISTED, _NEAR = 12, 5  # an error lists up to 12 names in full, of more than 12 it lists 5
_LONGEST = 500  # characters of a message that libraries may make arbitrarily long


class LegosError(ValueError):
    """What a user did wrong: shown as one message without a stack trace, exit code 2.

    The message says what was wrong, the value found, where it came from, what was expected.
    """


class ConfigError(LegosError):
    """A YAML or a command line asks for something that cannot be."""


class DataError(LegosError):
    """A raw file or a table is not what it should be."""


class Diverged(DataError):
    """A loss, a gradient or a score is not a finite number."""


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
    """One line about memory that ran out, on what and how much; None where that is not the reason.

    Recognises ``MemoryError``, numpy's, those of torch on the CPU (a ``RuntimeError``), on CUDA
    and on other accelerators, and the operating system's ``ENOMEM``.

    Args:
        error: any exception.
        settings: keys that take less memory, each with what to do: ``exp.train.batch_size: 32``.
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
    """One line about what the operating system refused (``a.json: No space left``), or None.

    Recognises ``OSError``, numpy's without a reason (a write that came to a full disk), and
    safetensors' and tokenizers', which hold the reason in their text.
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
    """The tail of an error: ``did you mean 'cnn'? choose from: attention, cnn, pooling``.

    Of many choices the nearest few are listed, or the first where none is near.
    """
    known = sorted(choices)
    by_lower_case = {choice.lower(): choice for choice in known}
    close = get_close_matches(name.lower(), by_lower_case, n=_NEAR, cutoff=0.5)
    if not close:
        return f"choose from: {some(known)}"
    near = [by_lower_case[each] for each in close]
    first = known if len(known) <= _LISTED else near
    return f"did you mean {near[0]!r}? choose from: {some(first, len(known))}"


def some(names: Sequence[str], count: int | None = None) -> str:
    """Names as an error lists them: all where they are few, else some and how many there are.

    Args:
        names: in the order in which they are listed.
        count: how many there are; None: these.
    """
    count = len(names) if count is None else count
    if count <= _LISTED:
        return ", ".join(names)
    return f"{', '.join(names[:_NEAR])}, ... ({count} in all)"


def run_command(
    command: Callable[[Sequence[str]], int | None], words: Sequence[str], *, interrupted: str = ""
) -> int:
    """Run a command and return its exit code; whatever it raises becomes one message.

    ``--traceback`` among the words, or the environment variable ``LEGOS_TRACEBACK``, shows the
    stack trace of any error before its message.

    Args:
        command: is given the words without ``--traceback``; its own exit code, None for 0.
        words: of the command line.
        interrupted: said after Ctrl-C, by the first process if there are several.
    """
    traced = TRACEBACK in words or os.environ.get(_TRACEBACK_VARIABLE, "0") not in ("", "0")
    try:
        with plain_output():
            code = command([word for word in words if word != TRACEBACK]) or 0
            sys.stdout.flush()  # a full disk or a closed pipe is told here, not at the very end
    except KeyboardInterrupt:
        if interrupted and os.environ.get("RANK", "0") == "0":
            print(interrupted, file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            _discard_output()
            return EXIT_NO_READER
        if traced:
            print(printable("".join(traceback.format_exception(error))), file=sys.stderr)
        message, code = describe(error)
        print(f"error: {printable(as_started(message))}", file=sys.stderr)
        _discard_output()
    return code


def describe(error: Exception) -> tuple[str, int]:
    """The message for an error and the exit code that goes with it."""
    if isinstance(error, LegosError):
        return str(error), EXIT_USER_ERROR
    told = describe_memory_error(error) or describe_os_error(error) or _describe_missing(error)
    if told is not None:
        return told, EXIT_USER_ERROR
    text = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    guest = _guest_in(error)
    if guest is not None:
        return f"{text} ({guest}); {TRACEBACK} shows the way there", EXIT_FAULT
    return (
        f"{text} ({_place(error)}). This is a fault of legos, not of yours: report it in the issue "
        f"tracker of the repository, with the output of the same command and {TRACEBACK}"
    ), EXIT_FAULT


def add_guest(name: str, file: Path) -> None:
    """Register code outside the toolkit, so that an error in it is reported as its own.

    Args:
        name: what it is called, "plug-in my_bricks".
        file: a module, or the ``__init__.py`` of a package.
    """
    _guests[name] = (file.parent if file.name == "__init__.py" else file).resolve()


def _guest_in(error: Exception) -> str | None:
    """``plug-in my_bricks: my_bricks/items.py:21, in forward``: the innermost line of a guest."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        for name, path in _guests.items():
            if Path(frame.filename).resolve().is_relative_to(path):
                return f"{name}: {frame.filename}:{frame.lineno}, in {frame.name}"
    return None


def _describe_missing(error: Exception) -> str | None:
    """One line about a package that is not installed, or None."""
    name = (getattr(error, "name", None) or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or name in ("", *_PACKAGES):
        return None
    extra = next((extra for extra, packages in _EXTRAS.items() if name in packages), None)
    installs = name if extra is None else f"'legos[{extra}]'"
    if IN_CHECKOUT and extra is not None:
        installs = f"-r requirements-{extra}.txt"
    return f"this needs the package {name}, which is not installed; `pip install {installs}`"


def _place(error: Exception) -> str:
    """``legos/training/trainer.py:21, in _check``: the innermost line of this toolkit."""
    frames = traceback.extract_tb(error.__traceback__)
    parts = ((frame, Path(frame.filename)) for frame in frames)
    inside = [
        (frame, path.relative_to(_ROOT)) for frame, path in parts if path.is_relative_to(_ROOT)
    ]
    own = [
        (frame, path)
        for frame, path in inside
        if path.parts[0] in _PACKAGES or (IN_CHECKOUT and "site-packages" not in path.parts)
    ]
    frame, path = own[-1] if own else (frames[-1], Path(frames[-1].filename))
    return f"{path.as_posix()}:{frame.lineno}, in {frame.name}"


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

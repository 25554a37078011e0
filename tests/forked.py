"""Processes of Python for tests, forked from a server that has imported what runs import.

A process that starts from nothing imports torch, transformers and peft for ten seconds first.
"""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from pkgutil import walk_packages
from tempfile import TemporaryDirectory
from typing import Any

import legos

_LIBRARIES = (
    "accelerate",
    "bitsandbytes",
    "einops",
    "peft",
    "refconfig",
    "torch._dynamo",
    "torch._inductor.config",
    "torch.profiler",
    "torch.utils.tensorboard",
    "transformers.generation",
    "transformers.models.bert.modeling_bert",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
)


def forked(call: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """A started process that calls an importable function.

    The server imports the module of the first such function, too.
    """
    context = multiprocessing.get_context("forkserver")
    ours = [module.name for module in walk_packages(legos.__path__, "legos.")]
    context.set_forkserver_preload([*_LIBRARIES, *ours, "tests.training.systems", call.__module__])
    process = context.Process(target=call, args=arguments)
    process.start()
    return process


def forked_python(
    arguments: Sequence[str], environment: Mapping[str, str], output: Path, errors: Path
) -> ForkServerProcess:
    """``python <arguments>``, started, as ``-m module ...`` or ``file.py ...``.

    Args:
        arguments: of Python.
        environment: its variables.
        output: what it prints goes to this file.
        errors: what it writes to standard error goes to this file.
    """
    return forked(python, list(arguments), dict(environment), output, errors)


def run_python(arguments: Sequence[str], **more: str) -> tuple[int | None, str]:
    """Exit code and output, errors included, of ``python <arguments>``.

    Args:
        arguments: of Python, as :func:`forked_python` takes them.
        more: variables of the environment.
    """
    with TemporaryDirectory() as folder:
        output = Path(folder, "output")
        process = forked_python(arguments, {**os.environ, **more}, output, output)
        process.join(300)
        process.kill()
        return process.exitcode, output.read_text(encoding="utf-8")


def python(arguments: list[str], environment: dict[str, str], output: Path, errors: Path) -> None:
    """Be ``python <arguments>`` in this process; see :func:`forked_python`."""
    gc.freeze()
    os.environ.clear()
    os.environ.update(environment)
    for path, stream in ((output, sys.stdout), (errors, sys.stderr)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), stream.fileno())
    faulthandler.enable()
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    is_module = arguments[0] == "-m"
    sys.argv = arguments[1:] if is_module else arguments
    if is_module:
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(arguments[0], run_name="__main__")

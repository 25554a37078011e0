"""Everything that no CPU can show, on one CUDA device: one table, one JSON, what failed named.

    python -m benchmarks.gpu                                  # all parts, within 8 minutes
    python -m benchmarks.gpu --json gpu.json                  # every number, and traces of errors
    python -m benchmarks.gpu --only equal models              # are steps in 16 bits the CPU's?
    python -m benchmarks.gpu --only lora --budget 120         # one part, at most two minutes
    python -m benchmarks.gpu --device cpu --tiny              # does it run at all? needs no GPU

  roofline  TFLOP/s of matrix products in fp32, TF32, bf16 and fp16, GB/s of copies: what the
            other parts are held against.
  equal     Steps of NAML, NRMS, DIRE (uncut, cached, in pages), ONCE (DIRE with what a model
            wrote of items and users), CLLM4Rec's three tasks (frozen and LoRA) and RecSysLLM, in
            fp32, bf16 and fp16, against fp32 on the CPU: losses of three steps, gradients of the
            first.
  dire      DIRE steps cached at four layers. Theory is a step without any layer plus as many
            layers as are kept, a layer being what it costs in the uncut step. Target: at most
            1.25 of it.
  cache     Tokens a second of writing hidden states to files, against the bare forward of the
            same model (target: 0.9) and the matrix product; GB/s of reading them against a copy.
  steps     Whole training steps of CLLM4Rec and RecSysLLM in tokens a second, against a bare
            forward and backward of the same language model (target: 0.7).
  lora      A LLaMA of 7B parameters in bf16, LoRA above a cache and on every layer: seconds, GiB,
            TFLOP/s.
  generate  RecSysLLM's beams against the CPU's and against transformers' generate; candidates side
            by side against one forward each; free texts against a bare loop.
  models    Every shipped model of bricks, as in part equal. Where bf16 on the CPU is far from fp32,
            too, the device may be three times as far.

Weights are random, data and tokenizer are made: nothing is fetched. 7B parameters need 20 GiB of
GPU memory; where it runs out, that measurement alone fails. Each part runs in a process of its own,
so that none can stop another. Exit code: 0 where every part asked for ran to its end and holds its
targets, 1 where one failed, missed or was not reached (the last lines say which, and why), 2 for a
wrong command line. On a CPU and with --tiny speed has no targets. Redirected, the table is
Markdown: put it into docs/results/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import accelerate
import torch
import transformers

from benchmarks.gpu.outcome import as_json, failure_lines, last_line, table_of, whole
from benchmarks.gpu.runner import PARTS, measure_into, run_parts
from benchmarks.gpu.setting import FULL, TINY, Setting
from legos.errors import EXIT_FAULT, EXIT_USER_ERROR, LegosError
from legos.files import write_json
from legos.progress import PlainConsole

BUDGET = 480.0  # seconds
_ASKS = """import json, sys, torch
found = torch.cuda.get_device_properties(torch.device(sys.argv[1]))
print(json.dumps([found.name, round(found.total_memory / 2**30, 1)]))"""
_WIDEST = 1000  # columns of a table that nobody reads on a terminal


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--device", default="cuda", help="cuda (default), cuda:1, cpu")
    add("--tiny", action="store_true", help="the smallest models and data: whether it runs")
    add("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    add("--budget", type=_seconds, default=BUDGET, metavar="SECONDS",
        help=f"of all parts (default: {BUDGET:g}); those not reached are named")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write every number to it")
    add("--alone", nargs=2, metavar=("PART", "FILE"), help=argparse.SUPPRESS)
    return made


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds above 0, found {text}")
    return value


def refuse_device(device: str) -> None:
    """Raise LegosError for a device that is not here, or of another kind."""
    kind, _, index = device.partition(":")
    count = torch.cuda.device_count()
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise LegosError(f"--device: unknown device {device!r}; choose cuda, cuda:0 or cpu")
    if kind == "cuda" and int(index or 0) >= count:
        raise LegosError(
            f"--device: {device!r} is not here ({count} CUDA devices); "
            "`--device cpu --tiny` runs every part on a CPU"
        )


def facts(device: str, *, tiny: bool) -> dict[str, Any]:
    """What was measured on, and with what."""
    name, gib = platform.processor() or platform.machine(), None
    if device.startswith("cuda"):  # this process keeps off the GPU: the parts get all of it
        command = [sys.executable, "-c", _ASKS, device]
        asked = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        if asked.returncode:
            raise LegosError(f"--device: {device!r} does not answer; torch says why above")
        name, gib = json.loads(asked.stdout.splitlines()[-1])
    return {
        "device": name,
        "gib": gib,
        "size": "tiny" if tiny else "full",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
        "python": platform.python_version(),
    }


def main() -> int:
    """Run the parts asked for; the exit code."""
    given = parser().parse_args()
    sizes = TINY if given.tiny else FULL
    try:
        refuse_device(given.device)
        if given.alone:
            with tempfile.TemporaryDirectory() as folder:
                part, file = given.alone
                measure_into(part, Setting(given.device, sizes, Path(folder)), Path(file))
            return 0
        return report(given)
    except LegosError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR


def report(given: argparse.Namespace) -> int:
    """Run, print the table, write the file, name what failed."""
    known = facts(given.device, tiny=given.tiny)
    title = ", ".join(f"{key} {value}" for key, value in known.items() if value is not None)
    print(title, flush=True)
    options = ["--device", given.device, *(["--tiny"] if given.tiny else [])]
    parts = list(dict.fromkeys(given.only or PARTS))
    found = run_parts(parts, options, given.budget, lambda text: print(text, flush=True))
    on_terminal = sys.stdout.isatty()
    console = PlainConsole() if on_terminal else PlainConsole(width=_WIDEST)
    console.print(table_of(found, markdown=not on_terminal))
    if given.json is not None:
        write_json(given.json, as_json(known, found))
    for line in failure_lines(found):
        print(line)
    last_line(found)
    return 0 if whole(found) else EXIT_FAULT


if __name__ == "__main__":
    sys.exit(main())

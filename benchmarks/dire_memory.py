"""Section ``memory``: peak memory of a step that encodes items page by page, and all at once."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.dire_setting import Setting, reads_tokens, step_at
from legos.data.items import LanguageInput
from legos.data.ragged import Ragged
from legos.systems.bricks.recipe import BricksRecipe
from legos.workplace.device import peak_memory_mb, reset_peak_memory

GRADIENT_TARGET = 1e-4  # of the largest gradient; float32 sums in another order
_SIZES = (32, 64, 128, 256, 512)
_GIVEN_BACK = str(2**20)  # bytes; what is freed is given back at once, or peaks vary by a quarter
_MOST = 0.8  # of the free memory, that a step is expected to take


def memory_section(setting: Setting) -> dict[str, Any]:
    """A table of peaks, then how far the gradients of the two ways are apart."""
    options = setting.options
    page = options.page_size
    sizes = _SIZES[:2] if options.quick else _SIZES
    print(
        f"\nmemory: peak MiB that a step adds, {setting.device.type}, cut at "
        f"{setting.language_model.layer(options.layer)}\n"
        f"clicks  items  tokens  {page:3d} items a page  all at once  ratio   seconds  all at once",
        flush=True,
    )
    rows: list[dict[str, Any]] = []
    for size in sizes:
        pages = _alone(setting, "peak", size, page)
        expected = rows[-1]["whole"]["mib"] * size / rows[-1]["clicks"] if _measured(rows) else 0.0
        whole = None if expected > _free_mib(setting) * _MOST else _alone(setting, "peak", size, 0)
        rows.append({"clicks": size, "pages": pages, "whole": whole})
        _print_row(rows[-1], expected)
    gradients = _alone(setting, "gradients", sizes[0], page, "--precision", "fp32")
    if gradients is None:
        raise RuntimeError("the process that compares gradients was killed: too little memory")
    holds = bool(gradients["relative"] <= GRADIENT_TARGET)
    print(
        f"float32 gradients of {sizes[0]} clicks, page by page and at once: largest difference "
        f"{gradients['difference']:.1e}, {gradients['relative']:.1e} of the largest gradient",
        flush=True,
    )
    both = [row for row in rows if row["pages"] and row["whole"]]
    return {
        "rows": rows,
        "gradients": gradients,
        "ours": {row["clicks"]: row["pages"]["mib"] for row in rows if row["pages"]},
        "other": {row["clicks"]: row["whole"]["mib"] for row in both},
        "ratio": {row["clicks"]: row["pages"]["mib"] / row["whole"]["mib"] for row in both},
        "target": f"gradients differ by at most {GRADIENT_TARGET:g} of the largest",
        "holds": holds,
    }


def _measured(rows: list[dict[str, Any]]) -> bool:
    return bool(rows and rows[-1]["whole"])


def _print_row(row: dict[str, Any], expected: float) -> None:
    pages, whole = row["pages"], row["whole"]
    if pages is None:
        print(f"{row['clicks']:6d}  killed even page by page: too little memory", flush=True)
        return
    start = f"{row['clicks']:6d}  {pages['items']:5d}  {pages['tokens']:6d}  {pages['mib']:16.0f}"
    if whole is None:
        why = f"would take about {expected:.0f}" if expected else "killed"
        print(f"{start}  {why}: more than there is    {pages['seconds']:7.1f}", flush=True)
        return
    print(
        f"{start}  {whole['mib']:11.0f}  {pages['mib'] / whole['mib']:5.3f}  "
        f"{pages['seconds']:8.1f}  {whole['seconds']:11.1f}",
        flush=True,
    )


def _free_mib(setting: Setting) -> float:
    if setting.device.type == "cuda":
        return torch.cuda.mem_get_info(setting.device)[0] / 2**20
    return float(psutil.virtual_memory().available / 2**20)


def _alone(
    setting: Setting, what: str, clicks: int, page: int, *others: str
) -> dict[str, Any] | None:
    """What a process of its own measured; None where it was killed."""
    command = [sys.executable, "-m", "benchmarks.dire", *sys.argv[1:], *others]
    command += ["--tables", str(setting.config.data.folder), "--data", setting.options.data]
    command += ["--alone", what, str(clicks), str(page)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": _GIVEN_BACK},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode < 0 or "OutOfMemory" in done.stdout:
        return None
    done.check_returncode()
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def run_alone(setting: Setting) -> None:
    """Measure one thing in this process and print it as JSON."""
    what, clicks, page = setting.options.alone
    measure = {"peak": _peak, "gradients": _gradients}[what]
    try:
        print(json.dumps(measure(setting, int(clicks), int(page))))
    except torch.cuda.OutOfMemoryError as error:
        print(f"OutOfMemory: {error}")


def _peak(setting: Setting, clicks: int, page: int) -> dict[str, float]:
    """Peak MiB that the first step adds."""
    training, content = _training(setting, clicks, page)
    gc.collect()
    reset_peak_memory(setting.device)
    kind = "device" if setting.device.type == "cuda" else "process"
    before = peak_memory_mb(setting.device)[kind]
    seconds = setting.wall_seconds(step_at(training, 0))
    peak = peak_memory_mb(setting.device)[kind] - before
    return {**content, "mib": peak, "seconds": seconds}


def _gradients(setting: Setting, clicks: int, page: int) -> dict[str, float]:
    """Largest difference of the gradients of the first step; without dropout."""
    found = []
    for each in (page, 0):
        training, _ = _training(setting, clicks, each)
        training.model.eval()
        training.replicas.step = lambda name: None  # type: ignore[method-assign] # keeps gradients
        step_at(training, 0)()
        named = training.bare_model.named_parameters()
        found.append({name: value.grad for name, value in named if value.grad is not None})
    pages, whole = found
    if pages.keys() != whole.keys():
        raise RuntimeError(f"one way alone has a gradient of {sorted(pages.keys() ^ whole.keys())}")
    difference = max(float((pages[name] - whole[name]).abs().max()) for name in whole)
    largest = max(float(value.abs().max()) for value in whole.values())
    return {"difference": difference, "relative": difference / largest}


def _training(setting: Setting, clicks: int, page: int) -> tuple[BricksRecipe, dict[str, int]]:
    """A training, and how much its first step reads; states are random, in memory."""
    batch = setting.batches(1, clicks)[0]
    tokens = setting.needed_tokens([batch])
    layer = setting.language_model.layer(setting.options.layer)
    language: dict[str, LanguageInput] = reads_tokens(tokens)
    if layer:
        part = setting.part(layer)
        generator = torch.Generator().manual_seed(0)
        states = torch.randn(tokens.values.numel(), part.width, generator=generator)
        dtype = torch.bfloat16 if setting.reading.dtype == "bf16" else torch.float32
        language = {part.name: Ragged(states.to(dtype), tokens.offsets)}
    training = setting.training(layer, language, batch_size=clicks, page_size=page)
    return training, {"items": len(batch.items), "tokens": tokens.values.numel()}

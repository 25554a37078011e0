"""What the device can do: matrix products and copies. Other parts are held against it."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.gpu.outcome import Row, Tell, trying
from benchmarks.gpu.setting import Setting
from legos.lm.text_model import DTYPES

_REPEATS = 10


def matmul_tflops(setting: Setting, dtype: torch.dtype) -> float:
    """TFLOP/s of square matrix products, the fastest of the turns."""
    size = setting.sizes.matmul
    left, right = (torch.randn(size, size, device=setting.device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)

    def run() -> None:
        for _ in range(_REPEATS):
            torch.matmul(left, right, out=out)

    run()
    seconds = min(setting.seconds(run) for _ in range(setting.sizes.turns))
    return 2 * size**3 * _REPEATS / seconds / 1e12


def copy_gbs(setting: Setting) -> float:
    """GB/s read and written in copies on the device, the fastest of the turns."""
    there = torch.empty(setting.sizes.copy_mib * 2**20, dtype=torch.uint8, device=setting.device)
    return 2 * _speed(setting, there, torch.empty_like(there))


def transfer_gbs(setting: Setting) -> float:
    """GB/s from pinned memory to the device, the fastest of the turns."""
    here = torch.empty(setting.sizes.copy_mib * 2**20, dtype=torch.uint8).pin_memory()
    return _speed(setting, here, torch.empty_like(here, device=setting.device))


def _speed(setting: Setting, source: Tensor, target: Tensor) -> float:
    def run() -> None:
        for _ in range(_REPEATS):
            target.copy_(source, non_blocking=True)

    run()
    seconds = min(setting.seconds(run) for _ in range(setting.sizes.turns))
    return source.numel() * _REPEATS / seconds / 1e9


def roofline_part(setting: Setting, tell: Tell) -> None:
    """Matrix products in every precision, TF32 among them; copies; transfers."""
    size = setting.sizes.matmul
    for name in ("fp32", *setting.precisions):
        what = f"matrix product of {size:,}², {name}"
        with trying(tell, what, setting.device):
            tell(Row(what, matmul_tflops(setting, DTYPES[name]), "TFLOP/s"))
    if setting.device.type == "cuda":
        what = f"matrix product of {size:,}², TF32"
        with trying(tell, what, setting.device):
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("high")
            try:
                tell(Row(what, matmul_tflops(setting, torch.float32), "TFLOP/s"))
            finally:
                torch.set_float32_matmul_precision(before)
    what = "copy on the device, read and written"
    with trying(tell, what, setting.device):
        tell(Row(what, copy_gbs(setting), "GB/s"))
    if setting.device.type == "cuda":
        what = "copy from pinned memory"
        with trying(tell, what, setting.device):
            tell(Row(what, transfer_gbs(setting), "GB/s"))

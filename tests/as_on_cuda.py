"""What autocast does on CUDA, on a CPU: results of which a GPU makes float32 become float32 here.

On a CPU autocast leaves ``exp``, ``softmax``, ``sum``, norms and others in 16 bits and promotes the
operands of ``index_copy``; on CUDA it computes the former in float32, and ``index_copy`` and
``index_add`` refuse operands of two dtypes (ATen's ``autocast_mode.h``). What would raise on a GPU
alone therefore raises in this mode. It sees what Python calls, not what torch calls inside.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

IN_FLOAT32 = frozenset({
    "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p",
    "reciprocal", "rsqrt", "sinh", "tan", "pow", "__pow__", "__rpow__", "square", "softplus",
    "layer_norm", "group_norm", "norm", "vector_norm", "normalize", "cosine_similarity",
    "nll_loss", "cross_entropy", "kl_div", "l1_loss", "smooth_l1_loss", "mse_loss", "logsumexp",
    "dist", "cdist", "prod", "softmax", "log_softmax", "cumprod", "cumsum", "sum",
    "binary_cross_entropy_with_logits",
})  # fmt: skip
SAME_DTYPE = frozenset({
    "index_copy", "index_copy_", "index_add", "index_add_", "index_put_", "scatter", "scatter_",
    "__setitem__",
})  # fmt: skip
REFUSED = frozenset({"binary_cross_entropy"})
HALVES = (torch.bfloat16, torch.float16)
CASES = (
    "NAML",
    "DIRE, cached, in pages",
    "ONCE",
    "CLLM4Rec, collaborative, lora",
    "CLLM4Rec, content, lora",
    "CLLM4Rec, recommendation, lora",
    "RecSysLLM, LoRA",
)
"""Of ``benchmarks.gpu``: every system, each way of reading items and each task."""


class AsOnCuda(TorchFunctionMode):
    """Within the block autocast on the CPU does what it does on CUDA."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in REFUSED:
            raise RuntimeError(f"{name}: unsafe to autocast")
        if name in SAME_DTYPE:
            _refuse_two_dtypes(name, args)
        if name in IN_FLOAT32:
            args = tuple(_float(each) for each in args)
            kwargs = {key: _float(each) for key, each in kwargs.items()}
        return func(*args, **kwargs)


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in HALVES else value


def _refuse_two_dtypes(name: str, args: Any) -> None:
    """As CUDA does; a single number is converted."""
    kinds = {
        each.dtype
        for each in (args[0], args[-1])
        if isinstance(each, Tensor) and (each is args[0] or each.dim())
    }
    if len(kinds) > 1 and any(kind.is_floating_point for kind in kinds):
        raise RuntimeError(f"{name}: operands of two dtypes, {sorted(map(str, kinds))}")

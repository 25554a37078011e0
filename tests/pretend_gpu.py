"""A GPU that is none: tensors sent to ``cuda`` stay on the CPU and remember where they belong.

Whoever mixes both kinds in one operation, reads one as numpy, or makes a tensor on the wrong side
finds out here, as he would on a GPU. Where a tensor belongs is a property of its storage, so that
views and what autograd keeps have it, too. Nothing is said of kernels, rounding or streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
_MOVES = {torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda}
_READS = {torch.Tensor.numpy, torch.Tensor.__array__}
_NAMES = {torch.device, torch._C._nn._parse_to}  # they say devices and touch no tensor
_ACROSS = {"copy_", "_to_copy"}
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}  # indices may be on the CPU


class Places:
    """Which storages belong to the GPU."""

    def __init__(self) -> None:
        self._known: dict[int, StorageWeakRef] = {}

    def on_gpu(self, tensor: Tensor) -> bool:
        """Whether a tensor belongs there."""
        if tensor.is_meta:
            return False
        found = self._known.get(tensor.untyped_storage()._cdata)
        return found is not None and not found.expired()

    def put(self, tensor: Tensor, *, on_gpu: bool) -> None:
        """Say where a tensor belongs."""
        if tensor.is_meta:
            return
        storage = tensor.untyped_storage()
        if on_gpu:
            self._known[storage._cdata] = StorageWeakRef(storage)
        else:
            self._known.pop(storage._cdata, None)


class _Calls(TorchFunctionMode):
    """What Python asks for: devices of tensors, moves, tensors made on a device."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        asked = getattr(func, "__self__", None)
        if asked is torch.Tensor.device:
            return CUDA if self.places.on_gpu(args[0]) else func(*args)
        if asked is torch.Tensor.is_cuda:
            return self.places.on_gpu(args[0])
        if func in _READS and self.places.on_gpu(args[0]):
            raise TypeError("can't convert cuda tensor to numpy; use Tensor.cpu() first")
        wanted = self._asked(func, args, kwargs)
        if wanted is None or func in _NAMES:
            return func(*args, **kwargs)
        args, kwargs = tree_map(_real, args), tree_map(_real, kwargs)
        if func is torch.Tensor.cuda:
            func, args, kwargs = torch.Tensor.to, (args[0], CPU), {}
        result = func(*args, **kwargs)
        if func in _MOVES and isinstance(result, Tensor):
            if self.places.on_gpu(args[0]) == wanted:
                return result
            if result.untyped_storage()._cdata == args[0].untyped_storage()._cdata:
                result = result.clone()
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self.places.put(each, on_gpu=wanted)
        return result

    def _asked(self, func: Any, args: Any, kwargs: dict[str, Any]) -> bool | None:
        """Whether a call names the GPU (True), the CPU (False), or no device."""
        if func in (torch.Tensor.cuda, torch.Tensor.cpu):
            return bool(func is torch.Tensor.cuda)
        if func is torch.Tensor.new_tensor and kwargs.get("device") is None:
            return self.places.on_gpu(args[0])
        named = [kwargs.get("device"), *(each for each in args if isinstance(each, torch.device))]
        if func is torch.Tensor.to:
            named += [each for each in args[1:] if isinstance(each, str)]
            named += [each for each in args[1:2] if isinstance(each, Tensor)]
        for each in named:
            if isinstance(each, Tensor):
                return self.places.on_gpu(each)
            if each is not None:
                kind = torch.device(each).type
                return None if kind == "meta" else kind == "cuda"
        return None


def _real(value: Any) -> Any:
    is_device = isinstance(value, torch.device) or (isinstance(value, str) and value[:4] == "cuda")
    return CPU if is_device and torch.device(value).type == "cuda" else value


class _Operations(TorchDispatchMode):
    """What torch computes: all operands on one side, and the results, too."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        sides = [(self.places.on_gpu(each), each.dim() == 0) for each in given]
        there = any(on_gpu for on_gpu, _ in sides)
        if name not in _ACROSS and there:
            first = args[0] if args and isinstance(args[0], Tensor) else None
            indexed = name in _INDEXED and first is not None and self.places.on_gpu(first)
            if not indexed and not all(on_gpu or single for on_gpu, single in sides):
                shapes = [
                    (list(e.shape), "cuda" if s else "cpu")
                    for e, (s, _) in zip(given, sides, strict=True)
                ]
                raise RuntimeError(f"{name}: expected all tensors on one device, found {shapes}")
        result = func(*args, **kwargs)
        target = self.places.on_gpu(given[0]) if name in _ACROSS and given else there
        if target:
            for each in tree_leaves(result):
                if isinstance(each, Tensor):
                    self.places.put(each, on_gpu=True)
        return result


@contextmanager
def pretend_gpu() -> Iterator[Places]:
    """Within the block ``cuda`` is a device of this machine, as far as places of tensors go."""
    places = Places()
    with ExitStack() as stack:
        stack.enter_context(_Operations(places))
        stack.enter_context(_Calls(places))
        yield places

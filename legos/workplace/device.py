"""The one place that creates the ``Accelerator``: device, precision, processes, determinism."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import is_initialized
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import nn
from torch.distributed import DistError
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from legos.config.exp_schema import ExpConfig
from legos.config.model_schema import ModelConfig, SystemModel
from legos.config.schema import RunConfig
from legos.errors import ConfigError, LegosError, OutOfMemory, describe_memory_error
from legos.item.language_model import LanguageModelConfig
from legos.lm.settings import TuningSettings
from legos.lm.text_model import DTYPES, halves_of, layers_of
from legos.settings import LessMemory, marked, unread_settings
from legos.workplace.language import language_bricks

_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def make_accelerator(
    *, device: str, precision: str, deterministic: bool, beside: bool = False
) -> Accelerator:
    """Set up this process, alone or as one of those that ``accelerate launch`` started.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", ...; under ``accelerate launch`` each process
            takes the device of its local rank.
        precision: "fp32", "bf16" or "fp16".
        deterministic: refuse operations whose result may differ from run to run.
        beside: others of another precision may be in use in this process, as in a notebook that
            opens several trained runs; its ``autocast`` is of this precision all the same.

    Raises:
        ConfigError: there is no such device, it cannot compute in this precision, or accelerate is
            to shard.
    """
    kind = _chosen_device(device)
    on_cpu = kind == "cpu" or not torch.cuda.is_available()
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if precision == "fp16" and on_cpu:
        raise ConfigError("exp.precision: fp16 needs a CUDA device; choose fp32 or bf16")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # use_deterministic_algorithms imports the whole compiler for a flag of its own: 2.5 s
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    accelerator = Accelerator(
        # left to itself, accelerate does not join processes that were started without a GPU
        cpu=kind == "cpu" or (on_cpu and started > 1),
        mixed_precision=None if beside and is_initialized() else _PRECISIONS[precision],
        # a brick may leave a parameter out of a batch (no item of it has an abstract)
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if accelerator.mixed_precision != _PRECISIONS[precision]:  # accelerate knows one a process
        accelerator.autocast = partial(
            torch.autocast,
            accelerator.device.type,
            dtype=DTYPES[precision],
            enabled=precision != "fp32",
        )
    _refuse_launch(accelerator, started)
    return accelerator


def _chosen_device(device: str) -> str:
    """The kind of a device, ``auto``, ``cpu`` or ``cuda``; the numbered one becomes the current."""
    kind, _, index = device.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if count == 0 or (index and not (index.isdigit() and int(index) < count)):
            raise ConfigError(
                f"exp.device: {device!r} is not available ({count} CUDA devices); choose auto or "
                "cpu"
            )
        if index:
            torch.cuda.set_device(int(index))
    elif kind not in ("auto", "cpu"):
        raise ConfigError(f"exp.device: unknown device {device!r}; choose auto, cpu, cuda, cuda:0")
    return kind


def _refuse_launch(accelerator: Accelerator, started: int) -> None:
    """Refuse processes that did not find each other, and accelerate's own sharding."""
    if accelerator.num_processes != started:  # each would take itself for the only one
        raise ConfigError(
            f"exp.device: {started} processes were started but are not connected on "
            f"{accelerator.device}; on a CPU `torchrun --nproc-per-node {started} worker.py ... "
            "--device cpu` joins them"
        )
    if accelerator.distributed_type == DistributedType.FSDP:
        raise ConfigError(
            "accelerate launch --use_fsdp: start the processes without it (--multi_gpu, or "
            "torchrun) and give --exp.distributed fsdp"
        )


@torch.no_grad()
def share_out(model: nn.Module, transformer: Any, accelerator: Accelerator) -> None:
    """Share the layers of a transformer out over all processes and put the rest on the device.

    A layer is put together while it is called (FSDP2). What is no layer, as token tables, tied
    heads and what is new beside the language model, is whole in every process. From here on every
    process must call the transformer equally often.

    Args:
        model: on the CPU; changed in place.
        transformer: the part of it that has the layers; an encoder-decoder is called by halves.
        accelerator: of the processes.

    Raises:
        ConfigError: it has no layers, or precision fp16, whose skipped steps would have to agree.
    """
    layers = [layer for layer in layers_of(transformer) if any(True for _ in layer.parameters())]
    if not layers:
        raise ConfigError(
            f"exp.distributed: fsdp: {type(transformer).__name__} has no layers to shard; use ddp"
        )
    if accelerator.scaler is not None:
        raise ConfigError("exp.distributed: fsdp cannot be combined with precision fp16; use bf16")
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    rest = {each for each in model.parameters() if not isinstance(each, DTensor)}
    for root in halves_of(transformer):
        fully_shard(root, mesh=mesh, ignored_params=rest)  # layers are fetched one ahead
    for tensor in (*rest, *model.buffers()):
        tensor.data = tensor.data.to(accelerator.device)


def refuse_uneven(config: RunConfig, processes: int) -> None:
    """Raise ConfigError for a batch of clicks that the processes cannot share evenly."""
    size = config.exp.train.batch_size
    is_bricks = isinstance(config.model, ModelConfig)
    if config.exp.mode == "test" or not is_bricks or size % processes == 0:
        return
    below, above = size - size % processes, size - size % processes + processes
    near = f"{below} or {above}" if below else f"{above}"
    raise ConfigError(
        f"exp.train.batch_size: {size} clicks cannot be shared evenly by {processes} processes; "
        f"take {near}"
    )


def launched_alone() -> bool:
    """Whether ``accelerate launch`` was asked for several processes and started this one only.

    It does so on CPUs: the address to meet at is set, the number of processes is not.
    """
    told = os.environ.keys()
    return {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= told and "WORLD_SIZE" not in told


@contextmanager
def joined_processes(accelerator: Accelerator) -> Iterator[None]:
    """Close what joins this process to the others; left to the interpreter's end, it may crash.

    Where all went well the processes wait for each other first, since the first one serves the
    addresses of all; where one failed, the others cannot be waited for.

    Raises:
        LegosError: another process has ended before this one.
    """
    try:
        yield
        accelerator.wait_for_everyone()
    except RuntimeError as error:
        if not (isinstance(error, DistError) or "gloo/" in str(error)):
            raise
        raise LegosError(
            "another process of this command ended or does not respond; see its output and rerun "
            "the command to resume"
        ) from error
    finally:
        accelerator.state.destroy_process_group()


def reset_peak_memory(device: torch.device) -> None:
    """Start measuring anew, so that several models in one process are told apart."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # Linux only; elsewhere the peak is that of the whole process
        _CLEAR.write_text("5", encoding="ascii")


def peak_memory_mb(device: torch.device) -> dict[str, float]:
    """Peak memory in MiB since the reset: of this process and, on CUDA, of the device."""
    memory = {"process": round(_peak_resident_bytes() / 2**20, 1)}
    if device.type == "cuda":
        memory["device"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return memory


def _peak_resident_bytes() -> int:
    with suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def naming_memory_settings(exp: ExpConfig, models: tuple[SystemModel, ...] = ()) -> Iterator[None]:
    """Where memory runs out, say which settings of this command line need less.

    Raises:
        OutOfMemory: memory ran out inside.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        told = describe_memory_error(error, memory_settings(exp, models))
        if told is None:
            raise
        raise OutOfMemory(told) from error


def models_of(config: RunConfig) -> tuple[SystemModel, ...]:
    """The models that a configuration runs: of its comparison, or its one."""
    compare = config.exp.compare
    return compare.models if config.exp.mode == "compare" and compare else (config.model,)


def memory_settings(exp: ExpConfig, models: tuple[SystemModel, ...]) -> list[str]:
    """Keys that take less memory, each with its value and what to do, the cheapest first."""
    if exp.mode == "embed":
        return [f"lower exp.vectors.batch_tokens ({exp.vectors.batch_tokens})"]
    found: dict[str, None] = {}
    for model in models:
        found |= dict.fromkeys(_of_model(exp, model))
    if exp.precision == "fp32" and exp.mode != "export":
        found["exp.precision bf16"] = None
    return list(found)


def _of_model(exp: ExpConfig, model: SystemModel) -> list[str]:
    if not isinstance(model, ModelConfig):
        unread = dict(unread_settings(exp, "exp", model.read_for))
        known = [*marked(exp, "exp", LessMemory), *marked(model, "model", LessMemory)]
        own = []
        for key, section, _ in sorted(known, key=lambda each: each[2].turn):
            if key not in unread:
                value = getattr(section, key.rpartition(".")[2])
                own.append(f"lower {key} ({'all' if value is None else value})")
        backbone = getattr(model, "backbone", None)
        if isinstance(backbone, TuningSettings):
            own += _of_weights("model.backbone", backbone)
        return own
    if exp.mode in ("cache", "export"):
        return _of_language(exp, model)
    found = []
    if exp.mode != "test":
        size, page = exp.train.batch_size, exp.train.item_page_size
        found.append(
            f"lower exp.train.item_page_size ({page})" if page else "exp.train.item_page_size 64"
        )
        found.append(f"lower exp.train.batch_size ({size}), exp.train.acc_batch as much higher")
    if exp.mode != "train":
        found.append(f"lower exp.evaluate.page_size ({exp.evaluate.page_size})")
    return found + _of_language(exp, model)


def _of_language(exp: ExpConfig, model: ModelConfig) -> list[str]:
    """Keys of the brick that stands on a language model, also inside another brick."""
    for key, brick in language_bricks(model):
        found = [f"lower exp.cache.batch_tokens ({exp.cache.batch_tokens})"]
        if isinstance(brick, LanguageModelConfig):
            path = f"model.{key}"
            found += [*_of_weights(path, brick), f"a higher {path}.layer ({brick.layer})"]
            if brick.train == "full":
                found.append(f"{path}.train lora (in place of full tuning)")
        return found
    return []


def _of_weights(path: str, settings: TuningSettings) -> list[str]:
    found = []
    if not settings.gradient_checkpointing:
        found.append(f"{path}.gradient_checkpointing true")
    if settings.train != "full":
        if settings.dtype == "fp32":
            found.append(f"{path}.dtype bf16")
        if settings.quantised == "none":
            found.append(f"{path}.quantised nf4")
    return found

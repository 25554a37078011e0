"""The settings that make a run take less memory, named where memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from legos.config.model_schema import ModelConfig, SystemModel
from legos.config.schema import ExpConfig, RunConfig
from legos.errors import OutOfMemory, describe_memory_error
from legos.item.language_model import LanguageModelConfig
from legos.lm.settings import TuningSettings
from legos.workplace.language import language_bricks


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
        own = [_lower(key, model) for key in model.memory_keys]
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
            found += _of_brick(f"model.{key}", brick)
        return found
    return []


def _of_brick(path: str, settings: LanguageModelConfig) -> list[str]:
    found = [*_of_weights(path, settings), f"a higher {path}.layer ({settings.layer})"]
    if settings.trained == "full":
        found.append(f"{path}.lora_rank 32 (LoRA in place of full tuning)")
    return found


def _of_weights(path: str, settings: TuningSettings) -> list[str]:
    found = []
    if not settings.gradient_checkpointing:
        found.append(f"{path}.gradient_checkpointing true")
    if settings.trained != "full":
        if settings.dtype == "fp32":
            found.append(f"{path}.dtype bf16")
        if settings.quantised == "none":
            found.append(f"{path}.quantised nf4")
    return found


def _lower(key: str, model: SystemModel) -> str:
    value: object = model
    for name in key.split(".")[1:]:
        value = getattr(value, name)
    return f"lower {key} ({'all' if value is None else value})"

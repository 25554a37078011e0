"""Mode ``export``: the language model of a trained item encoder as a Hugging Face folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from torch import nn

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.files import atomic_folder, write_json
from legos.item.language_model import LanguageModelConfig, LanguageModelEncoder
from legos.lm.load import LanguageModel
from legos.lm.text_model import quiet_transformers
from legos.lm.word_model import whole_language_model
from legos.runs.folder import checkpoint_of, run_folder
from legos.systems.bricks.recipe import BricksRecipe
from legos.training.saved_state import load_trained
from legos.workplace.language import language_model_settings, no_language_model
from legos.workplace.workplace import Workplace

DESCRIPTION = "legos.json"  # of where an exported model comes from


def export(config: RunConfig, accelerator: Accelerator, console: Console) -> dict[str, Any]:
    """Write the whole language model of the best checkpoint, LoRA merged into its weights.

    Layers below the cut are those of the original. The folder holds ``config.json``, safetensors,
    the tokenizer and ``legos.json``, and replaces an earlier export; nothing is half-written.

    Returns:
        ``folder`` and what ``legos.json`` says.

    Raises:
        ConfigError: the model has no language model that could be trained, it is quantised, or
            the folder holds something else.
        CheckpointError: there is no trained model, or it is another one.
    """
    settings = _exportable(config)
    summary: dict[str, Any] = {}
    if accelerator.is_main_process:
        tables = Tables.load(config.data.folder)
        checkpoint = checkpoint_of(config, run_folder(config, tables))
        folder = config.exp.export.folder or _run_of(checkpoint) / "export" / "language_model"
        _refuse_other_content(folder)
        language_model = LanguageModel(
            settings.model, settings, bidirectional=settings.bidirectional
        )
        # nothing is scored, so that no hidden states are needed
        workplace = Workplace.open(config, accelerator, tables, shapes_only=True)
        model = replace(workplace, language_model=language_model, shapes_only=False).model()
        trained_in = load_trained(model, checkpoint, BricksRecipe.system)
        layer = language_model.layer(settings.layer) if settings.layer else 0
        whole = whole_language_model(language_model, _trained_part(model).cpu(), layer)
        facts = _facts(config, settings, language_model, trained_in, checkpoint, layer)
        write_language_model(folder, whole, language_model, facts)
        console.print(
            f"{folder}: {language_model.name} with the {language_model.num_layers - layer} of its "
            f"{language_model.num_layers} layers that run {trained_in} kept\n"
            f"used by --llm_ver {shlex.quote(str(folder))}, or transformers' "
            f"AutoModel.from_pretrained({str(folder)!r})",
            soft_wrap=True,
            markup=False,
        )
        summary = {"folder": str(folder), **facts}
    accelerator.wait_for_everyone()
    return summary


def _exportable(config: RunConfig) -> LanguageModelConfig:
    """The settings of the trained language model."""
    settings = language_model_settings(config.model)
    if settings is None:
        raise no_language_model(config.bricks)
    if not isinstance(settings, LanguageModelConfig):
        raise ConfigError(
            f"model {config.model.name}: {settings.name!r} trains nothing of its language model, "
            f"so there is nothing to export; it reads {settings.model.name} unchanged"
        )
    if settings.quantised != "none":
        raise ConfigError(
            f"model.item.quantised: {settings.quantised}: adapters cannot be merged exactly into "
            "quantised weights; export a model that was trained with quantised: none"
        )
    return settings


def _run_of(checkpoint: Path) -> Path:
    """The run folder of a checkpoint; the checkpoint itself where it was moved elsewhere."""
    return checkpoint.parents[1] if checkpoint.parent.name == "checkpoints" else checkpoint


def _refuse_other_content(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() and not (folder / DESCRIPTION).is_file():
        raise ConfigError(
            f"exp.export.folder: {folder} already exists and is not an export (no {DESCRIPTION}), "
            "so it will not be replaced; choose another folder"
        )


def _trained_part(model: nn.Module) -> nn.Module:
    """The language model inside the recommender."""
    return next(
        module.language_model
        for module in model.modules()
        if isinstance(module, LanguageModelEncoder)
    )


def _facts(
    config: RunConfig,
    settings: LanguageModelConfig,
    language_model: LanguageModel,
    trained_in: str,
    checkpoint: Path,
    layer: int,
) -> dict[str, Any]:
    """What ``legos.json`` says."""
    lora = None
    if settings.lora_rank:
        lora = {
            "rank": settings.lora_rank,
            "alpha": settings.lora_alpha,
            "dropout": settings.lora_dropout,
            "targets": list(settings.lora_targets),
        }
    return {
        "run": trained_in,
        "checkpoint": str(checkpoint),
        "data": config.data.name,
        "model": config.model.name,
        "language_model": language_model.name,
        "fingerprint": language_model.fingerprint,  # of the original
        "layer": layer,
        "frozen": settings.train == "frozen",
        "lora": lora,
        "dtype": settings.dtype,
    }


def write_language_model(
    folder: Path, model: nn.Module, language_model: LanguageModel, facts: Mapping[str, Any]
) -> None:
    """Write a folder that transformers reads, whole or not at all.

    Args:
        folder: an earlier one is replaced.
        model: a whole language model.
        language_model: whose tokenizer it is.
        facts: of ``legos.json``.
    """
    saved: Any = model
    with atomic_folder(folder) as temporary, quiet_transformers():
        saved.save_pretrained(str(temporary))
        language_model.transformers_tokenizer().save_pretrained(str(temporary))
        write_json(temporary / DESCRIPTION, dict(facts))

"""Opening a trained run: found, and what it was trained on compared with what is there now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from legos.config.saved import read_description
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.errors import CheckpointError, ConfigError, DataError
from legos.modes.train_test import open_system
from legos.recommend.catalogue import Opened
from legos.recommend.run import TrainedRun
from legos.recommend.settings import with_settings
from legos.runs.find import find_run
from legos.runs.folder import checkpoint_of, locate_run
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace


def open_run(
    path: str | Path,
    *,
    data: str | Path | None = None,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    called: str = "settings",
) -> TrainedRun:
    """Open a trained run; ``legos.open`` is this.

    Args:
        path: a run folder; or a folder around some, such as ``runs/shop`` or ``runs/shop/naml``,
            for the newest trained run in it.
        data: the folder of its tables, where they are not where the training read them.
        device: auto, cpu, cuda or cuda:1.
        settings: by dotted key what is to be other than in the training and needs none:
            ``{"model.predictor.weights": {"category": -0.3}}`` of a MANNeR. A key that an open run
            does not read is refused with those that it reads.
        called: what refusals call ``settings``.

    Raises:
        CheckpointError: there is no trained run, or its tables, files or checkpoint are not those
            of the training; or a setting needs another training.
        ConfigError: there is no such setting, or an open run does not read it.
        DataError: the tables are not there, or damaged.
    """
    described = read_description(find_run(path, trained=True))
    config = with_settings(described.config, settings or {}, called)
    tables = _tables(config, described.folder, data)
    exp = config.exp.model_copy(update={"mode": "test", "load": described.folder})
    own = config.data.model_copy(update={"folder": tables.folder})
    config = config.model_copy(update={"exp": exp, "data": own})
    located = locate_run(config, tables)
    if not located.is_loaded:
        raise CheckpointError(
            f"{described.folder}: trained on other tables than those in {tables.folder}; a model "
            "can only recommend the items it was trained with (data= names the folder of the "
            "tables)"
        )
    checkpoint = checkpoint_of(config, located.folder)

    def load() -> Opened:
        accelerator = make_accelerator(
            device=device,
            precision=config.exp.precision,
            deterministic=config.exp.deterministic,
            beside=True,
        )
        workplace = Workplace.open(config, accelerator, tables)
        system = open_system(workplace)
        system.load(checkpoint)
        if not hasattr(system, "recommender"):
            raise ConfigError(
                f"model {config.model.name}: system {config.model.system} has no recommender "
                "(docs/add-a-system.md)"
            )
        return Opened(workplace, system.recommender())

    return TrainedRun(described.folder, config, tables, load)


def _tables(config: RunConfig, run: Path, data: str | Path | None) -> Tables:
    folder = config.data.folder if data is None else Path(data)
    if not (folder / "manifest.json").is_file():
        raise DataError(
            f"{run}: trained on tables in {config.data.folder}, and {folder} has none; "
            "data='FOLDER' (on a command line --data FOLDER) gives their new location"
        )
    return Tables.load(folder)

"""A trained model on impressions with users and items that it has never seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from rich.console import Console

from legos.config.schema import RunConfig
from legos.data.interactions import Interactions
from legos.data.tables import Tables
from legos.errors import DataError
from legos.evaluation.measure import measure
from legos.files import write_json
from legos.reports.page import write_leaderboard, write_scores
from legos.reports.tables import show_run
from legos.runs.folder import checkpoint_of, run_folder
from legos.runs.identity import ID_LENGTH
from legos.systems.bricks.recipe import BricksRecipe
from legos.systems.bricks.system import evaluate, score
from legos.training.saved_state import load_trained
from legos.workplace.workplace import Workplace

SPLIT = "impressions"


def score_new_impressions(
    config: RunConfig, accelerator: Accelerator, folder: Path, console: Console
) -> dict[str, Any]:
    """Score every candidate; measure where there are labels.

    Writes ``impressions/<fingerprint>/`` in the run folder: ``scores.tsv`` (best candidate first),
    ``prediction.txt`` (ranks, the MIND leaderboard's format) and ``results.json``.

    Args:
        config: the run whose best checkpoint (or ``exp.load``) scores.
        accelerator: device, precision and processes.
        folder: tables with one split ``impressions``, made with the vocabularies of the run's.
        console: where the table goes.

    Raises:
        DataError: the tables were made for other tables than those of the run.
    """
    trained_on, new = Tables.load(config.data.folder), Tables.load(folder)
    if new.manifest.get("parent") != trained_on.fingerprint:
        raise DataError(
            f"{folder}: made for tables {new.manifest.get('parent')}, the model was trained on "
            f"{trained_on.fingerprint} ({trained_on.folder}); read the impressions again"
        )
    workplace = Workplace.open(config, accelerator, trained_on, say=console.print)
    model = workplace.model()
    run = run_folder(config, trained_on)
    checkpoint = checkpoint_of(config, run)
    load_trained(model, checkpoint, BricksRecipe.system)
    workplace = workplace.over(new, say=console.print)
    interactions = workplace.split(SPLIT)
    scored = score(workplace, model, interactions)
    target = run.path / "impressions" / new.fingerprint[:ID_LENGTH]
    results: dict[str, Any] = {
        "run": run.id,
        "data": config.data.name,
        "model": config.model.name,
        "checkpoint": str(checkpoint),
        "folder": str(target),
        "impressions": len(interactions),
        "splits": {},
    }
    measured = None
    if len(interactions) and bool((interactions.labels >= 0).all()):
        if config.exp.evaluate.ranking == "all":
            measured = evaluate(workplace, model, interactions, thorough=True)
        elif accelerator.is_main_process:
            measured = measure(workplace, scored, interactions, thorough=True)
    if accelerator.is_main_process:
        if measured is not None:
            results["splits"][SPLIT] = measured.summary()
        write_files(target, new, interactions, scored.scores)
        write_json(target / "config.json", config.model_dump(mode="json"))
        write_json(target / "results.json", results)
    show_run(console, results)
    console.print(f"scores of {len(interactions):,} impressions in {target}", markup=False)
    return results


def write_files(
    folder: Path, tables: Tables, interactions: Interactions, scores: np.ndarray
) -> None:
    """``scores.tsv`` and ``prediction.txt`` with the ids of the raw data."""
    names = tables.vocabulary(interactions.impression_vocabulary)
    impressions = [names[row] for row in interactions.impression_ids.tolist()]
    offsets = interactions.candidates.offsets.cpu().numpy()
    candidates = interactions.candidates.values.cpu().numpy()
    items = tables.vocabulary("item_id")
    write_scores(folder / "scores.tsv", impressions, items, candidates, offsets, scores)
    write_leaderboard(folder / "prediction.txt", impressions, offsets, scores)

"""Pretraining that runs share: variants that differ only in what comes after it do it once.

The first of them leaves the path of its checkpoint in ``<runs>/<data>/pretrained/<identity>.json``;
the others begin there, with the same bits as if they had pretrained themselves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from legos.config.schema import RunConfig
from legos.files import sha256_of_text, write_json
from legos.run.checkpoint import has_checkpoint
from legos.run.folder import ID_LENGTH

_FOLDER = "pretrained"
# keys that matter only from finetuning on
_LATER: dict[str, tuple[str, ...]] = {
    "": ("name", "preset", "recommendation"),
    "content": ("dropout_in_finetuning",),
    "mutual": ("on_recommendation_targets", "user_twice_in_recommendation"),
    "stages": (
        "finetuning_epochs",
        "finetuning_lr",
        "recommendation_steps",
        "patience",
        "valid_users",
    ),
}


class Pretrained:
    """Where runs with the same pretraining find each other.

    Args:
        config: of the run.
        fingerprint: of its tables.
    """

    def __init__(self, config: RunConfig, fingerprint: str) -> None:
        model: dict[str, Any] = config.model.model_dump(mode="json")
        for section, keys in _LATER.items():
            found = model[section] if section else model
            for key in keys:
                found.pop(key, None)
        data = config.data.model_dump(mode="json", exclude={"folder"})
        exp = config.exp
        identity: dict[str, Any] = {
            "model": model,
            "data": data,
            "tables": fingerprint,
            "seed": exp.train.seed,
            "precision": exp.precision,
        }
        if config.model.model_dump()["content"]["checkpoint"] == "valid":
            chosen = config.model.model_dump(mode="json")
            identity |= {
                "scoring": chosen["recommendation"],
                "metric": exp.train.metric,
                "evaluate": exp.evaluate.model_dump(mode="json"),
                "valid_users": chosen["stages"]["valid_users"],
            }
        name = sha256_of_text(json.dumps(identity, sort_keys=True))[:ID_LENGTH]
        self._path = exp.runs_folder / config.data.name / _FOLDER / f"{name}.json"

    def find(self) -> Path | None:
        """The checkpoint of another run's pretraining; None where there is none (any more)."""
        if not self._path.is_file():
            return None
        path = Path(json.loads(self._path.read_text(encoding="utf-8"))["checkpoint"])
        return path if has_checkpoint(path) else None

    def leave(self, checkpoint: Path) -> None:
        """Tell other runs of a finished pretraining, unless they know of one."""
        if self.find() is None:
            write_json(self._path, {"checkpoint": str(checkpoint)})

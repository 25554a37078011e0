"""A run whose last process is killed: ``python -m tests.training.killed CONFIG.json STEP``."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from legos.config.schema import RunConfig
from legos.modes.main import run
from legos.training import trainer
from legos.training.recipe import Recipe

take_step = trainer.take_step


def killing(recipe: Recipe, *arguments: Any) -> Any:
    """A step, before which the last process may be killed."""
    is_last = int(os.environ.get("RANK", "0")) == recipe.replicas.accelerator.num_processes - 1
    if is_last and recipe.progress.step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return take_step(recipe, *arguments)


def main() -> None:
    trainer.take_step = killing
    run(RunConfig.model_validate(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()

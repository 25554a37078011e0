"""A trained CLLM4Rec from its run folder, for serving one user at a time and for its vectors."""

from __future__ import annotations

from pathlib import Path

from legos.config.saved import read_description
from legos.data.tables import Tables
from legos.errors import DataError
from legos.systems.cllm4rec.evaluate import UserSession
from legos.systems.cllm4rec.system import Cllm4RecSystem
from legos.training.recipe import BEST
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace


def open_trained(folder: Path, *, device: str = "auto") -> Cllm4RecSystem:
    """The system of a run with its best weights, in evaluation mode.

    ``system.model.collaborative`` has the vectors of users and items; as files for bricks:
    ``python -m process.cllm4rec_vectors``.

    Args:
        folder: ``runs/<data>/<model>/<run id>``; its tables are where the run found them.
        device: auto, cpu, cuda or cuda:1.

    Raises:
        CheckpointError: there is no trained model in it.
        ConfigError: it is a run of another system.
        DataError: its tables are no longer there.
    """
    config = read_description(folder).config
    accelerator = make_accelerator(
        device=device, precision=config.exp.precision, deterministic=config.exp.deterministic
    )
    tables = Tables.load(config.data.folder)
    system = Cllm4RecSystem(Workplace.open(config, accelerator, tables))
    system.load(folder / "checkpoints" / BEST)
    return system


def session_of(system: Cllm4RecSystem, user: str) -> UserSession:
    """A session with a user's train items read, in the order of prompts at test time.

    Args:
        system: trained.
        user: id as in vocabulary `user_id` of the tables.

    Raises:
        DataError: there is no such user.
        ConfigError: the language model is an encoder-decoder, which keeps no prefix.
    """
    names = system.place.tables.vocabulary("user_id")
    if user not in names:
        raise DataError(
            f"user {user!r} is none of the {len(names):,} of {system.place.tables.folder}; a new "
            "user has no token before the model is trained again"
        )
    number = names.index(user)
    items = system.items
    own = items.row(number)
    return UserSession(system.model, system.assembled.templates, number, own)

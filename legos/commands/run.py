"""``legos run`` (also ``python worker.py``): one run from its YAMLs and overrides.

The modes are in ``legos/modes/``. Slow imports are local, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from legos.errors import ConfigError, run_command
from legos.terminal import printable

if TYPE_CHECKING:
    from legos.config.schema import RunConfig
    from legos.data.tables import Tables

_INTERRUPTED = "interrupted; progress is saved, rerun the same command to resume"
_LOADING = "loading ..."
_OF_CACHES = ("list", "verify", "prune")


@dataclass(frozen=True)
class Errand:
    """Options of the command itself, apart from YAMLs and overrides.

    Attributes:
        rest: the words that choose and override YAMLs.
        help: print the help text.
        families: families to list; None: do not list.
        plugins: modules to import before listing; otherwise they are part of ``rest``.
        check: show what would run.
        save: write the whole configuration to this file.
        processes: with check, show memory for this many processes.
        impressions: folder of new raw impressions.
        news: their news file, if it is not in that folder.
        cache: action on hidden-state caches: list, verify or prune.
        verbose: also print metrics by groups of items and users.
    """

    rest: list[str]
    help: bool = False
    families: list[str] | None = None
    plugins: Sequence[str] = ()
    check: bool = False
    save: Path | None = None
    processes: int | None = None
    impressions: Path | None = None
    news: Path | None = None
    cache: str | None = None
    verbose: bool = False


class _Parser(argparse.ArgumentParser):
    """The worker's own options; all others are left to ``legos.config``."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        for flag in ("help", "check", "verify", "prune", "verbose"):
            self.add_argument(f"--{flag}", action="store_true")
        self.add_argument("--list", nargs="*")
        for given_back in ("--plugin", "--load"):
            self.add_argument(given_back, action="append", default=[])
        for path in ("save", "impressions", "news"):
            self.add_argument(f"--{path}", type=_path)
        self.add_argument("--processes", type=_processes)

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError for a mistake on the command line."""
        message = message.removeprefix("argument ")
        kinds = {"--processes": "a number", "--plugin": "a module", "--load": "a run"}
        needed = kinds.get(message.split(":")[0], "a path")
        raise ConfigError(message.replace("expected one argument", f"needs {needed}"))


def _processes(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number of processes, such as 8")
    return int(text)


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("needs a path")
    return Path(text)


def main(argv: Sequence[str]) -> int:
    """Run a command line; returns the exit code, see :mod:`legos.errors`."""

    return run_command(lambda words: _do(_read_errand(words)), argv, interrupted=_INTERRUPTED)


def _read_errand(argv: Sequence[str]) -> Errand:
    if not argv or "-h" in argv:
        return Errand([], help=True)
    asked, others = _Parser().parse_known_args(argv)
    if asked.help:
        return Errand([], help=True)
    rest = [*others, *(f"--plugin={name}" for name in asked.plugin)]
    rest += [f"--load={_run_folder(name)}" for name in asked.load]
    has_exp = any(word == "--exp" or word.startswith("--exp=") for word in rest)
    of_caches = [name for name in _OF_CACHES if getattr(asked, name) not in (None, False)]
    if of_caches and (has_exp or of_caches != ["list"]):
        if not has_exp:
            raise ConfigError(f"--{of_caches[0]} needs --exp config/exp/cache.yaml")
        if len(of_caches) > 1 or asked.list:
            given = ", ".join(f"--{name}" for name in of_caches)
            raise ConfigError(f"{given}: give only one of them, without a value")
        return Errand(rest, cache=of_caches[0])
    if asked.list is not None:
        more = asked.check or asked.save or asked.impressions or asked.news or asked.processes
        if len(asked.list) > 1 or others or more:
            raise ConfigError(
                "--list takes at most one family and no other options: worker.py --list model"
            )
        plugins = [name for each in asked.plugin for name in each.split(",")]
        return Errand([], families=asked.list, plugins=plugins)
    if asked.news is not None and asked.impressions is None:
        raise ConfigError("--news needs --impressions FOLDER")
    if asked.processes is not None and not asked.check:
        raise ConfigError("--processes needs --check; `accelerate launch` starts processes")
    return Errand(
        rest,
        check=asked.check,
        save=asked.save,
        processes=asked.processes,
        impressions=asked.impressions,
        news=asked.news,
        verbose=asked.verbose,
    )


def _run_folder(named: str) -> str:
    """The run that ``--load`` names; the path of a checkpoint is returned unchanged."""
    from legos.config.saved import enclosing_run
    from legos.errors import CheckpointError
    from legos.runs.find import find_run

    if named in ("", "null") or enclosing_run(Path(named)) is not None:
        return named
    try:
        return str(find_run(named, trained=True))
    except CheckpointError:
        if Path(named).exists():
            return named
        raise


def _do(errand: Errand) -> None:
    if errand.help:
        from legos.config.help import help_text

        print(help_text())
        return
    if errand.families is not None:
        from legos.config.help import list_families
        from legos.plugins import load_plugin

        for name in errand.plugins:
            load_plugin(name)
        list_families(errand.families)
        return
    if errand.cache is not None:
        _look_after_caches(errand.cache, errand.rest)
        return
    from legos.progress import announced

    with announced(_LOADING):
        perform = _prepare(errand)
    perform()


def _prepare(errand: Errand) -> Callable[[], object]:
    """Read settings and tables and import the modules for them; return what remains to be done.

    Settings are compared with the tables before the modules that a run needs are imported, which
    takes seconds: an error in either is shown at once.
    """
    from legos.config.load import asks_for_vectors, load_run_config

    if asks_for_vectors(errand.rest):
        return _prepare_vectors(errand)
    config = load_run_config(errand.rest, notice=_notice)
    if errand.save is not None:
        return partial(_save, config, errand.save)
    if errand.impressions is not None and config.exp.mode != "test":
        raise ConfigError(
            f"--impressions: exp.mode is {config.exp.mode!r}; new impressions need mode test "
            "(--exp config/exp/test.yaml, or add --exp.mode test to the command of the training)"
        )
    from legos.config.refusals import check_tables
    from legos.data.tables import Tables

    if errand.check:
        if config.data.folder.exists():
            check_tables(config, Tables.load(config.data.folder).manifest)
        from legos.modes.check import check

        return partial(check, config, words=errand.rest, processes=errand.processes)
    tables = Tables.load(config.data.folder)
    check_tables(config, tables.manifest)
    if config.exp.mode == "recommend":
        return partial(_recommend, config, tables)
    from legos.modes.main import run

    return partial(_run, run, config, errand)


def _save(config: RunConfig, path: Path) -> None:
    from legos.config.load import save_configuration

    save_configuration(config, path)
    print(f"{path}: configuration written; --config {path} runs it")


def _run(run: Callable[..., object], config: RunConfig, errand: Errand) -> None:
    """Run ``exp.mode``, on new impressions if some are given."""
    from legos.workplace.device import models_of, naming_memory_settings

    impressions = None
    if errand.impressions is not None:
        impressions = _read_impressions(config, errand.impressions, errand.news)
    with naming_memory_settings(config.exp, models_of(config)):
        run(config, impressions, words=errand.rest, verbose=errand.verbose)


def _recommend(config: RunConfig, tables: Tables) -> None:
    """Mode recommend: a list for every user."""
    from legos.recommend.everyone import describe_lists
    from legos.recommend.open import open_run
    from legos.runs.folder import checkpoint_of, run_folder
    from legos.workplace.device import joined_processes

    found = run_folder(config, tables)
    checkpoint_of(config, found)  # says how to train it where it is not there
    trained = open_run(
        config.exp.load or found.path, data=config.data.folder, device=config.exp.device
    )
    own = config.exp.recommend
    output = own.output or trained.folder / "recommendations.parquet"
    with joined_processes(trained.accelerator):
        trained.recommend_all(own.k, output)
        if trained.sharing.is_first:
            print(describe_lists(output))


def _prepare_vectors(errand: Errand) -> Callable[[], object]:
    """Read the settings of mode embed, which needs no model YAML and not always a data YAML."""
    from legos.config.load import load_embed_job

    if errand.impressions is not None:
        raise ConfigError("--impressions: exp.mode is 'embed'; new impressions need mode test")
    if errand.save is not None:
        raise ConfigError("--save: exp.mode is 'embed', which cannot be saved")
    job = load_embed_job(errand.rest, notice=_notice)
    from legos.modes.embed import check_embed, run_embed
    from legos.workplace.device import naming_memory_settings

    def perform() -> None:
        with naming_memory_settings(job.exp):
            if errand.check:
                check_embed(job)
            else:
                run_embed(job)

    return perform


def _look_after_caches(errand: str, rest: list[str]) -> None:
    from legos.config.load import load_exp_config

    exp = load_exp_config(rest, notice=_notice)
    if exp.mode != "cache":
        raise ConfigError(
            f"--{errand}: exp.mode is {exp.mode!r}; expected cache (--exp config/exp/cache.yaml)"
        )
    from legos.lm.cache_files import list_caches, prune_caches, verify_caches

    if errand == "list":
        list_caches(exp.cache.folder)
    elif errand == "verify":
        verify_caches(exp.cache.folder)
    else:
        prune_caches(exp.cache.folder, exp.cache.keep_days)


def _read_impressions(config: RunConfig, folder: Path, news: Path | None) -> Path:
    """Turn new raw impressions into tables with the vocabularies of the run's own tables."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("--impressions: new impressions can only be scored in one process")
    from legos.files import sha256_of_file, sha256_of_text
    from process.mind import read_mind_impressions
    from process.tables import new_impressions_tables

    raw = read_mind_impressions(folder, config.data.folder, news=news)
    content = " ".join(sha256_of_file(path) for path in raw.sources)
    name = sha256_of_text(f"{config.data.folder.resolve()} {content}")[:12]
    tables = config.exp.runs_folder / config.data.name / "impressions" / name
    new_impressions_tables(config.data.folder, raw, tables)
    return tables


def _notice(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(f"notice: {printable(text)}", file=sys.stderr)

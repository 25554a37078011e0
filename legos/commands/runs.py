"""``legos runs``: list, show, compare and remove past runs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from legos.command_line import CommandParser
from legos.config.yaml_files import FAMILIES, shown
from legos.errors import ConfigError, nearest, run_command
from legos.metrics.names import larger_is_better
from legos.plugins import PREFIX
from legos.runs.find import all_runs, find_run, newest_first, runs_below
from legos.runs.past import PastRun, remove_whole
from legos.terminal import shown_bytes

_DESCRIPTION = """\
List, show, compare and remove past runs in runs/ of the working directory and of LEGOS_HOME.

A RUN is a run folder, the first digits of a run id, or a folder of runs: `runs/shop` and
`shop/naml` mean their newest run.
"""
_EXAMPLES = """\
examples:
  legos runs list --data shop --sort GAUC
  legos runs show 0123
  legos runs compare shop/naml shop/nrms --output comparison.md
  legos runs rm 0123 4567
  legos runs prune --days 7 --dry-run
"""
_SHOWN = ("GAUC", "AUC", "MRR", "nDCG@10", "Recall@10", "HR@10", "RMSE")
_COLUMNS = 3  # metrics of a list
_ORDERS = ("age", "size")
_DAY = 86400


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``legos runs``."""
    parser = CommandParser("legos runs", description=_DESCRIPTION, epilog=_EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    example = "legos runs list --model naml"
    listing = _add(commands, "list", "list runs, newest first", example)
    _add_filters(listing)
    listing.add_argument(
        "--sort", metavar="METRIC", default="age",
        help="a metric of the first test split (such as GAUC), age or size",
    )  # fmt: skip
    _add_json(listing)
    show = _add(
        commands, "show", "show settings and metrics of a run", "legos runs show runs/shop/naml"
    )
    show.add_argument("run", metavar="RUN")
    _add_json(show)
    compare = _add(
        commands, "compare", "compare several runs in a table with significance tests",
        "legos runs compare shop/naml shop/nrms --output comparison.md",
    )  # fmt: skip
    _add_compare(compare)
    remove = _add(commands, "rm", "remove runs", "legos runs rm 0123 runs/shop/nrms/456789abcdef")
    remove.add_argument("runs", metavar="RUN", nargs="+")
    _add_consent(remove)
    prune = _add(
        commands, "prune",
        "remove old unfinished runs, and last checkpoints of finished runs",
        "legos runs prune --days 7 --dry-run",
    )  # fmt: skip
    _add_filters(prune)
    prune.add_argument(
        "--days", type=_days, default=30.0, metavar="N",
        help="remove unfinished runs not written to for N days (default: %(default)g)",
    )  # fmt: skip
    prune.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    _add_consent(prune)
    return parser


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print finished runs in one table. Each is tested against the first by a paired t-test\n"
        "over the impressions (or users) of the test split, Holm-corrected over the rows:\n"
        "* p < .05, ** p < .01, *** p < .001. Runs tested on different impressions are refused."
    )
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", help="two or more runs; the first is the reference")
    add("--split", metavar="NAME", help="a test split (default: all shared splits)")
    add("--output", type=Path, metavar="FILE", help="also write .md, .csv or .json (p-values)")


def _add(commands: Any, name: str, about: str, example: str) -> argparse.ArgumentParser:
    text = f"{about[0].upper()}{about[1:]}."
    found: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=text, epilog=f"example:\n  {example}"
    )
    return found


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="NAME", help="only runs on this data set")
    parser.add_argument("--model", metavar="NAME", help="only runs of this model")
    parser.add_argument(
        "--runs", type=Path, metavar="FOLDER",
        help="folder of runs (default: runs/), as set by exp.runs_folder",
    )  # fmt: skip


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_consent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number of days, such as 7")
    return days


def main(words: Sequence[str]) -> int:
    """Run a command line; returns the exit code."""
    return run_command(_do, words, interrupted="interrupted")


def _do(words: Sequence[str]) -> None:
    args = build_parser().parse_args(words)
    commands = {
        "list": _list, "show": _show, "compare": _compare, "rm": _remove, "prune": _prune,
    }  # fmt: skip
    commands[args.command](args)


def _chosen(args: argparse.Namespace) -> list[PastRun]:
    """The runs that the filters leave, newest first.

    Raises:
        ConfigError: there is no run of that name; the message says of which there are.
    """
    if args.runs is not None and not args.runs.is_dir():
        raise ConfigError(f"--runs {args.runs}: no such folder")
    folders = all_runs() if args.runs is None else newest_first(runs_below(args.runs))
    found = [PastRun(folder) for folder in folders]
    for option in ("data", "model"):
        wanted = getattr(args, option)
        if wanted is None:
            continue
        known = {getattr(run, option) for run in found}
        if wanted not in known:
            hint = nearest(wanted, known) if known else "there are no runs"
            raise ConfigError(f"--{option} {wanted}: no run of that name; {hint}")
        found = [run for run in found if getattr(run, option) == wanted]
    return found


def _list(args: argparse.Namespace) -> None:
    runs = _sorted(_chosen(args), args.sort)
    if args.json:
        print(json.dumps([run.summary() for run in runs], indent=2, ensure_ascii=False))
        return
    if not runs:
        print("no runs yet; `legos run --help` says how to start one")
        return
    known = {name for run in runs for name in _first_metrics(run)}
    wanted = [args.sort] if args.sort not in _ORDERS else []
    usual = [name for name in _SHOWN if name in known]
    metrics = [*dict.fromkeys([*wanted, *usual, *sorted(known)])][:_COLUMNS]
    rows = [
        [
            *(run.id, run.data, run.model, "" if run.seed is None else str(run.seed)),
            *(_number(_first_metrics(run).get(name)) for name in metrics),
            " ".join(f"{name} {value:.4f}" for name, value in run.validation.items()),
            *(_state(run), age(run.changed), shown_bytes(run.size)),
        ]
        for run in runs
    ]
    columns = ["run", "data", "model", "seed", *metrics, "valid", "state", "age", "size"]
    _print_columns([columns, *rows])
    print(f"{_counted(len(runs), 'run')}, {shown_bytes(sum(run.size for run in runs))}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _sorted(runs: list[PastRun], order: str) -> list[PastRun]:
    """Runs, the best first; those without that metric last.

    Raises:
        ConfigError: no run has that metric.
    """
    if order == "age":
        return runs
    if order == "size":
        return sorted(runs, key=lambda run: run.size, reverse=True)
    known = {name for run in runs for name in _first_metrics(run)}
    if runs and order not in known:
        raise ConfigError(
            f"--sort {order}: no run has this metric; {nearest(order, {*known, *_ORDERS})}"
        )
    sign = 1 if runs and larger_is_better(order) is False else -1
    worst = float("inf")
    values = {run: _first_metrics(run).get(order) for run in runs}
    return sorted(
        runs, key=lambda run: worst if values[run] is None else sign * (values[run] or 0.0)
    )


def _first_metrics(run: PastRun) -> dict[str, float]:
    """Return the metrics of the first test split."""
    return next(iter(run.metrics.values()), {})


def _state(run: PastRun) -> str:
    if run.process:
        return f"running ({run.process})"
    if run.passes is not None and run.passes < 1:
        return f"{run.state}, {run.passes:.2f} passes"
    return run.state


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def age(changed: float) -> str:
    """``3 min``, ``5 h``, ``12 d`` since then."""
    seconds = max(0.0, time.time() - changed)
    for unit, size in (("d", _DAY), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _show(args: argparse.Namespace) -> None:
    run = PastRun(find_run(args.run))
    if args.json:
        said = {**run.summary(), "config": run.config, "results": run.results}
        print(json.dumps(said, indent=2, ensure_ascii=False))
        return
    print(f"{shown(run.folder)}: {_state(run)}, {age(run.changed)} old, {shown_bytes(run.size)}\n")
    _print_columns([[f"  {key}", value] for key, value in _highlights(run)])
    if run.metrics:
        from legos.progress import PlainConsole
        from legos.reports.tables import show_run  # imports torch

        print()
        show_run(PlainConsole(), run.results)
    if (run.folder / "report.html").is_file():
        print(f"report: {shown(run.folder / 'report.html')}")
    if run.state in _GOES_ON:
        print(_GOES_ON[run.state].format(shown(run.folder)))


_GOES_ON = {
    "interrupted": "rerun the command that started it to resume",
    "trained": "legos run --load {} tests it",
    "pruned": "stopped early by a search; legos run with its settings finishes the training",
}


def _highlights(run: PastRun) -> Iterable[tuple[str, str]]:
    """Yield the settings and results that identify a run."""
    config, results = run.config, run.results
    data, model, exp = (config.get(kind, {}) for kind in ("data", "model", "exp"))
    fields = ", ".join(str(field.get("column")) for field in data.get("fields", ()))
    yield "data", f"{data.get('name')} ({data.get('folder')}), {fields or 'no fields'}"
    bricks = [model[family]["name"] for family in FAMILIES if family in model]
    yield "model", f"{model.get('name')}: {' · '.join(bricks) or model.get('system')}"
    sources = config.get("sources", {})
    plugged = [key.removeprefix(PREFIX) for key in sources if key.startswith(PREFIX)]
    if plugged:
        yield "plug-ins", ", ".join(plugged)
    yield "token vectors", str(config.get("embed", {}).get("name"))
    train = exp.get("train", {})
    keys = ("loss", "lr", "batch_size", "epochs", "seed")
    told = [f"{key} {train[key]}" for key in keys if train.get(key) is not None]
    yield "training", ", ".join([*told, str(exp.get("precision"))])
    trained = results.get("training", {})
    if trained.get("best") is not None:
        best = f"valid {trained['metric']} {trained['best']:.4f}"
        yield "best epoch", f"{trained['best_epoch']}: {best}"
    if results.get("parameters"):
        yield "parameters", f"{results['parameters']:,}"


def _compare(args: argparse.Namespace) -> None:
    from legos.commands.compare_runs import compare_runs  # imports torch

    compare_runs(args.runs, split=args.split, output=args.output)


def _remove(args: argparse.Namespace) -> None:
    runs = [PastRun(folder) for folder in dict.fromkeys(map(find_run, args.runs))]
    for run in runs:
        with run.claimed():  # before the first of them goes
            pass
    lines = [f"  {shown(run.folder)}  {run.state}, {shown_bytes(run.size)}" for run in runs]
    size = shown_bytes(sum(run.size for run in runs))
    if _agreed("\n".join(lines), f"remove {_counted(len(runs), 'run')} ({size})", args):
        for run in runs:
            run.remove()
        print(f"removed {_counted(len(runs), 'run')}, {size} freed")


def _prune(args: argparse.Namespace) -> None:
    runs = [run for run in _chosen(args) if run.process is None]
    oldest = time.time() - args.days * _DAY
    unfinished = [
        run for run in runs if run.state in ("interrupted", "pruned") and run.changed < oldest
    ]
    finished = [
        run for run in runs if run.state in ("finished", "trained") and run.last_checkpoint.is_dir()
    ]
    lines = [
        f"  {shown(run.folder)}  unfinished, {age(run.changed)} old, {shown_bytes(run.size)}"
        for run in unfinished
    ]
    sizes = {run: _size_below(run, run.last_checkpoint) for run in finished}
    lines += [
        f"  {shown(run.last_checkpoint)}  of a finished run, {shown_bytes(size)}"
        for run, size in sizes.items()
    ]
    size = shown_bytes(sum(run.size for run in unfinished) + sum(sizes.values()))
    if not lines:
        print(
            f"nothing to remove: no last checkpoints or unfinished runs over {args.days:g} days old"
        )
        return
    what = f"{_counted(len(unfinished), 'unfinished run')} and "
    what += f"{_counted(len(finished), 'last checkpoint')} ({size})"
    if args.dry_run:
        print("\n".join([*lines, f"would free {size}: {what}"]))
    elif _agreed("\n".join(lines), f"remove {what}", args):
        for run in unfinished:
            run.remove()
        for run in finished:
            with run.claimed():
                remove_whole(run.last_checkpoint)
        print(f"freed {size}")


def _size_below(run: PastRun, folder: Path) -> int:
    return sum(each.st_size for path, each in run.files.items() if path.is_relative_to(folder))


def _agreed(lines: str, what: str, args: argparse.Namespace) -> bool:
    """Whether the user confirms, by --yes or an answer on the terminal.

    Raises:
        ConfigError: standard input is not a terminal.
    """
    print(lines)
    if args.yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError(f"{what}? this needs confirmation; give --yes")
    sys.stdout.flush()
    print(f"{what}? [y/N] ", end="", file=sys.stderr, flush=True)
    agreed = sys.stdin.readline().strip().lower() in ("y", "yes")
    if not agreed:
        print("nothing was removed")
    return agreed

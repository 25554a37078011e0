"""What ``run`` and ``ask`` of ``python -m process.genre`` do, and how they end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from legos.errors import EXIT_INTERRUPTED
from legos.progress import PlainConsole, progress_bar
from process.genre.arguments import (
    check_endpoint,
    endpoint_of,
    read_budget,
    read_requests,
    refuse_unknown_keys,
)
from process.genre.histories import LEAKY, MEANING
from process.genre.prices import Price
from process.genre.run import INTERRUPTED
from process.genre.showing import two_columns
from process.genre.store import Store
from process.genre.types import Answer, AnswerStore, Rejected, Request, Summary

EXIT_NOTHING, EXIT_PART = 1, 3


class Again:
    """A store whose answers are asked again: a new one takes the place of the old one.

    Satisfies ``process.genre.types.AnswerStore``.

    Args:
        store: open.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __contains__(self, request_hash: object) -> bool:
        return False

    @property
    def final_hashes(self) -> set[str]:
        """None: what was refused is asked again, too."""
        return set()

    def add(self, answers: Iterable[Answer]) -> None:
        """Put answers in the place of older ones, and print them."""
        new = list(answers)
        self._store.replace(new)
        for answer in new:
            print(f"{answer['key']}: {json.dumps(answer['answer'], ensure_ascii=False)}")

    def reject(self, rejected: Iterable[Rejected]) -> None:
        """Append to the quarantine; the older answer stays."""
        self._store.reject(rejected)


def run(args: argparse.Namespace) -> int:
    """Ask what has no answer yet; returns the exit code.

    Raises:
        LegosError: of the arguments, the tables or the store.
    """
    return _ask(args, again=False)


def ask_again(args: argparse.Namespace) -> int:
    """Ask of some keys again, whether they have an answer or not; returns the exit code.

    Raises:
        LegosError: of the arguments, the tables or the store, or of keys nobody knows.
    """
    return _ask(args, again=True)


def exit_code(summary: Summary) -> int:
    """How a run ended.

    Returns:
        0 where everything has its answer, or a limit that was set ended the run; 130 after Ctrl-C;
        1 where nothing was answered; 3 where only a part was, or the endpoint failed.
    """
    if summary.stopped == INTERRUPTED:
        return EXIT_INTERRUPTED
    missing = summary.quarantined + summary.failed + summary.refused
    if summary.asked + summary.refused and not summary.answered:
        return EXIT_PART if summary.already and not summary.asked else EXIT_NOTHING
    return EXIT_PART if missing or summary.gave_up else 0


def _ask(args: argparse.Namespace, *, again: bool) -> int:
    from process.genre.client import Client
    from process.genre.embedded import EmbeddedServer
    from process.genre.run import run as ask
    from process.genre.shown import facts, finished

    check_endpoint(args)
    budget, price = read_budget(args)
    if args.base_url is not None:
        endpoint_of(args, args.base_url).key()
    scheme, requests = read_requests(args)
    asked: list[Request] = list(requests)
    if again:
        refuse_unknown_keys(args.key, [one.key for one in asked], "these arguments ask")
    if args.history == LEAKY and scheme.about == "user":
        print(f"history {LEAKY}: {MEANING[LEAKY]}")
    with ExitStack() as stack:
        opened = stack.enter_context(Store.open(args.store, scheme.name))
        store: AnswerStore = Again(opened) if again else opened
        base_url = args.base_url
        if base_url is None:
            server = stack.enter_context(EmbeddedServer(args.model, slots=args.slots))
            base_url = server.base_url
        cost = price.cost if price else Price(0, 0).cost
        client = Client(endpoint_of(args, base_url), budget, cost)
        bar = stack.enter_context(progress_bar(scheme.name, len(asked)))

        def show(state: Summary) -> None:
            bar.move(finished(state), facts(state))

        summary = ask(asked, client, store, repairs=args.repairs, on_progress=show)
    _print_run(summary, client.notes)
    return exit_code(summary)


def _print_run(summary: Summary, notes: Sequence[str]) -> None:
    rate = summary.answered / summary.seconds if summary.seconds else 0.0
    table = two_columns("run")
    for name in ("requests", "already", "refused", "answered", "quarantined", "failed"):
        table.add_row(name, f"{getattr(summary, name):,}")
    table.add_row("prompt tokens", f"{summary.usage.prompt_tokens:,}")
    table.add_row("completion tokens", f"{summary.usage.completion_tokens:,}")
    table.add_row("cost (US dollars)", f"{summary.cost:,.4f}")
    table.add_row("seconds", f"{summary.seconds:,.1f} ({rate:.2f} answers a second)")
    PlainConsole().print(table)
    for note in notes:
        print(f"note: {note}")
    if summary.refused:
        print("refused in an earlier run; `ask --key KEY` requests an answer again")
    if summary.stopped:
        print(f"stopped early: {summary.stopped}; rerun the command to resume")
    code = exit_code(summary)
    if code in (EXIT_NOTHING, EXIT_PART):
        what = "nothing was answered" if code == EXIT_NOTHING else "only a part was answered"
        reason = summary.first_reason or "all were refused in an earlier run"
        print(f"error: {what}; first reason: {reason}", file=sys.stderr)

"""What the commands of ``python -m process.genre`` do that ask no model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence

from rich.table import Table

from legos.data.tables import Tables
from legos.errors import ConfigError, DataError
from legos.progress import PlainConsole
from process.genre.arguments import read_requests, read_tables, refuse_unknown_keys
from process.genre.asking import ask_again, run
from process.genre.export import (
    add_item_text,
    choose_all,
    choose_answers,
    kinds_of,
    refuse_several_kinds,
    write_picks,
    write_profiles,
)
from process.genre.histories import MEANING
from process.genre.importers import PUBLISHED, answers_of, read_log, read_user_ids
from process.genre.leak import LeakCheck, Overlap, texts_of_users
from process.genre.prices import Price, price_of
from process.genre.requests import Requests, Selection, is_of
from process.genre.scheme import load_scheme
from process.genre.showing import plain_table, two_columns
from process.genre.store import Store
from process.genre.synthetic_items import add_synthetic_items
from process.genre.types import Answer, Request, Sampling, Usage
from process.raw import TokenizerSpec
from process.tokenization import make_tokenizer

LETTERS_A_TOKEN = 4  # of English, for the common vocabularies
TOKENS_A_MESSAGE = 4  # what a chat template adds
ESTIMATED_ANSWER = 0.5  # of max_tokens; the most is shown beside it


def plan(args: argparse.Namespace) -> None:
    """Print how many requests, tokens and how much money a run would take."""
    scheme, requests = read_requests(args)
    store = Store.read(args.store, scheme.name)
    asked = list(requests)
    final = store.final_hashes
    refused = sum(request.hash in final for request in asked)
    left = [one for one in asked if one.hash not in store and one.hash not in final]
    prompt = _count_tokens(left, args.tokenizer)
    most = sum(request.max_tokens for request in left)
    price = price_of(args.model, args.price)
    table = two_columns(f"{scheme.name}, version {scheme.version}")
    table.add_row("requests", f"{len(asked):,}")
    table.add_row("answered already", f"{len(asked) - len(left) - refused:,}")
    table.add_row("refused for good", f"{refused:,}")
    table.add_row("to be sent", f"{len(left):,}")
    how = f"by {args.tokenizer}" if args.tokenizer else f"estimated, {LETTERS_A_TOKEN} letters each"
    table.add_row(f"prompt tokens ({how})", f"{prompt:,}")
    table.add_row("completion tokens (half of the maximum)", f"{round(most * ESTIMATED_ANSWER):,}")
    table.add_row("completion tokens at most", f"{most:,}")
    table.add_row(
        "cost (US dollars)", _cost(price, Usage(prompt, round(most * ESTIMATED_ANSWER)), args.model)
    )
    table.add_row("cost at most", _cost(price, Usage(prompt, most), args.model))
    for reason, count in (+requests.left_out).items():
        table.add_row(f"left out: {reason}", f"{count:,}")
    PlainConsole().print(table)
    if scheme.about == "user":
        print(f"history {args.history}: {MEANING[args.history]}")
    if args.show and left:
        for message in left[0].messages:
            print(f"--- {message['role']}\n{message['content']}")


def status(args: argparse.Namespace) -> None:
    """Print what the store has of the requests: answered, quarantined, left."""
    scheme, requests = read_requests(args)
    store = Store.read(args.store, scheme.name)
    hashes = {request.hash for request in requests}
    answered = sum(one in store for one in hashes)
    quarantined = len(hashes & store.refused_hashes)
    counts = store.counts()
    table = two_columns(str(store.path))
    table.add_row("requests", f"{len(hashes):,}")
    table.add_row("answered", f"{answered:,}")
    table.add_row("quarantined, not answered", f"{quarantined:,}")
    table.add_row("  of these refused for good", f"{len(hashes & store.final_hashes):,}")
    table.add_row("not sent yet", f"{len(hashes) - answered - quarantined:,}")
    table.add_row("other answers in the store", f"{len(store) - answered:,}")
    table.add_row("repaired while reading", f"{counts.notes:,}")
    table.add_row("prompt tokens paid", f"{counts.usage.prompt_tokens:,}")
    table.add_row("completion tokens paid", f"{counts.usage.completion_tokens:,}")
    table.add_row(
        "cost (US dollars)", _cost(price_of(args.model, args.price), counts.usage, args.model)
    )
    table.add_row("model seconds", f"{counts.seconds:,.1f}")
    PlainConsole().print(table)
    reasons: dict[str, int] = {}
    for entry in store.quarantine():
        reasons[entry["reason"][:80]] = reasons.get(entry["reason"][:80], 0) + 1
    for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1])[:10]:
        print(f"  {count:,} × {reason}")


def drop(args: argparse.Namespace) -> None:
    """Take answers out of the store, by their keys.

    Raises:
        LegosError: of the arguments or the store, or of keys without an answer.
    """
    scheme = load_scheme(args.scheme)
    with Store.open(args.store, scheme.name) as store:
        chosen = choose_all(store, source=args.source, model=args.model, version=args.version)
        refuse_unknown_keys(args.key, [answer["key"] for answer in chosen], f"{store.path} holds")
        dropped = [a for a in chosen if any(is_of(a["key"], key) for key in args.key)]
        refuse_several_kinds(store, dropped)
        store.drop(answer["hash"] for answer in dropped)
    for answer in dropped:
        print(f"dropped {answer['key']}: {json.dumps(answer['answer'], ensure_ascii=False)}")
    print("the next run requests them again; their cost still counts")


def export(args: argparse.Namespace) -> None:
    """Write answers as tables or as a file of profiles, by the scheme's task.

    Raises:
        LegosError: of the arguments, the tables or the store.
    """
    scheme = load_scheme(args.scheme)
    store = Store.read(args.store, scheme.name)
    answers = choose_answers(
        store, source=args.source, model=args.model or None, version=args.version
    )
    if args.keys_of is not None:
        answers = _shared(answers, Store.read(args.keys_of, scheme.name))
    if scheme.task == "profile":
        rename = dict(_pair(text) for text in args.field or ())
        print(f"{args.output}: {write_profiles(answers, args.output, rename):,} profiles")
    elif scheme.task == "compressor":
        history = next(iter(answers.values()))["source"]
        requests = Requests(scheme, read_tables(args), Sampling(""), Selection(history))
        print(f"{args.output}: {write_picks(answers, requests, args.output):,} histories")
    elif scheme.task == "generator":
        add_synthetic_items(
            read_tables(args).folder,
            answers,
            args.output,
            sources=[store.path],
            column=args.column or scheme.name,
            rename=dict(_pair(text) for text in args.field or ()),
            force=args.force,
        )
    else:
        name = next(iter(scheme.answer["properties"]))
        add_item_text(
            read_tables(args).folder,
            {key: str(answer["answer"][name]) for key, answer in answers.items()},
            args.output,
            field=(args.field or [name])[0],
            fallback=args.fallback,
            sources=[store.path],
            force=args.force,
        )


def _shared(answers: dict[str, Answer], other: Store) -> dict[str, Answer]:
    """The answers whose items or users, and rounds, another store has answers of, too."""
    keys = {answer["key"] for answer in other.answers()}
    found = {key: answer for key, answer in answers.items() if key in keys}
    if not found:
        raise DataError(f"--keys-of: {other.path} has no answers for any of these")
    return found


def import_logs(args: argparse.Namespace) -> None:
    """Put published logs into the store; a generator's logs are its rounds, in order.

    Raises:
        LegosError: of the arguments, the logs or the store.
    """
    scheme = load_scheme(args.scheme)
    users = read_user_ids(args.user_ids) if args.user_ids else None
    if len(args.log) > 1 and scheme.task != "generator":
        raise ConfigError(f"--log: one for {scheme.name}; only a generator has several rounds")
    logs = [read_log(path, scheme, users) for path in args.log]
    with Store.open(args.store, scheme.name) as store:
        for number, log in enumerate(logs, start=1):
            new = [a for a in answers_of(log, scheme, number=number) if a["hash"] not in store]
            store.add(new)
            print(log.describe())
            print(f"  {len(new):,} new in {store.path}, as source {PUBLISHED}")


def leaks(args: argparse.Namespace) -> None:
    """Print how much of the held-out items answers about users tell.

    Raises:
        LegosError: of the arguments, the tables or the stores.
    """
    check = LeakCheck(Tables.load(args.data), split=args.split, seed=args.seed)
    rows: list[Overlap] = []
    for name in args.scheme:
        scheme = load_scheme(name)
        if scheme.about != "user" or scheme.task == "compressor":
            raise ConfigError(f"--scheme {name}: writes nothing about users, so nothing can leak")
        for store in (Store.read(folder, scheme.name) for folder in args.store):
            for kind, answers in kinds_of(store, args.source, args.model, args.version).items():
                source, model, version = kind
                label = f"{scheme.name}, {source}, {model}, v{version}"
                rows.append(check.compare(label, texts_of_users(answers)))
    if not rows:
        stores = [Store.read(folder, name) for folder in args.store for name in args.scheme]
        known = dict.fromkeys(answer["model"] for store in stores for answer in store.answers())
        wanted = f" by {args.model}" if args.model else ""
        raise DataError(
            f"{', '.join(map(str, args.store))}: no answers of {', '.join(args.scheme)}{wanted}"
            f"; there are answers by {', '.join(known) or 'no model'}"
        )
    PlainConsole(width=max(PlainConsole().width, 130)).print(_leak_table(rows, args.split))
    print(
        "words: mean of distinct words; with a word: share of users; in ...: mean fraction of the "
        "words\nrecovered: 0 = as in a random item, 1 = as in a click that was read; a user's "
        "taste alone gives more than 0"
    )


def _leak_table(rows: Sequence[Overlap], split: str) -> Table:
    headings = ("users", "words", "with a word held out", "random", "in held out", "random", "seen",
                "held out - random [95 %]", "recovered")  # fmt: skip
    table = plain_table(f"words of answers in the items held out of {split}", "answers", *headings)
    for row in rows:
        table.add_row(
            row.name,
            f"{row.users:,}",
            f"{row.words:.1f}",
            f"{row.any_held_out:.1%}",
            f"{row.any_random:.1%}",
            f"{row.held_out:.4f}",
            f"{row.random:.4f}",
            f"{row.seen:.4f}",
            f"{row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]",
            f"{row.recovered:.2f}",
        )
    return table


def _pair(text: str) -> tuple[str, str]:
    name, equals, field = text.partition("=")
    if not (name and equals and field):
        raise ConfigError(
            f"--field {text}: expected ANSWER=FIELD, for example description=abstract"
        )
    return name, field


def _count_tokens(requests: Sequence[Request], source: str | None) -> int:
    texts = [message["content"] for request in requests for message in request.messages]
    if source is None:
        tokens = sum(-(-len(text) // LETTERS_A_TOKEN) for text in texts)
    else:
        made = make_tokenizer(TokenizerSpec("plan", source), ())
        tokens = int(made.encode(texts, "prompts").lengths.sum()) if texts else 0
    return tokens + TOKENS_A_MESSAGE * len(texts)


def _cost(price: Price | None, usage: Usage, model: str) -> str:
    if price is None:
        return f"unknown: prices.yaml has no {model!r}; give --price PROMPT,COMPLETION"
    return f"{price.cost(usage):,.4f}"


COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "plan": plan,
    "run": run,
    "ask": ask_again,
    "drop": drop,
    "status": status,
    "export": export,
    "import": import_logs,
    "leaks": leaks,
}

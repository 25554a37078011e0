"""What the arguments of ``python -m process.genre`` say; impossible numbers are refused here."""

from __future__ import annotations

import argparse
import math
from difflib import get_close_matches

from legos.data.tables import Tables
from legos.errors import ConfigError, DataError
from process.genre.endpoint import Endpoint
from process.genre.limits import Budget
from process.genre.prices import Price, price_of
from process.genre.requests import Requests, Selection, is_of
from process.genre.scheme import Scheme, load_scheme
from process.genre.store import Store
from process.genre.types import Sampling

_LARGEST_SEED = 2**31 - 1  # what every server takes
_MOST_AT_ONCE = 1024
_MOST_ANSWER_TOKENS = 1_000_000


def read_requests(args: argparse.Namespace) -> tuple[Scheme, Requests]:
    """The scheme and the requests that the arguments ask for.

    Raises:
        LegosError: of the arguments, the scheme, the tables or the store.
    """
    scheme = load_scheme(args.scheme)
    for name in ("users", "items"):
        if getattr(args, name) is not None and scheme.about != name.removesuffix("s"):
            raise ConfigError(f"--{name}: {scheme.name} is about {scheme.about}s")
        refuse_outside(args, name, 1)
    refuse_outside(args, "cold_at_most", 1)
    refuse_outside(args, "temperature", 0, 2)
    refuse_outside(args, "top_p", 0, 1)
    refuse_outside(args, "seed", 0, _LARGEST_SEED)
    refuse_outside(args, "answer_tokens", 1, _MOST_ANSWER_TOKENS)
    if args.answer_tokens is not None:
        scheme = scheme.model_copy(update={"max_tokens": args.answer_tokens})
    temperature = scheme.temperature if args.temperature is None else args.temperature
    sampling = Sampling(args.model, temperature, args.top_p, args.seed)
    keys = tuple(getattr(args, "key", ()))
    selection = Selection(args.history, args.users or args.items, args.cold_at_most, keys)
    profiles = Store.read(args.store, scheme.needs) if scheme.needs else None
    return scheme, Requests(scheme, Tables.load(args.data), sampling, selection, profiles)


def read_budget(args: argparse.Namespace) -> tuple[Budget, Price | None]:
    """The budget, and the price that it is kept by.

    Raises:
        ConfigError: a number that cannot be, or a cost of unknown price.
    """
    for name in ("max_requests", "max_tokens", "max_cost"):
        refuse_outside(args, name, 0 if name == "max_cost" else 1)
    price = price_of(args.model, args.price)
    if args.max_cost is not None and price is None:
        raise ConfigError(f"--max-cost: no known price for {args.model}; give --price")
    budget = Budget(requests=args.max_requests, tokens=args.max_tokens, cost=args.max_cost)
    return budget, price


def check_endpoint(args: argparse.Namespace) -> None:
    """Refuse numbers of the endpoint that cannot be, before anything is started.

    Raises:
        ConfigError: names the argument.
    """
    refuse_outside(args, "concurrency", 1, _MOST_AT_ONCE)
    refuse_outside(args, "slots", 1, _MOST_AT_ONCE)
    refuse_outside(args, "repairs", 0, 10)
    for name in ("requests_per_minute", "tokens_per_minute"):
        refuse_outside(args, name, 1)
    for name in ("timeout", "total_timeout"):
        refuse_outside(args, name, 0.001)


def endpoint_of(args: argparse.Namespace, base_url: str) -> Endpoint:
    """The endpoint at an address.

    Raises:
        ConfigError: the address or the key cannot be.
    """
    usual = args.slots if args.base_url is None else 8
    return Endpoint(
        base_url,
        key_variable=args.key_variable,
        concurrency=usual if args.concurrency is None else args.concurrency,
        requests_per_minute=args.requests_per_minute,
        tokens_per_minute=args.tokens_per_minute,
        timeout=args.timeout,
        total_timeout=args.total_timeout,
        structured=args.structured,
    )


def read_tables(args: argparse.Namespace) -> Tables:
    """The tables to extend.

    Raises:
        ConfigError: there is no --data.
    """
    if args.data is None:
        raise ConfigError(f"--data: needed to export {args.scheme}")
    return Tables.load(args.data)


def refuse_outside(
    args: argparse.Namespace, name: str, least: float, most: float | None = None
) -> None:
    """Refuse a number that is not finite or out of its bounds; None is no number.

    Raises:
        ConfigError: names the argument as it is written.
    """
    value = getattr(args, name)
    if value is None:
        return
    if not (math.isfinite(value) and value >= least and (most is None or value <= most)):
        bounds = f"at least {least}" if most is None else f"{least} to {most:,}"
        raise ConfigError(f"--{name.replace('_', '-')} {value}: expected {bounds}")


def refuse_unknown_keys(keys: list[str], known: list[str], where: str) -> None:
    """Refuse keys that nothing is known of.

    Raises:
        DataError: names the first one, and the nearest known.
    """
    for key in keys:
        if not any(is_of(one, key) for one in known):
            near = get_close_matches(key, known, n=3, cutoff=0.4)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise DataError(f"--key {key!r}: {where} no such answer{hint}")

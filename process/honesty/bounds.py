"""From which number on the report warns, what it says then, and how it is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from legos.data.honesty import RULES, Honesty, HonestyWarning, RuleResult, SplitHonesty

FEWEST_IMPRESSIONS = 30  # below, the standard error of a GAUC is .05 or more
MOST_TIED = 10.0  # %: then a tenth of all next items is a coin's choice
ORDER_GAUC = 0.05  # away from .5: what an order of ids or lines may reach; no model should read it
ORDER_HITS = 0.01  # of the clicks among the first ten of all items; models reach .02 to .1 there
SURE = 4.0  # standard errors: one false alarm in 16,000 rules
POPULAR_NOW = 0.05  # GAUC by which clicks of the test's own time may pass those of train
INVERSE_POPULARITY = 0.45  # GAUC of popularity below which negatives were drawn by popularity
NOT_TRAINED = 0.55  # GAUC that "nobody clicked it in train" and "was never a negative" may reach
MOST_KNOWN = 5.0  # % of the clicks on what the history holds: repeating it is then a method
MOST_MARKUP = 1.0  # % of the texts
MOST_UNKNOWN = 1.0  # % of the tokens
MOST_REPEATED = 1.0  # % of the items
MOST_WITHOUT_TEXT = 10.0  # % of the items: nothing to read for a content-based model


def warnings_of(report: Honesty) -> tuple[HonestyWarning, ...]:
    """A sentence for every number above its bound."""
    return tuple(
        HonestyWarning(kind=kind, text=text)
        for found in (_sizes(report), _times(report), _rules(report), _texts(report))
        for kind, text in found
    )


def _sizes(report: Honesty) -> Iterator[tuple[str, str]]:
    for name, impressions in report.small_splits.items():
        yield (
            "small_split",
            f"split {name} has {impressions} impressions, fewer than {FEWEST_IMPRESSIONS}: its "
            "metrics are noise; look for implausible dates, or choose another split",
        )


def _times(report: Honesty) -> Iterator[tuple[str, str]]:
    times = report.times
    if times is None:
        return
    if times.before_1995 or times.in_future:
        yield (
            "implausible_dates",
            f"{times.before_1995:,} times lie before 1995 and {times.in_future:,} in the future "
            f"(of {times.known:,}): correct or remove these lines, since they affect a split by "
            "time",
        )
    if times.tied > MOST_TIED:
        dates = ""
        if times.dates > 50:
            dates = f" ({times.dates:.0f} % of the times are dates without an hour)"
        yield (
            "time_ties",
            f"{times.tied:.1f} % of the {times.tied_of} share their time with another one of their "
            f"user{dates}, so their order is arbitrary; gains of sequential models may not be real",
        )


def _rules(report: Honesty) -> Iterator[tuple[str, str]]:
    for rule, what in (
        ("next_id", "the next larger item id after the last item read"),
        ("next_line", "the next line of the item table after the last item read"),
    ):
        yield from _order(report, rule, what)
    yield from _popularity(report)
    for rule, what in (
        ("unseen", "that nobody clicked in train"),
        ("never_negative", "that the user was never shown in train without a click"),
    ):
        found = _gaucs(report, rule, lambda gauc: gauc > NOT_TRAINED)
        if found:
            yield (
                "training_gives_away",
                f"items {what} first have GAUC {_listed(found)} (chance .500): a model can learn "
                "this without reading content; compare cold and warm rows, and sample negatives "
                "like clicks",
            )
    known = {name: s.known_clicks for name, s in report.splits.items() if s.known_clicks}
    if max(known.values(), default=0) > MOST_KNOWN:
        yield (
            "known_clicks",
            f"clicks on items of the history: {_shares(known)}; compare with a baseline that "
            "repeats the history",
        )
    twice = {name: s.repeated_candidates for name, s in report.splits.items()}
    twice = {name: share for name, share in twice.items() if share}
    if twice:
        yield (
            "repeated_candidates",
            f"impressions that list an item twice: {_shares(twice)}; remove duplicates",
        )


def _order(report: Honesty, rule: str, what: str) -> Iterator[tuple[str, str]]:
    cure = "report this rule as a baseline, since the source has no times to check its order"
    if report.times is not None and report.times.tied_by_hash:
        cure = (
            "equal times are already ordered by a hash, so the times themselves follow this order; "
            "report this rule as a baseline"
        )
    elif report.times is not None:
        cure = "break ties in time by a hash, not by id or line, and make the tables again"
    found = _gaucs(report, rule, lambda gauc: abs(gauc - 0.5) > ORDER_GAUC)
    if found:
        yield (
            "order",
            f"{what} has GAUC {_listed(found)} (chance .500): the order of ids or lines leaks "
            f"clicks; {cure}",
        )
        return
    for name, split in report.splits.items():
        hits = split.rules[rule].hits_at_10 if rule in split.rules else None
        if hits and split.chance_at_10 and _many_hits(hits, split):
            yield (
                "order",
                f"{name}: {what} has {100 * hits:.1f} % of the clicks among its first ten of all "
                f"items (chance {100 * split.chance_at_10:.1f} %): the order of ids or lines leaks "
                f"clicks; {cure}",
            )


def _many_hits(hits: float, split: SplitHonesty) -> bool:
    """More than twice what chance has, more than ORDER_HITS, and surely not chance."""
    if split.measured < FEWEST_IMPRESSIONS:
        return False
    chance = split.chance_at_10 or 0.0
    error = (chance * (1 - chance) / max(split.measured, 1)) ** 0.5
    return hits > max(2 * chance, ORDER_HITS) and hits - chance > SURE * error


def _popularity(report: Honesty) -> Iterator[tuple[str, str]]:
    inverse = _gaucs(report, "popularity_train", lambda gauc: gauc < INVERSE_POPULARITY)
    # drawn by popularity on purpose where the same clicks also have uniform negatives
    inverse = {
        n: g for n, g in inverse.items() if f"{n.partition('_')[0]}_uniform" not in report.splits
    }
    if inverse:
        yield (
            "inverse_popularity",
            f"popularity in train has GAUC {_listed(inverse)}, below chance: negatives were "
            "sampled by popularity or trends changed, so models gain by preferring rare items; "
            "evaluate on both kinds of negatives",
        )
    before = {
        name: found.gauc
        for name, split in report.splits.items()
        if (found := split.rules.get("popularity_train")) and found.gauc is not None
    }
    now = _gaucs(report, "popularity_test", lambda gauc: gauc > 0.5 + POPULAR_NOW)
    now = {
        name: gauc
        for name, gauc in now.items()
        if gauc > max(before.get(name, 0.5), 0.5) + POPULAR_NOW
    }
    if now:
        trained = {name: before[name] for name in now if name in before}
        yield (
            "popular_now",
            f"popularity among other impressions of the same split has GAUC {_listed(now)}"
            + (f", popularity in train {_listed(trained)}" if trained else "")
            + ": clicks depend on current popularity; compare with a baseline of recent clicks",
        )


def _gaucs(report: Honesty, rule: str, beyond: Callable[[float], bool]) -> dict[str, float]:
    """By split the GAUC of a rule where it is beyond a bound and surely not chance."""
    found = {}
    for name, split in report.splits.items():
        result = split.rules.get(rule)
        if split.measured < FEWEST_IMPRESSIONS:
            continue
        if result is not None and result.gauc is not None and beyond(result.gauc) and _sure(result):
            found[name] = result.gauc
    return found


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{_digits(value)} on {name}" for name, value in values.items())


def _shares(values: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.2f} % on {name}" for name, value in values.items())


def _sure(result: RuleResult) -> bool:
    return abs((result.gauc or 0.0) - 0.5) > SURE * (result.error or 0.0)


def _texts(report: Honesty) -> Iterator[tuple[str, str]]:
    if report.items and 100 * report.items_without_text / report.items > MOST_WITHOUT_TEXT:
        yield (
            "no_text",
            f"{report.items_without_text:,} of {report.items:,} items have no text at all: a model "
            "that reads only texts cannot distinguish them",
        )
    if report.items and 100 * report.items_of_same_text / report.items > MOST_REPEATED:
        yield (
            "same_text",
            f"{report.items_of_same_text:,} of {report.items:,} items duplicate the texts of an "
            "earlier item: a content-based model scores them equally; merge them or add "
            "a field",
        )
    for name, text in report.texts.items():
        if text.markup > MOST_MARKUP:
            yield (
                "markup",
                f"{name}: {text.markup:.1f} % of the texts hold HTML tags or entities: clean them "
                "and make the tables again",
            )
        for tokenizer, share in text.unknown.items():
            if share > MOST_UNKNOWN:
                yield (
                    "unknown_tokens",
                    f"{name}: {share:.1f} % of the tokens are unknown to tokenizer {tokenizer}: "
                    "choose one that knows the language and its script",
                )


def _digits(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


NONE = "–"


def print_honesty(report: Honesty, console: Console) -> None:
    """Print what was measured, and the warnings last, where they are seen."""
    if report.splits:
        for title, parts in (
            ("rules without content: GAUC among the candidates (chance .500)", "gauc"),
            ("rules without content: share of clicks in their top ten of all items", "hits_at_10"),
        ):
            table = _shown_rules(report, title, parts)
            if table.row_count:
                console.print(table)
    if report.texts:
        console.print(_shown_texts(report))
    for line in facts(report):
        console.print(line)
    if not report.warnings:
        console.print("no warnings")
    for warning in report.warnings:
        console.print(Text.assemble(("warning: ", "bold yellow"), warning.text))


def facts(report: Honesty) -> list[str]:
    """What is no table: times and repetitions, a line each."""
    lines = []
    times = report.times
    if times is None:
        lines.append("times: none, so time is not checked")
    else:
        lines.append(
            f"times of {times.source}: {times.known:,} from {times.earliest or NONE} to "
            f"{times.latest or NONE}, {times.unknown:,} unknown; {times.tied:.1f} % of the "
            f"{times.tied_of} at the time of another one of their user, {times.dates:.1f} % dates "
            f"without an hour, {times.before_1995:,} before 1995, {times.in_future:,} in the future"
        )
    lines.append(
        f"items: {report.items_without_text:,} of {report.items:,} without a text, "
        f"{report.items_of_same_text:,} with only texts that an earlier item has"
    )
    for name, split in report.splits.items():
        if split.known_clicks or split.repeated_candidates:
            lines.append(
                f"{name}: {split.known_clicks:.2f} % of the clicks on items of the history, "
                f"{split.repeated_candidates:.2f} % of the impressions list an item twice"
            )
    sampled = {n: s.measured for n, s in report.splits.items() if s.measured < s.impressions}
    if sampled:
        lines.append(
            f"rules of {', '.join(sampled)} measured on {max(sampled.values()):,} impressions, "
            f"drawn by seed {report.seed}"
        )
    return lines


def _shown_rules(report: Honesty, title: str, part: str) -> Table:
    splits = report.splits
    if part == "hits_at_10":
        splits = {name: split for name, split in splits.items() if split.chance_at_10 is not None}
    table = _table(title, "rule", list(splits))
    for rule, what in RULES.items():
        values = [getattr(s.rules.get(rule, RuleResult()), part) for s in splits.values()]
        if any(value is not None for value in values):
            cells = [NONE if value is None else f"{value:.4f}" for value in values]
            table.add_row(f"{rule}: {what}", *cells)
    if part == "hits_at_10" and table.row_count:
        chances = [split.chance_at_10 for split in splits.values()]
        table.add_row("chance", *(NONE if c is None else f"{c:.4f}" for c in chances))
    return table


def _shown_texts(report: Honesty) -> Table:
    tokenizers = list(dict.fromkeys(n for text in report.texts.values() for n in text.unknown))
    heads = ["texts", "empty", "with markup", *(f"unknown to {name}" for name in tokenizers)]
    table = _table("texts", "field", heads)
    for field, text in report.texts.items():
        unknown = [text.unknown.get(name) for name in tokenizers]
        table.add_row(
            field,
            f"{text.texts:,}",
            f"{text.empty:.2f} %",
            f"{text.markup:.2f} %",
            *(NONE if share is None else f"{share:.2f} %" for share in unknown),
        )
    return table


def _table(title: str, first: str, heads: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for head in heads:
        table.add_column(head, justify="right")
    return table

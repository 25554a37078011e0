"""The verdict on a model: above the best baseline or not, by how much, how surely, against what.

The test is the one of mode ``compare``: a paired t-test over groups (impressions or users),
Holm-corrected for the number of models that are judged. Choosing the best of the baselines needs no
correction where the model is above it: it is then above each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from legos.baselines.base import ORACLE, baseline_title, settings_class
from legos.config.data_schema import TOKEN_VECTORS
from legos.config.first_run import RECOMMENDED
from legos.config.model_schema import ModelConfig
from legos.config.schema import RunConfig
from legos.data.manifest import Negatives
from legos.data.tables import Tables
from legos.evaluation.baselines import Kept
from legos.evaluation.groups import read_groups
from legos.metrics import parse_metric
from legos.metrics.beyond import holm, paired_p_values
from legos.reports.next_step import command_of, model_of

SURE = 0.05
_TOLD_APART = 2.8  # standard errors: found by a test at .05 in four of five repetitions

Outcome = Literal["above", "below", "level", "alone"]
Competitors = Negatives | Literal["all"]


@dataclass(frozen=True)
class Verdict:
    """The judgement on one model and one split.

    Attributes:
        model: its row.
        metric: of all numbers here.
        outcome: ``above``, ``below`` or ``level`` with the best baseline; ``alone`` without one.
        n: groups where both have the metric.
        value: the model's mean over these groups.
        baseline: title of the best baseline; None without one.
        baseline_value: its mean over the same groups.
        difference: the model's mean less the baseline's.
        p: of the difference; None without a baseline.
        sentence: all of that in words.
        negatives: what the clicks compete with, in a sentence.
        advice: what to try where the model is not above.
        rival: label of the best baseline in results; None without one.
        command: that trains this baseline as a model, where it is better and can be one.
    """

    model: str
    metric: str
    outcome: Outcome
    n: int
    value: float
    baseline: str | None = None
    baseline_value: float | None = None
    difference: float | None = None
    p: float | None = None
    sentence: str = ""
    negatives: str = ""
    advice: tuple[str, ...] = ()
    rival: str | None = None
    command: str | None = None

    def summary(self) -> dict[str, Any]:
        """The verdict for ``results.json``."""
        return {**asdict(self), "advice": list(self.advice), "lead": self.lead}

    @property
    def lead(self) -> str:
        """The difference for a table, with a star if it is significant."""
        if self.difference is None or self.p is None:
            return ""
        return f"{self.difference:+.4f}{'*' if self.p < SURE else ''}"


@dataclass(frozen=True)
class Contender:
    """A model to be judged.

    Attributes:
        config: of its run, of the first seed where there are several.
        values: per metric its value in every group ``(G,)``, NaN where undefined.
        training: what ``results.json`` says of its training.
    """

    config: RunConfig
    values: Mapping[str, np.ndarray]
    training: Mapping[str, Any]


def judge(
    contenders: Mapping[str, Contender],
    baselines: Mapping[str, Mapping[str, np.ndarray]],
    tables: Tables,
    split: str,
) -> dict[str, Verdict]:
    """Judge models against the best baseline.

    Args:
        contenders: by row.
        baselines: by name and metric the value in each group; the oracle does not compete.
        tables: the data set.
        split: that was measured.

    Returns:
        By row; a row without a metric of groups is left out.
    """
    rivals = {
        label: {
            name: values
            for name, values in baselines.items()
            if name not in (ORACLE, each.config.model.baseline_label)  # no model is its own rival
        }
        for label, each in contenders.items()
    }
    found = {
        label: (best, verdict)
        for label, each in contenders.items()
        for best, verdict in _against_best(label, each, rivals[label])
    }
    surer = {label: each.p for label, (_, each) in found.items() if each.p is not None}
    corrected = holm(surer)
    told = {}
    for label, (best, verdict) in found.items():
        each, config = contenders[label], contenders[label].config
        if label in corrected:
            verdict = replace(verdict, p=corrected[label])
            sure = corrected[label] < SURE
            above = (verdict.difference or 0.0) > 0
            verdict = replace(
                verdict, outcome="level" if not sure else "above" if above else "below"
            )
        kind = negatives_of(tables.manifest, split, config.exp.evaluate.ranking)
        advice: list[str] = []
        if best is not None and verdict.outcome != "above":
            if verdict.outcome == "below" and (model := model_of(best)):
                advice = [f"The baseline can be trained and served as a model: {model}."]
                verdict = replace(verdict, command=command_of(config, best))
            rival = rivals[label][best]
            advice += _advice(verdict, best, each, rival, kind, tables.manifest)
        told[label] = replace(
            verdict,
            rival=best,
            sentence=_sentence(verdict, len(rivals[label]), config.data.group_by),
            negatives=describe_negatives(kind, tables, split, config),
            advice=tuple(advice),
        )
    return told


def judge_run(
    config: RunConfig, tables: Tables, results: Mapping[str, Any], kept: Kept
) -> dict[str, dict[str, Any]]:
    """The verdicts on one run by split, for ``results.json``.

    Args:
        config: of the run.
        tables: its data set.
        results: with its ``splits`` and ``baselines``.
        kept: where the metrics of every group are.
    """
    found = {}
    for split in results["splits"]:
        beside = results.get("baselines", {}).get(split, {})
        own = Contender(config, read_groups([kept(split)]), results.get("training", {}))
        rivals = {name: read_groups([kept(split) / name]) for name in beside}
        for verdict in judge({config.model.name: own}, rivals, tables, split).values():
            found[split] = verdict.summary()
    return found


def _against_best(
    label: str, contender: Contender, rivals: Mapping[str, Mapping[str, np.ndarray]]
) -> Iterator[tuple[str | None, Verdict]]:
    """The best baseline and the verdict before correction; nothing without a metric of groups."""
    watched = parse_metric(contender.config.exp.train.metric).name
    asked = [parse_metric(name).name for name in contender.config.exp.evaluate.metrics]
    metric = next((name for name in (watched, *asked) if name in contender.values), None)
    if metric is None:
        return
    own = contender.values[metric]
    defined = ~np.isnan(own)
    if not defined.any():
        return
    alone = Verdict(label, metric, "alone", int(defined.sum()), float(own[defined].mean()))
    known = {
        name: values[metric]
        for name, values in rivals.items()
        if metric in values and values[metric].shape == own.shape
    }
    means = {name: float(np.nanmean(values[defined])) for name, values in known.items()}
    if not means:
        yield None, alone
        return
    best = max(means, key=lambda name: means[name])
    both = defined & ~np.isnan(known[best])
    tested = paired_p_values(known[best], {label: own})[label]
    yield (
        best,
        replace(
            alone,
            n=int(both.sum()),
            value=float(own[both].mean()),
            baseline=baseline_title(best),
            baseline_value=float(known[best][both].mean()),
            difference=tested["difference"],
            p=tested["t_test"],
        ),
    )


def best_row(verdicts: Mapping[str, Verdict]) -> Verdict | None:
    """The verdict on the model furthest above the best baseline, or the best model."""
    found = list(verdicts.values())
    return max(found, key=lambda each: (each.difference or 0.0, each.value)) if found else None


def _sentence(verdict: Verdict, rivals: int, group_by: str) -> str:
    if verdict.baseline is None or verdict.p is None:
        return (
            f"{verdict.model} has nothing to compare with ({verdict.metric} {verdict.value:.4f}): "
            "no baseline was "
            "measured; --exp.baselines '[popularity, item_knn, text_cosine]' measures some."
        )
    sure = "p < .001" if verdict.p < 0.001 else f"p = {verdict.p:.3f}".replace("0.", ".")
    which = f"the best of {rivals} baselines" if rivals > 1 else "the only baseline"
    state = {
        "above": "is above",
        "below": "is below",
        "level": "is not significantly different from",
    }[verdict.outcome]
    return (
        f"{verdict.model} {state} {verdict.baseline}, {which}: {verdict.metric} "
        f"{verdict.value:.4f} to {verdict.baseline_value:.4f}, {verdict.difference:+.4f} "
        f"({sure}, paired t-test over {verdict.n:,} {group_by}s)."
    )


def negatives_of(manifest: Mapping[str, Any], split: str, ranking: str) -> Competitors:
    """The source of the negatives of a split, by the manifest."""
    if ranking == "all":
        return "all"
    if split in manifest.get("negatives", {}):
        kind: Competitors = manifest["negatives"][split]
        return kind
    # a manifest that was written before these were
    layout, rule = str(manifest["layout"]), str(manifest["split_rule"])
    if layout == "goodreads-once" or rule.startswith(("leave-last-out", "by-time")):
        return "uniform" if "_" in split else "popularity"
    if layout == "goodreads-ucsd":
        return "rated"
    return "shown" if layout == "mind" else "given"


def describe_negatives(kind: Competitors, tables: Tables, split: str, config: RunConfig) -> str:
    """One sentence about the items that a click competes with."""
    if kind == "all":
        excluded = {
            "history": " except those of the user's history",
            "history+valid": " except those that the user had in the history or in valid",
            "nothing": "",
        }[config.exp.evaluate.exclude]
        return f"Each click is ranked against all {int(tables.offered.sum()):,} items{excluded}."
    labels = tables.lists(split, "labels")
    impressions, negatives = max(1, len(labels)), int((labels.values == 0).sum())
    count = f"{negatives / impressions:.1f}".removesuffix(".0")
    return {
        "popularity": f"An impression has {count} negatives, drawn in proportion to "
        "popularity: popularity alone does not rank well on this split.",
        "uniform": f"An impression has {count} negatives, drawn uniformly from the catalogue: "
        "popularity alone ranks well on this split.",
        "shown": f"An impression has {count} negatives on average: items shown "
        "in the same list and not clicked.",
        "rated": f"An impression has {count} negatives on average: items the "
        "user rated low, and random items.",
        "given": f"An impression has {count} negatives on average, given by the data.",
        "none": "Impressions contain only clicks and no negatives.",
    }[kind]


def _advice(
    verdict: Verdict,
    best: str,
    contender: Contender,
    rival: Mapping[str, np.ndarray],
    kind: Competitors,
    manifest: Mapping[str, Any],
) -> Iterator[str]:
    """What to try, from what was measured and how it was trained."""
    config, training = contender.config, contender.training
    train, model = config.exp.train, config.model
    if training.get("best_epoch") and training["best_epoch"] >= train.epochs:
        yield (
            f"Its best epoch was the last of {train.epochs}; it was still improving: "
            f"--exp.train.epochs {3 * train.epochs}."
        )
    if isinstance(model, ModelConfig):
        against = negatives_of(manifest, config.data.splits.train, "shown")
        if train.negatives.strategy in ("uniform", "popularity"):
            against = train.negatives.strategy
        yield from _advice_about_bricks(model, best, config, kind, against)
    else:
        yield f"A small model trains in about a minute: --model {RECOMMENDED}."
    if verdict.outcome == "level":
        difference = contender.values[verdict.metric] - rival[verdict.metric]
        spread = float(np.nanstd(difference)) / max(1, verdict.n) ** 0.5
        yield (
            f"Over {verdict.n:,} {config.data.group_by}s only differences above "
            f"{_TOLD_APART * spread:.4f} are significant: use more test impressions or several "
            "seeds (--exp compare)."
        )


def _advice_about_bricks(
    model: ModelConfig, best: str, config: RunConfig, kind: Competitors, trained: Competitors
) -> Iterator[str]:
    needs, train = model.needs, config.exp.train
    any_strategy = train.loss in ("softmax", "bce", "bpr", "cosine_contrastive")
    if (
        any_strategy
        and not train.negatives.shared
        and kind in _STRATEGIES
        and _STRATEGIES[kind] != _STRATEGIES.get(trained)
    ):
        yield (
            f"Its training negatives were {_COMPETITORS[trained]}, those of this split are "
            f"{_COMPETITORS[kind]}; try --exp.train.negatives.strategy {_STRATEGIES[kind]}."
        )
    baseline = settings_class(best)
    of_texts = "texts" in baseline.needs
    if of_texts and needs & TOKEN_VECTORS and config.embed.source == "random":
        yield "Its token vectors start at random; --embed minilm-token starts from pretrained ones."
    if model.name.startswith(RECOMMENDED):  # in any of its forms
        return
    lacks = []
    if baseline.knows_readers and "known_items" not in needs:
        lacks.append("an ID vector for every known item")
    if of_texts and not needs & (TOKEN_VECTORS | _OF_TEXTS):
        lacks.append("the texts of the items")
    has = " and ".join(lacks)
    yield f"--model {RECOMMENDED} has {has}." if has else f"Try --model {RECOMMENDED}."


_OF_TEXTS = {"language_model", "item_vectors"}  # what bricks that read texts are built from
_STRATEGIES = {
    "popularity": "popularity",
    "uniform": "uniform",
    "all": "uniform",
    "shown": "impression",
    "rated": "impression",
}
"""By what a split is measured against the training negatives that are like it."""
_COMPETITORS = {
    "popularity": "popular items",
    "uniform": "items of the whole catalogue",
    "all": "all items",
    "shown": "the items shown with a click",
    "rated": "items rated low",
    "given": "negatives given by the data",
    "none": "nothing",
}

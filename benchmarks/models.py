"""Training speed of every shipped model: the loop of ``worker.py`` against a plain one.

    python -m benchmarks.train --models [NAME ...] [--quick]

One thread, the shape of Goodreads (titles), frozen 768-wide token vectors projected to D = 64,
batch 64, K = 4. Both sides call the same bricks with the same weights on the same impressions; that
their first losses agree (dropout off) is checked before anything is timed. The plain loop does
nothing else; ours samples negatives, watches for what is not finite, counts, can be interrupted
and runs on many processes. Times are CPU seconds, the sides take turns, the fastest turn counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import torch
from accelerate import Accelerator

from benchmarks.clock import BATCH, LR, cpu_seconds
from benchmarks.plain import PlainLoop
from benchmarks.report import finish
from benchmarks.shapes import GOODREADS, VOCABULARY, Shape, make_interactions, make_items
from legos.config.load import load_run_config
from legos.config.model_schema import ModelConfig
from legos.config.models import names_of
from legos.config.train_schema import NegativesConfig, TrainConfig
from legos.data.batch import TrainingRows
from legos.data.click_graph import click_graph
from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.data.sampling import NegativeSampler
from legos.errors import ConfigError
from legos.recommender import Recommender, TokenTable, build_recommender
from legos.systems.bricks.recipe import BricksRecipe
from legos.training.trainer import take_step

TARGET = 0.8


def model_config(name: str) -> ModelConfig:
    """A shipped model of bricks at its defaults.

    Raises:
        ConfigError: the model is a system of its own.
    """
    model = load_run_config(["--data", "goodreads", "--model", name, "--exp", "tt-naml"]).model
    if not isinstance(model, ModelConfig):
        raise ConfigError("no bricks: benchmarks.cllm4rec and benchmarks.recsysllm measure it")
    return model


class Shipped(NamedTuple):
    """A shipped model over random data.

    Attributes:
        model: on the CPU.
        store: items with titles.
        data: impressions of one click and four others.
        profiles: of users, one an impression.
    """

    model: Recommender
    store: ItemStore
    data: Interactions
    profiles: ItemStore

    @classmethod
    def of(cls, name: str, shape: Shape) -> Shipped:
        """A model by name at its defaults.

        Raises:
            ConfigError: it needs a language model or given user vectors, or is no model of bricks.
        """
        store, data = make_items(shape), make_interactions(shape)
        profiles = make_items(replace(shape, items=shape.impressions))  # a user an impression
        generator = torch.Generator().manual_seed(0)
        vectors = torch.randn(VOCABULARY, 768, generator=generator) * 0.05
        model = build_recommender(
            model_config(name),
            store,
            known=SimpleNamespace(
                items=torch.ones(len(store), dtype=torch.bool),
                users=torch.ones(len(data), dtype=torch.bool),
            ),
            seed=1,
            tables={"bert": TokenTable(vectors, frozen=True, fingerprint="benchmark")},
            profiles=profiles,
            item_vectors=torch.randn(len(store), 384, generator=generator),
            item_codes=torch.randint(256, (len(store), 4), generator=generator),
            click_graph=click_graph(data, len(store)),
        )
        return cls(model, store, data, profiles)


class Sides:
    """Our loop and the plain loop of one model."""

    def __init__(self, name: str) -> None:
        shape = GOODREADS
        model, store, data, profiles = Shipped.of(name, shape)
        config = TrainConfig(
            negatives=NegativesConfig(count=shape.negatives), lr=LR, batch_size=BATCH
        )
        sampler = NegativeSampler(
            data, num_items=len(store), strategy="impression", count=shape.negatives, seed=1
        )
        self.plain = PlainLoop(model, store, data, LR, profiles)
        rows = TrainingRows(data, sampler)
        self.training = BricksRecipe(
            Accelerator(cpu=True), model, store, rows, config, profiles=profiles
        )
        self.plain_steps = 0

    def first_losses(self) -> tuple[float, float]:
        """Loss of ours and of the plain loop on the first batch, without dropout."""
        rows = self.training.stream.rows(0).micro_batches[0]
        model = self.training.bare_model.eval()
        self.plain.model.eval()
        with torch.no_grad():
            batch = self.training.rows.batch(rows, pass_number=0)
            content = self.training.store.batch(batch.items)
            scores = model(batch, content, self.training.profiles).scores
            ours = float(-scores.log_softmax(1)[:, 0].mean())
            plain = float(self.plain.loss(rows))
        model.train()
        self.plain.model.train()
        return ours, plain

    def ours_step(self) -> float:
        """One step of the loop that ``worker.py`` runs."""
        return take_step(self.training, [False, False])[0]["loss"]

    def plain_step(self) -> float:
        """One step of the plain loop, on the same impressions as our step of that number."""
        rows = self.training.stream.rows(self.plain_steps).micro_batches[0]
        self.plain_steps += 1
        return self.plain.step(rows)


def measure(name: str, *, rounds: int, steps: int) -> dict[str, float]:
    """Impressions a CPU second of both sides and the relative difference of their first losses."""
    sides = Sides(name)
    ours, plain = sides.first_losses()
    best = {"ours": float("inf"), "plain": float("inf")}
    for step in (sides.ours_step, sides.plain_step):
        step()  # the first one also allocates
    for _ in range(rounds):
        best["ours"] = min(best["ours"], cpu_seconds(sides.ours_step, steps))
        best["plain"] = min(best["plain"], cpu_seconds(sides.plain_step, steps))
    speed = {side: BATCH / seconds for side, seconds in best.items()}
    return {**speed, "difference": abs(ours - plain) / abs(plain)}


def compare_models(names: Sequence[str], *, quick: bool) -> None:
    """Print a line a model, then the JSON line.

    When none is named, all shipped models are measured. Those that need a language model or given
    user vectors, which this benchmark has not, and systems of their own are left out and told.
    """
    rounds, steps = (2, 4) if quick else (5, 10)
    found: dict[str, dict[str, float]] = {}
    width = max(map(len, names or names_of("model")))
    print(f"{'model':{width}}  ours imp/s  plain imp/s  ratio  loss difference")
    for name in names or names_of("model"):
        try:
            found[name] = measure(name, rounds=rounds, steps=steps)
        except ConfigError as error:
            if names:
                raise
            print(f"{name:{width}}  left out: {error}")
            continue
        ours, plain = found[name]["ours"], found[name]["plain"]
        print(
            f"{name:{width}}  {ours:10.0f}  {plain:11.0f}  {ours / plain:5.2f}  "
            f"{found[name]['difference']:.1e}",
            flush=True,
        )
    ratio = {name: speed["ours"] / speed["plain"] for name, speed in found.items()}
    same = all(speed["difference"] < 1e-5 for speed in found.values())
    finish(
        name="train --models",
        ours={name: speed["ours"] for name, speed in found.items()},
        other={name: speed["plain"] for name, speed in found.items()},
        ratio=ratio,
        target=TARGET,
        holds=same and min(ratio.values()) >= TARGET,
    )

"""Rows of a test: impossible ones stop a run, free writing is judged; published explanations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.errors import DataError
from legos.modes.main import run
from legos.runs.folder import run_folder
from legos.systems.recsysllm import evaluate, measure, recipe
from legos.systems.recsysllm.catalogue import ITEM, Origin
from legos.systems.recsysllm.decoding import token_losses
from legos.systems.recsysllm.positions import IGNORE, lay_out
from legos.systems.recsysllm.system import RecsysllmSystem
from legos.systems.recsysllm.tasks.candidates import Candidates
from legos.systems.recsysllm.tasks.review_tasks import SPLITS
from legos.systems.recsysllm.units import plain
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace
from tests.systems.recsysllm.system import system_config

CHOSEN: dict[str, Any] = {
    "measure": {"prompts": ["sequential-6", "direct-8"]},
    "train": {"epochs": 0},
}


def opened(config: RunConfig) -> RecsysllmSystem:
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    return RecsysllmSystem(Workplace.open(config, accelerator, Tables.load(config.data.folder)))


@pytest.mark.slow
@pytest.mark.parametrize("row", ["all", "direct, unseen prompt direct-8"])
def test_an_impossible_row_stops_the_run(
    row: str, reviewed: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HR@10 below HR@5, whichever part computed it."""
    impossible = {"HR@5": 0.5, "HR@10": 0.4}
    if row == "all":
        real = evaluate.counted_metrics

        def broken(*args: Any, **more: Any) -> Any:
            found = real(*args, **more)
            found.values["HR@5"] = found.values["HR@10"] + 0.1
            return found

        monkeypatch.setattr(evaluate, "counted_metrics", broken)
    else:
        monkeypatch.setattr(measure, "candidate_metrics", lambda *_, **__: dict(impossible))
    with pytest.raises(DataError, match=f"^{row}: impossible with one positive"):
        run(system_config(reviewed.folder, tmp_path, model=CHOSEN))


def test_free_writing_counts_where_it_is_an_item_and_listed(
    reviewed: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = opened(system_config(reviewed.folder, tmp_path, model=CHOSEN))
    own = system._measure._measure
    names = system.world.families.catalogue.items
    prompts = system.world.families.prompts
    rows = torch.arange(4)
    users = system.world.families.sequences.users
    items = torch.stack([system.world.families.sequences.targets("test")[:22]] * 3, 1)
    items[:, 1], items[:, 2] = 0, 1
    texts = [names[int(items[0, 0])].upper(), names[0], f"{names[1]} more", "nothing"]
    monkeypatch.setattr(own, "_fill", lambda template, read: (texts[: len(read.prompts)], 4))

    def valid_rate() -> float | None:
        asked = prompts["sequential-6"]
        past = system.world.families.sequences.seen("test").select(rows)
        return own.next_items(asked, rows, "test", past, count=5).valid_rate

    assert valid_rate() == 0.5  # nothing fuzzy
    other = names[next(n for n in range(2, 50) if n not in items[:4].flatten().tolist())]
    texts[1] = other  # an item, but not one that was offered
    assert valid_rate() == 0.5
    frozen = Candidates(users, items, "")
    row = own.candidates(prompts["direct-8"], rows, "test", frozen)
    assert row[measure.VALID] == 0.25


@pytest.mark.slow
def test_free_answers_have_room_for_a_title(reviewed: Tables, tmp_path: Path) -> None:
    """With titles longer than a rating's budget, what is written is not cut to that."""
    system = opened(system_config(reviewed.folder, tmp_path, model=CHOSEN))
    own, families = system._measure._measure, system.world.families
    task = families.users["sequential"]
    instances = task.evaluate(torch.arange(6), "sequential-6", "test")
    texts, _ = own.written(instances)  # random weights hardly ever stop
    assert max(len(text.split()) for text in texts) > measure._SHORT_ANSWER
    tight = system_config(reviewed.folder, tmp_path, model={"tasks": {"max_answer_tokens": 1}})
    world = opened(tight).world
    names = world.pool.surfaces(ITEM, torch.arange(reviewed.num_items), space=True)
    assert world.settings.tasks.max_answer_tokens == int(names.lengths.max()) > 1


def test_what_is_measured_is_told_of_the_same_users_and_their_past(
    reviewed: Tables, tmp_path: Path
) -> None:
    system = opened(system_config(reviewed.folder, tmp_path, model=CHOSEN))
    sequences = system.world.families.sequences
    for row in range(len(sequences)):
        events = sequences.items.row(row).tolist()
        past = {split: sequences.seen(split).row(row).tolist() for split in SPLITS[1:]}
        assert past["test"] == sorted(set(events[:-1]))  # the held-out one is no past
        assert past["valid"] == sorted(set(events[:-2]))
    rows = torch.arange(100, 200)
    some = measure.some_of(rows, 9, seed=0)
    assert torch.equal(some, some.sort().values)
    assert torch.equal(some, measure.some_of(rows, 9, seed=0))
    assert not torch.equal(some, rows[:9])  # drawn, not the first ones
    assert not torch.equal(some, measure.some_of(rows, 9, seed=1))
    assert torch.equal(measure.some_of(rows, None, seed=0), rows)


@pytest.mark.slow
@pytest.mark.parametrize("bidirectional", [True, False])
def test_prompts_are_read_as_in_training(
    bidirectional: bool, reviewed: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, bool] = {}
    real_reading = measure.read_prompts

    def reading(*args: Any, **more: Any) -> Any:
        told["measure"] = more["bidirectional"]
        return real_reading(*args, **more)

    monkeypatch.setattr(measure, "read_prompts", reading)
    real_layout = recipe.lay_out

    def layout(*args: Any, **more: Any) -> Any:
        told["training"] = more["bidirectional"]
        return real_layout(*args, **more)

    monkeypatch.setattr(recipe, "lay_out", layout)
    more = {
        "measure": {**CHOSEN["measure"], "users": 2, "valid_users": 2},
        "train": {"epochs": 1, "epoch_steps": 1},
        "backbone": {"bidirectional": bidirectional},
    }
    run(system_config(reviewed.folder, tmp_path, model=more))
    assert told == dict.fromkeys(("measure", "training"), bidirectional)


def test_what_is_no_rating_counts_as_the_training_mean(reviewed: Tables, tmp_path: Path) -> None:
    world = opened(system_config(reviewed.folder, tmp_path, model=CHOSEN)).world
    task, reviews = world.families.about_reviews["rating"], world.families.reviews
    assert reviews is not None
    some = task.evaluation_rows("test", "rating-7")[:5]
    instances = task.evaluate(some, "rating-7")
    row = measure.text_row(world, instances, ["none"] * len(some))
    mean = reviews.train_mean()
    assert abs(mean - 3) > 0.01
    off = sum(abs(mean - one.stars) for one in instances) / len(instances)
    assert (row["MAE"], row["parse rate"]) == pytest.approx((off, 0))
    elsewhere = replace(world, families=replace(world.families, origin=Origin("other")))
    row = measure.text_row(elsewhere, instances, ["none"] * len(some))
    off = sum(abs(3 - one.stars) for one in instances) / len(instances)
    assert row["MAE"] == pytest.approx(off)  # nothing of these tables, their mean neither


@pytest.mark.parametrize("name", ["rating-7", "review-2"])
def test_a_mean_rating_weighs_every_number_by_its_likelihood(
    name: str, reviewed: Tables, tmp_path: Path
) -> None:
    """Against each number read as the answer of an example of its own."""
    system = opened(system_config(reviewed.folder, tmp_path, model=CHOSEN))
    world, backbone = system.world, system.backbone.eval()
    task = world.families.about_reviews["rating" if name == "rating-7" else "review"]
    instances = task.evaluate(task.evaluation_rows("test", name)[:3], name)
    tenths = name == "rating-7"
    numbers = [f"{n / 10:.1f}" for n in range(10, 51)] if tenths else list("12345")
    wanted = []
    for one in instances:
        answers = [replace(one, answer=[plain(number)]) for number in numbers]
        examples = world.examples(answers, backbone.special)
        layout = lay_out(examples, pad=backbone.special.pad, bidirectional=False)
        at = (examples.targets != IGNORE).nonzero()[:, 0]
        with torch.no_grad():
            states = backbone.states(layout.inputs, layout.mask).flatten(0, 1)
            losses = token_losses(backbone, states[layout.slots[at]], examples.targets[at])
        rows = torch.searchsorted(examples.offsets, at, right=True) - 1
        likely = torch.zeros(len(numbers)).index_add_(0, rows, -losses).softmax(0)
        wanted.append(float(likely @ torch.tensor([float(number) for number in numbers])))
    parts = (system.workplace.accelerator, backbone, world, system.workplace.tables.offered)
    found = measure.PromptMeasure(*parts, system.workplace.sharing).mean_ratings(instances)
    assert found == pytest.approx(wanted, abs=1e-4)
    assert len({round(value, 4) for value in found}) > 1


@pytest.mark.slow
def test_published_explanations_take_the_place_of_mined_ones(
    reviewed: Tables, tmp_path: Path
) -> None:
    mined = opened(system_config(reviewed.folder, tmp_path)).world.families.reviews
    assert mined is not None
    row = int(mined.of("train")[0])
    line = {
        "user": reviewed.vocabulary("user_id")[int(mined.users[row])],
        "item": reviewed.vocabulary("item_id")[int(mined.items[row])],
        "sentence": "The strap is great", "feature": "strap",
    }  # fmt: skip
    path = tmp_path / "published.jsonl"
    path.write_text(json.dumps(line))
    tasks = {"tasks": {"explanations": str(path)}}
    config = system_config(reviewed.folder, tmp_path, model=tasks)
    said: list[str] = []
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    place = Workplace.open(config, accelerator, reviewed)
    found = RecsysllmSystem(place, said.append).world.families.reviews
    assert found is not None
    assert [at for at, one in enumerate(found.explanations) if one is not None] == [row]
    assert found.explanations[row].sentence == "The strap is great"  # type: ignore[union-attr]
    assert any("explanations of 1 of" in text for text in said)
    before = run_folder(config, reviewed).id
    path.write_text(json.dumps({**line, "sentence": "The strap is weak"}))
    assert run_folder(config, reviewed).id != before  # a file counts by its content
    path.write_text(json.dumps({**line, "user": "nobody"}))
    with pytest.raises(DataError, match="made from other data"):
        opened(config)
    missing = {"tasks": {"explanations": str(tmp_path / "none.jsonl")}}
    with pytest.raises(DataError, match="no such file of explanations"):
        opened(system_config(reviewed.folder, tmp_path, model=missing))

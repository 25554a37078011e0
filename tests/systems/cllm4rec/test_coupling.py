"""What a run logs of its coupling is what a backward pass of each part gives, and changes nothing.

| claim | test |
|---|---|
| ratios are those of two backward passes | test_ratios_are_those_of_two_backward_passes |
| ten times the weight, ten times the ratio | test_the_ratio_follows_the_weight |
| a batch in parts is the whole batch | test_a_batch_in_parts_counts_as_the_whole |
| cosines by hand | test_cosines_of_equal_opposite_and_unlike_tables |
| training and random state stay | test_measuring_changes_no_bit_of_a_training |
"""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from legos.data.ragged import from_lengths
from legos.data.tables import Tables
from legos.modes.main import run
from legos.reports.curves import observed_cells
from legos.runs.checkpoint import read_checkpoint
from legos.runs.folder import run_folder
from legos.systems.cllm4rec.batches import ContentLM, InteractionLM, PromptBatch, content_kind
from legos.systems.cllm4rec.coupling import gradient_ratios, mean_cosines, measured_steps
from legos.systems.cllm4rec.losses import combine
from legos.systems.cllm4rec.model import Cllm4Rec
from legos.systems.cllm4rec.recipe import Cllm4RecRecipe
from legos.systems.cllm4rec.settings import Cllm4RecConfig
from tests.systems.cllm4rec.small import ragged, small_cllm4rec, small_templates
from tests.systems.cllm4rec.world import world_config, world_tables

USERS, ITEMS = 4, 9
OWNED = ragged([[0, 3, 5], [1, 2], [4, 6, 8], [0, 7]])
TEMPLATES = small_templates(USERS, ITEMS)
REDUCTIONS = ("paper", "public_code", "mean_unique")


def small(reduction: str = "paper", *, weight: float = 0.5, family: str = "gpt2") -> Cllm4Rec:
    mutual = {"reduction": reduction, "weight": weight}
    settings = Cllm4RecConfig.model_validate({"mutual": mutual})
    return small_cllm4rec(settings, users=USERS, items=ITEMS, family=family)


def batch_of(model: Cllm4Rec, task: str) -> PromptBatch:
    if task == "collaborative":
        data = InteractionLM(OWNED, TEMPLATES, model.settings, seed=1)
        return data.batch(torch.arange(USERS), epoch=0)
    kinds = torch.tensor([content_kind("review")] * 3)
    users, items = torch.tensor([0, 2, 3]), torch.tensor([5, 6, 7])
    texts = from_lengths(torch.tensor([30, 31, 32, 33, 30, 29]), torch.tensor([3, 1, 2]))
    whole = ContentLM(kinds, users, items, texts, TEMPLATES, model.settings)
    return whole.batch(torch.arange(3))


def ratios(model: Cllm4Rec, task: str, *steps: list[PromptBatch]) -> dict[str, float]:
    return gradient_ratios(model, task, steps, nullcontext())


def by_backward(model: Cllm4Rec, task: str, *, weighted: bool) -> list[torch.Tensor]:
    """Gradients of a whole loss without one of its parts, by a backward pass."""
    model = copy.deepcopy(model)
    parts = model(batch_of(model, task), task)
    none = torch.zeros(())
    dropped = "likelihood" if weighted else "regularisation"
    parts = parts._replace(**{dropped: none})
    combine(parts, model.settings.mutual).backward()
    own = model.collaborative if task == "collaborative" else model.content
    assert own is not None
    assert own.user.weight.grad is not None
    assert own.item.weight.grad is not None
    return [own.user.weight.grad.norm(), own.item.weight.grad.norm()]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("task", ["collaborative", "content"])
def test_ratios_are_those_of_two_backward_passes(task: str, reduction: str) -> None:
    model = small(reduction)
    found = ratios(model, task, [batch_of(model, task)])
    pull, likelihood = (by_backward(model, task, weighted=each) for each in (True, False))
    expected = [float(a / b) for a, b in zip(pull, likelihood, strict=True)]
    assert list(found) == ["gradient_ratio/users", "gradient_ratio/items"]
    assert list(found.values()) == pytest.approx(expected, rel=1e-5)
    assert min(expected) > 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_ratio_follows_the_weight(reduction: str) -> None:
    one, ten, none = (small(reduction, weight=weight) for weight in (1.0, 10.0, 0.0))
    batch = batch_of(one, "collaborative")
    single = ratios(one, "collaborative", [batch])
    tenfold = ratios(ten, "collaborative", [batch])
    assert tenfold == pytest.approx({name: 10 * value for name, value in single.items()}, rel=1e-5)
    assert set(ratios(none, "collaborative", [batch]).values()) == {0.0}


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_a_batch_in_parts_counts_as_the_whole(family: str) -> None:
    model = small(family=family)
    for task in ("collaborative", "content"):
        whole = batch_of(model, task)
        parts = [
            whole.part(torch.tensor([0]), counts=True),
            whole.part(torch.arange(1, len(whole)), counts=False),
        ]
        assert ratios(model, task, parts) == pytest.approx(ratios(model, task, [whole]), rel=1e-4)
        twice = ratios(model, task, [whole], [whole])
        assert twice == pytest.approx(ratios(model, task, [whole]), rel=1e-6)


def test_texts_of_items_alone_say_nothing_of_users() -> None:
    model = small()
    kinds, none = torch.tensor([content_kind("title")] * 2), torch.tensor([-1, -1])
    texts = from_lengths(torch.tensor([30, 31]), torch.tensor([1, 1]))
    data = ContentLM(kinds, none, torch.tensor([1, 2]), texts, TEMPLATES, model.settings)
    found = ratios(model, "content", [data.batch(torch.arange(2))])
    assert list(found) == ["gradient_ratio/items"]


def test_cosines_of_equal_opposite_and_unlike_tables() -> None:
    model = small()
    assert model.content is not None
    with torch.no_grad():
        model.content.user.weight.copy_(3 * model.collaborative.user.weight)
        model.content.item.weight.copy_(-model.collaborative.item.weight)
    found = mean_cosines(model)
    assert found == pytest.approx({"cosine/users": 1.0, "cosine/items": -1.0})
    with torch.no_grad():  # half of the rows alike, half at right angles
        model.content.user.weight.zero_()
        model.collaborative.user.weight.zero_()
        model.collaborative.user.weight[:, 0] = 1
        model.content.user.weight[:2, 0] = model.content.user.weight[2:, 1] = 1
    assert mean_cosines(model)["cosine/users"] == pytest.approx(0.5)


@pytest.mark.parametrize(("steps", "measured"), [(1, 1), (39, 1), (40, 2), (79, 3), (5000, 4)])
def test_at_most_one_step_in_twenty_is_measured(steps: int, measured: int) -> None:
    assert measured_steps(steps) == measured


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coupled")
    world_tables(folder / "tables", reviews=True)
    return folder


def trained(root: Path, runs: Path, **model: Any) -> tuple[list[dict[str, Any]], Path]:
    """Lines of metrics.jsonl and the last checkpoint of a short run."""
    config = world_config(root, model=model, runs_folder=str(runs), report=True)
    run(config)
    folder = run_folder(config, Tables.load(config.data.folder))
    text = (folder.path / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()], folder.checkpoints / "last"


@pytest.mark.slow
@pytest.mark.parametrize("acc_batch", [1, 2])
def test_measuring_changes_no_bit_of_a_training(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acc_batch: int
) -> None:
    model = {"train": {"acc_batch": acc_batch}}
    lines, with_it = trained(root, tmp_path / "with", **model)
    names = {"gradient_ratio/users", "gradient_ratio/items", "cosine/users", "cosine/items"}
    observed = [line for line in lines if line["kind"] in ("pass", "valid") and line.get("task")]
    pulled = [(line["stage"], line["task"]) for line in observed if "observed" in line]
    assert pulled == [
        *[("pretraining", "collaborative"), ("pretraining", "content")] * 2,
        *[("finetuning", "recommendation"), ("finetuning", "content")] * 2,
    ]
    assert all(set(line.get("observed", names)) == names for line in observed)
    page = (with_it.parents[1] / "report.html").read_text(encoding="utf-8")
    assert all(text in page for text in ("Gradient ratio", "Cosine", "users, collaborative"))
    monkeypatch.setattr(Cllm4RecRecipe, "observed", lambda self, segment: {})
    plain, without = trained(root, tmp_path / "without", **model)
    assert not any("observed" in line for line in plain)
    ours, theirs = read_checkpoint(with_it), read_checkpoint(without)
    assert ours.state["random"] == theirs.state["random"]
    for tensors, others in ((ours.model, theirs.model), (ours.optimizer, theirs.optimizer)):
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())


@pytest.mark.slow
def test_without_texts_there_is_nothing_to_measure(root: Path, tmp_path: Path) -> None:
    lines, _ = trained(root, tmp_path / "alone", name="cf", content={"enabled": False})
    assert not any("observed" in line for line in lines)


def test_a_comparison_shows_what_was_observed_last(tmp_path: Path) -> None:
    def line(stage: str, task: str, epoch: int, **observed: float) -> str:
        named = {name.replace("__", "/"): value for name, value in observed.items()}
        place = {"kind": "pass", "stage": stage, "task": task, "epoch": epoch, "step": epoch}
        return json.dumps({**place, "observed": named})

    folders = {"one": [tmp_path / "a", tmp_path / "b"], "none": [tmp_path / "c"]}
    for name, shift in (("a", 0.0), ("b", 0.2)):
        (tmp_path / name).mkdir()
        lines = [
            line("pretraining", "content", 1, cosine__items=0.9),
            line("pretraining", "content", 2, cosine__items=0.1 + shift),
            line("finetuning", "content", 3, gradient_ratio__items=2.0),
            json.dumps({"kind": "pass", "epoch": 4, "step": 4}),
        ]
        (tmp_path / name / "metrics.jsonl").write_text("".join(f"{each}\n" for each in lines))
    assert observed_cells(folders) == [
        ["", "cosine/items", "gradient ratio/items"],
        ["one, pretraining content", "0.2000", ""],
        ["one, finetuning content", "", "2.0000"],
    ]
    assert observed_cells({"none": folders["none"]}) == []

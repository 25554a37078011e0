"""Runs on a language model: the cache is made, read, refused and explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from legos.config.schema import RunConfig
from legos.errors import CheckpointError, ConfigError, DataError
from legos.files import write_json
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource
from legos.lm.verify import Difference, states_at
from legos.modes.check import check
from legos.modes.main import run
from legos.workplace import language
from tests.modes.tiny_config import NAML, tiny_config
from tests.tiny import tiny_tables
from tests.training.two_processes import in_two_processes

SOURCE: dict[str, Any] = {
    "name": "tiny",
    "random": True,
    "tokenizer": "minilm",
    "shape": {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 64,
    },
}


def language_config(tables: Path, folder: Path, *, exp: dict[str, Any], **item: Any) -> RunConfig:
    """A run of NAML's user encoder over the tiny language model."""
    brick = {"name": "language_model", "model": SOURCE, "attention_size": 8, **item}
    if brick["name"] != "language_model":
        del brick["attention_size"]
    exp = {"cache": {"folder": str(folder / "cache"), **exp.pop("cache", {})}, **exp}
    model = {**NAML, "name": "tiny-naml", "item": brick}
    return tiny_config(tables, folder / "runs", model=model, **exp)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return tiny_tables(tmp_path / "tables", num_impressions=60)


def epochs(count: int, **more: Any) -> dict[str, Any]:
    return {"train": {"epochs": count, "item_lr": 0.001, **more}}


@pytest.mark.slow
@pytest.mark.parametrize(
    "item",
    [
        {"layer": 0},
        {"layer": 2, "lora_rank": 2},
        pytest.param({"layer": -1, "frozen": True}, marks=pytest.mark.nightly),
        pytest.param({"layer": 1, "cache_dtype": "bf16"}, marks=pytest.mark.nightly),
        {"name": "iisan"},
        {"name": "text_vectors"},
    ],
    ids=str,
)
def test_a_recommender_on_a_language_model_learns_the_planted_taste(
    tmp_path: Path, item: dict[str, Any]
) -> None:
    tables = tiny_tables(tmp_path / "tables", num_impressions=100)
    exp = {"train": {"epochs": 3, "lr": 0.01, "item_lr": 0.005}}
    results = run(language_config(tables, tmp_path, exp=exp, **item))
    # one mean of random states an item says less than states that attention chooses from
    floor = 0.57 if item.get("name") == "text_vectors" else 0.65
    assert results["splits"]["test"]["rows"]["all"]["GAUC"] > floor
    assert (tmp_path / "cache").exists() == (item != {"layer": 0})


@pytest.mark.slow
def test_cached_and_uncached_training_give_the_same_scores(tables: Path, tmp_path: Path) -> None:
    """Without dropout and with the layers below frozen on both sides, to the last digits."""
    shape = {**SOURCE["shape"], "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    source = {**SOURCE, "shape": shape}
    results = [
        run(
            language_config(tables, tmp_path, exp=epochs(2), model=source, layer=layer, frozen=True)
        )
        for layer in (0, 1, 2)
    ]
    found = [each["splits"]["test"]["rows"]["all"] for each in results]
    for other in found[1:]:
        assert other == pytest.approx(found[0], abs=1e-5)


@pytest.mark.slow
def test_the_cache_is_made_once_after_saying_so(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = language_config(tables, tmp_path, exp=epochs(1), layer=2)
    run(config)
    assert "nothing is cached yet; caching layer_2 of tiny now" in capsys.readouterr().out
    run(config.model_copy(update={"exp": config.exp.model_copy(update={"runs_folder": tmp_path})}))
    assert "caching" not in capsys.readouterr().out


@pytest.mark.slow
def test_mode_cache_writes_several_layers_in_one_pass_and_training_reads_them(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    exp = {"mode": "cache", "cache": {"layers": [-1, -2], "pooled": True}}
    summary = run(language_config(tables, tmp_path, exp=exp))
    assert summary["parts"] == ["layer_2", "layer_1", "pooled"]
    assert summary["items"] == 60
    again = run(language_config(tables, tmp_path, exp=exp))
    assert again["computed"] == []
    assert "nothing to compute" in capsys.readouterr().out

    def fail(self: LanguageModel) -> None:
        raise AssertionError("the language model was loaded although all is cached")

    monkeypatch.setattr(LanguageModel, "load", fail)
    run(language_config(tables, tmp_path, exp=epochs(1), name="iisan"))


def test_mode_cache_needs_a_language_model(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="uses no language model"):
        run(tiny_config(tables, tmp_path, mode="cache"))


def test_no_such_layer_is_refused(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"layer 3: tiny has 3 layers.*passed the final norm"):
        run(language_config(tables, tmp_path, exp=epochs(1), layer=3))


@pytest.mark.slow
def test_a_checkpoint_holds_what_was_trained_and_the_fingerprint_of_the_rest(
    tables: Path, tmp_path: Path
) -> None:
    config = language_config(tables, tmp_path, exp=epochs(1), layer=2, lora_rank=2)
    results = run(config)
    folder = tmp_path / "runs" / "tiny" / "tiny-naml" / results["run"] / "checkpoints" / "best"
    names = set(load_file(folder / "model.safetensors"))
    inside = {name for name in names if "language_model" in name}
    assert inside
    assert all("lora_" in name for name in inside)
    state = json.loads((folder / "state.json").read_text())
    expected = LanguageModel(LanguageModelSource(**SOURCE)).fingerprint
    assert state["frozen"] == {"item_encoder.language_model": expected}
    other = config.model.model_copy(
        update={
            "item": config.model.item.model_copy(
                update={"model": LanguageModelSource(**{**SOURCE, "seed": 9})}
            )
        }
    )
    exp = config.exp.model_copy(update={"mode": "test", "load": folder})
    with pytest.raises(CheckpointError, match="trained with other settings"):
        run(config.model_copy(update={"model": other, "exp": exp}))


@pytest.mark.slow
def test_a_changed_title_is_a_miss_that_names_the_item(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = language_config(tables, tmp_path, exp=epochs(1), layer=2)
    run(config)
    path = tables / "columns" / "items" / "title.json"
    titles = json.loads(path.read_text())
    titles[7] = "another title"
    write_json(path, titles)
    manifest = json.loads((tables / "manifest.json").read_text())
    manifest["files"]["columns/items/title.json"]["bytes"] = path.stat().st_size
    manifest["fingerprint"] = "changed"
    write_json(tables / "manifest.json", manifest)
    capsys.readouterr()
    run(config)
    assert "'N7'" in capsys.readouterr().out


@pytest.mark.slow
def test_a_flipped_byte_is_refused(tables: Path, tmp_path: Path) -> None:
    config = language_config(tables, tmp_path, exp=epochs(1), layer=2)
    run(config)
    (shard,) = (tmp_path / "cache").glob("tiny/*/layer_2/*.npy")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    exp = config.exp.model_copy(update={"runs_folder": tmp_path / "other"})
    with pytest.raises(DataError, match=r"00000\.npy"):
        run(config.model_copy(update={"exp": exp}))


@pytest.mark.slow
def test_states_that_are_not_finite_name_the_item(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = LanguageModel.load

    def broken(self: LanguageModel) -> torch.nn.Module:
        model: Any = original(self)
        sports = self.tokenizer.encode("sports", add_special_tokens=False).ids[0]
        model.embeddings.word_embeddings.weight.data[sports] = torch.nan
        return model  # type: ignore[no-any-return]

    monkeypatch.setattr(LanguageModel, "load", broken)
    with pytest.raises(DataError, match=r"N0.*and 1\d more"):
        run(language_config(tables, tmp_path, exp=epochs(1), layer=1))


@pytest.mark.slow
def test_item_lr_is_the_rate_of_the_language_model(tables: Path, tmp_path: Path) -> None:
    """At rate 0 for all others only the language model moves, and the other way round."""
    moved = []
    for rates in ({"lr": 1e-30, "item_lr": 0.01}, {"lr": 0.01, "item_lr": 1e-30}):
        results = run(
            language_config(tables, tmp_path, exp={"train": {"epochs": 1, **rates}}, layer=2)
        )
        folder = tmp_path / "runs" / "tiny" / "tiny-naml" / results["run"] / "checkpoints" / "best"
        moved.append(load_file(folder / "model.safetensors"))
    inside = [name for name in moved[0] if name.startswith("item_encoder.language_model.")]
    head = [name for name in moved[0] if name not in inside]
    assert any(not torch.equal(moved[0][name], moved[1][name]) for name in inside)
    start = load_start(tables, tmp_path)
    assert all(torch.allclose(moved[0][name], start[name], atol=1e-20) for name in head)
    assert all(torch.allclose(moved[1][name], start[name], atol=1e-20) for name in inside)


def load_start(tables: Path, tmp_path: Path) -> dict[str, torch.Tensor]:
    """The weights before the first step."""
    from legos.data.tables import Tables
    from legos.workplace.device import make_accelerator
    from legos.workplace.workplace import Workplace

    config = language_config(tables, tmp_path, exp=epochs(1), layer=2)
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    return Workplace.open(config, accelerator, Tables.load(tables)).model().state_dict()


@pytest.mark.slow
def test_the_check_counts_without_weights(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    from rich.console import Console

    from legos.modes.check import check

    def fail(self: LanguageModel) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(LanguageModel, "load", fail)
    config = language_config(tables, tmp_path, exp=epochs(1), layer=2, lora_rank=4)
    check(config, Console(width=200))
    shown = capsys.readouterr().out
    assert "1 of 3" in shown
    assert "LoRA of rank 4 on 1 of 3 layers: 256 parameters" in shown  # 2 * 4 * (16 + 16)
    assert "for layer 2" in shown
    assert not (tmp_path / "cache").exists()


@pytest.mark.multiprocess
def test_two_processes_share_one_cache_and_train_as_one(tables: Path, tmp_path: Path) -> None:
    shape = {**SOURCE["shape"], "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    brick = {
        "name": "language_model", "model": {**SOURCE, "shape": shape}, "attention_size": 8,
        "layer": 1, "lora_rank": 2, "lora_dropout": 0.0,
    }  # fmt: skip
    model = {**NAML, "name": "tiny-naml", "item": brick}
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        exp = {
            "model": model,
            "cache": {"folder": str(folder / "cache")},
            "train": {"epochs": 2, "batch_size": 16, "item_lr": 0.001},
        }
        if processes == 1:
            results = run(tiny_config(tables, folder, **json.loads(json.dumps(exp))))
        else:
            arguments = ["-m", "tests.modes.tiny_config", str(tables), str(folder)]
            first, _ = in_two_processes([*arguments, json.dumps(exp)])
            results = json.loads(first.splitlines()[-1])
        found.append(results["splits"]["test"]["rows"]["all"]["GAUC"])
    assert found[1] == pytest.approx(found[0], abs=0.01)


@pytest.mark.slow
def test_a_cache_is_verified_when_it_is_made_and_once_for_other_libraries(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = language.verify_items

    def counted(model: nn.Module, layer: int, *others: Any, **named: Any) -> Difference:
        seen.append(layer)
        return original(model, layer, *others, **named)

    monkeypatch.setattr(language, "verify_items", counted)
    exp = {"mode": "cache", "cache": {"layers": [1, 2]}}
    run(language_config(tables, tmp_path, exp=exp))
    assert seen == [1, 2]
    config = language_config(tables, tmp_path, exp=epochs(1), layer=2)
    run(config)
    assert seen == [1, 2]
    for note in tmp_path.glob("cache/*/*/layer_2/verified.json"):
        text = note.read_text(encoding="utf-8")
        note.write_text(text.replace("transformers", "transformers-of-old"), encoding="utf-8")
    run(config.model_copy(update={"exp": config.exp.model_copy(update={"runs_folder": tmp_path})}))
    assert seen == [1, 2, 2]


@pytest.mark.slow
def test_a_cache_that_is_not_of_the_model_is_refused_before_training(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        language, "states_at", lambda model, tokens, layer: states_at(model, tokens, layer) + 1
    )
    with pytest.raises(ConfigError, match=r"'tiny' cut at layer 2 does not .* difference \d"):
        run(language_config(tables, tmp_path, exp=epochs(1), layer=2))
    assert not list(tmp_path.glob("cache/*/*/layer_2/manifest.json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "item", "message"),
    [
        ("fnet", {"layer": 0}, "depend on the padding of its batch"),
        ("albert", {"layer": 1}, "no list of its modules has one for each"),
        ("bert", {"layer": 2, "lora_rank": 2, "lora_targets": ["q_proj"]}, "is called 'q_proj'"),
    ],
)
def test_the_check_refuses_what_a_run_refuses(
    tables: Path, tmp_path: Path, kind: str, item: dict[str, Any], message: str
) -> None:
    model = {**SOURCE, "shape": {**SOURCE["shape"], "model_type": kind}}
    config = language_config(tables, tmp_path, exp=epochs(1), model=model, **item)
    with pytest.raises(ConfigError, match=message):
        check(config)
    with pytest.raises(ConfigError, match=message):
        run(config)
    assert not (tmp_path / "cache").exists()

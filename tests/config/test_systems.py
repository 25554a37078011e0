"""Model YAMLs of a system that is not made of bricks, alone and in comparisons."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import legos.config
from legos.config.help import list_families
from legos.config.load import load_run_config
from legos.config.model_schema import ModelConfig, register_system, registered_system, systems
from legos.config.schema import RunConfig
from legos.errors import ConfigError
from legos.settings import OF_WEIGHTS, deciding
from legos.systems.cllm4rec.settings import Cllm4RecModel
from legos.systems.recsysllm.settings import RecsysllmModel

RUN = ["--data", "amazon-beauty-random", "--model", "cllm4rec", "--exp", "cllm4rec"]
COMPARE = ["--data", "amazon-beauty-random", "--exp", "cllm4rec-compare"]


def load(words: list[str]) -> RunConfig:
    return load_run_config(words, notice=lambda text: None)


def message(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(list(words))
    return str(caught.value)


def test_a_model_yaml_names_its_system_and_is_read_back_as_it() -> None:
    config = load([*RUN, "--layers", "2", "--model.content.kinds", "[title]"])
    model = config.model
    assert isinstance(model, Cllm4RecModel)
    assert (model.system, model.model.name) == ("cllm4rec", "smollm2")
    assert (model.backbone.layers, model.content.kinds) == (2, ("title",))
    assert config.exp.train.stages.content_steps is None
    again = RunConfig.model_validate(config.model_dump(mode="json"))
    assert again == config
    with pytest.raises(ConfigError, match="cllm4rec is a system of its own"):
        _ = config.bricks
    bricks = load(["--data", "newsroom", "--model", "naml", "--exp", "tt"])
    assert isinstance(bricks.bricks, ModelConfig)


def test_the_public_code_is_shipped_as_it_was_run() -> None:
    """20 rows on each of 8 GPUs, whose gradients are averaged; the epoch of the largest sum."""
    words = ["--data", "amazon-beauty-random", "--exp", "cllm4rec", "--model"]
    public, paper = (load([*words, name]) for name in ("cllm4rec_public_code", "cllm4rec"))
    assert isinstance(public.model, Cllm4RecModel)
    assert isinstance(paper.model, Cllm4RecModel)
    assert public.exp.train.metric == "Recall@20+Recall@40+nDCG@100"
    assert paper.exp.train.metric == "nDCG@100"
    assert public.exp.train.batch_size == paper.exp.train.batch_size == 160
    assert (public.model.mutual.weight, paper.model.mutual.weight) == (1 / 8, 1.0)
    assert public.model.collaborative.checkpoint == "training_loss"
    chosen = load([*words, "cllm4rec", "--item_scale", "learned", "--soft_dropout", "0.1"]).model
    assert isinstance(chosen, Cllm4RecModel)
    assert (chosen.item_scale, chosen.backbone.soft_dropout) == ("learned", 0.1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model.content.enabld", "1"], "model.content.enabld: unknown key (value 1); did you "),
        (["--model.system", "cllm4re"], "unknown system 'cllm4re'; did you mean 'cllm4rec'?"),
        (["--model.preset", "papers"], "unknown value 'papers'; did you mean 'paper'?"),
        (["--model.hidden_size", "3"], "model.hidden_size: unknown key"),
        (["--llm_ver", "smolm2"], "did you mean 'smollm2'?"),
        (["--rows_per_step", "0"], "expected greater than or equal to 1, found 0"),
    ],
)
def test_a_mistake_names_key_and_nearest(words: list[str], expected: str) -> None:
    assert expected in message(*RUN, *words)


def test_a_wrong_key_is_found_in_its_file_also_within_a_comparison(tmp_path: Path) -> None:
    model = tmp_path / "mine.yaml"
    head = "system: cllm4rec\nname: mine\nmodel: smollm2\n"
    model.write_text(f"{head}train:\n  stages:\n    warmup_epoch: 1\n")
    found = message(*RUN[:2], "--model", str(model), *RUN[4:])
    assert f"{model}:6: exp.train.stages.warmup_epoch: unknown key" in found
    assert "did you mean 'warmup_epochs'?" in found
    model.write_text(f"{head}stages:\n  warmup_epoch: 1\n")  # as before there was one ``train``
    found = message(*RUN[:2], "--model", str(model), *RUN[4:])
    assert f"{model}:5: exp.train.stages.warmup_epoch: unknown key" in found
    assert "did you mean 'warmup_epochs'?" in found
    exp = tmp_path / "both.yaml"
    exp.write_text(
        "name: both\nmode: compare\ncompare:\n  models:\n    - multi_vae\n    - model: cllm4rec\n"
        "      mutual: {wieght: 2}\n    - {system: cllm4rec, name: own, model: smolm2}\n"
    )
    found = message(*COMPARE[:2], "--exp", str(exp))
    assert "smolm2" in found
    exp.write_text(exp.read_text().replace("smolm2", "smollm2"))
    found = message(*COMPARE[:2], "--exp", str(exp))
    assert f"{exp}:7: exp.compare.models.1.mutual.wieght: unknown key" in found
    assert "did you mean 'weight'?" in found
    model.write_text("system: llm\nname: mine\n")
    assert f"{model}:1: model.system: unknown system 'llm'" in message(
        *RUN[:2], "--model", str(model), *RUN[4:]
    )


def test_a_comparison_has_systems_and_bricks_each_with_its_own_training() -> None:
    config = load([*COMPARE, "--seeds", "[1, 2]", "--exp.train.patience", "9", "--layers", "3"])
    rows = {row.label: row for row in config.rows()}
    assert list(rows)[:2] == ["cllm4rec", "llm_prerec"]
    assert {row.reference for name, row in rows.items() if name != "cllm4rec"} == {"cllm4rec"}
    sasrec, vae = rows["sasrec_id"].runs[0].exp.train, rows["multi_vae"].runs[1].exp.train
    assert (sasrec.loss, sasrec.patience, sasrec.metric) == ("full_softmax", 9, "nDCG@100")
    assert (vae.loss, vae.patience, vae.seed) == ("multinomial", 9, 2)
    ours = rows["cllm4rec"].runs[0]
    alone = load([*RUN, "--seed", "1", "--layers", "3"])
    assert ours.model == alone.model
    same = alone.model_copy(update={"exp": ours.exp})
    assert deciding(ours, OF_WEIGHTS) == deciding(same, OF_WEIGHTS)


def test_token_vectors_are_no_matter_of_a_system(tmp_path: Path) -> None:
    exp = tmp_path / "both.yaml"
    exp.write_text(
        "name: both\nmode: compare\ncompare:\n  models: [naml, cllm4rec]\n"
        "  embeds: ['null', minilm-token]\n"
    )
    rows = load([*COMPARE[:2], "--exp", str(exp)]).rows()
    assert [row.label for row in rows] == ["naml + null", "naml + minilm-token", "cllm4rec"]


def test_config_imports_no_system_and_each_system_registers_itself_once() -> None:
    imported = set()
    for path in sorted(Path(legos.config.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported.add(str(node.module))
    named = [entry.section.__module__ for entry in map(registered_system, systems())]
    packages = {module.rpartition(".")[0] for module in named} - {"legos.config"}
    assert {"legos.systems", "legos.modes"} & imported == set()
    assert len(packages) == len(named) - 1
    assert not [name for name in imported if name.rpartition(".")[0] in packages]
    with pytest.raises(TypeError, match="must default to a new name, not 'cllm4rec'"):
        register_system(about="again", runs="a:b", shows="a:b")(Cllm4RecModel)


def test_systems_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    list_families(["system"])
    shown = capsys.readouterr().out
    assert "  cllm4rec   CLLM4Rec: user and item ID tokens inside" in shown
    assert "  recsysllm  RecSysLLM: a language model that fills blanks" in shown


def test_ablations_of_recsysllm_are_variables() -> None:
    words = ["--data", "amazon-beauty", "--model", "recsysllm", "--exp", "recsysllm"]
    words += ["--item_text", "id", "--intra_mode", "glm", "--shuffle_spans", "1"]
    model = load([*words, "--whole_entities", "0", "--adapters", "qkv"]).model
    assert isinstance(model, RecsysllmModel)
    assert (model.tasks.item_text, model.backbone.lora_targets) == ("id", ("qkv",))
    assert (model.positions.intra_mode, model.positions.shuffle_spans) == ("glm", True)
    assert not model.masking.whole_entities
    assert "did you mean 'intra_mode'?" in message(*words, "--model.positions.intra_mod", "glm")

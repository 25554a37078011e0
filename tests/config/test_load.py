"""From a command line to a configuration: what it holds and what is refused, all at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from legos.config.load import load_run_config
from legos.config.schema import RunConfig
from legos.config.yaml_files import read_document
from legos.errors import ConfigError
from legos.item.cnn import CNNConfig

RUN = ["--data", "newsroom", "--model", "naml", "--exp", "train"]


def message(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_run_config([*words])
    return str(caught.value)


def test_a_configuration_survives_being_written_as_json() -> None:
    config = load_run_config([*RUN, "--lr", "1e-4"])
    again = RunConfig.model_validate(json.loads(json.dumps(config.model_dump(mode="json"))))
    assert again == config
    assert isinstance(again.model.item, CNNConfig)
    assert config.model_dump(mode="json")["exp"]["train"]["lr"] == 1e-4


def test_a_configuration_cannot_be_changed() -> None:
    config = load_run_config(RUN)
    with pytest.raises(ValueError, match="frozen"):
        config.model.hidden_size = 3


def test_a_path_and_a_bare_name_are_the_same() -> None:
    root = Path(__file__).resolve().parents[2]
    words = ["--data", f"{root}/config/data/newsroom.yaml", *RUN[2:]]
    assert load_run_config(words) == load_run_config(RUN)


def test_a_dotted_option_passes_the_schema_and_may_refer_to_variables() -> None:
    words = ["--model.item.dropout", "0.1", "--data.history_length", "${hidden_size}"]
    config = load_run_config([*RUN, *words, "--model.item.form", "sequence"])
    assert isinstance(config.model.item, CNNConfig)
    assert config.model.item.dropout == 0.1
    assert config.model.item.form == "sequence"
    assert config.data.history_length == 64


def test_a_whole_brick_can_be_replaced() -> None:
    config = load_run_config([*RUN, "--model.item", "{name: pooling, mode: max}"])
    assert config.model.item.name == "pooling"


def test_a_custom_variable_of_the_yaml_is_not_an_error(tmp_path: Path) -> None:
    data = tmp_path / "mine.yaml"
    data.write_text("name: mine\nfolder: ${where}/x\nfields: [title@bert]\nhistory_length: 5\n")
    config = load_run_config(["--data", str(data), *RUN[2:], "--where", "/tmp"])  # noqa: S108
    assert config.data.folder == Path("/tmp/x")  # noqa: S108
    assert "--were: no YAML of this run uses" in message(
        "--data", str(data), *RUN[2:], "--where", "a", "--were", "b"
    )


def test_missing_and_misspelled_yamls_are_told_at_once() -> None:
    text = message("--data", "newsrom", "--model", "config/model/nml.yaml")
    assert (
        "--data newsrom: no such YAML, nor tables in data/newsrom; did you mean 'newsroom'?" in text
    )
    assert "--model config/model/nml.yaml: no such file" in text
    text = message("--model", "naml")
    assert "--exp: missing; usually `--exp tt` (train and test); choose from: cache," in text
    assert len(text) < 800


@pytest.mark.parametrize(
    ("model", "exp"), [("naml", "tt"), ("cllm4rec", "cllm4rec"), ("recsysllm_small", "recsysllm")]
)
def test_a_model_without_an_experiment_is_trained_and_tested(model: str, exp: str) -> None:
    notices: list[str] = []
    config = load_run_config(["--data", "newsroom", "--model", model], notice=notices.append)
    assert config.exp.mode == "train_test"
    assert notices == [f"using --exp {exp}"]


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["--data", "newsroom", "--modle", "naml"], "--modle: no such option; did you mean --mode"),
        ([*RUN, "--chek"], "--chek: no such option; did you mean --check?"),
        ([*RUN, "--modle.hidden_size", "8"], "--modle.hidden_size: no such section 'modle'; did"),
        ([*RUN, "--sede", "8"], "--sede: no YAML of this run uses ${sede}; did you mean 'seed'?"),
    ],
)
def test_a_misspelled_option_is_told_with_the_nearest(words: list[str], near: str) -> None:
    assert near in message(*words)


def test_the_nearest_yaml_is_looked_for_in_the_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.yaml").write_text("a: 1\n")
    monkeypatch.delattr(Path, "rglob")  # of a home folder it would read the whole disk
    with pytest.raises(ConfigError, match=r"ran\.yaml: no such file; did you mean 'run\.yaml'"):
        read_document(tmp_path / "ran.yaml")


def test_an_unknown_key_of_a_user_encoder_is_compared_with_its_own() -> None:
    text = message(*RUN, "--model.user.attention_sise", "8")
    assert "attention_sise: unknown key (value 8); did you mean 'attention_size'?" in text


def test_an_empty_list_of_seeds_is_refused() -> None:
    text = message("--data", "newsroom", "--exp", "quickstart", "--exp.compare.seeds", "[]")
    assert "exp.compare.seeds: expected at least one, found []" in text


def test_all_schema_errors_are_told_at_once_with_place_value_and_choice() -> None:
    text = message(
        *RUN,
        *("--data.nme", "x"),
        *("--data.fields.0.length", "long"),
        *("--model.item.dropot", "0.1"),
        *("--model.user.attention_size", "0"),
        *("--exp.train.optimizer", "adamx"),
        *("--exp.train.batch_size", "1.5"),
        *("--exp.train.lr", "true"),
        *("--exp.baselines", "[randm]"),
        *("--exp.train.metric", "GAUCC"),
        *("--exp.device", "gpu"),
        *("--embed.dropout", "1"),
    )
    assert text.startswith("11 invalid settings:")
    assert "data.nme: unknown key (value 'x'); did you mean 'name'?" in text
    assert "data.fields.0.length: expected a whole number, found 'long'" in text
    assert "model.item.dropot: unknown key (value 0.1); did you mean 'dropout'?" in text
    assert "model.user.attention_size: expected greater than or equal to 1, found 0" in text
    assert "exp.train.optimizer: unknown value 'adamx'; did you mean 'adam'?" in text
    assert "exp.train.batch_size: expected a whole number, found 1.5" in text
    assert "exp.train.lr: expected a number, found True" in text
    assert "exp.baselines.0: unknown baseline 'randm'; did you mean 'random'?" in text
    assert "exp.train.metric: " in text
    assert "did you mean 'GAUC'" in text
    assert "exp.device: expected auto, cpu, cuda" in text
    assert "embed.dropout: expected less than 1, found 1" in text


def test_an_error_in_a_file_names_file_and_line(tmp_path: Path) -> None:
    model = tmp_path / "mine.yaml"
    model.write_text(
        "name: mine\n"
        "item:\n"
        "  name: id_and_content\n"
        "  content:\n"
        "    name: cnn\n"
        "    kernel: 5\n"
        "user: {name: pooling}\n"
    )
    text = message("--data", "newsroom", "--model", str(model), "--exp", "train")
    assert f"{model}:6: model.item.content.kernel: unknown key (value 5)" in text
    assert "did you mean 'kernel_size'" in text
    assert f"{model}: model.predictor: missing; The predictor" in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model.item.name", "bert"], "unknown item encoder 'bert'"),
        (["--model.user", "{}"], "model.user.name: missing; choose from: additive_attention"),
        (["--model.user", "3"], "expected a mapping with a name, found 3"),
        (["--exp.train", "3"], "exp.train: expected keys and values, found 3"),
        (["--exp.mode", "compare"], "mode compare needs a section compare"),
        (["--exp.load", "runs/x"], "load is read by modes test, export and recommend only"),
        (["--embed.path", "x"], "source random reads no path"),
        (["--embed.source", "text_file"], "source text_file needs a path"),
        (["--embed_hidden_size", "32"], "random vectors (null) are model.hidden_size = 64 wide"),
        (["--data.name", "a/../b"], "expected letters, digits"),
        (["--data.fields", "none"], "data.fields: expected"),
        (["--data.fields", "[title@a, title@b]"], "field title given twice"),
        (["--data.fields", "[{column: category, length: 3}]"], "has no tokenizer"),
        (["--data.splits.test", "[valid]"], "split valid given twice"),
        (["--exp.train.lr", ".inf"], "exp.train.lr: expected"),
        (["--exp.train.lr", "-1"], "exp.train.lr: expected greater than 0, found -1"),
        (["--exp.train.lr", "${speed}"], "needs variable 'speed'"),
        (["--exp.runs_folder", "${exp.runs_folder}"], "refers to itself"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], expected: str) -> None:
    assert expected in message(*RUN, *words)


def test_a_published_variable_without_effect_is_a_notice() -> None:
    notices: list[str] = []
    load_run_config([*RUN, "--layer", "31", "--version", "small"], notice=notices.append)
    assert len(notices) == 2
    assert "--layer has no effect" in notices[0]


def test_a_comparison_holds_its_models_and_needs_no_model() -> None:
    config = load_run_config(["--data", "newsroom", "--exp", "compare", "--lr", "0.01"])
    assert config.exp.compare is not None
    runs = config.runs()
    assert config.model == runs[0].model
    assert len(runs) == len(config.exp.compare.models) * 3
    assert [run.exp.train.seed for run in runs[:3]] == [1, 2, 3]
    assert {run.exp.train.lr for run in runs} == {0.01}


def test_a_run_of_a_comparison_equals_the_run_by_itself() -> None:
    config = load_run_config(["--data", "newsroom", "--exp", "compare"])
    words = ["--data", "newsroom", "--model", "naml", "--exp", "tt-naml", "--seed", "1"]
    words += ["--exp.train.epochs", "2"]
    alone = load_run_config(words)
    first = config.runs()[0]
    assert (first.data, first.model, first.embed) == (alone.data, alone.model, alone.embed)
    assert first.exp.train == alone.exp.train
    assert first.exp.evaluate == alone.exp.evaluate


def test_overrides_reach_every_model_of_a_comparison() -> None:
    words = ["--data", "newsroom", "--exp", "quickstart", "--model.hidden_size", "32"]
    runs = load_run_config(words).runs()
    found = [(run.model.name, run.model.hidden_size) for run in runs]
    assert found == [("naml", 32), ("recommended", 32)]


CROSS = """
name: mine
mode: compare
compare:
  models:
    - nrms
    - model: naml
      cross:
        - {short: {item: {dropout: 0.1}}, tall: {item: {dropout: 0.3}}}
        - {few: {item: {kernel_size: 1}}, many: {item: {kernel_size: 5}}}
"""


def test_a_cross_is_a_row_for_every_choice_of_its_words(tmp_path: Path) -> None:
    exp = tmp_path / "mine.yaml"
    exp.write_text(CROSS, encoding="utf-8")
    compare = load_run_config(["--data", "newsroom", "--exp", str(exp)]).exp.compare
    assert compare is not None
    names = ["nrms", "short-few", "short-many", "tall-few", "tall-many"]
    assert [model.name for model in compare.models] == names
    items = [model.model_dump()["item"] for model in compare.models[1:]]
    chosen = [(item["dropout"], item["kernel_size"]) for item in items]
    assert chosen == [(0.1, 1), (0.1, 5), (0.3, 1), (0.3, 5)]
    exp.write_text(CROSS.replace("dropout: 0.3", "drop: 0.3"), encoding="utf-8")
    found = message("--data", "newsroom", "--exp", str(exp))
    assert "mine.yaml:9: exp.compare.models.3.item.drop: unknown key" in found
    exp.write_text(CROSS.replace("few: {item: {kernel_size: 1}}", "few: 1"), encoding="utf-8")
    found = message("--data", "newsroom", "--exp", str(exp))
    assert "mine.yaml:8: exp.compare.models.1.cross: expected a list of mappings" in found


def test_rows_that_a_comparison_is_to_do_without_are_left_out(tmp_path: Path) -> None:
    exp = tmp_path / "mine.yaml"
    exp.write_text(CROSS, encoding="utf-8")
    words = ["--data", "newsroom", "--exp", str(exp), "--exp.compare.without"]
    compare = load_run_config([*words, "[nrms, short-many]"]).exp.compare
    assert compare is not None
    assert [model.name for model in compare.models] == ["short-few", "tall-few", "tall-many"]
    assert load_run_config([*words, "[]"]).exp.compare == load_run_config(words[:-1]).exp.compare
    found = message(*words, "[shortfew]")
    assert "command line: exp.compare.without: no row is called 'shortfew'" in found
    assert "did you mean 'short-few'" in found
    every = "[nrms, short-few, short-many, tall-few, tall-many]"
    assert "exp.compare.without: no row is left" in message(*words, every)
    assert "expected a list of names of rows, found 'nrms'" in message(*words, "nrms")


def test_a_model_of_the_command_line_takes_the_place_of_those_compared() -> None:
    words = ["--data", "newsroom", "--exp", "quickstart", "--model", "pooling", "--embed", "null"]
    (run,) = load_run_config(words).runs()
    assert (run.model.name, run.embed.name) == ("pooling", "null")


def test_a_comparison_of_an_unknown_model_names_the_place() -> None:
    words = ["--data", "newsroom", "--exp", "quickstart", "--exp.compare.models", "[naml, nrsm]"]
    text = message(*words)
    assert "command line: exp.compare.models.1" in text
    assert "did you mean 'nrms'" in text


def test_an_entry_of_a_comparison_may_override_keys_of_the_yaml_it_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nmode: compare\ncompare:\n  models:\n    - naml\n"
        "    - {model: bert-naml, name: frozen, item: {layer: 5, frozen: true}}\n"
    )
    config = load_run_config(["--data", "newsroom", "--exp", str(path), "--hidden_size", "32"])
    assert config.exp.compare is not None
    first, second = config.exp.compare.models
    assert (first.name, second.name) == ("naml", "frozen")
    assert (second.item.name, second.hidden_size) == ("language_model", 32)
    assert second.item.model_dump()["layer"] == 5
    path.write_text(path.read_text().replace("layer: 5", "layers: 5"))
    with pytest.raises(ConfigError, match=r"mine\.yaml:6: exp\.compare\.models\.1\.item\.layers"):
        load_run_config(["--data", "newsroom", "--exp", str(path)])


ROWS = """name: mine
mode: compare
compare:
  models:
    - naml
    - nrms
    - {model: naml, name: naml-profiles, data: mine.yaml}
    - model: nrms
      name: nrms-profiles
      against: nrms
      data: mine.yaml
"""


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An exp YAML with rows on data of their own; the data YAML lies beside it."""
    shipped = Path(__file__).resolve().parents[2] / "config" / "data" / "newsroom.yaml"
    (tmp_path / "mine.yaml").write_text(
        f"$$import: {shipped}\nname: mine\nuser_fields: [region]\nfields: [title@bert]\n"
    )
    path = tmp_path / "rows.yaml"
    path.write_text(ROWS)
    monkeypatch.chdir(tmp_path)
    return path


def comparison(rows: Path, *words: str) -> list[str]:
    return ["--data", "newsroom", "--exp", str(rows), *words]


def test_a_row_of_a_comparison_may_have_data_and_a_reference_of_its_own(rows: Path) -> None:
    config = load_run_config(comparison(rows, "--data.history_length", "7"))
    found = config.rows()
    assert {row.label: row.reference for row in found} == {
        "naml": None,
        "nrms": "naml",
        "naml-profiles": "naml",
        "nrms-profiles": "nrms",
    }
    runs = [row.runs[0] for row in found]
    assert [run.data.name for run in runs] == ["newsroom", "newsroom", "mine", "mine"]
    assert {run.data.history_length for run in runs} == {7}
    alone = load_run_config(
        [
            *("--data", "mine.yaml", "--model", "nrms", "--model.name", "nrms-profiles"),
            *("--exp", "train", "--data.history_length", "7"),
        ]
    )
    assert (runs[3].data, runs[3].model) == (alone.data, alone.model)
    assert type(runs[3].model) is type(alone.model)
    assert config.model == runs[0].model
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_reference_has_the_same_token_vectors_where_there_are_several(rows: Path) -> None:
    words = comparison(rows, "--exp.compare.embeds", '["null", minilm-token]')
    found = {row.label: row.reference for row in load_run_config(words).rows()}
    assert found["naml + null"] is None
    assert found["naml + minilm-token"] == "naml + null"
    assert found["nrms-profiles + minilm-token"] == "nrms + minilm-token"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("against: nrms", "against: nmrs", "models.3.against: no row is called 'nmrs'; did you "),
        ("against: nrms", "against: nrms-profiles", "models.3.against: 'nrms-profiles' is this"),
        ("against: nrms", "agianst: nrms", "rows.yaml:10: exp.compare.models.3.agianst: unknown"),
        ("      data: mine", "      data: mie", "rows.yaml:11: exp.compare.models.3.data: --data"),
        ("      data: mine.yaml", "      data: newsrom", "did you mean 'newsroom'?"),
        ("      data: mine.yaml", "      data: 3", "found 3"),
    ],
)
def test_a_wrong_key_of_a_row_is_told_with_its_place(
    rows: Path, old: str, new: str, expected: str
) -> None:
    text = rows.read_text()
    assert old in text
    rows.write_text(text.replace(old, new))
    assert expected in message(*comparison(rows))


def test_a_wrong_key_in_the_data_of_a_row_is_told_with_its_place(rows: Path) -> None:
    (rows.parent / "mine.yaml").write_text((rows.parent / "mine.yaml").read_text() + "prmpt: x\n")
    text = message(*comparison(rows))
    assert "mine.yaml:5: exp.compare.models.2.data.prmpt: unknown key (value 'x'); did you " in text
    assert "exp.compare.models.3.data.prmpt" in text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("folder: data/other", "data.folder: mine has data/other, but newsroom (--data) has"),
        ("splits: {test: [valid], valid: test}", "data.splits: mine has train: train, valid: test"),
        ("group_by: user", "data.group_by: mine has user, but newsroom (--data) has impression"),
    ],
)
def test_rows_measured_on_different_impressions_are_refused(
    rows: Path, line: str, expected: str
) -> None:
    (rows.parent / "mine.yaml").write_text((rows.parent / "mine.yaml").read_text() + line + "\n")
    text = message(*comparison(rows))
    assert f"exp.compare.models.2.{expected}" in text
    assert f"exp.compare.models.3.{expected}" in text


def test_a_margin_for_cosines_asks_for_cosines() -> None:
    words = ["--data", "amazon-beauty-direct", "--model", "simplex", "--exp", "tt"]
    loss = ["--exp.train.loss", "cosine_contrastive"]
    config = load_run_config([*words, *loss, "--exp.train.margin", "0.4"])
    assert (config.exp.train.margin, config.exp.train.negative_weight) == (0.4, 10.0)
    for other in (["--model.predictor.temperature", "0.1"], ["--model.predictor", "{name: dot}"]):
        assert "needs cosine scores" in message(*words, *loss, *other)
    assert "exp.train.margin" in message(*words, *loss, "--exp.train.margin", "1.0")


def test_negatives_that_do_not_go_with_the_loss_are_refused() -> None:
    words = ["--data", "newsroom", "--model", "nrms_id", "--exp", "tt"]

    def said(loss: str, *more: str) -> str:
        return message(*words, "--exp.train.loss", loss, *more)

    strategy = "--exp.train.negatives.strategy"
    assert "gbce corrects for random negatives" in said("gbce")
    assert said("gbce", strategy, "popularity").endswith("strategy to uniform")
    assert said("sampled_softmax", strategy, "user").endswith("to uniform or popularity")
    shared = ["--exp.train.negatives.shared", "true"]
    assert "strategy impression draws negatives per click" in said("softmax", *shared)
    per_candidate = ["--data", "newsroom", "--model", "din_id", "--exp", "tt", *shared]
    assert "depends on the candidate" in message(*per_candidate, strategy, "uniform")
    for more in ([], shared):
        config = load_run_config([*words, "--exp.train.loss", "gbce", strategy, "uniform", *more])
        assert config.exp.train.calibration == 0.75


def test_lazy_adam_asks_for_a_table_of_ids() -> None:
    words = ["--data", "newsroom", "--exp", "tt", "--exp.train.optimizer", "lazy_adam"]
    assert load_run_config([*words, "--model", "nrms_id"]).exp.train.optimizer == "lazy_adam"
    assert "model naml does not have; use adam or adamw" in message(*words, "--model", "naml")
    beauty = ["--data", "amazon-beauty", "--exp", "recsysllm", "--model", "recsysllm"]
    assert "recsysllm does not have" in message(*beauty, *words[4:])

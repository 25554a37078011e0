"""``${...}``: what it becomes, and what a reference that cannot be resolved says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from legos.config.document import Document
from legos.config.load import load_run_config
from legos.config.references import referenced_variables, resolve
from legos.errors import ConfigError


def resolved(data: dict[str, Any], **variables: Any) -> dict[str, Any]:
    places: dict[tuple[str, ...], str] = {("exp",): "e.yaml:1", ("data",): "d.yaml:1"}
    return resolve(Document(data, places), variables).data


def test_a_reference_keeps_the_type_and_a_text_takes_the_words() -> None:
    found = resolved(
        {"exp": {"a": "${x}", "b": "${x}$", "c": "at ${x}", "d": "${data.n}"}, "data": {"n": 5}},
        x=0.5,
    )
    assert found["exp"] == {"a": 0.5, "b": 0.5, "c": "at 0.5", "d": 5}


def test_the_command_line_wins_over_the_yaml_and_the_yaml_over_the_published_default() -> None:
    data = {"exp": {"own": "${lr:0.5}", "bare": "${lr}"}}
    assert resolved(data)["exp"] == {"own": 0.5, "bare": 0.001}
    assert resolved(data, lr=2)["exp"] == {"own": 2, "bare": 2}
    assert resolved({"exp": {"width": "${embed_hidden_size}"}})["exp"] == {"width": None}


def test_variables_do_not_leak_into_the_sections() -> None:
    assert resolved({"exp": {"a": 1}}, seed=3) == {"exp": {"a": 1}}


def test_every_reference_to_nothing_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        resolved({"exp": {"a": {"b": "${glove}"}}, "data": {"c": "${other}", "x": "${exp.bb}"}})
    text = str(caught.value)
    assert "e.yaml:1: exp.a.b: needs variable 'glove', which has no default" in text
    assert "give --glove VALUE" in text
    assert "d.yaml:1: data.c: needs variable 'other'" in text
    assert "d.yaml:1: data.x: ${exp.bb} refers to nothing" in text


@pytest.mark.parametrize(
    "exp",
    [{"a": "${exp.a}"}, {"a": "${exp.b}", "b": "${exp.c}", "c": "${exp.a}"}],
)
def test_a_circle_is_refused_with_the_keys_in_it(exp: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"e\.yaml:1: exp\.\w.*refers to itself"):
        resolved({"exp": exp})


@pytest.mark.parametrize("name", ["items", "exp.keys", "exp.a.copy", "exp.a.upper"])
def test_names_of_pythons_methods_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a variable"):
        resolved({"exp": {"a": {}, "x": f"${{{name}:1}}"}})


def test_a_key_may_be_called_like_a_method_when_it_is_there() -> None:
    assert resolved({"exp": {"items": 4, "x": "${exp.items}"}})["exp"]["x"] == 4


def test_a_reference_that_is_not_closed_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"e\.yaml:1: exp\.a: .* not closed"):
        resolved({"exp": {"a": "${lr"}})


def test_a_conversion_that_fails_names_the_place() -> None:
    with pytest.raises(ConfigError, match="int"):
        resolved({"exp": {"a": "${x|int}"}}, x="many")


def test_variables_are_found_inside_defaults_and_not_sections() -> None:
    data = {"exp": {"a": "${x:${y}}", "b": "${model.name}", "c": ["${z}/t"]}}
    assert referenced_variables(data) == {"x", "y", "z"}


def doubling(value: str, first: str) -> dict[str, Any]:
    """v0 stands twice for v1, which stands twice for v2, ..."""
    return {f"v{n}": value.replace("@", f"exp.v{n + 1}") for n in range(30)} | {"v30": first}


@pytest.mark.parametrize(
    ("exp", "message"),
    [
        (doubling("${@}${@}", "x" * 10), r"exp\.v2\d: references make a text of more than 10,000"),
        (doubling("${@}/${@}/${@}", "x"), r"exp\.v2\d: references make a text of more than 10,000"),
        ({"a": ["x"] * 5_000, "b": "at ${exp.a}"}, r"exp\.b: references make a text"),
        ({"a": "x" * 9_000, "b": "${exp.a}" * 500}, r"exp\.b: references make a text"),
    ],
)
def test_references_that_double_are_refused_before_they_are_written_out(
    exp: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"e\.yaml:1: {message}"):
        resolved({"exp": exp})


def test_lists_of_references_that_double_are_refused() -> None:
    exp = {f"v{n}": [f"${{exp.v{n + 1}}}$"] * 2 for n in range(30)} | {"v30": "x"}
    with pytest.raises(ConfigError, match=r"e\.yaml:1: exp\.v\d+.*more than 50,000 values"):
        resolved({"exp": exp})


def test_a_long_chain_of_references_is_no_circle() -> None:
    exp = {f"v{n}": f"${{exp.v{n + 1}}}" for n in range(2000)} | {"v2000": "x"}
    with pytest.raises(ConfigError, match="references lead to references too many times"):
        resolved({"exp": exp})


def test_a_variable_names_the_models_of_a_comparison(tmp_path: Path) -> None:
    exp = tmp_path / "mine.yaml"
    exp.write_text(
        "name: mine\nmode: compare\ncompare:\n  models:\n    - ${rows:naml}\n"
        '    - {model: "${rows:naml}", name: other, hidden_size: 32}\n    - nrms\n'
    )
    words = ["--data", "newsroom", "--exp", str(exp)]

    def names(*more: str) -> list[str]:
        compare = load_run_config([*words, *more]).exp.compare
        assert compare is not None
        return [model.name for model in compare.models]

    assert names() == ["naml", "other", "nrms"]
    assert names("--rows", "lstur") == ["lstur", "other", "nrms"]
    with pytest.raises(ConfigError) as caught:
        load_run_config([*words, "--rows", "lstru"])
    text = str(caught.value)
    assert "mine.yaml:5: exp.compare.models.0: --model lstru: no such YAML; did you mean" in text
    assert "--model: missing" not in text  # the comparison has its own models
    exp.write_text(exp.read_text().replace("${rows:naml}", "${rows}"))
    with pytest.raises(ConfigError, match=r"mine\.yaml:5: .*needs variable 'rows'.*--rows VALUE"):
        load_run_config(words)


def test_an_experiment_that_cannot_be_read_asks_for_no_model(tmp_path: Path) -> None:
    exp = tmp_path / "mine.yaml"
    exp.write_text("name: mine\nmode: compare\ncompare:\n  models: [{model: ${rows}}]\n")
    with pytest.raises(ConfigError) as caught:
        load_run_config(["--data", "newsroom", "--exp", str(exp)])
    assert "mine.yaml:4: not valid YAML" in str(caught.value)
    assert "--model: missing" not in str(caught.value)

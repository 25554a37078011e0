"""Reading YAMLs: types of YAML 1.2, places of keys, imports, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legos.config import yaml_files as reader
from legos.config.yaml_files import CONFIG_FOLDER, parse_value, read_document, yaml_files
from legos.errors import ConfigError


@pytest.fixture(params=["libyaml", "python"])
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(reader, "FastLoader", reader.CoreLoader)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("3", 3),
        ("-4", -4),
        ("007", "007"),
        ("1:30", "1:30"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("{name: cnn}", {"name": "cnn"}),
        ("'3'", "3"),
        ("a: b", "a: b"),
        ("# no comment", "# no comment"),
        ("!!python/name:os.system", "!!python/name:os.system"),
    ],
)
def test_values_are_read_by_the_rules_of_yaml_1_2(text: str, value: Any) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans())
def test_every_number_survives_being_written_and_read(value: float | int | bool) -> None:
    text = str(value).lower()
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@given(st.text(st.characters(codec="utf-8", exclude_characters="[{\"'"), min_size=1))
def test_a_text_without_brackets_or_quotes_is_never_an_error(text: str) -> None:
    value = parse_value(text)
    assert value == text or not isinstance(value, str)


@pytest.mark.parametrize("path", yaml_files(CONFIG_FOLDER), ids=lambda path: path.stem)
def test_python_reads_the_same_as_libyaml(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert reader.FastLoader(text).get_single_data() == reader.CoreLoader(text).get_single_data()


def test_a_file_and_a_command_line_read_a_number_alike(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yml", "lr: 1e-3\n")
    assert read_document(path).data == {"lr": parse_value("1e-3")} == {"lr": 0.001}


@pytest.mark.usefixtures("_parser")
def test_every_key_knows_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "# head\na: 1\nb:\n  c: [x,\n    y]\n")
    document = read_document(path)
    assert document.place(("a",)) == f"{path}:2"
    assert document.place(("b", "c")) == f"{path}:4"
    assert document.place(("b", "c", "1")) == f"{path}:5"
    assert document.place(("b", "unknown")) == f"{path}:3"


def test_imports_merge_mappings_and_replace_lists(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "a: {x: 1, y: 2}\nl: [1, 2]\n")
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", "more.yaml", "a: {y: 3}\n")
    path = write(tmp_path, "top.yaml", "$$import: [base.yaml, sub/more.yaml]\na: {z: 4}\nl: [5]\n")
    document = read_document(path)
    assert document.data == {"a": {"x": 1, "y": 3, "z": 4}, "l": [5]}
    assert document.place(("a", "x")) == f"{tmp_path / 'base.yaml'}:1"
    assert document.place(("a", "y")) == f"{tmp_path / 'sub' / 'more.yaml'}:1"


# documents that anchors make deep or large, each a kilobyte
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 200))
DOUBLED = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 20)}]\n" for n in range(1, 9)
)
MERGED = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40)
)
LONG_TEXTS = f"a: &a {'x' * 9_000}\nb: [{', '.join(['*a'] * 2_000)}]\n"


@pytest.mark.usefixtures("_parser")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("- a\n- b\n", "expected keys and values, found a list"),
        ("just text\n", "expected keys and values, found a str"),
        ("a: 1\na: 2\n", r"a\.yaml:2: a: this key is given twice"),
        ("a:\n  b: 1\n  b: 2\n", r"a\.yaml:3: a\.b: this key is given twice"),
        ("a: [1, 2\nb: 3\n", r"a\.yaml:\d: not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", r"a\.yaml:1: tag .* is not read"),
        ("1: a\n", r"a\.yaml:1: 1: a key must be a word"),
        ("[1]: a\n", "a key must be a word"),
        ("a: &x\n  b: *x\n", r"a\.yaml:2: \*x: an anchor that contains itself"),
        ("a:\n  $$import: b.yaml\n", r"a\.yaml:2: .*top of a file only"),
        ("$$import: 3\n", r"a\.yaml:1: \$\$import takes file names, found 3"),
        ("$$import: b.yaml\n", r"b\.yaml: no such file; did you mean 'a\.yaml'"),
        ("a:\n " + "[" * 100_000, r"a\.yaml:2: nested more than 50 levels deep"),
        ("a: " + "{a: " * 60, r"a\.yaml:1: nested more than 50 levels deep"),
        (CHAIN, r"a\.yaml:\d+: nested more than 50 levels deep by its anchors"),
        (DOUBLED, r"a\.yaml:5: more than 50,000 values once anchors are written out"),
        (MERGED, r"a\.yaml:\d+: more than 50,000 values once anchors are written out"),
        (LONG_TEXTS, r"a\.yaml:\d: more than 50,000 values once anchors are written out"),
        ("a: " + "x" * 10_001, r"a\.yaml:1: a value of 10,001 characters"),
        ("# " + "x" * 2**20, r"a\.yaml: larger than 1,048,576 bytes"),
        ("a: " + "9" * 5000, r"a\.yaml:1: a number of 5,000 digits"),
        ('a: "\\ud83d"', r"a\.yaml:1: half a character"),
        ("a: !!timestamp soon", r"a\.yaml:1: tag .* is not read"),
        ("a: !!bool maybe", r"a\.yaml:1: tag .* is not read"),
        ("a: !!set {b, c}", r"a\.yaml:1: tag .* is not read"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path, "a.yaml", text)
    with pytest.raises(ConfigError, match=message):
        read_document(path)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 9"):
        read_document(path)


def test_a_circle_of_imports_is_refused_and_shown(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "$$import: b.yaml\n")
    write(tmp_path, "b.yaml", "$$import: c.yaml\n")
    path = write(tmp_path, "c.yaml", "$$import: a.yaml\n")
    with pytest.raises(ConfigError, match=r"circle: .*c\.yaml → .*a\.yaml → .*b\.yaml → .*c\.yaml"):
        read_document(path)


def test_two_files_may_import_the_same_third(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "a: 1\n")
    write(tmp_path, "left.yaml", "$$import: base.yaml\nb: 2\n")
    write(tmp_path, "right.yaml", "$$import: base.yaml\nc: 3\n")
    path = write(tmp_path, "top.yaml", "$$import: [left.yaml, right.yaml]\n")
    assert read_document(path).data == {"a": 1, "b": 2, "c": 3}


def test_imports_that_double_are_refused(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path, f"{number}.yaml", f"$$import: [{number + 1}.yaml, {number + 1}.yaml]\n")
    path = write(tmp_path, "20.yaml", "a: 1\n")
    with pytest.raises(ConfigError, match=r"0\.yaml: .*brings in more than 100 files"):
        read_document(tmp_path / "0.yaml")
    assert read_document(path).data == {"a": 1}


def test_what_an_anchor_names_is_changed_at_one_place_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "a: &x {n: 1}\nb: *x\n")
    document = read_document(path)
    document.data["b"]["n"] = 2
    assert document.data == {"a": {"n": 1}, "b": {"n": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 40_000, "nested more than 50 levels"),
        ("9" * 5_000, "a number of 5,000 digits"),
        ("x" * 10_001, "a value of 10,001 characters"),
        ("\udcff", "half a character"),
        ("[a", "not valid YAML"),
        ("[!!bool maybe]", "tag"),
    ],
)
def test_a_value_of_the_command_line_has_the_bounds_of_a_file(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_value(text)
    assert len(str(caught.value)) < 300

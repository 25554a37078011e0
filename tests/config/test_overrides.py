"""The command line: options, typed variables, dotted keys."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legos.config.document import Document
from legos.config.overrides import (
    apply_dotted,
    check_variables,
    read_arguments,
    read_options,
    read_variable,
)
from legos.config.variables import PUBLISHED
from legos.errors import ConfigError

NAMES = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
VALUES = st.text(min_size=0).filter(lambda text: not text.startswith("--"))


@pytest.mark.slow
@given(st.dictionaries(NAMES, VALUES), st.lists(st.booleans(), min_size=9, max_size=9))
def test_options_are_read_back_as_written(options: dict[str, str], joined: list[bool]) -> None:
    argv: list[str] = []
    for (name, value), equals in zip(options.items(), joined * 9, strict=False):
        argv += [f"--{name}={value}"] if equals else [f"--{name}", value]
    given = read_options(argv)
    assert given == dict(list(options.items())[: len(given)])
    assert len(given) == min(len(options), 81)


@given(
    st.lists(st.sampled_from(["item", "user", "train", "lr"]), min_size=1, max_size=4),
    st.integers() | st.booleans() | st.none(),
)
def test_a_dotted_option_sets_exactly_its_key(keys: list[str], value: int | bool | None) -> None:
    text = "null" if value is None else str(value).lower()
    arguments = read_arguments([f"--exp.{'.'.join(keys)}", text])
    document = Document({"exp": {"untouched": 1}}, {})
    apply_dotted(document, arguments.dotted)
    here: Any = document.data["exp"]
    assert here.pop("untouched") == 1
    for key in keys:
        assert list(here) == [key]
        here = here[key]
    assert here == value
    assert document.place(("exp", *keys)) == "command line"


def test_a_value_may_begin_with_one_dash() -> None:
    assert read_arguments(["--epoch_batch", "-4"]).variables == {"epoch_batch": -4}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train"], "'train': expected an option"),
        (["--lr"], "--lr: needs a value"),
        (["--lr", "--seed", "1"], "--lr: needs a value"),
        (["--lr", "1", "--lr=2"], "--lr: given twice, '1' and '2'"),
        (["--"], "expected an option"),
        (["--modle.item.dropout", "1"], "no such section 'modle'; did you mean 'model'"),
        (["--model..x", "1"], "no such section|expected"),
        (["--model.item", "[1"], "--model.item: .* is not a YAML value"),
        (["--lr", "fast"], "--lr fast: expected a number"),
        (["--hidden_size", "64.5"], "--hidden_size 64.5: expected a whole number"),
        (["--hidden_size", "true"], "expected a whole number"),
        (["--fast_eval", "maybe"], "expected true or false"),
    ],
)
def test_a_command_line_that_means_nothing_is_refused(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_arguments(argv)


@pytest.mark.parametrize(("text", "value"), [("0", False), ("1", True), ("True", True)])
def test_flags_take_the_published_0_and_1(text: str, value: bool) -> None:
    assert read_variable("fast_eval", text) is value


def test_a_text_variable_stays_a_text() -> None:
    assert read_variable("llm_ver", "7") == "7"
    assert read_variable("somebodys_own", "7") == 7


def test_a_dotted_path_through_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--exp\.lr\.x: exp\.lr is 3, which has no keys"):
        apply_dotted(Document({"exp": {"lr": 3}}, {}), {("exp", "lr", "x"): 1})


def test_a_dotted_path_reaches_into_lists_that_are_there() -> None:
    document = Document({"data": {"fields": [{"length": 1}, {"length": 2}]}}, {})
    apply_dotted(document, {("data", "fields", "1", "length"): 9})
    assert document.data["data"]["fields"] == [{"length": 1}, {"length": 9}]
    with pytest.raises(ConfigError, match="is a list of 2; '2' is not an index from 0 to 1"):
        apply_dotted(document, {("data", "fields", "2", "length"): 9})


def test_unused_variables_are_errors_and_published_ones_notices() -> None:
    with pytest.raises(ConfigError, match=r"--lrr: .* did you mean 'lr'") as caught:
        check_variables({"lrr": 1, "sead": 2, "lr": 3}, {"lr"})
    assert "--sead" in str(caught.value)
    notices = check_variables({"lr": 1, "layer": 3}, {"lr"})
    assert len(notices) == 1
    assert "--layer has no effect" in notices[0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_default_is_of_its_own_kind(name: str) -> None:
    default = PUBLISHED[name].default
    text = "null" if default is None else str(default).lower()
    assert read_variable(name, text) == default

"""``python -m process.genre``: plan, run, status, export, import, leaks over one tables folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from legos.data.tables import Tables
from legos.errors import ConfigError, DataError
from process.genre.__main__ import build_parser, main
from tests.process.genre.asking import tiny_scheme
from tests.process.genre.server import Asked, FaultyServer, Told
from tests.tiny import tiny_tables


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """``tables/`` and a scheme of its own, ``tiny_profile.yaml``: another data set is one file."""
    tiny_tables(tmp_path / "tables")
    tiny_scheme(tmp_path)
    return tmp_path


def run_command(place: Path, command: str, *further: str, scheme: str = "") -> None:
    arguments = [command, "--scheme", scheme or str(place / "tiny_profile.yaml"),
                 "--store", str(place / "store"), *further]  # fmt: skip
    if command in ("plan", "run", "ask", "status", "leaks"):
        arguments += ["--data", str(place / "tables")]
    main(build_parser().parse_args(arguments))


def number(text: str, label: str) -> int:
    """What stands behind a label in a printed table."""
    found = re.search(rf"{re.escape(label)} +([\d,]+)", text)
    assert found, f"{label!r} is not in:\n{text}"
    return int(found[1].replace(",", ""))


@pytest.mark.slow
def test_from_plan_to_profiles(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(place, "plan", "--model", "gpt-4o", "--show")
    planned = capsys.readouterr().out
    total = number(planned, "to be sent")
    assert total == number(planned, "requests") > 10
    most = number(planned, "completion tokens at most")
    assert most == 80 * total
    prompt = number(planned, "prompt tokens (estimated, 4 letters each)")
    assert f"{(prompt * 2.5 + most * 10) / 1e6:.4f}" in planned
    assert "<data>" in planned

    with FaultyServer(lambda asked: Told('{"interests": ["sea", "war"]}')) as server:
        local = ("--base-url", server.base_url, "--model", "fake", "--price", "1000,0")
        run_command(place, "run", *local, "--users", "3")
        first = capsys.readouterr().out
        assert (number(first, "answered"), len(server.asked)) == (3, 3)
        run_command(place, "run", *local)
        second = capsys.readouterr().out
        assert (number(second, "already"), number(second, "answered")) == (3, total - 3)
        assert len(server.asked) == total
    run_command(place, "plan", "--model", "fake", "--price", "1,1")
    assert number(capsys.readouterr().out, "to be sent") == 0
    run_command(place, "status", "--model", "fake", "--price", "1000,0")
    known = capsys.readouterr().out
    assert (number(known, "answered"), number(known, "not sent yet")) == (total, 0)
    assert f"{total * 20 * 1000 / 1e6:.4f}" in known  # 20 prompt tokens a reply

    run_command(place, "export", "--output", str(place / "profiles.jsonl"))
    lines = [json.loads(line) for line in (place / "profiles.jsonl").read_text().splitlines()]
    assert len(lines) == total
    assert lines[0] == {"user_id": lines[0]["user_id"], "interests": ["sea", "war"]}


def test_bad_answers_are_counted_by_reason(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyServer(lambda asked: Told("I would rather not.")) as server:
        local = ("--base-url", server.base_url, "--model", "fake", "--users", "2")
        with pytest.raises(SystemExit) as ended:
            run_command(place, "run", *local)
    assert ended.value.code == 1
    assert "first reason: no JSON object" in capsys.readouterr().err
    run_command(place, "status", "--model", "fake", "--users", "2")
    known = capsys.readouterr().out
    assert number(known, "quarantined, not answered") == 2
    assert "2 × no JSON object" in known
    with pytest.raises(DataError, match="no answers"):
        run_command(place, "export", "--output", str(place / "x.jsonl"))


@pytest.mark.slow
def test_leaks_of_two_models_are_two_rows_and_one_is_chosen(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultyServer(lambda asked: Told('{"interests": ["sea", "war"]}')) as server:
        for model in ("one", "two"):
            run_command(place, "run", "--base-url", server.base_url, "--model", model)
    capsys.readouterr()
    run_command(place, "leaks")
    both = capsys.readouterr().out
    assert "train, one, v1" in both
    assert "train, two, v1" in both
    run_command(place, "leaks", "--model", "two")
    chosen = capsys.readouterr().out
    assert "train, one" not in chosen
    assert "train, two, v1" in chosen


def test_what_was_refused_for_good_is_not_planned(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultyServer(lambda asked: Told(finish="content_filter")) as server:
        local = ("--base-url", server.base_url, "--model", "fake", "--users", "2")
        for sent in (2, 2):
            with pytest.raises(SystemExit):
                run_command(place, "run", *local)
            assert len(server.asked) == sent
    capsys.readouterr()
    run_command(place, "plan", "--model", "fake", "--users", "2")
    planned = capsys.readouterr().out
    assert (number(planned, "to be sent"), number(planned, "refused for good")) == (0, 2)


def test_imported_logs_are_exported_and_checked(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = Tables.load(place / "tables")
    lines = [
        json.dumps({"uid": user, "book": json.dumps({"title": f"sports tale {n}",
                                                     "description": "A tale of sports."})})
        for n, user in enumerate(tables.vocabulary("user_id"))
    ]  # fmt: skip
    log, store = place / "generator.log", place / "store/book_generator.jsonl"
    log.write_text("\n".join([*lines, "broken"]) + "\n")
    for new in (len(lines), 0):
        run_command(place, "import", "--log", str(log), scheme="book_generator")
        assert f"{new} new in {store}, as source published" in capsys.readouterr().out
    run_command(place, "export", "--data", str(place / "tables"), "--output", str(place / "cg"),
                scheme="book_generator")  # fmt: skip
    assert Tables.load(place / "cg").num_items == tables.num_items + len(lines)
    few = place / "few.log"
    few.write_text("\n".join(lines[:3]) + "\n")
    run_command(place, "import", "--log", str(few), "--store", str(place / "few"),
                scheme="book_generator")  # fmt: skip
    run_command(place, "export", "--data", str(place / "tables"), "--output", str(place / "same"),
                "--keys-of", str(place / "few"), scheme="book_generator")  # fmt: skip
    assert Tables.load(place / "same").num_items == tables.num_items + 3
    capsys.readouterr()
    run_command(place, "leaks", scheme="book_generator")
    assert "published" in capsys.readouterr().out
    run_command(place, "leaks", "--model", "gpt-3.5-turbo", scheme="book_generator")
    assert "gpt-3.5-turbo" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"no answers .* by gpt-4; .* by gpt-3\.5-turbo"):
        run_command(place, "leaks", "--model", "gpt-4", scheme="book_generator")


@pytest.mark.slow
def test_single_answers_are_asked_again_or_dropped(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = Tables.load(place / "tables").vocabulary("user_id")

    def said() -> dict[str, list[str]]:
        lines = (place / "out.jsonl").read_text().splitlines()
        return {line["user_id"]: line["interests"] for line in map(json.loads, lines)}

    def tell(asked: Asked) -> Told:
        return Told(json.dumps({"interests": [f"word {asked.number}"]}))

    with FaultyServer(tell) as server:
        local = ("--base-url", server.base_url, "--model", "fake", "--concurrency", "1")
        run_command(place, "run", *local, "--users", "3")
        run_command(place, "export", "--output", str(place / "out.jsonl"))
        first = said()
        [again, dropped, kept] = first
        run_command(place, "ask", *local, "--key", again)
        assert len(server.asked) == 4
        assert f'{again}: {{"interests": ["word 3"]}}' in capsys.readouterr().out
        run_command(place, "drop", "--key", dropped)
        run_command(place, "export", "--output", str(place / "out.jsonl"))
        assert said() == {again: ["word 3"], kept: first[kept]}
        run_command(place, "run", *local, "--users", "3")
        run_command(place, "export", "--output", str(place / "out.jsonl"))
        assert said() == {again: ["word 3"], kept: first[kept], dropped: ["word 4"]}
        for command, further in (("ask", local), ("drop", ())):
            with pytest.raises(DataError, match="'U_none'"):
                run_command(place, command, *further, "--key", "U_none")
    with FaultyServer(lambda asked: Told("no")) as server:
        local = ("--base-url", server.base_url, "--model", "fake")
        with pytest.raises(SystemExit):
            run_command(place, "ask", *local, "--key", kept)
    run_command(place, "export", "--output", str(place / "out.jsonl"))
    assert said()[kept] == first[kept]  # no new answer, the old one stays
    assert keys


@pytest.mark.parametrize(
    ("command", "further", "message"),
    [
        ("plan", ["--items", "3"], "is about users"),
        ("plan", ["--users", "0"], "at least 1"),
        ("plan", ["--temperature", "9"], "expected 0 to 2"),
        ("plan", ["--price", "cheap"], "PROMPT,COMPLETION"),
        ("plan", ["--temperature", "nan"], "expected 0 to 2"),
        ("plan", ["--top-p", "1.5"], "--top-p 1.5: expected 0 to 1"),
        ("plan", ["--seed", "18446744073709551616"], "expected 0 to 2,147,483,647"),
        ("plan", ["--cold-at-most", "0"], "--cold-at-most 0: expected at least 1"),
        ("plan", ["--answer-tokens", "0"], "--answer-tokens 0: expected 1 to"),
        ("run", ["--concurrency", "0"], "--concurrency 0: expected 1 to"),
        ("run", ["--concurrency", "-3"], "--concurrency -3: expected 1 to"),
        ("run", ["--slots", "0"], "--slots 0"),
        ("run", ["--repairs", "-1"], "--repairs -1"),
        ("run", ["--requests-per-minute", "nan"], "--requests-per-minute nan"),
        ("run", ["--tokens-per-minute", "0"], "--tokens-per-minute 0"),
        ("run", ["--timeout", "inf"], "--timeout inf"),
        ("run", ["--total-timeout", "-1"], "--total-timeout -1"),
        ("run", ["--max-requests", "-1"], "--max-requests -1"),
        ("run", ["--max-tokens", "0"], "--max-tokens 0"),
        ("run", ["--max-cost", "nan"], "--max-cost nan"),
        ("run", ["--model", "no such", "--max-cost", "1"], "no known price"),
        ("import", ["--log", "a", "--log", "b"], "only a generator"),
        ("leaks", ["--split", "tset"], "has train, valid, test"),
    ],
)
def test_mistakes_are_named(place: Path, command: str, further: list[str], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        run_command(place, command, *further)

"""RecBole's atomic files become tables of fields by their types."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.published.published import build, refused, run_printed, texts
from tests.process.table.own import clicks, fields

ITEMS = """\
item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\tprice:float\tv:float_seq
a\tToy Story "Two"\t1995\tAnimation Children's\t3.5\t0.1 0.2
b\tGoldenEye\t1995\tAction\t\t0.1 0.3
c\tFour Rooms\t1996\tThriller\t1\t
"""
USERS = "user_id:token\tage:token\tweight:float\nu0\t24\t1\nu1\t53\t2\n"


def folder(place: Path, users: str = USERS) -> Path:
    """Fifteen movies, nine users of five events each."""
    place.mkdir()
    names = [*"abc", *(f"m{n}" for n in range(12))]
    more = "".join(f"m{n}\tMovie {n}\t1999\tDrama\t2\t\n" for n in range(12))
    (place / "ml.item").write_text(ITEMS + more)
    rows = [
        f"u{user}\t{names[(2 * user + 3 * place_) % 15]}\t{1 + place_}\t{881_250_000 + place_}"
        for user in range(9)
        for place_ in range(5)
    ]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (place / "ml.inter").write_text("\n".join([header, *rows]) + "\n")
    (place / "ml.user").write_text(users)
    return place


def test_types_are_kinds_and_the_last_event_is_the_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = build(folder(tmp_path / "raw"), tmp_path / "tables")
    told = capsys.readouterr().out
    assert "users without fields: 7" in told
    assert "first one kept" not in told  # no pair comes again, so no line says 0
    assert fields(tables) == {
        "title": "text", "class": "text", "release_year": "category", "price": "number",
    }  # fmt: skip
    assert texts(tables, "title")["a"] == 'Toy Story "Two"'
    assert texts(tables, "class")["a"] == "Animation Children's"
    assert {user: click for user, _, click, _ in clicks(tables, "test")}["u0"] == "m9"
    kinds = {name: field["kind"] for name, field in tables.manifest["user_fields"].items()}
    assert kinds == {"age": "category", "weight": "number"}
    text = (tmp_path / "tables/data.yaml").read_text()
    assert 'prompt: "movie:"' in text  # of the column movie_title
    assert "legos table" not in text  # another command made it
    assert "as you say" not in (tmp_path / "tables/report.txt").read_text()  # the file says it


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("ml.item", "item_id:token", "item_id", "ml.item:1: column 'item_id', expected name:type"),
        ("ml.item", "price:float\t", "price:real\t", "ml.item:1: column 'price:real'"),
        ("ml.user", "age:token", "user_id:token", "ml.user:1: column 'user_id:token'"),
        ("ml.inter", "u8\tm1\t2\t881250001\n", "u8\tm1\t2\n", "ml.inter:43: 3 columns"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    name: str, old: str, new: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder(tmp_path / "raw") / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert message in refused(tmp_path / "raw", tmp_path / "tables", capsys)


def test_a_folder_has_one_data_set_with_its_items(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder(tmp_path / "raw")
    (place / "other.inter").write_text("x")
    assert "expected one data set" in refused(place, tmp_path / "tables", capsys)
    (place / "other.inter").unlink()
    (place / "ml.item").unlink()
    assert "ml.item: no such file" in refused(place, tmp_path / "tables", capsys)


@pytest.mark.slow
def test_the_printed_command_trains_on_recbole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    build(folder(Path("raw")), Path("data/ml"))
    run_printed(Path("data/ml"), capsys, "--exp.train.epochs", "1", "--exp.report", "false")
    assert list(tmp_path.glob("runs/ml/*/*/results.json"))

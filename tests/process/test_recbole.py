"""RecBole's atomic files by hand, settings, and results as rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from legos.data.tables import Tables
from legos.errors import DataError
from process.amazon.assemble import Options, read_prepared
from process.interactions.impressions import Negatives
from process.raw import TokenizerSpec
from process.recbole.__main__ import build_parser, main
from process.recbole.export import export
from process.recbole.results import read_row, read_rows, rows_table
from process.recbole.settings import MODELS
from process.tables import write_tables

SEQUENCES = {"anna": "c a d b", "ben": "b e", "eve": "d c a"}  # ben is in train only
BRANDS = {"a": "Acme", "b": "", "c": "Acme", "d": "Best & Co", "e": ""}


def tables(folder: Path, *, brands: bool = True, split: str = "leave-last-out") -> Tables:
    raw = folder / "raw"
    raw.mkdir(parents=True)
    lines = [f"{user}\t{items}\n" for user, items in SEQUENCES.items()]
    (raw / "sequences.tsv").write_text("".join(lines))
    items = [
        {"item_id": item, "title": f"Thing {item}", "brand": brand if brands else ""}
        for item, brand in BRANDS.items()
    ]
    (raw / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    options = Options(negatives=Negatives(1, (1,), 0), split=split)  # type: ignore[arg-type]
    data = read_prepared(raw, name="tiny", options=options)
    write_tables(data, folder / "tables", [TokenizerSpec("words", "words")], unitok=False)
    return Tables.load(folder / "tables")


def test_files_by_hand(tmp_path: Path) -> None:
    given = tables(tmp_path)
    done = export(given, tmp_path / "mine")
    item, user = given.vocabulary("item_id").index, given.vocabulary("user_id").index
    events = (tmp_path / "mine/mine.inter").read_text().split("\n")
    assert events[0] == "user_id:token\titem_id:token\ttimestamp:float"
    assert events[-1] == ""
    expected = [
        f"{user(name)}\t{item(each)}\t{place}"
        for name in sorted(("anna", "eve"), key=user)
        for place, each in enumerate(SEQUENCES[name].split())
    ]
    assert events[1:-1] == expected
    lines = (tmp_path / "mine/mine.item").read_text().split("\n")
    assert lines[0] == "item_id:token\tclass:token_seq"
    classes = dict(line.split("\t") for line in lines[1:-1])
    brand = given.vocabulary("brand").index
    assert len(classes) == 5
    assert classes[str(item("a"))] == classes[str(item("c"))] == f"brand_{brand('Acme')}"
    assert classes[str(item("d"))] == f"brand_{brand('Best & Co')}"
    assert classes[str(item("b"))] == ""  # unknown
    assert (done.users, done.events, done.items, done.left_out) == (2, 7, 5, 1)
    assert done.models == tuple(MODELS)


def test_settings_are_flat_yaml_that_keeps_the_protocol(tmp_path: Path) -> None:
    from legos.config.yaml_files import read_document

    export(tables(tmp_path), tmp_path / "mine")
    shared = read_document(tmp_path / "mine/shared.yaml").data
    assert shared["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert (shared["eval_args"]["order"], shared["eval_args"]["mode"]) == ("TO", "full")
    assert shared["topk"] == [5, 10]
    for model, settings in MODELS.items():
        assert read_document(tmp_path / f"mine/{model}.yaml").data == settings
    fdsa = read_document(tmp_path / "mine/FDSA.yaml").data
    assert fdsa["load_col"]["item"] == ["item_id", *fdsa["selected_features"]]


def test_without_categories_there_are_no_attributes(tmp_path: Path) -> None:
    done = export(tables(tmp_path, brands=False), tmp_path / "mine")
    assert not (tmp_path / "mine/mine.item").exists()
    assert set(MODELS) - set(done.models) == {"FDSA", "S3Rec"}
    assert not (tmp_path / "mine/FDSA.yaml").exists()


def test_other_splits_and_finished_folders_are_refused(tmp_path: Path) -> None:
    given = tables(tmp_path / "a")
    export(given, tmp_path / "mine")
    with pytest.raises(DataError, match="already exists"):
        export(given, tmp_path / "mine")
    with pytest.raises(DataError, match="leave-last-out"):
        export(tables(tmp_path / "b", split="random-80-10-10"), tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "mine"]


RESULT = {"hit@5": 0.25, "hit@10": 0.5, "ndcg@5": 0.2, "ndcg@10": 0.28}


def test_results_become_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(tables(tmp_path), tmp_path / "mine")
    folder = tmp_path / "mine"
    events = json.loads((folder / "export.json").read_text())["events"]
    content = {"model": "GRU4Rec", "events": events, "test_result": RESULT}
    with pytest.raises(DataError, match=r"no <model>\.json yet"):
        read_rows(folder)
    (folder / "GRU4Rec.json").write_text(json.dumps(content))
    expected = {"HR@5": 0.25, "HR@10": 0.5, "nDCG@5": 0.2, "nDCG@10": 0.28}
    assert read_rows(folder) == {"GRU4Rec": expected}
    log = folder / "HGN-today.log"
    pairs = ", ".join(f"('{name}', {value})" for name, value in RESULT.items())
    log.write_text(
        "INFO  best valid : OrderedDict([('hit@5', 0.9)])\n"
        f"INFO  \x1b[33mtest result\x1b[0m: OrderedDict([{pairs}])\n"
    )
    assert read_row(log) == ("HGN", expected)
    words = ["import", "--data", str(folder), "--results", str(log), "--output"]
    main(build_parser().parse_args([*words, str(tmp_path / "rows.json")]))
    assert json.loads((tmp_path / "rows.json").read_text()) == {"HGN": expected}
    assert capsys.readouterr().out.endswith(rows_table({"HGN": expected}) + "\n")
    assert rows_table({"HGN": expected}).splitlines()[0] == (
        "| model | HR@5 | nDCG@5 | HR@10 | nDCG@10 |"
    )
    assert rows_table({"HGN": expected}).splitlines()[2] == (
        "| HGN | 0.2500 | 0.2000 | 0.5000 | 0.2800 |"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": "HGN", "events": "other", "test_result": RESULT}, "for different events"),
        ({"model": "HGN", "events": "e", "test_result": {**RESULT, "hit@10": 0.2}}, "is below"),
        ({"model": "HGN", "events": "e", "test_result": {}}, "no test result"),
        ({"model": "HGN"}, "test_result: this key is missing; expected a result of run_model.py"),
    ],
)
def test_a_wrong_result_is_named(tmp_path: Path, content: dict[str, object], message: str) -> None:
    path = tmp_path / "HGN.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_row(path, events="e")

"""``process.unitok``: folders of the stock packages become tables with the ids that they have."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from legos.data.tables import Tables
from legos.errors import DataError
from process.goodreads.release import read_sequences
from process.mind import read_mind
from process.raw import TokenizerSpec
from process.restricted_pickle import restricted_loads
from process.table import __main__ as of_table
from process.tables import write_tables
from process.unitok.__main__ import build_parser, main
from process.unitok.assemble import read_unitok
from process.unitok.roles import Roles
from process.unitok.vocabularies import detokenized, foreign_tokenizer, kind_of
from tests.bricks import lists
from tests.process.mind_files import write_mind
from tests.process.unitok.stock import NUM_ITEMS, SPLITS, frames, write_v3, write_v4

SHARED = Path(os.environ.get("LEGOS_SHARED", Path(__file__).parents[4] / "shared"))
REAL = SHARED / "data/goodreads-once/raw"


@pytest.fixture(scope="module")
def v4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v4(tmp_path_factory.mktemp("v4") / "mind")


@pytest.fixture(scope="module")
def v3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v3(tmp_path_factory.mktemp("v3") / "mind")


def made(folder: Path, output: Path, *words: str) -> Tables:
    main(build_parser().parse_args([str(folder), "--output", str(output), *words]))
    return Tables.load(output)


@pytest.mark.slow
def test_ids_of_version_4_are_the_tables_ids(v4: Path, tmp_path: Path) -> None:
    import unitok

    tables = made(v4, tmp_path / "tables")
    stock = unitok.UniTok.load(str(v4 / "items"))
    assert lists(tables.lists("items", "title@words")) == stock.data["title@words"]
    assert tables.scalar("items", "category").tolist() == stock.data["category"]
    assert tables.vocabulary("words") == list(stock.meta.vocabularies["words"])
    entries = list(stock.meta.vocabularies["category"])
    assert tables.vocabulary("category") == [*entries, "<unknown>"]
    assert tables.vocabulary("item_id") == list(stock.meta.vocabularies["nid"])
    users = unitok.UniTok.load(str(v4 / "users"))
    assert lists(tables.lists("users", "neg")) == users.data["neg"]
    assert tables.column("users", "neg")["vocabulary"] == "item_id"


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["v3", "v4"])
def test_rows_become_impressions_with_their_texts(
    layout: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(layout)
    tables = made(folder, tmp_path / "tables")
    items, users, splits = frames()
    assert tables.splits == ["train", "valid", "test"]
    titles = [" ".join(title.split()[:3]) for title in items["title"]]
    found = tables.texts("title")
    cut = 2 if layout == "v3" else 3  # of the vocabulary that comes last
    assert [t.split()[:cut] for t in found] == [t.split()[:cut] for t in titles]
    assert tables.texts("category") == items["category"].tolist()
    names, readers = tables.vocabulary("item_id"), tables.vocabulary("user_id")
    assert (names, readers) == (items["nid"].tolist(), users["uid"].tolist())
    history = lists(tables.lists("histories", "items"))
    for split, old in (("train", "train"), ("valid", "dev"), ("test", "test")):
        rows, impressions = splits[old], tables.vocabulary(f"impression_id@{split}")
        assert impressions == rows["imp"].unique().tolist()
        shown = lists(tables.lists(split, "candidates"))
        labels = lists(tables.lists(split, "labels"))
        states = tables.scalar(split, "history").tolist()
        for number, (name, group) in enumerate(rows.groupby("imp", sort=False)):
            assert impressions[number] == name
            assert [names[item] for item in shown[number]] == group["nid"].tolist()
            assert labels[number] == group["click"].tolist()
            user = readers.index(group["uid"].iloc[0])
            expected = users["history"][user]
            assert [names[item] for item in history[states[number]]] == expected


@pytest.mark.slow
def test_both_vocabularies_of_a_version_3_folder_are_kept(v3: Path, tmp_path: Path) -> None:
    from UniTokv3 import UniDep

    tables = made(v3, tmp_path / "tables")
    for table, label, length in (("news", "english", 3), ("news-llama", "llama", 2)):
        depot = UniDep(str(v3 / table), verbose=False)
        stock = [list(row) for row in depot.data["title"]]
        assert lists(tables.lists("items", f"title@{label}")) == stock
        assert max(map(len, stock)) == length
        assert tables.vocabulary(label) == list(depot.vocabs[label])
    assert tables.manifest["fields"]["title"]["tokenizers"] == ["english", "llama"]
    yaml = (tmp_path / "tables/data.yaml").read_text()
    assert "title@english" in yaml
    assert "length: 3" in yaml


@pytest.mark.slow
def test_rows_without_impressions_are_grouped_by_user(v4: Path, tmp_path: Path) -> None:
    raw, _ = read_unitok(v4, name="x", roles=Roles(impression="user_id"))
    _, _, splits = frames()
    assert raw.splits["train"].impression_id.tolist() == splits["train"]["uid"].unique().tolist()
    assert len(raw.splits["train"].candidate_values) == 4 * SPLITS["train"]


def test_our_own_copy_comes_back_array_by_array(tmp_path: Path) -> None:
    write_mind(tmp_path / "raw")
    raw = read_mind(tmp_path / "raw/train", tmp_path / "raw/dev", name="x")
    specs = [TokenizerSpec("words", "words"), TokenizerSpec("bert", "minilm")]
    write_tables(raw, tmp_path / "tables", specs)
    back = made(tmp_path / "tables/unitok", tmp_path / "back", "--name", "x")
    first = Tables.load(tmp_path / "tables")
    assert back.manifest["tables"] == first.manifest["tables"]
    files = [name for name in first.manifest["files"] if name.endswith(".npy")]
    assert len(files) > 20
    for name in files:
        np.testing.assert_array_equal(
            np.load(tmp_path / "tables" / name), np.load(tmp_path / "back" / name), name
        )
    for name in first.manifest["vocabularies"]:
        assert back.vocabulary(name) == first.vocabulary(name)


@pytest.mark.slow
def test_the_real_user_table_of_version_3(tmp_path: Path) -> None:
    if not (REAL / "user/data.npy").is_file():
        pytest.skip("ONCE's release of Goodreads is not here")
    shutil.copytree(REAL / "user", tmp_path / "once/user")
    raw, _ = read_unitok(tmp_path / "once", name="x")
    users, sequences = read_sequences(REAL / "user", raw.items["item_id"].tolist())
    test = raw.splits["test"]
    clicked = test.candidate_values[test.labels == 1]
    long = sequences.lengths >= 3
    last = sequences.values[sequences.offsets[1:] - 1]
    expected = {users[row]: int(last[row]) for row in np.flatnonzero(long)}
    found = [str(raw.users[user]) for user in test.user]
    assert dict(zip(found, clicked.tolist(), strict=True)) == expected
    left_out = raw.oddities["users with fewer than 3 items, in no split"]
    assert left_out == len(raw.users) - len(expected), "4,226 of the vocabulary have no row"
    assert len(raw.items) == 16_833


def test_words_and_pieces_become_texts_and_new_texts_ids() -> None:
    bert = ["[PAD]", "[UNK]", "play", "##ing", "out", "##s"]
    assert kind_of(bert) == "wordpiece"
    tokenizer = foreign_tokenizer(bert)
    assert tokenizer.vocabulary == bert
    tokens = tokenizer.encode(["Playing out", "zzz outs"], "")
    assert lists(tokens.tensors()) == [[2, 3, 4], [1, 4, 5]]
    assert detokenized(tokens, bert) == ["playing out", "outs"]
    llama = ["<unk>", "<s>", "▁play", "ing", "▁", "▁out"]
    tokens = foreign_tokenizer(llama).encode(["playing out"], "")
    assert lists(tokens.tensors()) == [[2, 3, 5]]
    assert detokenized(tokens, llama) == ["playing out"]
    assert detokenized(tokens, [str(n) for n in range(6)]) == [""], "numbers stand for no text"


class _Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("run",)


def _meta(folder: Path, name: str, key: str, value: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))


FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated": (
        "v3", lambda f: (f / "user/data.npy").write_bytes((f / "user/data.npy").read_bytes()[:200]),
        r"user/data\.npy: damaged or cut short",
    ),
    "class": (
        "v4", lambda f: (f / "users/data.pkl").write_bytes(pickle.dumps({"user_id": _Evil()})),
        r"data\.pkl: the pickle asks for builtins\.print",
    ),
    "vocabulary-4": (
        "v4", lambda f: (f / "items/nid.vocab").unlink(), r"items/nid\.vocab: no such file",
    ),
    "vocabulary-3": (
        "v3", lambda f: (f / "news/tok.nid.dat").unlink(), r"news/tok\.nid\.dat: no such file",
    ),
    "beyond": (
        "v4", lambda f: (f / "test/data.pkl").write_bytes(pickle.dumps(
            restricted_loads((f / "test/data.pkl").read_bytes(), "") | {"item_id": [999] * 80})),
        r"column 'item_id' holds ids from 999 to 999, vocabulary 'nid' has 40 entries",
    ),
    "unequal": (
        "v3", lambda f: (f / "train/tok.nid.dat").write_text(
            "".join(f"N{n}\n" for n in reversed(range(NUM_ITEMS)))),
        r"unequal vocabularies 'nid' \(40 and 40 entries, entry 0 differs\)",
    ),
    "version-4": (
        "v4", lambda f: _meta(f, "items/meta.json", "version", "unidep-v9"), r"version 'unidep-v9'",
    ),
    "version-3": (
        "v3", lambda f: _meta(f, "news/meta.data.json", "version", "UniDep-9"),
        r"version 'UniDep-9'; of UniTok 3",
    ),
    "no-train": ("v3", lambda f: shutil.rmtree(f / "train"), r"train and valid must be there"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_bad_folders_get_an_error_and_leave_nothing(
    fault: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    layout, spoil, message = FAULTS[fault]
    folder = Path(shutil.copytree(request.getfixturevalue(layout), tmp_path / "copy"))
    spoil(folder)
    with pytest.raises(DataError, match=message):
        made(folder, tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


@pytest.mark.slow
def test_other_names_are_asked_for(v4: Path, tmp_path: Path) -> None:
    folder = tmp_path / "renamed"
    for name in ("items", "users", "train", "valid", "test"):
        shutil.copytree(v4 / name, folder / f"my-{name}")
    with pytest.raises(DataError, match=r"no table of items .* name it with --items"):
        read_unitok(folder, name="x")
    roles = Roles(
        items="my-items", users="my-users",
        splits={"train": "my-train", "valid": "my-valid", "test": "my-test"},
    )  # fmt: skip
    raw, _ = read_unitok(folder, name="x", roles=roles)
    assert list(raw.splits) == ["train", "valid", "test"]
    with pytest.raises(DataError, match=r"--items my-itms: did you mean 'my-items'"):
        read_unitok(folder, name="x", roles=Roles(items="my-itms"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["--unitok FOLDER", "--unitok=FOLDER"])
def test_legos_table_reads_a_unitok_folder(form: str, v4: Path, tmp_path: Path) -> None:
    words = [*form.replace("FOLDER", str(v4)).split(), "--output", str(tmp_path / "tables")]
    of_table.main(of_table.build_parser().parse_args(words))
    assert Tables.load(tmp_path / "tables").num_items == NUM_ITEMS


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["v3", "v4"])
def test_naml_trains_on_the_tables(
    layout: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from legos.modes.main import run
    from tests.modes.tiny_config import tiny_config

    tables = tmp_path / "tables"
    made(request.getfixturevalue(layout), tables)
    column = "title@english" if layout == "v3" else "title@words"
    data = {"fields": [column, "category"]}
    results = run(tiny_config(tables, tmp_path / "runs", data=data))
    assert results["splits"]["test"]["rows"]["all"]["GAUC"] > 0.65  # 0.5 by chance

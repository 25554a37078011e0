"""CLLM4Rec's public files: read as data, checked, and never run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from legos.config.load import load_run_config
from legos.data.tables import Tables
from legos.errors import DataError
from legos.systems.cllm4rec.corpus import chosen_kinds, read_corpus
from process.amazon import __main__ as amazon
from process.amazon.assemble import read_cllm4rec
from process.amazon.public import MATRICES
from process.raw import RawData
from tests.process.amazon.amazon_files import dump, rows_of, write_public


def read(folder: Path) -> RawData:
    return read_cllm4rec(folder, name="public")


def test_matrices_become_rows_of_users_and_texts_find_their_pairs(tmp_path: Path) -> None:
    raw = read(write_public(tmp_path))
    raw.check()
    assert rows_of(raw, "train") == [
        ("0", [], ["0", "2"], []), ("1", [], ["1"], []), ("2", [], ["0", "3"], []),
    ]  # fmt: skip
    assert rows_of(raw, "valid") == [("0", ["0", "2"], ["1"], []), ("1", ["1"], ["2"], [])]
    assert [row[2] for row in rows_of(raw, "test")] == [["3"], ["0"], ["1"]]
    assert list(raw.texts["title"]) == [f"Thing {item}" for item in range(5)]
    table = raw.further["reviews"]
    said = {
        (int(user), int(item)): text
        for user, item, text in zip(
            table.columns["user_id"], table.columns["item_id"], table.texts["review"], strict=True
        )
        if text
    }
    assert said == {(0, 2): "I like it", (2, 3): "My son does"}


def test_texts_of_no_pair_and_second_texts_are_counted(tmp_path: Path) -> None:
    folder = write_public(tmp_path)
    prompt = "user_{} wrote the following review for item_{}:"
    entries = [
        [prompt.format(0, 2), " a"],
        [prompt.format(0, 2), " b"],
        [prompt.format(1, 4), " c"],
    ]
    dump(folder / "user_item_texts/review.pkl", entries)
    dump(folder / "user_item_texts/explain.pkl", [("user_0 ... item_0:", "because")])
    raw = read(folder)
    assert raw.further["reviews"].texts["explanation"].count("because") == 1
    assert raw.oddities["review.pkl: texts of pairs in no matrix, left out"] == 1
    assert raw.oddities["review.pkl: further texts of a pair, left out"] == 1


class Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("name", ["meta.pkl", "user_item_texts/review.pkl", "item_texts/title.pkl"])
def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path: Path, name: str) -> None:
    folder, victim = write_public(tmp_path / "raw"), tmp_path / "victim"
    dump(folder / name, [Attack(victim)])
    with pytest.raises(DataError, match=rf"{Path(name).name}: the pickle asks for posix.mkdir"):
        read(folder)
    assert not victim.exists()
    pickle.loads((folder / name).read_bytes())  # noqa: S301  # what the usual way would have done
    assert victim.exists()


def test_a_matrix_of_objects_is_refused_and_does_not_run(tmp_path: Path) -> None:
    folder, victim = write_public(tmp_path / "raw"), tmp_path / "victim"
    objects = np.array([Attack(victim)], dtype=object)
    np.savez(
        folder / MATRICES[0], format=b"csr", shape=[3, 5], data=objects, indices=[0], indptr=[0]
    )
    with pytest.raises(DataError, match=r"train_matrix\.npz: not a sparse matrix"):
        read(folder)
    assert not victim.exists()


def matrix(folder: Path, name: str, entries: list[tuple[int, int]], shape: tuple[int, int]) -> None:
    rows, columns = zip(*entries, strict=True)
    made = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    scipy.sparse.save_npz(folder / name, made)


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pair in two splits": (
        lambda folder: matrix(folder, MATRICES[2], [(0, 2), (1, 0)], (3, 5)),
        r"test_matrix\.npz: user 0 and item 2 are in train_matrix\.npz too \(1 such",
    ),
    "another shape": (
        lambda folder: matrix(folder, MATRICES[1], [(0, 1)], (3, 6)),
        r"val_matrix\.npz: a csr matrix \(3, 6\), expected csr \(3, 5\)",
    ),
    "a file cut short": (
        lambda folder: (folder / MATRICES[0]).write_bytes(
            (folder / MATRICES[0]).read_bytes()[:200]
        ),
        r"train_matrix\.npz: not a sparse matrix",
    ),
    "an index outside": (
        lambda folder: np.savez(
            folder / MATRICES[0], format=b"csr", shape=[3, 5], data=np.ones(2), indices=[0, 9],
            indptr=[0, 1, 2, 2],
        ),
        "train_matrix.npz: its index does not fit its shape",
    ),
    "meta without numbers": (
        lambda folder: dump(folder / "meta.pkl", {"num_users": "3"}),
        "meta.pkl: expected a dict with the numbers num_users and num_items",
    ),
    "a missing matrix": (lambda folder: (folder / MATRICES[2]).unlink(), "no such file; .* holds:"),
    "an item outside": (
        lambda folder: dump(folder / "item_texts/title.pkl", [["The title of item_5 is:", "x"]]),
        r"title\.pkl: entry 0: prompt .* should name one item below 5",
    ),
    "a prompt without a user": (
        lambda folder: dump(folder / "user_item_texts/review.pkl", [["about item_1:", "x"]]),
        r"review\.pkl: entry 0: prompt .* should name one user below 3",
    ),
    "an entry that is no pair": (
        lambda folder: dump(folder / "user_item_texts/review.pkl", [["user_1 item_1"]]),
        r"review\.pkl: entry 0 is .* expected \[prompt, text\]",
    ),
    "no list": (
        lambda folder: dump(folder / "user_item_texts/review.pkl", {"a": 1}),
        r"review\.pkl: a dict, expected a list",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_named(tmp_path: Path, fault: str) -> None:
    spoil, message = FAULTS[fault]
    folder = write_public(tmp_path)
    spoil(folder)
    with pytest.raises(DataError, match=message):
        read(folder)


@pytest.mark.slow
def test_the_shipped_data_yaml_names_every_corpus(tmp_path: Path) -> None:
    raw = write_public(tmp_path / "raw")
    for name, verb in (("brand", "is"), ("categories", "are"), ("description", "is")):
        texts = [[f"The {name} of item_{item} {verb}:", f" some {name}"] for item in range(4)]
        dump(raw / f"item_texts/{name}.pkl", texts)
    reason = ["user_0 explains the reason for purchasing item_2:", " it shines"]
    dump(raw / "user_item_texts/explain.pkl", [reason])
    words = ["cllm4rec", "--raw", str(raw), "--output", str(tmp_path / "tables")]
    amazon.main(amazon.build_parser().parse_args([*words, "--name", "cllm4rec-beauty"]))
    told = ["--data", "cllm4rec-beauty", "--data.folder", str(tmp_path / "tables")]
    told += ["--model", "cllm4rec_public_code", "--exp", "cllm4rec"]
    config = load_run_config(told, notice=lambda text: None)
    tables = Tables.load(tmp_path / "tables")
    kinds = chosen_kinds((), config.data, tables)
    assert kinds == ["review", "title", "brand", "description", "categories", "explanation"]
    corpus = read_corpus(kinds, config.data, tables)
    assert {"I like it", "Thing 2", "some brand", "it shines"} <= set(corpus.texts)
    assert len(corpus.texts) == 2 + 5 + 3 * 4 + 1

"""The miner of explanations by hand, published files, and pickles that must not run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from legos.errors import DataError
from legos.systems.recsysllm.tasks.explanations import (
    Explanation,
    Miner,
    read_explanations,
)
from process.explanations import read_published, write_published

TRAINING = ["The strap is great. My strap held.", "A cheap strap; the buckle failed.", "We danced."]


def test_features_are_frequent_noun_like_words_of_training() -> None:
    assert Miner(TRAINING, min_count=2).features == {"strap": 3}
    assert Miner(TRAINING, min_count=1).features == {"strap": 3, "buckle": 1}
    # "held" is never after an article; a word that is so in 1 of 4 places is not noun-like
    rare = Miner(["the zip", "zip zip zip"], min_count=1)
    assert rare.features == {}


def test_sentences_with_a_feature_near_an_opinion_explain() -> None:
    miner = Miner(TRAINING, min_count=1, window=2)
    text = "Bought it. The strap is really soft! The buckle, great. Strap aside it was all great."
    assert miner.explanations(text) == [Explanation("The strap is really soft!", "strap")]
    assert miner.best("The buckle is weak. The strap is soft.") == Explanation(
        "The strap is soft.", "strap"
    )
    assert miner.best("Nothing here.") is None
    assert miner.best("A weak strap.") == Explanation("A weak strap.", "strap")
    assert miner.best("strap great") is None  # two words are no sentence


def write_lines(path: Path, rows: list[object]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_published_lines_find_their_reviews(tmp_path: Path) -> None:
    one = {"user": "u", "item": "a", "sentence": "Fine strap.", "feature": "strap"}
    path = write_lines(tmp_path / "e.jsonl", [one, {**one, "item": "z"}, {**one, "sentence": "No"}])
    found, counts = read_explanations(path, ["t", "u"], ["a", "b"], [(0, 1), (1, 0)])
    assert found == [None, Explanation("Fine strap.", "strap")]
    assert counts == {"lines": 3, "unmatched": 1, "repeated": 1}
    with pytest.raises(DataError, match="none of its 3 lines"):
        read_explanations(path, ["x"], ["a"], [(0, 0)])
    with pytest.raises(DataError, match=r"e\.jsonl:1: no explanation"):
        read_explanations(write_lines(path, [{"user": "u"}]), ["u"], ["a"], [(0, 0)])


def test_both_published_forms_are_read_and_counted(tmp_path: Path) -> None:
    listed = [
        {"user": "u", "item": "a", "rating": 4, "template": ("strap", "fine", "fine strap", 1)},
        {"user": "u", "item": "b", "rating": 4, "template": ("strap", "fine", "", -1)},
    ]
    split = {
        "train": [{"reviewerID": "u", "asin": "a", "feature": "zip", "explanation": "zip  ok"}],
        "test": [{"reviewerID": "u", "asin": "b", "overall": 5.0}, {"reviewerID": 1, "asin": 2}],
    }
    (tmp_path / "nlg.pickle").write_bytes(pickle.dumps(listed))
    (tmp_path / "p5.pkl").write_bytes(pickle.dumps(split))
    records, counts = read_published(tmp_path / "nlg.pickle")
    assert records == [
        {"user": "u", "item": "a", "rating": 4.0, "feature": "strap", "opinion": "fine",
         "sentence": "fine strap", "sentiment": 1}
    ]  # fmt: skip
    assert counts == {"records": 2, "without a sentence": 1, "without a feature": 0}
    counts = write_published(tmp_path / "p5.pkl", tmp_path / "out.jsonl")
    assert counts == {"records": 3, "without a sentence": 2, "without a feature": 0}
    found, _ = read_explanations(tmp_path / "out.jsonl", ["u"], ["a"], [(0, 0)])
    assert found == [Explanation("zip ok", "zip")]


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("evil"),)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([_Evil()]), "nothing was executed"),
        (pickle.dumps([{"user": 1}]), "record 0: keys user"),
        (pickle.dumps([{"user": 1, "item": 2, "template": "x"}]), "template is 'x'"),
        (pickle.dumps([3]), "record 0: a int"),
        (pickle.dumps("x"), "expected a list"),
        (pickle.dumps([{"reviewerID": 1, "asin": 2}]), "mined data"),
        (pickle.dumps([1] * 50)[:20], "damaged"),
    ],
)
def test_a_bad_pickle_is_named_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pickle").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_published(tmp_path / "x.pickle")
    assert not (tmp_path / "evil").exists()

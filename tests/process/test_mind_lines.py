"""MIND files that a person or a spreadsheet has edited: read with a word, or counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from legos.errors import DataError
from process.mind import read_mind
from process.raw import RawData
from tests.process.mind_files import DEV, NEWS, TRAIN, write_mind

NEWS_HEADER = (
    "news_id\tcategory\tsubcategory\ttitle\tabstract\turl\ttitle_entities\tabstract_entities"
)
HEADER = "impression_id\tuser_id\ttime\thistory\timpressions"


def read(folder: Path) -> RawData:
    return read_mind(folder / "train", folder / "dev", valid=folder / "dev")


@pytest.mark.parametrize("header", [NEWS_HEADER, NEWS_HEADER.replace("news_id", "News ID")])
def test_header_lines_are_skipped_and_counted(tmp_path: Path, header: str) -> None:
    plain = read(write_mind(tmp_path / "plain"))
    folder = write_mind(
        tmp_path / "named", news=[header, *NEWS], train=[HEADER, *TRAIN], dev=[*DEV, HEADER]
    )
    raw = read(folder)
    assert raw.items.equals(plain.items)
    assert [len(rows) for rows in raw.splits.values()] == [3, 2, 2]
    assert raw.oddities["header lines of news.tsv (skipped)"] == 2
    assert raw.oddities["header lines of behaviors.tsv (skipped)"] == 3


def test_lines_behind_a_header_keep_their_numbers(tmp_path: Path) -> None:
    folder = write_mind(tmp_path, train=[HEADER, *TRAIN, TRAIN[0]])
    with pytest.raises(DataError, match=r"behaviors\.tsv:5: impression id '1' .*first in line 2"):
        read(folder)
    folder = write_mind(tmp_path, train=[HEADER, *TRAIN, "9\tU1\tsome day\t\tN1-1"])
    with pytest.raises(DataError, match=r"behaviors\.tsv:5: time 'some day'"):
        read(folder)


@pytest.mark.parametrize(("name", "line"), [("news", NEWS_HEADER), ("train", HEADER)])
def test_a_file_of_a_header_alone_is_refused(tmp_path: Path, name: str, line: str) -> None:
    with pytest.raises(DataError, match="a header line and nothing else"):
        read(write_mind(tmp_path, **{name: [line]}))  # type: ignore[arg-type]


def test_quotes_that_a_spreadsheet_doubled_are_undone(tmp_path: Path) -> None:
    lines = [
        'N1\tnews\tworld\t"She said ""no"" and left"\t""\tu\t[]\t[]',
        'N2\tnews\tworld\t"Out" she said ""so""\t"quoted"\tu\t[]\t[]',
        *NEWS[2:],
    ]
    raw = read(write_mind(tmp_path, news=lines))
    titles = dict(zip(raw.items["item_id"], raw.items["title"], strict=True))
    assert titles["N1"] == 'She said "no" and left'
    assert titles["N2"] == '"Out" she said ""so""'
    assert raw.items["abstract"][1] == '"quoted"', "one pair of quotes is a quotation"
    assert raw.oddities["texts in quotes that a spreadsheet doubled (undone)"] == 4, (
        "in two files each"
    )


def test_markup_leaves_news_and_nothing_else_does(tmp_path: Path) -> None:
    lines = ["N1\tnews\tart &amp; life\tA  <b>cup</b>\tx<br/>y\tu\t[]\t[]", *NEWS[1:]]
    raw = read(write_mind(tmp_path, news=lines))
    assert raw.items.loc[0].tolist() == ["N1", "news", "art & life", "A cup", "x y"]
    assert raw.items["title"][1] == '"Out" she said'


def test_candidates_listed_again_and_of_both_labels_are_counted(tmp_path: Path) -> None:
    train = ["1\tU1\t\tN1\tN2-1 N3-0 N3-0 N4-0", "2\tU1\t\tN1\tN2-1 N2-0 N3-0", *TRAIN[2:]]
    raw = read(write_mind(tmp_path, train=train))
    assert raw.oddities["candidates listed again in an impression (kept)"] == 2
    assert raw.oddities["candidates of both labels in an impression (kept)"] == 1
    assert len(raw.splits["train"].labels) == 9


def test_impressions_without_a_user_are_users_of_their_own(tmp_path: Path) -> None:
    nobody = [line.replace("\tU1\t", "\t\t") for line in TRAIN]
    raw = read(write_mind(tmp_path, train=nobody))
    assert raw.oddities["impressions without a user id (each a user of its own)"] == 2
    assert len(set(raw.splits["train"].user.tolist())) == 3

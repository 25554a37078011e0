"""Times, ids, kinds of events, repeats, lists of shown items: what events may say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from legos.errors import DataError
from process.columns import ColumnReader
from process.table.joining import join_ids
from process.table.times import FORMS, Dates, read_times
from process.table.values import without_scale
from tests.process.table.own import build, clicks, small_shop, written

SHOP = small_shop()
ITEMS, EVENTS = SHOP.items, SHOP.events
MOMENTS = pd.to_datetime(EVENTS["ts"], unit="ms")
SECOND = 1_735_689_600


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        (["1735689600", "1735689600.0"], "Unix seconds"),
        (["1735689600000"], "Unix milliseconds"),
        (["1735689600000000"], "Unix microseconds"),
        (["1735689600000000000"], "Unix nanoseconds"),
        (["20250101"], "dates such as 20250131, read as UTC"),
        (["2025-01-01T00:00:00Z", "2025-01-01 01:00:00+01:00"], "dates and times with their zones"),
        (["2025-01-01 00:00:00 UTC"], "dates and times with their zones"),
        (["2025-01-01", "2025/1/1 0:00"], "dates and times without a zone, read as UTC"),
        (["01.01.2025 00:00", "1.1.2025"], "dates such as 31.01.2025, read as UTC"),
        (["2025年1月1日", "2025年01月01日 00:00:00"], "dates such as 2025年1月31日, read as UTC"),
        (["Wed Jan 01 01:00:00 +0100 2025"], "dates and times with their zones"),
    ],
)
def test_times_are_recognised(cells: list[str], form: str) -> None:
    ticks, found, wrong = read_times(np.array(cells, dtype=object), zoned=False)
    assert not wrong.any()
    assert {FORMS[code] for code in found} == {form}
    assert set(ticks) == {SECOND * 1_000_000}


@pytest.mark.parametrize(
    ("dates", "cells", "wrong"),
    [
        ("day-first", ["31/12/2024", "31-12-2024 12:00 am", "31/12/2024, 0:00"], ["12/31/2024"]),
        ("month-first", ["12/31/2024", "12/31/2024 12:00 AM", "12-31-2024 00:00"], ["31/12/2024"]),
        ("month-first", ["12/30/2024 12:00 PM"], ["12/31/2024 0:30 PM", "12/31/2024 13:00 pm"]),
    ],
)
def test_dates_of_two_readings_are_read_as_told(
    dates: Dates, cells: list[str], wrong: list[str]
) -> None:
    values = np.array([*cells, *wrong], dtype=object)
    ticks, found, refused = read_times(values, zoned=False, dates=dates)
    assert refused.tolist() == [False] * len(cells) + [True] * len(wrong)
    hours = 36 if "PM" in cells[0] else 24  # before the new year
    assert set(ticks[: len(cells)]) == {(SECOND - hours * 3600) * 1_000_000}
    assert dates.split("-")[0] == {"31/01": "day", "01/31": "month"}[FORMS[found[0]][14:19]]
    assert read_times(values, zoned=False)[2].all()


@pytest.mark.parametrize("dtype", [np.int64, np.float64, "datetime64[ms]", "datetime64[ns]"])
def test_times_of_any_type_are_the_same(dtype: object) -> None:
    values = np.array([SECOND * 1000 + 123])
    values = values.astype("datetime64[ms]" if "datetime" in str(dtype) else np.int64)
    ticks, _, wrong = read_times(values.astype(dtype), zoned=False)  # type: ignore[call-overload]
    assert not wrong.any()
    assert ticks[0] == SECOND * 1_000_000 + 123_000


@pytest.mark.parametrize("cell", ["soon", "-5", "99999999999", "13/02/2025", "2025-02-30", "inf"])
def test_what_is_no_possible_time_is_none(cell: str) -> None:
    ticks, _, wrong = read_times(np.array([cell, "", None], dtype=object), zoned=False)
    assert wrong.tolist() == [True, False, False]
    assert ticks.tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    "times",
    [
        EVENTS["ts"] * 1000,
        EVENTS["ts"] * 1_000_000,
        MOMENTS.astype("datetime64[ms]"),
        MOMENTS.dt.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00"),
        MOMENTS.dt.tz_localize("UTC").dt.tz_convert("Asia/Shanghai"),
        MOMENTS.dt.tz_localize("UTC").dt.tz_convert("Asia/Shanghai").astype(str),
    ],
    ids=["microseconds", "nanoseconds", "datetimes", "iso", "zoned", "zoned texts"],
)
def test_the_same_moments_give_the_same_tables(
    times: pd.Series, shop_tables: ColumnReader, tmp_path: Path
) -> None:
    other = build(ITEMS, EVENTS.assign(ts=times), tmp_path)
    assert other.manifest["fingerprint"] == shop_tables.manifest["fingerprint"]


def test_milliseconds_order_what_seconds_tie(tmp_path: Path) -> None:
    ids = [f"i{n}" for n in range(30)]
    items = pd.DataFrame({"item_id": ids, "title": [f"thing number {n}" for n in range(30)]})
    rows = [
        (f"u{u}", ids[(3 * u + k) % 30], SECOND * 1000 + 7 * k)
        for u in range(9)
        for k in (2, 0, 1, 3)
    ]
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "ts"])
    tables = build(items, events, tmp_path)
    for user, history, click, _ in clicks(tables, "test"):
        first = 3 * int(user[1:])
        assert [*history, click] == [ids[(first + k) % 30] for k in range(4)]


def test_mixed_times_are_refused_with_their_line_or_counted(tmp_path: Path) -> None:
    events = EVENTS.astype({"ts": object})
    events.loc[4, "ts"] = "2025-01-05 12:00"
    events.loc[9, "ts"] = "tomorrow"
    events.to_csv(tmp_path / "events.csv", index=False)
    with pytest.raises(DataError) as caught:
        build(ITEMS, tmp_path / "events.csv", tmp_path, max_bad=0)
    assert "events.csv:6: 'ts' is '2025-01-05 12:00'; most others are Unix milliseconds" in str(
        caught.value
    ) or "events.csv:11: 'ts' is 'tomorrow', expected a time from 1970" in str(caught.value)
    odd = build(ITEMS, tmp_path / "events.csv", tmp_path).manifest["oddities"]
    assert sum(n for what, n in odd.items() if what.startswith("lines left out")) == 2


@pytest.mark.slow
def test_events_without_times_have_an_order_that_lines_do_not_decide(
    shop_tables: ColumnReader, tmp_path: Path
) -> None:
    events = EVENTS.drop(columns="ts")
    one = build(ITEMS, events, tmp_path / "one")
    other = build(ITEMS, events.sample(frac=1, random_state=0), tmp_path / "other")
    assert one.manifest["fingerprint"] == other.manifest["fingerprint"]
    ordered = build(ITEMS, events, tmp_path / "ordered", ordered=True)
    assert clicks(ordered, "test")[0][:3] == clicks(shop_tables, "test")[0][:3]
    assert [row[:3] for row in clicks(ordered, "test")] == [
        row[:3] for row in clicks(shop_tables, "test")
    ]


# ids


def test_ids_of_two_writings_are_one_or_are_refused() -> None:
    found = join_ids(["7.0", "12.0", "99"], ["7", "12", "5"], "events", "items")
    assert found.rows.tolist() == [0, 1, -1]
    assert "'7.0' of events is '7' of items" in found.note
    assert join_ids(["7", "12"], ["007", "012"], "events", "items").rows.tolist() == [0, 1]
    assert join_ids(["a", "b"], ["b"], "events", "items").rows.tolist() == [-1, 0]
    with pytest.raises(DataError, match=r"items has both '7' and '007', so that it cannot be told"):
        join_ids(["7.0"], ["7", "007"], "events", "items")
    exact = join_ids(["7", "007"], ["7", "007"], "events", "items")
    assert exact.rows.tolist() == [0, 1]


@pytest.mark.slow
def test_numbers_in_one_file_and_texts_in_the_other_join(tmp_path: Path) -> None:
    number = {sku: place for place, sku in enumerate(ITEMS["sku"])}
    known = EVENTS[EVENTS["sku"].isin(number)]
    items = ITEMS.assign(sku=[f"{number[sku]:05d}" for sku in ITEMS["sku"]])
    events = known.assign(sku=[float(number[sku]) for sku in known["sku"]])
    items.to_csv(tmp_path / "items.csv", index=False)
    events.to_csv(tmp_path / "events.csv", index=False)
    tables = build(tmp_path / "items.csv", tmp_path / "events.csv", tmp_path)
    assert set(tables.vocabulary("item_id")) == set(items["sku"])
    assert "unknown items" not in tables.manifest["oddities"]


@pytest.mark.slow
def test_unknown_items_are_counted_told_and_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    EVENTS.to_csv(tmp_path / "events.csv", index=False)
    tables = build(ITEMS, tmp_path / "events.csv", tmp_path)
    assert tables.manifest["oddities"]["events of unknown items, left out"] == 6
    told = " ".join(capsys.readouterr().out.split())
    line = 2 + int((EVENTS["sku"] == "X1").to_numpy().argmax())
    assert "6 of 900 events are of 2 items" in told
    assert f"events.csv:{line})" in told
    with pytest.raises(DataError, match=r"6 of 900 events are of 2 items .*--unknown refuse"):
        build(ITEMS, EVENTS, tmp_path, unknown="refuse")
    few = ITEMS[:20]
    with pytest.raises(DataError, match=r"which is most; .*--unknown drop leaves these events out"):
        build(few, EVENTS, tmp_path)
    other = ITEMS.assign(sku=[f"article {n}" for n in range(len(ITEMS))])
    with pytest.raises(
        DataError, match=r"its ids look like 'article \d+': are 'sku' of the events"
    ):
        build(other, EVENTS, tmp_path, unknown="drop")


def test_an_id_that_a_spreadsheet_spoiled_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "events.csv", "user,item,time", "u,4.01E+12,1735689600")
    with pytest.raises(DataError, match="scientific notation"):
        build(ITEMS, tmp_path / "events.csv", tmp_path)


# kinds of events


@pytest.mark.slow
def test_only_positive_kinds_are_clicks(tmp_path: Path) -> None:
    bought = EVENTS[EVENTS["event"] == "purchase"]
    one = build(
        ITEMS, EVENTS, tmp_path / "one", positive=["purchase"], duplicates="keep", split="none"
    )
    other = build(
        ITEMS, bought.drop(columns="event"), tmp_path / "other", duplicates="keep", split="none"
    )
    assert clicks(one, "train") == clicks(other, "train")
    with pytest.raises(DataError, match="no event is a 'buy'; "):
        build(ITEMS, EVENTS, tmp_path, positive=["buy"])
    with pytest.raises(DataError, match="--event-weight: cannot be combined with --positive"):
        build(ITEMS, EVENTS, tmp_path, positive=["view"], event_weight={"view": 2})
    with pytest.raises(DataError, match="no column says what was done"):
        build(ITEMS, EVENTS.drop(columns="event"), tmp_path, positive=["purchase"])


@pytest.mark.slow
def test_the_one_column_of_dates_says_when(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    when = pd.to_datetime(EVENTS["ts"], unit="ms")
    loans = EVENTS.assign(ts=when.dt.strftime("%d.%m.%Y %H:%M")).rename(columns={"ts": "loaned"})
    build(ITEMS, loans, tmp_path / "loans")
    assert "time loaned (dates such as 31.01.2025" in capsys.readouterr().out
    loans["returned"] = when + pd.Timedelta(days=3)
    with pytest.raises(DataError, match=r"is the time .* hold dates: loaned, returned"):
        build(ITEMS, loans, tmp_path / "both")
    build(ITEMS, loans, tmp_path / "both", ordered=True)
    assert "not read: loaned, returned" in capsys.readouterr().out
    build(ITEMS, loans, tmp_path / "one", time="returned")


@pytest.mark.slow
def test_a_weight_is_so_many_train_impressions(tmp_path: Path) -> None:
    weights = {"view": 1, "cart": 2, "purchase": 3}
    once = build(ITEMS, EVENTS, tmp_path / "once", duplicates="keep")
    weighed = build(ITEMS, EVENTS, tmp_path / "weighed", duplicates="keep", event_weight=weights)
    rows = [row[:3] for row in clicks(weighed, "train")]
    alone = [row[:3] for row in clicks(once, "train")]
    assert {str(row) for row in rows} == {str(row) for row in alone}
    assert len(rows) > 1.3 * len(alone)
    assert [row[:3] for row in clicks(once, "test")] == [row[:3] for row in clicks(weighed, "test")]
    counts = {str(row): rows.count(row) for row in rows}
    assert set(counts.values()) >= {1, 2, 3}
    with pytest.raises(DataError, match=r"--event-weight: a weight is a number of train impress"):
        build(ITEMS, EVENTS, tmp_path, split="random", event_weight=weights)
    with pytest.raises(DataError, match=r"'view=lots': expected KIND=N"):
        build(ITEMS, EVENTS, tmp_path, event_weight={"view": "lots"})


@pytest.mark.slow
def test_of_repeated_events_the_heaviest_stays(tmp_path: Path) -> None:
    rows = [("u", f"i{k}", "view", SECOND + k) for k in range(5)]
    rows += [("u", "i0", "purchase", SECOND + 100), ("u", "i0", "view", SECOND + 200)]
    rows += [("v", f"i{k}", "view", SECOND + k) for k in range(6, 9)]
    events = pd.DataFrame(rows, columns=["user", "item", "event", "time"])
    items = pd.DataFrame({"item": [f"i{k}" for k in range(40)], "title": ["a b"] * 40})
    order = {}
    for which in ("first", "last"):
        for name, weights in (("plain", {}), ("weighed", {"view": 1, "purchase": 2})):
            tables = build(items, events, tmp_path / f"{which}{name}", duplicates=which,
                           **({"event_weight": weights} if weights else {}))  # fmt: skip
            history, click = next(row[1:3] for row in clicks(tables, "test") if row[0] == "u")
            order[which, name] = [*history, click]
    assert order["first", "plain"][0] == "i0"
    assert order["last", "plain"][-1] == "i0"
    assert order["first", "weighed"] == order["last", "weighed"] == ["i1", "i2", "i3", "i4", "i0"]


@pytest.mark.slow
def test_ratings_are_a_threshold_and_a_table(tmp_path: Path) -> None:
    stars = np.random.default_rng(0).integers(1, 6, len(EVENTS))
    events = EVENTS.assign(rating=[f"{s},0" for s in stars])
    events.to_csv(tmp_path / "events.csv", index=False, sep=";")
    tables = build(ITEMS, tmp_path / "events.csv", tmp_path, rating_above=2)
    assert tables.manifest["tables"]["reviews"]["rows"] > 0
    assert tables.scalar("reviews", "rating").min() == 3
    assert without_scale(np.array(["4/5", "3.5 / 5", "", None, 2], object)).tolist() == [
        *("4", "3.5", "", None, 2)
    ]
    assert without_scale(np.array(["80%", "7,5 %"], object)).tolist() == ["80", "7,5"]
    mixed = np.array(["4/5", "8/10"], object)
    assert without_scale(mixed).tolist() == mixed.tolist()  # bad lines, since both are no number
    with pytest.raises(DataError, match="--rating-above: no column has ratings"):
        build(ITEMS, EVENTS, tmp_path, rating_above=2)


# lists of shown items


def shown_log() -> pd.DataFrame:
    """20 users, 6 lists each of five items, one or two of them clicked."""
    generator = np.random.default_rng(0)
    ids, rows = ITEMS["sku"].to_numpy(), []
    for user in range(20):
        for number in range(6):
            shown = generator.choice(ids, 5, replace=False)
            clicked = generator.choice(5, 1 + number % 2, replace=False)
            rows.append(
                (f"u{user}", f"r{user}-{number}", SECOND + 60 * number, list(shown), clicked)
            )
    return pd.DataFrame(rows, columns=["user_id", "impression_id", "time", "shown", "places"])


def as_rows(log: pd.DataFrame) -> pd.DataFrame:
    rows = [
        (row.user_id, row.impression_id, row.time, item, int(place in row.places))
        for row in log.itertuples()
        for place, item in enumerate(row.shown)
    ]
    return pd.DataFrame(rows, columns=["user_id", "impression_id", "time", "item_id", "clicked"])


@pytest.mark.slow
def test_lists_are_impressions_as_they_are(tmp_path: Path) -> None:
    log = shown_log()
    tables = build(ITEMS, as_rows(log), tmp_path)
    assert list(tables.manifest["summary"]["splits"]) == ["train", "valid", "test"]
    expected = []
    for user, lists in log.groupby("user_id"):
        history: list[str] = []
        for row in lists.itertuples():
            clicked = {row.shown[place] for place in row.places}
            if row.impression_id.endswith("-5"):
                expected.append((user, len(history), clicked, set(row.shown) - clicked))
            history += sorted(clicked)
    found = [(u, len(h), set(c.split()), set(o)) for u, h, c, o in clicks(tables, "test")]
    assert found == sorted(expected, key=lambda row: row[0])
    names = tables.vocabulary("impression_id@test")
    assert set(names) == {f"r{user}-5" for user in range(20)}


@pytest.mark.slow
def test_a_list_in_one_cell_is_the_same(tmp_path: Path) -> None:
    log = shown_log()
    rows = build(ITEMS, as_rows(log), tmp_path / "rows")
    chosen = [[row.shown[p] for p in row.places] for row in log.itertuples()]
    cells = log.assign(item_id=chosen).drop(columns=["places", "impression_id"])
    texts = cells.assign(shown=cells["shown"].map("|".join), item_id=cells["item_id"].map("|".join))
    marks = [[int(p in row.places) for p in range(5)] for row in log.itertuples()]
    labels = cells.drop(columns="item_id").assign(label=marks)
    for name, frame in (("lists", cells), ("texts", texts), ("labels", labels)):
        tables = build(ITEMS, frame, tmp_path / name)
        for split in ("train", "valid", "test"):
            assert clicks(tables, split) == clicks(rows, split)


@pytest.mark.slow
def test_lists_refuse_what_is_for_single_events(tmp_path: Path) -> None:
    rows = as_rows(shown_log())
    with pytest.raises(DataError, match="--duplicates: not for events that say what was shown"):
        build(ITEMS, rows, tmp_path, duplicates="last")
    with pytest.raises(DataError, match="impression 'r0-0' has more than one user"):
        build(ITEMS, rows.assign(user_id=["x", *rows["user_id"][1:]]), tmp_path)
    with pytest.raises(DataError, match="no item of any list was clicked"):
        build(ITEMS, rows.assign(clicked=0), tmp_path)
    bad = rows.astype({"clicked": object})
    bad.loc[3, "clicked"] = "maybe"
    with pytest.raises(DataError, match="row 4: 'clicked' is 'maybe', expected 0 or 1"):
        build(ITEMS, bad, tmp_path, max_bad=0)

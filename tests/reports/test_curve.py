"""A comparison over a number: which rows lie on the curve, and what the figure shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from legos.config.comparison import Curve, comparison_curve
from legos.config.load import load_run_config
from legos.errors import ConfigError
from legos.modes.main import run
from legos.reports.costs import cost_front, free_places
from legos.reports.figures import draw_metric, write_curves
from legos.reports.rows import ResultRow
from tests.modes.tiny_config import NAML, POOLING, tiny_config
from tests.tiny import tiny_tables

ROWS = [
    ResultRow("popularity", {"nDCG@10": 0.2, "novelty@10": 7.0}),
    ResultRow("ten", {"nDCG@10": 0.5, "novelty@10": 3.0}, {"nDCG@10": 0.03}),
    ResultRow("zero", {"nDCG@10": 0.4, "novelty@10": 3.0}, {"nDCG@10": 0.01}),
    ResultRow("tenth", {"nDCG@10": 0.45, "novelty@10": 3.0}, {"nDCG@10": 0.02}),
]


def panel(values: dict[str, float]) -> Any:
    axes = Figure().subplots()
    named = {row.name: row for row in ROWS}
    points = [(number, named[label]) for label, number in values.items()]
    draw_metric(axes, "nDCG@10", points, [row for row in ROWS if row.name not in values])
    return axes


def test_a_point_is_a_mean_with_its_deviation_and_what_is_beside_the_curve_is_level() -> None:
    axes = panel({"zero": 0.0, "tenth": 0.1, "ten": 10.0})
    (bars,) = axes.containers
    line, _, (spans,) = bars
    assert line.get_xydata().tolist() == [[0.0, 0.4], [0.1, 0.45], [10.0, 0.5]]
    heights = [float(segment[1, 1] - segment[0, 1]) / 2 for segment in spans.get_segments()]
    assert heights == pytest.approx([0.01, 0.02, 0.03])
    (level,) = [each for each in axes.lines if each.get_label() == "popularity"]
    assert set(level.get_ydata()) == {0.2}
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.1", "10"]
    assert axes.get_xlim()[0] > -0.1  # margins are those of the axis' own scale


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ({"zero": 0.0, "tenth": 0.1, "ten": 10.0}, "symlog"),
        ({"zero": 0.1, "tenth": 1.0, "ten": 10.0}, "log"),
        ({"zero": 1.0, "tenth": 2.0, "ten": 10.0}, "linear"),
        ({"zero": -1.0, "tenth": 0.1, "ten": 10.0}, "linear"),
    ],
)
def test_the_axis_is_logarithmic_where_numbers_span_decades(
    values: dict[str, float], scale: str
) -> None:
    assert panel(values).get_xscale() == scale


@pytest.mark.slow
def test_a_figure_has_a_panel_for_each_accuracy_metric_and_the_same_bytes_twice(
    tmp_path: Path,
) -> None:
    curve = Curve("model.mutual.weight", {"zero": 0.0, "ten": 10.0})
    svg, png = write_curves(tmp_path, curve, "test", ROWS)
    first = svg.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG")
    words = re.findall(rb">([^<>]+)</text>", first)
    assert words.count(b"nDCG@10") == 1
    assert {b"popularity", b"tenth", b"model.mutual.weight"} <= set(words)
    assert b"novelty@10" not in words
    write_curves(tmp_path, curve, "test", ROWS)
    assert svg.read_bytes() == first


@pytest.mark.slow
def test_a_comparison_draws_its_rows_over_their_number(tmp_path: Path) -> None:
    tables = tiny_tables(tmp_path / "tables")
    models = [
        {**POOLING, "name": "wide", "hidden_size": 8},
        NAML,
        {**POOLING, "name": "narrow", "hidden_size": 4},
    ]
    compare = {"models": models, "seeds": [1, 2], "curve": "model.hidden_size"}
    config = tiny_config(
        tables,
        tmp_path / "runs",
        mode="compare",
        compare=compare,
        train={"epochs": 1},
        evaluate={"metrics": ["GAUC"]},
    )
    assert run(config)["curve"] == {
        "key": "model.hidden_size",
        "values": {"narrow": 4, "wide": 8},
    }
    (folder,) = (tmp_path / "runs" / "tiny").glob("compare-*")
    words = re.findall(r">([^<>]+)</text>", (folder / "curve-test.svg").read_text())
    assert {"4", "8", "GAUC", "naml"} <= set(words)
    assert (folder / "curve-test.png").is_file()


@pytest.mark.parametrize(
    ("exp", "stem", "weights"),
    [
        ("cllm4rec-lambda", "lambda-", [0, 0.1, 1, 10, 100, 1000]),
        ("cllm4rec-lambda-public", "public-", [0, 0.0001, 0.001, 0.01, 0.125, 1]),
    ],
)
def test_rows_of_the_shipped_sensitivity_analyses_lie_on_their_curves(
    exp: str, stem: str, weights: list[float]
) -> None:
    words = ["--data", "amazon-musical-random", "--exp", exp, "--seeds", "[1, 2]"]
    config = load_run_config(words)
    curve = comparison_curve(config)
    assert curve is not None
    assert list(curve.values.values()) == weights
    assert [float(name.removeprefix(stem)) for name in curve.values] == weights
    rows = config.rows()
    assert all(len(row.runs) == 2 for row in rows)  # a run each seed
    reductions = {row.runs[0].model.mutual.reduction for row in rows}  # type: ignore[attr-defined]
    assert reductions == {"public_code" if stem == "public-" else "paper"}


@pytest.mark.parametrize(
    ("key", "models", "expected"),
    [
        ("model.hiden_size", "[naml, nrms]", "no row has a number 'model.hiden_size'; did you"),
        ("model.item.form", "[naml, nrms]", "no row has a number 'model.item.form'"),
        ("model.hidden_size", "[naml, nrms]", "no two rows differ in model.hidden_size alone"),
        (
            "model.hidden_size",
            "[naml, {model: naml, name: other, hidden_size: 9, item: {dropout: 0.0}}]",
            "no two rows differ in model.hidden_size alone",
        ),
    ],
)
def test_a_curve_without_points_is_refused(key: str, models: str, expected: str) -> None:
    words = ["--data", "newsroom", "--exp", "compare", "--exp.compare.models", models]
    with pytest.raises(ConfigError, match=f"exp.compare.curve: {expected}"):
        load_run_config([*words, "--exp.compare.curve", key])


def test_a_row_with_data_of_its_own_may_lie_on_a_curve(tmp_path: Path) -> None:
    shipped = Path(__file__).resolve().parents[2] / "config" / "data" / "newsroom.yaml"
    short = tmp_path / "short.yaml"
    short.write_text(f"$$import: {shipped}\nname: short\nhistory_length: 5\n")
    models = f"[naml, {{model: naml, name: naml-5, data: {short}}}, nrms]"
    words = ["--data", "newsroom", "--exp", "compare", "--exp.compare.models", models]
    curve = comparison_curve(
        load_run_config([*words, "--exp.compare.curve", "data.history_length"])
    )
    assert curve is not None
    assert list(curve.values) == ["naml-5", "naml"]


def test_the_front_has_what_no_cheaper_row_reaches() -> None:
    points = [(5.0, 0.3), (1.0, 0.1), (2.0, 0.1), (2.0, 0.2), (9.0, 0.25), (9.0, 0.5)]
    assert cost_front(points) == [(1.0, 0.1), (2.0, 0.2), (5.0, 0.3), (9.0, 0.5)]


def test_labels_of_neighbours_do_not_cover_one_another() -> None:
    points = np.array([[10.0, 50.0], [12.0, 51.0], [300.0, 50.0], [11.0, 50.5]])
    names = ["item_knn", "rp3beta", "far away", "ease"]
    places = [
        point + place for point, place in zip(points, free_places(names, points), strict=True)
    ]
    assert [tuple(each) for each in places] == [
        *((14.0, 52.0), (16.0, 74.0), (304.0, 52.0), (15.0, 63.0)),
    ]

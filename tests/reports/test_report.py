"""The report of a run folder: complete, self-contained, safe whatever the names are."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from legos.data.honesty import Honesty, HonestyWarning, RuleResult, SplitHonesty, TextHonesty
from legos.errors import DataError
from legos.reports import figures
from legos.reports.examples import Examples, ShownItem, ShownReader, print_readers, write_examples
from legos.reports.figures import calibration_curve, reliability, score_distributions
from legos.reports.page import write_report

EVIL = "<script>alert('$x$')</script>\"&amp;"
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Tags, text and table cells of a page; every element must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.rows: list[list[tuple[str, str]]] = []  # (text, class) of every cell
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(("", dict(attrs).get("class") or ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            text, kind = self.rows[-1][-1]
            self.rows[-1][-1] = (text + data, kind)

    def row(self, name: str) -> list[tuple[str, str]]:
        """Cells of the first row that begins with ``name``."""
        return next(row[1:] for row in self.rows if row[0][0] == name)


def summary(gauc: float, loss: float, cold: float) -> dict[str, Any]:
    counts = {"groups": 1200, "rows": 9000, "one_class": 3, "empty": 0, "no_positive": 2}
    return {
        "rows": {
            "all": {"GAUC": gauc, "LogLoss": loss, "novelty@5": 3.5},
            "cold items": {"GAUC": cold},
            "warm items": {"GAUC": gauc},
        },
        "counts": {"all": counts, "cold items": {"groups": 77}, "warm items": {"groups": 900}},
        "seconds": 0.5,
    }


def run_folder(path: Path, *, name: str = "naml", data: str = "newsroom") -> Path:
    """A run folder as ``legos.modes.main`` leaves it."""
    baselines = {"popularity": summary(0.61, 0.9, 0.5), "oracle": summary(0.99, 0.1, 0.98)}
    results = {
        "run": "0123456789ab",
        "data": data,
        "model": name,
        "embed": "null",
        "fingerprint": "0" * 64,
        "processes": 1,
        "seed": 2023,
        "parameters": 1234567,
        "training": {
            "rows": 5000,
            "epochs": 3,
            "metric": "GAUC",
            "best": 0.68768,
            "best_epoch": 2,
            "seconds_per_epoch": 12.5,
            "peak_memory_mb": {"process": 812.5},
        },
        "test_peak_memory_mb": {"process": 640.0},
        "measurement": "abcdef012345",
        "splits": {"test": summary(0.7, 0.4, 0.55)},
        "baselines": {"test": baselines},
    }
    config = {
        "model": {"name": name, "hidden_size": 64},
        "data": {"folder": data, "fields": []},
        "exp": {"train": {"loss": "bce"}},
    }
    path.mkdir(parents=True, exist_ok=True)
    for file, content in (
        ("results", results),
        ("config", config),
        ("versions", {"torch": "2.13.0", "platform": name}),
    ):
        (path / f"{file}.json").write_text(json.dumps(content), encoding="utf-8")
    records: list[dict[str, Any]] = []
    for epoch in (1, 2, 3):
        records += [
            {"kind": "train", "epoch": epoch, "step": 20 * epoch + step, "loss": 1 / (epoch + step)}
            for step in (1, 11)
        ]
        metrics = {"GAUC": 0.5 + epoch / 20, "LogLoss": 0.5 / epoch}
        line = {"kind": "valid", "epoch": epoch, "step": 20 * epoch + 20, "train_loss": 1 / epoch}
        records.append({**line, "metrics": metrics if epoch > 1 else {}})
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (path / "metrics.jsonl").write_text(lines, encoding="utf-8")
    diagnostics = path / "diagnostics" / "abcdef012345" / "test"
    diagnostics.mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels = (rng.random(3000) < 0.2).astype(np.int8)
    np.save(diagnostics / "labels.npy", labels)
    np.save(diagnostics / "scores.npy", (rng.standard_normal(3000) + labels).astype(np.float32))
    return path


def read_page(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its report."""
    folder = run_folder(tmp_path_factory.mktemp("reported"))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page((written / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read of tables alone needs no drawing."""
    monkeypatch.setattr(figures, "svg", lambda *_, **__: "<svg></svg>")


def test_the_report_shows_every_part(page: Page) -> None:
    for part in (
        "naml on newsroom", "0123456789ab", "1,234,567", "12.5", "812.5 (process)",
        "640.0 (process)", "0.6877", "validation GAUC, epoch 2", "1,200 groups", "3 one class",
        "cold items · 77 groups", "warm items · 900 groups",
        "Training loss", "Validation metrics", "best epoch", "GAUC by items and users",
        "Scores of clicked and other candidates", "not clicked", "Calibration: expected error",
        "model.hidden_size", "64", "2.13.0",
    ):  # fmt: skip
        assert part in page.text, part
    # bars, scores, calibration, loss, rising and falling validation metrics
    assert page.tags.count("svg") == 6


VERDICT = {
    "outcome": "below",
    "sentence": "naml is below item-kNN",
    "negatives": "An impression has 20 negatives.",
    "advice": ["--model <recommended>"],
    "lead": "-0.1000*",
}


@pytest.mark.usefixtures("without_figures")
def test_the_first_screen_has_the_verdict_the_table_the_curve_and_readers(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    results = json.loads((folder / "results.json").read_text())
    results["verdict"] = {"test": VERDICT}
    (folder / "results.json").write_text(json.dumps(results))
    item = ShownItem(item="i1", title=EVIL)
    readers = [
        ShownReader(
            user=EVIL, read=[item], top=[item, ShownItem(item="i2", title="two", clicked=True)]
        )
    ]
    write_examples(folder, Examples(split="test", readers=readers))
    text = write_report(folder).read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    shown = (
        text.index("naml is below"),
        text.index("popularity"),
        text.index("<svg"),
        text.index("<h2>Recommendations"),
    )
    assert shown == tuple(sorted(shown))
    assert text.index("<h2>Recommendations") < text.index("<details>")  # the rest is folded
    for part in ("--model <recommended>", EVIL, "two ✓", "1 readers of split test"):
        assert part in page.text, part
    assert '<div class="verdict below">' in text


@pytest.mark.parametrize("loss", ["softmax", "full_softmax", "bpr", None])
@pytest.mark.usefixtures("without_figures")
def test_calibration_is_shown_for_losses_alone_that_mean_it(
    tmp_path: Path, loss: str | None
) -> None:
    folder = run_folder(tmp_path)
    with_it = read_page(folder)
    assert "Calibration reads them as logits" in with_it.text
    (folder / "config.json").write_text(json.dumps({"exp": {"train": {"loss": loss}}}))
    page = read_page(folder)
    assert "Calibration" not in page.text
    assert page.tags.count("svg") == with_it.tags.count("svg") - 1


@pytest.mark.slow
def test_examples_cut_off_by_hand_are_named(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    (folder / "recommendations.json").write_text('{"split": "test"}')
    with pytest.raises(DataError, match=r"recommendations\.json: readers"):
        write_report(folder)


def test_readers_on_a_terminal_fit_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    long = [ShownItem(item="i", title=f"title {n} " * 20, clicked=n == 4) for n in range(5)]
    readers = [
        ShownReader(user="u" * 40, read=long, top=long),
        ShownReader(user="v", read=[], top=[]),
    ]
    print_readers(Console(width=80), Examples(split="test", readers=readers), count=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert max(map(len, lines)) <= 100
    assert "✓ title 4" in lines[2]


@pytest.mark.usefixtures("without_figures")
def test_the_report_shows_what_the_data_give_away(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    assert "Is the data honest?" not in read_page(folder).text  # tables made without a report
    results = json.loads((folder / "results.json").read_text())
    rules = {"next_id": RuleResult(gauc=0.724, error=0.01, hits_at_10=0.26)}
    split = SplitHonesty(
        impressions=458, measured=400, known_clicks=0, repeated_candidates=0, chance_at_10=0.07,
        rules=rules,
    )  # fmt: skip
    report = Honesty(
        seed=1, items=148, items_without_text=2, items_of_same_text=0, splits={"test": split},
        texts={"title": TextHonesty(texts=148, empty=0, markup=12.5, unknown={"bert": 0.5})},
        warnings=(HonestyWarning(kind="order", text="the next <id> has GAUC .724"),),
    )  # fmt: skip
    results["honesty"] = report.model_dump(mode="json")
    (folder / "results.json").write_text(json.dumps(results))
    page = read_page(folder)
    for part in ("the next <id> has GAUC .724", "0.7240", "0.2600", "12.50", "0.50 (bert)", "400"):
        assert part in page.text, part


def test_the_best_method_is_bold_and_the_oracle_does_not_compete(page: Page) -> None:
    first, whole = [row[1:] for row in page.rows if row[0][0] == "naml (this run)"][:2]
    assert first == [("0.7000", "best"), ("0.4000", "best")]  # the folded table has all columns
    assert whole == [*first, ("3.5000", "")]
    assert page.row("popularity") == [("0.6100", ""), ("0.9000", "")]
    oracle = next(row for row in page.rows if row[1][0] == "0.9900")
    assert [kind for _, kind in oracle] == ["", "", ""]
    names = [row[0][0] for row in page.rows[1:4]]
    assert names == ["popularity", "naml (this run)", oracle[0][0]]


@pytest.mark.usefixtures("without_figures")
def test_a_metric_undefined_on_a_subset_is_a_dash_and_no_column_where_nobody_has_it(
    tmp_path: Path,
) -> None:
    folder = run_folder(tmp_path)
    results = json.loads((folder / "results.json").read_text())
    results["baselines"]["test"]["popularity"]["rows"]["cold items"]["LogLoss"] = 0.9
    (folder / "results.json").write_text(json.dumps(results))
    _, _, cold, warm = [row for row in read_page(folder).rows if row[0][0] == "naml (this run)"]
    assert [text for text, _ in cold[1:]] == ["0.5500", "–"]
    assert [text for text, _ in warm[1:]] == ["0.7000"]


def test_the_report_needs_nothing_from_outside(page: Page, written: Path) -> None:
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    for name, value in page.attributes:
        assert name not in ("src", "onload", "onclick"), (name, value)
        if "href" in name:
            assert value.startswith("#"), value
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", text))
    assert len(text) < 1_000_000


@pytest.mark.slow
def test_names_cannot_inject_markup(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, name=EVIL, data=EVIL)
    page = read_page(folder)
    assert "script" not in page.tags
    assert f"{EVIL} on {EVIL}" in page.text
    assert page.text.count(EVIL) > 5  # title, heading, tables, a figure's legend, configuration


@pytest.mark.slow
def test_baseline_and_metric_names_cannot_inject_markup(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    results = json.loads((folder / "results.json").read_text())
    results["splits"] = {EVIL: results["splits"]["test"]}
    results["splits"][EVIL]["rows"][EVIL] = {"GAUC": 0.5}
    results["baselines"] = {EVIL: {EVIL: results["baselines"]["test"]["popularity"]}}
    (folder / "results.json").write_text(json.dumps(results))
    page = read_page(folder)
    assert "script" not in page.tags
    assert EVIL in page.text


def test_figures_take_the_pages_text_colour(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    drawn = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(drawn) == 6
    for figure in drawn:
        assert "currentColor" in figure
        assert "#0a0b0c" not in figure
        assert "#000000" not in figure.replace("fill: none", "")
        assert "#ffffff" not in figure


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(written: Path) -> None:
    first = (written / "report.html").read_bytes()
    assert write_report(written).read_bytes() == first


def test_results_alone_suffice(tmp_path: Path) -> None:
    run_folder(tmp_path / "whole")
    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    for missing in ("training", "baselines", "test_peak_memory_mb", "embed"):
        del results[missing]
    results["splits"]["test"]["rows"] = {"all": {"GAUC": 0.7}}
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "results.json").write_text(json.dumps(results))
    page = read_page(bare)
    assert page.row("naml (this run)") == [("0.7000", "best")]
    assert "svg" not in page.tags


def test_a_run_without_results_is_an_error_that_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no results\.json"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_record_cut_off_by_a_kill_is_left_out(written: Path, tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    whole = (written / "report.html").read_bytes()
    with (folder / "metrics.jsonl").open("a") as records:
        records.write('{"kind": "train", "st')
    assert write_report(folder).read_bytes() == whole


@pytest.mark.slow
def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([lines[0], "{broken", *lines[2:]]) + "\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: not JSON"):
        write_report(folder)
    (folder / "results.json").write_text("{")
    with pytest.raises(DataError, match=r"results\.json:1: not JSON"):
        write_report(folder)


def test_scores_and_labels_of_other_lengths_are_an_error(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    np.save(folder / "diagnostics" / "abcdef012345" / "test" / "labels.npy", np.zeros(7, np.int8))
    with pytest.raises(DataError, match=r"scores \(3000,\), labels \(7,\)"):
        write_report(folder)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        (np.zeros(5, np.float32), np.array([0, 1, 0, 0, 1])),
        (np.array([0.5], np.float32), np.array([1])),
        (np.array([-1e30, 1e30, 0], np.float32), np.array([0, 0, 0])),
    ],
)
@pytest.mark.filterwarnings("error")
def test_degenerate_scores_can_be_drawn(scores: np.ndarray, labels: np.ndarray) -> None:
    assert score_distributions(scores, labels).startswith("<svg")
    assert calibration_curve(scores, labels).startswith("<svg")


def test_calibration_worked_by_hand() -> None:
    # 15 bins of two rows: one predicts 1/2 and is clicked every second time, the others never
    scores = np.array([0.0] * 2 + [-60.0] * 28)
    labels = np.array([1, 0] + [0] * 28)
    predicted, clicked, error = reliability(scores, labels)
    assert len(predicted) == 15
    assert predicted[-1] == pytest.approx(0.5)
    assert clicked[-1] == 0.5
    assert error == pytest.approx(0, abs=1e-20)
    _, _, error = reliability(scores, 1 - labels)
    assert error == pytest.approx(28 / 30)


def test_scores_that_are_the_true_log_odds_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(200_000)
    labels = (rng.random(200_000) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    assert reliability(logits, labels)[2] < 0.005
    assert reliability(3 * logits, labels)[2] > 0.1

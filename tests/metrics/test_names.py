"""Names of metrics."""

from __future__ import annotations

import pytest

from legos.errors import ConfigError
from legos.metrics import Metric, parse_metric


@pytest.mark.parametrize("written", ["nDCG@10", "ndcg@10", "NDCG@10"])
def test_case_does_not_matter(written: str) -> None:
    assert parse_metric(written) == Metric("nDCG@10", "nDCG", 10, maximize=True)


def test_only_log_loss_is_minimized() -> None:
    names = ["AUC", "GAUC", "MRR", "MRR-all", "LRAP", "nDCG@5", "HR@5", "Recall@5", "LogLoss"]
    assert [name for name in names if not parse_metric(name).maximize] == ["LogLoss"]


def test_a_typo_names_the_nearest_metric() -> None:
    with pytest.raises(ConfigError, match=r"unknown metric 'GUAC'; did you mean 'GAUC'\?"):
        parse_metric("GUAC")


@pytest.mark.parametrize("name", ["nDCG", "nDCG@0", "HR", "Recall@0"])
def test_a_cut_off_is_required_and_positive(name: str) -> None:
    with pytest.raises(ConfigError, match="k of 1 or more"):
        parse_metric(name)


def test_a_superfluous_cut_off_is_an_error() -> None:
    with pytest.raises(ConfigError, match="expected MRR without a cut-off"):
        parse_metric("MRR@5")


@pytest.mark.parametrize("name", ["", "nDCG@-1", "nDCG@x", "nDCG @5", "nDCG@5\n"])
def test_malformed_names_are_errors(name: str) -> None:
    with pytest.raises(ConfigError):
        parse_metric(name)


def test_a_sum_is_written_out_and_has_the_longest_list_of_its_terms() -> None:
    found = parse_metric("recall@20 + Recall@40+ndcg@100")
    assert (found.name, found.k, found.maximize) == ("Recall@20+Recall@40+nDCG@100", 100, True)
    assert [part.name for part in found.parts] == ["Recall@20", "Recall@40", "nDCG@100"]
    assert parse_metric(found.name) == found
    assert parse_metric("MRR+GAUC").k is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Recall@20+LogLoss", "LogLoss is no mean over groups; expected a sum of GAUC, MRR"),
        ("Recall@20+nDGC@5", "did you mean 'nDCG@5'"),
        ("Recall@20+", "unknown metric ''"),
    ],
)
def test_a_sum_of_what_cannot_be_added_is_an_error(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_metric(name)

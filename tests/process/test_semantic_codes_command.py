"""Residual k-means and its command."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from legos.blocks.kmeans import assign, kmeans, plus_plus
from legos.blocks.residual_codes import colliding, quantise, without_collisions
from legos.data.tables import Tables
from legos.data.vector_files import read_item_codes, read_vector_rows, write_item_vectors
from process.command import run_cli
from process.semantic_codes.__main__ import build_parser, main
from tests.tiny import tiny_tables

ROOT = Path(__file__).parents[2]


def blobs(count: int = 400, *, centres: int = 8, width: int = 6, seed: int = 0) -> Tensor:
    """Rows around well separated centres."""
    generator = torch.Generator().manual_seed(seed)
    middle = 10 * torch.randn(centres, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return middle[torch.arange(count) % centres] + noise


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(5))
def test_iterations_are_those_of_scikit_learn(seed: int) -> None:
    from sklearn.cluster import KMeans

    rows = torch.randn(300, 5, generator=seeded(seed), dtype=torch.float64)
    start = plus_plus(rows, 12, seeded(seed))
    reference = KMeans(12, init=start.numpy(), n_init=1, tol=0, algorithm="lloyd")
    reference.fit(rows.numpy())
    found = kmeans(rows, 12, generator=seeded(seed), iterations=1000)
    assert np.array_equal(found.codes.numpy(), reference.labels_)
    np.testing.assert_allclose(found.centres.numpy(), reference.cluster_centers_, atol=1e-10)
    assert float(found.distances.sum()) == pytest.approx(reference.inertia_)


def test_the_start_is_drawn_by_squared_distance() -> None:
    """After row 0 (or 1), the far row is drawn with its share of the squared distances."""
    rows = torch.tensor([[0.0], [1.0], [4.0]], dtype=torch.float64)
    firsts, seconds = Counter(), Counter()
    for seed in range(3000):
        first, second = plus_plus(rows, 2, seeded(seed)).flatten().tolist()
        firsts[first] += 1
        seconds[first, second] += 1
    assert all(firsts[row] == pytest.approx(1000, abs=100) for row in (0.0, 1.0, 4.0))
    assert seconds[0.0, 4.0] / firsts[0.0] == pytest.approx(16 / 17, abs=0.03)
    assert seconds[1.0, 4.0] / firsts[1.0] == pytest.approx(9 / 10, abs=0.03)
    assert seconds[4.0, 0.0] / firsts[4.0] == pytest.approx(16 / 25, abs=0.05)


def test_rows_are_assigned_to_the_nearest_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("legos.blocks.kmeans._CHUNK", 7)
    rows, centres = blobs(50), blobs(9, seed=1)
    found, distances = assign(rows, centres), torch.cdist(rows, centres).square()
    assert torch.equal(found.codes, distances.argmin(1))
    torch.testing.assert_close(found.distances, distances.min(1).values)


def test_a_cluster_without_rows_starts_again_at_the_farthest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = torch.cat([blobs(60, centres=3), torch.full((1, 6), 500.0, dtype=torch.float64)])
    far = torch.full((6,), -1e4, dtype=torch.float64)
    start = torch.stack([rows[0], far, rows[1]])  # nothing is near the second
    monkeypatch.setattr("legos.blocks.kmeans.plus_plus", lambda *_: start)
    found = kmeans(rows, 3, generator=seeded(), iterations=20)
    assert len(found.codes.unique()) == 3
    assert (found.codes == found.codes[-1]).sum() == 1
    assert found.codes[-1] == 1


def test_fewer_different_rows_than_codes_are_coded_exactly() -> None:
    rows = blobs(5).repeat(10, 1)
    found = quantise(rows, levels=3, size=16, seed=0)
    assert [level.error for level in found.levels] == pytest.approx([0.0, 0.0, 0.0], abs=1e-20)
    assert found.levels[0].used == 5
    assert found.levels[0].colliding == 50
    same = quantise(torch.ones(4, 3), levels=2, size=2, seed=0)
    assert same.codes.tolist() == [[0, 0]] * 4
    assert same.levels[0].left == 0


def test_codes_rebuild_the_vectors_and_the_errors_are_told() -> None:
    rows = blobs()
    found = quantise(rows, levels=3, size=8, seed=1)
    rebuilt = torch.zeros_like(rows)
    errors = []
    for level, book in enumerate(found.codebooks):
        rebuilt += book[found.codes[:, level]]
        error = float((rows - rebuilt).square().sum(1).mean())
        left = error / float(rows.var(0, correction=0).sum())
        prefixes = Counter(map(tuple, found.codes[:, : level + 1].tolist()))
        report = found.levels[level]
        assert report.error == pytest.approx(error)
        assert report.left == pytest.approx(left)
        assert report.used == len(set(found.codes[:, level].tolist())) <= 8
        assert report.colliding == sum(count for count in prefixes.values() if count > 1)
        errors.append(error)
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 10  # eight codes for eight groups: what is left is the noise, 6 numbers of 1


def test_the_seed_decides() -> None:
    rows = torch.randn(200, 4, generator=seeded(3))
    first, again, other = (quantise(rows, levels=2, size=9, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.codes, again.codes)
    assert not torch.equal(first.codes, other.codes)


def test_unique_numbers_the_items_of_the_same_codes() -> None:
    codes = torch.tensor([[1, 2], [0, 0], [1, 2], [3, 1], [1, 2], [0, 0]])
    unique = without_collisions(codes)
    assert unique.tolist() == [[1, 2, 0], [0, 0, 0], [1, 2, 1], [3, 1, 0], [1, 2, 2], [0, 0, 1]]
    assert colliding(codes) == 5
    assert colliding(unique) == 0


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["process.semantic_codes", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run_cli(main, build_parser())
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_help_teaches(help_of: Callable[[str], str]) -> None:
    shown = help_of("process.semantic_codes")
    for expected in ("residual k-means", "embed.item_codes", "example:", "default: 256"):
        assert expected in shown


@pytest.mark.parametrize("by_tables", [False, True])
def test_vectors_become_codes_of_the_same_items(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    by_tables: bool,
) -> None:
    tables = Tables.load(tiny_tables(tmp_path / "tiny"))
    names = [f"N{row}" for row in range(40)]
    if by_tables:  # then what other data have besides goes without codes
        names = [f"elsewhere{row}" for row in range(5)] + names
    write_item_vectors(tmp_path / "v.safetensors", names, blobs(len(names)).float())
    arguments = ["--vectors", tmp_path / "v.safetensors", "--output", tmp_path / "c.safetensors"]
    arguments += ["--tables", tables.folder] if by_tables else []
    assert run(monkeypatch, *arguments, "--size", "8", "--levels", "2", "--unique") == 0
    codes = read_item_codes(tmp_path / "c.safetensors", tables)
    assert codes is not None
    assert codes.shape == (60, 3)
    assert (codes[40:] == -1).all()
    assert len(codes[:40].unique(dim=0)) == 40
    vectors = read_vector_rows(tmp_path / "v.safetensors").values[-40:]
    expected = quantise(vectors, levels=2, size=8, seed=0).codes
    assert torch.equal(codes[:40, :2], expected)
    shown = capsys.readouterr().out
    assert "Codes of 40 vectors of 6 numbers" in shown
    assert "unique" in shown


def test_arrays_need_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = Tables.load(tiny_tables(tmp_path / "tiny"))
    np.save(tmp_path / "v.npy", blobs(60).numpy())
    arguments = ["--vectors", tmp_path / "v.npy", "--size", "8"]
    output = tmp_path / "c.safetensors"
    assert run(monkeypatch, *arguments, "--output", output) == 2
    assert "names no items; give the tables" in capsys.readouterr().err
    assert run(monkeypatch, *arguments, "--output", output, "--tables", tables.folder) == 0
    codes = read_item_codes(output, tables)
    assert codes is not None
    assert codes.min() >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "41"], "--size 41: more codes than the 40 items"),
        (["--levels", "0"], "--levels 0: at least 1"),
        (["--output", "codes.npy"], "codes.npy: items are written with their ids"),
        (["--vectors", "absent.safetensors"], "absent.safetensors: no such file"),
        (["--tables", "absent"], "absent: no manifest.json"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    write_item_vectors(tmp_path / "v.safetensors", [f"N{n}" for n in range(40)], blobs(40))
    monkeypatch.chdir(tmp_path)
    code = run(monkeypatch, "--vectors", "v.safetensors", "--output", "c.safetensors", *arguments)
    assert code == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["v.safetensors"]

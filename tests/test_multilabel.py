"""The average precision of benchmarks/multilabel.py, and the mosaics of tools/make_mosaics.py."""

import csv
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import multilabel_average_precision

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("multilabel", ROOT / "benchmarks/multilabel.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["multilabel"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["multilabel"]


def table(rng, count=80, labels=5, levels=None):
    scores = rng.random((count, labels))
    if levels:
        scores = np.round(scores * levels) / levels
    return rng.random((count, labels)) < 0.3, scores


def test_by_hand(benchmark):
    truth = np.array([[1], [0], [1], [0]], bool)
    found = benchmark.average_precision(truth, np.array([[0.9], [0.8], [0.7], [0.1]]))
    assert found == pytest.approx([(1 + 2 / 3) / 2])
    assert benchmark.average_precision(truth, np.zeros((4, 1))) == pytest.approx([0.5])  # one tie


@pytest.mark.parametrize("levels", [None, 2, 10])
def test_it_is_that_of_torchmetrics(benchmark, levels):
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, scores = table(rng, levels=levels)
        expected = multilabel_average_precision(
            torch.from_numpy(scores), torch.from_numpy(truth).int(), scores.shape[1], average="none"
        )
        np.testing.assert_allclose(
            benchmark.average_precision(truth, scores), expected.numpy(), atol=1e-6
        )


@pytest.mark.parametrize("levels", [None, 3])
def test_weights_are_images_repeated(benchmark, levels):
    rng = np.random.default_rng(1)
    for _ in range(20):
        truth, scores = table(rng, levels=levels)
        counts = rng.multinomial(80, np.full(80, 1 / 80))
        expected = benchmark.average_precision(truth.repeat(counts, 0), scores.repeat(counts, 0))
        found = benchmark.average_precision(truth, scores, counts)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_order_of_images_does_not_matter(benchmark):
    rng = np.random.default_rng(2)
    truth, scores = table(rng, levels=3)
    order = rng.permutation(len(truth))
    np.testing.assert_allclose(
        benchmark.average_precision(truth[order], scores[order]),
        benchmark.average_precision(truth, scores),
    )


def test_a_label_without_images_has_none_and_does_not_count(benchmark):
    truth, scores = table(np.random.default_rng(3))
    truth[:, 1] = False
    found = benchmark.average_precision(truth, scores)
    assert np.isnan(found).tolist() == [False, True, False, False, False]
    kept = [0, 2, 3, 4]
    assert benchmark.mean_average_precision(truth, scores) == pytest.approx(found[kept].mean())


def test_bootstrap_samples_are_the_same_for_all(benchmark):
    truth, scores = table(np.random.default_rng(4))
    samples = benchmark.bootstrap(truth, [scores, scores * 2, np.round(scores)])
    assert samples.shape == (2000, 3)
    assert (samples[:, 0] == samples[:, 1]).all()
    assert (samples[:, 0] != samples[:, 2]).all()


def test_the_fit_is_the_minimum(benchmark):
    """Where the gradient is that of the penalty."""
    torch.manual_seed(0)
    x, y = torch.randn(60, 4).double(), (torch.rand(60, 3) < 0.4).double()
    weights = benchmark.fit(x, y, 0.1, torch.zeros(5, 3).double())
    errors = torch.sigmoid(x @ weights[:-1] + weights[-1]) - y
    torch.testing.assert_close(x.T @ errors / 60, -0.1 * weights[:-1], atol=3e-5, rtol=0)
    torch.testing.assert_close(errors.mean(0), torch.zeros(3).double(), atol=3e-5, rtol=0)


def mosaics(folder, output, *options):
    command = [sys.executable, ROOT / "tools/make_mosaics.py", folder, output, *options]
    return subprocess.run(map(str, command), capture_output=True, text=True)


def test_mosaics_show_the_tiles_of_their_labels_and_share_none_between_parts(tmp_path):
    rng = np.random.default_rng(5)
    # Green tells the class, red and blue the tile, in steps that survive JPEG
    for place, name in enumerate("abcde"):
        (tmp_path / "tiles" / name).mkdir(parents=True)
        for number in range(60):
            tile = np.zeros((16, 16, 3), np.uint8)
            tile[:] = (number % 12 * 20 + 10, 50 * place + 20, number // 12 * 50 + 20)
            tile = np.clip(tile + rng.integers(0, 3, tile.shape), 0, 255).astype(np.uint8)
            Image.fromarray(tile).save(tmp_path / "tiles" / name / f"{number}.jpg", quality=98)
    counts = {"train": 20, "val": 6, "test": 8}
    options = [word for part, count in counts.items() for word in (f"--{part}", count)]
    done = mosaics(tmp_path / "tiles", tmp_path / "out", *options)
    assert not done.returncode, done.stderr
    with (tmp_path / "out/labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {part: sum(row["split"] == part for row in rows) for part in counts} == counts
    seen = {part: [] for part in counts}
    for row in rows:
        image = np.asarray(Image.open(tmp_path / "out" / row["file_name"]))
        assert image.shape == (32, 32, 3)
        cells = image.reshape(2, 16, 2, 16, 3).mean((1, 3)).reshape(4, 3)
        tiles = [("abcde"[int(g // 50)], int(r // 20), int(b // 50)) for r, g, b in cells]
        assert row["label"] == "|".join(sorted({name for name, *_ in tiles}))
        seen[row["split"]] += tiles
    assert {1, 4} <= {row["label"].count("|") + 1 for row in rows}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not set(seen[one]) & set(seen[other])
    for part in ("val", "test"):
        assert len(set(seen[part])) == len(seen[part])

    assert mosaics(tmp_path / "tiles", tmp_path / "again", *options).returncode == 0
    for file in (tmp_path / "out").rglob("*.*"):
        again = tmp_path / "again" / file.relative_to(tmp_path / "out")
        assert file.read_bytes() == again.read_bytes()
    refused = mosaics(tmp_path / "tiles", tmp_path / "more", "--test", "100")
    assert "ask for fewer mosaics" in refused.stderr

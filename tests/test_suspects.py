"""Labels that may be wrong are found among all images, those trained on too."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import resnets
from resnets.evaluation import EVALUATORS
from resnets.kinds.classes import ClassPrediction
from resnets.kinds.sample import Sample
from resnets.run import suspects
from resnets.run.suspects import FOLDS, _folds, time_search
from resnets.tasks.classes import Classification
from resnets.training.probe import Featured, predict_held_out

WRONG = 12


@pytest.fixture(scope="module")
def mislabelled(tmp_path_factory):
    """240 images of three textures, of which 12 lie in the folder of another one."""
    root, rng = tmp_path_factory.mktemp("textures"), np.random.default_rng(0)
    names, wrong = ("fine", "coarse", "flat"), set()
    chosen = set(rng.choice(240, WRONG, replace=False).tolist())
    for number in range(240):
        kind = number % 3
        scale = (2, 8, 32)[kind]
        small = rng.integers(60, 200, (32 // scale, 32 // scale, 3), dtype=np.uint8)
        pixels = small.repeat(scale, 0).repeat(scale, 1) + rng.normal(0, 20, (32, 32, 3))
        label = names[kind]
        if number in chosen:
            label = names[(kind + 1 + number % 2) % 3]
            wrong.add(f"{number}.png")
        folder = root / "photos" / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    run = resnets.train(
        root / "photos", "resnet20", weights="none", epochs=12, output=root / "run", quiet=True
    )
    return run, wrong


def test_most_wrong_labels_are_among_the_first_suspects(mislabelled):
    run, wrong = mislabelled
    with (run.folder / "suspects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "file", "split", "label", "predicted", "probability", "label_probability"
    ]  # fmt: skip
    first = [row["file"].rpartition("/")[2] for row in rows[:WRONG]]
    assert sum(name in wrong for name in first) >= 0.75 * WRONG
    assert {row["split"] for row in rows} == {"train", "val"}
    assert all(row["label"] != row["predicted"] for row in rows)
    shares = [float(row["label_probability"]) for row in rows]
    assert shares == sorted(shares)


def test_the_report_shows_them(mislabelled):
    run, _ = mislabelled
    page = (run.folder / "report.html").read_text()
    assert "Suspect labels" in page
    assert "looks like" in page


def test_no_head_has_seen_what_it_judges():
    """A feature that only one image has cannot tell its class."""
    features = torch.eye(40)
    labels = torch.arange(40) % 2
    folds = torch.arange(40) % 4
    told = predict_held_out(
        Featured(features, {"labels": labels}), folds, 2, Classification().loss, 1e-3
    )
    assert (told.argmax(1) == labels).float().mean() < 0.8


def test_groups_are_held_out_together():
    samples = [Sample(Path(f"/{n}"), f"{n}", (), group=f"g{n // 5}") for n in range(100)]
    folds = _folds(samples)
    assert all(len(set(folds[n : n + 5].tolist())) == 1 for n in range(0, 100, 5))
    assert (
        len(set(_folds([Sample(Path(f"/{n}"), f"{n}", ()) for n in range(100)]).tolist())) == FOLDS
    )


def test_only_labels_that_another_class_beats_are_suspicious():
    score = EVALUATORS["classes"].suspicion.score
    truth = ClassPrediction("x", ("a", "b"), np.array([1, 0], np.float32))
    right = ClassPrediction("x", ("a", "b"), np.array([0.6, 0.4], np.float32))
    wrong = ClassPrediction("x", ("a", "b"), np.array([0.3, 0.7], np.float32))
    assert score(truth, right) is None
    assert score(truth, wrong) == pytest.approx(0.7)


def test_the_time_of_a_search_grows_only_with_what_images_add(mislabelled, monkeypatch):
    """Each head takes a second by itself and 0.1 ms for an image, by a made-up clock."""
    run, _ = mislabelled
    clock, heads = [0.0], []

    def fit(featured, folds, *rest):
        heads.append(len(featured.features))
        clock[0] += FOLDS + 1e-4 * len(featured.features)

    monkeypatch.setattr(suspects, "predict_held_out", fit)
    monkeypatch.setattr(suspects, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    few = Featured(torch.randn(32, 8), {"labels": torch.arange(32) % 3})
    for count in (20, 256, 1000, 60_000):
        heads.clear()
        assert time_search(run.model, few, count) == pytest.approx(FOLDS + 1e-4 * count)
        assert max(heads) <= 2048

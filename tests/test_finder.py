"""The learning rate finder: what it finds, and that the run after it is one with a rate given."""

import csv

import numpy as np
import pytest
from conftest import write_pictures

pytest.importorskip("torch", reason="training install")

from torch import nn

import resnets
from resnets.run import finder
from resnets.run.finder import HIGHEST, LOWEST, STEPS, Rise, Search, smoothed
from resnets.settings import read_yaml
from resnets.training.papers import PAPERS, filled

SMALL = {"size": 16, "weights": "none", "batch_size": 8, "quiet": True, "epochs": 2}
NETWORK = "resnet20 depths=1-1-1"
CHECKPOINT = "weights/last.safetensors"


def stored(folder):
    return read_yaml(folder / "args.yaml")["settings"]


@pytest.fixture(scope="module")
def searched(colours, tmp_path_factory):
    """A run that found its rate."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    resnets.train(colours, NETWORK, find_lr=True, output=folder, **SMALL)
    return folder


def test_the_rate_of_small_pictures_is_one_that_learns(searched):
    """The recipe has 0.0125 here."""
    assert 1e-3 <= stored(searched)["lr"] <= 0.3


def test_table_and_curve_are_written(searched):
    rows = list(csv.DictReader((searched / "lr_finder.csv").read_text().splitlines()))
    rates = [float(row["learning_rate"]) for row in rows]
    assert 3 <= len(rates) <= STEPS
    assert rates[0] == LOWEST
    assert rates[-1] <= HIGHEST["sgd"]
    assert np.ptp(np.diff(np.log(rates))) < 1e-9
    assert stored(searched)["lr"] in [float(f"{rate:.2g}") for rate in rates]
    assert (searched / "lr_finder.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_with_the_same_rate_given_ends_in_the_same_bits(colours, searched, tmp_path):
    rate = stored(searched)["lr"]
    resnets.train(colours, NETWORK, lr=rate, output=tmp_path / "run", **SMALL)
    # byte for byte, the checkpoint differs in the seconds that steps took
    first, other = (
        resnets.modelfile.read_model(folder / CHECKPOINT)[0]
        for folder in (searched, tmp_path / "run")
    )
    assert first.keys() == other.keys()
    assert all(bool((first[name] == other[name]).all()) for name in first)
    given = stored(tmp_path / "run")
    assert {**stored(searched), "data": given["data"]} == given
    assert not (tmp_path / "run" / "lr_finder.csv").exists()


def test_a_resumed_run_does_not_search_again(colours, searched, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    resnets.train(
        colours, NETWORK, find_lr=True, output=folder, callbacks=[lambda row: True], **SMALL
    )
    monkeypatch.setattr("resnets.run.find_rate", lambda job: pytest.fail("searched again"))
    table = (folder / "lr_finder.csv").read_bytes()
    resnets.run.resume(folder, quiet=True)
    assert (folder / "lr_finder.csv").read_bytes() == table
    first, other = (resnets.modelfile.read_model(one / CHECKPOINT)[0] for one in (searched, folder))
    assert all(bool((first[name] == other[name]).all()) for name in first)


def test_a_new_run_in_the_folder_leaves_no_old_curve(colours, tmp_path):
    (tmp_path / "lr_finder.csv").write_text("of an earlier run")
    resnets.train(colours, NETWORK, output=tmp_path, exist_ok=True, **SMALL)
    assert not (tmp_path / "lr_finder.csv").exists()


# --- landscapes that are known


def descend(curvature):
    """Losses of gradient descent on half a curvature times x squared, which rises from a rate of 2
    over the curvature on; the rates go up meanwhile."""
    rise, x, losses = Rise(10.0, STEPS, 0), 1.0, []
    for step in range(STEPS):
        losses.append(1 + curvature * x * x / 2 / curvature)
        if losses[-1] > 4 * min(losses):
            break
        x -= rise(step) * curvature * x
    return Search(tuple(map(rise, range(len(losses)))), tuple(losses))


@pytest.mark.parametrize("curvature", [1.0, 10.0, 100.0, 1e4])
def test_the_rate_of_a_parabola_is_below_where_it_diverges(curvature):
    rate, reason = descend(curvature).best()
    assert 0.01 / curvature <= rate <= 2 / curvature
    assert "steeply" in reason


class Scaled(nn.Module):
    """A linear model of inputs that are multiplied: its curvature is, by the square."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.fc = factor, nn.Linear(3 * 16 * 16, 2)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        return self.fc(self.factor * x.flatten(1))


def test_the_rate_of_a_linear_model_follows_its_curvature(colours, tmp_path):
    """From zero, with inputs 10 times as large, gradient descent is the same at a hundredth of the
    rate."""
    rates = []
    options = {**SMALL, "weights": "given", "optimizer": "sgd", "crop": "none", "flip": "none"}
    for factor in (1.0, 10.0):
        folder = tmp_path / f"run{factor:g}"
        resnets.train(colours, Scaled(factor), find_lr=True, output=folder, **options)
        rates.append(stored(folder)["lr"])
    assert 40 <= rates[0] / rates[1] <= 250


def test_where_nothing_falls_it_is_a_tenth_of_the_rate_of_the_minimum():
    rates = tuple(np.geomspace(1e-3, 1, 30).tolist())
    rate, reason = Search(rates, tuple(1.0 + n for n in range(30))).best()
    assert rate == pytest.approx(1e-4)
    assert "a tenth" in reason


def test_smoothing_keeps_a_line_in_its_place():
    line = np.arange(60.0)
    assert smoothed(line)[20:40] == pytest.approx(line[20:40])


def test_numbers_that_are_none_end_the_curve(colours, tmp_path, monkeypatch):
    """Rates so high that the weights overflow."""
    monkeypatch.setattr(finder, "RISEN", float("inf"))
    monkeypatch.setattr(finder, "HIGHEST", {"sgd": 1e30})
    options = {**SMALL, "weights": "given", "optimizer": "sgd"}
    resnets.train(colours, Scaled(1e9), find_lr=True, output=tmp_path / "run", **options)
    rows = (tmp_path / "run" / "lr_finder.csv").read_text().splitlines()
    assert 3 < len(rows) <= STEPS


# --- refused


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"lr": 0.1}, "find_lr and lr=0.1 are both given"),
        ({"epochs": 0}, "find_lr: with epochs=0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_work(colours, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        resnets.train(colours, NETWORK, find_lr=True, output=tmp_path / "run", **{**SMALL, **more})
    assert not (tmp_path / "run").exists()


def test_it_takes_the_place_of_the_rate_of_a_recipe():
    name = next(name for name, paper in PAPERS.items() if "lr" in paper.values)
    assert "lr" in filled({"recipe": name})
    assert "lr" not in filled({"recipe": name, "find_lr": True})


def test_its_time_counts(tmp_path):
    """With a limit, the steps are counted after the search."""
    data = write_pictures(tmp_path / "photos")
    options = {**SMALL, "minutes": 0.8, "find_lr": True}
    del options["epochs"]
    run = resnets.train(data, NETWORK, output=tmp_path / "run", **options)
    assert run.seconds <= 1.2 * 48
    assert (tmp_path / "run" / "lr_finder.csv").is_file()

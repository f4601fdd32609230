"""Probabilities that are fitted to be right as often as they say."""

import csv

import numpy as np
import pytest
from PIL import Image

import resnets
from resnets import runtime


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two kinds of grey images, a third of which nobody can tell apart."""
    root, rng = tmp_path_factory.mktemp("grey"), np.random.default_rng(0)
    for number in range(160):
        kind = number % 2
        level = 128 if number % 3 == 0 else 100 + 56 * kind
        pixels = np.clip(level + rng.normal(0, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
        folder = root / ("dark", "light")[kind]
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def train(photos, folder, **settings):
    return resnets.train(
        photos, "resnet20", weights="none", epochs=8, output=folder, quiet=True, **settings
    )


def read(run):
    with (run.folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_temperature_lowers_the_loss_and_changes_no_predicted_class(photos, tmp_path):
    plain = train(photos, tmp_path / "plain")
    fitted = train(photos, tmp_path / "fitted", calibrate="temperature")
    assert fitted.metrics.loss < plain.metrics.loss
    assert fitted.metrics.accuracy == plain.metrics.accuracy
    before, after = read(plain), read(fitted)
    assert [row["predicted"] for row in before] == [row["predicted"] for row in after]
    assert [row["probability"] for row in before] != [row["probability"] for row in after]
    # the last layer alone has changed, by one factor
    one, other = (run.model.net.state_dict() for run in (plain, fitted))
    factor = other["fc.bias"] / one["fc.bias"]
    assert factor.std() < 1e-4 * factor.abs().mean()
    assert all(one[name].equal(other[name]) for name in one if not name.startswith("fc."))
    # the file and the stored weights say the same
    file = runtime.load(fitted.proven.path).predict([photos / row["file"] for row in after])
    stored = resnets.load(fitted.folder).predict([photos / row["file"] for row in after])
    for row, a, b in zip(after, file, stored, strict=True):
        assert a.probability == pytest.approx(float(row["probability"]), abs=1e-4)
        assert b.probability == pytest.approx(float(row["probability"]), abs=1e-4)
    assert "temperature" in (fitted.folder / "report.html").read_text()


def test_a_network_without_a_linear_head_is_refused(photos, tmp_path):
    from torch import nn

    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    with pytest.raises(
        ValueError, match=r"needs a network that ends in a linear layer.*Sequential"
    ):
        resnets.train(photos, net, weights="none", calibrate="temperature", output=tmp_path / "r")

"""What more images would bring."""

import csv

import numpy as np
import pytest
from PIL import Image

import resnets
from resnets.evaluation.forecast import Growth, extrapolate, growth_section
from resnets.run.growth import PARTS, _part

SIZES = (125, 250, 500, 1000)


def planted(errors, n, seed=0):
    """(sizes, n) images that are right as often as errors say."""
    rng = np.random.default_rng(seed)
    luck = rng.random(n)  # an image that is hard is hard for all
    return np.stack([(luck >= error).astype(float) for error in errors])


@pytest.mark.parametrize("exponent", [0.2, 0.5, 0.9])
def test_a_power_law_is_continued(exponent):
    errors = [0.4 * (size / SIZES[0]) ** -exponent for size in (*SIZES, 2 * SIZES[-1])]
    growth = extrapolate("accuracy", SIZES, planted(errors[:-1], 20_000))
    assert growth.doubled.value == pytest.approx(1 - errors[-1], abs=0.01)
    # one draw: three standard errors
    spread = growth.doubled.high - growth.doubled.low
    assert abs(growth.doubled.value - (1 - errors[-1])) < 0.75 * spread
    assert growth.gain == pytest.approx(errors[-2] - errors[-1], abs=0.01)


def test_what_gets_worse_or_is_perfect_is_not_made_better_than_it_can_be():
    worse = extrapolate("accuracy", SIZES, planted([0.1, 0.12, 0.14, 0.16], 5_000))
    assert worse.gain <= 0.04
    perfect = extrapolate("accuracy", SIZES, np.ones((4, 50)))
    assert 0.98 < perfect.doubled.value < 1
    assert perfect.doubled.low <= perfect.doubled.value <= perfect.doubled.high


def test_few_validation_images_widen_the_interval():
    errors = [0.4, 0.3, 0.22, 0.17]
    few, many = (extrapolate("accuracy", SIZES, planted(errors, n)) for n in (50, 5_000))
    assert few.doubled.high - few.doubled.low > 4 * (many.doubled.high - many.doubled.low)


def test_it_is_read_as_it_was_written():
    growth = extrapolate("accuracy", SIZES, planted([0.4, 0.3, 0.22, 0.17], 200))
    rows = [{name: str(value) for name, value in row.items()} for row in growth.rows()]
    again = Growth.read(rows)
    assert again.sizes == SIZES
    assert again.rows() == growth.rows()
    section = growth_section(again)
    assert "twice as many" in section.hint
    (chart,) = section.values["charts"]
    assert [line.name for line in chart.lines] == ["measured", "forecast"]


def test_each_part_has_its_share_of_each_class():
    strata = np.repeat(["many", "few", "one"], [800, 80, 1])
    for part in PARTS:
        places = _part(strata, part, 0).numpy()
        names, counts = np.unique(strata[places], return_counts=True)
        assert dict(zip(names, counts, strict=True)) == {
            "many": 800 * part,
            "few": 80 * part,
            "one": 1,
        }
        assert not np.array_equal(places, _part(strata, part, 1).numpy())
        assert np.array_equal(places, _part(strata, part, 0).numpy())


def test_a_run_with_a_probe_tells_what_more_images_would_bring(colours, tmp_path):
    first = resnets.train(
        colours, "resnet20", weights="none", epochs=1, output=tmp_path / "first", quiet=True
    )
    assert not (first.folder / "learning_curve.csv").exists(), "there is no probe from scratch"
    photos, rng = tmp_path / "photos", np.random.default_rng(0)
    for name, level in (("dark", 90), ("grey", 120), ("light", 150)):
        (photos / name).mkdir(parents=True)
        for number in range(90):
            pixels = np.clip(level + rng.normal(0, 60, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(photos / name / f"{number}.png")
    run = resnets.train(
        photos,
        "resnet20",
        weights=str(first.folder / "weights" / "best.safetensors"),
        epochs=1,
        output=tmp_path / "run",
        quiet=True,
    )
    with (run.folder / "learning_curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["images"]) for row in rows] == [27, 54, 108, 216, 432]
    assert {row["number"] for row in rows} == {"accuracy"}
    assert "More images" in (run.folder / "report.html").read_text("utf-8")

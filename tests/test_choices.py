"""What only a trial tells: precision, input size and, from scratch, the network."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from resnets.run import choices
from resnets.run.choices import (
    EPOCHS,
    FEWEST,
    FROM_SCRATCH,
    STEPS,
    choose_images,
    choose_precision,
    choose_side,
)
from resnets.run.preparation import prepare
from resnets.run.start import make_preprocessing
from resnets.screen import Screen
from resnets.training.loop import Diverged
from resnets.training.settings import TrainSettings


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 images of 160 px, and 40 of 40 px."""
    root, rng = tmp_path_factory.mktemp("choices"), np.random.default_rng(0)
    for side in (160, 40):
        for number in range(40):
            folder = root / f"{side}" / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def asked(photos, side=160, **settings):
    given = {"weights": "none", **settings}
    return TrainSettings(str(photos / f"{side}"), **given)


@pytest.fixture
def spec(photos):
    """Of a run that is to start from weights for 224 px."""
    prepared = prepare(
        asked(photos, model="resnet18", size=224, epochs=1.0), None, Screen(quiet=True)
    )
    return replace(prepared.spec, probe=True), prepared


def timed(monkeypatch, seconds):
    """A made-up time for a step, by (spec, side); its loss is 1 unless a pair is given."""

    def time_step(net, spec, samples, side=None):
        found = seconds(spec, side or max(spec.preprocessing.size))
        return found if isinstance(found, tuple) else (found, 1.0)

    monkeypatch.setattr(choices, "time_step", time_step)
    monkeypatch.setattr(choices, "SHORT", 0.05)  # see conftest.py


@pytest.mark.parametrize(
    ("short", "full", "expected"),
    [
        ((0.1, 1.0), (0.4, 1.0), "bfloat16"),
        ((0.1, 1.02), (0.4, 1.0), "bfloat16"),
        ((0.35, 1.0), (0.4, 1.0), "float32"),  # hardly faster
        ((0.1, 1.2), (0.4, 1.0), "float32"),  # another loss
        ((0.1, float("nan")), (0.4, 1.0), "float32"),
        ((0.01, 1.0), (0.04, 1.0), "float32"),  # noise would decide
    ],
)
def test_bfloat16_is_taken_where_it_is_faster_and_right(spec, monkeypatch, short, full, expected):
    _, prepared = spec
    wanted = replace(prepared.spec, settings=replace(prepared.spec.settings, precision="bfloat16"))
    timed(monkeypatch, lambda spec, side: short if spec.settings.precision == "bfloat16" else full)
    found = choose_precision(wanted, prepared.net, prepared.samples, Screen(quiet=True))
    assert found.settings.precision == expected


@pytest.mark.parametrize("error", [RuntimeError("not implemented for 'BFloat16'"), Diverged("NaN")])
def test_a_network_that_fails_in_bfloat16_is_trained_in_float32(spec, monkeypatch, error):
    _, prepared = spec

    def seconds(spec, side):
        if spec.settings.precision == "bfloat16":
            raise error
        return 1.0

    timed(monkeypatch, seconds)
    wanted = replace(prepared.spec, settings=replace(prepared.spec.settings, precision="bfloat16"))
    found = choose_precision(wanted, prepared.net, prepared.samples, Screen(quiet=True))
    assert found.settings.precision == "float32"


@pytest.mark.parametrize("minutes", [0.5, 1, 2, 5, 20])
def test_the_largest_input_with_enough_epochs_is_taken(spec, monkeypatch, minutes):
    wanted, prepared = spec
    assert wanted.settings.batch_size == 8
    per_pixel = 0.02  # seconds of a step at 224 px for each image
    timed(monkeypatch, lambda spec, side: 8 * per_pixel * (side / 224) ** 2)
    samples = prepared.samples * 50
    found = choose_side(wanted, prepared.net, samples, 60 * minutes, Screen(quiet=True))
    side = found.settings.size
    assert found.preprocessing.size == (side, side)
    assert side % 32 == 0
    given = make_preprocessing(found.settings, None, (side, side))  # with the crop of all weights
    assert found.preprocessing.resize == given.resize
    count = sum(sample.split == "train" for sample in samples)
    left = 0.85 * (60 * minutes - 25 - 0.3 * per_pixel * count)
    looks = 0.3 * per_pixel * (2 * count + 6 * (len(samples) - count))

    def epochs(side):
        return left / (per_pixel * (side / 224) ** 2 * count)

    if epochs(160) * count / wanted.settings.batch_size < STEPS:
        assert side == (224 if looks <= 0.6 * max(15 * minutes, 60 * minutes - 25) else 160)
    else:
        assert epochs(side) >= EPOCHS or side == 160
        assert side == 224 or epochs(side + 32) < EPOCHS


@pytest.mark.parametrize("minutes", [0.1, 0.5, 1, 3, 30])
def test_no_more_images_are_taken_than_can_be_looked_at(spec, monkeypatch, minutes):
    wanted, prepared = spec
    wanted = replace(wanted, settings=replace(wanted.settings, epochs=None, minutes=minutes))
    timed(monkeypatch, lambda spec, side: 8 * 0.1)  # 0.03 s a look, and decoding
    samples = prepared.samples * 50
    screen = Screen(quiet=True)
    found, chosen = choose_images(wanted, prepared.net, samples, 60 * minutes, screen)
    counts = Counter(sample.split for sample in chosen)
    looks = 2 * counts["train"] + 6 * counts["val"]
    if minutes == 30:
        assert (found, chosen) == (wanted, samples)
        return
    assert (
        found.split
        == f"{wanted.split}; {len(chosen):,} of 2,000 images, for a limit of {minutes:g} min"
    )
    assert found.omitted == 2000 - len(chosen) > 0
    each = Counter((sample.split, sample.labels) for sample in chosen)
    assert set(each) == {(sample.split, sample.labels) for sample in samples}
    assert min(each.values()) >= FEWEST
    budget = 0.45 * max(15 * minutes, 60 * minutes - 25)
    if min(each.values()) > FEWEST:
        assert 0.5 * budget < 0.03 * looks <= budget
    else:
        assert 0.03 * looks > 0.5 * budget


@pytest.mark.parametrize(
    ("side", "speed", "expected"),
    [
        (160, 1.0, ("resnet18", 128)),
        (160, 0.02, ("resnet20", 64)),
        (160, 0.001, ("resnet20", 48)),
        (160, 0.0001, ("resnet20", 32)),
        (40, 1.0, ("resnet20", 32)),
    ],
)
def test_from_scratch_the_most_demanding_network_that_fits_is_taken(
    photos, monkeypatch, side, speed, expected
):
    cost = {"resnet18": 1.0, "resnet20": 0.1}

    def seconds(spec, side):
        return cost[spec.network["name"]] * (side / 64) ** 2 * 0.02 / speed

    timed(monkeypatch, seconds)
    prepared = prepare(asked(photos, side, minutes=3.0), None, Screen(quiet=True))
    settings = prepared.spec.settings
    assert (settings.model, settings.size) == expected
    assert prepared.spec.preprocessing.size == (expected[1], expected[1])


def test_a_named_network_or_size_is_kept(photos, monkeypatch):
    timed(monkeypatch, lambda spec, side: 1e6)
    for words in ({"model": "resnet20"}, {"size": 48}):
        prepared = prepare(asked(photos, minutes=3.0, **words), None, Screen(quiet=True))
        for name, value in words.items():
            assert getattr(prepared.spec.settings, name) == value


def test_enough_epochs_means_more_from_scratch():
    assert FROM_SCRATCH > EPOCHS


def test_without_published_weights_the_network_is_one_for_scratch(photos, monkeypatch):
    from resnets.downloads import Offline
    from resnets.run import start

    def offline(network, screen):
        raise Offline("no network")

    monkeypatch.setattr(start, "imagenet_weights", offline)
    small = prepare(asked(photos, 40, weights="auto", epochs=1.0), None, Screen(quiet=True))
    assert small.spec.settings.model == "resnet20"
    assert small.spec.probe is False
    large = prepare(asked(photos, 160, weights="auto", epochs=1.0), None, Screen(quiet=True))
    assert large.spec.settings.model == "resnet18"

"""Two networks for one question: who answers what, and from where on the first one is believed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_streams import Brightness, brightness, plain, said

from resnets.measuring import FEWEST, find_sureness, sure_from
from resnets.preprocessing import Preprocessing
from resnets.runtime import Cascade, Predictor, load
from resnets.screen import Screen

TINY = Path(__file__).parent / "data" / "format1" / "tiny.onnx"


class Inverted(Brightness):
    """Says the opposite."""

    name = "inverted"

    def __call__(self, image):
        return {"probabilities": super().__call__(image)["probabilities"][:, ::-1]}


def inverted(**changes) -> Predictor:
    made = Predictor(
        Inverted(), brightness().classes, Preprocessing(**{"fit": "stretch", **changes})
    )
    made.name, made.sha256 = "inverted", "1"
    return made


@pytest.mark.parametrize("count", [10, 80])
@pytest.mark.parametrize("sure", [0.0, 0.6, 1.0])
def test_the_second_network_answers_where_the_first_is_not_sure(count, sure):
    """One by one and in batches; nobody is asked twice."""
    images = [plain(number) for number in range(count)]
    first = said(brightness().predict(images))
    second = said(inverted().predict(images))
    both = Cascade(brightness(), inverted(), sure)
    found = said(both.predict(images))
    expected = [
        one if max(one[2]) >= sure else other for one, other in zip(first, second, strict=True)
    ]
    assert found == expected
    assert both.asked == count
    assert both.passed_on == sum(max(one[2]) < sure for one in first)
    assert both.remark.startswith(f"{both.passed_on} of {count} images by inverted")
    assert (both.passed_on == 0) == (sure == 0.0)
    assert (both.passed_on < count - 1) == (sure < 1)


def test_an_image_that_cannot_be_read_is_told_and_not_counted():
    both = Cascade(brightness(), inverted(), 0.6)
    bad, good = both.predict([b"no image", plain(1)])
    assert "not readable" in bad.error
    assert good.error is None
    assert both.asked == 1


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (inverted(size=(32, 32)), r"prepares images in another way .*\(size\)"),
        (Predictor(Inverted(), ("a", "b", "c"), Preprocessing(fit="stretch")), "other classes"),
    ],
)
def test_networks_that_do_not_fit_together(second, said):
    with pytest.raises(ValueError, match=said):
        Cascade(brightness(), second, 0.5)


def test_a_threshold_that_is_none():
    with pytest.raises(ValueError, match=r"sure is 1\.5; allowed: a probability"):
        Cascade(brightness(), inverted(), 1.5)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]) | st.floats(0, 1), st.booleans()),
        min_size=1,
    ),
    st.floats(0, 1),
)
def test_the_threshold_is_the_lowest_that_gives_the_agreement(pairs, target):
    values, agreeing = np.array([v for v, _ in pairs]), np.array([a for _, a in pairs])

    def agreement(threshold):
        return (agreeing | (values < threshold)).mean()

    found = sure_from(values, agreeing, target)
    assert agreement(found) >= target - 1e-9
    for lower in (0.0, *values):
        if lower < found:
            assert agreement(lower) < target + 1e-9


def test_what_is_found_on_images(tmp_path):
    """The first network agrees on the dark half, of which it is surest."""

    class Unsure(Brightness):
        def __call__(self, image):
            found = super().__call__(image)["probabilities"]
            light = found.argmax(1) == 2
            found[light] = [0.4, 0.25, 0.35]
            return {"probabilities": found}

    for number in range(60):
        level = 5 if number % 2 else 250
        Image.new("RGB", (8, 8), (level, level, level)).save(tmp_path / f"{number}.png")
    first = Predictor(Unsure(), brightness().classes, Preprocessing(fit="stretch"))
    second = brightness()
    second.name = "second"
    found = find_sureness(first, second, str(tmp_path), 0.99, Screen(quiet=True))
    assert 0.4 < found.threshold <= 1
    assert found.share == 0.5
    assert (found.agreement.value, found.agreement.n) == (1.0, 60)
    assert found.agreement.low < 0.95
    with pytest.raises(ValueError, match=r"do not agree on 99\.0% of 60 images"):
        find_sureness(first, inverted(), str(tmp_path), 0.99, Screen(quiet=True))
    for file in sorted(tmp_path.iterdir())[FEWEST - 1 :]:
        file.unlink()
    with pytest.raises(ValueError, match=r"19 images; to find out .* takes at least 20"):
        find_sureness(first, second, str(tmp_path), 0.99, Screen(quiet=True))


# --- the command


def run(*arguments):
    command = [sys.executable, "-m", "resnets", "predict", *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.returncode, " ".join(found.stderr.split()), found.stdout


def photos(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        small.resize((40, 40)).save(folder / f"{number:03}.png")
    return folder


def test_the_command_finds_the_threshold_and_says_it(tmp_path):
    """The same network twice agrees with itself, so that the first one answers everything."""
    (tmp_path / "photos").mkdir()
    folder, target = photos(tmp_path / "photos", 30), tmp_path / "out.csv"
    options = "--cascade", TINY, "--calibrate", folder, "--engine", "onnxruntime"
    code, told, _ = run(TINY, folder, *options, "-o", target)
    assert code == 0, told
    assert f"{TINY} is believed from 0.0000 on, for 100% of the images in {folder}" in told
    assert "100.0 % [88.6, 100.0], n = 30" in told
    assert f"0 of 30 images by {TINY}" in told
    expected = [one.label for one in load(TINY).predict(folder)]
    rows = target.read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == expected
    code, told, _ = run(TINY, folder, "-o", target)
    assert code == 2
    assert "its rows are of another model" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sure", "0.5"], "--sure is for two networks: add --cascade FILE.onnx"),
        (["--cascade", TINY], "give either --sure P, or --calibrate FOLDER"),
        (["--cascade", TINY, "--sure", "0.5", "--agreement", "99"], "is for --calibrate FOLDER"),
        (["--cascade", "gone.onnx", "--sure", "0.5"], "gone.onnx: no such file"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, said):
    code, told, _ = run(TINY, photos(tmp_path, 1), *options)
    assert code == 2
    assert said in told

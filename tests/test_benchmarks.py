"""The arithmetic of benchmarks/scale.py, engines.py and cascade.py, by hand, and how data are dealt
and kept apart."""

import importlib
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def opened():
    """Opens a benchmark by its name."""
    sys.path.insert(0, str(FOLDER))  # some use parts of others
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


@pytest.fixture(scope="module")
def scale(opened):
    pytest.importorskip("pyarrow")
    return opened("scale")


def write_images(folder):
    """One photo of each of four classes."""
    for label in ("n01", "n02", "n03", "n04"):
        (folder / label).mkdir(parents=True)
        Image.effect_noise((32, 24), 50).save(folder / label / "photo.jpg")
    return folder


def test_an_image_takes_the_time_of_all_its_steps(scale):
    """A tenth of a second to decode, a tenth to compute, and a quarter more for whole runs."""
    cost = scale.reckon(1e9, scale.Photos("photos", 100_000, 10), 10, 1.25, 50)
    assert cost.rate == pytest.approx(4)
    assert cost.core_hours == pytest.approx(2.5e8 / 3600)
    assert cost.days(1, 64) == pytest.approx(2.5e8 / 64 / 86400)
    assert cost.days(100, 64) == pytest.approx(cost.days(1, 64) / 100)
    assert cost.stored == pytest.approx(100e12)
    assert cost.written == pytest.approx(50e9)


def test_the_start_is_what_no_image_costs(scale):
    """7 seconds, and 64 images a second."""
    assert scale.Runs.of(7 + 1024 / 64, 7 + 2048 / 64) == pytest.approx((7, 64))
    with pytest.raises(ValueError, match="something else runs here"):
        scale.Runs.of(40.0, 39.0)


def test_no_image_is_there_twice(scale, tmp_path):
    files = sorted(write_images(tmp_path / "photos").glob("*/*"))
    made = sorted(scale.repeated(files, tmp_path / "many", 6).glob("*/*"))
    assert [file.parent.name for file in made] == ["n01", "n01", "n02", "n02", "n03", "n04"]
    assert len({file.name for file in made}) == len({file.read_bytes() for file in made}) == 6


def test_an_engine_is_compared_with_the_fastest_by_hand(opened, capsys):
    """Of the medians by hand, 20 and 10 ms, the second counts; 10 of 12.5 is 0.8."""
    engines = opened("engines")
    seconds = {"onnxruntime": 0.02, "openvino": 0.01, "resnets openvino": 0.0125}
    engines.tell({name: [[one, one, 9.0]] * 3 for name, one in seconds.items()})
    assert "resnets openvino: 0.800 times as fast as openvino (0.800 to 0.800)" in (
        capsys.readouterr().out
    )


def test_what_is_said_is_compared_class_by_class(opened, capsys):
    engines = opened("engines")
    said = {"onnxruntime": np.array([0.25, 0.75]), "resnets openvino": np.array([0.5, 0.5])}
    engines.compare(said, ("cat", "dog"))
    first, second = capsys.readouterr().out.splitlines()
    assert "dog 0.7500, largest difference 0.0e+00" in first
    assert "cat 0.5000, largest difference 2.5e-01" in second


def test_halves_have_every_other_photo(opened, tmp_path):
    cascade = opened("cascade")
    halves = cascade.split(write_images(tmp_path / "photos"), tmp_path / "out")
    names = [[file.parent.name for file in sorted(half.glob("*/*"))] for half in halves]
    assert names == [["n01", "n03"], ["n02", "n04"]]


def test_both_halves_of_a_cascade_are_counted_together(opened, capsys):
    """Four photos: the large network is right of three, and the cascade names its class thrice."""
    cascade = opened("cascade")
    files = [f"{label}/photo.jpg" for label in ("n01", "n02", "n03", "n04")]
    large = dict(zip(files, ("n01", "n02", "n03", "n00"), strict=True))
    small = dict(zip(files, ("n01", "n00", "n00", "n00"), strict=True))
    halves = [{**large, files[1]: "n00"}, large]
    judged = [
        cascade.Judged("0.6", {file: halves[0][file] for file in files[:2]}, 1),
        cascade.Judged("0.7", {file: halves[1][file] for file in files[2:]}, 2),
    ]
    cascade.tell({"95": judged}, large, small)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "right: 3 of 4 by the large one, 1 by the small one"
    assert "2 of 4: 50.0 %" in second
    assert "believed from 0.6 and 0.7 on, passed on 3 of 4" in third
    assert "3 of 4: 75.0 %" in third
    assert third.endswith("right 2")


def test_an_interrupted_deal_is_dealt_anew(opened, tmp_path, monkeypatch):
    dealing, options = opened("dealing"), Namespace(train=40, test=8)
    for number in range(60):
        path = tmp_path / "photos" / "abcd"[number % 4] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), 50).save(path)

    def deal(folder):
        return dealing.deal(tmp_path / "photos", tmp_path / folder / "photos", options)

    def files(folder):
        return sorted(path.relative_to(folder) for path in folder.rglob("*.png"))

    whole, opened_so_far = deal("whole"), []
    open_image = Image.open

    def interrupt(path):
        opened_so_far.append(path)
        if len(opened_so_far) == 20:
            raise KeyboardInterrupt
        return open_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(dealing.Image, "open", interrupt)
        with pytest.raises(KeyboardInterrupt):
            deal("interrupted")
    again = deal("interrupted")
    assert files(again.parent) == files(whole.parent)
    assert len(files(dealing.beside(again))) == 8
    assert len(files(again)) == 40


def test_rows_of_another_comparison_are_not_taken_for_those_of_this_one(opened, tmp_path):
    duel = opened("duel")
    own = {"task": "classes", "minutes": 2.0, "train": 40, "test": None, "weights": None}
    asked = Namespace(out=tmp_path, data=tmp_path / "photos", **own)
    duel.refuse_another(asked)
    duel.refuse_another(asked)
    other = {
        "task": "boxes",
        "minutes": 5.0,
        "data": tmp_path / "birds",
        "train": 80,
        "test": 8,
        "weights": tmp_path / "r18.pt",
    }
    for name, value in other.items():
        with pytest.raises(SystemExit, match=name):
            duel.refuse_another(Namespace(**{**vars(asked), name: value}))
    assert duel.default_out(asked) == Path("runs/duel/photos-2min")

"""What is written and shown of predictions, tried with a kind that no package knows: several rows an
image, JSON objects, drawings, the terminal and the cases of a report name no task."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image, ImageDraw

from resnets.cli.drawings import Drawings
from resnets.cli.terminal import show_best, show_predictions
from resnets.clip import spread
from resnets.evaluation.maps import SHOWN, draw_prediction, draw_video, write_mask
from resnets.kinds.boxes import BoxPrediction
from resnets.kinds.classes import CLASSES, ClassPrediction
from resnets.kinds.clips import CLIPS, ClipPrediction
from resnets.kinds.mask import MaskPrediction
from resnets.kinds.prediction import Prediction, Share
from resnets.kinds.view import View
from resnets.runtime.outputs import SUFFIX, open_output
from resnets.runtime.rows import Columns
from resnets.screen import Screen

NAMES = ("dot", "a class with a name of some length", "ring")
SOURCE = {"model": "dots.onnx", "sha256": "a" * 64}


@dataclass(frozen=True, eq=False, repr=False)
class DotPrediction(Prediction):
    """Dots in an image: (n, 2) x and y, all of one class."""

    columns: ClassVar = {
        **{"number": int, "of": int, "label": str, "sure": Share, "x": float, "y": float},
    }
    keys: ClassVar = ("dots",)
    has_places: ClassVar = True

    dots: np.ndarray | None = None

    def summary(self):
        return "nothing at all" if not len(self.dots) else f"{len(self.dots)} dots"

    def rows(self):
        if self.error is not None:
            return [dict.fromkeys(self.columns)]
        rows = [
            {
                **{"number": number, "of": len(self.dots), "label": self.classes[0]},
                **{"sure": 0.5, "x": float(x), "y": float(y)},
            }
            for number, (x, y) in enumerate(self.dots, 1)
        ]
        return rows or [{**dict.fromkeys(self.columns), "number": 0, "of": 0}]

    def to_dict(self):
        return {"dots": None if self.error is not None else self.dots.tolist()}

    def seen(self, view):
        return replace(self, dots=view.points(self.dots))

    def drawn(self, image):
        drawn = image.copy()
        ImageDraw.Draw(drawn).point([tuple(dot) for dot in self.dots.tolist()], "red")
        return drawn


DOTS = replace(CLASSES, name="dots", prediction=DotPrediction)


def dots(name, count=None):
    """As many dots as the name says."""
    if "broken" in name:
        return DotPrediction(name, NAMES, error="broken")
    count = int(name.rsplit("/", 1)[-1].split(".")[0]) if count is None else count
    places = np.arange(2 * count, dtype=np.float32).reshape(-1, 2) / 7
    return DotPrediction(name, NAMES, dots=places)


def write(path, names, made=dots):
    """A run; the files it predicted."""
    asked = []
    columns = Columns.of(DOTS, objects=path.suffix == ".jsonl")
    with open_output(path, names, SOURCE, columns) as output:
        output.write(made(asked.append(name) or name) for name in output.files())
    return asked


@pytest.fixture
def images(tmp_path):
    names = ["3.png", "0.png", "broken.png", "5.png", "1.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"image")
    return [f"{tmp_path}/{name}" for name in names]


# ---- tables


def rows_of(path):
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return pytest.importorskip("pyarrow.parquet", reason="pyarrow").read_table(path).to_pylist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_image_has_a_row_for_each_thing_or_one_for_nothing(images, tmp_path, suffix):
    write(tmp_path / f"out{suffix}", images)
    rows = rows_of(tmp_path / f"out{suffix}")
    assert list(rows[0]) == ["file", *DotPrediction.columns, "error", "notes"]
    counted = [(row["file"][-5:], str(row["number"]), str(row["of"])) for row in rows]
    assert [one for one in counted if one[0] == "3.png"] == [
        ("3.png", "1", "3"), ("3.png", "2", "3"), ("3.png", "3", "3"),
    ]  # fmt: skip
    assert ("0.png", "0", "0") in counted
    assert len(rows) == 3 + 1 + 1 + 5 + 1


def test_rows_cut_off_at_any_byte_come_again_and_none_comes_twice(images, tmp_path):
    whole, path = tmp_path / "whole.csv", tmp_path / "out.csv"
    write(whole, images)
    content, expected = whole.read_bytes(), rows_of(whole)
    beside = whole.with_name(whole.name + SUFFIX).read_bytes()
    asked = set()
    for cut in [*range(0, len(content), 3), len(content)]:
        path.write_bytes(content[:cut])
        path.with_name(path.name + SUFFIX).write_bytes(beside)
        asked.add(len(write(path, images)))
        order = {name: place for place, name in enumerate(images)}
        found = sorted(rows_of(path), key=lambda row: (order[row["file"]], row["number"]))
        assert found == expected, cut
        assert write(path, images) == [images[2]]  # the broken one alone
    assert asked == {1, 2, 3, 4, 5}


def test_a_parquet_file_that_was_cut_off_is_continued(images, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow")
    path = tmp_path / "out.parquet"
    columns = Columns.of(DOTS)
    with (
        pytest.raises(KeyboardInterrupt),
        open_output(path, images, SOURCE, columns) as output,
    ):
        output.write(interrupted(output.files()))
    partial = path.with_name("out.parquet.partial")
    lines = partial.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3 + 1 + 1 + 5
    partial.write_bytes(b"".join(lines[:-2]) + lines[-2][:9])
    assert write(path, images) == images[2:]
    counts = Counter(row["file"][-5:] for row in rows_of(path))
    assert counts == {"3.png": 3, "0.png": 1, "n.png": 1, "5.png": 5, "1.png": 1}
    assert not partial.exists()


def interrupted(files):
    for number, name in enumerate(files):
        if number == 4:
            raise KeyboardInterrupt
        yield dots(name)


def test_an_image_is_one_object_whatever_it_shows(images, tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, images)
    objects = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["file"] for one in objects] == images
    assert all(list(one) == ["file", "dots", "error", "notes"] for one in objects)
    assert [None if one["dots"] is None else len(one["dots"]) for one in objects] == [
        3, 0, None, 5, 1,
    ]  # fmt: skip
    path.write_text(path.read_text()[:-4])
    assert write(path, images) == [images[2], images[4]]
    assert len(path.read_text().splitlines()) == 5


def test_classes_keep_the_keys_they_had():
    said = ClassPrediction("a.png", NAMES, np.array([0.7, 0.2, 0.1], np.float32))
    for objects in (False, True):
        (row,) = Columns.of(CLASSES, objects=objects).rows(said)
        assert list(row) == ["file", "label", "probability", "error", "notes"]


def test_a_video_is_one_object_with_its_windows():
    parts = [
        ClipPrediction("a.mp4", NAMES, np.array(row, np.float32))
        for row in ([0.7, 0.2, 0.1], [0.1, 0.2, 0.7])
    ]
    whole = ClipPrediction.joined(parts, [(0, 1), (0.5, 1.5)])
    columns = Columns.of(CLIPS, NAMES, objects=True)
    (row,) = columns.rows(whole)
    assert (row["start"], row["end"], row["label"]) == (0, 1.5, "dot")
    assert [(one["start"], one["label"]) for one in row["windows"]] == [(0, "dot"), (0.5, "ring")]
    assert row["p_ring"] == pytest.approx(0.4)
    (failed,) = columns.rows(ClipPrediction("b.mp4", NAMES, error="empty file"))
    assert list(failed) == list(row)
    assert failed["windows"] is None
    assert [whole.at(second).label for second in (0, 0.9, 1, 9)] == ["dot", "dot", "ring", "ring"]
    assert parts[0].at(3) is parts[0]
    assert len(Columns.of(CLIPS).rows(whole)) == 3


# ---- the terminal


@pytest.fixture
def shown(capsys):
    """What was printed, as lines."""
    return lambda: capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_many_images_are_a_table_that_fits_the_screen(shown, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    files = ["a/long/way/to/the/images/of/somebody/3.png", "0.png", "broken.png", "1.png"]
    show_predictions(map(dots, files), files, Columns.of(DOTS), NAMES)
    header, *lines = shown()
    assert header.split() == ["file", "label", "sure", "x", "y"]
    assert len(header) == len(lines[0])  # names of numbers end where the numbers do
    assert max(map(len, [header, *lines])) <= width
    assert len(lines) == 3 + 1 + 1 + 1
    assert lines[0].split()[-3:] == ["%", "0.0", "0.1"]
    assert lines[3].split(None, 1) == ["0.png", "nothing at all"]
    assert lines[4].split() == ["broken.png", "broken"]


def test_boxes_fit_a_screen_of_80_columns(shown, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    box = np.array([[1000.25, 2000.5, 3000, 4000]], np.float32)
    found = BoxPrediction("a.png", NAMES, boxes=box, labels=np.ones(1, int), scores=np.ones(1))
    columns = Columns.of(replace(DOTS, prediction=BoxPrediction))
    show_predictions([found], ["a.png"], columns, NAMES)
    show_best(found, columns)
    lines = shown()
    assert max(map(len, lines)) <= 80
    assert (
        lines[1].split()[-4:] == lines[4].split()[-4:] == ["1000.2", "2000.5", "3000.0", "4000.0"]
    )


def test_one_image_is_shown_with_all_its_rows(shown, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    columns = Columns.of(DOTS)
    show_best(dots("3.png"), columns)
    show_best(dots("0.png"), columns)
    show_best(dots("broken.png"), columns)
    lines = shown()
    assert lines[0] == "3.png"
    assert lines[1].split() == ["label", "sure", "x", "y"]
    assert [line.split()[-1] for line in lines[2:5]] == ["0.1", "0.4", "0.7"]
    assert lines[5:] == ["0.png", lines[1], "  nothing at all", "broken.png", "  broken"]


# ---- drawings


def drawings(kind, folder, **more):
    """What `resnets predict` writes of some predictions."""
    predictor = SimpleNamespace(name="a.onnx", kind=kind)
    made = Drawings(draw=folder, **more)
    made.check()
    made.fit(predictor)
    return lambda prediction: made.write(prediction, predictor, Screen())


def test_a_drawing_is_named_after_its_image_and_replaces_none(tmp_path):
    for number, name in enumerate(("a/1.png", "b/1.png", "b/2.jpg")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 2 else 1
        Image.new("RGB", (40, 30), "white").save(tmp_path / name, exif=exif)
        drawings(DOTS, tmp_path / "drawn")(dots(str(tmp_path / name), 9))
    sizes = {one.name: Image.open(one).size for one in (tmp_path / "drawn").iterdir()}
    assert sizes == {
        "1.png.drawn.jpg": (40, 30), "1.png.drawn.2.jpg": (40, 30), "2.jpg.drawn.jpg": (30, 40),
    }  # fmt: skip


def test_an_image_that_is_gone_stops_nothing(tmp_path, capsys):
    drawings(DOTS, tmp_path / "drawn")(dots(str(tmp_path / "3.png")))
    assert "not drawn (no such file)" in capsys.readouterr().err


def test_an_image_too_long_for_a_jpeg_is_drawn_too(tmp_path):
    Image.new("RGB", (65_501, 2)).save(tmp_path / "3.png")
    drawn = draw_prediction(dots(str(tmp_path / "3.png")), tmp_path / "drawn")
    assert drawn.name == "3.png.drawn.png"
    assert Image.open(drawn).size == (65_501, 2)


def test_a_video_is_drawn_as_an_animation_that_says_what_is_said_of_each_moment(tmp_path):
    frames = [Image.new("RGB", (64, 48), (level, 0, 90)) for level in range(0, 240, 20)]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    parts = [
        ClipPrediction(str(path), NAMES, np.array(row, np.float32))
        for row in ([0.7, 0.2, 0.1], [0.1, 0.2, 0.7])
    ]
    whole = ClipPrediction.joined(parts, [(0, 0.6), (0.6, 1.2)])
    drawings(CLIPS, tmp_path / "drawn")(whole)
    with Image.open(tmp_path / "drawn" / "a.gif.drawn.webp") as image:
        assert image.n_frames == round(1.2 / (SHOWN / 1000))
        assert image.size == (64, 48)
        first = np.asarray(image.convert("RGB"), int)
        image.seek(image.n_frames - 1)
        last = np.asarray(image.convert("RGB"), int)
    corner = np.s_[4:8, 4:12]  # the plate of the name has the colour of its class
    assert np.abs(first[corner] - last[corner]).mean() > 40
    assert len(list(spread(path, 0.01, 5))) == 5
    again = draw_video(whole, spread(path, 0.5, 5), tmp_path / "drawn")
    assert again.name == "a.gif.drawn.2.webp"


def test_a_mask_keeps_its_values_whatever_they_are(tmp_path):
    values = np.array([[0, 1, 2], [255, 254, 2]], np.uint8)
    for classes in (NAMES, tuple(map(str, range(20)))):
        path = write_mask(MaskPrediction("a.png", classes, mask=values), tmp_path)
        with Image.open(path) as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.asarray(image), values)


def test_masks_are_for_kinds_that_have_them(tmp_path):
    with pytest.raises(ValueError, match="gives dots, which are not for each pixel"):
        drawings(DOTS, None, masks=tmp_path)


# ---- the report


def test_a_case_is_drawn_large_enough_to_be_read():
    pytest.importorskip("torch", reason="training install")
    from resnets.run.reporting import DRAWN, _drawn

    pixels = np.full((30, 40, 1), 255, np.uint8)
    said = DotPrediction("a.png", NAMES, dots=np.array([[20.0, 15.0]]))
    with Image.open(io.BytesIO(_drawn(said, pixels))) as image:
        assert image.size == (DRAWN, DRAWN * 30 // 40)
        found = np.asarray(image.convert("RGB"), int)
    red = found[..., 0] - found[..., 1]
    row, column = np.unravel_index(red.argmax(), red.shape)
    assert abs(row - DRAWN * 15 // 40) < 8  # a block of a JPEG
    assert abs(column - DRAWN * 20 // 40) < 8
    assert View((0, 0, 40, 30), (3, 4)).points(said.dots).tolist() == [[2.0, 1.5]]


def test_the_page_says_which_is_the_truth(tmp_path):
    pytest.importorskip("jinja2")
    from resnets.evaluation.boxes import EVALUATOR
    from resnets.evaluation.report import Report, write_report
    from resnets.evaluation.sections import Case

    box = np.array([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], np.float32)
    labels, scores = np.array([0, 0, 2]), np.array([0.9, 0.8, 0.7], np.float32)
    truth = BoxPrediction("a.png", NAMES, boxes=box, labels=labels, scores=np.ones(3, np.float32))
    said = BoxPrediction("a.png", NAMES, boxes=box + 500, labels=labels, scores=scores)
    metrics = EVALUATOR.measure([EVALUATOR.compare(truth, said)], NAMES, None)
    cases = [Case(truth, said, drawn=(b"truth", b"said"))]
    sections = tuple(EVALUATOR.sections(metrics, cases))
    report = Report("A title", "a command", (), metrics, [], sections, 1, unit="scans")
    write_report(tmp_path / "a.html", report)
    page = (tmp_path / "a.html").read_text()
    assert page.index("<span>ground truth</span>") < page.index("<span>prediction</span>")
    assert "on 1 scans" in page
    for text in ("0 of 3 found", "missed: 2 dot, 1 ring", "nothing there: 2 dot, 1 ring"):
        assert text in page

"""Images with more than 8 bits a value: what they hold is measured, one range is decided and kept."""

import dataclasses
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnets.data.check import check_images
from resnets.data.sources import find_data
from resnets.deep import Levels, decide_range, judge, measure, scale
from resnets.images import BadImage, open_image
from resnets.preprocessing import Preprocessing
from resnets.ranges import FULL, format_range, parse_range
from resnets.torch_engine import TorchEngine

RAMP = np.linspace(0, 1, 4096).reshape(64, 64)
HELD = {  # what files hold, and the range that it is
    "float 0..1": (RAMP.astype(np.float32), (0, 1)),
    "float 0..255": ((RAMP * 255).astype(np.float32), (0, 255)),
    "uint16 0..255": ((RAMP * 255).astype(np.uint16), (0, 255)),
    "int32 0..255": ((RAMP * 255).astype(np.int32), (0, 255)),
    "uint16 of 10 bits": ((RAMP * 1023).astype(np.uint16), (0, 1023)),
    "uint16 of 12 bits": ((RAMP * 4095).astype(np.uint16), (0, 4095)),
    "uint16 of 14 bits": ((RAMP * 16383).astype(np.uint16), (0, 16383)),
    "uint16 of 16 bits": ((RAMP * 65535).astype(np.uint16), (0, 65535)),
    "float 0..65535": ((RAMP * 65535).astype(np.float32), (0, 65535)),
    "Hounsfield units": ((RAMP * 4000 - 1000).astype(np.int32), (-1000, 3000)),
    "float -1..1": ((RAMP * 2 - 1).astype(np.float32), (-1, 1)),
    "int32 0..1000000": ((RAMP * 1e6).astype(np.int32), (0, 1_000_000)),
    "float 0..0.01": ((RAMP / 100).astype(np.float32), (0, np.float32(0.01))),
    "float 0..2.5": ((RAMP * 2.5).astype(np.float32), (0, 2.5)),
    "a narrow band": ((RAMP * 500 + 60_000).astype(np.uint16), (60_000, 60_500)),
}


def tiff(values):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    return buffer.getvalue()


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiff(values))


def levels_of(image):
    return len(np.unique(np.asarray(image)))


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize(("channels", "value_range"), [(3, 255), (1, 255), (1, 65535)])
def test_an_image_alone_is_judged_by_what_it_holds(held, channels, value_range):
    values, expected = HELD[held]
    assert judge([measure(values)]) == pytest.approx(expected)
    image, notes, _ = open_image(tiff(values), channels, value_range)
    assert levels_of(image) >= 245
    assert np.asarray(image).max() >= 0.9 * value_range
    assert [note.endswith("scaled to 8 bits") for note in notes] == [True] * (value_range == 255)


@pytest.mark.parametrize("held", HELD)
def test_a_network_keeps_the_range_of_its_training(held):
    """Half as bright is half the value: it is not stretched again."""
    values, (low, high) = HELD[held]
    value = Preprocessing(deep_range=(float(low), float(high)))
    darker = ((values.astype(np.float64) + low) / 2).astype(np.float32)
    whole, half = value.open(tiff(values)), value.open(tiff(darker))
    np.testing.assert_allclose(np.asarray(half), np.asarray(whole) / 2, atol=1)


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.integers(0, 65535), min_size=1, max_size=30),
    value_range=st.sampled_from([255, 65535]),
)
def test_sixteen_bits_go_as_they_went_in_format_1(values, value_range):
    array = np.array([values], np.uint16)
    expected = array if value_range == 65535 else np.round(array / 257)
    np.testing.assert_array_equal(scale(array, FULL, value_range), expected)


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(width=32), min_size=1, max_size=40),
    low=st.floats(-1e6, 1e6),
    span=st.floats(1e-3, 1e6),
    value_range=st.sampled_from([255, 65535]),
)
def test_scaling_is_in_order_and_within_the_range(values, low, span, value_range):
    array = np.array(values, np.float32)[:, None]
    scaled = scale(array, (low, low + span), value_range).astype(int)
    order = np.argsort(np.nan_to_num(array[:, 0], nan=-np.inf), kind="stable")
    assert (np.diff(scaled[order, 0]) >= 0).all()
    for value, grey in zip(values, scaled[:, 0], strict=True):
        if math.isnan(value) or value <= low:
            assert grey == 0
        elif value >= low + span:
            assert grey == value_range


def test_values_that_are_not_finite():
    values = RAMP.astype(np.float32).copy()
    values[0, :3] = np.nan, np.inf, -np.inf
    image, notes, _ = open_image(tiff(values), 1)
    assert np.asarray(image)[0, :3].tolist() == [0, 255, 0]
    assert levels_of(image) == 256
    assert notes[1:] == ["values that are not finite made black or white"]
    with pytest.raises(BadImage, match="not one of its values is a finite number"):
        open_image(tiff(np.full((4, 4), np.nan, np.float32)))


def test_a_constant_image_keeps_its_grey():
    for value, grey in ((40_000, 156), (0, 0), (65_535, 255)):
        image = open_image(tiff(np.full((4, 4), value, np.uint16)), 1)[0]
        assert np.unique(np.asarray(image)).tolist() == [grey]


# ---- the range of a data set


def folder(root, held, count=12):
    """Two classes of images that hold `held(seed)` in 0..1, darker and brighter."""
    for k, label in enumerate("ab"):
        for number in range(count):
            noise = np.random.default_rng(100 * k + number).random((40, 40))
            soft = np.asarray(
                Image.fromarray(noise.astype(np.float32)).resize((40, 40), box=(0, 0, 8, 8))
            )
            save(root / label / f"{number}.tif", held(soft.clip(0, 1), number))
    return root


def errors(check):
    return [finding.text for finding in check.findings if finding.severity == "error"]


def about_range(check):
    return [f.text for f in check.findings if "more than 8 bits" in f.text or "range" in f.text]


def test_one_range_is_measured_over_all_images_and_said_once(tmp_path):
    """Each alone would be stretched by its own brightness."""
    check = check_images(
        find_data(folder(tmp_path, lambda x, n: (x * (200 + 300 * n)).astype(np.uint16)))
    )
    assert check.deep_range == (0, 4095)
    (text,) = about_range(check)
    assert text.startswith("24 images with more than 8 bits: values from ")
    assert text.endswith("; 0-4095 becomes black to white (--range)")
    assert check.to_dict()["deep_range"] == [0, 4095]
    assert not errors(check)


def test_only_what_is_trained_on_is_measured(tmp_path):
    folder(tmp_path / "train", lambda x, _: x.astype(np.float32))
    folder(tmp_path / "val", lambda x, _: (x * 4095).astype(np.uint16))
    assert check_images(find_data(tmp_path)).deep_range == (0, 1)


def test_images_of_8_bits_have_no_range(tmp_path):
    for label in "ab":
        for number in range(12):
            (tmp_path / label).mkdir(exist_ok=True)
            noise = np.random.default_rng(number).integers(0, 256, (30, 30, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / label / f"{number}.png")
    check = check_images(find_data(tmp_path))
    assert check.deep_range is None
    assert about_range(check) == []
    check = check_images(find_data(tmp_path), deep_range="0-4095")
    assert check.deep_range == (0, 4095)
    assert about_range(check) == [
        "no image has more than 8 bits; the range 0-4095 is kept for later ones"
    ]


def test_a_given_range_is_kept_and_what_it_cuts_is_said(tmp_path):
    folder(tmp_path, lambda x, n: (x * (300 if n else 60_000)).astype(np.uint16))
    check = check_images(find_data(tmp_path), deep_range="0-255")
    assert check.deep_range == (0, 255)
    assert any("values outside of it, which are cut" in text for text in about_range(check))
    check = check_images(find_data(tmp_path), deep_range="0-65535")
    assert any("nearly of one colour in it (a/1.tif" in text for text in about_range(check))
    assert not errors(check)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (
            lambda x, n: (x if n % 2 else (x * 255).round()).astype(np.float32),
            ["different ranges: 12 of 24", "0 and 255", "a/1.tif", "--range 0-1"],
        ),
        (
            lambda x, n: (x * (255 if n % 2 else 65535)).astype(np.uint16),
            ["different ranges: 12 of 24", "0 and 65535", "--range 0-255"],
        ),
        (lambda x, n: np.full((40, 40), 7, np.uint16), ["one value only, 7"]),
        (
            lambda x, n: np.where((np.arange(40) == 0) & (n == 0), -9999, x).astype(np.float32),
            ["different ranges: 22 of 24", "-9999 and 1", "--range 0-1"],
        ),
        (  # no data in a corner of each
            lambda x, n: np.where(np.add.outer(np.arange(40), np.arange(40)), x, -9999).astype(
                "f4"
            ),
            ["from -9999 to 1", "nearly all of them lie between 0", "--range 0"],
        ),
    ],
)
def test_what_fits_no_range_is_refused_with_what_was_measured_and_the_cure(tmp_path, held, words):
    check = check_images(find_data(folder(tmp_path, held)))
    (message, *_) = [text for text in errors(check) if "more than 8 bits" in text]
    assert all(word in message for word in words), message
    assert check.deep_range is None
    if "--range" in message:  # the cure is one
        given_ = message.partition("--range ")[2]
        assert not errors(check_images(find_data(tmp_path), deep_range=given_))


def test_images_without_a_finite_value_are_unusable(tmp_path):
    folder(tmp_path, lambda x, n: np.where(n == 3, np.nan, x).astype(np.float32))
    check = check_images(find_data(tmp_path))
    assert len(check.usable()) == 22
    assert check.deep_range == (0, 1)
    assert any("not one of its values is a finite number" in f.text for f in check.findings)


@settings(max_examples=300, deadline=None)
@given(ends=st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(0, 1e5)), min_size=1, max_size=12))
def test_a_range_that_is_decided_holds_every_value(ends):
    levels = [Levels(low, low + span, (low, low + span)) for low, span in ends]
    try:
        low, high = decide_range(levels, [str(n) for n in range(len(levels))])
    except ValueError:
        return
    assert low < high
    assert low <= min(one.low for one in levels)
    assert high >= max(one.high for one in levels)


# ---- in words


@given(low=st.floats(-1e9, 1e9), high=st.floats(-1e9, 1e9))
def test_words_of_a_range_and_back(low, high):
    if low < high and math.isfinite(high - low):
        assert parse_range(format_range((low, high))) == (low, high)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", None),
        ("0-1", (0, 1)),
        ("0-4095", (0, 4095)),
        (" 0 - 255 ", (0, 255)),
        ("-1000:3000", (-1000, 3000)),
        ("-1000-3000", (-1000, 3000)),
        ("-2:-1", (-2, -1)),
        ("-2--1", (-2, -1)),
        ("1e-3-2.5E2", (0.001, 250)),
    ],
)
def test_ranges_are_read(text, expected):
    assert parse_range(text) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "0-0", "5-1", "a-b", "0-nan", "0-inf", "0..1", "1.2.3-4"]
)
def test_what_is_no_range_is_refused_with_what_is_allowed(text):
    with pytest.raises(ValueError, match=r"allowed: auto, or the values .* LOW-HIGH"):
        parse_range(text)


@pytest.mark.parametrize(
    "value", [(1, 0), (0, 0), (0,), (0, math.nan), (0, math.inf), ("0", "1"), (False, True), 5]
)
def test_a_stored_range_is_two_finite_numbers(value):
    with pytest.raises(ValueError, match=r"deep_range is .*; allowed: two finite numbers"):
        Preprocessing(deep_range=value)


def test_what_a_prediction_says_of_an_image_outside_the_range():
    value = Preprocessing(deep_range=(0, 255))

    def notes(values):
        return open_image(tiff(values), 3, 255, None, value.deep_range)[1][1:]

    assert notes((RAMP * 255).astype(np.uint16)) == []
    assert notes((RAMP * 256).astype(np.uint16)) == [
        "values outside of 0-255, the range of the model, were cut"
    ]
    assert notes((RAMP * 255 - 9).astype(np.int32)) == [
        "values outside of 0-255, the range of the model, were cut"
    ]
    assert notes(RAMP.astype(np.float32)) == [
        "nearly of one colour in 0-255, the range of the model"
    ]
    assert dataclasses.replace(value, deep_range=(0, 1)) != value


# ---- the whole way


@pytest.fixture(scope="module", params=["8 bits", "16 bits"])
def trained(request, tmp_path_factory):
    """A run on floats from -1 to 3: two classes, and a third of one image."""
    pytest.importorskip("torch", reason="training install")
    import resnets

    root = tmp_path_factory.mktemp("deep")
    data = folder(root / "scans", lambda x, n: (x * 4 - 1).astype(np.float32))
    save(data / "rare" / "0.tif", (RAMP * 4 - 1).astype(np.float32))
    (data / "a" / "left.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    more = {"channels": 1, "bits": 16} if request.param == "16 bits" else {}
    run = resnets.train(
        data, "resnet20 depths=1-1-1", output=root / "run", size=16, epochs=1, weights="none",
        quiet=True, **more,
    )  # fmt: skip
    return data, run, more


def test_the_range_of_training_is_in_every_file_and_the_export_repeats_it(trained):
    import resnets
    from resnets.run.spec import Spec
    from resnets.runtime.onnxfile import read_onnx
    from resnets.runtime.proof import prove

    data, run, _ = trained
    file = read_onnx(run.proven.path)
    spec = Spec.read(run.folder / "args.yaml")
    assert spec.settings.range == "-1:3"
    for value in (run.model.preprocessing, file.preprocessing, spec.preprocessing):
        assert value.deep_range == (-1, 3)
    predictor = resnets.load(run.proven.path)
    proof = prove(predictor, file)  # on images that are mapped already
    assert proof.ok
    assert proof.difference < 1e-4
    for prediction in predictor.predict(data / "b"):
        pixels = run.model.preprocessing.pixels(run.model.preprocessing.open(prediction.file))
        expected = TorchEngine(run.model).run(pixels[None])["probabilities"][0]
        np.testing.assert_allclose(prediction.probabilities, expected, atol=0.01)
        assert not [note for note in prediction.notes if "range of the model" in note]


def test_a_prediction_says_what_lies_outside_of_the_range_of_training(trained, tmp_path):
    import resnets

    _, run, _ = trained
    save(tmp_path / "above.tif", (RAMP * 5 - 1).astype(np.float32))
    save(tmp_path / "below.tif", (RAMP * 4 - 1.5).astype(np.float32))
    save(tmp_path / "flat.tif", (RAMP / 100).astype(np.float32))
    predictor = resnets.load(run.proven.path)
    notes = [prediction.notes[-1] for prediction in predictor.predict(tmp_path)]
    assert notes == [
        "values outside of -1:3, the range of the model, were cut",
        "values outside of -1:3, the range of the model, were cut",
        "nearly of one colour in -1:3, the range of the model",
    ]
    with Image.open(tmp_path / "above.tif") as image:  # in memory alike
        assert predictor.predict_image(image).notes[-1] == notes[0]


def test_report_card_and_summary_name_what_was_left_out_or_never_measured(trained):
    import json

    _, run, _ = trained
    report = (run.folder / "report.html").read_text("utf-8")
    card = (run.folder / "model_card.md").read_text("utf-8")
    assert "so they are not measured there: rare (1 image)" in report
    assert "values from -1 to 3; -1:3 becomes black to white" in report
    assert "left out: 1 .heic" in report or listing_reads_heic()
    for text in (report, card):
        assert "no held-out image of: rare" in text
    summary = json.loads((run.folder / "summary.json").read_text("utf-8"))
    assert summary["unmeasured"] == ["rare"]


def listing_reads_heic():
    from resnets.listing import heic_installed

    return heic_installed()


@pytest.mark.parametrize("text", ["-1:3", "-1-3"])
def test_a_range_below_zero_is_typed_on_the_command_line(tmp_path, text, monkeypatch, capsys):
    import sys

    from resnets import cli

    folder(tmp_path / "scans", lambda x, n: (x * 4 - 1).astype(np.float32))
    words = ["resnets", "check", str(tmp_path / "scans"), "--range", text, "--json"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    said = capsys.readouterr()
    assert '"deep_range": [-1.0, 3.0]' in said.out
    assert "-1:3 becomes black to white (as given)" in said.err

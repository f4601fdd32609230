"""Boxes: predictions, what is wrong with annotations, decoding twice, the detector, its file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

torch = pytest.importorskip("torch", reason="training install")

import resnets  # noqa: E402
from resnets.export import ProofFailed, export_model  # noqa: E402
from resnets.kinds.boxes import BOXES, BoxPrediction  # noqa: E402
from resnets.kinds.overlap import matched, overlaps  # noqa: E402
from resnets.kinds.peaks import FOUND, decode, differences  # noqa: E402
from resnets.kinds.sample import Annotation, Sample  # noqa: E402
from resnets.kinds.view import View  # noqa: E402
from resnets.modelfile import Model, describe_network  # noqa: E402
from resnets.models import Network  # noqa: E402
from resnets.preprocessing import Preprocessing  # noqa: E402
from resnets.runtime.engines import available_engines, make_engine  # noqa: E402
from resnets.runtime.onnxfile import read_onnx  # noqa: E402
from resnets.runtime.proof import prove  # noqa: E402
from resnets.tasks.boxes import BoxInference, Detection, Places  # noqa: E402

NAMES = ("cell", "plate")


def truth(*things, difficult=None):
    """Ground truth of (label, left, top, right, bottom) each."""
    rows = np.array([one[1:] for one in things], np.float32).reshape(-1, 4)
    return BoxPrediction(
        "a.jpg",
        NAMES,
        boxes=rows,
        labels=np.array([one[0] for one in things], np.int64),
        scores=np.ones(len(things), np.float32),
        difficult=np.zeros(len(things), bool) if difficult is None else np.array(difficult),
    )


# ---- predictions


def test_a_prediction_says_what_it_found():
    scores = np.array([0.9, 0.6, 0.2], np.float32)
    rows = np.array([[1, 2, 30, 40], [50, 50, 80, 90], [0, 0, 5, 5]], np.float32)
    found = BoxPrediction(
        "a.jpg", NAMES, boxes=rows, labels=np.array([0, 1, 0]), scores=scores, threshold=0.5
    )
    assert [thing.label for thing in found.found] == ["cell", "plate"]
    assert found.found[0].box == (1, 2, 30, 40)
    assert repr(found) == "BoxPrediction('a.jpg', 1 cell, 1 plate)"
    assert [(row["number"], row["of"]) for row in found.rows()] == [(1, 2), (2, 2)]
    assert set(found.rows()[0]) == set(found.columns)
    assert json.loads(json.dumps(found.to_dict()))["boxes"][1]["label"] == "plate"
    nothing = BoxPrediction(
        "a.jpg", NAMES, boxes=rows, labels=np.array([0, 1, 0]), scores=scores, threshold=1.0
    )
    assert [(row["number"], row["of"], row["label"]) for row in nothing.rows()] == [(0, 0, None)]
    broken = BoxPrediction("a.jpg", NAMES, error="empty file")
    assert broken.rows() == [dict.fromkeys(found.columns)]


def test_a_box_of_which_little_is_seen_goes():
    view = View((0, 0, 100, 100), (50, 50))
    seen = truth((0, 80, 0, 120, 40), (1, 95, 0, 195, 40), (0, 10, 10, 30, 30)).seen(view)
    np.testing.assert_array_equal(seen.boxes, [[40, 0, 50, 20], [5, 5, 15, 15]])
    assert seen.labels.tolist() == [0, 0]


def test_a_drawing_shows_the_boxes_and_leaves_the_image_alone():
    image = Image.new("RGB", (200, 100))
    drawn = truth((0, 20, 30, 80, 90)).drawn(image)
    assert not np.asarray(image).any()
    assert np.asarray(drawn)[60, 20].any()
    assert not np.asarray(drawn)[60, 50].any()


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(0, 9), st.integers(0, 1000))
def test_no_thing_is_found_twice(things, boxes, seed):
    rng = np.random.default_rng(seed)

    def drawn(count):
        corner = rng.uniform(0, 40, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], 1)

    real = truth(*((int(rng.integers(2)), *row) for row in drawn(things)))
    scores = -np.sort(-rng.random(boxes)).astype(np.float32)
    rows = drawn(boxes).astype(np.float32)
    said = BoxPrediction("a", NAMES, boxes=rows, labels=rng.integers(0, 2, boxes), scores=scores)
    found = matched(real, said)
    taken = found.thing[found.right]
    assert len(set(taken.tolist())) == len(taken)
    assert found.right.sum() + found.missed.sum() == things
    common = overlaps(said.boxes, real.boxes)
    assert all(common[place, found.thing[place]] >= 0.5 for place in np.flatnonzero(found.right))


# ---- annotations


def samples(*boxes_of_images):
    return [
        Sample(None, f"{number}.jpg", tuple(Annotation("cell", box=box) for box in rows))
        for number, rows in enumerate(boxes_of_images)
    ]


@pytest.mark.parametrize(
    ("rows", "severity", "text"),
    [
        ([[(0.1, 0.1, 0.4, 0.9)], [(0.2, 0.2, 0.3, 0.3)]], "error", "parts of the image"),
        ([[(10, 10, 5, 8)], [(50, 60, 20, 30)]], "error", "width and height"),
        ([[(10, 90, 60, 180)], [(20, 120, 90, 199)]], "error", "x and y exchanged"),
        ([[]], "error", "nothing to learn"),
        ([[(5, 5, 50, 50)] * 5, [(9, 9, 9, 30)]], "warning", "without any area"),
        (
            [[(5, 5, 50, 50), (-20, 5, 60, 60), (60, 9, 99, 40), (100, 9, 140, 40)]],
            "warning",
            "reaches beyond its image",
        ),
        ([[(5, 5, 50, 50), (5, 5, 50, 50.4)]], "warning", "the same thing twice"),
        ([[(5, 5, 50, 50), (5, 5, 6, 50)]], "note", "less than 3 pixels"),
        ([[(5, 5, 50, 50)], []], "note", "without a box, kept"),
    ],
)
def test_faults_of_annotations_are_told(rows, severity, text):
    found = BOXES.check(samples(*rows), [(200, 100)] * len(rows))
    assert any(one.severity == severity and text in one.text for one in found), found


def test_sound_annotations_are_not_complained_of():
    assert BOXES.check(samples([(0, 0, 200, 100), (5, 5, 50, 50)]), [(200, 100)]) == []


# ---- decoding


def maps(seed=0, classes=2, height=7, width=9):
    rng = np.random.default_rng(seed)
    scores = rng.random((1, classes, height, width)).astype(np.float32)
    sides = rng.uniform(1, 20, (1, 4, height, width)).astype(np.float32)
    return torch.from_numpy(scores), torch.from_numpy(sides)


class Given(torch.nn.Module):
    """A network that says what it is told."""

    def __init__(self, scores, sides, stride=4):
        super().__init__()
        height, width = scores.shape[-2:]
        y, x = (torch.arange(side) * stride + stride / 2 for side in (height, width))
        centres = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]
        self.places = Places(scores.logit(), sides, centres)

    def forward(self, images):
        return self.places


@pytest.mark.parametrize("seed", range(5))
def test_numpy_decodes_as_torch(seed):
    boxes, scores, labels, score_map, box_map = (
        one.numpy() for one in BoxInference(Given(*maps(seed)))(torch.zeros(1))
    )
    found = decode(score_map[0], box_map[0])
    np.testing.assert_array_equal(found[1], scores[0])
    kept = scores[0] > 0
    np.testing.assert_array_equal(found[0][kept], boxes[0][kept])
    np.testing.assert_array_equal(found[2][kept], labels[0][kept])


def test_two_things_a_place_apart_merge_and_two_places_apart_do_not():
    """How close things of one class may be: where peaks merge."""
    for apart, expected in ((1, 1), (2, 2)):
        scores, sides = maps()
        scores[:] = 0.01
        scores[0, 0, 3, 3], scores[0, 0, 3, 3 + apart] = 0.9, 0.8
        found = BoxInference(Given(scores, sides))(torch.zeros(1))[1]
        assert int((found > 0.5).sum()) == expected


def outputs(seed=0):
    names = list(BOXES.outputs)
    found = BoxInference(Given(*maps(seed)))(torch.zeros(1))
    arrays = dict(zip(names, (one.numpy() for one in found), strict=True))
    # as the graph cuts them at the border of the image
    return {**arrays, "boxes": np.clip(arrays["boxes"], 0, [36, 28, 36, 28])}


def test_the_proof_sees_what_is_wrong():
    expected = outputs()
    assert differences(expected, expected, {}).values == {"score": 0, "side": 0, "decoding": 0}
    shifted = {**expected, "box_map": expected["box_map"] + 3}
    assert differences(shifted, expected, {}).values["side"] == pytest.approx(3)
    assert differences(shifted, expected, {}).values["decoding"] > 0
    turned = {**expected, "boxes": expected["boxes"][..., [1, 0, 3, 2]]}
    assert differences(turned, expected, {}).values["decoding"] > 0
    others = {**expected, "labels": 1 - expected["labels"]}
    assert differences(others, expected, {}).values["decoding"] > 0
    fewer = {**expected, "scores": expected["scores"] * 0.5}
    assert differences(fewer, expected, {}).values["decoding"] > 0


# ---- the detector


def detector(size=(64, 96), fit="pad"):
    torch.manual_seed(0)
    network = Network.parse("resnet18 depths=1-1-1-1 widths=8-8-16-16", 2, 3)
    net = Detection().build(network, 2)
    torch.nn.init.normal_(net.predict.weight, std=0.3)
    description = describe_network(network, net, 2, 3)
    preprocessing = Preprocessing(size, size, fit=fit, pad_color=9)
    return Model(net, NAMES, preprocessing, description, Detection(threshold=0.02))


def photos(count=3):
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 255, (9, 12, 3), np.uint8) for _ in range(count)]
    return [
        Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)
        for one, size in zip(small, ((96, 64), (200, 150), (50, 140)), strict=True)
    ]


def step(task, net, truths, size=(64, 96)):
    torch.manual_seed(1)
    raw = net(torch.randn(len(truths), 3, *size))
    return task.loss(raw, task.collate(truths))


def test_images_without_things_and_difficult_things_can_be_learnt():
    task, net = Detection(), detector().net
    mixed = step(task, net, [truth(), truth((0, 10, 10, 40, 40), difficult=[True])])
    assert torch.isfinite(mixed["loss"])
    mixed["loss"].backward()
    assert mixed["sides"] == 0
    none = step(task, net, [truth(), truth()])
    assert torch.isfinite(none["loss"])


def test_a_difficult_thing_costs_nothing_where_it_lies():
    """High scores on it are neither rewarded nor punished."""
    scores = torch.full((1, 2, 16, 24), -4.0)
    sides = torch.ones(1, 4, 16, 24)
    places = Given(scores.sigmoid(), sides).places
    raised = scores.clone()
    raised[0, 0, 5, 5] = 3.0
    task = Detection()
    targets = task.collate([truth((0, 12, 12, 32, 32), difficult=[True])])
    low = task.loss(places._replace(scores=scores), targets)["loss"]
    high = task.loss(places._replace(scores=raised), targets)["loss"]
    assert high == pytest.approx(float(low), abs=1e-3)
    plain = task.collate([truth()])
    assert task.loss(places._replace(scores=raised), plain)["loss"] > low + 0.5


def test_a_few_boxes_are_learnt_by_heart():
    """Loss, targets and decoding fit together: what was learnt is found again."""
    task, model = Detection(threshold=0.3), detector()
    net = model.net
    images = torch.zeros(2, 3, 64, 96)
    things = [[(0, 10, 12, 40, 44), (1, 60, 20, 90, 60)], [(1, 30, 8, 70, 56)]]
    for image, rows in zip(images, things, strict=True):
        for label, left, top, right, bottom in rows:
            image[label, top:bottom, left:right] = 2.0
    truths = [truth(*rows) for rows in things]
    targets = task.collate(truths)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    net.train()
    for _ in range(150):
        loss = task.loss(net(images), targets)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = task.inference(net.eval())(images)
    arrays = {name: one.numpy() for name, one in zip(BOXES.outputs, found, strict=True)}
    said = BOXES.unbatch(arrays, ["a", "b"], NAMES, {"threshold": 0.3})
    for real, prediction in zip(truths, said, strict=True):
        result = matched(real, prediction, 0.3)
        assert result.right.all()
        assert not result.missed.any()


def test_the_threshold_balances_precision_and_recall():
    real = truth((0, 0, 0, 10, 10), (0, 50, 50, 60, 60))
    rows = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30]], np.float32)
    said = BoxPrediction(
        "a", NAMES, boxes=rows, labels=np.zeros(3, int), scores=np.array([0.9, 0.4, 0.3], "f4")
    )
    assert 0.39 < Detection().settle([(real, said)]).threshold <= 0.4
    assert Detection().settle([]) == Detection()


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_the_file_finds_what_the_model_finds(tmp_path, fit):
    model = detector(fit=fit)
    proven = export_model(model, tmp_path / "cells.onnx", photos())
    assert len(proven.engines) == len(available_engines())
    file = read_onnx(tmp_path / "cells.onnx")
    assert set(file.golden[0].outputs) == {"score_map", "box_map"}
    for name in available_engines():
        engine = make_engine(name, tmp_path / "cells.onnx", kind=BOXES)
        assert prove(engine, file).ok
        for count in (1, 2, 5):
            batch = np.stack([np.asarray(photos()[0])] * count)
            found = engine(batch)
            assert found["boxes"].shape == (count, FOUND, 4)
            np.testing.assert_array_equal(found["scores"], found["scores"][:1].repeat(count, 0))
    predictor = resnets.load(tmp_path / "cells.onnx")
    for image in photos():
        prediction = predictor.predict_image(image)
        assert prediction.threshold == 0.02
        assert (prediction.boxes >= 0).all()
        assert (prediction.boxes[:, 2] <= image.width).all()
        assert (prediction.boxes[:, 3] <= image.height).all()


def test_a_file_that_shifts_boxes_is_refused(tmp_path, monkeypatch):
    """Three pixels, in the network itself."""
    model = detector()
    task = Detection(threshold=0.02)
    right = task.inference(model.net)

    class Shifted(torch.nn.Module):
        def forward(self, images):
            boxes, *others = right(images)
            return boxes + (3 if torch.onnx.is_in_onnx_export() else 0), *others

    monkeypatch.setattr(Detection, "inference", lambda self, net: Shifted())
    with pytest.raises(ProofFailed, match="decoding"):
        export_model(model, tmp_path / "cells.onnx", photos())
    assert not (tmp_path / "cells.onnx").exists()

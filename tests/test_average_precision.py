"""Average precision is COCO's: faster-coco-eval is the judge."""

from __future__ import annotations

import numpy as np
import pytest

from resnets.evaluation.average_precision import (
    ALL,
    AREAS,
    Boxes,
    Ranked,
    match,
    precision_over_recall,
    precisions,
)
from resnets.evaluation.boxes import EVALUATOR
from resnets.evaluation.metrics import draw_images
from resnets.kinds.boxes import BoxPrediction

coco = pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is in the extra dev")

NAMES = ("a", "b", "c")


def made(images: int, seed: int, steps: int = 1000):
    """Truths and predictions: things of all sizes, some of them difficult, boxes near them, twice
    on them, of another class and where nothing is; scores in so many steps, so that some tie."""
    rng = np.random.default_rng(seed)
    truths, said = [], []
    for number in range(images):
        count = int(rng.integers(0, 12))
        corner = rng.uniform(0, 300, (count, 2))
        side = rng.choice([10, 40, 120], (count, 1)) * rng.uniform(0.7, 1.4, (count, 2))
        things = np.concatenate([corner, corner + side], 1).astype(np.float32)
        labels = rng.integers(0, 3, count)
        certain = {"scores": np.ones(count, np.float32), "difficult": rng.random(count) < 0.15}
        truths.append(BoxPrediction(f"{number}", NAMES, boxes=things, labels=labels, **certain))
        times = rng.integers(0, 4, count)
        near = np.repeat(things, times, 0)
        near = near + rng.normal(0, 4, near.shape)
        of = np.repeat(labels, times)
        of = np.where(rng.random(len(of)) < 0.9, of, rng.integers(0, 3, len(of)))
        elsewhere = rng.uniform(0, 300, (int(rng.integers(0, 10)), 2))
        extent = rng.uniform(5, 150, elsewhere.shape)
        boxes = np.concatenate([near, np.concatenate([elsewhere, elsewhere + extent], 1)])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        of = np.concatenate([of, rng.integers(0, 3, len(elsewhere))])
        scores = -np.sort(-np.round(rng.random(len(boxes)) * steps) / steps)
        rows = {"boxes": boxes.astype(np.float32), "scores": scores.astype(np.float32)}
        said.append(BoxPrediction(f"{number}", NAMES, labels=of, threshold=0.5, **rows))
    return truths, said


def judge(truths, said):
    """What faster-coco-eval says: AP, AP50, AP75, and by size."""
    things, found = [], []
    for number, (truth, prediction) in enumerate(zip(truths, said, strict=True)):
        for box, label, crowd in zip(truth.boxes, truth.labels, truth.difficult, strict=True):
            left, top, right, bottom = box.astype(np.float64).tolist()
            things.append(
                {
                    "id": len(things) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": int(crowd),
                }
            )
        rows = zip(prediction.boxes, prediction.labels, prediction.scores, strict=True)
        for box, label, score in rows:
            left, top, right, bottom = box.astype(np.float64).tolist()
            bbox = [left, top, right - left, bottom - top]
            of = {"image_id": number, "category_id": int(label) + 1}
            found.append({**of, "bbox": bbox, "score": float(score)})
    ground = coco.COCO(
        {
            "images": [{"id": n, "width": 640, "height": 640} for n in range(len(truths))],
            "annotations": things,
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)],
        }
    )
    evaluation = coco.COCOeval_faster(
        ground, ground.loadRes(found), "bbox", print_function=lambda *_: None
    )
    evaluation.run()
    return evaluation.stats


def compared(truths, said):
    return [EVALUATOR.compare(*pair) for pair in zip(truths, said, strict=True)]


@pytest.mark.parametrize("steps", [1000, 10])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_that_of_coco(seed, steps):
    truths, said = made(25, seed, steps)
    metrics = EVALUATOR.measure(compared(truths, said), NAMES, None)
    names = ("map", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    ours = [metrics.numbers[name].value for name in names]
    np.testing.assert_allclose(ours, judge(truths, said)[:6], atol=1e-6)
    assert EVALUATOR.quick(compared(truths, said)).main == pytest.approx(ours[0], abs=1e-12)


def test_a_resample_is_the_set_with_images_repeated():
    """The interval rests on it: what drawing gives is what COCO says of the drawn images."""
    truths, said = made(12, 3)
    evidence = compared(truths, said)
    drawn = draw_images(12, None, 0)[:3]
    for times in drawn:
        places = np.repeat(np.arange(12), times)
        expected = judge([truths[k] for k in places], [said[k] for k in places])[0]
        again = EVALUATOR.quick([evidence[k] for k in places]).main
        assert again == pytest.approx(expected, abs=1e-6)
        weighed = [precisions(ranked_of(evidence, label), times[None]).mean() for label in range(3)]
        assert np.nanmean(weighed) == pytest.approx(again, abs=5e-3)  # ties of scores, in order


def ranked_of(evidence, label):
    from resnets.evaluation.boxes import _ranked

    return _ranked(evidence, label)


def test_a_perfect_detector_and_one_that_finds_nothing():
    truths, _ = made(10, 0)
    perfect = [
        BoxPrediction(one.file, NAMES, boxes=one.boxes, labels=one.labels, scores=one.scores)
        for one in truths
    ]
    metrics = EVALUATOR.measure(compared(truths, perfect), NAMES, None)
    assert metrics.map.value == metrics.recall.value == 1
    assert metrics.map.low < 1 or metrics.map.high == 1
    empty = {
        "boxes": np.zeros((0, 4), "f4"),
        "labels": np.zeros(0, int),
        "scores": np.zeros(0, "f4"),
    }
    nothing = [BoxPrediction(one.file, NAMES, **empty) for one in truths]
    metrics = EVALUATOR.measure(compared(truths, nothing), NAMES, None)
    assert metrics.map.value == metrics.recall.value == 0
    assert metrics.map.high > 0  # ten images do not prove it


def test_difficult_things_are_neither_right_nor_wrong():
    box = np.array([[0, 0, 50, 50], [100, 100, 150, 150]], np.float32)
    things, difficult = Boxes(box, np.array([0, 0])), np.array([True, False])
    found = match(Boxes(box, np.array([0, 0])), things, difficult)
    assert found.right[ALL, 0].tolist() == [False, True]
    assert found.ignored[ALL, 0].tolist() == [True, False]
    assert found.counted[ALL].tolist() == [False, True]
    assert found.right.shape == (len(AREAS), 10, 2)


def test_precision_falls_over_recall():
    truths, said = made(20, 1)
    curve = precision_over_recall([ranked_of(compared(truths, said), 0)])[0]
    assert (np.diff(curve) <= 0).all()
    nothing = Ranked(
        np.zeros(0, int),
        np.zeros(0),
        np.zeros((10, 0), bool),
        np.zeros((10, 0), bool),
        np.zeros(3, int),
    )
    assert np.isnan(precision_over_recall([nothing])).all()


def test_groups_are_drawn_together():
    """Images that are copies of one another, as one group, know less than they seem to."""
    truths, said = made(8, 2)
    evidence = compared(truths * 5, said * 5)
    groups = np.tile(np.arange(8), 5)
    alone = EVALUATOR.measure(evidence, NAMES, None).map
    together = EVALUATOR.measure(evidence, NAMES, groups).map
    assert together.value == alone.value
    assert together.high - together.low > 1.5 * (alone.high - alone.low)

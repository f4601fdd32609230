"""The detector: what its loss teaches is what its decoding finds, in crowds too."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training install")

from resnets.kinds.boxes import BOXES, BoxPrediction  # noqa: E402
from resnets.kinds.overlap import matched, overlaps  # noqa: E402
from resnets.tasks.boxes import BoxInference, Detection, Places  # noqa: E402

STRIDE = 4
SHAPE = (24, 32)  # of the map
NAMES = ("a", "b", "c")


def truth(boxes, labels, difficult=None):
    return BoxPrediction(
        "a.jpg",
        NAMES,
        boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
        labels=np.asarray(labels, np.int64),
        scores=np.ones(len(labels), np.float32),
        difficult=np.zeros(len(labels), bool) if difficult is None else np.array(difficult),
    )


class Maps(torch.nn.Module):
    """A network whose output is its parameters: it can learn all that it is taught."""

    def __init__(self, images):
        super().__init__()
        self.scores = torch.nn.Parameter(torch.full((images, len(NAMES), *SHAPE), -4.0))
        self.sides = torch.nn.Parameter(torch.full((images, 4, *SHAPE), 2.0))
        y, x = ((torch.arange(side) + 0.5) * STRIDE for side in SHAPE)
        self.centres = torch.stack([x.expand(SHAPE), y[:, None].expand(SHAPE)])[None]

    def forward(self, images):
        return Places(self.scores, self.sides.exp(), self.centres)


def learnt(truths, steps=150):
    """What is found after so many steps."""
    task, net = Detection(), Maps(len(truths))
    targets = task.collate(truths)
    optimizer = torch.optim.Adam(net.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        task.loss(net(None), targets)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        found = BoxInference(net)(None)
    arrays = {name: one.numpy() for name, one in zip(BOXES.outputs, found, strict=True)}
    return BOXES.unbatch(arrays, ["a.jpg"] * len(truths), NAMES, {"threshold": 0.3})


def crowd(seed, count=24, apart=2):
    """Boxes whose centres are at least so many places apart: many of them overlap."""
    rng = np.random.default_rng(seed)
    boxes, places = [], []
    while len(boxes) < count:
        near = places[int(rng.integers(len(places)))] if places else np.array(SHAPE[::-1]) // 2
        place = np.clip(near + rng.integers(-4, 5, 2), 0, np.array(SHAPE[::-1]) - 1)
        if all(np.abs(place - one).max() >= apart for one in places):
            places.append(place)
            centre = (place + rng.uniform(0.1, 0.9, 2)) * STRIDE
            half = rng.uniform(18, 26, 2)
            boxes.append([*(centre - half), *(centre + half)])
    return np.array(boxes), rng.integers(0, len(NAMES), count)


@pytest.mark.parametrize("seed", range(3))
def test_overlapping_things_are_all_found(seed):
    """No peak merges with another, however far boxes overlap, if centres are two places apart."""
    boxes, labels = crowd(seed)
    common = overlaps(boxes, boxes) - np.eye(len(boxes))
    assert (common.max(1) > 0.5).mean() > 0.5
    real = truth(boxes, labels)
    (found,) = learnt([real])
    result = matched(real, found, 0.3)
    assert not result.missed.any()
    assert result.right.all()  # and nothing else
    same = overlaps(found.boxes[: len(result.thing)], real.boxes)
    assert same[np.arange(len(result.thing)), result.thing].min() > 0.9


def test_images_do_not_disturb_one_another():
    """An image costs the same whatever lies beside it, and however many boxes that has."""
    few, many = truth([[10, 10, 40, 50]], [0]), truth(*crowd(0))
    task = Detection()
    torch.manual_seed(0)
    places = [
        Places(torch.randn(1, len(NAMES), *SHAPE), torch.rand(1, 4, *SHAPE) * 20, Maps(1).centres)
        for _ in range(3)
    ]
    truths = [few, many, truth(np.zeros((0, 4)), [])]
    alone = [
        task.loss(one, task.collate([real]))["loss"]
        for one, real in zip(places, truths, strict=True)
    ]
    together = Places(
        torch.cat([one.scores for one in places]),
        torch.cat([one.sides for one in places]),
        places[0].centres,
    )
    loss = task.loss(together, task.collate(truths))["loss"]
    assert loss == pytest.approx(float(sum(alone)) / 3, rel=1e-5)


def test_things_of_any_size_and_shape_are_found():
    """As small as a place of the map, as large as the image, long, and at its corners."""
    height, width = (side * STRIDE for side in SHAPE)
    boxes = [
        [49, 39, 53, 43],
        [0, 0, width, height],
        [0, 0, 3, 2],
        [width - 2, height - 3, width, height],
        [0, 20, width, 22],
    ]
    real = truth(boxes, [0, 1, 2, 0, 2])
    (found,) = learnt([real], 400)
    result = matched(real, found, 0.3)
    assert result.right.all()
    assert not result.missed.any()

"""Views: images, boxes and masks go through the same one and stay together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from resnets.data.batches import TrainingBatches, Truth
from resnets.data.loader import KeptImages, training_images
from resnets.data.transforms import Augmentation, augment, uniform
from resnets.kinds.prediction import Prediction
from resnets.kinds.sample import Annotation, Sample
from resnets.kinds.view import NOT_JUDGED, View
from resnets.preprocessing import Preprocessing
from resnets.run.start import input_shape

PAD = Preprocessing((48, 64), (48, 64), fit="pad")
EVERYTHING = View((0, 0, 10, 8), (8, 10))


def test_a_view_of_everything_changes_nothing():
    labels = np.arange(80, dtype=np.uint8).reshape(8, 10)
    np.testing.assert_array_equal(EVERYTHING.pixels(labels), labels)
    np.testing.assert_array_equal(EVERYTHING.points(np.array([[3.0, 2.0]])), [[3, 2]])


def test_what_lies_beyond_the_image_is_not_judged():
    labels = np.ones((8, 10), np.uint8)
    seen = View((-5, 0, 15, 8), (8, 20)).pixels(labels)
    assert (seen[:, :5] == NOT_JUDGED).all()
    assert (seen[:, 5:15] == 1).all()
    assert (seen[:, 15:] == NOT_JUDGED).all()


def test_mirrors_turn_places_and_pixels():
    labels = np.zeros((8, 10), np.uint8)
    labels[0, 0] = 7
    view = View((0, 0, 10, 8), (8, 10), (True, True))
    assert view.pixels(labels)[7, 9] == 7
    np.testing.assert_array_equal(view.boxes(np.array([[0, 0, 1, 1]])), [[9, 7, 10, 8]])


def test_a_box_and_a_mask_of_one_thing_stay_together():
    """Edges differ by half a pixel of the input at most: the rounding of pixels."""
    random = np.random.default_rng(0)
    for _ in range(300):
        left, top = random.integers(5, 40, 2)
        right, bottom = random.integers(50, 100, 2)
        labels = np.zeros((110, 110), np.uint8)
        labels[top:bottom, left:right] = 1
        x, y = random.uniform(-5, 4, 2)
        mirror = tuple((random.random(2) < 0.5).tolist())
        view = View(
            (x, y, x + random.uniform(100, 110), y + random.uniform(100, 110)), (80, 120), mirror
        )
        (box,) = view.boxes(np.array([[left, top, right, bottom]], np.float64))
        rows, columns = np.nonzero(view.pixels(labels) == 1)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        box = np.clip(box, 0, [120, 80, 120, 80])
        assert np.abs(box - seen).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
@pytest.mark.parametrize("size", [(480, 640), (640, 480), (31, 200), (50, 50)])
def test_the_input_shows_what_its_view_says(fit, size):
    """A white square on black: where the input is white, the view places it."""
    height, width = size
    box = [width * 0.4, height * 0.4, width * 0.6, height * 0.6]
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[round(box[1]) : round(box[3]), round(box[0]) : round(box[2])] = 255
    wanted = Preprocessing((48, 64), (54, 72), fit=fit)
    found = wanted.pixels(Image.fromarray(pixels))[..., 0] > 127
    (seen,) = wanted.view(height, width).boxes(np.round([box]))
    rows, columns = np.nonzero(found)
    there = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    seen = np.clip(seen, 0, [64, 48, 64, 48])  # a long image is cut
    assert np.abs(np.array(there) - seen).max() <= 1


@pytest.mark.parametrize("crop", ["jitter", "resized", "shift", "none"])
@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_augmentation_shows_what_its_views_say(crop, fit):
    random = np.random.default_rng(1)
    arrays, boxes = [], []
    for height, width in ((90, 120), (120, 90), (64, 64)) * 8:
        pixels = np.zeros((height, width, 3), np.uint8)
        left, top = random.integers(20, 30, 2)
        pixels[top : top + 20, left : left + 25] = 255
        arrays.append(pixels)
        boxes.append([left, top, left + 25, top + 20])
    augmentation = Augmentation(crop, 0.5, "both")
    wanted = Preprocessing((48, 64), (48, 64), fit=fit)
    draws = uniform(3, 0, np.arange(len(arrays)), 6)
    sizes = np.array([array.shape[:2] for array in arrays])
    images = augment(arrays, augmentation, wanted, draws)
    seen = augmentation.views(draws, sizes, wanted, wanted.size)
    compared = 0
    for image, view, box in zip(images, seen, boxes, strict=True):
        (place,) = view.boxes(np.array([box], np.float64))
        if place.min() < 1 or (place[2:] > [63, 47]).any():
            continue  # cut by the border
        rows, columns = np.nonzero(image[0].numpy() > 127)
        there = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(there) - place).max() <= 1
        compared += 1
    assert compared >= 5


def test_jitter_keeps_shapes_and_varies_scale():
    draws = uniform(0, 0, np.arange(500), 6)
    sizes = np.full((500, 2), (90, 120))
    boxes = Augmentation("jitter", 0.25).boxes(draws, sizes, PAD)
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    np.testing.assert_allclose(width / height, 64 / 48)
    assert 0.5 <= (height / 90).min() < 0.52
    assert 1.2 < (height / 90).max() <= 1.25
    still = Augmentation("jitter", 1.0).boxes(draws, sizes, PAD)
    np.testing.assert_allclose(still[:, 2] - still[:, 0], 90)


@dataclass(frozen=True, eq=False, repr=False)
class Labels(Prediction):
    """Ground truth that is a mask."""

    labels: np.ndarray | None = None

    def seen(self, view):
        return Labels(self.file, self.classes, labels=view.pixels(self.labels))


def test_masks_follow_their_images_and_are_read_once(tmp_path):
    """Red where the mask is 1, whatever the augmentation does; an EXIF-turned image among them."""
    random = np.random.default_rng(0)
    samples, reads = [], []
    for number, turned in enumerate((False, False, True, False)):
        mask = np.zeros((90, 130) if not turned else (130, 90), np.uint8)
        top, left = random.integers(10, 40, 2)
        mask[top : top + 40, left : left + 30] = 1
        upright = Image.fromarray(np.stack([mask * 255, mask * 0, mask * 0], 2))
        image, exif = upright, Image.Exif()
        if turned:
            image, exif[0x0112] = upright.transpose(Image.Transpose.ROTATE_90), 6
        path = tmp_path / f"{number}.png"
        image.save(path, exif=exif)
        stored = tmp_path / f"{number}.npy"
        np.save(stored, mask)
        samples.append(Sample(path, path.name, (Annotation("a", value=1),), mask=stored))

    def read(wanted):
        reads.extend(sample.name for sample in wanted)
        return [Labels(sample.name, ("a",), labels=np.load(sample.mask)) for sample in wanted]

    def collate(truths):
        return {"mask": torch.from_numpy(np.stack([truth.labels for truth in truths]))}

    augmentation = Augmentation("jitter", 0.5, "both")
    images = training_images(samples, PAD, augmentation, 1e9)
    assert isinstance(images, KeptImages)
    assert list(images.fill()) == [1, 2, 3, 4]
    batches = TrainingBatches(images, Truth(read, collate), 4, augmentation, seed=0)
    stream = batches.from_step(0, torch.device("cpu"))
    for _ in range(5):
        batch = next(stream)
        mask = batch.targets["mask"].numpy()
        assert mask.shape == (4, 48, 64)
        red = batch.images[:, 0].numpy() > 0
        judged = mask != NOT_JUDGED
        assert (red == (mask == 1))[judged].mean() > 0.97
        assert (red & judged).any()
    assert sorted(reads) == ["0.png", "1.png", "2.png", "3.png"]


def test_the_input_has_the_shape_of_the_images():
    wide, mixed = np.full((20, 2), (480, 640)), np.array([(480, 640), (640, 480)] * 10)
    assert input_shape(320, ("pad", "stretch"), wide) == (240, 320)
    assert input_shape(320, ("pad", "stretch"), wide[:, ::-1]) == (320, 240)
    assert input_shape(320, ("pad", "stretch"), mixed) == (320, 320)
    assert input_shape(240, ("pad", "stretch"), np.full((9, 2), (360, 480))) == (180, 240)
    assert input_shape(224, ("crop", "pad", "stretch"), wide) == (224, 224)

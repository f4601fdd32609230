"""Changes of colour and shape, and erased rectangles: as torchvision has them, drawn by place."""

import numpy as np
import pytest
import torch
from conftest import write_pictures
from torchvision.transforms import InterpolationMode, v2

from resnets.data.batches import TrainingBatches, Truth
from resnets.data.loader import training_images
from resnets.data.policies import (
    DRAWS,
    ERASING,
    JITTER,
    NAMES,
    OPERATIONS,
    RAND,
    TRIVIAL,
    apply,
    change_images,
    erase,
)
from resnets.data.sources import find_data
from resnets.data.transforms import Augmentation, uniform
from resnets.kinds import KINDS
from resnets.preprocessing import Preprocessing
from resnets.tasks.classes import Classification

PLAIN = Preprocessing(size=(20, 20), resize=(20, 20))


def image(seed=0, channels=3, height=24, width=31):
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(channels, 5, 5, generator=generator)[None]
    smooth = torch.nn.functional.interpolate(small, (height, width), mode="bicubic")[0]
    return (smooth * 255).round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize(
    ("space", "peer"), [(RAND, v2.RandAugment()), (TRIVIAL, v2.TrivialAugmentWide())]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_operations_are_those_of_torchvision(space, peer, channels):
    theirs, pixels = peer._AUGMENTATION_SPACE, image(channels=channels)
    assert len(space) == len(theirs) == 14
    for number, (name, (magnitudes, signed)) in enumerate(theirs.items()):
        values = magnitudes(31, *pixels.shape[-2:])
        assert list(space.values())[number].signed == signed
        for level in (0, 9, 17, 30):
            for sign in (-1, 1) if signed else (1,):
                draws = ((number + 0.5) / 14, 0.2 if sign < 0 else 0.8)
                ours = apply(pixels, space, draws, level, 0.0)
                value = 0.0 if values is None else sign * float(values[level])
                expected = peer._apply_image_or_video_transform(
                    pixels, name, value, InterpolationMode.NEAREST, peer._fill
                )
                # its magnitudes are rounded to float32
                apart = (ours.int() - expected.int()).abs() > 1
                assert apart.float().mean() < 0.01, (name, level, sign)


def test_every_operation_is_drawn_equally_often():
    draws = uniform(0, 0, np.arange(14_000), 1)[:, 0]
    counts = np.bincount((draws * len(RAND)).astype(int))
    assert len(counts) == 14
    assert abs(counts - 1000).max() < 130
    assert {*RAND} == {*TRIVIAL} == {*OPERATIONS}


@pytest.mark.parametrize("number", range(4))
def test_colour_is_that_of_torchvision(number):
    """One change at its strongest, the others left as they are."""
    draws = np.array([[0.5] * 4 + [0.1, 0.2, 0.3, 0.4]])
    draws[0, number] = 1.0
    pixels = image().float()[None]
    ours = change_images(pixels.clone(), "colour", draws, 9, PLAIN)[0] / 255
    strengths = [(0.0, 0.0) if n == 3 else (1.0, 1.0) for n in range(4)]
    most = JITTER[number] if number == 3 else 1 + JITTER[number]
    strengths[number] = (most, most)
    peer = v2.ColorJitter(*strengths)
    torch.testing.assert_close(ours, peer(pixels[0] / 255), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_images_of_a_batch_are_changed_each_by_its_own_draws_alone(name):
    images = torch.stack([image(seed) for seed in range(6)]).float()
    draws = uniform(1, 2, np.arange(6), DRAWS)
    whole = change_images(images.clone(), name, draws, 9, PLAIN)
    assert torch.equal(whole, images) == (name == "none")
    for place in (3, 0):
        part = slice(place, place + 1)
        alone = change_images(images[part].clone(), name, draws[part], 9, PLAIN)
        assert torch.equal(alone, whole[part])
    torch.rand(3)  # what others draw does not matter
    assert torch.equal(change_images(images.clone(), name, draws, 9, PLAIN), whole)


@pytest.mark.parametrize("name", NAMES)
def test_images_of_a_clip_are_changed_alike(name):
    stills = torch.stack([image(seed) for seed in range(4)]).float()
    draws = uniform(5, 2, np.arange(4), DRAWS)
    clips = stills[:, :, None].repeat(1, 1, 3, 1, 1)
    changed = change_images(clips, name, draws, 9, PLAIN)
    expected = change_images(stills.clone(), name, draws, 9, PLAIN)
    for time in range(3):
        torch.testing.assert_close(changed[:, :, time], expected)


def test_erased_rectangles_have_the_areas_of_the_paper():
    images = erase(torch.ones(600, 2, 40, 50), 0.5, uniform(0, 0, np.arange(600), ERASING))
    gone = (images == 0).all(1)
    assert torch.equal(gone, (images == 0).any(1))
    erased = gone.flatten(1).any(1)
    assert 250 < int(erased.sum()) < 350
    areas = gone[erased].float().mean((1, 2))
    assert 0.01 < areas.min() < 0.04
    assert 0.28 < areas.max() < 0.36
    for one in gone[erased]:
        assert one.sum() == one.any(0).sum() * one.any(1).sum()
    assert gone[erased].any(0).float().mean() > 0.95  # wherever in the image
    untouched = torch.ones(2, 2, 4, 4)
    assert torch.equal(erase(untouched.clone(), 0.0, np.zeros((2, ERASING))), untouched)
    assert not erase(untouched.clone(), 1.0, np.full((2, ERASING), 0.5)).all()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("photos"), count=6)


def course(photos, augmentation, budget=1e9, workers=None, accumulate=1):
    found = find_data(photos, kind="classes")
    images = training_images(found.samples, PLAIN, augmentation, budget, workers)
    for _ in images.fill():
        pass

    def read(samples):
        return KINDS["classes"].ground_truth(samples, ("blue", "red"))

    truth = Truth(read, Classification().collate)
    return TrainingBatches(images, truth, 4 // accumulate, augmentation, 0, accumulate)


def take(batches, first, count):
    stream = batches.from_step(first, torch.device("cpu"))
    return [(next(stream).images.clone()) for _ in range(count)]


ALL = [Augmentation(augment=name, erase=0.5) for name in NAMES]


@pytest.mark.parametrize("augmentation", ALL, ids=NAMES)
def test_a_step_is_the_same_wherever_one_starts_and_whoever_decodes(photos, augmentation):
    whole = take(course(photos, augmentation), 0, 6)
    for first, budget, workers in ((2, 1e9, None), (4, 0.0, 1), (1, 20_000.0, 3)):
        torch.manual_seed(first)
        for ours, theirs in zip(
            take(course(photos, augmentation, budget, workers), first, 2),
            whole[first:],
            strict=False,
        ):
            assert torch.equal(ours, theirs)


def test_what_is_off_changes_nothing(photos):
    plain, off = (take(course(photos, one), 0, 3) for one in (Augmentation(), ALL[0]))
    zeros = [(one == 0).all(1).float().mean() for one in off]
    assert max(zeros) > 0.01  # erased
    for a, b in zip(plain, off, strict=True):
        kept = b != 0
        assert torch.equal(a[kept], b[kept])


def test_batches_of_a_step_are_parts_of_a_large_one(photos):
    whole, parts = (
        take(course(photos, ALL[2]), 1, 4),
        take(course(photos, ALL[2], accumulate=2), 1, 8),
    )
    for number, one in enumerate(whole):
        assert torch.equal(one, torch.cat(parts[2 * number : 2 * number + 2]))
    assert course(photos, ALL[2], accumulate=2).steps_per_epoch == 3
    with pytest.raises(
        ValueError, match=r"accumulate=13: .* the 12 training images; allowed: 1 to"
    ):
        TrainingBatches(course(photos, ALL[0]).images, None, 1, ALL[0], 0, 13)

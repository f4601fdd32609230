"""The segmentation: its network, its loss, what it learns of masks, its file."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from PIL import Image, ImageDraw

torch = pytest.importorskip("torch", reason="training install")

import resnets  # noqa: E402
from resnets.export import ProofFailed, export_model  # noqa: E402
from resnets.kinds.mask import MASK, MaskPrediction  # noqa: E402
from resnets.kinds.view import NOT_JUDGED  # noqa: E402
from resnets.modelfile import Model, describe_network  # noqa: E402
from resnets.models import Network  # noqa: E402
from resnets.preprocessing import Preprocessing  # noqa: E402
from resnets.runtime.engines import available_engines, make_engine  # noqa: E402
from resnets.runtime.onnxfile import read_onnx  # noqa: E402
from resnets.runtime.proof import prove  # noqa: E402
from resnets.tasks.mask import Segmentation, balanced_loss  # noqa: E402

SMALL = "resnet18 depths=1-1-1-1 widths=8-8-16-16"
NAMES = ("ground", "disc", "pole")


def scene(rng, size=(96, 64)):
    """Colours that say all: a disc and, in every second image, a pole two pixels wide."""
    image, mask = Image.new("RGB", size, (90, 120, 90)), Image.new("L", size)
    width, height = size
    x, y, radius = rng.uniform(15, width - 15), rng.uniform(15, height - 15), rng.uniform(8, 14)
    at = int(rng.integers(4, width - 4))
    for canvas, disc, pole in ((image, (200, 60, 50), (40, 60, 210)), (mask, 1, 2)):
        draw = ImageDraw.Draw(canvas)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=disc)
        draw.rectangle((at, 10, at + 1, height - 10), fill=pole)
    noisy = np.asarray(image) + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), mask


def write_scenes(root, counts=(("train", 24), ("val", 8))):
    rng = np.random.default_rng(0)
    for part, count in counts:
        for folder in ("images", "masks"):
            (root / part / folder).mkdir(parents=True)
        for number in range(count):
            image, mask = scene(rng)
            image.save(root / part / "images" / f"{number}.png")
            mask.save(root / part / "masks" / f"{number}.png")
    (root / "classes.txt").write_text("\n".join(NAMES))
    return root


# ---- the network


@pytest.mark.parametrize(
    "name",
    [
        SMALL,
        "resnet50 depths=1-1-1-1 widths=8-8-16-16 output_stride=8",
        "resnetv2_50 depths=1-1-1-1 widths=8-8-16-16",
        "resnet20 depths=1-1-1",
        "densenet121 depths=1-1-1-1",
        "vit_tiny_patch16_224 depth=2 width=32 heads=2",
    ],
)
def test_any_backbone_gives_a_class_for_each_pixel(name):
    network = Network.parse(name, 3)
    task, net = Segmentation(), Segmentation().build(network, 3)
    side = (64, 96) if name.startswith("vit") else (45, 61)
    with torch.no_grad():
        (mask,) = task.inference(net.eval())(torch.randn(2, 3, *side))
    assert mask.shape == (2, *side)
    assert mask.dtype == torch.uint8
    assert int(mask.max()) < 3
    parts = [
        *task.backbone(net).named_parameters(prefix="a"),
        *task.head(net).named_parameters(prefix="b"),
    ]
    assert len({id(one) for _, one in parts}) == len(parts)
    assert {id(one) for _, one in parts} == {id(one) for one in net.parameters()}


def test_both_modes_give_the_same_raw_output():
    """But for the norms of the backbone: the head keeps no statistics and drops nothing."""
    net = Segmentation().build(Network.parse(SMALL, 3), 3)
    images = torch.randn(2, 3, 64, 64)
    net.train()
    Segmentation().backbone(net).eval()
    torch.testing.assert_close(net(images), net.eval()(images))


# ---- the loss


def example(seed=0, classes=3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 12, 10, generator=generator, requires_grad=True)
    mask = torch.randint(0, classes, (2, 12, 10), generator=generator)
    return logits, mask


def test_pixels_that_are_not_judged_move_nothing():
    logits, mask = example()
    mask[:, :4] = NOT_JUDGED
    balanced_loss(logits, mask).backward()
    assert not logits.grad[:, :, :4].any()
    assert logits.grad[:, :, 4:].all()
    others = logits.detach().clone()
    others[:, :, :4] = 100 * torch.randn(2, 3, 4, 10)
    torch.testing.assert_close(balanced_loss(others, mask), balanced_loss(logits.detach(), mask))


@pytest.mark.parametrize("judged", [0, 1])
def test_a_batch_in_which_hardly_a_pixel_is_judged_gives_numbers(judged):
    _, mask = example()
    mask[:] = NOT_JUDGED
    mask[0, 0, :judged] = 1
    raw = torch.zeros(2, 3, 6, 5, requires_grad=True)
    out = Segmentation().loss(raw, {"mask": mask})
    assert all(torch.isfinite(value) for value in out.values())
    assert (out["loss"] > 0) == bool(judged)
    out["loss"].backward()
    assert torch.isfinite(raw.grad).all()


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_extreme_logits_give_numbers(scale):
    logits, mask = example()
    large = (logits.detach() * scale).requires_grad_()
    loss = balanced_loss(large, mask)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(large.grad).all()


def test_the_loss_is_that_of_its_definition():
    logits, mask = example(1)
    mask[0, :3] = NOT_JUDGED
    flat = logits.detach().movedim(1, -1)[mask != NOT_JUDGED].double()
    truth = torch.nn.functional.one_hot(mask[mask != NOT_JUDGED], 3).double()
    probabilities, counts = flat.softmax(1), truth.sum(0)
    weights = truth @ counts.rsqrt()
    entropy = -(weights * (truth * flat.log_softmax(1)).sum(1)).sum() / weights.sum()
    dice = 2 * (truth * probabilities).sum(0) / (counts + probabilities.sum(0))
    expected = entropy + (1 - dice).mean()
    assert balanced_loss(logits, mask).item() == pytest.approx(expected.item(), rel=1e-5)


def test_to_miss_a_rare_class_costs_more_than_its_part_of_the_pixels():
    mask = torch.zeros(1, 50, 50, dtype=torch.int64)
    mask[0, 10:15, 20] = 1  # a pixel in 500
    logits = torch.zeros(1, 2, 50, 50)
    logits[:, 0] = 5.0
    without = mask.where(mask == 0, NOT_JUDGED)
    missed = balanced_loss(logits, mask) - balanced_loss(logits, without)
    assert missed > 0.5
    plain = torch.nn.functional.cross_entropy(logits, mask)
    assert plain < 0.05


def test_the_part_of_right_pixels_is_summed_over_images():
    mask = torch.tensor([[[0, 1], [1, NOT_JUDGED]], [[NOT_JUDGED] * 2] * 2])
    raw = torch.zeros(2, 2, 2, 2)
    raw[:, 1] = 1
    found = Segmentation().loss(raw, {"mask": mask})["pixel_accuracy"]
    assert float(found) == pytest.approx(2 / 3)


def test_masks_become_a_tensor():
    truths = [MaskPrediction("a", NAMES, mask=np.full((4, 6), k, np.uint8)) for k in (2, 255)]
    targets = Segmentation().collate(truths)["mask"]
    assert targets.dtype == torch.int64
    assert targets[:, 0, 0].tolist() == [2, NOT_JUDGED]


# ---- a run


def test_what_the_colours_say_is_learnt(tmp_path):
    """All of it, a pole of 2 % of the pixels included, and the exported file says the same."""
    data = write_scenes(tmp_path / "data")
    run = resnets.train(
        data,
        "resnet20 depths=1-1-1",
        weights="none",
        size=96,
        epochs=8,
        output=tmp_path / "run",
        quiet=True,
    )
    assert run.metrics.numbers["miou"].value > 0.95
    ious = [one.estimates["iou"].value for one in run.metrics.per_class]
    assert min(ious) > 0.9
    predictor = resnets.load(run.proven.path)
    image, mask = scene(np.random.default_rng(5))
    found = predictor.predict_image(image).mask
    names = [predictor.classes.index(name) for name in NAMES]
    assert (found == np.take(names, np.asarray(mask))).mean() > 0.98


# ---- the file


def segmenter(size=(64, 96), fit="pad"):
    torch.manual_seed(0)
    network = Network.parse(SMALL, 3)
    net = Segmentation().build(network, 3)
    # so that all classes are seen
    torch.nn.init.normal_(net.predict.weight, std=0.5)
    with torch.no_grad():
        net.predict.bias -= net.eval()(torch.randn(4, 3, *size)).mean((0, 2, 3))
    preprocessing = Preprocessing(size, size, fit=fit, pad_color=9)
    return Model(net, NAMES, preprocessing, describe_network(network, net, 3, 3), Segmentation())


def photos():
    rng = np.random.default_rng(0)
    sizes = ((96, 64), (200, 150), (50, 140), (31, 47), (300, 300))
    small = (Image.fromarray(rng.integers(0, 255, (9, 12, 3), np.uint8)) for _ in sizes)
    return [
        one.resize(size, Image.Resampling.BICUBIC) for one, size in zip(small, sizes, strict=True)
    ]


@pytest.mark.parametrize("fit", MASK.fits)
def test_the_file_says_of_each_pixel_what_the_model_says(tmp_path, fit):
    proven = export_model(segmenter(fit=fit), tmp_path / "scene.onnx", photos())
    assert len(proven.engines) == len(available_engines())
    file = read_onnx(tmp_path / "scene.onnx")
    for name in available_engines():
        engine = make_engine(name, tmp_path / "scene.onnx", kind=MASK)
        assert prove(engine, file).ok
        for count in (1, 2, 5):
            batch = np.stack([np.asarray(photos()[0])] * count)
            found = engine(batch)["mask"]
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, found[:1].repeat(count, 0))
    predictor = resnets.load(tmp_path / "scene.onnx")
    shown = set()
    for image in photos():
        mask = predictor.predict_image(image).mask
        assert mask.shape == (image.height, image.width)
        shown |= set(chain.from_iterable(mask.tolist()))
    assert shown == {0, 1, 2}


@pytest.mark.parametrize(
    "wrong",
    [lambda mask: mask.roll(3, 2), lambda mask: mask.flip(1), lambda mask: (mask + 1) % 3],
    ids=["shifted by 3 pixels", "upside down", "other classes"],
)
def test_a_file_that_says_something_else_is_refused(tmp_path, monkeypatch, wrong):
    model = segmenter()
    right = Segmentation().inference(model.net)

    class Wrong(torch.nn.Module):
        def forward(self, images):
            (mask,) = right(images)
            return (wrong(mask.int()).byte() if torch.onnx.is_in_onnx_export() else mask,)

    monkeypatch.setattr(Segmentation, "inference", lambda self, net: Wrong())
    with pytest.raises(ProofFailed, match="pixels"):
        export_model(model, tmp_path / "scene.onnx", photos())
    assert not (tmp_path / "scene.onnx").exists()

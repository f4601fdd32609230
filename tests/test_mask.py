"""Masks: predictions, ground truth, what is wrong with annotations, intersection over union, and
what the proof of a file sees."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnets.evaluation.mask import EVALUATOR, compare, measure, quick, sections
from resnets.kinds import KINDS
from resnets.kinds.drawing import color_of
from resnets.kinds.mask import MASK, MOST_CLASSES, MaskPrediction, stored_values
from resnets.kinds.sample import Annotation, Sample
from resnets.kinds.view import View

NAMES = ("road", "sky", "tree")


def masked(rows, names=NAMES, **more):
    return MaskPrediction("a.jpg", names, mask=np.array(rows, np.uint8), **more)


def drawn_masks(seed, count=4, k=3, unknown=0.1):
    """Truths and predictions of some images, a third of the pixels mistaken."""
    rng = np.random.default_rng(seed)
    names = tuple(f"class {number}" for number in range(k))
    for _ in range(count):
        shape = tuple(rng.integers(1, 20, 2))
        true = rng.integers(0, k, shape)
        said = np.where(rng.random(shape) < 0.7, true, rng.integers(0, k, shape))
        true = np.where(rng.random(shape) < unknown, 255, true)
        yield masked(true, names), masked(said, names)


# ---- predictions


def test_a_row_for_each_class_that_is_there_the_largest_first():
    prediction = masked([[0, 2, 2, 2], [0, 2, 2, 2]])
    assert prediction.rows() == [
        {"number": 1, "of": 2, "label": "tree", "share": 0.75},
        {"number": 2, "of": 2, "label": "road", "share": 0.25},
    ]
    assert prediction.to_dict() == {"shares": {"tree": 0.75, "road": 0.25}}
    assert repr(prediction) == "MaskPrediction('a.jpg', 75% tree, 25% road)"


def test_pixels_that_are_not_judged_are_of_no_class():
    prediction = masked([[255, 1], [255, 1]])
    assert prediction.shares == {"sky": 0.5}
    nothing = masked([[255]])
    assert nothing.rows() == [{"number": 0, "of": 0, "label": None, "share": None}]
    assert nothing.to_dict() == {"shares": {}}


def test_a_file_that_could_not_be_read_has_a_row():
    failed = MaskPrediction("a.jpg", NAMES, error="no such file")
    assert failed.rows() == [{"number": 0, "of": 0, "label": None, "share": None}]
    assert failed.to_dict() == {"shares": None}
    assert failed.indexed() is None
    assert failed.seen(View((0, 0, 2, 2), (1, 1))) is failed


@pytest.mark.parametrize("mask", [None, np.zeros((2, 2), np.int64), np.zeros((1, 2, 2), np.uint8)])
def test_what_is_no_mask_is_refused(mask):
    with pytest.raises(ValueError, match=r"a mask"):
        MaskPrediction("a.jpg", NAMES, mask=mask)


def test_a_view_shows_the_same_pixels():
    prediction = masked([[0, 1, 2], [0, 1, 2]])
    seen = prediction.seen(View((1, 0, 4, 2), (2, 3), (False, True)))
    assert seen.mask.tolist() == [[255, 2, 1], [255, 2, 1]]


def test_a_drawing_colours_what_is_known_and_leaves_the_image_alone():
    mask = np.full((80, 120), 255, np.uint8)
    mask[:, 60:] = 1
    image = Image.new("RGB", (120, 80), (100, 100, 100))
    drawn = MaskPrediction("a.jpg", NAMES, mask=mask).drawn(image)
    assert image.getcolors() == [(9600, (100, 100, 100))]
    assert drawn.size == image.size
    assert drawn.getpixel((50, 70)) == (100, 100, 100)
    half = tuple(round(50 + value / 2) for value in color_of(1))
    assert np.abs(np.subtract(drawn.getpixel((110, 70)), half)).max() <= 1


def test_a_mask_is_written_as_indices_with_the_colours_of_its_drawing(tmp_path):
    prediction = masked([[0, 1], [2, 1]])
    prediction.indexed().save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == [[0, 1], [2, 1]]
        assert image.convert("RGB").getpixel((0, 1)) == color_of(2)


# ---- ground truth


def sample(folder, values, annotations, size=None, mode=None):
    size = size or np.shape(values)[1::-1]
    Image.fromarray(np.asarray(values, np.uint8), mode).save(folder / "mask.png")
    Image.new("RGB", size).save(folder / "a.png")
    said = tuple(Annotation(label, value=value) for label, value in annotations)
    return Sample(folder / "a.png", "a.png", said, mask=folder / "mask.png")


def test_values_become_classes_by_name(tmp_path):
    made = sample(tmp_path, [[7, 9], [8, 255]], [("tree", 7), ("road", 9)])
    (truth,) = MASK.ground_truth([made], NAMES)
    assert truth.mask.tolist() == [[2, 0], [255, 255]]
    (other,) = MASK.ground_truth([made], ("sky", "tree", "road"))
    assert other.mask.tolist() == [[1, 2], [255, 255]]


def test_colours_become_classes(tmp_path):
    red, blue = (255, 0, 0), (0, 0, 255)
    made = sample(tmp_path, [[red, blue], [red, (1, 2, 3)]], [("sky", 255), ("road", 255 << 16)])
    (truth,) = MASK.ground_truth([made], NAMES)
    assert truth.mask.tolist() == [[0, 1], [0, 255]]


def test_ground_truth_says_what_it_cannot_read(tmp_path):
    made = sample(tmp_path, [[7]], [("lake", 7)])
    with pytest.raises(ValueError, match="classes the model does not know: lake"):
        MASK.ground_truth([made], NAMES)
    made.mask.write_bytes(made.mask.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"mask\.png: a mask that cannot be read"):
        MASK.ground_truth([made], NAMES)
    with pytest.raises(ValueError, match="has no mask"):
        MASK.ground_truth([Sample(made.path, "a.png", ())], NAMES)


def test_bilevel_masks_have_the_values_of_grey_ones(tmp_path):
    image = Image.fromarray(np.array([[0, 255]], np.uint8))
    image.save(tmp_path / "grey.png")
    image.convert("1").save(tmp_path / "bilevel.png")
    for name in ("grey.png", "bilevel.png"):
        assert stored_values(tmp_path / name).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    ("size", "severity", "text"),
    [
        ((2, 3), None, ""),
        ((3, 2), "error", "masks lie on their side"),
        ((4, 6), "error", "masks of another size than their image; save both in one size: a.png"),
    ],
)
def test_sizes_of_masks_are_checked(tmp_path, size, severity, text):
    made = sample(tmp_path, [[0, 1], [0, 1], [0, 1]], [("road", 0), ("sky", 1)])
    findings = MASK.check([made], [size])
    assert [one.severity for one in findings] == ([severity] if severity else [])
    assert all(text in one.text and one.files == ("a.png",) for one in findings)


def test_images_of_which_nothing_is_known_are_told(tmp_path):
    (finding,) = MASK.check([sample(tmp_path, [[255]], [])], [(1, 1)])
    assert finding.severity == "warning"
    assert finding.text.startswith("images of which no pixel is of a known class")


def test_more_classes_than_a_byte_tells_apart(tmp_path):
    names = [f"class {number}" for number in range(MOST_CLASSES + 1)]
    made = sample(tmp_path, [[0]], [(name, 0) for name in names])
    (finding,) = MASK.check([made], [(1, 1)])
    assert (finding.severity, finding.text[:11]) == ("error", "256 classes")
    with pytest.raises(ValueError, match="256 classes; a mask tells 255 apart"):
        MASK.options({}, names)
    assert MASK.options({}, names[1:]) == {}


# ---- the numbers


def counted(pairs, k):
    """Intersection over union of each class pixel by pixel, and the share of right pixels."""
    hits, either, true, right, judged = [0] * k, [0] * k, [0] * k, 0, 0
    for truth, said in pairs:
        for a, b in zip(truth.mask.ravel().tolist(), said.mask.ravel().tolist(), strict=True):
            if a == 255:
                continue
            judged += 1
            right += a == b
            hits[a] += a == b
            true[a] += 1
            for number in {a, b}:
                either[number] += 1
    found = [hits[c] / either[c] if true[c] else None for c in range(k)]
    return found, right / judged


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 6))
def test_numbers_are_those_of_counting_every_pixel(seed, count, k):
    pairs = list(drawn_masks(seed, count, k))
    if not any((truth.mask != 255).any() for truth, _ in pairs):
        return
    metrics = measure(list(itertools.starmap(compare, pairs)), pairs[0][0].classes, None)
    each, accuracy = counted(pairs, k)
    known = [value for value in each if value is not None]
    assert metrics.miou.value == pytest.approx(sum(known) / len(known), abs=1e-12)
    assert metrics.pixel_accuracy.value == pytest.approx(accuracy, abs=1e-12)
    for entry, value in zip(metrics.per_class, each, strict=True):
        assert (entry.iou is None) == (value is None)
        if value is not None:
            assert entry.iou.value == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_numbers_are_those_of_torchmetrics(seed):
    torch = pytest.importorskip("torch", reason="training install")
    judge = pytest.importorskip("torchmetrics.functional.classification")
    pairs = list(drawn_masks(seed, 6, 4))
    flat = [
        torch.from_numpy(np.concatenate([one.mask.ravel() for one in part]).astype(np.int64))
        for part in zip(*pairs, strict=True)
    ]
    true, said = flat
    options = {"num_classes": 4, "ignore_index": 255}
    metrics = measure(list(itertools.starmap(compare, pairs)), pairs[0][0].classes, None)
    each = judge.multiclass_jaccard_index(said, true, average=None, **options)
    for entry, value in zip(metrics.per_class, each.tolist(), strict=True):
        assert entry.iou.value == pytest.approx(value, abs=1e-6)
    mean = judge.multiclass_jaccard_index(said, true, average="macro", **options)
    assert metrics.miou.value == pytest.approx(float(mean), abs=1e-6)
    right = judge.multiclass_accuracy(said, true, average="micro", **options)
    assert metrics.pixel_accuracy.value == pytest.approx(float(right), abs=1e-6)
    assert metrics.confusion.sum(1).tolist() == [int((true == c).sum()) for c in range(4)]


def test_a_class_that_no_image_shows_counts_only_where_it_is_predicted():
    """It is no part of the mean; predicted, it costs the classes whose pixels it takes."""
    truth = masked([[0, 0, 1, 1]])
    right = measure([compare(truth, truth)], NAMES, None)
    assert right.miou.value == 1
    assert right.per_class[2].iou is None
    assert right.unmeasured == ["tree"]
    wrong = measure([compare(truth, masked([[0, 2, 1, 1]]))], NAMES, None)
    assert wrong.miou.value == pytest.approx((0.5 + 1) / 2)
    assert wrong.per_class[2].iou is None


def test_images_of_which_nothing_is_known_give_no_number():
    evidence = [compare(masked([[255, 255]]), masked([[0, 1]]))]
    assert quick(evidence) == (0.0, None)
    metrics = measure(evidence, NAMES, None)
    assert all((one.value, one.n) == (0.0, 0) for one in metrics.numbers.values())
    assert metrics.unmeasured == list(NAMES)
    known = compare(masked([[0, 1]]), masked([[0, 1]]))
    assert measure([*evidence, known], NAMES, None).miou.value == 1
    assert EVALUATOR.row(masked([[255]]), masked([[0]])) == {"pixel_accuracy": None, "miou": None}


def test_masks_of_different_sizes_are_not_compared():
    with pytest.raises(ValueError, match="save both in one size"):
        compare(masked([[0, 1]]), masked([[0], [1]]))


def test_intervals_hold_what_they_promise():
    """Of 95 % intervals of samples of a population, nearly as many hold its number."""
    population = [compare(*pair) for pair in drawn_masks(0, 400)]
    value = measure(population, ("a", "b", "c"), None).miou.value
    rng, hits = np.random.default_rng(1), 0
    for _ in range(60):
        some = [population[place] for place in rng.integers(400, size=40)]
        found = measure(some, ("a", "b", "c"), None).miou
        hits += found.low <= value <= found.high
    assert hits >= 50


def test_a_network_that_says_one_class_is_doubted():
    evidence = [compare(masked([[0, 0, 0, 1]]), masked([[0, 0, 0, 0]]))]
    (said,) = EVALUATOR.doubts([{"val_miou": 0.375}], evidence, NAMES)
    assert said.startswith("the validation mIoU never rose above 37.5%")
    assert EVALUATOR.doubts([{"val_miou": 0.375, "val_miou_ema": 0.6}], evidence, NAMES) == []


@pytest.mark.parametrize("k", [3, 12, 30])
def test_pixels_are_no_images_in_the_report(k, tmp_path):
    pytest.importorskip("jinja2")
    from resnets.evaluation.report import Report, write_report

    pairs = list(drawn_masks(0, 4, k))
    metrics = measure(list(itertools.starmap(compare, pairs)), pairs[0][0].classes, None)
    report = Report("made", "resnets", (), metrics, [], tuple(sections(metrics, [])))
    write_report(tmp_path / "report.html", report)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert 'class="cell plain right"' in page if k <= 20 else 'class="cell plain wrong"' in page
    assert "data-open=" not in page
    assert "to see its images" not in page.partition("<script>")[0]


# ---- the proof


def proven(found, expected):
    """Whether every value is within its limit."""
    values = MASK.differences({"mask": found}, {"mask": expected}, {}).values
    limits = MASK.limits["float32"]
    return all(value <= limits[name] for name, value in values.items())


def blobs(seed=0, shape=(2, 60, 80)):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 3, (shape[0], shape[1] // 10, shape[2] // 10)).astype(np.uint8)
    return small.repeat(10, 1).repeat(10, 2)


def test_the_proof_lets_a_pixel_in_a_thousand_pass():
    expected = blobs()
    assert proven(expected, expected)
    found = expected.copy()
    found[0, 0, :4] += 1
    assert proven(found, expected)
    assert MASK.differences({"mask": found}, {"mask": expected}, {}).agreeing == 1
    found[0, 1, :4] += 1
    assert not proven(found, expected)


def test_the_proof_sees_a_shift_and_swapped_axes():
    expected = blobs()
    assert not proven(np.roll(expected, 3, 2), expected)
    assert not proven(np.roll(expected, 3, 1), expected)
    assert not proven(expected[:, :, ::-1], expected)
    assert not proven(expected.swapaxes(1, 2), expected)
    square = blobs(shape=(1, 60, 60))
    assert not proven(square.swapaxes(1, 2), square)


def test_one_bad_image_of_a_batch_is_seen():
    expected = np.zeros((500, 60, 80), np.uint8)
    found = expected.copy()
    found[3, :6, :8] = 1
    assert not proven(found, expected)


def test_the_row():
    assert KINDS["mask"] is MASK
    assert "crop" not in MASK.fits
    assert MASK.outputs["mask"].place == "pixels"

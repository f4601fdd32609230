"""Metrics against published values, against torchmetrics, and against what an interval promises."""

from __future__ import annotations

import copy
import json
import math
import pickle
import time

import numpy as np
import old_metrics
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets.evaluation.accuracy import measure
from resnets.evaluation.metrics import (
    RESAMPLES,
    TITLES,
    Estimate,
    Metrics,
    draw_images,
    heading,
    percentile,
    title,
    wilson,
)


def simulated(rng, n, k, skill=1.5):
    """Labels and plausible probabilities; classes differ in frequency."""
    labels = np.minimum(rng.geometric(min(0.5, 3 / k), n) - 1, k - 1)
    scores = rng.normal(size=(n, k))
    scores[np.arange(n), labels] += skill
    exp = np.exp(scores)
    return exp / exp.sum(1, keepdims=True), labels


def certain(predicted, k):
    """Probabilities of a network that is always sure."""
    return np.eye(k)[predicted]


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # these four: Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (10, 10, 0.7225, 1.0000),
        (0, 10, 0.0000, 0.2775),
    ],
)
def test_wilson_gives_the_published_values(hits, n, low, high):
    estimate = wilson(hits, n)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)
    assert (estimate.value, estimate.n) == (hits / n, n)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_encloses_the_value_and_is_symmetric(case):
    hits, n = case
    estimate, mirrored = wilson(hits, n), wilson(n - hits, n)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.low < estimate.high
    assert (estimate.low, estimate.high) == pytest.approx(
        (1 - mirrored.high, 1 - mirrored.low), abs=1e-9
    )


@given(st.integers(1, 2000), st.data())
def test_wilson_rises_with_hits_narrows_with_n_and_widens_with_the_level(n, data):
    hits = data.draw(st.integers(0, n - 1))
    one, two, more = wilson(hits, n), wilson(hits + 1, n), wilson(4 * hits, 4 * n)
    assert one.low <= two.low
    assert one.high <= two.high
    assert more.high - more.low < one.high - one.low
    sure = wilson(hits, n, level=0.99)
    assert sure.low <= one.low
    assert sure.high >= one.high


@pytest.mark.parametrize(
    ("hits", "n", "level"), [(1, 0, 0.95), (-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0)]
)
def test_wilson_refuses_what_is_no_proportion(hits, n, level):
    with pytest.raises(ValueError, match="hits"):
        wilson(hits, n, level)


def test_an_estimate_reads_as_people_write_it():
    assert str(Estimate(0.931, 0.902, 0.952, 398)) == "93.1 % [90.2, 95.2], n = 398"


@pytest.mark.parametrize(("n", "k"), [(1, 2), (60, 2), (500, 7), (2000, 40)])
def test_measure_agrees_with_torchmetrics(n, k):
    functional = pytest.importorskip("torchmetrics.functional.classification")
    torch = pytest.importorskip("torch")
    probabilities, labels = simulated(np.random.default_rng(k), n, k)
    metrics = measure(probabilities, labels, [f"c{i}" for i in range(k)])
    p, y = torch.tensor(probabilities), torch.tensor(labels)

    def theirs(name, **options):
        return getattr(functional, f"multiclass_{name}")(p, y, num_classes=k, **options)

    occurs = np.bincount(labels, minlength=k) > 0
    recall, precision = (
        theirs("recall", average="none").numpy(),
        theirs("precision", average="none").numpy(),
    )
    assert metrics.accuracy.value == pytest.approx(float(theirs("accuracy", average="micro")))
    assert metrics.balanced_accuracy.value == pytest.approx(recall[occurs].mean(), abs=1e-6)
    assert metrics.macro_f1.value == pytest.approx(
        float(theirs("f1_score", average="macro")), abs=1e-6
    )
    np.testing.assert_array_equal(metrics.confusion, theirs("confusion_matrix").numpy())
    assert metrics.loss == pytest.approx(float(torch.nn.functional.nll_loss(p.log(), y)))
    for i, entry in enumerate(metrics.per_class):
        assert (entry.recall.value if entry.recall else 0) == pytest.approx(recall[i], abs=1e-6)
        assert (entry.precision.value if entry.precision else 0) == pytest.approx(
            precision[i], abs=1e-6
        )
    assert ("top_5" in metrics.numbers) == (k >= 20)
    if k >= 20:
        assert metrics.top_5.value == pytest.approx(
            float(theirs("accuracy", average="micro", top_k=5))
        )


def test_equal_probabilities_are_no_way_into_the_top():
    labels = np.repeat(np.arange(20), 10)
    metrics = measure(np.full((200, 20), 0.05), labels, [str(i) for i in range(20)])
    assert metrics.accuracy.value == 0.05
    assert metrics.top_5.value == 0.25


def test_to_dict_is_json_with_intervals():
    probabilities, labels = simulated(np.random.default_rng(0), 90, 20)
    metrics = measure(probabilities, labels, list("abcdefghijklmnopqrst"))
    plain = json.loads(json.dumps(metrics.to_dict(), allow_nan=False))
    for name, estimate in {
        "accuracy": metrics.accuracy,
        "macro_f1": metrics.macro_f1,
        "top_5": metrics.top_5,
    }.items():
        assert (plain[name], plain[f"{name}_interval"]) == (
            estimate.value,
            [estimate.low, estimate.high],
        )
    assert plain["n"] == metrics.n == 90
    assert np.sum(plain["confusion"]) == 90
    assert plain["per_class"][0]["recall_interval"] == [
        metrics.per_class[0].recall.low,
        metrics.per_class[0].recall.high,
    ]
    few = measure(*simulated(np.random.default_rng(0), 90, 19), "abcdefghijklmnopqrs")
    assert "top_5" not in few.to_dict(), "of so few classes, nearly every model is right in five"


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_numbers_of_classes_are_those_of_before(data):
    """To the last digit and in their order, since they stand in files that people read by name and
    compare by bytes."""
    n, k = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 8))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    probabilities, labels = simulated(rng, n, k, data.draw(st.sampled_from((0, 1.5, 50))))
    probabilities = probabilities.astype(data.draw(st.sampled_from((np.float32, np.float64))))
    groups = data.draw(st.sampled_from((None, rng.integers(5, size=n), np.repeat("one", n))))
    given_values = (probabilities, labels, "abcdefgh"[:k], groups, data.draw(st.integers(0, 3)))
    old, new = old_metrics.measure(*given_values), measure(*given_values)
    now, before = new.to_dict(), old.to_dict()
    assert {"error", "error_interval", "bins"} == now.pop("calibration").keys()
    for name in ("top_5", "top_5_interval"):  # said of 20 classes or more since
        before.pop(name, None)
    assert json.dumps(now) == json.dumps(before)
    assert new.classes == old.classes


@pytest.mark.parametrize("k", [2, 7])
def test_the_calibration_error_is_that_of_torchmetrics(k):
    functional = pytest.importorskip("torchmetrics.functional.classification")
    probabilities, labels = simulated(np.random.default_rng(k), 400, k)
    found = measure(probabilities, labels, "abcdefg"[:k]).detail["calibration"]
    torch = pytest.importorskip("torch")
    theirs = functional.multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=k, n_bins=15
    )
    assert found["error"] == pytest.approx(float(theirs), abs=1e-6)
    low, high = found["error_interval"]
    assert 0 <= low <= found["error"] <= high <= 1
    bins = np.array(found["bins"])
    assert bins[:, 0].sum() == 400
    assert (bins[:, 0] @ bins[:, 2]) / 400 == pytest.approx(
        (probabilities.argmax(1) == labels).mean()
    )


def test_groups_widen_the_interval_of_the_calibration_error():
    probabilities, labels = simulated(np.random.default_rng(3), 300, 3)
    probabilities, labels = np.repeat(probabilities, 5, 0), np.repeat(labels, 5)
    alone, grouped = (
        measure(probabilities, labels, "abc", groups).detail["calibration"]
        for groups in (None, np.arange(1500) // 5)
    )
    assert alone["error"] == pytest.approx(grouped["error"])
    assert np.ptp(grouped["error_interval"]) > 1.3 * np.ptp(alone["error_interval"])


def test_a_number_is_an_attribute_and_the_first_is_the_main_one():
    estimate = Estimate(0.5, 0.4, 0.6, 100)
    metrics = Metrics({"map": estimate, "macro_f1": wilson(1, 2)}, 100, None, (), {"curve": [1]})
    assert metrics.map is metrics.numbers["map"]
    assert metrics.curve == [1]
    assert metrics.main == ("mAP", estimate)
    for name in ("accuracy", "numbers_", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"no {name!r}"):
            getattr(metrics, name)
    assert metrics.to_dict()["loss"] is None
    measured = measure(*simulated(np.random.default_rng(0), 20, 3), "abc")
    for again in (copy.deepcopy(measured), pickle.loads(pickle.dumps(measured))):
        assert again.to_dict() == measured.to_dict()
        assert again.accuracy == measured.accuracy
        assert again.per_class[0].recall == measured.per_class[0].recall
    with pytest.raises(AttributeError, match="no 'accuracy'"):
        _ = measured.per_class[0].accuracy


@pytest.mark.parametrize(
    ("name", "within", "first"),
    [
        ("accuracy", "accuracy", "Accuracy"),
        ("balanced_accuracy", "balanced accuracy", "Balanced accuracy"),
        ("macro_f1", "macro F1", "Macro F1"),
        ("top_5", "top-5", "Top-5"),
        ("map", "mAP", "mAP"),
        ("miou", "mIoU", "mIoU"),
        ("iou", "IoU", "IoU"),
        ("ap", "AP", "AP"),
        ("ap50", "AP50", "AP50"),
        ("ap75", "AP75", "AP75"),
        ("ap_small", "AP of small ones", "AP of small ones"),
        ("ap_medium", "AP of medium ones", "AP of medium ones"),
        ("ap_large", "AP of large ones", "AP of large ones"),
        ("loss", "loss", "Loss"),
    ],
)
def test_numbers_are_called_as_people_write_them(name, within, first):
    assert (title(name), heading(name)) == (within, first)
    known = {"macro_f1", "map", "miou", "iou", "ap", "ap50", "ap75"}
    known |= {"ap_small", "ap_medium", "ap_large"}
    assert set(TITLES) == known, "a new one needs its row here"


def test_resamples_draw_images_or_whole_groups():
    alone = draw_images(50, None, 3)
    assert alone.shape == (RESAMPLES, 50)
    assert set(alone.sum(1)) == {50}
    np.testing.assert_array_equal(alone, draw_images(50, None, 3))
    assert (alone != draw_images(50, None, 4)).any()
    assert alone.mean(0) == pytest.approx(np.ones(50), abs=0.15)
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    grouped = draw_images(6, groups, 0)
    for name in "abc":  # the images of a group come together
        assert (np.ptp(grouped[:, groups == name], axis=1) == 0).all()
    assert set(grouped[:, [0, 1, 3]].sum(1)) == {3}


def test_a_percentile_interval_encloses_its_value_and_knows_no_certainty():
    drawn = np.linspace(0, 1, 1001)
    estimate = percentile(0.5, drawn, 40, 40)
    assert (estimate.value, estimate.n) == (0.5, 40)
    assert (estimate.low, estimate.high) == pytest.approx((0.025, 0.975))
    assert percentile(0.99, drawn, 40, 40).high == 0.99
    assert percentile(0.01, drawn, 40, 40).low == 0.01
    few, many = (percentile(1.0, np.ones(1000), 40, n) for n in (2, 40))
    assert few.low < many.low < 1 == many.high
    assert (many.low, many.high) == (wilson(40, 40).low, wilson(40, 40).high)


def test_a_class_without_pictures_has_no_recall_and_does_not_count():
    metrics = measure(certain(np.array([0, 0, 1]), 4), np.array([0, 1, 1]), "abcd")
    assert metrics.balanced_accuracy.value == 0.75
    assert metrics.macro_f1.value == pytest.approx(2 / 3)
    assert (
        metrics.per_class[2].recall,
        metrics.per_class[2].precision,
        metrics.per_class[2].f1,
    ) == (None, None, 0)


def test_no_mistake_is_not_certainty():
    labels = np.repeat([0, 1], [90, 10])
    metrics = measure(certain(labels, 2), labels, "ab")
    assert metrics.balanced_accuracy.high == 1
    # ten pictures of b say less than ninety of a
    assert metrics.balanced_accuracy.low < metrics.accuracy.low < 0.97
    alone = measure(certain(labels, 2), labels, "ab", groups=np.zeros(100, int))
    assert alone.accuracy.low < 0.3  # a single group says next to nothing


def test_groups_widen_the_interval_where_pictures_resemble_one_another():
    rng = np.random.default_rng(3)
    groups = np.repeat([f"patient {i}" for i in range(40)], 25)
    labels = rng.integers(2, size=1000)
    right = np.repeat(rng.random(40) < 0.8, 25)  # the network reads a patient, or it does not
    probabilities = certain(np.where(right, labels, 1 - labels), 2)
    alone, grouped = (
        measure(probabilities, labels, "ab"),
        measure(probabilities, labels, "ab", groups=groups),
    )
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        narrow, wide = getattr(alone, name), getattr(grouped, name)
        assert narrow.value == wide.value
        # sqrt(25) = 5 is what 25 equal pictures do
        assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_groups_of_one_change_next_to_nothing():
    probabilities, labels = simulated(np.random.default_rng(5), 400, 20)
    alone = measure(probabilities, labels, "abcdefghijklmnopqrst")
    grouped = measure(
        probabilities,
        labels,
        "abcdefghijklmnopqrst",
        groups=np.random.default_rng(0).permutation(400),
    )
    for one, other in [
        *((getattr(alone, n), getattr(grouped, n)) for n in ("accuracy", "macro_f1")),
        (alone.top_5, grouped.top_5),
    ]:
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.012)


def test_the_seed_fixes_the_bootstrap():
    probabilities, labels = simulated(np.random.default_rng(6), 100, 3)
    one, same, other = (
        measure(probabilities, labels, "abc", seed=seed).macro_f1 for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_the_interval_of_balanced_accuracy_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(11)
    recall, support = np.array([0.9, 0.75, 0.6]), [60, 40, 30]
    labels = np.repeat([0, 1, 2], support)
    covered = 0
    for seed in range(300):
        predicted = np.where(
            rng.random(130) < recall[labels], labels, (labels + rng.integers(1, 3, 130)) % 3
        )
        estimate = measure(certain(predicted, 3), labels, "abc", seed=seed).balanced_accuracy
        covered += estimate.low <= recall.mean() <= estimate.high
    assert 0.90 <= covered / 300 <= 0.98


def test_a_thousand_classes_take_no_time():
    """0.5 seconds on a free core, 1.1 on a hyperthread of a busy one."""
    rng = np.random.default_rng(0)
    n, k = 50_000, 1000
    labels = rng.integers(k, size=n)
    probabilities = rng.random((n, k), np.float32)
    probabilities[np.arange(n), labels] += np.where(rng.random(n) < 0.75, 1, 0)
    probabilities /= probabilities.sum(1, keepdims=True)
    start = time.process_time()
    metrics = measure(probabilities, labels, [str(i) for i in range(k)])
    assert time.process_time() - start < 3
    assert 0 < metrics.macro_f1.low < metrics.macro_f1.value < metrics.macro_f1.high < 1


@pytest.mark.parametrize(
    ("probabilities", "labels", "groups", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), None, "no images"),
        (np.full((3, 3), 1 / 3), np.zeros(3, int), None, r"\(n, 2\)"),
        (np.full(3, 0.5), np.zeros(3, int), None, r"\(n, 2\)"),
        (np.full((3, 2), 0.5), np.zeros(2, int), None, r"\(3,\) integers"),
        (np.full((3, 2), 0.5), np.zeros(3), None, "float64"),
        (np.full((3, 2), 0.5), np.array([0, 1, 2]), None, "0 to 1"),
        (np.full((3, 2), 0.5), np.array([0, -1, 1]), None, "0 to 1"),
        (np.full((3, 2), 0.5), np.zeros(3, int), np.zeros(2), "groups"),
        (np.array([[2.0, -1.0]]), np.zeros(1, int), None, "softmax"),
        (np.array([[3.0, 1.0]]), np.zeros(1, int), None, "softmax"),
        (np.array([[math.nan, 1.0]]), np.zeros(1, int), None, "softmax"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_reason(probabilities, labels, groups, message):
    with pytest.raises(ValueError, match=message):
        measure(probabilities, labels, "ab", groups)

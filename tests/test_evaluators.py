"""What every evaluator promises to the code that names no task, and what that of classes adds."""

from __future__ import annotations

import csv
import io
import json
import string
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets.evaluation import EVALUATORS
from resnets.evaluation.classes import ClassEvidence
from resnets.evaluation.confusion import choose_cases
from resnets.evaluation.report import Report, write_report
from resnets.evaluation.sections import Case
from resnets.kinds import KINDS
from resnets.kinds.boxes import BoxPrediction
from resnets.kinds.classes import ClassPrediction
from resnets.kinds.clips import ClipPrediction
from resnets.kinds.labels import LabelPrediction
from resnets.kinds.mask import MaskPrediction


def classes(n, seed=0, k=3):
    """Truths and predictions of n images, some of them mistaken."""
    rng = np.random.default_rng(seed)
    names = tuple(string.ascii_lowercase[:k])
    labels = rng.integers(k, size=n)
    scores = rng.normal(size=(n, k)).astype(np.float32)
    scores[np.arange(n), labels] += 2
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    certain = np.eye(k, dtype=np.float32)
    truths = [ClassPrediction(f"{i}.jpg", names, certain[labels[i]]) for i in range(n)]
    said = [ClassPrediction(f"{i}.jpg", names, row) for i, row in enumerate(probabilities)]
    return truths, said


def labels(n, seed=0, k=3):
    """Truths of n images with some of the labels each, and predictions, some of them mistaken."""
    rng = np.random.default_rng(seed)
    names, thresholds = tuple(string.ascii_lowercase[:k]), np.linspace(0.4, 0.6, k, dtype="f4")
    true = rng.random((n, k)) < 0.4
    shares = np.clip(rng.normal(0.4 + 0.2 * true, 0.2), 0.001, 0.999).astype(np.float32)
    certain = true.astype(np.float32)

    def made(rows):
        return [
            LabelPrediction(f"{i}.jpg", names, row, thresholds=thresholds)
            for i, row in enumerate(rows)
        ]

    return made(certain), made(shares)


def boxes(n, seed=0, k=3):
    """Truths of n images with some boxes each, and predictions: near them, of a wrong class, or
    where nothing is."""
    rng = np.random.default_rng(seed)
    names = tuple(string.ascii_lowercase[:k])
    truths, said = [], []
    for i in range(n):
        count = int(rng.integers(0, 6))
        corner, size = rng.uniform(0, 300, (count, 2)), rng.choice([20.0, 60.0, 150.0], (count, 2))
        true = np.concatenate([corner, corner + size], 1).astype(np.float32)
        of = rng.integers(k, size=count)
        certain = {"scores": np.ones(count, np.float32), "difficult": rng.random(count) < 0.1}
        truths.append(BoxPrediction(f"{i}.jpg", names, boxes=true, labels=of, **certain))
        near = true + rng.normal(0, 4, true.shape)
        corner = rng.uniform(0, 300, (2, 2))
        found = np.concatenate([near, np.concatenate([corner, corner + 40], 1)]).astype(np.float32)
        guessed = np.where(
            rng.random(count + 2) < 0.8, np.append(of, [0, 1]), rng.integers(k, size=count + 2)
        )
        scores = -np.sort(-rng.random(count + 2)).astype(np.float32)
        said.append(
            BoxPrediction(
                f"{i}.jpg", names, boxes=found, labels=guessed, scores=scores, threshold=0.3
            )
        )
    return truths, said


def mask(n, seed=0, k=3):
    """Truths of n images, with pixels that are not judged, and predictions with wrong ones."""
    rng = np.random.default_rng(seed)
    names = tuple(string.ascii_lowercase[:k])
    truths, said = [], []
    for i in range(n):
        height, width = rng.integers(5, 12, 2)
        true = np.repeat(rng.integers(0, k, (height, 1)), width, 1).astype(np.uint8)
        found = np.where(rng.random(true.shape) < 0.8, true, rng.integers(0, k, true.shape))
        true[rng.random(true.shape) < 0.1] = 255
        truths.append(MaskPrediction(f"{i}.jpg", names, mask=true))
        said.append(MaskPrediction(f"{i}.jpg", names, mask=found.astype(np.uint8)))
    return truths, said


def clips(n, seed=0, k=3):
    """Truths of n windows, one of each video, and predictions, some of them mistaken."""
    truths, said = classes(n, seed, k)
    return tuple(
        [ClipPrediction(one.file, one.classes, one.probabilities, span=(0.0, 2.0)) for one in made]
        for made in (truths, said)
    )


MADE = {
    "clips": clips,
    "mask": mask,
    "classes": classes,
    "labels": labels,
    "boxes": boxes,
}  # by kind: (n, seed) -> truths and predictions of as many images


def judged(kind, n=60, seed=0):
    """The evaluator of a kind, truths, predictions, their evidence, and the names of the
    classes."""
    evaluator, (truths, said) = EVALUATORS[kind], MADE[kind](n, seed)
    evidence = [evaluator.compare(*pair) for pair in zip(truths, said, strict=True)]
    return evaluator, truths, said, evidence, truths[0].classes


def test_every_kind_has_an_evaluator():
    assert set(EVALUATORS) == set(KINDS) == set(MADE)
    for kind, made in MADE.items():
        assert all(type(one) is KINDS[kind].prediction for part in made(3, 0) for one in part)


@pytest.mark.parametrize("kind", EVALUATORS)
def test_the_main_number_comes_first_and_is_that_of_a_validation(kind):
    evaluator, _, _, evidence, names = judged(kind)
    metrics, quick = evaluator.measure(evidence, names, None), evaluator.quick(evidence)
    assert next(iter(metrics.numbers)) == evaluator.main
    assert quick.main == pytest.approx(metrics.numbers[evaluator.main].value, abs=1e-9)
    assert (quick.loss is None) == (metrics.loss is None)
    assert type(quick.main) is float
    if quick.loss is not None:
        assert type(quick.loss) is float
        assert quick.loss == pytest.approx(metrics.loss, rel=1e-5)
    assert metrics.n == len(evidence)
    assert metrics.classes == names


@pytest.mark.parametrize("kind", EVALUATORS)
def test_every_number_has_its_interval_and_goes_into_json(kind):
    evaluator, _, _, evidence, names = judged(kind)
    metrics = evaluator.measure(evidence, names, None)
    estimates = [*metrics.numbers.values()]
    estimates += [one for entry in metrics.per_class for one in entry.estimates.values() if one]
    for one in estimates:
        assert 0 <= one.low <= one.value <= one.high <= 1
        assert one.low < one.high
        assert one.n >= 1
    plain = metrics.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    same = [tuple(entry.estimates) for entry in metrics.per_class]
    assert len(set(same)) == 1, "a table of the classes has the same columns in each row"


@pytest.mark.parametrize("kind", EVALUATORS)
def test_groups_change_intervals_and_no_value(kind):
    evaluator, _, _, evidence, names = judged(kind)
    alone = evaluator.measure(evidence, names, None)
    grouped = evaluator.measure(evidence, names, np.arange(len(evidence)) // 12)
    assert list(grouped.numbers) == list(alone.numbers)
    for name, one in grouped.numbers.items():
        assert one.value == alone.numbers[name].value
        assert (one.low, one.high) != (alone.numbers[name].low, alone.numbers[name].high)


@pytest.mark.parametrize("kind", EVALUATORS)
def test_the_truth_itself_is_without_mistake(kind):
    evaluator, truths, _, _, names = judged(kind)
    evidence = [evaluator.compare(truth, truth) for truth in truths]
    assert evaluator.quick(evidence).main == 1
    assert evaluator.measure(evidence, names, None).numbers[evaluator.main].value == 1


@pytest.mark.parametrize("kind", EVALUATORS)
def test_one_image_can_be_measured(kind):
    evaluator, _, _, evidence, names = judged(kind, n=1)
    metrics = evaluator.measure(evidence, names, None)
    assert metrics.n == 1
    assert set(metrics.unmeasured) <= set(names)
    assert list(evaluator.worst(evidence)) in ([], [0])


@pytest.mark.parametrize("kind", EVALUATORS)
def test_rows_of_a_table_have_the_same_columns_in_each(kind):
    evaluator, truths, said, _, _ = judged(kind)
    rows = [evaluator.row(*pair) for pair in zip(truths, said, strict=True)]
    assert len({tuple(row) for row in rows}) == 1
    assert "file" not in rows[0]
    assert all(isinstance(cell, str | float | int | None) for row in rows for cell in row.values())


class Text(HTMLParser):
    """What a reader of a page sees."""

    def __init__(self, source):
        super().__init__()
        self.text = ""
        self.feed(source)

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("kind", EVALUATORS)
@pytest.mark.parametrize("shown", [True, False])
def test_sections_become_a_page(kind, shown, tmp_path):
    pytest.importorskip("jinja2")
    evaluator, truths, said, evidence, names = judged(kind)
    metrics, places = evaluator.measure(evidence, names, None), evaluator.worst(evidence)
    assert len(set(places.tolist())) == len(places)
    assert set(places.tolist()) <= set(range(len(evidence)))
    cases = [Case(truths[place], said[place], b"jpeg", b"heat") for place in places if shown]
    sections = evaluator.sections(metrics, cases)
    report = Report("made", "resnets", (), metrics, [], tuple(sections), len(cases))
    write_report(tmp_path / "report.html", report)
    page = (tmp_path / "report.html").read_text("utf-8")
    text = Text(page).text
    for section in sections:
        assert section.title in text
    for case in cases:
        assert case.prediction.file in text
    assert page.count('<figure class="case"') == len(cases)


@pytest.mark.parametrize("kind", EVALUATORS)
def test_nothing_is_doubted_before_a_validation(kind):
    evaluator, _, _, evidence, names = judged(kind)
    assert evaluator.doubts([], evidence, names) == []
    assert evaluator.doubts([{"epoch": 1.0, "train_loss": 1.0}], evidence, names) == []
    assert evaluator.model
    assert evaluator.caution


# ---- classes


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3000), st.integers(2, 12), st.integers(0, 1000), st.floats(0.01, 60))
def test_a_validation_of_classes_has_the_bits_of_before(n, k, seed, scale):
    """What is written into results.csv and chooses the best weights."""
    rng = np.random.default_rng(seed)
    scores = (rng.normal(size=(n, k)) * scale).astype(np.float32)
    scores -= scores.max(1, keepdims=True)
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    labels = rng.integers(k, size=n)
    evidence = list(map(ClassEvidence, labels.tolist(), probabilities))
    accuracy = float((probabilities.argmax(1) == labels).mean())
    own = probabilities[np.arange(len(labels)), labels]
    loss = float(-np.log(np.maximum(own, 1e-12)).mean())
    assert probabilities.dtype == np.float32
    assert tuple(EVALUATORS["classes"].quick(evidence)) == (accuracy, loss)


def test_a_row_of_classes_has_the_bytes_of_before():
    evaluator, truths, said, _, names = judged("classes")
    text = io.StringIO()
    rows = [evaluator.row(*pair) for pair in zip(truths, said, strict=True)]
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    expected = "label,predicted,probability,label_probability\n"
    for truth, prediction in zip(truths, said, strict=True):
        row, label = prediction.probabilities, int(truth.probabilities.argmax())
        expected += f"{names[label]},{names[row.argmax()]},{row.max():.6f},{row[label]:.6f}\n"
    assert text.getvalue() == expected


def test_evidence_of_classes_keeps_neither_features_nor_maps():
    (truth,), (said,) = classes(1)
    heat, embedding = np.ones((3, 7, 7), np.float32), np.ones(8, np.float32)
    whole = ClassPrediction("0.jpg", said.classes, said.probabilities, embedding, heat)
    evidence = EVALUATORS["classes"].compare(truth, whole)
    assert evidence.label == truth.index
    assert [np.size(one) for one in evidence] == [1, 3]
    assert (whole.light().embedding, whole.light().heat) == (None, None)


def test_the_worst_of_classes_are_its_cases():
    _, _, said, evidence, _ = judged("classes", n=200)
    labels = np.array([one.label for one in evidence])
    expected = choose_cases(np.stack([one.probabilities for one in said]), labels)
    np.testing.assert_array_equal(EVALUATORS["classes"].worst(evidence), expected)

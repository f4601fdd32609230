"""`val A --against B`: a difference with its interval, and what follows from it."""

import itertools
import json

import numpy as np
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from resnets.cli.app import app
from resnets.evaluation import EVALUATORS
from resnets.evaluation.classes import ClassEvidence
from resnets.evaluation.comparison import Comparison, compare_paired, mcnemar

CLASSES = EVALUATORS["classes"]


def evidence(right):
    """(n, 2) bool to evidence of two classes, the first of them true."""
    said = {True: np.array([0.9, 0.1]), False: np.array([0.1, 0.9])}
    return [tuple(ClassEvidence(0, said[bool(one)]) for one in pair) for pair in right]


def seeds(n, accuracy, agreement, rng):
    """Hits of two equally good models that agree more than by chance."""
    common, same = rng.random(n) < accuracy, rng.random((n, 2)) < agreement
    return np.where(same, common[:, None], rng.random((n, 2)) < accuracy)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (3, 12), (40, 40), (200, 260)])
def test_mcnemar_equals_scipys_binomial_test(a, b):
    expected = binomtest(a, a + b).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected, rel=1e-9)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        found = compare_paired(CLASSES, evidence(seeds(200, 0.9, 0.7, rng)))
        hits += found.low <= 0 <= found.high
    assert 0.93 <= hits / 300 <= 1


def test_ten_pairs_of_equals_are_hardly_ever_called_worse():
    rng = np.random.default_rng(1)
    found = [compare_paired(CLASSES, evidence(seeds(500, 0.9, 0.7, rng))) for _ in range(10)]
    assert sum(one.verdict(0) == "worse" for one in found) <= 1


def test_three_points_lost_on_2000_images_are_found():
    rng = np.random.default_rng(2)
    right = seeds(2000, 0.9, 0.8, rng)
    lost = rng.permutation(np.flatnonzero(right[:, 0]))[:60]
    right[:, 1] = right[:, 0]
    right[lost, 0] = False
    found = compare_paired(CLASSES, evidence(right))
    assert found.difference == pytest.approx(-0.03)
    assert found.verdict(0) == "worse"
    assert found.verdict(0.05) == "not worse"
    assert found.p < 1e-9


def test_twins_differ_in_nothing_but_few_images_cannot_rule_out_a_loss():
    found = compare_paired(CLASSES, evidence(np.ones((20, 2), bool)))
    assert (found.difference, found.only, found.p) == (0, (0, 0), 1.0)
    assert found.low < 0 < found.high
    assert found.verdict(0) == "not decided"
    assert found.verdict(0.2) == "not worse"


def test_images_of_a_group_count_once():
    rng = np.random.default_rng(3)
    one = seeds(40, 0.8, 0.3, rng)
    groups = np.repeat(np.arange(40), 10)
    alone = compare_paired(CLASSES, evidence(one))
    repeated = compare_paired(CLASSES, evidence(one.repeat(10, 0)), groups)
    naive = compare_paired(CLASSES, evidence(one.repeat(10, 0)))
    assert repeated.difference == pytest.approx(alone.difference)
    width, apart = repeated.high - repeated.low, alone.high - alone.low
    assert width == pytest.approx(apart, rel=0.3)
    assert width > 2 * (naive.high - naive.low)
    assert repeated.p is None


def test_a_task_without_right_and_wrong_is_resampled():
    from resnets.evaluation.labels import LabelEvidence

    rng = np.random.default_rng(4)
    truth = rng.random((60, 3)) < 0.5
    good = np.clip(truth + rng.normal(0, 0.2, truth.shape), 0, 1).astype(np.float32)
    bad = rng.random(truth.shape).astype(np.float32)

    def one(place, said):
        return LabelEvidence(truth[place], said[place], said[place] > 0.5, np.full(3, 0.5))

    pairs = [(one(place, bad), one(place, good)) for place in range(60)]
    found = compare_paired(EVALUATORS["labels"], pairs)
    assert found.only is None
    assert found.p is None
    assert found.verdict(0) == "worse"
    again = compare_paired(EVALUATORS["labels"], [pair[::-1] for pair in pairs])
    assert again.difference == pytest.approx(-found.difference)


def test_twins_without_right_and_wrong_are_not_certain_either():
    from resnets.evaluation.labels import LabelEvidence

    said = np.array([0.9, 0.2])
    one = LabelEvidence(np.array([True, False]), said, said > 0.5, np.full(2, 0.5))
    few, many = (compare_paired(EVALUATORS["labels"], [(one, one)] * n) for n in (10, 1000))
    assert few.difference == many.difference == 0
    assert few.low < -0.2
    assert few.high > 0.2
    assert -0.005 < many.low < 0


@pytest.mark.parametrize("margin", [0.0, 0.01, 0.5])
def test_every_interval_has_one_verdict(margin):
    places = [-0.6, -0.3, -0.02, 0.0, 0.02, 0.3]
    for low, high in itertools.combinations_with_replacement(places, 2):
        word = Comparison("accuracy", (low + high) / 2, low, high, 100).verdict(margin)
        assert (word == "worse") == (high < -margin)
        assert (word == "not worse") == (low >= -margin)


def test_no_common_image_is_refused():
    with pytest.raises(ValueError, match="no image"):
        compare_paired(CLASSES, [])


def invoke(*arguments):
    return CliRunner().invoke(app, ["val", *map(str, arguments)])


@pytest.fixture(scope="module")
def two_runs(cells, tmp_path_factory):
    """A run that has learnt, and one that has not."""
    from resnets import train

    root = tmp_path_factory.mktemp("against")
    common = {"weights": "none", "size": 16, "quiet": True}
    learnt = train(cells, "resnet20", epochs=3, output=root / "a", **common)
    not_ = train(cells, "resnet20", epochs=0.1, lr=1e-6, output=root / "b", **common)
    return learnt, not_


def test_the_exit_code_tells_a_worse_model(two_runs):
    learnt, not_ = two_runs
    better = invoke(learnt.folder, "--against", not_.folder)
    assert better.exit_code == 0, better.output
    assert "\nnot worse" in better.output
    worse = invoke(not_.folder, "--against", learnt.folder, "--json")
    assert worse.exit_code == 1
    said = json.loads(worse.output[worse.output.index("{") :])["against"]
    assert said["verdict"] == "worse"
    assert said["high"] < 0
    assert invoke(not_.folder, "--against", learnt.folder, "--margin", 100).exit_code == 0


def test_a_run_is_its_own_file(two_runs):
    learnt, _ = two_runs
    found = invoke(learnt.folder, "--against", learnt.proven.path, "--json")
    assert found.exit_code == 0, found.output
    said = json.loads(found.output[found.output.index("{") :])["against"]
    assert abs(said["difference"]) < 0.01  # a grey level may be rounded to the other side


def test_an_exported_file_alone_has_no_images(two_runs):
    learnt, _ = two_runs
    found = invoke(learnt.proven.path, "--against", learnt.folder)
    assert found.exit_code != 0

"""Classes of unequal size: the loss and the order of images bring up the rare ones."""

from collections import Counter

import numpy as np
import pytest
from conftest import write_pictures
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="training install")

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import resnets
from resnets.data.order import epoch_order
from resnets.kinds.sample import Sample, annotate
from resnets.run.balance import weighted
from resnets.settings import read_yaml
from resnets.tasks import TASKS
from resnets.tasks.classes import Classification

SMALL = {"size": 16, "weights": "none", "batch_size": 8, "quiet": True}


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 50))
def test_an_epoch_shows_classes_equally_often_and_keeps_its_length(strata, epoch):
    strata = np.array(strata)
    numbers = epoch_order(len(strata), 3, epoch, strata)
    assert len(numbers) == len(strata)
    assert len(set(numbers.tolist())) == len(numbers)  # no crop twice
    shown = Counter(strata[numbers % len(strata)].tolist())
    assert max(shown.values()) - min(shown.get(one, 0) for one in np.unique(strata)) <= 1
    for one in np.unique(strata):  # within a class, images are shown equally often
        times = Counter((numbers[strata[numbers % len(strata)] == one] % len(strata)).tolist())
        members = np.flatnonzero(strata == one).tolist()
        assert max(times.values(), default=0) - min(times.get(place, 0) for place in members) <= 1
    assert (numbers == epoch_order(len(strata), 3, epoch, strata)).all()


def test_other_epochs_show_other_images_of_a_frequent_class():
    strata = np.array([0] * 90 + [1] * 10)
    seen = [set(epoch_order(100, 0, epoch, strata).tolist()) for epoch in range(8)]
    frequent = [{number for number in one if number < 90} for one in seen]
    assert all(len(one) == 50 for one in frequent)
    assert set().union(*frequent) == set(range(90))


@given(st.integers(1, 300), st.integers(0, 9))
def test_without_classes_the_order_is_a_permutation_as_ever(count, epoch):
    expected = np.random.default_rng((7, epoch)).permutation(count)
    assert (epoch_order(count, 7, epoch) == expected).all()


def samples_of(labels):
    return [Sample(None, f"{n}", annotate(label)) for n, label in enumerate(labels)]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60))
def test_weights_are_inverse_frequencies_with_a_mean_of_one(labels):
    classes = sorted(set(labels))
    task = weighted(Classification(smoothing=0.1), samples_of(labels), classes)
    found = np.array(task.class_weights)
    counts = np.array([labels.count(one) for one in classes])
    assert np.allclose(found * counts, len(labels) / len(classes), atol=1e-3)
    assert (found * counts).sum() / len(labels) == pytest.approx(1, abs=1e-4)
    assert task.smoothing == 0.1


def test_the_loss_is_weighted_by_image():
    torch.manual_seed(0)
    raw, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 1])
    task = Classification(0.1, class_weights=(0.5, 1.0, 3.0))
    each = F.cross_entropy(raw, labels, label_smoothing=0.1, reduction="none")
    expected = (each * torch.tensor([0.5, 1.0, 3.0, 0.5, 0.5, 1.0])).mean()
    assert torch.allclose(task.loss(raw, {"labels": labels})["loss"], expected)
    plain, even = Classification(0.1), Classification(0.1, class_weights=(1.0, 1.0, 1.0))
    found = [one.loss(raw, {"labels": labels})["loss"] for one in (plain, even)]
    assert torch.allclose(*found)
    both = Classification(0.1, "bce", (0.5, 1.0, 3.0)), Classification(0.1, "bce")
    weights = (0.5, 1.0, 3.0, 0.5, 0.5, 1.0)
    single = [both[1].loss(raw[n : n + 1], {"labels": labels[n : n + 1]})["loss"] for n in range(6)]
    expected = sum(one * weight for one, weight in zip(single, weights, strict=True)) / 6
    assert torch.allclose(both[0].loss(raw, {"labels": labels})["loss"], expected)


@pytest.mark.parametrize("name", TASKS)
def test_tasks_without_one_class_for_each_image_refuse_it(name):
    assert ("balance" in TASKS[name].limits) == (name not in ("classes", "clips"))


@pytest.mark.parametrize("balance", ["weights", "sampler"])
def test_a_balanced_run_can_be_resumed_and_measures_the_data_as_they_are(tmp_path, balance):
    data = write_pictures(tmp_path / "photos", ("blue",), 24)
    write_pictures(data, ("green",), 6, seed=1)
    options = {"epochs": 3, "balance": balance, **SMALL}
    whole = resnets.train(data, "resnet20 depths=1-1-1", output=tmp_path / "a", **options)
    rows = []
    resnets.train(
        data, "resnet20 depths=1-1-1", output=tmp_path / "b",
        callbacks=[lambda row: rows.append(row) or len(rows) == 4], **options,
    )  # fmt: skip
    again = resnets.run.resume(tmp_path / "b", quiet=True)
    first, other = (
        load_file(one.folder / "weights" / "last.safetensors") for one in (whole, again)
    )
    assert all(torch.equal(first[name], other[name]) for name in first)
    task = read_yaml(tmp_path / "a" / "args.yaml")["task"]
    assert bool(task["class_weights"]) == (balance == "weights")
    assert sum(one.n for one in whole.metrics.per_class) == whole.metrics.n == 6

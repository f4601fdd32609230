"""The loop: what moves the weights, what is kept, and that a run which was killed ends in the same
bits."""

import csv
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import write_pictures
from torch import nn

import resnets
from resnets.modelfile import read_model
from resnets.run import resume
from resnets.run.steps import _row_text
from resnets.tasks.classes import Classification
from resnets.training.checkpoint import pack, unpack
from resnets.training.loop import Diverged, Hooks, TrainingState, set_training, train_steps
from resnets.training.optimizers import OPTIMIZERS, Average, Schedule
from resnets.training.plan import Plan, PlannedPhase
from resnets.training.recipes import Circumstances, decide
from resnets.training.settings import TrainSettings

SMALL = {"size": 16, "weights": "none", "quiet": True, "batch_size": 8}


class Batch:
    def __init__(self, seed, count=8):
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randn(count, 3, 16, 16, generator=generator)
        self.targets = {"labels": torch.randint(0, 2, (count,), generator=generator)}
        self.count = count


def batches(first):
    number = first
    while True:
        yield Batch(number)
        number += 1


def make_state(horizon=4.0):
    torch.manual_seed(0)
    net = resnets.ResNet(resnets.BasicBlock, [1, 1], 2, widths=[4, 8])
    return TrainingState(net, OPTIMIZERS["sgd"](net, 0.1, 0.9, 1e-3), Average(net, horizon))


def make_plan(schedule, *numbers, **more):
    """Of one phase."""
    return Plan((PlannedPhase(schedule),), *numbers, **more)


def weights_of(run):
    return read_model(run.folder / "weights" / "last.safetensors")[0]


def equal(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


# --- what moves the weights


def test_norms_and_biases_do_not_decay():
    net = resnets.ResNet18(2)
    decaying, free = OPTIMIZERS["sgd"](net, 0.1, 0.9, 0.5).param_groups
    assert {p.ndim for p in decaying["params"]} == {2, 4}
    assert {p.ndim for p in free["params"]} == {1}
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.5, 0.0)
    assert len(decaying["params"]) + len(free["params"]) == len(list(net.parameters()))
    assert all(group["nesterov"] for group in (decaying, free))


def test_the_rate_warms_up_and_ends_near_zero():
    schedule = Schedule(1.0, steps=100, warmup=10)
    rates = [schedule(step) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001
    assert rates[55] == pytest.approx(0.5)  # half way through the cosine


def test_the_average_follows_its_formula():
    net = nn.BatchNorm1d(1)
    average = Average(net, horizon=20)
    expected = None
    for t in range(30):
        with torch.no_grad():
            net.weight.fill_(float(t))
            net.running_mean.fill_(2.0 * t)
            net.num_batches_tracked.fill_(t)
        average.update(net)
        decay = min(1 - 1 / 20, (1 + t) / (10 + t))
        expected = float(t) if expected is None else decay * expected + (1 - decay) * t
        assert average.net.weight.item() == pytest.approx(expected, rel=1e-5)
        assert average.net.running_mean.item() == pytest.approx(2 * expected, rel=1e-5)
        assert average.net.num_batches_tracked.item() == t


def test_frozen_norms_keep_their_statistics_and_still_learn():
    state = make_state()
    before = {name: tensor.clone() for name, tensor in state.net.state_dict().items()}
    plan = make_plan(Schedule(0.1, 3, 0), 3, 3, 3, train_norms=False)
    train_steps(
        state,
        batches(0),
        Classification(),
        plan,
        Hooks(lambda s: {"val_accuracy": None}, lambda s: None),
    )
    after = state.net.state_dict()
    assert torch.equal(before["bn1.running_mean"], after["bn1.running_mean"])
    assert not torch.equal(before["bn1.weight"], after["bn1.weight"])
    set_training(state.net, state.net, Classification(), True)
    assert state.net.bn1.training


def test_a_loss_that_is_no_number_stops_with_step_rate_and_cure():
    state = make_state()
    with torch.no_grad():
        state.net.fc.bias[0] = math.nan
    plan = make_plan(Schedule(0.25, 10, 0), 5, 5, 5)
    with pytest.raises(Diverged, match=r"nan at step 0 with learning rate 0\.25; try --lr 0\.025"):
        train_steps(state, batches(0), Classification(), plan, Hooks(lambda s: {}, lambda s: None))


def test_a_state_packed_at_any_step_goes_on_in_the_same_bits():
    plan = make_plan(Schedule(0.1, 12, 3), 4, 2, 4)
    hooks = Hooks(lambda s: {"val_accuracy": None}, lambda s: None)
    whole = train_steps(make_state(), batches(0), Classification(0.1), plan, hooks)
    for stop in (0, 1, 5, 11):
        part = make_state()
        halted = Hooks(
            hooks.validate, hooks.save, stopping=lambda part=part, stop=stop: part.step == stop
        )
        train_steps(part, batches(0), Classification(0.1), plan, halted)
        assert part.step == stop
        tensors, rest = pack(part)
        again = make_state()
        unpack(again, {name: tensor.clone() for name, tensor in tensors.items()}, rest, "accuracy")
        train_steps(again, batches(stop), Classification(0.1), plan, hooks)
        assert equal(pack(again)[0], pack(whole)[0])
        assert [row["train_loss"] for row in again.rows] == [
            row["train_loss"] for row in whole.rows
        ]


def test_dropout_draws_by_step_and_not_by_history():
    def run(stop):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 16 * 16, 2))
        state = TrainingState(net, OPTIMIZERS["sgd"](net, 0.1, 0.9, 0), Average(net, 3))
        plan = make_plan(Schedule(0.1, 6, 0), 6, 6, 6, seed=3)
        for end in (stop, 6):
            hooks = Hooks(
                lambda s: {"val_accuracy": None},
                lambda s: None,
                stopping=lambda end=end: state.step >= end,
            )
            train_steps(state, batches(state.step), Classification(), plan, hooks)
            torch.rand(7)  # somebody else draws
        return net[2].weight

    assert torch.equal(run(6), run(2))


# --- settings


def test_open_settings_are_decided_with_reasons_and_given_ones_stay():
    seen = Circumstances(True, 224, (500, 375), 0.0, 1000)
    decided, reasons = decide(TrainSettings("photos", lr=0.5, task="classes"), seen)
    assert decided.lr == 0.5
    assert "lr" not in reasons
    assert (decided.norms, decided.size, decided.fit) == ("train", 224, "crop")
    assert "fine-tuning" in reasons["norms"]
    few, why = decide(TrainSettings("photos", task="classes"), replace(seen, count=60))
    assert (few.norms, few.batch_size) == ("frozen", 8)
    assert "small batches" in why["norms"]
    assert None not in (
        decided.epochs,
        decided.batch_size,
        decided.weight_decay,
        decided.smoothing,
        decided.crop,
    )
    tiny, _ = decide(
        TrainSettings("cells", task="classes"), Circumstances(False, None, (32, 32), 0.0, 50_000)
    )
    assert (tiny.size, tiny.crop, tiny.batch_size, tiny.norms, tiny.lr) == (
        32,
        "shift",
        64,
        "train",
        0.1,
    )
    long, _ = decide(
        TrainSettings("signs", task="classes"), Circumstances(True, 224, (100, 400), 0.9, 1000)
    )
    assert (long.fit, long.crop) == ("pad", "shift")


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 3},
        {"lr": -1.0},
        {"flip": "up"},
        {"channels": 2},
        {"bits": 16},
        {"epochs": 1.0, "minutes": 1.0},
    ],
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"allowed|needs|choose"):
        TrainSettings("photos", **wrong)


# --- whole runs


def test_equal_seeds_give_equal_bits_and_others_do_not(colours, tmp_path):
    runs = [
        resnets.train(colours, "resnet20", epochs=1, seed=seed, output=tmp_path / f"{n}", **SMALL)
        for n, seed in enumerate((1, 1, 2))
    ]
    first, same, other = map(weights_of, runs)
    assert equal(first, same)
    assert not equal(first, other)


def test_a_module_of_ones_own_trains_with_callbacks_and_says_when_to_stop(colours, tmp_path):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.conv(x).relu().mean((2, 3)))

    rows = []
    run = resnets.train(
        colours,
        Pooled(),
        epochs=50,
        lr=0.1,
        output=tmp_path / "run",
        callbacks=[lambda row: rows.append(row) or len(rows) == 8],
        **SMALL,
    )
    assert len(rows) == 8
    assert rows[-1]["step"] < 50 * 3
    assert run.model.network["kind"] == "object"
    assert run.proven.agreeing == run.proven.compared
    with pytest.raises(ValueError, match="pass the network itself"):
        resnets.modelfile.load_model(run.folder)
    answer = next(iter(resnets.load(run.proven.path).predict(colours)))
    assert answer.label in ("blue", "red")
    with pytest.raises(ValueError, match=r"returns .* for 2 classes"):
        resnets.train(
            colours,
            nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            output=tmp_path / "no",
            **SMALL,
        )
    assert not (tmp_path / "no").exists()


TRAIN = """
import sys, resnets
resnets.train(sys.argv[1], "resnet20", epochs=6, output=sys.argv[2], size=16, weights="none", batch_size=8, quiet=True)
"""


def start(data, output):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", TRAIN, str(data), str(output)], env=environment)


def wait_for_rows(output, process, count):
    """Until results.csv has so many rows; gives the last step in it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be stopped"
        if (output / "results.csv").is_file():
            rows = list(csv.DictReader((output / "results.csv").read_text().splitlines()))
            if len(rows) >= count:
                return int(rows[-1]["step"])
        time.sleep(0.005)
    raise AssertionError("no rows came")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("many") / "colours", count=60)


@pytest.fixture(scope="module")
def undisturbed(many, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert start(many, output).wait(240) == 0
    return output


@pytest.mark.parametrize("rows", [5, 14, 23])
def test_a_run_that_was_killed_in_mid_epoch_resumes_to_the_same_bits(
    many, undisturbed, tmp_path, rows
):
    output = tmp_path / "killed"
    process = start(many, output)
    step = wait_for_rows(output, process, rows)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    per_epoch = 96 // 8
    assert step % per_epoch != 0, "it was killed between two epochs"
    resume(output, quiet=True)
    for name in ("last", "best"):
        killed, whole = (
            read_model(folder / "weights" / f"{name}.safetensors")[0]
            for folder in (output, undisturbed)
        )
        assert equal(killed, whole)
    with pytest.raises(ValueError, match=r"is finished; its report is .*report\.html"):
        resume(output)


def test_sigterm_saves_evaluates_exports_and_can_be_resumed(many, undisturbed, tmp_path):
    output = tmp_path / "stopped"
    process = start(many, output)
    wait_for_rows(output, process, 15)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0
    assert (output / "report.html").is_file()
    assert resnets.load(output / "colours.onnx").classes == ("blue", "red")
    resume(output, quiet=True)
    last, whole = (
        read_model(folder / "weights" / "last.safetensors")[0] for folder in (output, undisturbed)
    )
    assert equal(last, whole)


def test_the_epoch_line_speaks_of_all_steps_since_the_last_validation():
    """Rows are not all of one length: 4 steps and then 1 make a mean of 5 steps, in as many seconds
    as both took."""
    validated = {"val_loss": 0.5, "val_accuracy": 0.9, "val_accuracy_ema": 0.8}
    plain = dict.fromkeys(validated)
    rows = [
        {"step": 5, "epoch": 1.0, "train_loss": 9.0, "images_per_second": 999.0, **validated},
        {"step": 9, "epoch": 1.8, "train_loss": 1.0, "images_per_second": 100.0, **plain},
        {"step": 10, "epoch": 2.0, "train_loss": 2.0, "images_per_second": 50.0, **validated},
    ]
    assert "loss 1.200, val 0.500" in _row_text(rows, "accuracy")
    assert _row_text(rows, "accuracy").endswith(
        "83 img/s"
    )  # 5 steps of 100 pictures in 4 + 2 seconds
    assert "loss 9.000" in _row_text(rows[:1], "accuracy")


def test_a_checkpoint_exists_from_step_0(colours, tmp_path):
    seen = []
    run = resnets.train(
        colours,
        "resnet20",
        epochs=1,
        output=tmp_path / "run",
        callbacks=[
            lambda row: seen.append(
                read_model(tmp_path / "run" / "weights" / "last.safetensors")[1]["checkpoint"][
                    "step"
                ]
            )
        ],
        **SMALL,
    )
    assert seen[0] == 0
    assert run.metrics.n == 6


@pytest.mark.slow
def test_minutes_are_kept(many, tmp_path):
    tick = time.monotonic()
    run = resnets.train(
        many, "resnet20", minutes=1, output=tmp_path / "run", size=32, weights="none", quiet=True
    )
    seconds = time.monotonic() - tick
    assert 0.85 * 60 <= seconds <= 60
    last = list(csv.DictReader((run.folder / "results.csv").read_text().splitlines()))[-1]
    assert float(last["learning_rate"]) < 1e-3 * 0.1 * 3, "not annealed"
    assert np.isfinite(float(last["train_loss"]))

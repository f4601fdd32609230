"""Runs of several phases, tasks that the loop has never seen, and checkpoints of older versions."""

import csv
import json
import math
import random
import re
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from test_training import Batch, equal
from torch import nn

import resnets
from resnets.kinds import KINDS
from resnets.modelfile import read_model, write_model
from resnets.run import resume, validation
from resnets.run.folder import RunFolder
from resnets.run.preparation import prepare
from resnets.run.spec import Spec
from resnets.run.steps import _last, _row_text
from resnets.run.timing import MARGIN, Costs, decide_steps, time_costs
from resnets.run.validation import rank, settled
from resnets.run.work import Job, read_images
from resnets.screen import Screen
from resnets.settings import read_yaml
from resnets.tasks import TASKS, describe_task, make_task
from resnets.tasks.classes import Classification
from resnets.training.checkpoint import pack, position, unpack
from resnets.training.loop import (
    Diverged,
    Hooks,
    TrainingState,
    set_training,
    train_steps,
    trained_part,
)
from resnets.training.optimizers import Average, Schedule
from resnets.training.plan import Phase, Plan, PlannedPhase
from resnets.training.recipes import RECIPES
from resnets.training.settings import TrainSettings

SMALL = {"size": 32, "weights": "none", "quiet": True, "batch_size": 8, "lr": 0.05}
NETWORK = "resnet20 depths=1-1-1"
HEAD_THEN_ALL = (
    Phase("head", size=16, share=1, optimizer="adamw", lr=0.1),
    Phase("all", share=2),
)
TIMES = ("seconds", "images_per_second")


def tensors_of(folder, name="last"):
    return read_model(folder / "weights" / f"{name}.safetensors")[0]


def rows_of(folder):
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    return [{key: row[key] for key in row if key not in TIMES} for row in rows]


# --- the loop


def phases(head_steps=5, all_steps=7):
    return (
        PlannedPhase(Schedule(0.01, head_steps, 1), 0, HEAD_THEN_ALL[0], weight_decay=1e-3),
        PlannedPhase(Schedule(0.1, all_steps, 2), head_steps, HEAD_THEN_ALL[1], weight_decay=1e-3),
    )


PLAN = Plan(phases(), 4, 2, 4, train_norms=True)
HOOKS = Hooks(lambda state: {}, lambda state: None, validated=("val_loss", "val_accuracy"))


def make_state(step=0):
    torch.manual_seed(0)
    net = resnets.ResNet(resnets.BasicBlock, [1, 1], 2, widths=[4, 8])
    part = trained_part(net, Classification(), PLAN.phase(step))
    return TrainingState(net, PLAN.phase(step).make_optimizer(part), Average(net, 4.0))


def batches(first):
    while True:
        yield Batch(first)
        first += 1


def test_a_phase_of_the_head_moves_nothing_else_and_the_next_one_all():
    state = make_state()
    before = {name: tensor.clone() for name, tensor in state.net.state_dict().items()}
    seen = []

    def on_row(row):
        seen.append(row)
        return state.step == 5

    hooks = replace(HOOKS, on_row=on_row)
    train_steps(state, batches(0), Classification(), PLAN, hooks)
    after = state.net.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"fc.weight", "fc.bias"}
    assert [row["step"] for row in seen] == [2, 4, 5]  # a phase ends with a row
    assert isinstance(state.optimizer, torch.optim.SGD)  # that of the phase to come
    assert not state.optimizer.state
    train_steps(state, batches(5), Classification(), PLAN, HOOKS)
    after = state.net.state_dict()
    assert not [name for name in before if torch.equal(before[name], after[name])]
    assert [row["phase"] for row in state.rows] == [1, 1, 1, 2, 2, 2, 2]
    rates = [row["learning_rate"] for row in state.rows]
    assert rates[2] < 0.002  # each phase has a schedule of its own
    assert rates[3] == 0.1 / 3


def movement(clip):
    """How far the weights go in one step of SGD with rate 1."""
    phase = PlannedPhase(Schedule(1.0, 1, 0), phase=Phase(clip=clip), momentum=0.0)
    state = make_state()
    state.optimizer = phase.make_optimizer(state.net)
    before = [one.detach().clone() for one in state.net.parameters()]
    train_steps(state, batches(0), Classification(), replace(PLAN, phases=(phase,)), HOOKS)
    after = [one.detach() for one in state.net.parameters()]
    return math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True)))


def test_a_gradient_is_no_longer_than_its_phase_allows():
    free = movement(None)
    assert free > 0.1
    assert movement(0.1) == pytest.approx(0.1, rel=1e-4)
    assert movement(1e3) == pytest.approx(free)
    with pytest.raises(ValueError, match="clip=0; allowed: above 0"):
        Phase(clip=0)


def test_a_state_packed_at_any_step_of_any_phase_goes_on_in_the_same_bits():
    whole = train_steps(make_state(), batches(0), Classification(), PLAN, HOOKS)
    for stop in (0, 3, 4, 5, 6, 9):
        part = make_state()
        halted = replace(HOOKS, stopping=lambda part=part, stop=stop: part.step == stop)
        train_steps(part, batches(0), Classification(), PLAN, halted)
        tensors, rest = pack(part)
        rest = json.loads(json.dumps(rest, sort_keys=True))
        again = make_state(position(rest, "accuracy")[0])
        unpack(again, {name: one.clone() for name, one in tensors.items()}, rest, "accuracy")
        train_steps(again, batches(stop), Classification(), PLAN, HOOKS)
        assert equal(pack(again)[0], pack(whole)[0])
        assert [row["train_loss"] for row in again.rows] == [r["train_loss"] for r in whole.rows]


def test_the_advice_of_a_divergence_is_of_its_phase():
    state = make_state()
    state.net.fc.bias.data[0] = torch.nan
    with pytest.raises(Diverged, match=r"nan at step 0 with learning rate 0\.005; try --lr 0\.005"):
        train_steps(state, batches(0), Classification(), PLAN, HOOKS)  # of --lr, the phase has 0.1


# --- whole runs


def change_recipe(monkeypatch):
    recipe = replace(RECIPES["classes", "tiny"], phases=HEAD_THEN_ALL)
    monkeypatch.setitem(RECIPES, ("classes", "tiny"), recipe)


@pytest.fixture
def two_phases(monkeypatch):
    change_recipe(monkeypatch)


@pytest.fixture(scope="module")
def phased(colours, tmp_path_factory):
    """An undisturbed run: 18 steps, the last 12 of them with the whole network."""
    output = tmp_path_factory.mktemp("phased") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        change_recipe(patch)
        resnets.train(colours, NETWORK, epochs=6, output=output, **SMALL)
    return output


@pytest.mark.parametrize("stop", [4, 6, 7, 13])
@pytest.mark.usefixtures("two_phases")
def test_a_run_of_two_phases_resumes_to_the_same_bits(colours, phased, tmp_path, monkeypatch, stop):
    """Within each of them, and exactly between them (6)."""
    output = tmp_path / "part"
    callbacks = [lambda row: row["step"] >= stop]
    resnets.train(colours, NETWORK, epochs=6, output=output, callbacks=callbacks, **SMALL)
    assert read_model(output / "weights" / "last.safetensors")[1]["checkpoint"]["step"] == stop
    monkeypatch.undo()  # the recipe of a run stands in its folder
    resume(output, quiet=True)
    for name in ("last", "best"):
        assert equal(tensors_of(output, name), tensors_of(phased, name))
    assert rows_of(output) == rows_of(phased)
    assert Spec.read(output / "args.yaml").phases == HEAD_THEN_ALL


def test_results_have_a_column_for_the_phase_where_there_are_several(phased):
    rows = rows_of(phased)
    assert [row["phase"] for row in rows] == ["1"] * 6 + ["2"] * 12
    assert list(rows[0])[:3] == ["step", "epoch", "phase"]
    assert rows[6]["step"] == "7"
    assert float(rows[6]["learning_rate"]) > 10 * float(rows[5]["learning_rate"])


@pytest.mark.usefixtures("two_phases")
def test_the_steps_of_each_phase_are_timed(colours, capsys):
    wanted = TrainSettings(str(colours), NETWORK, minutes=30, weights="none", size=32, batch_size=8)
    screen = Screen()
    prepared = prepare(wanted, None, screen)
    images = read_images(prepared.spec, prepared.samples, screen)
    before = {name: one.clone() for name, one in prepared.net.state_dict().items()}
    folder = RunFolder(colours / "run")
    job = Job(prepared.spec, folder, prepared.net, images, screen, (), time.monotonic())
    costs = time_costs(job)
    spec = decide_steps(job, costs)
    assert len(costs.steps) == 2
    assert re.search(
        r"a step takes 0\.\d\d s, then 0\.\d\d s, a valid", flat(capsys.readouterr().err)
    )
    assert spec.steps > 1000
    assert equal(prepared.net.state_dict(), before)  # a trial changes nothing


def flat(text):
    return " ".join(text.split())


@pytest.mark.usefixtures("two_phases")
def test_a_network_that_cannot_take_a_phase_is_refused_before_the_work(colours, tmp_path):
    class Nameless(nn.Module):
        def __init__(self, least):
            super().__init__()
            self.conv, self.last, self.least = nn.Conv2d(3, 2, 3), nn.Linear(2, 2), least

        def forward(self, x):
            assert x.shape[2] >= self.least, f"{x.shape[2]} pixels are too few"
            return self.last(self.conv(x).mean((2, 3)))

    class Named(Nameless):
        def get_classifier(self):
            return self.last

    def train(net):
        resnets.train(colours, net, epochs=1, output=tmp_path / "run", **SMALL)

    with pytest.raises(ValueError, match=r"step .*: has no classifier that is known .* alone"):
        train(Nameless(0))
    with pytest.raises(ValueError, match=r"step .*\(2, 3, 16, 16\): 16 pixels are too few"):
        train(Named(32))
    assert list(tmp_path.iterdir()) == []


def test_as_many_steps_are_taken_as_fit():
    costs = Costs(HEAD_THEN_ALL, (0.1, 0.4), validation=2.0, end=5.0)
    steps, interval = costs.steps_within(100.0, 10)
    assert interval % 10 == 0
    assert costs.total(30, 10) == pytest.approx(10 * 0.1 + 20 * 0.4 + 3 * 2.0 + 5.0)
    assert costs.total(steps, interval) <= 100 * (1 - MARGIN)
    assert costs.total(steps + 1, costs.interval(steps + 1, 10)) > 100 * (1 - MARGIN)
    assert costs.steps_within(5.0, 10)[0] == 0


# --- other tasks than the loop knows


@dataclass(frozen=True)
class Pixels:
    """A task with two losses, a head with norms of its own, and no validation loss."""

    kind: ClassVar = KINDS["classes"]

    def backbone(self, net):
        return net[0]

    def head(self, net):
        return net[1]

    def loss(self, raw, targets):
        near, far = raw["near"].square().mean(), raw["far"].abs().mean()
        count = len(raw["near"])
        return {"loss": near + far, "near": near.detach() * count, "far": far.detach() * count}


class Forked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x):
        maps = self.norm(self.conv(x))
        return {"near": maps[:, :1], "far": maps[:, 1:]}


def make_net():
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), Forked())


def test_frozen_norms_are_those_of_the_backbone_alone():
    net = make_net()
    set_training(net, net, Pixels(), train_norms=False)
    assert not net[0][1].training
    assert net[1].norm.training
    set_training(net, net[1], Pixels(), train_norms=True)
    assert not net[0].training  # a phase of the head leaves the rest as it is
    assert net[1].norm.training


def test_any_sums_of_a_task_become_columns(tmp_path):
    net = make_net()
    plan = Plan((PlannedPhase(Schedule(0.1, 4, 0)),), 2, 2, 4)
    state = TrainingState(net, plan.phases[0].make_optimizer(net), Average(net, 3))
    hooks = replace(HOOKS, validate=lambda s: {"val_loss": None, "val_ap": 0.5, "val_ap_ema": 0.4})
    train_steps(state, batches(0), Pixels(), replace(plan, validate_every=3), hooks)
    row = state.rows[0]
    assert row["train_loss"] == pytest.approx(row["train_near"] + row["train_far"], rel=1e-5)
    shuffled = [dict(random.Random(0).sample(list(row.items()), len(row))) for row in state.rows]
    folder = RunFolder(tmp_path)
    for rows in (state.rows, shuffled):  # as a checkpoint sorts them
        folder.write_results(rows)
        assert folder.results.read_text().splitlines()[0] == (
            "step,epoch,seconds,learning_rate,train_loss,train_far,train_near,images_per_second,"
            "val_loss,val_accuracy,val_ap,val_ap_ema"
        )


def test_a_validation_without_a_loss_is_told_kept_and_compared():
    row = {"step": 5, "epoch": 1.0, "train_loss": 9.0, "images_per_second": 9.0}
    rows = [{**row, "val_loss": None, "val_ap": 0.25, "val_ap_ema": 0.5}]
    assert "loss 9.000  AP 0.250, averaged 0.500" in _row_text(rows, "ap")
    assert _last(rows, "ap") == "AP 0.250"
    state = make_state()
    rest = {**pack(state)[1], "rows": [{**rows[0], "seconds": 1.0}]}
    rest["best"] = {"ap": 0.5, "loss": None, "weights": "averaged", "step": 5}
    unpack(state, pack(state)[0], rest, "ap")
    assert state.best["loss"] is None
    with pytest.raises(ValueError, match="not of the expected kind"):
        unpack(state, pack(state)[0], rest, "accuracy")


def test_the_best_is_by_the_main_number_then_the_loss_then_the_later_step():
    order = [(0.7, 0.9, 1), (0.6, 0.2, 2), (0.6, 0.2, 1), (0.6, 0.3, 1), (0.5, 0.1, 9)]
    best = [{"ap": main, "loss": loss, "step": step} for main, loss, step in order]
    assert sorted(best, key=lambda one: rank(one, "ap")) == best[::-1]
    without = [{"ap": 0.5, "loss": None, "step": step} for step in (1, 2)]
    assert rank(without[1], "ap") > rank(without[0], "ap")


@dataclass(frozen=True)
class Fitted(Classification):
    threshold: float = 0.5

    def settle(self, judged):
        return replace(self, threshold=1 / len(list(judged)))


def test_what_is_settled_becomes_part_of_the_best_weights(tmp_path, monkeypatch):
    taken = []

    def judged(engine, images):
        taken.append(images)
        yield from images

    monkeypatch.setattr(validation.outcome, "judged", judged)
    monkeypatch.setattr(validation, "TorchEngine", lambda model: model)
    folder = RunFolder(tmp_path)
    folder.best.parent.mkdir()
    write_model(folder.best, {"a": torch.zeros(2)}, {"task": {"name": "classes"}, "classes": []})
    before = folder.best.read_bytes()
    images = SimpleNamespace(held_out=[(1, 1), (1, 2), (2, 2), (2, 1)])
    job = SimpleNamespace(images=images, folder=folder)
    assert settled(job, SimpleNamespace(task=Classification(0.1))) == Classification(0.1)
    assert folder.best.read_bytes() == before
    assert not taken, "a task that fits nothing looks at no image"
    assert settled(job, SimpleNamespace(task=Fitted(0.1))).threshold == 0.25
    tensors, metadata = read_model(folder.best)
    fitted = {"name": "classes", "smoothing": 0.1, "threshold": 0.25}
    assert metadata["task"] == {**describe_task(Classification()), **fitted}
    assert metadata["classes"] == []
    assert torch.equal(tensors["a"], torch.zeros(2))


def test_a_task_is_made_again_from_what_files_say():
    for name, task in TASKS.items():
        assert make_task(describe_task(task())) == task()
        assert make_task({"name": name}) == task()
    assert make_task({"name": "classes", "smoothing": 0.2}) == Classification(0.2)
    for wrong in (
        {},
        {"name": "clases"},
        {"name": "classes", "smothing": 0.1},
        {"name": "classes", "kind": 3},
        {"name": "classes", "smoothing": "much"},
    ):
        with pytest.raises(ValueError, match=r"allowed|expected|did you mean"):
            make_task(wrong)


# --- what older versions wrote


def test_a_run_of_an_older_version_resumes_to_the_same_bits(colours, tmp_path):
    """Its args.yaml knows no task, phases and size of images, its checkpoint has sums without
    names."""
    words = {**SMALL, "smoothing": 0.2, "epochs": 4}
    resnets.train(colours, NETWORK, output=tmp_path / "whole", **words)
    old = tmp_path / "old"
    # a checkpoint in the middle of a row
    stop = [lambda row: row["step"] == 5]
    resnets.train(colours, NETWORK, output=old, callbacks=stop, **words)
    values = read_yaml(old / "args.yaml")
    assert values["image_size"] == [32, 32]
    del values["task"], values["phases"], values["settings"]["task"], values["image_size"]
    (old / "args.yaml").write_text(yaml.safe_dump(values))
    for file in (old / "weights").iterdir():
        tensors, metadata = read_model(file)
        assert metadata["image_size"] == [32, 32]
        del metadata["task"], metadata["training"]["task"], metadata["image_size"]
        if "checkpoint" in metadata:
            assert metadata["checkpoint"]["sums"] == {}
            metadata["checkpoint"]["sums"] = [0.0, 0.0, 0.0]
        write_model(file, tensors, metadata)
    assert Spec.read(old / "args.yaml").make_task() == Classification(0.2)
    resume(old, quiet=True)
    assert equal(tensors_of(old), tensors_of(tmp_path / "whole"))
    assert rows_of(old) == rows_of(tmp_path / "whole")


def test_sums_without_names_go_on_as_loss_hits_and_images():
    """Also in the middle of a row."""
    plan = Plan((PlannedPhase(Schedule(0.1, 8, 0)),), 4, 4, 8)
    whole = train_steps(make_state(6), batches(0), Classification(), plan, HOOKS)
    part = make_state(6)
    halted = replace(HOOKS, stopping=lambda: part.step == 3)
    train_steps(part, batches(0), Classification(), plan, halted)
    tensors, rest = pack(part)
    rest["sums"] = [rest["sums"][name] for name in ("loss", "accuracy", "count")]
    assert rest["sums"][2] == 24
    again = make_state(6)
    unpack(again, {name: one.clone() for name, one in tensors.items()}, rest, "accuracy")
    train_steps(again, batches(3), Classification(), plan, HOOKS)
    columns = [key for key in whole.rows[0] if key not in TIMES]
    for row, expected in zip(again.rows, whole.rows, strict=True):
        assert [row.get(key) for key in columns] == [expected.get(key) for key in columns]
    assert np.isfinite(whole.rows[0]["train_accuracy"])

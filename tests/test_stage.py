"""The last stage alone, on the maps before it that the probe leaves in memory."""

import csv
import json
import math
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import resnets
from resnets import ResNet, create_model
from resnets.evaluation.evaluator import Quick
from resnets.models.halves import halve
from resnets.run import probe, stage
from resnets.settings import read_yaml

COMMON = {"model": "resnet20", "size": 32, "batch_size": 16, "quiet": True, "precision": "float32"}


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """Noisy stripes of three directions, and weights to start from."""
    root, rng = tmp_path_factory.mktemp("stage"), np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :48]
    for number in range(150):
        along = (rows, columns, (rows + columns) / 2)[number % 3]
        wave = np.sin(along * rng.uniform(0.3, 0.9) + rng.uniform(0, 6))
        noisy = 128 + 60 * wave[..., None] + rng.normal(0, 50, (48, 48, 3))
        folder = root / "photos" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    torch.manual_seed(0)
    save_file(create_model("resnet20", num_classes=7).state_dict(), root / "first.safetensors")
    return root


def train(stripes, folder, **more):
    options = {"weights": str(stripes / "first.safetensors"), "minutes": 5.0, **COMMON, **more}
    return resnets.train(stripes / "photos", output=folder, **options)


def alone(job, probed, costs):
    """Six epochs of the last stage, as if there were no time for all layers."""
    return replace(job.spec, stage=42, interval=7), None


@pytest.fixture
def no_time_for_more(monkeypatch):
    monkeypatch.setattr(resnets.run, "time_costs", lambda job, exporting: None)
    monkeypatch.setattr(resnets.run, "decide_stage", alone)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet20", "preresnet110", "seresnet50", "resnet50d", "resnet18 attention=eca"],
)
def test_both_halves_are_the_network(name):
    net = create_model(name, num_classes=3).eval()
    front, tail = halve(net)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(tail(front(images)), net(images), atol=1e-6, rtol=1e-5)
    known = {id(one) for one in net.parameters()}
    assert {id(one) for half in (front, tail) for one in half.parameters()} == known
    assert sum(1 for half in (front, tail) for _ in half.parameters()) == len(known)


class Other(ResNet):
    """A network that does more with its input."""

    def forward(self, x):
        return super().forward(x.abs())


class Longer(ResNet):
    """A network that goes through its stages in another way."""

    def forward_stages(self, x):
        return super().forward_stages(x.abs())


@pytest.mark.parametrize(
    "net",
    [
        create_model("densenet121", num_classes=2),
        nn.Sequential(nn.Flatten(), nn.Linear(12, 2)),
        Other(resnets.BasicBlock, [1, 1]),
        Longer(resnets.BasicBlock, [1, 1]),
        ResNet(resnets.BasicBlock, [1]),
    ],
    ids=["densenet", "module", "forward", "stages", "one stage"],
)
def test_what_cannot_be_halved_is_left_whole(net):
    assert halve(net) is None


@pytest.mark.usefixtures("no_time_for_more")
def test_all_before_the_last_stage_stays_as_it_was(stripes, tmp_path):
    run = train(stripes, tmp_path)
    first, best = (
        load_file(path)
        for path in (stripes / "first.safetensors", tmp_path / "weights" / "best.safetensors")
    )
    moved = {name for name in first if not torch.equal(first[name], best[name])}
    assert {name.partition(".")[0] for name in moved} == {"layer3", "fc"}
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["phase"] for row in rows] == ["1", *["2"] * 6]
    assert [row["step"] for row in rows] == [str(7 * epoch) for epoch in range(7)]
    assert run.metrics.accuracy.value >= float(rows[0]["val_accuracy"]) - 1e-6
    report = (tmp_path / "report.html").read_text()
    assert "a linear probe on frozen features, 42 steps of 16 (6.0 epochs) of the last" in report
    assert "last stage, step" in report


@pytest.mark.usefixtures("no_time_for_more")
def test_a_last_stage_that_is_no_better_leaves_the_probe(stripes, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "measure_raw", lambda job, raw: Quick(0.0, 9.0))
    run = train(stripes, tmp_path)
    first = load_file(stripes / "first.safetensors")
    now = run.model.net.state_dict()
    moved = {name for name in first if not torch.equal(first[name], now[name])}
    assert moved == {"fc.weight", "fc.bias"}
    assert run.model.metadata["weights"]["weights"] == "probe"


@pytest.mark.usefixtures("no_time_for_more")
def test_what_diverges_leaves_the_best_before_it(stripes, tmp_path, monkeypatch, capsys):
    map_batches = stage.map_batches

    def spoil(job, probed):
        for step, batch in enumerate(map_batches(job, probed)):
            yield replace(batch, images=batch.images * (torch.nan if step == 9 else 1.0))

    monkeypatch.setattr(stage, "map_batches", spoil)
    run = train(stripes, tmp_path)
    assert "last stage: it diverged: the loss became nan" in flat(capsys.readouterr().err)
    assert "it diverged: the loss became nan" in (run.folder / "report.html").read_text()
    assert all(bool(torch.isfinite(one).all()) for one in run.model.net.state_dict().values())
    assert run.proven.path.is_file()


def flat(text):
    return " ".join(text.split())


@pytest.mark.usefixtures("no_time_for_more")
def test_outputs_that_are_not_finite_are_never_chosen(stripes, tmp_path, monkeypatch):
    judge, asked = stage._judge, []

    def spoil(*given):
        asked.append(given)
        return judge(*given) * (1.0 if len(asked) < 5 else torch.nan)

    monkeypatch.setattr(stage, "_judge", spoil)
    run = train(stripes, tmp_path)
    assert len(asked) == 5  # two of each validation: raw and averaged weights
    assert "outputs in validation are not finite" in (run.folder / "report.html").read_text()
    assert run.model.metadata["weights"]["step"] <= 14
    assert run.proven.path.is_file()


def test_a_run_that_goes_on_without_its_maps_decides_anew(stripes, tmp_path, monkeypatch):
    """On a machine with less memory than that on which it was interrupted."""

    def interrupt(job, raw):
        raise InterruptedError

    with monkeypatch.context() as patched:
        patched.setattr(resnets.run, "time_costs", lambda job, exporting: None)
        patched.setattr(resnets.run, "decide_stage", alone)
        patched.setattr(stage, "measure_raw", interrupt)
        with pytest.raises(InterruptedError):
            train(stripes, tmp_path)
    assert read_yaml(tmp_path / "args.yaml")["stage"] == 42

    def few(job, costs):
        return replace(job.spec, steps=14, interval=7)

    monkeypatch.setattr(probe, "_halved", lambda job, count: None)
    monkeypatch.setattr(resnets.run, "time_costs", lambda job, exporting: None)
    monkeypatch.setattr(resnets.run, "decide_steps", few)
    run = resnets.run.resume(tmp_path, quiet=True)
    args = read_yaml(tmp_path / "args.yaml")
    assert (args["stage"], args["steps"]) == (0, 14)
    assert run.proven.path.is_file()


@pytest.mark.usefixtures("no_time_for_more")
def test_a_callback_ends_it(stripes, tmp_path):
    rows = []

    def stop(row):
        rows.append(row)
        return row["step"] == 14

    run = train(stripes, tmp_path, callbacks=[stop])
    assert [row["step"] for row in rows] == [7, 14]
    assert "ended at step 14 of 42" in (run.folder / "report.html").read_text()


@pytest.mark.usefixtures("no_time_for_more")
def test_an_interrupt_ends_it_with_a_file(stripes, tmp_path, monkeypatch):
    rows = []

    @contextmanager
    def asked():
        yield lambda: len(rows) == 3

    monkeypatch.setattr(stage, "interruptible", asked)  # the signals: test_training.py
    run = train(stripes, tmp_path, callbacks=[rows.append])
    assert "ended at step 21 of 42: it was stopped" in (run.folder / "report.html").read_text()
    assert run.proven.path.is_file()


@pytest.mark.usefixtures("no_time_for_more")
def test_maps_are_those_of_the_images_of_each_step(stripes, tmp_path, monkeypatch):
    """What a step of the last stage sees is what the front makes of its images."""
    seen = []
    map_batches = stage.map_batches

    def keep(job, probed):
        for step, batch in enumerate(map_batches(job, probed)):
            if step == 3:
                images = job.images.batches.images
                places = job.images.batches.places(step)
                seen.append((job, [images.samples[place] for place in places], batch))
            yield batch

    monkeypatch.setattr(stage, "map_batches", keep)
    train(stripes, tmp_path)
    job, samples, batch = seen[0]
    front, value = halve(job.net)[0].eval(), job.spec.preprocessing
    pixels = np.stack([value.pixels(value.open(sample.path)) for sample in samples])
    with torch.no_grad():
        maps = front(torch.from_numpy(value.normalise(pixels)))
    torch.testing.assert_close(batch.images, maps, atol=0.02, rtol=0.01)
    labels = [job.spec.classes.index(sample.labels[0]) for sample in samples]
    assert batch.targets["labels"].tolist() == labels


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, True),
        ({"cache_gb": 0.0}, False),
        ({"freeze": 4}, False),
        ({"epochs": 1, "minutes": None}, False),
    ],
    ids=["maps", "no memory", "frozen", "epochs"],
)
def test_it_is_for_a_time_limit_maps_and_something_to_move(
    stripes, tmp_path, monkeypatch, more, said
):
    """All layers never fit here; the run ends once that is decided."""
    monkeypatch.setattr(stage, "ENOUGH", math.inf)
    decided = []

    def decide(job, *rest):
        other = replace(job, spec=replace(job.spec, stage=7))  # as it was decided elsewhere
        decided.append(decide_stage(other, *rest)[0].stage)
        raise InterruptedError

    decide_stage = stage.decide_stage
    monkeypatch.setattr(resnets.run, "decide_stage", decide)
    with pytest.raises(InterruptedError):
        train(stripes, tmp_path, **more)
    assert (decided[0] > 0) == said


def test_a_time_limit_that_is_too_short_for_all_layers_goes_into_it(stripes, tmp_path, monkeypatch):
    """Steps of all layers are said to take a minute; those of the last stage are timed and paced."""

    def slow(job, exporting):
        return stage.Costs(job.spec.phases, (60.0,), validation=1.0, end=8.0)

    monkeypatch.setattr(resnets.run, "time_costs", slow)
    train(stripes, tmp_path, minutes=0.4)
    args = read_yaml(tmp_path / "args.yaml")
    assert args["stage"] > 0
    assert args["steps"] == 0
    assert "of the last stage alone" in (tmp_path / "report.html").read_text()
    with pytest.raises(ValueError, match="finished"):
        resnets.run.resume(tmp_path)


KILLED = """
import json, os, signal, sys
from dataclasses import replace
import resnets
from resnets.run import stage
count, measure_raw = [0], stage.measure_raw
def measure(*given):
    count[0] += 1
    if count[0] == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return measure_raw(*given)
stage.measure_raw = measure
resnets.run.time_costs = lambda *_: None
resnets.run.decide_stage = lambda job, *_: (replace(job.spec, stage=42, interval=7), None)
resnets.train(sys.argv[1], output=sys.argv[2], **json.loads(sys.argv[4]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", [1, 6])
def test_a_run_killed_in_it_ends_in_the_same_bits(stripes, tmp_path, monkeypatch, where):
    monkeypatch.setattr(resnets.run, "time_costs", lambda job, exporting: None)
    monkeypatch.setattr(resnets.run, "decide_stage", alone)
    options = {"weights": str(stripes / "first.safetensors"), "minutes": 5.0, **COMMON}
    whole = train(stripes, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(stripes / "photos"), str(tmp_path / "killed")]
    ended = subprocess.run([*command, str(where), json.dumps(options)], check=False)
    assert ended.returncode == -signal.SIGKILL
    monkeypatch.setattr(resnets.run, "decide_stage", None)  # it was decided before
    resumed = resnets.run.resume(tmp_path / "killed", quiet=True)
    ours, theirs = (
        load_file(run.folder / "weights" / "best.safetensors") for run in (whole, resumed)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

"""The first model of a run: a linear probe on features of the frozen backbone."""

import copy
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import resnets
from resnets import create_model
from resnets.modelfile import read_model, write_model
from resnets.models.statistics import folded_norms
from resnets.run import featured
from resnets.run.featured import can_probe
from resnets.run.probe import soften
from resnets.runtime.engines import available_engines
from resnets.settings import read_yaml
from resnets.tasks import TASKS
from resnets.tasks.classes import Classification
from resnets.tasks.labels import MultiLabel
from resnets.training.probe import STRENGTHS, Featured, fit_probe


def made_up(n, channels, classes, seed=0, noise=1.0):
    """Features of classes that overlap, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = np.random.default_rng(7).normal(size=(classes, channels))
    features = centres[labels] + noise * rng.normal(size=(n, channels)) * 2
    targets = {"labels": torch.from_numpy(labels)}
    return Featured(torch.from_numpy(features).float(), targets)


def test_no_other_head_has_a_lower_regularised_loss():
    """At a minimum of a convex function the gradient is zero."""
    train, val = made_up(300, 20, 4), made_up(200, 20, 4, seed=1)
    fitted = fit_probe(train, val, 4, Classification().loss)
    mean, scale = train.features.mean(0), train.features.std(0, correction=0) + 1e-6
    weight = (fitted.weight * scale).requires_grad_()
    bias = (fitted.bias + fitted.weight @ mean).requires_grad_()
    inputs = (train.features - mean) / scale
    loss = Classification().loss(inputs @ weight.T + bias, train.targets)["loss"]
    (loss + fitted.strength * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 1e-3
    assert bias.grad.abs().max() < 1e-3
    assert fitted.strength in STRENGTHS


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100), st.floats(0.05, 20), st.floats(-50, 50))
def test_the_scale_of_features_does_not_matter(seed, factor, shift):
    train, val = made_up(120, 6, 3, seed), made_up(90, 6, 3, seed + 1000)

    def moved(part):
        return Featured(part.features * factor + shift, part.targets)

    plain = fit_probe(train, val, 3, Classification().loss)
    other = fit_probe(moved(train), moved(val), 3, Classification().loss)
    before, after = plain(val.features), other(moved(val).features)
    torch.testing.assert_close(before.softmax(1), after.softmax(1), atol=2e-2, rtol=0)


def test_noise_is_held_down_where_there_are_few_images():
    few, val = made_up(30, 200, 3, noise=3), made_up(400, 200, 3, seed=1, noise=3)
    many = made_up(3000, 10, 3)
    assert fit_probe(few, val, 3, Classification().loss).strength > (
        fit_probe(many, made_up(400, 10, 3, seed=1), 3, Classification().loss).strength
    )


def test_labels_are_fitted_by_their_own_loss():
    rng = np.random.default_rng(0)
    truth = rng.random((400, 3)) < 0.5
    features = torch.from_numpy(truth @ rng.normal(size=(3, 8)) + 0.1 * rng.normal(size=(400, 8)))
    targets = {"labels": torch.from_numpy(truth.astype(np.float32))}
    parts = [
        Featured(features[part].float(), {"labels": targets["labels"][part]})
        for part in (slice(300), slice(300, None))
    ]
    fitted = fit_probe(*parts, 3, MultiLabel().loss)
    said = (fitted(parts[1].features) > 0).numpy()
    assert (said == truth[300:]).mean() > 0.95


@pytest.mark.parametrize(
    ("name", "able"), [("resnet18", True), ("densenet121", True), ("preresnet110", True)]
)
def test_networks_of_the_family_can_be_probed(name, able):
    assert can_probe(create_model(name, num_classes=3), TASKS["classes"]()) == able


def test_what_has_no_features_is_not_probed():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    assert not can_probe(net, TASKS["classes"]())


def test_features_are_what_the_head_is_linear_on():
    net, task = create_model("resnet20", num_classes=5).eval(), TASKS["classes"]()
    images = torch.randn(3, 3, 40, 40)
    with torch.no_grad():
        features = task.features(net)(images)
        torch.testing.assert_close(task.head(net)(features), net(images), atol=1e-5, rtol=1e-4)


def test_a_softened_head_says_the_same_less_surely():
    head = nn.Linear(4, 3)
    features, before = torch.randn(20, 4), copy.deepcopy(head)
    soften(head)
    with torch.no_grad():
        assert torch.equal(head(features).argmax(1), before(features).argmax(1))
        assert head(features).softmax(1).max() < before(features).softmax(1).max()


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """Photos of 80 px that show stripes of one of two directions, and weights to start from."""
    root, rng = tmp_path_factory.mktemp("stripes"), np.random.default_rng(0)
    for number in range(120):
        label = ("lying", "standing")[number % 2]
        wave = np.sin(np.arange(80) * rng.uniform(0.3, 0.9) + rng.uniform(0, 6))
        plane = (
            np.broadcast_to(wave, (80, 80))
            if number % 2
            else np.broadcast_to(wave[:, None], (80, 80))
        )
        noisy = 128 + 60 * plane[..., None] + rng.normal(0, 60, (80, 80, 3))
        folder = root / "photos" / label
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        image.save(folder / f"{number}.png")
    torch.manual_seed(0)
    net = create_model("resnet20", num_classes=7)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    save_file(net.state_dict(), root / "first.safetensors")
    return root


COMMON = {"model": "resnet20", "size": 32, "batch_size": 16, "quiet": True}


def test_a_run_starts_from_a_probe_and_ends_no_worse(stripes, tmp_path):
    run = resnets.train(
        stripes / "photos",
        weights=str(stripes / "first.safetensors"),
        epochs=3,
        output=tmp_path / "run",
        **COMMON,
    )
    args = read_yaml(tmp_path / "run" / "args.yaml")
    assert args["probe"] is True
    rows = (tmp_path / "run" / "results.csv").read_text().splitlines()
    first = dict(zip(rows[0].split(","), rows[1].split(","), strict=True))
    assert (first["step"], first["phase"]) == ("0", "1")
    assert {line.split(",")[rows[0].split(",").index("phase")] for line in rows[2:]} == {"2"}
    assert run.metrics.accuracy.value >= float(first["val_accuracy"]) - 1e-6
    assert float(first["val_accuracy"]) > 0.55  # of random features


def test_no_time_for_more_leaves_the_probe(stripes, tmp_path):
    run = resnets.train(
        stripes / "photos",
        weights=str(stripes / "first.safetensors"),
        minutes=0.1,
        started=time.monotonic() - 5.9,
        output=tmp_path / "run",
        **COMMON,
    )
    said = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert said["stopped"] is False
    assert run.proven.path.is_file()
    assert "linear probe" in (tmp_path / "run" / "report.html").read_text()
    with pytest.raises(ValueError, match="finished"):
        resnets.run.resume(tmp_path / "run")


def test_the_recipe_of_a_probe_stops_after_it(stripes, tmp_path):
    weights = str(stripes / "first.safetensors")
    folder = tmp_path / "run"
    run = resnets.train(
        stripes / "photos", weights=weights, recipe="probe", output=folder, **COMMON
    )
    args = read_yaml(folder / "args.yaml")
    assert (args["probe"], args["steps"], args["settings"]["recipe"]) == (True, 0, "probe")
    assert len((folder / "results.csv").read_text().splitlines()) == 2
    assert run.proven.path.is_file()
    tensors = load_file(folder / "weights" / "best.safetensors")
    first = load_file(weights)
    same = {
        name
        for name in first
        if torch.equal(tensors[name].view(-1)[:14], first[name].view(-1)[:14])
    }
    assert first.keys() - same == {"fc.weight", "fc.bias"}
    with pytest.raises(ValueError, match="finished"):
        resnets.run.resume(folder)


def test_a_rate_that_is_found_after_the_probe_makes_the_run_that_it_makes_if_given(
    stripes, tmp_path
):
    # the precision would be decided by timing a step, for each run anew
    options = {"weights": str(stripes / "first.safetensors"), "epochs": 1, **COMMON}
    options["precision"] = "float32"
    found, given = tmp_path / "found", tmp_path / "given"
    resnets.train(stripes / "photos", output=found, find_lr=True, **options)
    rate = read_yaml(found / "args.yaml")["settings"]["lr"]
    resnets.train(stripes / "photos", output=given, lr=rate, **options)
    first, other = (
        read_model(folder / "weights" / "last.safetensors")[0] for folder in (found, given)
    )
    assert first.keys() == other.keys()
    assert all(torch.equal(first[name], other[name]) for name in first)


def test_an_earlier_run_leaves_nothing_behind(stripes, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "suspects.csv").write_text("of an earlier run")
    (folder / "summary.json").write_text('{"stopped": false}')
    options = {"weights": str(stripes / "first.safetensors"), "epochs": 1, **COMMON}

    def stop(row):
        return True

    run = resnets.train(
        stripes / "photos", output=folder, exist_ok=True, callbacks=[stop], **options
    )
    assert json.loads((folder / "summary.json").read_text())["stopped"] is True
    suspects = folder / "suspects.csv"
    assert not suspects.exists() or "earlier" not in suspects.read_text()
    assert run.proven.path.is_file()


def test_other_weights_than_the_first_ones_are_refused(stripes, tmp_path):
    options = {"weights": str(stripes / "first.safetensors"), "epochs": 1, **COMMON}
    run = resnets.train(stripes / "photos", output=tmp_path / "run", **options)
    (run.folder / "summary.json").unlink()
    other = create_model("resnet32", num_classes=2)
    _, metadata = read_model(run.folder / "weights" / "last.safetensors")
    kept = {key: value for key, value in metadata.items() if key != "checkpoint"}
    write_model(run.folder / "weights" / "last.safetensors", other.state_dict(), kept)
    with pytest.raises(ValueError, match="not the first weights"):
        resnets.run.resume(run.folder, quiet=True)


def test_a_head_that_came_trained_is_kept(stripes, tmp_path):
    options = {**COMMON, "epochs": 1}
    first = resnets.train(stripes / "photos", weights="none", output=tmp_path / "a", **options)
    weights = str(first.folder / "weights" / "best.safetensors")
    resnets.train(stripes / "photos", weights=weights, output=tmp_path / "b", **options)
    assert read_yaml(tmp_path / "b" / "args.yaml")["probe"] is False


KILLED = """
import json, sys, resnets, resnets.run.probe as probe, resnets.training.loop as loop
folder, weights, where = sys.argv[1:4]
import os, signal
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if where == "features":
    resnets.run.probe.find_features = kill
elif where == "fitted":
    resnets.run.probe.export_outcome = kill
elif where == "probed":
    resnets.run.carry_out = kill
else:
    step, count, carry_out = loop._step, int(where), resnets.run.carry_out
    def counted(state, *rest):
        if state.step == count:
            kill()
        return step(state, *rest)
    def carried(*rest):
        loop._step = counted  # not in trials
        return carry_out(*rest)
    resnets.run.carry_out = carried
more = {"epochs": 2, **json.loads(sys.argv[5])}
resnets.train(sys.argv[4], "resnet20", weights=weights, size=32, batch_size=16, output=folder,
              quiet=True, **more)
"""
MEANS = {
    **{"optimizer": "lamb", "clip": 1.0, "layer_decay": 0.8, "accumulate": 2, "freeze": 1},
    **{"mixup": 0.2, "cutmix": 1.0, "augment": "rand", "erase": 0.5, "loss": "bce"},
    **{"dropout": 0.2, "stochastic_depth": 0.3, "epochs": 6, "precision": "float32"},
}


@pytest.mark.slow
@pytest.mark.parametrize("where", ["features", "fitted", "probed", "0", "7"])
@pytest.mark.parametrize(
    "more",
    [{"precision": "float32"}, {"precision": "bfloat16"}, MEANS, {**MEANS, "augment": "trivial"}],
    ids=["float32", "bfloat16", "means", "trivial"],
)
def test_a_run_killed_in_any_phase_ends_in_the_same_bits(stripes, tmp_path, where, more):
    compare_killed(stripes, str(stripes / "first.safetensors"), tmp_path, where, more)


def compare_killed(stripes, weights, tmp_path, where, more):
    """A run and the same that was killed and resumed, which end in the same bits."""
    data, options = str(stripes / "photos"), {"weights": weights, "epochs": 2, **COMMON, **more}
    whole = resnets.train(data, output=tmp_path / "whole", **options)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    command += [weights, where, data, json.dumps(more)]
    ended = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert ended.returncode == -signal.SIGKILL
    resumed = resnets.run.resume(tmp_path / "killed", quiet=True)
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = (load_file(run.folder / "weights" / name) for run in (whole, resumed))
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert torch.equal(ours[key], theirs[key]), (name, key)
    return whole, resumed


@pytest.fixture(scope="module")
def folded(stripes):
    """The first weights with statistics as `folded_norms` finds them."""
    state = load_file(stripes / "first.safetensors")
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.zero_()
        elif name.endswith("running_var"):
            tensor.fill_(1 - 1e-5)
    save_file(state, stripes / "folded.safetensors")
    return str(stripes / "folded.safetensors")


def test_a_probe_does_not_wait_for_statistics_and_its_file_has_them(
    stripes, folded, tmp_path, capsys
):
    options = {**COMMON, "recipe": "probe", "weights": folded, "quiet": False}
    run = resnets.train(stripes / "photos", output=tmp_path, **options)
    said = capsys.readouterr().err
    assert 0 < said.index("usable after") < said.index("statistics re-estimated on 96 training")
    assert not folded_norms(run.model.net)
    weights = load_file(run.folder / "weights" / "best.safetensors")
    assert not (weights["bn1.running_mean"] == 0).any()


@pytest.mark.parametrize("where", ["fitted", "probed", "0"])
def test_a_run_from_folded_statistics_that_is_killed_ends_in_the_same_bits(
    stripes, folded, tmp_path, where
):
    more = {"epochs": 1, "precision": "float32"}
    runs = compare_killed(stripes, folded, tmp_path, where, more)
    origins = [read_yaml(run.folder / "args.yaml")["weights"] for run in runs]
    assert origins[0] == origins[1]
    assert origins[0].count("re-estimated") == 1


def test_features_of_a_probe_are_found_once(stripes, tmp_path, monkeypatch):
    """Where nothing follows it, what is found by them afterwards takes those that are known."""
    looked = []
    look = featured._look

    def count(spec, compute, images, *more, **options):
        looked.append(len(images))
        return look(spec, compute, images, *more, **options)

    compiled = []
    compile_module = featured.compile_module

    def keep(*inputs):
        compiled.append(compile_module(*inputs))
        return compiled[-1]

    monkeypatch.setattr(featured, "_look", count)
    monkeypatch.setattr(featured, "compile_module", keep)
    run = resnets.train(
        stripes / "photos",
        weights=str(stripes / "first.safetensors"),
        recipe="probe",
        output=tmp_path / "run",
        **COMMON,
    )
    assert sum(looked) == 120
    if "openvino" in available_engines():
        assert compiled
        assert None not in compiled
    report = (run.folder / "report.html").read_text()
    assert "familiar" in report
    assert (run.folder / "suspects.csv").is_file()

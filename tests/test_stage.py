"""The last stage alone, on the maps before it that the probe leaves in memory."""

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
from resnets.run import stage
from resnets.settings import read_yaml

COMMON = {"model": "resnet20", "size": 32, "batch_size": 16, "quiet": True, "precision": "float32"}


class Stop(Exception):
    """Takes the place of training all layers."""

    def __init__(self, job, reached, pacing=None):
        super().__init__()
        self.job, self.reached = job, reached


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
    options = {"weights": str(stripes / "first.safetensors"), "epochs": 1, **COMMON, **more}
    return resnets.train(stripes / "photos", output=folder, **options)


def before_all_layers(monkeypatch, stripes, folder, **more):
    """A run in its state before the first step of all layers."""

    def stop(*given):
        raise Stop(*given)

    monkeypatch.setattr(resnets.run, "carry_out", stop)
    with pytest.raises(Stop) as stopped:
        train(stripes, folder, **more)
    return stopped.value


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


@pytest.mark.parametrize(
    "net",
    [
        create_model("densenet121", num_classes=2),
        nn.Sequential(nn.Flatten(), nn.Linear(12, 2)),
        Other(resnets.BasicBlock, [1, 1]),
        ResNet(resnets.BasicBlock, [1]),
    ],
    ids=["densenet", "module", "subclass", "one stage"],
)
def test_what_cannot_be_halved_is_left_whole(net):
    assert halve(net) is None


def test_all_before_the_last_stage_stays_as_it_was(stripes, tmp_path, monkeypatch):
    stopped = before_all_layers(monkeypatch, stripes, tmp_path)
    first, now = load_file(stripes / "first.safetensors"), stopped.job.net.state_dict()
    moved = {name for name in first if not torch.equal(first[name], now[name])}
    assert stopped.reached.best["weights"] == "last stage"
    assert {name.partition(".")[0] for name in moved} == {"layer3", "fc"}
    best = load_file(tmp_path / "weights" / "best.safetensors")
    assert all(torch.equal(best[name], now[name]) for name in first)
    assert [row["phase"] for row in stopped.reached.rows] == [1, 2]
    assert {row["step"] for row in stopped.reached.rows} == {0}


def test_a_last_stage_that_is_no_better_leaves_the_probe(stripes, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "measure_raw", lambda job, raw: Quick(0.0, 9.0))
    stopped = before_all_layers(monkeypatch, stripes, tmp_path)
    assert stopped.reached.best["weights"] == "probe"
    best, now = load_file(tmp_path / "weights" / "best.safetensors"), stopped.job.net.state_dict()
    assert all(torch.equal(best[name], now[name]) for name in best)


def test_a_last_stage_that_diverges_leaves_the_probe(stripes, tmp_path, monkeypatch, capsys):
    map_batches = stage.map_batches

    def spoil(job, probed):
        for step, batch in enumerate(map_batches(job, probed)):
            yield replace(batch, images=batch.images * (torch.nan if step == 9 else 1.0))

    monkeypatch.setattr(stage, "map_batches", spoil)
    stopped = before_all_layers(monkeypatch, stripes, tmp_path, quiet=False)
    assert "last stage: the loss became nan" in " ".join(capsys.readouterr().err.split())
    now = stopped.job.net.state_dict()
    assert all(bool(torch.isfinite(one).all()) for one in now.values())
    best = load_file(tmp_path / "weights" / "best.safetensors")
    assert all(torch.equal(best[name], now[name]) for name in best)


@pytest.mark.parametrize("more", [{"cache_gb": 0.0}, {"freeze": 4}], ids=["memory", "frozen"])
def test_there_is_none_without_memory_or_anything_to_move(stripes, tmp_path, more):
    train(stripes, tmp_path, **more)
    assert read_yaml(tmp_path / "args.yaml")["stage"] == 0


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
    stopped = before_all_layers(monkeypatch, stripes, tmp_path)
    (job, samples, batch), front = seen[0], halve(stopped.job.net)[0].eval()
    value = job.spec.preprocessing
    pixels = np.stack([value.pixels(value.open(sample.path)) for sample in samples])
    with torch.no_grad():
        maps = front(torch.from_numpy(value.normalise(pixels)))
    torch.testing.assert_close(batch.images, maps, atol=0.02, rtol=0.01)
    labels = [job.spec.classes.index(sample.labels[0]) for sample in samples]
    assert batch.targets["labels"].tolist() == labels


def test_a_time_limit_that_is_too_short_for_all_layers_goes_into_the_last_stage(
    stripes, tmp_path, monkeypatch
):
    """Steps of all layers are said to take long; those of the last stage are as they are."""
    costs = stage.Costs(phases=(), steps=(60.0,), validation=1.0, end=8.0)
    monkeypatch.setattr(stage.Costs, "steps_within", lambda self, seconds, per_epoch: (0, 1))
    monkeypatch.setattr(resnets.run, "time_costs", lambda job, exporting: costs)
    train(stripes, tmp_path, epochs=None, minutes=0.4)
    args = read_yaml(tmp_path / "args.yaml")
    assert args["stage"] > stage.EPOCHS * (120 // 16)
    assert args["steps"] == 0
    assert "steps of the last stage alone" in (tmp_path / "report.html").read_text()

"""BatchNorm statistics that are measured anew before each validation."""

import csv
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="training install")

from torch import nn  # noqa: E402

import resnets  # noqa: E402
from resnets.data.loader import PreparedImages  # noqa: E402
from resnets.modelfile import load_model, read_model  # noqa: E402
from resnets.models.statistics import measure_statistics  # noqa: E402
from resnets.run import norms as measuring  # noqa: E402
from resnets.run import validation  # noqa: E402
from resnets.run.folder import RunFolder  # noqa: E402
from resnets.run.norms import images_for_norms, measure_norms  # noqa: E402
from resnets.training.settings import TrainSettings  # noqa: E402

TINY = "resnet18 depths=1-1 widths=8-16"
MEASURED = {
    "weights": "none", "size": 32, "batch_size": 8, "quiet": True, "norms": "measured", "lr": 0.1,
}  # fmt: skip


def norms_of(net):
    return [one for one in net.modules() if isinstance(one, nn.BatchNorm2d)]


def test_statistics_are_the_mean_of_those_of_the_batches():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9))
    net.train()
    net[1].num_batches_tracked.fill_(7)
    batches = [torch.randn(5, 3, 8, 8) * scale for scale in (1, 3)]
    measure_statistics(net, batches)
    with torch.no_grad():
        maps = [net[0](one).transpose(0, 1).flatten(1) for one in batches]
    mean = torch.stack([one.mean(1) for one in maps]).mean(0)
    variance = torch.stack([one.var(1) for one in maps]).mean(0)
    torch.testing.assert_close(net[1].running_mean, mean)
    torch.testing.assert_close(net[1].running_var, variance)
    assert (net[1].momentum, int(net[1].num_batches_tracked)) == (0.1, 7)
    assert all(module.training for module in net.modules())


def test_nothing_random_enters_and_a_single_image_beside_others_is_left_out():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    net = nn.Sequential(nn.Dropout(0.5), norm, nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    batches = [torch.randn(4, 3, 2, 2), torch.full((1, 3, 2, 2), 1e6)]
    measure_statistics(net, batches)
    torch.testing.assert_close(norm.running_mean, batches[0].mean((0, 2, 3)))


def test_the_best_weights_have_the_statistics_of_training_images(colours, tmp_path, monkeypatch):
    seen, known = [], []

    def measure(spec, net, images):
        measure_norms(spec, net, images)
        assert {sample.split for sample in images.samples} == {"train"}
        seen.append(len(images))
        known.append([one.running_mean.clone() for one in norms_of(net)])

    monkeypatch.setattr(validation, "measure_norms", measure)
    run = resnets.train(colours, TINY, output=tmp_path / "run", epochs=2, **MEASURED)
    folder = RunFolder(run.folder)
    rows = [row for row in csv.DictReader(folder.results.open()) if row["val_loss"]]
    assert len(seen) == 2 * len(rows)  # raw and averaged weights
    kept = [one.running_mean for one in norms_of(load_model(folder.best).net)]
    alike = [
        all(torch.equal(one, other) for one, other in zip(kept, some, strict=True))
        for some in known
    ]
    assert any(alike)


@pytest.mark.parametrize("stop", [1, 2])
def test_a_stopped_run_goes_on_to_the_same_bits(colours, tmp_path, stop):
    whole = resnets.train(colours, TINY, output=tmp_path / "whole", epochs=4, **MEASURED)
    rows = []

    def end(row):
        rows.append(row)
        return len(rows) == stop

    settings = {"epochs": 4, "callbacks": [end], **MEASURED}
    resnets.train(colours, TINY, output=tmp_path / "stopped", **settings)
    again = resnets.run.resume(tmp_path / "stopped", quiet=True)
    first, second = (read_model(RunFolder(one.folder).best)[0] for one in (whole, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_no_more_images_than_are_validated_on(monkeypatch):
    asked = []
    monkeypatch.setattr(PreparedImages, "spread", lambda self, count: asked.append(count))
    spec = SimpleNamespace(preprocessing=None, sampling=None, settings=TrainSettings(""))
    for validated, expected in ((3, measuring.LEAST), (100, 100), (10**5, measuring.IMAGES)):
        images_for_norms(spec, [], validated)
        assert asked.pop() == expected


def test_what_is_frozen_is_not_measured(colours, tmp_path):
    with pytest.raises(ValueError, match=r"norms=measured with freeze=1.*norms=train"):
        resnets.train(colours, TINY, output=tmp_path / "run", epochs=1, freeze=1, **MEASURED)
    assert not (tmp_path / "run").exists()

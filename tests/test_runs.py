"""Runs from the outside: one folder for one run, numbers that are none, first weights with folded
statistics, files that were altered, and what is refused before the work."""

import csv
import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import resnets
from resnets.data.loader import PreparedImages
from resnets.data.sources import find_data
from resnets.data.splits import check_split, read_split, split_csv
from resnets.evaluation.classes import ClassEvidence, doubts
from resnets.files import Locked, content_digest, write_file
from resnets.kinds import KINDS
from resnets.modelfile import Model, read_model, write_model
from resnets.models import create_model
from resnets.models.statistics import folded_norms, unfold_statistics
from resnets.preprocessing import Preprocessing
from resnets.run import resume
from resnets.run.folder import RunFolder, choose_folder, claim, claimed, held
from resnets.run.outcome import NotFinite, measure_model
from resnets.run.rehearsal import memory_explained
from resnets.run.spec import Spec
from resnets.settings import convert, read_yaml
from resnets.training.loop import Diverged, unsound
from resnets.training.settings import TrainSettings

SMALL = {"size": 16, "weights": "none", "quiet": True, "batch_size": 8}
NETWORK = "resnet20 depths=1-1-1"


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


# --- one folder for one run


def test_a_folder_belongs_to_one_run_and_is_free_again_after_it(tmp_path):
    path = tmp_path / "deep" / "run"
    with claimed(path) as folder:
        for exist_ok in (False, True):
            with pytest.raises(Locked, match="another process is at work"), claimed(path, exist_ok):
                raise AssertionError("both hold it")
        folder.args.write_text("mine")
    assert files_of(path) == {"args.yaml": b"mine"}
    with pytest.raises(ValueError, match="not empty"), claimed(path):
        raise AssertionError("it holds something")
    with claimed(path, exist_ok=True):
        pass


@pytest.mark.parametrize("there", [False, True])
def test_a_refused_start_leaves_no_folder_and_an_empty_one_stays(tmp_path, there):
    path = tmp_path / "deep" / "run"
    if there:
        path.mkdir(parents=True)
    with pytest.raises(KeyError), claimed(path):
        raise KeyError
    assert path.exists() == there
    assert list(tmp_path.rglob("*")) == ([tmp_path / "deep", path] if there else [])


def test_a_lock_that_a_killed_run_left_is_no_content(tmp_path):
    (tmp_path / ".lock").touch()
    assert choose_folder(tmp_path, None, False) == tmp_path
    with claimed(tmp_path):
        pass


def test_runs_that_want_the_next_number_at_once_get_different_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        taken = [stack.enter_context(claim(None, None, False)).path.name for _ in range(3)]
    assert taken == ["1", "2", "3"]


def test_a_number_that_is_taken_in_between_is_left_to_the_other(tmp_path, monkeypatch):
    """The other run comes between looking and making."""
    monkeypatch.chdir(tmp_path)
    choose, calls = choose_folder, []

    def late(*arguments):
        path = choose(*arguments)
        if not calls:
            calls.append(path)
            path.mkdir(parents=True)
        return path

    monkeypatch.setattr("resnets.run.folder.choose_folder", late)
    with claim(None, None, False) as folder:
        assert (calls[0].name, folder.path.name) == ("1", "2")


HOLD = """
import sys
from pathlib import Path
from resnets.run.folder import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_keeps_a_run_out_until_it_is_killed(colours, tmp_path):
    path = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="another process is at work"):
        resnets.train(colours, NETWORK, epochs=1, output=path, **SMALL)
    process.kill()
    process.wait(30)
    with claimed(path):
        pass


# --- numbers that are none


class Overflowing(nn.Module):
    """In training it says 'blue' and then, from a step on, spoils what validation will use."""

    def __init__(self, step, spoil):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.head, self.left, self.spoil = nn.Linear(8, 2), step, spoil

    def forward(self, x):
        if self.training and torch.is_grad_enabled() and x.shape[0] == 8:
            self.left -= 1
            if self.left < 0:
                self.spoil(self)
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


def spoil_statistics(net):
    net.norm.running_var.fill_(float("nan"))


def spoil_to_infinity(net):
    net.norm.running_var.fill_(float("inf"))


@pytest.mark.parametrize("spoil", [spoil_statistics, spoil_to_infinity])
def test_a_run_that_diverges_ends_with_its_last_good_weights(colours, tmp_path, spoil):
    output = tmp_path / "run"
    with pytest.raises(Diverged, match=r"learning rate 0\.001; try --lr 0\.0001.*of step 3"):
        resnets.train(
            colours, Overflowing(4, spoil), epochs=4, lr=1e-3, output=output, warmup=0, **SMALL
        )
    for name in ("best", "last"):
        tensors = read_model(output / "weights" / f"{name}.safetensors")[0]
        assert all(tensor.isfinite().all() for tensor in tensors.values())
    rows = list(csv.DictReader((output / "results.csv").read_text().splitlines()))
    assert all(row["val_loss"] != "nan" for row in rows)
    assert "the training diverged" in (output / "report.html").read_text()
    assert resnets.load(output / "colours.onnx").classes == ("blue", "red")
    summary = json.loads((output / "summary.json").read_text())
    assert "running_var" in summary["diverged"]
    with pytest.raises(ValueError, match=r"diverged and would do so again.*--weights"):
        resume(output, Overflowing(4, spoil))


@pytest.mark.parametrize("stop", [False, True])
def test_a_run_without_good_weights_leaves_nothing(colours, tmp_path, stop):
    with pytest.raises(Diverged, match="learning rate"):
        resnets.train(
            colours,
            Overflowing(0, spoil_statistics),
            epochs=4,
            output=tmp_path / "run",
            # stopped before its first validation, too
            callbacks=[lambda row: stop],
            **SMALL,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_rate_that_is_too_high_is_named(colours, tmp_path):
    with pytest.raises(Diverged, match=r"learning rate 100; try --lr 10"):
        resnets.train(
            colours, NETWORK, epochs=3, lr=100, warmup=0, output=tmp_path / "run", **SMALL
        )
    assert list(tmp_path.iterdir()) == []


def test_infinity_is_a_fault_in_weights_and_statistics_and_a_custom_in_masks():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net.register_buffer("mask", torch.full((2, 2), -torch.inf))
    assert unsound(net) is None
    net[1].running_var[0] = torch.inf
    assert unsound(net) == "1.running_var"
    net[1].running_var[0] = 1
    net[0].weight.data[0, 0] = torch.inf
    assert unsound(net) == "0.weight"
    net[0].weight.data[0, 0] = 1
    net.mask[0, 0] = torch.nan
    assert unsound(net) == "mask"


def test_first_weights_with_nan_are_refused_before_the_work(colours, tmp_path):
    net = create_model("resnet20", num_classes=2)
    net.conv1.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"conv1\.weight holds NaN or infinity"):
        resnets.train(colours, net, epochs=1, output=tmp_path / "run", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_says_nan_is_not_measured(colours, tmp_path):
    net = create_model("resnet20", num_classes=2)
    net.fc.bias.data.fill_(torch.nan)
    model = Model(net, ("blue", "red"), Preprocessing.square(16), {"name": "resnet20"})
    samples = find_data(colours).samples
    with pytest.raises(NotFinite, match=r"blue/00\.png are not finite"):
        measure_model(model, PreparedImages(samples, model.preprocessing, 0))


def test_what_is_large_of_a_prediction_is_let_go(colours):
    """Of hundreds of thousands of images, neither pixels nor the maps of all classes are kept."""
    torch.manual_seed(0)
    net = create_model("resnet20", num_classes=2)
    model = Model(net, ("blue", "red"), Preprocessing.square(32), {"name": "resnet20"})
    samples = find_data(colours).samples
    told: list[int] = []
    measured = measure_model(model, PreparedImages(samples, model.preprocessing, 0), told.append)
    assert told[-1] == measured.metrics.n == len(samples)
    assert [one.file for one in measured.predictions] == [sample.name for sample in samples]
    for prediction, heat in zip(measured.predictions, measured.maps, strict=True):
        assert (prediction.embedding, prediction.heat) == (None, None)
        assert (heat.dtype, heat.ndim, heat.base) == (np.float16, 2, None)
    header, first, *_ = measured.to_csv().splitlines()
    assert header == "file,label,predicted,probability,label_probability"
    said = measured.predictions[0]
    own = said.probabilities[0]
    assert first == f"blue/00.png,blue,{said.label},{said.probability:.6f},{own:.6f}"


def test_an_image_that_became_unreadable_is_named(tmp_path):
    data = write_pictures(tmp_path / "colours", count=1)
    samples = find_data(data).samples
    samples[0].path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"blue/00\.png: .*put it back"):
        PreparedImages(samples, Preprocessing.square(16), 0).read(0)


# --- folded statistics


def folded(words="resnet20 depths=1-1-1", classes=4, seed=0):
    """A network with statistics as trained ones have, and the same with them folded."""
    torch.manual_seed(seed)
    net = create_model(words, num_classes=classes)
    images = torch.randn(16, 3, 64, 64)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the mean over all batches
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        net.train()(images)
        net.eval()
        expected = net(images)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1
                scale = module.weight / (module.running_var + module.eps).sqrt()
                module.bias -= scale * module.running_mean
                module.weight.copy_(scale)
                module.running_mean.zero_()
                module.running_var.fill_(1 - 1e-5)
    return net, images, expected


@pytest.mark.parametrize(
    "words", ["resnet20", "resnet26", "preresnet110 depths=1-1-1", "densenet121", "seresnet50"]
)
def test_statistics_are_re_estimated_and_the_logits_stay(words):
    net, images, expected = folded(words)
    norms = folded_norms(net)
    assert norms
    with torch.no_grad():
        assert (net(images) - expected).abs().max() < 1e-3 * expected.abs().max().clamp(min=1)
        before = net(images)
        inputs = {}
        for norm in norms:
            norm.register_forward_hook(lambda n, given, out: inputs.__setitem__(n, given[0]))
        net.train()
        assert unfold_statistics(net, images.split(5)) == len(norms)  # unequal batches
        assert net.training
        after = net.eval()(images)
    assert (after - before).abs().max() <= 1e-4 * before.abs().max().clamp(min=1)
    assert not folded_norms(net)
    for norm in norms:
        values = inputs[norm].double().transpose(0, 1).flatten(1)
        scale = values.std(1).max().item() + 1e-3
        assert torch.allclose(norm.running_mean.double(), values.mean(1), atol=1e-4 * scale)
        variance = values.var(1, correction=0)
        assert torch.allclose(norm.running_var.double(), variance, rtol=1e-3, atol=1e-6 * scale**2)


def test_norms_with_statistics_of_their_own_and_unused_ones_stay():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    net[0].running_mean.fill_(0.3)
    net.unused = nn.ModuleList([nn.BatchNorm2d(3)])
    net.unused[0].running_var.fill_(1 - 1e-5)
    assert folded_norms(net) == [net.unused[0]]
    net.forward = lambda x: net[1](net[0](x))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert unfold_statistics(net, [torch.randn(4, 3, 5, 5)]) == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("norms", ["frozen", "train"])
def test_fine_tuning_from_folded_weights_says_so_and_does_not_collapse(
    colours, tmp_path, capsys, norms
):
    net, _, _ = folded(NETWORK, classes=2)
    torch.save(net.state_dict(), tmp_path / "folded.pth")
    run = resnets.train(
        colours,
        NETWORK,
        epochs=6,
        norms=norms,
        lr=0.02,
        output=tmp_path / "run",
        **{**SMALL, "weights": str(tmp_path / "folded.pth"), "quiet": False},
    )
    said = " ".join(capsys.readouterr().err.split())
    assert "BatchNorm statistics re-estimated on 26 training images" in said
    assert "re-estimated" in Spec.read(run.folder / "args.yaml").weights
    assert run.metrics.accuracy.value == 1.0
    assert not folded_norms(run.model.net)


# --- a validation at the majority's share


def rows_of(*accuracies):
    return [{"val_accuracy": a, "val_accuracy_ema": a} for a in accuracies] + [
        {"val_accuracy": None, "val_accuracy_ema": None}
    ]


def test_a_validation_at_the_majority_share_is_doubted():
    evidence = [ClassEvidence(label, np.eye(2)[label]) for label in [0] * 60 + [1] * 40]
    (said,) = doubts(rows_of(0.6, 0.6, 0.62), evidence, ("ants", "bees"))
    assert "60.0%" in said
    assert "ants" in said
    assert all(word in said for word in ("learning rate", "labels", "BatchNorm"))
    (said,) = doubts(rows_of(0.9, 0.7, 0.6), evidence, ("ants", "bees"))
    assert "fell from 90.0% to 60.0%" in said
    assert not doubts(rows_of(0.6, 0.8, 0.85), evidence, ("ants", "bees"))
    assert not doubts([], evidence, ("ants", "bees"))


def test_what_was_learnt_by_heart_is_not_called_nothing():
    evidence = [ClassEvidence(label, np.eye(2)[label]) for label in [0] * 60 + [1] * 40]
    for share, expected in ((1.0, "does not carry over"), (0.7, "next to nothing")):
        rows = [*rows_of(0.5, 0.6), *[{"train_accuracy": share}] * 10]
        (said,) = doubts(rows, evidence, ("ants", "bees"))
        assert expected in said
        assert "60.0%" in said


def test_the_doubt_stands_on_the_screen_in_the_report_and_on_the_card(colours, tmp_path, capsys):
    run = resnets.train(colours, NETWORK, epochs=1, lr=1e-8, output=tmp_path / "run", **SMALL)
    assert run.metrics.accuracy.value <= 0.7
    for text in (
        " ".join(capsys.readouterr().err.split()),
        (run.folder / "report.html").read_text(),
        (run.folder / "model_card.md").read_text(),
    ):
        assert "never rose clearly above" in text


# --- a resumed run, and what was altered in between


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that a callback stopped after its first row, and its data."""
    root = tmp_path_factory.mktemp("stopped")
    data = write_pictures(root / "colours")
    resnets.train(
        data, NETWORK, epochs=2, output=root / "run", callbacks=[lambda row: True], **SMALL
    )
    return data, root / "run"


@pytest.fixture
def halted(stopped, tmp_path):
    """A copy of that run with data of its own."""
    import shutil

    data, run = stopped
    shutil.copytree(data, tmp_path / "colours")
    shutil.copytree(run, tmp_path / "run")
    split = tmp_path / "run" / "split.csv"
    split.write_text(split.read_text().replace(str(data), str(tmp_path / "colours")))
    return tmp_path / "colours", tmp_path / "run"


def test_a_stopped_run_goes_on_when_nothing_changed(halted):
    _, run = halted
    assert resume(run, quiet=True).metrics.n == 6
    assert not (run / ".lock").exists()


def test_images_that_changed_or_are_gone_are_named(halted):
    data, run = halted
    changed, gone = data / "blue" / "03.png", data / "red" / "04.png"
    content = changed.read_bytes()
    changed.write_bytes(content[:-1] + b"\0")  # of the same size
    gone.unlink()
    before = files_of(run)
    with pytest.raises(ValueError, match="other images") as error:
        resume(run)
    assert all(str(path) in str(error.value) for path in (changed, gone))
    assert "Put them back" in str(error.value)
    assert files_of(run) == before


def test_a_resumed_run_keeps_others_out(halted):
    _, run = halted
    with held(RunFolder(run), "wait"), pytest.raises(Locked, match="at work"):
        resume(run)


def test_tables_of_older_runs_have_no_digests(tmp_path):
    data = write_pictures(tmp_path / "colours", count=2)
    samples = list(find_data(data).samples)
    digests = {sample.path: content_digest(sample.path).hex() for sample in samples}
    write_file(tmp_path / "split.csv", split_csv(samples, digests))
    check_split(tmp_path / "split.csv")
    with (tmp_path / "split.csv").open(newline="") as file:
        rows = [row[:5] for row in csv.reader(file)]
    with (tmp_path / "old.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    samples[0].path.write_bytes(b"another")
    assert read_split(tmp_path / "old.csv") == samples
    check_split(tmp_path / "old.csv")
    with pytest.raises(ValueError, match="1 changed"):
        check_split(tmp_path / "split.csv")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
ODD = ["", "{}", "[]", "3", "null", "\0", "[" * 100_000, '{"a": ' * 50_000, BOMB, "a,b\n1,2\n", '"']


@pytest.mark.parametrize("name", ["args.yaml", "split.csv", "summary.json"])
@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_a_file_of_a_run_that_is_odd_is_refused_by_name(halted, name, text):
    _, run = halted
    (run / name).write_text(text)
    before = files_of(run)
    with pytest.raises(ValueError, match=r"(?s).") as error:
        resume(run)
    assert type(error.value) is ValueError
    assert str(run / name) in str(error.value)
    assert any(cure in str(error.value) for cure in ("restore", "mapping", "YAML"))
    assert files_of(run) == before


CHANGES = {
    "steps": ["many", -1, True, None, 10**12],
    "classes": [None, ["blue"], ["blue", 3], ["blue", "blue"], {"blue": 1}],
    "network": [[], {"kind": "family"}, {"kind": 1, "name": 2, "classes": 3, "channels": 4}],
    "settings": [None, {}, {"data": ["x"]}, {"data": "x", "lr": None}, {"data": "x", "lrr": 1}],
    "preprocessing": [None, {"size": "x"}, {"mean": 3}, []],
    "findings": [None, [3], [["a"]], "text"],
    "weights": [None, 3],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in CHANGES.items() for value in values]
)
def test_args_of_another_shape_are_refused(stopped, tmp_path, key, value):
    import yaml

    values = read_yaml(stopped[1] / "args.yaml")
    path = tmp_path / "args.yaml"
    path.write_text(yaml.safe_dump({**values, key: value}))
    with pytest.raises(ValueError, match=r"args\.yaml: .*restore"):
        Spec.read(path)
    values.pop(key)
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=rf"{key} is missing"):
        Spec.read(path)


@pytest.mark.parametrize("value", [[1], [0, 2], [1.0, 2.0], ["1", "2"], 3])
def test_args_with_an_odd_size_of_images_are_refused(stopped, tmp_path, value):
    import yaml

    path = tmp_path / "args.yaml"
    values = {**read_yaml(stopped[1] / "args.yaml"), "image_size": value}
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=r"args\.yaml: image_size.*restore"):
        Spec.read(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, checkpoint: checkpoint.clear(),
        lambda tensors, checkpoint: checkpoint.update(step="3"),
        lambda tensors, checkpoint: checkpoint.update(sums=[1]),
        lambda tensors, checkpoint: checkpoint.update(rows=[{"step": 1}]),
        lambda tensors, checkpoint: checkpoint.update(best={"accuracy": None}),
        lambda tensors, checkpoint: tensors.pop("average/count/"),
        lambda tensors, checkpoint: tensors.pop("fc.bias"),
        lambda tensors, checkpoint: tensors.update({"optimizer/x/y": torch.zeros(1)}),
        lambda tensors, checkpoint: tensors.update({"optimizer/0/momentum_buffer": torch.zeros(9)}),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused(halted, change):
    """Also one whose digest is right."""
    _, run = halted
    last = run / "weights" / "last.safetensors"
    tensors, metadata = read_model(last)
    change(tensors, metadata["checkpoint"])
    write_model(last, tensors, metadata)
    with pytest.raises(ValueError, match=r"last\.safetensors: .*restore"):
        resume(run, quiet=True)


# --- settings in YAML


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "anchors and aliases"),
        ("a: " * 3 + "x", "YAML"),
        ("a: " + "{a: " * 100, "deep"),
        ("- " * 100_000, "deep"),
        ("a: 2020-13-45", "month"),
        ("a: " + "1" * 5000, "limit"),
        ("a: 1" + ":1" * 500_000, "characters"),
        ("x" * 5_000_000, "MB"),
        ("a: !!timestamp x", "tags"),
        ("a: !!python/name:os.system x", "tags"),
    ],
    ids=range(10),
)
def test_yaml_that_would_take_for_ever_or_run_code_is_refused(tmp_path, text, words):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        read_yaml(tmp_path / "config.yaml")
    assert str(tmp_path / "config.yaml") in str(error.value)
    assert len(str(error.value)) < 600


@settings(max_examples=300, deadline=2000)
@given(text=st.one_of(st.text(max_size=60), st.text("[]{}:,-?&*!|>'\"#% \nab1.~<", max_size=40)))
def test_any_yaml_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        values = read_yaml(path)
    except ValueError as error:
        values, said = {}, str(error)
        assert str(path) in said
    assert isinstance(values, dict)


def test_text_is_text_and_nothing_else():
    import datetime

    assert convert("data", Path("a/b"), str) == str(Path("a/b"))
    for value in (["a"], datetime.date(2024, 1, 1), None, 3, 1.5, True, {"a": 1}, b"a"):
        with pytest.raises(ValueError, match="text expected"):
            convert("model", value, str | None if value is not None else str)
    with pytest.raises(ValueError, match="expected") as error:
        convert("a", ["b" * 999] * 999, int)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("value", ["[a, b]", "2024-01-01", "3", "{a: b}"])
@pytest.mark.parametrize("key", ["model", "output", "name", "weights", "data"])
def test_settings_files_with_values_of_another_type(colours, tmp_path, key, value, monkeypatch):
    from resnets.cli.config import read_config

    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(f"{key}: {value}")

    def train():
        given = read_config(tmp_path / "config.yaml")
        resnets.train(**{"data": str(colours), "quiet": True, **given})

    with pytest.raises(ValueError, match=key):
        train()
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


# --- refused before the work


def pooled(*layers):
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


class Two(nn.Module):
    """Gives a pair in training, as networks with an auxiliary head do."""

    def __init__(self, always):
        super().__init__()
        self.net, self.always = pooled(nn.Conv2d(3, 8, 3)), always

    def forward(self, x):
        out = self.net(x)
        return (out, out) if self.training or self.always else out


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = pooled(nn.Conv2d(3, 8, 3))

    def forward(self, x):
        return self.net(x).detach()


class Breaking(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.net, self.error = pooled(nn.Conv2d(3, 8, 3)), error

    def forward(self, x):
        if self.training:
            raise self.error
        return self.net(x)


REFUSED = {
    "all frozen": (lambda: pooled(nn.Conv2d(3, 8, 3)).requires_grad_(False), "requires_grad"),
    "without weights": (lambda: nn.Flatten(), "requires_grad"),
    "a generator": (lambda: (x for x in "a"), "a generator; allowed.*nn.Module"),
    "a class": (lambda: resnets.ResNet, "the class ResNet; .*made"),
    "a number": (lambda: 18, "an? int; allowed"),
    "a list": (lambda: ["resnet18"], "a list; allowed"),
    "a pair": (lambda: Two(True), "returns a tuple for 2 classes"),
    "a pair in training": (lambda: Two(False), "returns a tuple .* in training mode"),
    "lazy": (lambda: pooled(nn.LazyConv2d(8, 3)), "lazy layers"),
    "on meta": (lambda: pooled(nn.Conv2d(3, 8, 3, device="meta")), "meta device"),
    "detached": (Detached, "cannot take a training step"),
    "an error without text": (lambda: Breaking(AssertionError()), "AssertionError"),
    "an index": (lambda: Breaking(IndexError("far out")), "far out"),
    "memory": (lambda: Breaking(torch.OutOfMemoryError("x")), "smaller --batch-size or --size"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_cannot_be_trained_is_refused_before_the_work(colours, tmp_path, name):
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as error:
        resnets.train(colours, make(), epochs=1, output=tmp_path / "run", **SMALL)
    assert type(error.value) is ValueError
    assert list(tmp_path.iterdir()) == []


def test_single_images_need_frozen_norms_or_larger_maps(colours, tmp_path):
    words = {**SMALL, "batch_size": 1, "size": 32, "epochs": 0.1}
    with pytest.raises(ValueError, match="--batch-size 2 or more, or --norms frozen"):
        resnets.train(colours, "resnet18", output=tmp_path / "run", **words)
    assert list(tmp_path.iterdir()) == []
    run = resnets.train(colours, NETWORK, output=tmp_path / "run", norms="frozen", **words)
    assert run.metrics.n == 6


def test_a_last_batch_of_one_image_is_left_out(colours, tmp_path):
    words = {**SMALL, "batch_size": 25, "size": 32}  # of 26
    assert resnets.train(colours, "resnet18", epochs=1, output=tmp_path / "run", **words)


def test_the_rehearsal_changes_neither_weights_nor_random_numbers(colours, tmp_path):
    from resnets.run.preparation import prepare
    from resnets.screen import Screen

    torch.manual_seed(5)
    net = pooled(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    wanted = TrainSettings(str(colours), size=16, weights="none", epochs=1, norms="train")
    prepare(wanted, net, Screen(quiet=True))
    after = torch.rand(3)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    torch.manual_seed(wanted.seed)
    assert torch.equal(after, torch.rand(3))


def test_memory_that_does_not_suffice_has_a_cure_and_other_errors_stay():
    wanted = TrainSettings("x", batch_size=64, size=224)
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        with pytest.raises(ValueError, match="64 images of 224 x 224"), memory_explained(wanted):
            raise error
    with pytest.raises(RuntimeError, match="else"), memory_explained(wanted):
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"model": "resnet81"}, "unknown network"),
        ({"model": "timm:resnet81"}, "timm"),
        ({"model": "nothing.py:build"}, "no such file"),
        ({"weights": "nothing.pth"}, "no such file"),
        ({"weights": "given"}, "pass a module"),
        ({"device": "cuda:77"}, "device cuda:77"),
        ({"device": "tpu9"}, "device is .tpu9."),
        ({"bits": 16}, "channels=1"),
        ({"task": "clases"}, "no task 'clases'; did you mean classes"),
    ],
)
def test_what_is_wrong_whatever_the_data_are_is_said_before_they_are_read(
    tmp_path, monkeypatch, words, said
):
    def read(*arguments):
        raise AssertionError("the data were read")

    monkeypatch.setattr(sys.modules["resnets.run.preparation"], "find_data", read)
    with pytest.raises(ValueError, match=said):
        resnets.train("photos", output=tmp_path / "run", **{"model": "resnet18", **words})
    assert list(tmp_path.iterdir()) == []


def test_a_fit_that_the_kind_cannot_take_is_refused(colours, tmp_path, monkeypatch):
    whole = replace(KINDS["classes"], fits=("pad", "stretch"))
    monkeypatch.setitem(KINDS, "classes", whole)
    with pytest.raises(ValueError, match=r"fit=crop would cut away.*classes: pad, stretch"):
        resnets.train(colours, NETWORK, output=tmp_path / "run", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_loader_is_no_data(tmp_path):
    loader = torch.utils.data.DataLoader([1, 2])
    with pytest.raises(ValueError, match="data is a DataLoader; allowed: a folder"):
        resnets.train(loader, output=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []

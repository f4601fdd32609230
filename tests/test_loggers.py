"""Rows of a run go to the trackers that are named, and to no others."""

import sys
import types

import pytest

pytest.importorskip("torch", reason="training install")

import resnets
from resnets.run import loggers
from resnets.run.loggers import LOGGERS, loggers_of

SMALL = {"size": 16, "weights": "none", "batch_size": 8, "quiet": True, "epochs": 2}
NETWORK = "resnet20 depths=1-1-1"


class Kept(types.ModuleType):
    """A made-up mlflow, or wandb with its run: remembers what it was told."""

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = types.SimpleNamespace(name=name)
        self.told, self.ended = [], 0

    def start_run(self, run_name):
        self.name = run_name

    def log_params(self, values):
        self.config = values

    def log_metrics(self, numbers, step):
        self.told.append((step, numbers))

    def end_run(self):
        self.ended += 1

    def init(self, name, dir, config):
        self.name, self.config = name, config
        return self

    def log(self, numbers, step):
        self.told.append((step, numbers))

    finish = end_run


def test_rows_and_settings_are_told_and_the_run_is_ended(colours, tmp_path, monkeypatch):
    kept = {name: Kept(name) for name in ("mlflow", "wandb")}
    for name, module in kept.items():
        monkeypatch.setitem(sys.modules, name, module)
    rows = []
    run = resnets.train(
        colours,
        NETWORK,
        output=tmp_path / "run",
        log="mlflow, wandb",
        callbacks=[rows.append],
        **SMALL,
    )
    for module in kept.values():
        assert module.ended == 1
        assert module.name == str(run.folder)
        assert module.config["batch_size"] == 8
        assert [step for step, _ in module.told] == [row["step"] for row in rows]
        assert all(value is not None for _, numbers in module.told for value in numbers.values())
        assert "val_accuracy" in module.told[-1][1]


def test_what_is_open_is_closed_after_an_error(colours, tmp_path, monkeypatch):
    kept = Kept("wandb")
    monkeypatch.setitem(sys.modules, "wandb", kept)

    def fail(row):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        resnets.train(
            colours, NETWORK, output=tmp_path / "run", log="wandb", callbacks=[fail], **SMALL
        )
    assert kept.ended == 1


def test_tensorboard_reads_what_was_written(colours, tmp_path):
    pytest.importorskip("tensorboard", reason="extra tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = resnets.train(colours, NETWORK, output=tmp_path / "run", log="tensorboard", **SMALL)
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    lines = (run.folder / "results.csv").read_text().splitlines()
    assert len(events.Scalars("train_loss")) == len(lines) - 1
    assert len(events.Scalars("val_loss")) == 2


def test_without_a_name_nothing_is_imported():
    assert loggers_of("none") == []


@pytest.mark.parametrize("name", LOGGERS)
def test_a_missing_package_is_named_with_its_cure_before_the_work(name, tmp_path, monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(
        ValueError, match=rf"log={name} needs {name}: pip install 'resnets\[{name}\]'"
    ):
        resnets.train("nowhere", log=name, output=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_unknown_logger_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no logger 'tensorbord'; did you mean tensorboard"):
        loggers_of("tensorbord")

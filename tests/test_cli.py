"""The command line: what is on stdout, what on stderr, which exit code, and what is left on the
disk."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="training install")

import torch
from safetensors.torch import load_file

from resnets import cli, run
from resnets.settings import read_yaml

NETWORK = "resnet20 depths=1-1-1"  # the smallest network that goes the whole way
CLASSES = ("강아지", "고양이 two")  # in the order of their names
COLOURS = {"강아지": (200, 40, 30), "고양이 two": (30, 60, 200)}


class Done(NamedTuple):
    code: int
    out: str
    err: str


def resnets(*words) -> Done:
    """`resnets WORDS` in this process: no second torch has to be loaded."""
    out, err, before = io.BytesIO(), io.StringIO(), sys.argv
    text, code = (
        io.TextIOWrapper(out, encoding="utf-8", errors="surrogateescape", write_through=True),
        0,
    )
    sys.argv = ["resnets", *map(str, words)]
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    return Done(code, out.getvalue().decode("utf-8", "surrogateescape"), err.getvalue())


def command(*words, **variables) -> Done:
    """The installed command."""
    program = Path(sys.executable).with_name("resnets")
    if not program.exists():
        pytest.skip("the command is not installed beside this Python")
    done = subprocess.run(
        [program, *map(str, words)], capture_output=True, text=True, env={**os.environ, **variables}
    )
    return Done(done.returncode, done.stdout, done.stderr)


def refused(*words, code=2, program=resnets) -> str:
    """What is said to a mistake: one message on stderr, nothing on stdout, and no traceback."""
    done = program(*words)
    assert (done.code, done.out) == (code, ""), done
    assert "Traceback" not in done.err
    messages = [line for line in done.err.splitlines() if line.startswith("resnets: ")]
    assert len(messages) == 1, done.err
    return messages[0]


def only_json(done: Done) -> dict:
    """The one line on stdout."""
    assert done.code == 0, done.err
    (line,) = done.out.splitlines()
    return json.loads(line)


def listing(folder):
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


def write_pictures(folder, classes=COLOURS, count=12):
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(
                np.array(COLOURS[name]) + rng.normal(0, 40, (32, 32, 3)), 0, 255
            ).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"사진 {number:02d}.png")
    return folder


class Trained(NamedTuple):
    data: Path
    folder: Path
    done: Done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of an epoch on 24 pictures."""
    root = tmp_path_factory.mktemp("cli")
    data = write_pictures(root / "내 사진")
    folder = root / "run"
    words = [
        "--model",
        NETWORK,
        "--size",
        16,
        "--epochs",
        1,
        "--weights",
        "none",
        "--seed",
        0,
        "--flip",
        "none",
    ]
    return Trained(data, folder, resnets("train", data, *words, "--output", folder, "--json"))


# ---- help


def test_help_answers_at_once():
    resource = pytest.importorskip("resource", reason="processor time is read with resource")
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = command("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # of this process alone
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.code == 0
    assert all(
        verb in done.out for verb in ("train", "val", "predict", "check", "export", "show", "demo")
    )
    assert statistics.median(seconds) < 0.6


@pytest.mark.parametrize(
    "words", [["--help"], ["train", "-h"], ["predict", "--help"], ["--version"]]
)
def test_help_loads_neither_torch_nor_numpy(words):
    code = (
        "import sys; from resnets.cli import main\n"
        f"sys.argv = ['resnets', *{words}]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'onnxruntime', 'numpy'} & set(sys.modules), set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_version():
    import resnets as package

    assert command("--version") == Done(0, f"{package.__version__}\n", "")
    module = subprocess.run(
        [sys.executable, "-m", "resnets", "--version"], capture_output=True, text=True
    )
    assert (module.returncode, module.stdout) == (0, f"{package.__version__}\n")


# ---- what comes of a run


def test_train_says_one_json_object_and_nothing_else_on_stdout(trained):
    values = only_json(trained.done)
    assert {"run", "model", "onnx", "report", "metrics", "classes", "seconds"} <= set(values)
    assert {"accuracy", "accuracy_interval", "balanced_accuracy", "n"} <= set(values["metrics"])
    low, high = values["metrics"]["accuracy_interval"]
    assert 0 <= low <= values["metrics"]["accuracy"] <= high <= 1
    assert values["metrics"]["n"] == 4
    assert values["classes"] == list(CLASSES)
    assert values["run"] == str(trained.folder)
    assert all(Path(values[key]).is_file() for key in ("model", "onnx", "report"))
    assert values["seconds"] > 0
    assert "Infinity" not in trained.done.out
    assert "NaN" not in trained.done.out


def test_the_run_folder_holds_what_is_promised(trained):
    names = [
        "args.yaml",
        "weights/best.safetensors",
        "weights/last.safetensors",
        "results.csv",
        "results.png",
        "split.csv",
    ]
    names += ["predictions.csv", "report.html", "model_card.md", "summary.json", "내 사진.onnx"]
    found = {
        path.relative_to(trained.folder).as_posix()
        for path in trained.folder.rglob("*")
        if path.is_file()
    }
    assert found == set(names)  # and nothing half-written beside it
    assert all((trained.folder / name).stat().st_size for name in names)


def test_letters_of_any_script_are_intact(trained):
    split = list(csv.DictReader((trained.folder / "split.csv").open(encoding="utf-8", newline="")))
    assert {row["label"] for row in split} == set(CLASSES)
    assert "강아지/사진 00.png" in {row["file_name"] for row in split}
    predictions = list(
        csv.DictReader((trained.folder / "predictions.csv").open(encoding="utf-8", newline=""))
    )
    assert {row["label"] for row in predictions} == set(CLASSES)
    assert len(predictions) == 4
    for name in ("report.html", "model_card.md", "args.yaml", "summary.json"):
        assert "강아지" in (trained.folder / name).read_text(encoding="utf-8")


def test_the_folder_of_pictures_is_as_it_was(trained):
    assert {path.name for path in trained.data.rglob("*")} == {
        *CLASSES,
        *(f"사진 {number:02d}.png" for number in range(12)),
    }


def test_val_of_a_run_repeats_its_numbers(trained):
    values = only_json(resnets("val", trained.folder, "--json"))
    assert values["metrics"] == only_json(trained.done)["metrics"]


def test_val_shows_each_number_and_each_class(trained):
    metrics = only_json(trained.done)["metrics"]

    def estimate(values, name, n):
        value, (low, high) = values[name], values[f"{name}_interval"]
        return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}], n = {n}"

    shown = {"accuracy": "accuracy", "balanced accuracy": "balanced_accuracy"}
    shown["macro F1"] = "macro_f1"
    expected = [f"{title} {estimate(metrics, name, 4)}" for title, name in shown.items()]
    expected += ["", "class recall precision"]
    said = [" ".join(line.split()) for line in resnets("val", trained.folder).err.splitlines()]
    start = said.index(expected[0])
    assert said[start : start + len(expected)] == expected
    rows = said[start + len(expected) :]
    for entry, row in zip(metrics["per_class"], rows, strict=True):
        assert row.startswith(f"{entry['name']} {estimate(entry, 'recall', entry['n'])} ")
    card = (trained.folder / "model_card.md").read_text("utf-8")
    for title, name in shown.items():
        assert f"| {title} | {estimate(metrics, name, 4)} |" in card


def test_time_that_is_over_is_not_negative(trained, tmp_path):
    with pytest.raises(ValueError, match=r"no step fits into .* min: .* and 0 s are left"):
        run.train(
            trained.data,
            NETWORK,
            size=16,
            minutes=0.1,
            weights="none",
            output=tmp_path / "run",
            started=time.monotonic() - 1000,
            quiet=True,
        )


def test_val_of_a_file_proves_it_and_measures_it(trained):
    onnx = only_json(trained.done)["onnx"]
    assert only_json(resnets("val", onnx, "--json"))["proof"]["ok"] is True
    values = only_json(resnets("val", onnx, trained.data, "--json"))
    assert values["metrics"]["n"] == 24
    assert "accuracy_interval" in values["metrics"]


def test_val_of_a_part_that_is_not_there(trained):
    assert "has no splits; leave out --split" in refused(
        "val", trained.folder, trained.data, "--split", "val"
    )


def test_val_of_a_split_that_is_misspelt_or_not_there(trained):
    for data in ([], [trained.data]):
        assert "--split vall: did you mean val?" in refused(
            "val", trained.folder, *data, "--split", "vall"
        )
    assert "has no split 'test'; it has train, val" in refused(
        "val", trained.folder, "--split", "test"
    )


def test_check_says_json_and_fails_where_training_would(trained, tmp_path):
    values = only_json(resnets("check", trained.data, "--json"))
    assert values["counts"] == {"all": dict.fromkeys(CLASSES, 12)}
    assert values["findings"] == []
    write_pictures(tmp_path / "one", CLASSES[:1])
    for program in (resnets, command):
        done = program("check", tmp_path / "one", "--json")
        assert done.code == 2
        assert json.loads(done.out)["findings"][0]["text"].startswith("one class only (강아지)")
        assert "Traceback" not in done.err


def test_check_reads_the_format_that_is_asked_for(trained, tmp_path):
    shutil.copytree(trained.data, tmp_path / "data")
    (tmp_path / "data" / "labels.csv").write_text("file,label\nx.jpg,a\ny.jpg,b\n")
    values = only_json(resnets("check", tmp_path / "data", "--format", "folders", "--json"))
    assert (values["format"], values["kind"]) == ("folders", "classes")
    assert values["counts"] == {"all": dict.fromkeys(CLASSES, 12)}
    assert "did you mean folders?" in refused("check", tmp_path / "data", "--format", "folder")


def test_val_searches_for_no_pairs_and_says_what_it_skips(trained, tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise AssertionError("searched for pairs")

    monkeypatch.setattr("resnets.data.check.find_pairs", refuse)
    shutil.copytree(trained.data, tmp_path / "data")
    (tmp_path / "data" / CLASSES[0] / "empty.jpg").touch()
    done = resnets("val", trained.folder, tmp_path / "data")
    assert done.code == 0, done.err
    assert f"unusable, skipped: empty file ({CLASSES[0]}/empty.jpg)" in done.err


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are not UTF-8")
def test_json_of_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(write_pictures(tmp_path / "data"), folder)
    (folder / "강아지" / os.fsdecode(b"br\xfbl\xe9.jpg")).touch()
    done = command("check", folder, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["unusable"] == 1
    (folder / "강아지").rename(folder / os.fsdecode(b"chi\xean"))
    assert "is not UTF-8" in refused("check", folder, program=command)


def test_show_says_json():
    values = only_json(resnets("show", "resnet20", "--json"))
    # He et al. 2015: 0.27 M
    assert (values["network"], values["size"], values["parameters"]) == (
        "resnet20",
        32,
        269_722,
    )
    assert [stage["name"] for stage in values["stages"]][-1] == "fc"
    # changes nothing
    assert (
        only_json(resnets("show", "resnet50  shortcut=projection", "--json"))["network"]
        == "resnet50"
    )
    values = only_json(resnets("show", "resnet1??", "--json"))
    assert {row["name"] for row in values["networks"]} >= {"resnet101", "resnet110", "resnet152"}
    assert "no network matches 'resnot*'" in refused("show", "resnot*")


def test_show_takes_changes_with_and_without_quotes(tmp_path):
    for words in (("resnet20 attention=se",), ("resnet20", "attention=se")):
        assert only_json(resnets("show", *words, "--json"))["network"] == "resnet20 attention=se"
    values = only_json(resnets("show", "resnet20", "resnet20", "shortcut=none", "--json"))
    assert values["different"] == {"shortcut": ["zero_pad", "none"]}
    assert (
        only_json(resnets("show", "resnet20", "--svg", tmp_path / "net.svg", "--json"))["classes"]
        == 10
    )
    assert (tmp_path / "net.svg").read_text("utf-8").startswith("<svg")
    for words, message in {
        (
            "resnet20",
            "resnet32",
            "resnet44",
        ): "one network is shown, two are compared, one pattern lists many",
        ("resnet*", "resnet20"): "one pattern lists many",
        ("resnet*", "--layers"): "--svg and --layers show one network",
        ("resnet20", "--sort", "macs"): "--sort orders a list",
        ("resnet20", "attention=sse"): "attention=sse: did you mean se",
        ("legacy_seresnet50",): "timm:legacy_seresnet50",
    }.items():
        assert message in refused("show", *words)


def test_export_says_json(trained, tmp_path):
    values = only_json(resnets("export", trained.folder, "-o", tmp_path / "x.onnx", "--json"))
    assert values["path"] == str(tmp_path / "x.onnx")
    assert values["agreeing"] == values["compared"] > 0
    assert values["difference"] < 0.02
    assert any(engine.startswith("onnxruntime") for engine in values["engines"])


def test_quiet_says_nothing(trained, tmp_path):
    done = resnets(
        "predict",
        only_json(trained.done)["onnx"],
        trained.data,
        "-o",
        tmp_path / "p.csv",
        "--quiet",
    )
    assert done == Done(0, "", "")


# ---- predict


def test_predict_gives_a_row_for_every_file_good_or_bad(trained, tmp_path):
    mixed = tmp_path / "섞인 것"
    mixed.mkdir()
    good = trained.data / "강아지" / "사진 00.png"
    shutil.copy(good, mixed / "좋은 것.png")
    (mixed / "cut.png").write_bytes(good.read_bytes()[:700])
    (mixed / "empty.jpg").touch()
    (mixed / "text.jpg").write_text("hello")
    Image.new("RGBA", (40, 30), (200, 40, 30, 255)).save(mixed / "alpha.png")
    for model in (only_json(trained.done)["onnx"], trained.folder):
        done = resnets("predict", model, mixed, good)
        assert done.code == 0
        rows = {Path(row["file"]).name: row for row in csv.DictReader(io.StringIO(done.out))}
        assert set(rows) == {
            "좋은 것.png",
            "cut.png",
            "empty.jpg",
            "text.jpg",
            "alpha.png",
            "사진 00.png",
        }
        for name in ("좋은 것.png", "alpha.png", "사진 00.png"):
            assert rows[name]["label"] in CLASSES
            assert 0.5 <= float(rows[name]["probability"]) <= 1
            assert rows[name]["error"] == ""
        reasons = {"cut.png": "truncated", "empty.jpg": "empty file", "text.jpg": "none of BMP"}
        for name, reason in reasons.items():
            assert reason in rows[name]["error"]
            assert rows[name]["label"] == rows[name]["probability"] == ""


def test_predict_needs_no_torch(trained):
    onnx, picture = only_json(trained.done)["onnx"], trained.data / "강아지" / "사진 00.png"
    code = (
        f"import sys; sys.modules['torch'] = None; sys.argv = ['resnets', 'predict', {onnx!r},"
        f" {str(picture)!r}]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + "from resnets.cli import main; main()"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout.splitlines()[0].startswith("file,label,probability,")
    assert len(done.stdout.splitlines()) == 2


def test_predict_of_what_is_not_there(trained, tmp_path):
    onnx = only_json(trained.done)["onnx"]
    assert "no such file" in refused("predict", tmp_path / "no.onnx", trained.data)
    assert "no such file or folder" in refused("predict", onnx, tmp_path / "nothing")


# ---- mistakes


def data_empty(root):
    (root / "data").mkdir()


def data_unusable(root):
    for name in ("a", "b"):
        (root / "data" / name).mkdir(parents=True)
        (root / "data" / name / "1.jpg").write_text("no picture")


def data_one_class(root):
    write_pictures(root / "data", CLASSES[:1])


def data_lacking(root):
    write_pictures(root / "data" / "train")
    write_pictures(root / "data" / "val")
    (root / "data" / "val" / "강아지").rename(root / "data" / "val" / "zebra")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            data_empty,
            [
                "no class folder with images in",
                "put the images of each class into a folder of its own",
            ],
        ),
        (lambda root: None, ["no such folder or file"]),
        (data_unusable, ["no usable image to train on, no file could be read"]),
        (data_one_class, ["one class only (강아지): at least two are needed"]),
        (data_lacking, ["classes in val that training data lack: zebra"]),
    ],
)
def test_data_that_cannot_be_trained_on(tmp_path, make, words):
    make(tmp_path)
    message = refused(
        "train",
        tmp_path / "data",
        "-m",
        NETWORK,
        "--weights",
        "none",
        "-o",
        tmp_path / "deep" / "run",
    )
    assert all(word in message for word in words), message
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-m", "resnet81"], ["unknown network 'resnet81'", "did you mean resnet18"]),
        (
            ["-m", "resnet20 shortcuts=none"],
            ["unknown setting 'shortcuts'", "did you mean shortcut"],
        ),
        (["-m", "resnet20 shortcut=nine"], ["shortcut=nine", "none"]),
        (["-m", "resnet20 deep"], ["'deep'", "key=value"]),
        (["--size", "4"], ["size is 4", "8 to 4096 pixels"]),
        (["--workers", "-1"], ["workers is -1", "0 to 1024 threads"]),
        (["--batch-size", "0"], ["batch_size is 0", "1 to 65536 images"]),
        (["--epochs", "-1"], ["epochs is -1", "allowed: 0 or more"]),
        (["--epochs", "nan"], ["epochs is nan"]),
        (["--val-fraction", "1"], ["val_fraction is 1", "0.01 to 0.9"]),
        (["--lr", "0"], ["lr is 0", "1e-08 to 100"]),
        (["--flip", "sideways"], ["flip is sideways", "none, horizontal, both"]),
        (["--fit", "cover"], ["fit is cover", "crop, pad, stretch"]),
        (["--channels", "2"], ["channels is 2", "1, 3"]),
        (["--bits", "16"], ["bits=16 needs channels=1"]),
        (["--epochs", "1", "--minutes", "1"], ["epochs and minutes are both given"]),
        (
            ["--weights", "nothing.safetensors"],
            ["weights=nothing.safetensors: no such file", "auto, none"],
        ),
        (["--weights", "torchvision:NONE", "-m", "resnet18"], ["NONE"]),
        (["--config", "nothing.yaml"], ["nothing.yaml: not readable (No such file"]),
    ],
)
def test_settings_that_cannot_be(trained, tmp_path, flags, words):
    message = refused(
        "train", trained.data, "-m", NETWORK, "--weights", "none", *flags, "-o", tmp_path / "run"
    )
    assert all(word in message for word in words), message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch: 3", ["unknown setting 'epoch'", "did you mean epochs"]),
        ("1: 3", ["unknown setting 1", "allowed: "]),
        ("quiet: true", ["unknown setting 'quiet'"]),
        ("callbacks: []", ["unknown setting 'callbacks'"]),
        ("epochs: many", ["epochs='many'", "float expected"]),
        ("seed: .inf", ["seed=inf", "int expected"]),
        ("epochs: [1, 2]", ["epochs=[1, 2]"]),
        ("size: 4", ["size is 4", "8 to 4096"]),
        ("- a\n- b", ["a mapping of settings to values was expected"]),
        ("epochs: [1", ["not readable as YAML", "line"]),
        ("epochs: 1\nminutes: 1", ["both given"]),
        ("settings: 3", ["settings and network, both mappings, expected in args.yaml of a run"]),
        ("settings: {epochs: 1}", ["in a file of settings, these stand by themselves"]),
        ("settings: {data: x}\nnetwork: {name: Net}", ["a module passed from Python (Net)"]),
        ("steps: 3", ["unknown setting 'steps'", "a file of settings or args.yaml of a run"]),
    ],
)
def test_settings_files_that_cannot_be(trained, tmp_path, text, words):
    config = tmp_path / "config.yaml"
    config.write_text(text)
    message = refused("train", trained.data, "--config", config, "-o", tmp_path / "run")
    assert all(word in message for word in words), message
    assert list(tmp_path.iterdir()) == [config]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "x", "--epoch", "3"], "--epochs"),
        (["train", "x", "--seed", "many"], "--seed"),
        (["predict"], "MODEL"),
        (["val"], "MODEL"),
        (["frobnicate"], "frobnicate"),
        (["trian", "x"], "train"),
        (["check", "x", "--workers", "-1"], "--workers"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_flags_that_do_not_exist(words, said):
    done = command(*words)
    assert (done.code, done.out) == (2, "")
    assert said.lower() in done.err.lower()
    assert "Traceback" not in done.err


def test_no_words_at_all():
    done = command()
    assert "train" in done.out + done.err
    assert "Traceback" not in done.err
    assert "no data: resnets train FOLDER" in refused("train")


def asked_for(monkeypatch, *words):
    """What `train` is called with."""
    calls = []

    def remember(**settings):
        calls.append(settings)
        raise ValueError("far enough")

    monkeypatch.setattr(run, "train", remember)
    refused("train", *words)
    return calls[0]


def test_nought_is_a_value(monkeypatch):
    flags = (
        "seed",
        "workers",
        "average",
        "warmup",
        "smoothing",
        "weight-decay",
        "cache-gb",
        "momentum",
    )
    settings = asked_for(monkeypatch, "x", *(word for flag in flags for word in (f"--{flag}", "0")))
    assert {flag.replace("-", "_"): 0 for flag in flags}.items() <= settings.items()


def test_the_command_line_wins_over_the_settings_file(monkeypatch, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("data: photos\nmodel: resnet18\nepochs: 3\nseed: 5\nname: mine\n")
    settings = asked_for(monkeypatch, "--config", config, "--seed", "0", "-m", "resnet34")
    settings.pop("started")
    assert settings == {
        "data": "photos",
        "model": "resnet34",
        "epochs": 3,
        "seed": 0,
        "name": "mine",
        "quiet": False,
    }


def test_a_run_is_repeated_from_its_args_with_other_data_if_need_be(trained, monkeypatch, tmp_path):
    args = trained.folder / "args.yaml"
    settings = asked_for(monkeypatch, "--config", args)
    written = {k: v for k, v in read_yaml(args)["settings"].items() if v is not None}
    for key in ("started", "quiet"):
        settings.pop(key)
    assert settings == written
    assert (settings["data"], settings["epochs"]) == (str(trained.data), 1)
    settings = asked_for(monkeypatch, "elsewhere", "--config", args, "--minutes", "2")
    assert (settings["data"], settings["minutes"]) == ("elsewhere", 2)
    assert "epochs" not in settings


def test_a_repeated_run_ends_in_the_same_bits(trained, tmp_path):
    folder = tmp_path / "again"
    done = resnets("train", "--config", trained.folder / "args.yaml", "-o", folder, "--json")
    assert only_json(done)["metrics"] == only_json(trained.done)["metrics"]
    first, again = (
        load_file(one / "weights" / "best.safetensors") for one in (trained.folder, folder)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    kept = [read_yaml(one / "args.yaml") for one in (trained.folder, folder)]
    for one in kept:
        one.pop("command")
    assert kept[0] == kept[1]


def test_nothing_is_overwritten(trained):
    before = listing(trained.folder)
    message = refused("train", trained.data, "-m", NETWORK, "-o", trained.folder)
    assert (
        "is not empty, and nothing is overwritten: name another folder, or add --exist-ok"
        in message
    )
    assert listing(trained.folder) == before


def test_an_output_that_cannot_be(trained, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "is a file; name a folder" in refused(
        "train", trained.data, "-m", NETWORK, "-o", tmp_path / "file"
    )
    message = refused(
        "train", trained.data, "-m", NETWORK, "-o", tmp_path / "file" / "below" / "run"
    )
    assert "cannot be written to (Not a directory); name another folder with --output" in message
    assert (tmp_path / "file").read_text() == "mine"


def test_weights_of_another_network(trained, tmp_path):
    best = only_json(trained.done)["model"]
    message = refused(
        "train", trained.data, "-m", "resnet20", "--weights", best, "-o", tmp_path / "run"
    )
    assert "layer1.1.conv1.weight" in message  # a key that differs
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", [3, 60, 2000, -2000, -1])
@pytest.mark.parametrize("verb", ["val", "predict", "export", "weights"])
def test_an_altered_model_file_is_refused(trained, tmp_path, verb, place):
    content = bytearray(Path(only_json(trained.done)["model"]).read_bytes())
    content[place] ^= 1
    file = tmp_path / "altered.safetensors"
    file.write_bytes(content)
    after = {
        "val": [trained.data],
        "predict": [trained.data],
        "export": ["-o", tmp_path / "x.onnx"],
    }
    words = ["train", trained.data, "-m", NETWORK, "--weights", file, "-o", tmp_path / "run"]
    message = refused(*(words if verb == "weights" else [verb, file, *after[verb]]))
    assert str(file) in message
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("part", [0, 5, 1000, 200_000])
def test_a_truncated_model_file_is_refused(trained, tmp_path, part):
    file = tmp_path / "cut.safetensors"
    file.write_bytes(Path(only_json(trained.done)["model"]).read_bytes()[:part])
    assert "truncated, or not a safetensors file" in refused("val", file, trained.data)


@pytest.mark.parametrize("change", ["altered", "cut", "empty", "text"])
@pytest.mark.parametrize("verb", ["val", "predict"])
def test_a_damaged_onnx_file_is_refused(trained, tmp_path, verb, change):
    content = bytearray(Path(only_json(trained.done)["onnx"]).read_bytes())
    content[len(content) // 2] ^= 1
    file = tmp_path / "file.onnx"
    file.write_bytes(
        {"altered": content, "cut": content[:-20], "empty": b"", "text": b"hello"}[change]
    )
    message = refused(verb, file, trained.data)
    assert str(file) in message
    assert "copy" in message  # the cure


def test_resuming_what_is_no_run_or_finished_or_with_other_flags(trained, tmp_path):
    assert "cannot be resumed: it has no args.yaml" in refused("train", "--resume", tmp_path)
    message = refused("train", "--resume", trained.folder, "--epochs", "3", "--seed", "0")
    assert "takes no other flag" in message
    assert message.endswith("leave out: epochs, seed")
    before = listing(trained.folder)
    message = refused("train", "--resume", trained.folder)
    assert "is finished" in message
    assert "--weights" in message
    assert listing(trained.folder) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_that_run_code_are_refused(trained, tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap()))
    message = refused(
        "train",
        trained.data,
        "-m",
        NETWORK,
        "--weights",
        tmp_path / "trap.pt",
        "-o",
        tmp_path / "run",
    )
    assert "trap.pt" in message
    assert not (tmp_path / "sprung").exists()


def test_the_installed_command_says_the_same(tmp_path):
    assert "no such folder or file" in refused(
        "train", tmp_path / "nothing", "-o", tmp_path / "run", program=command
    )
    assert list(tmp_path.iterdir()) == []


# ---- a full disk


@contextlib.contextmanager
def files_up_to(size):
    """Writing more than `size` bytes to a file fails, as it does on a full disk."""
    resource = pytest.importorskip("resource", reason="files are limited with resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_while_exporting_keeps_the_last_good_file(trained, tmp_path):
    target = tmp_path / "x.onnx"
    shutil.copy(only_json(trained.done)["onnx"], target)
    before = listing(tmp_path)
    with files_up_to(50_000):
        message = refused("export", trained.folder, "-o", target, code=1)
    assert "File too large; what was saved before is as it was" in message
    assert listing(tmp_path) == before


def test_a_full_disk_while_training_keeps_the_last_good_weights(trained, tmp_path):
    again = shutil.copytree(trained.folder, tmp_path / "run")
    before = listing(again)
    words = [
        "-m",
        NETWORK,
        "--size",
        16,
        "--epochs",
        1,
        "--weights",
        "none",
        "-o",
        again,
        "--exist-ok",
    ]
    with files_up_to(50_000):
        message = refused("train", trained.data, *words, code=1)
    assert "what was saved before is as it was" in message
    after = listing(again)
    assert set(after) == set(before)  # nothing half-written beside them
    for name in ("weights/best.safetensors", "weights/last.safetensors", "내 사진.onnx"):
        assert after[str(again / name)] == before[str(again / name)]


# ---- colours


COLOUR = re.compile(r"\x1b\[(?:\d+;)*[349][0-7](?:;\d+)*m")


def test_no_color_is_respected(tmp_path):
    write_pictures(tmp_path / "one", CLASSES[:1])
    plain = {"NO_COLOR": "", "FORCE_COLOR": "", "TERM": "xterm-256color"}
    assert "\x1b" not in command("check", tmp_path / "one", **plain).err  # no terminal, no escapes
    assert COLOUR.search(command("check", tmp_path / "one", **{**plain, "FORCE_COLOR": "1"}).err)
    assert not COLOUR.search(
        command("check", tmp_path / "one", **{**plain, "FORCE_COLOR": "1", "NO_COLOR": "1"}).err
    )


# ----------------------------------------------------------------------------------------------------
# export and val of files that cannot work


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("x.txt", r"called NAME\.onnx"),
        ("x", r"called NAME\.onnx"),
        ("none/x.onnx", "there is no folder"),
        ("folder.onnx", "a folder; name a file in it"),
    ],
)
def test_export_looks_at_its_target_before_the_work(
    trained, tmp_path, monkeypatch, target, message
):
    from resnets.run import opening

    monkeypatch.setattr(opening, "open_model", lambda *_: pytest.fail("the model was opened"))
    (tmp_path / "folder.onnx").mkdir()
    assert re.search(message, refused("export", trained.folder, "-o", tmp_path / target))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.onnx"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_export_into_a_folder_that_is_read_only(trained, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "no permission to write" in refused(
        "export", trained.folder, "-o", tmp_path / "locked" / "x.onnx"
    )


@pytest.mark.parametrize("words", [(), ("DATA",)])
def test_val_of_a_file_that_an_engine_cannot_run(trained, monkeypatch, words):
    """A reason and exit code 1, with data and without."""
    from resnets.runtime import engines

    def fail(engine, image):
        raise engines.EngineError("no memory for this")

    monkeypatch.setattr(engines.OnnxRuntimeEngine, "_run", fail)
    onnx = only_json(trained.done)["onnx"]
    done = resnets("val", onnx, *(trained.data for _ in words))
    assert done.code == 1
    assert done.out == ""
    assert "NOT VERIFIED: onnxruntime" in done.err
    assert "could not run a golden image: no memory for this" in done.err
    assert "Traceback" not in done.err


def test_val_reports_the_images_on_which_an_engine_fails(trained, monkeypatch):
    from resnets.runtime import engines

    true, calls = engines.OnnxRuntimeEngine._run, []

    def sometimes(engine, image):
        calls.append(1)
        if len(calls) == 8:  # behind the golden images
            raise engines.EngineError("no memory for this")
        return true(engine, image)

    monkeypatch.setattr(engines.OnnxRuntimeEngine, "_run", sometimes)
    done = resnets("val", only_json(trained.done)["onnx"], trained.data, "--json")
    assert done.code == 0, done.err
    assert done.err.count("no memory for this") == 1
    assert "verified: ONNX equals PyTorch on" in done.err
    assert json.loads(done.out)["proof"]["ok"] is True


def test_val_refuses_options_that_do_not_apply(tmp_path):
    onnx = Path(__file__).parent / "data" / "format1" / "tiny.onnx"
    model = onnx.with_suffix(".safetensors")
    for words, expected in (
        ((onnx, "--model", "resnet18"), "does not apply"),
        ((onnx, "--classes", "imagenet"), "does not apply"),
        ((onnx, "--split", "val"), "needs DATA"),
        ((onnx, "--report", tmp_path / "r.html"), "needs a run or a model file"),
        ((model, tmp_path, "--engine", "openvino"), "does not apply"),
    ):
        assert expected in refused("val", *words)
    assert not list(tmp_path.iterdir())

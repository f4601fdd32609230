"""The package as others get it: built into a wheel, installed outside the source tree, and used
there; once without PyTorch."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "resnets"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.partial")


def run(*command, cwd, path=None):
    """A command away from the source tree: its result, whatever the exit code."""
    variables = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")
    }
    if path:
        variables["PYTHONPATH"] = str(path)
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def succeed(*command, cwd, path=None):
    done = run(*command, cwd=cwd, path=path)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def has_setuptools():
    try:
        return int(version("setuptools").partition(".")[0]) >= 77  # what pyproject.toml asks for
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Built from a copy, since building leaves files beside the sources."""
    pytest.importorskip("build")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src", copy / "src", ignore=LEFT_OUT)
    alone = ("-m", "build", "--wheel", "--no-isolation", "--outdir", out, ".")
    # setuptools comes from the package index
    fetched = (
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--wheel-dir",
        out,
        ".",
    )
    succeed(sys.executable, *(alone if has_setuptools() else fetched), cwd=copy)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel in it; what it depends on is borrowed from this environment."""
    folder = tmp_path_factory.mktemp("installed")
    succeed(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--target",
        folder,
        wheel,
        cwd=folder,
    )
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name.removeprefix("resnets/") for name in names if name.startswith("resnets/")}
    here = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert inside == here
    assert {
        "py.typed",
        "imagenet_classes.tsv",
        "sample/LICENSE",
        "sample/ATTRIBUTION.md",
    } <= inside
    assert {
        "evaluation/page/frame.html.j2",
        "evaluation/page/report.css",
        "server/page.html",
        "evaluation/page/report.js",
    } <= inside
    assert sum(name.startswith("sample/") and name.endswith(".jpg") for name in inside) == 1500
    assert {"sample_boxes/boxes.csv", "sample_boxes/LICENSE"} <= inside
    assert sum(name.startswith("sample_boxes/images/") for name in inside) == 100
    assert all(
        name.startswith(("resnets/", f"resnets-{version('resnets')}.dist-info/")) for name in names
    )
    assert wheel.stat().st_size < 7_000_000


def test_the_wheel_carries_its_licences(wheel):
    with zipfile.ZipFile(wheel) as file:
        folder = f"resnets-{version('resnets')}.dist-info"
        assert "Apache License" in file.read(f"{folder}/licenses/LICENSE").decode()
        assert "MIT License" in file.read(f"{folder}/licenses/src/resnets/sample/LICENSE").decode()
        assert "License-Expression: Apache-2.0" in file.read(f"{folder}/METADATA").decode()


def test_the_command_answers_from_the_wheel(installed, tmp_path):
    where = succeed(
        sys.executable,
        "-c",
        "import resnets; print(resnets.__file__)",
        cwd=tmp_path,
        path=installed,
    )
    assert Path(where.stdout.strip()).is_relative_to(installed)
    shown = succeed(installed / "bin" / "resnets", "--help", cwd=tmp_path, path=installed).stdout
    assert "predict" in shown
    assert succeed(
        installed / "bin" / "resnets", "--version", cwd=tmp_path, path=installed
    ).stdout.strip() == version("resnets")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_runs_from_the_wheel(installed, tmp_path):
    done = succeed(installed / "bin" / "resnets", "demo", "--json", cwd=tmp_path, path=installed)
    said = json.loads(done.stdout.splitlines()[-1])
    summary = json.loads((tmp_path / "runs/demo/summary.json").read_text("utf-8"))
    assert {"run", "model", "onnx", "report", "metrics", "classes", "seconds"} <= set(said) & set(
        summary
    )
    assert said["metrics"] == summary["metrics"]
    assert said["found"]["truncated"] == 1
    assert said["found"]["duplicates"] == 2
    assert said["found"]["wrong"]["40"] >= 22
    assert said["true_labels"]["accuracy"] >= 0.78
    assert said["linear_true_labels"]["accuracy"] <= 0.55
    assert all((tmp_path / said[name]).is_file() for name in ("model", "onnx", "report"))
    assert "linear classifier" in done.stderr
    proof = succeed(
        installed / "bin" / "resnets", "val", said["onnx"], "--json", cwd=tmp_path, path=installed
    )
    assert json.loads(proof.stdout.splitlines()[-1])["proof"]["ok"]
    # over the earlier one
    again = succeed(installed / "bin" / "resnets", "demo", cwd=tmp_path, path=installed)
    assert "all files are in" in again.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_of_boxes_finds_cells(installed, tmp_path):
    words = ("demo", "--task", "boxes", "--json")
    done = succeed(installed / "bin" / "resnets", *words, cwd=tmp_path, path=installed)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["metrics"]["ap50"] >= 0.75
    assert said["seconds"] < 180
    assert all((tmp_path / said[name]).is_file() for name in ("model", "onnx", "report"))
    assert len(list((tmp_path / "runs/demo-boxes/drawn").iterdir())) == 6


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory):
    """The Python of a new environment with the base install: the wheel and what it depends on, from
    the package index."""
    folder = tmp_path_factory.mktemp("base") / "environment"
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = run(
        python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=folder
    )
    if done.returncode and "connection" in done.stderr.lower():
        pytest.skip(f"the package index does not answer: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A ResNet-18 as state dict, model file and NAME.onnx, and a photo, made where PyTorch is."""
    torch = pytest.importorskip("torch")
    import resnets

    folder = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    torch.save(resnets.create_model("resnet18").state_dict(), folder / "resnet18.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC).save(folder / "photo.jpg")
    resnets_here = [sys.executable, "-c", "from resnets.cli import main; main()"]
    named = ("resnet18.pth", "--model", "resnet18", "--classes", "imagenet")
    succeed(*resnets_here, "export", *named, "-o", "resnet18.onnx", cwd=folder, path=ROOT / "src")
    return folder


MEASURE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
print(json.dumps({"code": code, "seconds": time.perf_counter() - start, "megabytes": peak}))
"""


@pytest.mark.slow
def test_the_base_install_imports_at_once_and_has_no_torch(base, tmp_path):
    absent = (
        "import importlib.util as u; print(u.find_spec('torch'), u.find_spec('torchvision'),"
        " u.find_spec('onnx'))"
    )
    assert succeed(base, "-c", absent, cwd=tmp_path).stdout.split() == ["None"] * 3
    timed = (
        "import time; start = time.perf_counter(); import resnets; resnets.load;"
        " print(time.perf_counter() - start)"
    )
    # the first one compiles
    seconds = [float(succeed(base, "-c", timed, cwd=tmp_path).stdout) for _ in range(6)][1:]
    assert statistics.median(seconds) < 0.3, seconds


@pytest.mark.slow
def test_the_base_install_proves_and_predicts(base, made, tmp_path):
    resnets = base.with_name("resnets")
    proof = succeed(resnets, "val", made / "resnet18.onnx", "--json", cwd=tmp_path)
    assert json.loads(proof.stdout.splitlines()[-1])["proof"]["ok"]
    answer = succeed(
        resnets, "predict", made / "resnet18.onnx", made / "photo.jpg", cwd=tmp_path
    ).stdout.splitlines()
    assert len(answer) == 2
    if os.name == "nt":
        pytest.skip("memory of a process is measured on Unix only")
    command = (base, "-c", MEASURE, resnets, "predict", made / "resnet18.onnx", made / "photo.jpg")
    runs = [json.loads(succeed(*command, cwd=tmp_path).stdout) for _ in range(5)]
    seconds, megabytes = min(run["seconds"] for run in runs), max(run["megabytes"] for run in runs)
    assert seconds < 1.5, runs
    assert megabytes < 250, runs


@pytest.mark.slow
def test_the_base_install_refuses_what_needs_torch(base, made, tmp_path):
    resnets = base.with_name("resnets")
    (tmp_path / "model.safetensors").write_bytes(b"not looked at")
    photo = made / "photo.jpg"
    for arguments in (
        ("predict", "model.safetensors", photo),
        ("val", "model.safetensors", photo.parent),
        ("export", "model.safetensors"),
        ("train", photo.parent),
        ("demo",),
    ):
        done = run(resnets, *arguments, cwd=tmp_path)
        assert done.returncode == 2, (arguments, done.stderr[-2000:])
        assert "pip install 'resnets[train]'" in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]

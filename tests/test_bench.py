"""`resnets bench`: every figure is measured, in processes of their own, and mistakes are told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from resnets.runtime import bench
from resnets.runtime.engines import available_engines

TINY = Path(__file__).parent / "data" / "format1" / "tiny.onnx"


def run(*arguments, **options):
    command = [sys.executable, "-m", "resnets", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_every_engine_and_file_has_a_row_of_figures(tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(TINY.read_bytes())
    picture = tmp_path / "bench.svg"
    arguments = TINY, other, "--rounds", 2, "--json", "--threads", 1
    charted = ("--picture", picture) if _matplotlib() else ()
    found = run(*arguments, *charted)
    assert not found.returncode, found.stderr
    values = json.loads(found.stdout)
    assert values["rounds"] == 2
    assert [(one["file"], one["engine"].split()[0]) for one in values["speeds"]] == [
        (str(file), engine) for file in (TINY, other) for engine in available_engines()
    ]
    for one in values["speeds"]:
        low, high = one["images_per_second_range"]
        assert 0 < low <= one["images_per_second"] <= high
        assert 0 < one["latency_p50_ms"] <= one["latency_p95_ms"] <= one["latency_p99_ms"]
        assert 0.05 < one["start_seconds"] < 60
        assert 20 < one["peak_megabytes"] < 2000
        assert one["file_megabytes"] == pytest.approx(TINY.stat().st_size / 1e6, abs=0.06)
    assert "images/s" in found.stderr
    if charted:
        assert picture.read_text().count("other.onnx") >= len(available_engines())


def _matplotlib() -> bool:
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def test_what_is_counted(monkeypatch):
    """Each round adds its own predictions; the clock is that of the machine."""
    measured = bench.Measured(bench.Way(TINY, "onnxruntime", threads=2))
    assert measured.threads == 2
    assert measured.predict() == {"version": measured.engine.version, "precision": "float32"}
    assert len(measured.singles()["seconds"]) == bench.SINGLES
    clock = iter([10.0, 12.0])  # of the batches that count
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    assert measured.batches() == {"rate": bench.BATCHES * 2 * measured.size / 2.0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.onnx"], "gone.onnx: no such file"),
        ([TINY, "--engine", "tensorrt"], "no engine is called 'tensorrt'; allowed:"),
        ([TINY, "--precision", "int4"], "precision is 'int4'; allowed: float32, bfloat16"),
        ([TINY, "--engine", "onnxruntime", "--precision", "bfloat16"], "float32 alone"),
        ([TINY, "--picture", "a.pdf"], "a chart is drawn as .svg or .png"),
    ],
)
def test_mistakes_are_one_message(arguments, said, tmp_path):
    found = run(*arguments, cwd=tmp_path)
    assert found.returncode == 2
    assert said in " ".join(found.stderr.split())
    assert "Traceback" not in found.stderr
    assert not list(tmp_path.iterdir())


def test_no_torch_is_imported():
    code = "import sys, resnets.runtime.bench, resnets.cli.bench; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"

"""Damaged inputs end in one message or in nothing: see tests/fuzz.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
KINDS = {  # inputs in the quick part, and in the long one
    "model_files": (120, 3000),
    "onnx_files": (120, 3000),
    "images": (120, 2000),
    "tables": (120, 2000),
    "settings_files": (120, 3000),
    "run_folders": (60, 600),
}


def check(kind, count, seed):
    script = Path(__file__).with_name("fuzz.py")
    done = subprocess.run(
        [sys.executable, str(script), kind, str(count), str(seed)],
        capture_output=True,
        text=True,
        timeout=590,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert not outcome["failures"], "\n".join(outcome["failures"][:20])
    assert outcome["tried"] == count == outcome["accepted"] + outcome["refused"]
    assert outcome["peak_mb"] < 1000, outcome
    assert outcome["refused"] > count / 20  # else nothing was damaged


def test_there_are_enough():
    assert sum(quick for quick, _ in KINDS.values()) >= 500
    assert sum(many for _, many in KINDS.values()) >= 10_000


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_in_one_message(kind):
    check(kind, KINDS[kind][0], seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("kind", KINDS)
def test_much_damage_is_refused_in_one_message(kind, seed):
    check(kind, KINDS[kind][1] // 4, seed)

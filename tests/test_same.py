"""tools/same.py finds no difference where there is none, and finds one where there is."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "code"), [((), 0), (("--seed", "1"), 1)])
def test_a_commit_equals_itself_but_for_another_seed(options, code):
    if not (ROOT / ".git").exists():
        pytest.skip("needs the history: this is no git checkout")
    command = [sys.executable, ROOT / "tools" / "same.py", "HEAD", "--quick", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("DIFFERENT scratch: weights/last.safetensors tensors" in done.stdout) == bool(code)
    assert "equal resumed as never stopped: weights/last.safetensors tensors" in done.stdout

"""Real data sets, which are not part of the repository: they lie beside it, where they lie at all."""

import subprocess
from pathlib import Path

import pytest

UNPACK = Path(__file__).parents[2] / "shared" / "bin" / "unpack"


def unpacked(name):
    """The folder of a data set; a test that needs it is skipped without it."""
    if not UNPACK.is_file():
        pytest.skip(f"no data set {name}: ../shared is not there")
    done = subprocess.run([UNPACK, name], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())

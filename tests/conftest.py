"""Shared by the tests: small pictures to train on."""

import os
from pathlib import Path

# Before torch is imported, here and in what the tests start: for networks as small as these,
# threads cost more than they save, and on a busy machine they wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image
from sampling import WEEK

REPEAT = f"RESNETS_TEST_WEEK={WEEK}"
COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 40)}


def pytest_terminal_summary(terminalreporter):
    """At the end, since a quiet run has no header."""
    terminalreporter.write_line(
        f"networks were compared in part (make test-all: all); the same part again: {REPEAT}"
    )


def write_pictures(folder, classes=("blue", "red"), count=16, size=32, seed=0):
    """`count` noisy pictures of each colour as FOLDER/CLASS/NN.png."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            noise = rng.normal(0, 40, (size, size, 3))
            pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    return folder


@pytest.fixture(autouse=True, scope="session")
def full_precision():
    """Networks of tests stay in float32 on every processor: for them a trial of bfloat16 is decided
    by whatever else the machine does, and runs that are to be alike would not be."""
    try:
        from resnets.run import choices
    except ImportError:  # without the training install
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choices, "SHORT", float("inf"))
        yield


@pytest.fixture(scope="session")
def cells():
    """1,270 crops of blood cells: labels.csv with groups, three classes of unequal size."""
    return Path(__file__).parent / "data" / "cells"


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    """A folder of two classes with 16 pictures each."""
    return write_pictures(tmp_path_factory.mktemp("data") / "colours")

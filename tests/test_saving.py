"""`save_memory`: the same run in less memory."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="training install")

import torch
from safetensors.torch import load_file
from torch import nn

import resnets

SMALL = {"size": 16, "weights": "none", "batch_size": 8, "quiet": True, "epochs": 2}


@pytest.mark.parametrize("model", ["resnet20 depths=1-1-1", "densenet_bc_100_12 depths=2-2-2"])
def test_a_run_that_saves_memory_ends_in_the_same_bits(colours, tmp_path, model):
    """Weights and statistics, which are updated once a step; and a stopped one goes on."""
    plain = resnets.train(colours, model, output=tmp_path / "a", **SMALL)
    rows = []
    saving = resnets.train(
        colours, model, output=tmp_path / "b", save_memory=True,
        callbacks=[lambda row: rows.append(row) or len(rows) == 3], **SMALL,
    )  # fmt: skip
    saving = resnets.run.resume(saving.folder, quiet=True)
    first, other = (
        load_file(run.folder / "weights" / "last.safetensors") for run in (plain, saving)
    )
    assert first.keys() == other.keys()
    assert all(torch.equal(first[name], other[name]) for name in first)
    assert saving.proven.agreeing == saving.proven.compared


def test_a_network_whose_blocks_are_not_known_is_refused(colours, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="save_memory: Sequential has no blocks of this package"):
        resnets.train(colours, net, output=tmp_path / "run", save_memory=True, **SMALL)
    assert not (tmp_path / "run").exists()


STEP = """
import resource, sys, torch
from resnets import create_model
net = create_model("resnet50", num_classes=10, checkpointing=sys.argv[1] == "True")
net(torch.randn(24, 3, 224, 224)).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="kilobytes there")
def test_a_process_needs_clearly_less_memory():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    plain, saving = (
        int(subprocess.check_output([sys.executable, "-c", STEP, str(one)], env=environment))
        for one in (False, True)
    )
    assert saving < 0.75 * plain, (plain, saving)

"""On a CUDA device: a run trains, resumes and exports in every precision. On the CPU resuming gives
the same bits, here the same result within a tolerance, since sums on a GPU have no fixed order."""

import pytest
import torch

import resnets
from resnets.modelfile import read_model
from resnets.run import resume

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here"),
]
PRECISIONS = ["float32", "bfloat16", "float16"]
SMALL = {"size": 32, "weights": "none", "quiet": True, "batch_size": 8, "device": "cuda"}


@pytest.fixture(scope="module", params=PRECISIONS)
def whole(request, colours, tmp_path_factory):
    """An undisturbed run, and its precision."""
    folder = tmp_path_factory.mktemp("gpu") / request.param
    options = {"epochs": 4, "precision": request.param, **SMALL}
    return resnets.train(colours, "resnet20", output=folder, **options), request.param


def test_a_run_trains_and_exports(whole, colours):
    run, precision = whole
    assert run.metrics.main.value == 1.0, "two colours are told apart"
    assert run.proven.agreeing == run.proven.compared
    assert next(iter(resnets.load(run.proven.path).predict(colours))).label in ("blue", "red")
    tensors, metadata = read_model(run.folder / "weights" / "last.safetensors")
    assert all(one.dtype != torch.float16 for one in tensors.values()), "weights stay in float32"
    assert ("scaler" in metadata["checkpoint"]) == (precision == "float16")


def test_a_stopped_run_resumes_to_the_same_result(whole, colours, tmp_path):
    run, precision = whole
    rows = []
    resnets.train(
        colours,
        "resnet20",
        epochs=4,
        precision=precision,
        output=tmp_path / "part",
        callbacks=[lambda row: rows.append(row) or len(rows) == 4],
        **SMALL,
    )
    again = resume(tmp_path / "part", quiet=True)
    assert again.metrics.main.value == run.metrics.main.value
    last, expected = (
        read_model(one.folder / "weights" / "last.safetensors")[0] for one in (again, run)
    )
    names = [name for name in expected if name.endswith("weight") and "/" not in name]
    for name in names:
        distance = (last[name] - expected[name]).norm() / expected[name].norm()
        assert distance < 0.05, name

"""What OpenVINO computes of a module is what PyTorch computes."""

import pytest

torch = pytest.importorskip("torch", reason="training install")
pytest.importorskip("openvino", reason="the extra openvino")

from torch import nn  # noqa: E402

import resnets  # noqa: E402
from resnets.export import compiled  # noqa: E402
from resnets.export.compiled import ALIKE, compile_module  # noqa: E402
from resnets.tasks.classes import Classification  # noqa: E402

ROWS = [
    "resnet18 depths=1-1-1-1 widths=16-32-48-64",
    "resnet20",
    "preresnet110 depths=2-2-2",
    "densenet_bc_100_12 depths=2-2-2",
    "seresnet50 depths=1-1-1-1",
    "resnet50d depths=1-1-1-1",
]


def images(count, side=64):
    pixels = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count))
    return pixels.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_features_are_those_of_pytorch(name, short):
    torch.manual_seed(0)
    features = Classification().features(resnets.create_model(name, num_classes=2).eval())
    compute = compile_module(features, images(6), short)
    assert compute is not None
    for count in (6, 5, 1):  # the last batch is smaller
        some = images(count)
        with torch.no_grad():
            expected = features(some)
        found = compute(some)
        limit = ALIKE["bf16" if short else "f32"] * float(expected.abs().max())
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) <= limit


def test_later_inputs_leave_earlier_outputs_alone():
    compute = compile_module(nn.Flatten(), images(2, 4), False)
    first = compute(images(2, 4))
    kept = first.clone()
    compute(images(1, 4))
    assert torch.equal(first, kept)


class Drawn(nn.Module):
    """Gives something else each time."""

    def forward(self, images):
        return images.flatten(1) * torch.rand(1)


class Untraced(nn.Module):
    """Cannot be traced."""

    def forward(self, images):
        if torch.jit.is_tracing():
            raise TypeError("not to be traced")
        return images.flatten(1)


class Rare(nn.Module):
    """Takes what OpenVINO does not have."""

    def forward(self, images):
        return torch.special.bessel_j0(images).flatten(1)


@pytest.mark.parametrize("module", [Drawn(), Untraced(), Rare()])
def test_a_module_that_is_computed_otherwise_stays_with_pytorch(module):
    assert compile_module(module, images(2, 4), False) is None


def test_without_openvino_there_is_nothing(monkeypatch):
    monkeypatch.setattr(compiled, "available_engines", lambda: ["onnxruntime"])
    assert compile_module(nn.Flatten(), images(2, 4), False) is None

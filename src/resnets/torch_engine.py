"""PyTorch as an engine: a model runs as an exported file does."""

from __future__ import annotations

import threading
from typing import Self

import numpy as np
import torch

from resnets.kinds.inverse import InverseTransform
from resnets.kinds.prediction import Outputs
from resnets.modelfile import Model
from resnets.models.folding import fold_norms
from resnets.runtime.file_engine import Shape
from resnets.runtime.golden import to_image
from resnets.training.device import autocasting, place_input, place_net


def quicken(model: Model) -> None:
    """Lets a network that only predicts from here on do it as fast as PyTorch can: weights in the
    order of the device, BatchNorm folded. Predictions move by rounding errors."""
    device = next(model.net.parameters()).device
    place_net(model.net, device)
    value, frames = model.preprocessing, (model.sampling.frames,) if model.sampling else ()
    own = torch.Generator().manual_seed(0)  # numbers that others draw stay as they are
    image = torch.randn(1, value.channels, *frames, *value.size, generator=own)
    fold_norms(model.net, place_input(image, device))


class TorchEngine:
    """Runs a model; see `runtime.engines.Engine`.

    Args:
        model: Its network stays where it is, on its device.
        autocast: In what it computes, if not in float32; outputs are float32 in any case.
    """

    name = "torch"
    version = str(torch.__version__)

    def __init__(self, model: Model, autocast: torch.dtype | None = None) -> None:
        self.model, self.autocast = model, autocast
        self._computing = threading.Lock()  # it has all cores; others read images meanwhile
        self.inference = model.inference()
        # of outputs that not every network has, as far as is known without running it
        self.graph_shapes = {"familiar": (None,)} if model.familiarity is not None else {}

    def __call__(self, image: np.ndarray) -> Outputs:
        """Outputs for images of one size, whole: (N, H, W, C) in their stored type, or clips (N,
        T, H, W, C)."""
        preprocessing = self.model.preprocessing
        flat = image.reshape(-1, *image.shape[-3:])
        pixels = np.stack([preprocessing.pixels(to_image(one)) for one in flat])
        with self._computing:
            outputs = self.run(pixels.reshape(*image.shape[:-3], *pixels.shape[1:]))
        inverse = InverseTransform(*preprocessing.axes(*image.shape[-3:-1]))
        return inverse(self.model.task.kind, outputs)

    def for_batches(self, shape: Shape) -> Self:
        """Itself, which takes batches of any shape."""
        return self

    @torch.inference_mode()
    def run(self, pixels: np.ndarray) -> Outputs:
        """Outputs for prepared input, (N, height, width, C) of `Preprocessing.pixels`, or (N, T,
        height, width, C); places are those in the input."""
        self.inference.eval()  # the network may have been trained since
        device = next(self.model.net.parameters()).device
        inputs = place_input(torch.from_numpy(self.model.preprocessing.normalise(pixels)), device)
        with autocasting(device, self.autocast):
            outputs = self.inference(inputs)
        found = (tensor.float() if tensor.is_floating_point() else tensor for tensor in outputs)
        arrays = (tensor.cpu().numpy() for tensor in found)
        # those that not every network has are the last ones
        return dict(zip(self.model.task.kind.outputs, arrays, strict=False))

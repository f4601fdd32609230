"""What a network must beat: a linear softmax classifier on a few pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from resnets.data.splits import class_indices
from resnets.kinds.sample import Sample
from resnets.preprocessing import Preprocessing

SIDE = 12  # pixels


def predict_linear(
    train: Sequence[Sample], held_out: Sequence[Sample], classes: Sequence[str]
) -> np.ndarray:
    """Probabilities (n, classes) of held-out images from their 12 x 12 pixels, by the minimum of
    the loss on the training images."""
    inputs, labels = _inputs(train), torch.from_numpy(class_indices(train, classes))
    net = nn.Linear(inputs.shape[1], len(classes))
    nn.init.zeros_(net.weight)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs), labels) + 1e-3 * net.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        return net(_inputs(held_out)).softmax(1).numpy()


def _inputs(samples: Sequence[Sample]) -> torch.Tensor:
    preprocessing = Preprocessing.square(SIDE)
    pixels = np.stack([preprocessing.pixels(preprocessing.open(sample.path)) for sample in samples])
    return torch.from_numpy(preprocessing.normalise(pixels)).flatten(1)

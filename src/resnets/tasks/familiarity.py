"""How like the images that a network was trained on an image is: what a file knows of what it does
not know.

Features of an image are scaled to length one: how long they are says more of contrast than of what
is shown (Mueller and Hein 2025, arXiv:2505.18032). Around the mean of each class they are taken to
vary alike (Lee et al. 2018, arXiv:1807.03888), in a few main directions as far as they do, in all
others equally far (Tipping and Bishop 1999). An image is as strange as it is far from the nearest
class in that measure, and that is said in terms of images which nothing was fitted to: 0.02 means
that only 2 % of them are stranger.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_DIRECTIONS = 64
EACH = 8  # images for each direction, at least
FEWEST = 20  # held-out images: of fewer not even the strangest is among 5 %
LEVELS = 64  # of the distances of held-out images that are kept
# Of levels, at least: features have length one, and those of two engines, or of an image that the
# graph has scaled, are up to 1e-5 apart, which must not count
APART = 5e-3
PREFIX = "familiarity/"  # of tensors in a model file
EMBEDDING = 1  # its place among the outputs of a network


class Familiarity(nn.Module):
    """Features to the share of held-out images that are at least as strange.

    Args:
        means: (classes, channels) of the features of each class, which have length one.
        basis: (channels, directions), main directions of the variation within classes, each as long
            as the share of the variation there that lies beyond that in other directions.
        knots: (levels + 1,) distances, ascending: as many held-out images lie between each two.
    """

    def __init__(self, means: Tensor, basis: Tensor, knots: Tensor) -> None:
        super().__init__()
        for name, tensor in {"means": means, "basis": basis, "knots": knots}.items():
            self.register_buffer(name, tensor)
        self.means: Tensor
        self.basis: Tensor
        self.knots: Tensor

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], channels: int) -> Familiarity:
        """The one in a model file.

        Args:
            tensors: Of the file.
            channels: Of the features.

        Raises:
            ValueError: Tensors are missing, or do not fit.
        """
        names = ("means", "basis", "knots")
        found = {name: tensors.get(PREFIX + name) for name in names}
        shapes = {name: tensor.shape for name, tensor in found.items() if tensor is not None}
        fits = (
            [len(shape) for shape in shapes.values()] == [2, 2, 1]
            and shapes["means"][1] == shapes["basis"][0] == channels
            and shapes["knots"][0] > 1
            and all(tensor is not None and tensor.isfinite().all() for tensor in found.values())
        )
        if not fits:
            told = {name: list(shape) for name, shape in shapes.items()}
            raise ValueError(f"familiarity of {told} does not fit {channels} features")
        return cls(**found)  # type: ignore[arg-type]

    @classmethod
    def fit(cls, features: Tensor, groups: Tensor, held_out: Tensor) -> Familiarity | None:
        """From images of training, and from others for the scale.

        Args:
            features: (n, channels).
            groups: (n,) int64, the class of each.
            held_out: (m, channels) of images that the network was not trained on.

        Returns:
            None where there are too few images.
        """
        units = F.normalize(features.float())
        numbers, groups = groups.unique(return_inverse=True)
        free = len(units) - len(numbers)
        directions = min(MOST_DIRECTIONS, units.shape[1] // 2, free // EACH)
        if directions < 1 or len(held_out) < FEWEST:
            return None
        means = torch.stack([units[groups == group].mean(0) for group in range(len(numbers))])
        apart = units - means[groups]
        variances, vectors = torch.linalg.eigh(apart.T @ apart / free)
        rest = variances[:-directions].mean()
        beyond = (1 - rest / variances[-directions:].clamp_min(1e-12)).clamp(0, 1)
        found = cls(means, vectors[:, -directions:] * beyond.sqrt(), torch.zeros(2))
        found.knots = make_knots(found.distances(held_out))
        return found

    def distances(self, features: Tensor) -> Tensor:
        """(N, channels) to the distance (N,) to the nearest class: features have length one, and
        main directions count as far as they vary no more than the others."""
        middle = self.means.mean(0)  # subtracted first: distances are small beside the features
        points, centres = F.normalize(features.float()) - middle, self.means - middle
        return _squares(self._shortened(points), self._shortened(centres)).amin(1).sqrt()

    def _shortened(self, points: Tensor) -> Tensor:
        """(N, channels) with main directions as far as they count: times the square root of I - B
        B^T for the basis B. Squares of distances would be exact to the rounding of those in main
        directions, which may be ten thousand times as large as what is left."""
        beyond = self.basis.square().sum(0)
        share = 1 / (1 + (1 - beyond).clamp_min(0).sqrt())
        return points - (points @ self.basis * share) @ self.basis.T

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels) to (N,) between 0 and 1."""
        return share_beyond(self.distances(features), self.knots)


def _squares(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distances (N, classes) of (N, d) from (classes, d)."""
    lengths = points.square().sum(1, keepdim=True) + centres.square().sum(1)
    return (lengths - 2 * points @ centres.T).clamp_min(0)


def make_knots(distances: Tensor) -> Tensor:
    """(`LEVELS` + 1,) from 0 to beyond the largest distance (m,), so that a new image of the same
    kind lies between any two with the same probability: of m + 1 images each is equally likely to
    be the farthest."""
    ordered = distances.double().sort().values
    farthest = 2 * ordered[-1] - ordered.median()
    ordered = torch.cat([ordered.new_zeros(1), ordered, farthest[None]])
    place = torch.linspace(0, len(ordered) - 1, LEVELS + 1, dtype=torch.float64)
    below = place.long().clamp_max(len(ordered) - 2)
    return torch.lerp(ordered[below], ordered[below + 1], place - below).float()


def share_beyond(distances: Tensor, knots: Tensor) -> Tensor:
    """The share of the images behind some knots that are at least as far away: piecewise linear,
    so that engines agree."""
    middles, gaps = (knots[1:] + knots[:-1]) / 2, (knots[1:] - knots[:-1]).clamp_min(APART)
    return ((middles - distances[:, None]) / gaps + 0.5).clamp(0, 1).mean(1)


def kept_when_halved(distances: Tensor, halves: Tensor, threshold: float) -> Tensor:
    """(m,) bool: which images count as familiar to the scale that the other half gives.

    Args:
        distances: (m,) of the images that the scale is made from.
        halves: (m,) of 0 and 1.
        threshold: From which share on an image is familiar.
    """
    kept = torch.zeros(len(distances), dtype=torch.bool)
    for one in (0, 1):
        knots = make_knots(distances[halves != one])
        kept[halves == one] = share_beyond(distances[halves == one], knots) >= threshold
    return kept


class WithFamiliarity(nn.Module):
    """A network with decoded outputs, and one more behind them.

    Args:
        inference: Whose second output is the embedding.
        familiarity: Of the embedding.
    """

    def __init__(self, inference: nn.Module, familiarity: Familiarity) -> None:
        super().__init__()
        self.inference, self.familiarity = inference, familiarity

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the network, and `familiar` (N,)."""
        outputs = self.inference(images)
        return (*outputs, self.familiarity(outputs[EMBEDDING]))

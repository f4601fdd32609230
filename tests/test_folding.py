"""BatchNorm goes into the convolution before it, and no network computes anything else after that."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import resnets
from resnets.models.folding import fold_norms

NETWORKS = {  # with the norms that may stay: those after a sum, a concatenation or a shared map
    "resnet18": 0,
    "resnet50": 0,
    "resnet20": 0,
    "resnext50_32x4d": 0,
    "seresnet50": 0,
    "resnet18 stem=deep": 0,
    "resnet18 antialias=blur": 0,
    "preresnet110": math.inf,
    "densenet121": math.inf,
    "wrn16_4": math.inf,
    "resnet18 norm=group": math.inf,
}


def trained(net):
    """A network whose norms have statistics that matter."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.eval()


def norms_of(net):
    return sum(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in net.modules())


def check(net, image, other):
    """Folds, and compares on an image that was not seen; the norms that are left."""
    before, count = copy.deepcopy(net), norms_of(net)
    folded = fold_norms(net, image)
    assert norms_of(net) == count - folded
    with torch.no_grad():
        torch.testing.assert_close(net(other), before(other), rtol=1e-3, atol=1e-3)
    return count - folded


@pytest.mark.parametrize("name", NETWORKS)
def test_predictions_stay(name):
    net = trained(resnets.create_model(name, num_classes=7))
    left = check(net, torch.randn(1, 3, 64, 64), torch.randn(2, 3, 64, 64))
    assert left <= NETWORKS[name]


class Twice(nn.Module):
    """A map that a norm takes, and something else too."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.other = nn.BatchNorm2d(8)

    def forward(self, x):
        if self.how == "shared":
            return self.norm(self.conv(x)) + self.norm(self.conv(x.flip(2)))
        found = self.conv(x)
        if self.how == "sum":
            return self.norm(found) + found
        if self.how == "given":
            return self.norm(found), found
        if self.how == "two":
            return self.norm(found) + self.other(found)
        if self.how == "in_place":
            normed = self.norm(found)
            return normed + found.relu_()
        return self.norm(found)


@pytest.mark.parametrize("how", ["sum", "given", "two", "shared", "in_place"])
def test_a_map_that_others_take_too_is_left_alone(how):
    net = trained(Twice(how))
    assert fold_norms(net, torch.randn(1, 3, 16, 16)) == 0
    assert norms_of(net) == 2


def test_the_only_taker_is_folded():
    net = trained(Twice("alone"))
    assert check(net, torch.randn(1, 3, 16, 16), torch.randn(1, 3, 16, 16)) == 1  # the other one


class Rare(Twice):
    """What it computes depends on how its norm is made: no fold can know."""

    def forward(self, x):
        return self.norm(self.conv(x)) * (2 if isinstance(self.norm, nn.BatchNorm2d) else 3)


def test_a_network_that_would_compute_something_else_stays():
    net = trained(Rare("alone"))
    image = torch.randn(1, 3, 16, 16)
    before = net(image)
    assert fold_norms(net, image) == 0
    assert torch.equal(net(image), before)


class Hidden(Twice):
    """What it gives cannot be compared."""

    def forward(self, x):
        return SimpleNamespace(found=self.norm(self.conv(x)))


def test_a_network_whose_outputs_cannot_be_compared_stays():
    assert fold_norms(trained(Hidden("alone")), torch.randn(1, 3, 16, 16)) == 0


def test_a_norm_of_the_batch_itself_stays():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False))
    assert fold_norms(net, torch.randn(2, 3, 16, 16)) == 0


def test_a_model_that_is_loaded_is_folded_and_known_by_its_file(tmp_path):
    net = trained(resnets.create_model("resnet20", num_classes=10))
    file = tmp_path / "net.pth"
    torch.save(net.state_dict(), file)
    predictor = resnets.load(file, model="resnet20")
    assert norms_of(predictor.engine.model.net) == 0
    assert predictor.sha256
    assert predictor.sha256 == resnets.load(file, model="resnet20").sha256
    assert predictor.sha256 != predictor.engine.model.sha256

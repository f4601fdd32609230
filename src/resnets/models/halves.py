"""A residual network in two: all before its last stage, and the rest. Most of the work lies before,
so images whose maps are kept from there can be trained on for a fraction of it."""

from __future__ import annotations

from torch import Tensor, nn

from resnets.models.resnet import ResNet


class Front(nn.Module):
    """A network up to its last stage; parameters shared.

    Args:
        net: With two stages or more.
    """

    def __init__(self, net: ResNet) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.stages = nn.Sequential(*(getattr(net, name) for name in net.stage_names[:-1]))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) to maps; of ResNet-18 (N, 256, H / 16, W / 16)."""
        return self.stages(self.maxpool(self.relu(self.bn1(self.conv1(images)))))


class Tail(nn.Module):
    """A network from its last stage on, which takes maps as a network takes images; parameters
    shared.

    Args:
        net: With two stages or more.
    """

    def __init__(self, net: ResNet) -> None:
        super().__init__()
        self.stage = getattr(net, net.stage_names[-1])
        self.norm, self.act, self.avgpool, self.fc = net.norm, net.act, net.avgpool, net.fc

    def forward_features(self, maps: Tensor) -> Tensor:
        """The last feature maps, as `ResNet.forward_features` gives them."""
        return self.act(self.norm(self.stage(maps)))

    def forward(self, maps: Tensor) -> Tensor:
        """What comes out of `Front` to logits (N, num_classes)."""
        return self.fc(self.avgpool(self.forward_features(maps)).flatten(1))

    def get_classifier(self) -> nn.Module:
        """The linear layer on the pooled feature maps."""
        return self.fc


def halve(net: nn.Module) -> tuple[Front, Tail] | None:
    """Both parts of a network, the second on what the first gives; None of one that is no `ResNet`,
    goes through its stages in another way, or has a single one."""
    if not isinstance(net, ResNet):
        return None
    own = ("forward", "forward_features", "forward_stages")
    if any(getattr(type(net), name) is not getattr(ResNet, name) for name in own):
        return None
    return (Front(net), Tail(net)) if len(net.stage_names) > 1 else None

"""The contract of blocks, both ways: anybody's blocks in our ResNet, our blocks in anybody's.

`out_channels` is the width of the stage, and the block returns `out_channels * expansion` channels.
"""

import functools
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
import torchvision  # noqa: E402
from torch import nn  # noqa: E402

import resnets  # noqa: E402
from resnets import BasicBlock, Bottleneck, ResNet  # noqa: E402
from resnets.models.preact import PreActBasicBlock, PreActBottleneck  # noqa: E402

DEPTHS = {
    "ResNet18": (BasicBlock, [2, 2, 2, 2]),
    "ResNet34": (BasicBlock, [3, 4, 6, 3]),
    "ResNet50": (Bottleneck, [3, 4, 6, 3]),
    "ResNet101": (Bottleneck, [3, 4, 23, 3]),
    "ResNet152": (Bottleneck, [3, 8, 36, 3]),
}
NARROW = [8, 8, 16, 16]


class TheirBasicBlock(nn.Module):
    """As people write it, with torchvision's names."""

    expansion = 1

    def __init__(self, in_planes, planes, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + identity)


class TheirBottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_planes, planes, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.downsample = downsample

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return torch.relu(self.bn3(self.conv3(out)) + identity)


class TheirResNet(nn.Module):
    """A network in the usual style, around any block that keeps the contract."""

    def __init__(self, block, layers, num_classes, widths=NARROW):
        super().__init__()
        self.channels = widths[0]
        self.conv1 = nn.Conv2d(3, self.channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(self.channels)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for number, (width, depth) in enumerate(zip(widths, layers, strict=True), 1):
            stage = self._make_layer(block, width, depth, 1 if number == 1 else 2)
            self.add_module(f"layer{number}", stage)
        self.fc = nn.Linear(self.channels, num_classes)

    def _make_layer(self, block, planes, blocks, stride):
        downsample = None
        if stride != 1 or self.channels != planes * block.expansion:
            downsample = nn.Sequential(
                nn.Conv2d(self.channels, planes * block.expansion, 1, stride, bias=False),
                nn.BatchNorm2d(planes * block.expansion),
            )
        first = block(self.channels, planes, stride, downsample)
        self.channels = planes * block.expansion
        return nn.Sequential(first, *(block(self.channels, planes) for _ in range(blocks - 1)))

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


def randomise(net):
    """Every parameter and statistic drawn, so that no branch is silent by chance."""
    generator = torch.Generator().manual_seed(0)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.normal_(0, 0.2, generator=generator)
            if name.endswith("running_var"):
                value.abs_().add_(0.5)
    return net.eval()


def equal(one, other):
    """Strictly the same state dict, and the same logits."""
    other.load_state_dict(randomise(one).state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    expected = one(images)
    assert expected.std() > 1e-4
    torch.testing.assert_close(other.eval()(images), expected, atol=1e-5, rtol=1e-5)


THEIRS = {BasicBlock: TheirBasicBlock, Bottleneck: TheirBottleneck}
TORCHVISION = {
    BasicBlock: torchvision.models.resnet.BasicBlock,
    Bottleneck: torchvision.models.resnet.Bottleneck,
}


@pytest.mark.parametrize("blocks", [THEIRS, TORCHVISION], ids=["by hand", "torchvision"])
@pytest.mark.parametrize("name", DEPTHS)
@torch.no_grad()
def test_their_blocks_in_our_network(name, blocks):
    ours, layers = DEPTHS[name]
    if len(layers) and sum(layers) > 20:
        layers = [min(depth, 4) for depth in layers]  # deep ones: the shapes below are all of them
    equal(ResNet(ours, layers, 5, widths=NARROW), ResNet(blocks[ours], layers, 5, widths=NARROW))


@pytest.mark.parametrize("blocks", [THEIRS, TORCHVISION], ids=["by hand", "torchvision"])
@pytest.mark.parametrize("name", DEPTHS)
def test_all_five_depths_have_the_shapes_of_torchvision(name, blocks):
    ours, layers = DEPTHS[name]
    with torch.device("meta"):
        nets = (
            getattr(resnets, name)(),
            ResNet(blocks[ours], layers, 1000),
            getattr(torchvision.models, name.lower())(),
        )
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in nets]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@torch.no_grad()
def test_our_blocks_in_their_network(block):
    layers = [2, 1, 2, 1]
    equal(TheirResNet(THEIRS[block], layers, 5), TheirResNet(block, layers, 5))
    equal(ResNet(block, layers, 5, widths=NARROW), TheirResNet(block, layers, 5))


@pytest.mark.parametrize("block", [PreActBasicBlock, PreActBottleneck])
@torch.no_grad()
def test_our_preactivated_blocks_keep_the_contract(block):
    net = TheirResNet(block, [2, 1, 2, 1], 5).eval()
    assert net(torch.randn(2, 3, 64, 64)).shape == (2, 5)
    assert net.layer4[0](torch.randn(1, 16 * block.expansion, 8, 8)).shape[1] == (
        16 * block.expansion
    )


@torch.no_grad()
def test_wider_and_grouped_bottlenecks_equal_torchvision():
    peer = torchvision.models.ResNet(TORCHVISION[Bottleneck], [1, 1, 1, 1], 5, False, 32, 4)

    class Grouped(Bottleneck):
        groups, group_width = 32, 4

    equal(peer, ResNet(Grouped, [1, 1, 1, 1], 5))


@pytest.mark.parametrize(
    "block",
    [
        functools.partial(Bottleneck),
        nn.Conv2d,
        lambda *_: nn.Identity(),
        type("B", (), {}),
        type("B", (), {"expansion": 1.5}),
        type("B", (), {"expansion": property(lambda self: 1)}),
    ],
)
def test_a_block_without_expansion_is_refused(block):
    with pytest.raises(ValueError, match="a class attribute with a whole number"):
        ResNet(block, [1, 1])


def test_the_examples_of_the_document_run():
    text = (Path(__file__).parents[1] / "docs" / "blocks.md").read_text("utf-8")
    examples = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        assert "\nassert " in example
        exec(example, {})


@torch.no_grad()
def test_our_blocks_in_torchvisions_network_through_the_adapter():
    text = (Path(__file__).parents[1] / "docs" / "blocks.md").read_text("utf-8")
    space: dict = {}
    exec(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[-1], space)
    layers = [1, 2, 1, 1]
    equal(
        torchvision.models.ResNet(TORCHVISION[Bottleneck], layers, 5),
        torchvision.models.ResNet(space["Adapter"], layers, 5),
    )
    with pytest.raises(ValueError, match="defaults only"):
        torchvision.models.ResNet(space["Adapter"], layers, 5, groups=2)

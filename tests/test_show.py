"""A network looked at: table 1 of the paper, what each output sees, the memory of a step, lists,
comparisons and the picture."""

import math
import re
from xml.etree import ElementTree

import pytest
import torch
from sampling import sampled
from torch import nn

from resnets import create_model
from resnets.models import Network
from resnets.models.parts import replace
from resnets.models.rows import ROWS
from resnets.pretrained import published_accuracy
from resnets.screen import Screen
from resnets.summary import catalogue
from resnets.summary.diagram import draw
from resnets.summary.table import activation_bytes, count_parameters, summarise

KINDS = re.split(
    r",\s+",
    "resnet18, resnet50d, resnet20 shortcut=none, seresnext50_32x4d, resnetblur50, resnetaa50,"
    " senet154, resnetrs50, ecaresnet50t, preresnet110, resnet34 shortcut=projection_everywhere,"
    " resnetv2_50x1_bit, skresnet50, res2net50_26w_4s, resnest50d, densenet121, densenet_bc_100_12,"
    " wrn28_10, vit_tiny_patch16_224, vit_tiny_patch16_224 order=none, vit_tiny_patch16_224"
    " order=post, r3d_18, r2plus1d_18, resnet50 output_stride=8, densenet121 output_stride=8",
)
SVG = "{http://www.w3.org/2000/svg}"
quiet = Screen(quiet=True)


def test_the_table_is_that_of_the_paper():
    """Table 1 of He et al. 2015, ResNet-50."""
    stages = {stage.name: stage for stage in summarise(create_model("resnet50"), 224)}
    assert stages["conv1"].layers == "7x7 64, /2"
    assert [stages[f"layer{number}"].layers for number in (1, 2, 3, 4)] == [
        "[1x1 64, 3x3 64, 1x1 256] x 3",
        "[1x1 128, 3x3 128, 1x1 512] x 4",
        "[1x1 256, 3x3 256, 1x1 1024] x 6",
        "[1x1 512, 3x3 512, 1x1 2048] x 3",
    ]
    assert [stages[f"layer{number}"].output[1] for number in (1, 2, 3, 4)] == [56, 28, 14, 7]
    assert stages["maxpool"].layers == "max 3x3, /2"
    assert stages["avgpool"].layers == "global average"
    assert stages["fc"].layers == "linear 1000"


@pytest.mark.parametrize("words", sampled(KINDS, 5))
def test_parts_add_up_to_the_whole(words):
    network = Network.parse(words)
    net, side, stages = catalogue.built(network)
    # the class token and places of a Transformer
    loose = sum(parameter.numel() for parameter in net.parameters(recurse=False))
    assert sum(stage.parameters for stage in stages) + loose == count_parameters(net)
    if words in ROWS:
        assert sum(stage.macs for stage in stages) == ROWS[words].macs
    leaves = summarise(net, (16, side, side) if network.is_clip else side, leaves=True)
    attention = sum(stage.macs for stage in stages) - sum(leaf.macs for leaf in leaves)
    assert attention >= 0
    # the products of attention belong to no single layer
    assert (attention > 0) == words.startswith("vit")


def test_looking_changes_nothing():
    net = create_model("resnet20").train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    summarise(net, 32)
    activation_bytes(net, 32, 4)
    assert net.training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


@torch.no_grad()
def _softened(words: str) -> nn.Module:
    """The network with every choice made smooth and every weight positive, so that all that is seen
    has a gradient."""
    net = create_model(words).eval()
    replace(
        net, nn.MaxPool2d, lambda pool: nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding)
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.abs_().clamp_(min=1e-3)
    return net.double()


STAGES = {  # of networks that are looked at, the one whose outputs are
    "resnet18": 2,
    "resnet50": 2,
    "resnet50 stride_in=1x1": 2,
    "resnet20": 3,
    "preresnet110 depths=2-2-2": 3,
    "resnet18d": 2,
    "resnet50 antialias=blur": 2,
    "resnet50 antialias=average": 2,
    "resnetrs50 attention=none": 2,
    "resnet50 output_stride=8": 3,
    "senet154 depths=2-2-1-1 attention=none": 2,
    "res2net50_26w_4s depths=2-2-1-1": 2,
    "densenet121 depths=3-3-1-1": 2,
}


@pytest.mark.parametrize("words", sampled(STAGES, 3))
def test_an_output_sees_as_much_of_the_picture_as_is_said(words):
    """The gradient of one place of the maps is not zero on so many rows of the picture, and zero
    outside; a narrow one will do."""
    size = 320
    _, _, stages = catalogue.built(Network.parse(words), size)
    stage = STAGES[words]
    names = (f"layer{stage}", f"denseblock{stage}")
    field = next(one.field for one in stages if one.name.endswith(names))
    net = _softened(words)
    x = torch.rand(1, 3, size, 64, dtype=torch.float64, requires_grad=True)
    maps = net.forward_stages(x)[stage]
    maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2].sum().backward()
    rows = torch.nonzero(x.grad.abs().sum((0, 1, 3)) > 0)
    assert int(rows.max() - rows.min()) + 1 == field < size


def test_attention_sees_the_whole_picture():
    stages = {stage.name: stage for stage in summarise(create_model("vit_tiny_patch16_224"), 224)}
    assert (stages["patch_embed.proj"].field, stages["blocks"].field) == (16, 224)


def test_the_memory_of_a_step_by_hand():
    """A convolution keeps its input, a ReLU its output, a linear layer its input; weights are not
    counted."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 2)
    )
    assert activation_bytes(net, 4, 5) == 4 * 5 * (3 * 16 + 8 * 16)
    assert activation_bytes(net, 4, 10) == 2 * activation_bytes(net, 4, 5)


def test_checkpointing_saves_memory():
    kept = [
        activation_bytes(create_model("resnet50", checkpointing=given), 64, 2)
        for given in (False, True)
    ]
    assert kept[1] < 0.5 * kept[0]


# ----------------------------------------------------------------------------------------------------
# lists and comparisons


def test_lists_are_sorted_as_asked():
    for key in ("name", "parameters", "macs"):
        values = [one[key] for one in catalogue.show_list("se*", None, key, quiet)["networks"]]
        assert values == sorted(values)
        assert len(values) > 20
    top = [one["top1"] for one in catalogue.show_list("resnet*", None, "top1", quiet)["networks"]]
    known = [value for value in top if value is not None]
    assert known == sorted(known, reverse=True)
    assert top[: len(known)] == known  # those without come last
    assert [one["name"] for one in catalogue.show_list("*", None, None, quiet)["networks"]] == list(
        ROWS
    )
    with pytest.raises(ValueError, match="sort=size: allowed: macs, name, parameters, top1"):
        catalogue.show_list("*", None, "size", quiet)


def test_a_list_counts_at_another_size():
    at = {
        size: catalogue.show_list("resnet18", size, None, quiet)["networks"][0]["macs"]
        for size in (224, 448)
    }
    assert at[224] == ROWS["resnet18"].macs
    assert at[448] / at[224] == pytest.approx(4, rel=0.01)  # all but the classifier


def test_published_accuracies_name_weights_that_exist():
    """torchvision's own numbers (its documentation), and timm's table of results; every tag of the
    table is one of timm's."""
    found = {one.weights: one for one in published_accuracy("resnet50")}
    assert found["torchvision:IMAGENET1K_V1"].top1 == pytest.approx(76.130)
    assert found["torchvision:IMAGENET1K_V2"].top1 == pytest.approx(80.858)
    assert (found["timm:resnet50.a1_in1k"].top1, found["timm:resnet50.a1_in1k"].size) == (
        81.24,
        288,
    )
    assert [one.top1 for one in published_accuracy("resnet50")] == sorted(
        (one.top1 for one in found.values()), reverse=True
    )
    assert (
        published_accuracy("vit_base_patch16_224")[0].weights
        == "torchvision:IMAGENET1K_SWAG_E2E_V1"
    )
    assert published_accuracy("r3d_18")[0].top1 == pytest.approx(63.2, abs=0.01)
    assert published_accuracy("resnet20") == []
    timm = pytest.importorskip("timm")
    named = [
        one.weights.removeprefix("timm:")
        for name in ROWS
        for one in published_accuracy(name)
        if one.weights.startswith("timm:")
    ]
    assert len(named) > 150
    assert not set(named) - set(timm.list_pretrained())


def test_two_networks_differ_in_words_and_sums():
    values = catalogue.show_difference(
        [Network.parse("resnet50"), Network.parse("resnet50d")], None, quiet
    )
    assert values["different"] == {
        "stem": ["imagenet", "deep"],
        "shortcut": ["projection", "average"],
    }
    assert values["parameters"] == [25557032, 25576264]
    assert (
        catalogue.show_difference([Network.parse("resnet50")] * 2, None, quiet)["different"] == {}
    )
    kinds = catalogue.show_difference(
        [Network.parse("resnet50"), Network.parse("densenet121")], None, quiet
    )["different"]
    assert kinds["kind"] == ["residual network", "DenseNet"]
    assert kinds["growth"] == ["-", "32"]


# ----------------------------------------------------------------------------------------------------
# the picture


@pytest.mark.parametrize("words", sampled(KINDS, 4))
def test_every_kind_is_drawn_within_its_frame(words):
    network = Network.parse(words)
    root = ElementTree.fromstring(draw(network))
    width, height = (float(value) for value in root.get("viewBox").split()[2:])
    assert root.get("aria-label").startswith(f"{network}: ")
    boxes = [box for box in root.iter(f"{SVG}rect") if box.get("width") != "100%"]
    assert len(boxes) > 5
    for box in boxes:
        assert 0 <= float(box.get("x")) <= float(box.get("x")) + float(box.get("width")) <= width
        assert 0 <= float(box.get("y")) <= float(box.get("y")) + float(box.get("height")) <= height
    for text in root.iter(f"{SVG}text"):
        half = (
            0
            if "left" in text.get("class") or "title" in text.get("class")
            else len(text.text) * 5.5 / 2
        )
        assert half <= float(text.get("x")) <= width - half, text.text
        assert 0 < float(text.get("y")) < height
    assert not [
        element
        for element in root.iter()
        if element.tag.removeprefix(SVG) not in ("svg", "style", "rect", "text", "path", "circle")
    ]
    assert not [
        value
        for element in root.iter()
        for key, value in element.items()
        if "href" in key or key.startswith("on")
    ]


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "preresnet110", "wrn28_10"])
def test_a_backbone_is_drawn_without_the_classifier_that_it_does_not_have(name):
    whole, backbone = (draw(Network.parse(name, 3), (48, 64), one) for one in (False, True))
    assert "3 x 48 x 64" in whole
    assert "3 x 48 x 64" in backbone
    assert ">avgpool<" in whole
    assert ">avgpool<" not in backbone
    assert "as a backbone" in backbone
    for part in (">fc<", ">classifier<"):
        assert part not in backbone


def count(words: str, style: str) -> int:
    return sum(
        style in (element.get("class") or "").split()
        for element in ElementTree.fromstring(draw(Network.parse(words))).iter()
    )


def test_shortcuts_are_arcs_and_plain_networks_have_none():
    # one over each block, and one beside each of the two that are opened
    assert count("resnet18", "arc") == 8 + 2
    assert count("resnet18 shortcut=none", "arc") == 0
    assert count("vit_tiny_patch16_224 order=none", "arc") == 0
    assert count("densenet121", "arc") == 6 + 3 * 8 + 1  # of long stages eight are drawn


def test_what_is_inside_is_said():
    for words, texts in {
        "seresnext50_32x4d": (
            "squeeze and excitation",
            "3x3 256 in 32 groups, /2, norm, ReLU",
            "identity",
        ),
        "resnet50d": ("3x3 32, /2", "average 2x2"),
        "resnetv2_50x1_bit": ("group norm, ReLU, standardised 3x3 128",),
        "resnetblur50": ("blur, /2",),
        "resnet20": ("every 2nd place,", "zeros for new channels"),
        "densenet121": ("all maps so far", "side by side", "transition1"),
        "skresnet50": ("selective kernels, 3x3 128",),
        "r2plus1d_18": ("1x3x3 288, norm, ReLU, 3x1x1 128, norm, ReLU",),
    }.items():
        drawn = "\n".join(
            text.text
            for text in ElementTree.fromstring(draw(Network.parse(words))).iter(f"{SVG}text")
        )
        for text in texts:
            assert text in drawn, (words, text)


def test_parts_are_as_high_as_their_maps_are_large():
    root = ElementTree.fromstring(draw(Network.parse("resnet18")))
    heights = [
        float(box.get("height")) for box in root.iter(f"{SVG}rect") if box.get("class") == ""
    ][:7]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] == pytest.approx(16 + 11 * math.log2(224), abs=0.1)


def test_colours_follow_the_screen_and_paper_is_white():
    text = draw(Network.parse("resnet18"))
    assert "@media screen and (prefers-color-scheme:dark)" in text
    assert re.search(r"\.paper\{fill:#fff", text)

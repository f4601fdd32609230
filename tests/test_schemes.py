"""The names of other libraries: weights of theirs go into our networks, and then the answers are
theirs."""

import math
import re
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from sampling import sampled
from torch import nn
from torchvision.models import detection, segmentation, video
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from resnets import create_model, list_models
from resnets.models.rows import ROWS
from resnets.models.setting import DenseNetSetting, TransformerSetting
from resnets.models.weights import convert, load_weights
from resnets.pretrained import read_state

CLASSES = 7


def on_meta(build) -> nn.Module:
    with torch.device("meta"):
        return build()


@torch.no_grad()
def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """A network from the meta device with weights as of a trained one, mild; a fresh one hides its
    norms and zeroed branches."""
    net, generator = net.to_empty(device="cpu"), torch.Generator().manual_seed(seed)
    for key, value in net.state_dict().items():
        if value.ndim > 1:
            bound = math.sqrt(3 / value[0].numel())
            value.uniform_(-bound, bound, generator=generator)
        elif key.endswith("num_batches_tracked"):
            value.fill_(7)
        elif key.endswith(("weight", "running_var")):
            value.uniform_(0.5, 1.0, generator=generator)
        else:
            value.uniform_(-0.2, 0.2, generator=generator)
    return net.eval()


def small(name: str) -> tuple[str, dict[str, object]]:
    """A row with few blocks: its words, and the same for timm, which does not let them be chosen in
    some."""
    setting = ROWS[name].setting
    if name.endswith("_bit"):
        return name, {}
    if isinstance(setting, TransformerSetting):
        return f"{name} depth=2 size=64", {"depth": 2, "img_size": 64}
    depths = (2, *[1] * (len(setting.depths) - 1))
    key = "block_config" if isinstance(setting, DenseNetSetting) else "layers"
    return f"{name} depths={'-'.join(map(str, depths))}", {key: depths}


def from_timm(name: str) -> nn.Module:
    timm = pytest.importorskip("timm")
    return on_meta(partial(timm.create_model, name, num_classes=CLASSES, **small(name)[1]))


@cache
def names_in_timm(name: str) -> dict[str, torch.Tensor]:
    return from_timm(name).state_dict()


@cache
def our_names(words: str) -> dict[str, torch.Tensor]:
    return on_meta(partial(create_model, words, CLASSES)).state_dict()


def pictures(size: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def shapes(state) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def ours_with(words: str, state, classes: int = CLASSES) -> nn.Module:
    """Our network after a strict load: nothing new, nothing left over."""
    net = randomise(on_meta(partial(create_model, words, classes)), seed=1)
    loaded = load_weights(net, convert(state, words))
    assert not loaded.left
    assert not loaded.adapted
    assert {key for key in net.state_dict() if not key.endswith("num_batches_tracked")} <= set(
        loaded.loaded
    )
    return net


def compare(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.std() > 1e-3
    assert (theirs[0] - theirs[1]).abs().max() > 1e-4  # it depends on the picture
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


# ----------------------------------------------------------------------------------------------------
# names


@pytest.mark.parametrize("name", sampled(list_models(), 12))
def test_our_own_names_pass_through_unchanged(name):
    state = our_names(small(name)[0])
    converted = convert(state, name)
    assert list(shapes(converted).items()) == list(shapes(state).items())


@pytest.mark.parametrize(
    "name", sampled((name for name in list_models() if ROWS[name].classes == 1000), 12)
)
def test_names_and_shapes_of_timm_become_ours(name):
    converted = convert(names_in_timm(name), name)
    assert shapes(converted) == shapes(our_names(small(name)[0]))
    assert shapes(convert(converted, name)) == shapes(converted)  # a second time changes nothing


THEIRS = {
    "r3d_18": video.r3d_18,
    "mc3_18": video.mc3_18,
    "r2plus1d_18": video.r2plus1d_18,
    "vit_base_patch16_224": torchvision.models.vit_b_16,
    "densenet161": torchvision.models.densenet161,
    "resnext50_32x4d": torchvision.models.resnext50_32x4d,
}


@pytest.mark.parametrize("name", THEIRS)
def test_names_and_shapes_of_torchvision_become_ours(name):
    theirs = on_meta(partial(THEIRS[name], num_classes=CLASSES)).state_dict()
    converted = convert(theirs, name)
    assert shapes(converted) == shapes(our_names(name))
    assert shapes(convert(converted, name)) == shapes(converted)


PREFIXES = (
    "module.",
    "model.",
    "net.",
    "module.model.",
    "backbone.",
    "backbone.body.",
    "model.backbone.body.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    "name",
    ["resnet50d", "resnetv2_50", "skresnet18", "res2net50d", "densenet121", "vit_tiny_patch16_224"],
)
def test_what_stands_before_the_names_is_taken_off_and_what_is_beside_it_is_left_out(prefix, name):
    state = names_in_timm(name)
    expected = convert(state, name)
    around = {f"{prefix}{key}": value for key, value in state.items()} | {
        "loss.weight": torch.ones(1),
        "rpn.head.bias": torch.ones(1),
    }
    converted = convert(around, name)
    assert shapes(converted) == shapes(expected)
    assert all(converted[key] is expected[key] or key == "fc.weight" for key in expected)


def test_convert_needs_a_network_that_there_is():
    with pytest.raises(ValueError, match="unknown network 'resnet51': did you mean resnet"):
        convert({}, "resnet51")


# ----------------------------------------------------------------------------------------------------
# answers

ANSWERING = [
    "resnet50t", "resnet50s", "resnetrs50", "senet154", "ecaresnet26t",
    "resnetv2_18", "resnetv2_34d", "resnetv2_50", "resnetv2_50d", "resnetv2_50t", "resnetv2_50d_gn", "resnetv2_50x1_bit",
    "skresnet18", "skresnet50d", "skresnext50_32x4d", "res2net50_26w_4s", "res2net50d", "res2next50",
    "resnest14d", "resnest50d_1s4x24d", "resnest50d_4s2x40d", "densenet121", "vit_tiny_patch16_224",
]  # fmt: skip


@pytest.mark.parametrize("name", sampled(ANSWERING, 6))
@torch.no_grad()
def test_with_weights_of_timm_the_answers_are_those_of_timm(name):
    theirs = randomise(from_timm(name))
    compare(ours_with(small(name)[0], theirs.state_dict())(pictures()), theirs(pictures()))


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18"])
@torch.no_grad()
def test_with_weights_of_torchvision_clips_are_answered_alike(name):
    theirs = randomise(on_meta(partial(THEIRS[name], num_classes=CLASSES)))
    clips = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    compare(ours_with(name, theirs.state_dict())(clips), theirs(clips))


@torch.no_grad()
def test_with_weights_of_torchvision_a_transformer_answers_alike():
    build = partial(
        torchvision.models.VisionTransformer,
        64,
        16,
        num_layers=2,
        num_heads=3,
        hidden_dim=192,
        mlp_dim=768,
    )
    theirs = randomise(on_meta(partial(build, num_classes=CLASSES)))
    words = "vit_base_patch16_224 size=64 depth=2 heads=3 width=192"
    compare(ours_with(words, theirs.state_dict())(pictures()), theirs(pictures()))


@torch.no_grad()
def test_old_files_of_densenet_are_read():
    """Those that torchvision renames while it loads, which have no counters either."""
    theirs = randomise(on_meta(partial(torchvision.models.densenet121, num_classes=CLASSES)))
    kept = {
        key: value
        for key, value in theirs.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value
        for key, value in kept.items()
    }
    assert (len(old), len(set(old) - set(kept))) == (606, 580)
    again = randomise(on_meta(partial(torchvision.models.densenet121, num_classes=CLASSES)), seed=2)
    torchvision.models.densenet._load_state_dict(
        again, SimpleNamespace(get_state_dict=lambda **how: dict(old)), progress=False
    )
    images = pictures(32)
    # these are the names that torchvision reads
    torch.testing.assert_close(again(images), theirs(images))
    compare(ours_with("densenet121", old)(images), theirs(images))


def as_npz(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """A state dict of timm's under the names of Big Transfer's files: kernels are (height, width,
    in, out)."""
    letters = {"1": "a", "2": "b", "3": "c"}
    rules = [
        (r"^stem\.conv\.", "root_block/standardized_conv2d."),
        (r"^norm\.", "group_norm."),
        (r"^head\.fc\.", "head/conv2d."),
        (
            r"^stages\.(\d)\.blocks\.(\d+)\.",
            lambda found: f"block{int(found[1]) + 1}/unit{int(found[2]) + 1:02d}/",
        ),
        (r"downsample\.conv\.", "a/proj/standardized_conv2d."),
        (r"conv([123])\.", lambda found: f"{letters[found[1]]}/standardized_conv2d."),
        (r"norm([123])\.", lambda found: f"{letters[found[1]]}/group_norm."),
    ]
    arrays = {}
    for key, value in state.items():
        for pattern, new in rules:
            key = re.sub(pattern, new, key)
        name, _, kind = key.rpartition(".")
        kind = {("bias", True): "beta", ("weight", True): "gamma", ("weight", False): "kernel"}.get(
            (kind, "norm" in name), kind
        )
        arrays[f"resnet/{name}/{kind}"] = (
            value.permute(2, 3, 1, 0).numpy() if value.ndim == 4 else value.numpy()
        )
    return arrays


@torch.no_grad()
def test_npz_files_of_big_transfer_are_read(tmp_path):
    resnetv2 = pytest.importorskip("timm.models.resnetv2")
    conv = partial(pytest.importorskip("timm.layers").StdConv2d, eps=1e-8)
    build = partial(
        resnetv2.ResNetV2, (2, 1, 1, 1), num_classes=CLASSES, stem_type="fixed", conv_layer=conv
    )
    theirs, again = randomise(on_meta(build)), randomise(on_meta(build), seed=2)
    arrays = as_npz(theirs.state_dict())
    for part in (
        "block1/unit02/a/group_norm/gamma",
        "block1/unit01/a/proj/standardized_conv2d/kernel",
        "head/conv2d/bias",
    ):
        assert f"resnet/{part}" in arrays
    np.savez(tmp_path / "bit.npz", **arrays)
    again.load_pretrained(str(tmp_path / "bit.npz"))
    # these are the names that timm reads
    torch.testing.assert_close(again(pictures()), theirs(pictures()), atol=0, rtol=0)
    for state in (read_state(tmp_path / "bit.npz"), arrays):
        compare(
            ours_with("resnetv2_50x1_bit depths=2-1-1-1", state)(pictures()), theirs(pictures())
        )


# ----------------------------------------------------------------------------------------------------
# inside of others


def segmenting(build, **more) -> nn.Module:
    return on_meta(partial(build, weights=None, weights_backbone=None, **more))


INSIDE = {
    "deeplabv3": (
        "resnet50 output_stride=8",
        partial(segmenting, segmentation.deeplabv3_resnet50, aux_loss=True),
    ),
    "fcn": ("resnet50 output_stride=8", partial(segmenting, segmentation.fcn_resnet50)),
    "fasterrcnn": ("resnet50", partial(segmenting, detection.fasterrcnn_resnet50_fpn)),
    "retinanet": ("resnet50", partial(segmenting, detection.retinanet_resnet50_fpn)),
    "maskrcnn": ("resnet50", partial(segmenting, detection.maskrcnn_resnet50_fpn_v2)),
}


def body_of(net: nn.Module) -> nn.Module:
    return getattr(net.backbone, "body", net.backbone)


def last_of(body: nn.Module, images: torch.Tensor) -> torch.Tensor:
    maps = body(images)
    return maps["out" if "out" in maps else "3" if "3" in maps else "2"]


@pytest.mark.parametrize("name", INSIDE)
@torch.no_grad()
def test_backbones_inside_of_segmentation_and_detection_are_found(name):
    words, build = INSIDE[name]
    theirs = build()
    randomise(body_of(theirs))
    ours = randomise(on_meta(partial(create_model, words, CLASSES)), seed=1)
    converted = convert(theirs.state_dict(), words)
    assert set(converted) == set(ours.state_dict()) - {"fc.weight", "fc.bias"}
    assert load_weights(ours, converted).left == ("fc.weight", "fc.bias")
    compare(ours.forward_features(pictures()), last_of(body_of(theirs), pictures()))


@torch.no_grad()
def test_frozen_norms_without_counters_are_read():
    theirs = on_meta(partial(resnet_fpn_backbone, backbone_name="resnet50", weights=None))
    randomise(theirs.body)
    state = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
    assert not [key for key in state if key.endswith("num_batches_tracked")]
    ours = randomise(on_meta(partial(create_model, "resnet50", CLASSES)), seed=1)
    assert load_weights(ours, convert(state, "resnet50")).left == ("fc.weight", "fc.bias")
    compare(ours.forward_features(pictures()), last_of(theirs.body, pictures()))


# ----------------------------------------------------------------------------------------------------
# of other networks


def state_of(name: str) -> dict[str, torch.Tensor]:
    return on_meta(getattr(torchvision.models, name)).state_dict() if name else {}


def test_convolutions_of_images_become_the_middle_of_those_of_clips():
    """Weights of images start a network of clips: each sees the middle image alone at first."""
    images = create_model("resnet18 depths=1-1 widths=8-16", CLASSES)
    clips = create_model("resnet18 depths=1-1 widths=8-16 time=full", CLASSES)
    loaded = load_weights(clips, randomise(images).state_dict())
    assert "convolutions of images, which become the middle one of a clip" in str(loaded)
    flat, deep = images.layer1[0].conv1.weight, clips.layer1[0].conv1.weight
    torch.testing.assert_close(deep[:, :, 1], flat)
    assert not deep[:, :, [0, 2]].any()


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("resnet18", "", r"missing conv1.weight, bn1.weight, .* and \d+ more$"),
        ("resnet18", "vgg11", "missing conv1.weight.*; unknown features.0.weight"),
        ("resnet101", "resnet50", "missing layer3.6.conv1.weight, layer3.6.bn1.weight"),
        ("resnet50", "resnet101", "unknown layer3.6.conv1.weight, layer3.6.bn1.weight"),
        (
            "wide_resnet50_2",
            "resnet50",
            r"of another shape layer1.0.conv1.weight \(64, 64, 1, 1\) for \(128, 64, 1, 1\)",
        ),
        ("resnetv2_50", "resnet50", "unknown bn1.weight, bn1.bias"),
        ("resnet50d", "resnet50", "missing conv1.0.weight.*; unknown conv1.weight"),
        ("densenet121", "resnet18", "missing features.conv0.weight.*; unknown conv1.weight"),
        ("densenet169", "densenet121", "missing features.denseblock3.denselayer25.norm1.weight"),
        (
            "vit_small_patch16_224",
            "vit_b_16",
            r"of another shape cls_token \(1, 1, 768\) for \(1, 1, 384\)",
        ),
        ("vit_tiny_patch16_224", "resnet18", "missing cls_token.*; unknown conv1.weight"),
    ],
)
def test_weights_of_other_networks_are_refused_by_names_that_differ(name, other, message):
    net = on_meta(partial(create_model, name))
    with pytest.raises(ValueError, match=r"^weights of another network: ") as refused:
        load_weights(net, convert(state_of(other), name))
    assert re.search(message, str(refused.value))


def test_arrays_under_names_that_no_scheme_has_are_refused_by_name():
    arrays = {
        "Transformer/encoder_norm/bias": np.ones(1),
        "Transformer/Dense_0/kernel": np.ones((2, 3)),
    }
    with pytest.raises(
        ValueError,
        match=(
            r"missing cls_token.*; unknown Transformer/encoder_norm/bias,"
            r" Transformer/Dense_0/kernel"
        ),
    ):
        load_weights(
            on_meta(partial(create_model, "vit_tiny_patch16_224")),
            convert(arrays, "vit_tiny_patch16_224"),
        )

"""What every network of the family does, asked of every row: the counts it is published with,
shapes, gradients, sizes, memory. Parameters are counted in every run, all else takes turns."""

import math
import re
from collections import Counter
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sampling import sampled
from test_models import randomise
from torch import nn

from resnets import create_model, load
from resnets.export import exporter
from resnets.modelfile import Model, describe_network
from resnets.models import Features, Network, inflate
from resnets.models.parts import replace
from resnets.models.rows import ROWS
from resnets.models.setting import DenseNetSetting, ResNetSetting, TransformerSetting
from resnets.preprocessing import Preprocessing
from resnets.summary.table import count_parameters, summarise
from resnets.tasks.classes import Classification

CLASSES = 5
COUNTED_AS_NOTHING = (nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.ReLU)


def is_clip(name: str) -> bool:
    return Network.parse(name).is_clip


def is_transformer(name: str) -> bool:
    return isinstance(ROWS[name].setting, TransformerSetting)


def is_small(name: str) -> bool:
    """Made for pictures of 32 px."""
    return getattr(ROWS[name].setting, "stem", "") == "cifar"


def shrunk(name: str) -> str:
    """The row in words with few blocks and channels: every part stays, and gets as many channels as
    it needs to be divided."""
    setting = ROWS[name].setting
    if isinstance(setting, TransformerSetting):
        return f"{name} width={16 * setting.heads} depth=2 size=48"
    if isinstance(setting, DenseNetSetting):
        return f"{name} growth=8 depths={'-'.join('2111'[: len(setting.depths)])}"
    if is_small(name):
        return f"{name} depths=2-1-1 widths={'8-16-32' if setting.groups > 1 else '32-32-64'}"
    return (
        f"{name} depths=2-1-1-1"
        f" widths={'64-64-64-64' if setting.norm == 'group' else '32-32-64-64'}"
    )


def inputs(
    name: str, count: int = 2, channels: int = 3, sides: tuple[int, ...] = (), seed: int = 1
) -> torch.Tensor:
    """Noise of the shape a small version of the row takes; clips have a few pictures."""
    sides = sides or ((32, 32) if is_small(name) or is_clip(name) else (64, 64))
    sides = (4, *sides) if is_clip(name) else sides
    return torch.randn(count, channels, *sides, generator=torch.Generator().manual_seed(seed))


def hollow(words: str, *arguments, **more) -> nn.Module:
    """A network without memory, where only shapes count; nothing is drawn for it."""
    nothing = {
        "kaiming_normal_": lambda weight, **how: weight,
        "kaiming_uniform_": lambda weight, **how: weight,
    }
    with torch.device("meta"), mock.patch.multiple(nn.init, **nothing):
        return create_model(words, *arguments, **more)


@pytest.fixture(scope="module", params=sampled(ROWS, 12))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def real(name):
    """Stages of the row as it is, at the size at which it is counted."""
    net, size = hollow(name), ROWS[name].size
    replace(net, COUNTED_AS_NOTHING, lambda module: nn.Identity())  # which halves the time
    return summarise(net, (16, size, size) if is_clip(name) else size)


@pytest.fixture(scope="module")
def small(name):
    """A small version of it, as if it was trained."""
    return randomise(create_model(shrunk(name), CLASSES))


# ----------------------------------------------------------------------------------------------------
# as published


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_the_parameters_it_says(row):
    assert count_parameters(hollow(row)) == ROWS[row].parameters > 0


def test_a_row_has_the_multiply_adds_it_says(name, real):
    assert sum(stage.macs for stage in real) == ROWS[name].macs > 0


def channels_and_strides(setting) -> tuple[list[int], list[int]]:
    """Of the maps of stem and stages, by the papers; of each block of a Transformer."""
    if isinstance(setting, TransformerSetting):
        return [setting.width] * setting.depth, [setting.patch] * setting.depth
    if isinstance(setting, ResNetSetting):
        expansion = 4 if setting.block == "bottleneck" else 1
        channels = [
            setting.stem_width or setting.widths[0],
            *(width * expansion for width in setting.widths),
        ]
    else:
        channels = [2 * setting.growth]
        for stage, depth in enumerate(setting.depths):
            channels.append(channels[-1] // (2 if stage else 1) + depth * setting.growth)
    stem = 1 if setting.stem == "cifar" else 2
    first = stem if stem == 1 or getattr(setting, "stem_pool", "max") == "none" else 2 * stem
    return channels, [stem, *(first * 2**stage for stage in range(len(setting.depths)))]


def test_stages_have_the_channels_and_sizes_of_the_papers(name, real):
    found = [
        stage.output
        for stage in real
        if re.fullmatch(r"layer\d|features\.denseblock\d|blocks", stage.name)
    ]
    channels, strides = channels_and_strides(ROWS[name].setting)
    if is_transformer(name):
        assert found == [((ROWS[name].size // strides[-1]) ** 2 + 1, channels[-1])]  # its tokens
    else:
        assert [(one[0], *one[-2:]) for one in found] == [
            (channel, *[math.ceil(ROWS[name].size / stride)] * 2)
            for channel, stride in zip(channels[1:], strides[1:], strict=True)
        ]


# ----------------------------------------------------------------------------------------------------
# numbers

# Followed by BatchNorm, which takes the mean away again: what they add makes no difference
WITHOUT_EFFECT = ("conv1.fc1.bias", "conv2.fc1.bias")


def loss_of(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(net(images), torch.arange(len(images)) % CLASSES)


def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    net = create_model(shrunk(name), CLASSES)
    loss_of(net, inputs(name, 8)).backward()
    gradients = {key: parameter.grad for key, parameter in net.named_parameters()}
    assert all(
        gradient is not None and gradient.isfinite().all() for gradient in gradients.values()
    )
    assert not [
        key
        for key, gradient in gradients.items()
        if not gradient.any() and not key.endswith(WITHOUT_EFFECT)
    ]


@torch.no_grad()
def test_without_classes_a_network_gives_pooled_features(name, small):
    net = create_model(shrunk(name), num_classes=0).eval()
    missing, unexpected = net.load_state_dict(small.state_dict(), strict=False)
    assert (missing, len(unexpected)) == ([], 2)  # the classifier's
    images = inputs(name)
    features = net(images)
    assert features.shape == (2, net.num_features)
    torch.testing.assert_close(small.get_classifier()(features), small(images))
    assert small(images).shape == (2, CLASSES)
    assert small(images).isfinite().all()
    net.reset_classifier(7)
    assert net(images).shape == (2, 7)
    assert isinstance(net.get_classifier(), nn.Linear)


@torch.no_grad()
def test_as_a_backbone_a_network_gives_maps_of_the_stated_channels_and_strides(name, small):
    images = inputs(name)
    net = create_model(shrunk(name), features_only=True, out_indices=(0, -1)).eval()
    net.net.load_state_dict(
        {key: value for key, value in small.state_dict().items() if key in net.net.state_dict()}
    )
    channels, strides = channels_and_strides(Network.parse(shrunk(name)).setting)
    assert (net.channels, net.strides) == (
        channels[:: len(channels) - 1],
        strides[:: len(strides) - 1],
    )
    maps, expected = net(images), small.forward_stages(images)
    for one, other, channel, stride in zip(
        maps, (expected[0], expected[-1]), net.channels, net.strides, strict=True
    ):
        assert (one.shape[1], *one.shape[-2:]) == (channel, *[images.shape[-1] // stride] * 2)
        torch.testing.assert_close(one, other, atol=0, rtol=0)
    if not is_transformer(name):
        pooled = maps[-1].mean(tuple(range(2, images.ndim)))
        torch.testing.assert_close(
            small.get_classifier()(pooled), small(images), atol=1e-5, rtol=1e-4
        )


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels(name, channels):
    net = create_model(shrunk(name), CLASSES, channels).eval()
    assert net(inputs(name, 1, channels)).shape == (1, CLASSES)
    with pytest.raises(ValueError, match=f"C = {channels} "):
        net(inputs(name))


@torch.no_grad()
def test_any_size_from_the_smallest_on(name, small):
    smallest = getattr(small, "smallest", 1)
    for sides in ((33, 33), (50, 50), (65, 65), (smallest, smallest), (smallest + 1, 40)):
        answers = small(inputs(name, 1, sides=sides))
        assert answers.shape == (1, CLASSES), sides
        assert answers.isfinite().all(), sides


@torch.no_grad()
def test_what_is_too_small_is_refused(name, small):
    """And nothing else is: below its smallest size a network breaks down."""
    smallest = getattr(small, "smallest", 1)
    with pytest.raises(ValueError, match=f"sides of at least {smallest} px expected"):
        small(inputs(name, sides=(64, smallest - 1)))
    if smallest > 1:
        small.smallest = 1
        with pytest.raises((RuntimeError, ValueError)):
            small(inputs(name, 1, sides=(smallest - 1, smallest - 1)))
        small.smallest = smallest


@torch.no_grad()
def test_wrong_shapes_are_refused(name, small):
    images = inputs(name)
    form = "N, C, T, H, W" if is_clip(name) else "N, C, H, W"
    for wrong in (images[0], images[None], inputs(name, channels=2)):
        with pytest.raises(
            ValueError, match=rf"images of shape .*; \({form}\) with C = 3 and sides of at least"
        ):
            small(wrong)


@torch.no_grad()
def test_memory_format_does_not_matter(name, small):
    images = inputs(name)
    expected = small(images)
    last = torch.channels_last_3d if is_clip(name) else torch.channels_last
    found = small.to(memory_format=last)(images.to(memory_format=last))
    small.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_state_dict_is_all_of_a_network(name, small):
    images = inputs(name)
    torch.manual_seed(1)
    other = create_model(shrunk(name), CLASSES).eval()
    assert not torch.allclose(other(images), small(images))
    other.load_state_dict(small.state_dict(), strict=True)
    torch.testing.assert_close(other(images), small(images), atol=0, rtol=0)


@torch.no_grad()
def test_maps_average_to_the_logits(name, small):
    answering = Classification().inference(small)
    images = inputs(name)
    probabilities, *maps = answering(images)
    assert bool(maps) == answering.has_maps
    assert answering.has_maps == (not is_transformer(name) and not is_clip(name))
    torch.testing.assert_close(probabilities, small(images).softmax(1), atol=1e-5, rtol=1e-4)
    if answering.has_maps:
        embedding, heat = maps
        torch.testing.assert_close(heat.mean((2, 3)), small(images), atol=1e-5, rtol=1e-4)
        assert embedding.shape == (2, small.num_features)
        assert heat.std() > 1e-3


def test_checkpointing_changes_nothing_but_the_memory(name):
    """Same loss, gradients and statistics, although what is inside of the blocks runs twice."""
    images, runs = inputs(name), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        net = create_model(shrunk(name), CLASSES, checkpointing=checkpointing)
        calls = Counter()
        for key, module in net.named_modules():
            if ("layer" in key or "block" in key) and key.endswith((".conv1", ".norm1")):
                module.register_forward_pre_hook(
                    lambda module, args, key=key, calls=calls: calls.update([key])
                )
        loss = loss_of(net, images)
        loss.backward()
        runs.append(
            (
                loss,
                {key: parameter.grad for key, parameter in net.named_parameters()},
                net.state_dict(),
            )
        )
        assert {*calls.values()} == {2 if checkpointing else 1}
    (loss, gradients, state), (again, gradients_again, state_again) = runs
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(gradients_again, gradients)
    torch.testing.assert_close(state_again, state)
    assert {int(value) for key, value in state.items() if key.endswith("num_batches_tracked")} <= {
        1
    }


# ----------------------------------------------------------------------------------------------------
# dilation


@torch.no_grad()
def test_a_network_shrinks_to_the_output_stride_and_keeps_its_weights(name, small):
    images = inputs(name, 1, sides=(64, 64))
    for stride in (8, 16):
        words = f"{shrunk(name)} output_stride={stride}"
        if is_transformer(name) or is_small(name):
            with pytest.raises(
                ValueError,
                match="it has tokens" if is_transformer(name) else "does not shrink them",
            ):
                create_model(words)
        else:
            net = create_model(words, CLASSES).eval()
            net.load_state_dict(small.state_dict(), strict=True)
            assert net.forward_features(images).shape[-2:] == (64 // stride, 64 // stride)
    if not is_transformer(name):
        last = channels_and_strides(ROWS[name].setting)[1][-1]
        assert small.forward_features(images).shape[-2:] == (64 // last, 64 // last)


@pytest.mark.parametrize(
    ("words", "stride"),
    [
        ("resnet18", 8),
        ("resnet18 shortcut=zero_pad", 8),
        ("resnet50 groups=2", 8),
        ("resnetv2_50 stride_in=1x1", 8),
        ("resnet50d", 16),
        ("resnetblur18", 16),
        ("res2net50_26w_4s", 16),
    ],
)
@torch.no_grad()
def test_a_dilated_network_holds_the_maps_of_the_strided_one(words, stride):
    """At every second or fourth place: dilation looks at the same pixels as striding did."""
    words = f"{words} depths=2-2-2-2 widths=32-32-64-64"
    strided = randomise(create_model(words, CLASSES))
    dilated = create_model(f"{words} output_stride={stride}", CLASSES).eval()
    dilated.load_state_dict(strided.state_dict())
    images = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    step = 32 // stride
    found, expected = dilated.forward_features(images), strided.forward_features(images)
    torch.testing.assert_close(found[:, :, ::step, ::step], expected, atol=1e-5, rtol=1e-4)
    assert found.shape[-2:] == (96 // stride, 128 // stride)
    assert expected.std() > 1e-3


# ----------------------------------------------------------------------------------------------------
# a sample of each kind

RESNET = "depths=1-1 widths=32-32"
KINDS = {
    "basic": f"resnet18 {RESNET}",
    "bottleneck": f"resnet50 {RESNET}",
    "pre-activated": f"resnetv2_50d {RESNET}",
    "BiT": "resnetv2_50x1_bit depths=1-1 widths=64-64",
    "small pictures": "wrn16_4 depths=1-1 widths=32-32",
    "groups": f"resnext50_32x4d {RESNET}",
    "SENet-154": f"senet154 {RESNET}",
    "squeeze and excitation": f"seresnet50 {RESNET}",
    "channel attention": f"ecaresnet50d {RESNET}",
    "selective kernels": f"skresnet50 {RESNET}",
    "selective kernels, basic": f"skresnet18 {RESNET}",
    "Res2Net": f"res2net50_26w_4s {RESNET}",
    "ResNeSt": f"resnest50d_4s2x40d {RESNET}",
    "blur": f"resnetblur50 {RESNET}",
    "average": f"resnetaa50d {RESNET}",
    "ResNet-RS": f"resnetrs50 {RESNET}",
    "dilated": f"resnet50 {RESNET} output_stride=8",
    "DenseNet": "densenet121 depths=1-1 growth=8",
    "Transformer": "vit_tiny_patch16_224 depth=1 width=48 size=48",
    "clips": f"r2plus1d_18 {RESNET}",
}
# Nothing is in them that is not in another kind
ALIKE = ("basic", "selective kernels, basic", "groups", "SENet-154", "dilated", "small pictures")
EXPORTED = [kind for kind in KINDS if kind not in (*ALIKE, "clips")]


def sample(kind: str) -> tuple[nn.Module, torch.Tensor]:
    words = KINDS[kind]
    torch.manual_seed(0)
    return randomise(create_model(words, CLASSES)), inputs(words.partition(" ")[0], sides=(48, 48))


COMPILED = [*(kind for kind in EXPORTED if kind not in ("average", "ResNet-RS")), "clips"]


@pytest.mark.parametrize("kind", sampled(COMPILED, 6))
@torch.no_grad()
def test_a_network_compiles_whole(kind):
    net, images = sample(kind)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), net(images), atol=1e-4, rtol=1e-4)


# The others are exported below, which does it too
@pytest.mark.parametrize("kind", [*ALIKE, "clips", "bottleneck", "Transformer"])
@torch.no_grad()
def test_a_network_becomes_a_program_for_any_number_of_pictures(kind):
    net, images = sample(kind)
    program = torch.export.export(
        net, (images,), dynamic_shapes=({0: torch.export.Dim("N", min=1)},)
    ).module()
    more = torch.cat([images.flip(-1), images, images.flip(-2)])
    for some in (images, more, images[:1]):
        torch.testing.assert_close(program(some), net(some), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", sampled(EXPORTED, 6))
def test_a_network_is_exported_with_proof(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "SIZES", ((31, 20),))
    monkeypatch.setattr(exporter, "available_engines", lambda: ["onnxruntime"])
    net, _ = sample(kind)
    names = tuple("abcde")
    network = Network.parse(KINDS[kind], CLASSES)
    model = Model(net, names, Preprocessing.square(48), describe_network(network, net, CLASSES, 3))
    dark, light = (Image.effect_noise((60, 50), spread).convert("RGB") for spread in (20, 120))
    proven = exporter.export_model(model, tmp_path / "own.onnx", [dark, light])
    engine = load(tmp_path / "own.onnx", "onnxruntime")
    found = [engine.predict_image(picture).probabilities for picture in (dark, light)]
    assert np.abs(found[0] - found[1]).max() > 10 * proven.difference  # it looks at the pictures


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_backbone_gives_the_maps_that_are_asked_for(kind):
    net, images = sample(kind)
    expected = net.forward_stages(images)
    count = len(expected)
    for asked in (None, range(count), [0], [-1], [-count]):
        features = Features(net, asked).eval()
        wanted = [expected[index] for index in (range(count) if asked is None else asked)]
        found = features(images)
        assert [one.shape[1] for one in found] == features.channels
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, atol=0, rtol=0)


@pytest.mark.parametrize("indices", [[], [1, 0], [1, 1], [5], [-6], [-1, 0]])
def test_maps_that_there_are_none_of_are_refused(indices):
    with pytest.raises(
        ValueError,
        match=re.escape(f"out_indices={indices}; allowed: some of 0 to 4 in rising order"),
    ):
        hollow(shrunk("resnet18"), features_only=True, out_indices=indices)


def test_indices_need_a_backbone():
    with pytest.raises(ValueError, match="out_indices needs features_only=True"):
        create_model("resnet18", out_indices=(1,))


def test_checkpointing_holds_in_a_backbone_and_with_stochastic_depth():
    images, gradients = inputs("resnet18"), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        net = create_model(
            f"{shrunk('resnet18')} drop_path=0.9", features_only=True, checkpointing=checkpointing
        )
        torch.manual_seed(0)
        sum(one.square().mean() for one in net(images)).backward()
        gradients.append({key: parameter.grad for key, parameter in net.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0])
    # a branch was left out in both
    assert not all(gradient.any() for gradient in gradients[0].values())


# ----------------------------------------------------------------------------------------------------
# from pictures to clips

INFLATED = [
    kind for kind in KINDS if kind not in ("BiT", "blur", "Transformer", "clips", "dilated")
]


@pytest.mark.parametrize("how", ["full", "spatial", "2plus1"])
@pytest.mark.parametrize("kind", INFLATED)
@torch.no_grad()
def test_an_inflated_network_answers_on_a_still_clip_as_it_did_on_the_picture(kind, how):
    """At the border in time too: all weight is on the picture in the middle."""
    net, images = sample(kind)
    expected = net(images)
    assert inflate(net, how) is net
    still = images[:, :, None].expand(-1, -1, 6, -1, -1)
    torch.testing.assert_close(net(still), expected, atol=1e-4, rtol=1e-3)
    assert expected.std() > 1e-2
    assert net.forward_features(still).shape[2] == (
        6 if kind == "DenseNet" or how == "spatial" else 3
    )
    with pytest.raises(ValueError, match=r"\(N, C, T, H, W\)"):
        net(images)


@pytest.mark.parametrize(
    ("how", "kernels"),
    [
        ("full", [(3, 3, 3)] * 4),
        ("spatial", [(1, 3, 3)] * 4),
        ("2plus1", [(1, 3, 3), (3, 1, 1)] * 4),
        (("full", "spatial"), [(3, 3, 3)] * 2 + [(1, 3, 3)] * 2),
    ],
)
def test_an_inflated_network_looks_as_far_in_time_as_it_was_told(how, kernels):
    """And learns to, although it starts with all weight on the picture in the middle."""
    net, images = sample("basic")
    expected = net(images).detach()
    inflate(net, how)
    convs = [
        module
        for key, module in net.named_modules()
        if isinstance(module, nn.Conv3d) and key.startswith("layer")
    ]
    assert [conv.kernel_size for conv in convs if conv.kernel_size != (1, 1, 1)] == kernels
    torch.testing.assert_close(
        net(images[:, :, None].expand(-1, -1, 3, -1, -1)), expected, atol=1e-4, rtol=1e-3
    )
    moving = torch.randn(2, 3, 6, 48, 48, generator=torch.Generator().manual_seed(2))
    loss_of(net.train(), moving).backward()
    assert all(
        conv.weight.grad[:, :, place].any()
        for conv in convs
        for place in range(conv.kernel_size[0])
    )


@pytest.mark.parametrize("how", ["full", "2plus1"])
@pytest.mark.parametrize("kind", [kind for kind in INFLATED if kind not in ("DenseNet", "average")])
@torch.no_grad()
def test_clips_are_a_word_for_every_kind_of_block(kind, how):
    net = create_model(f"{KINDS[kind]} time={how}", CLASSES).eval()
    for sides in ((4, 48, 48), (1, 33, 50)):
        assert net(torch.zeros(2, 3, *sides)).shape == (2, CLASSES)


@pytest.mark.parametrize(
    ("words", "how", "message"),
    [
        (
            "resnet18",
            "both",
            "time=both-both-both-both; allowed: full, spatial, 2plus1, or one for each of 4 stages",
        ),
        ("resnet18", ("full", "spatial"), "time=full-spatial; allowed: .* for each of 4 stages"),
        ("resnet18 shortcut=zero_pad", "full", "ZeroPad has no form in three dimensions"),
        ("resnetblur18", "full", "BlurPool has no form in three dimensions"),
        ("resnetv2_50x1_bit", "2plus1", "StandardisedConv2d has no form in three dimensions"),
        ("densenetblur121d", "spatial", "BlurPool has no form in three dimensions"),
        ("vit_tiny_patch16_224", "full", "LayerNorm has no form in three dimensions"),
    ],
)
def test_what_has_no_form_in_time_is_refused_and_left_alone(words, how, message):
    net = hollow(words)
    before = {key: value.shape for key, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        inflate(net, how)
    assert {key: value.shape for key, value in net.state_dict().items()} == before

"""Networks of the family: counts, keys, arithmetic and gradients, and the words that name them."""

import math
import re
from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from resnets import create_model, list_models
from resnets.export import exporter
from resnets.kinds.classes import ClassPrediction
from resnets.modelfile import Model, describe_network
from resnets.models import (
    BasicBlock,
    Bottleneck,
    Network,
    ResNet,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    layers,
    rows,
)
from resnets.models.inflation import KINDS as TIMES
from resnets.models.rows import ROWS
from resnets.models.setting import DenseNetSetting, ResNetSetting, TransformerSetting
from resnets.preprocessing import Preprocessing
from resnets.summary.table import count_parameters, summarise
from resnets.tasks.classes import Classification
from resnets.training.optimizers import OPTIMIZERS

IMAGENET = {
    "resnet18": ResNet18,
    "resnet34": ResNet34,
    "resnet50": ResNet50,
    "resnet101": ResNet101,
    "resnet152": ResNet152,
}
# Millions of parameters: table 6 of He et al. 2015, table 4 of He et al. 2016, of Zagoruyko 2016,
# table 7 of Xie 2017, table 2 of Huang 2017
PAPERS = {
    "resnet20": 0.27,
    "resnet32": 0.46,
    "resnet44": 0.66,
    "resnet56": 0.85,
    "resnet110": 1.7,
    "resnet1202": 19.4,
    "preresnet110": 1.7,
    "preresnet164": 1.7,
    "preresnet1001": 10.2,
    "wrn40_2": 2.2,
    "wrn40_4": 8.9,
    "wrn40_8": 35.7,
    "wrn28_10": 36.5,
    "wrn16_8": 11.0,
    "wrn16_10": 17.1,
    "resnext29_8x64d": 34.4,
    "resnext29_16x64d": 68.1,
    "densenet_bc_100_12": 0.8,
    "densenet_bc_250_24": 15.3,
    "densenet_bc_190_40": 25.6,
}
# Papers tell how they are built
UNPRINTED = {"seresnet20", "seresnet56", "seresnet110", "seresnet164", "wrn16_4", "wrn40_10"}


def pictures(count: int = 2, size: int = 64, channels: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and statistics as of a trained network, mild: a fresh network hides its norms, and a
    zeroed one its branches."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d | nn.GroupNorm | nn.LayerNorm):
            module.weight.uniform_(0.5, 1.0, generator=generator)
            module.bias.uniform_(-0.2, 0.2, generator=generator)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.num_batches_tracked.fill_(7)
        elif isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            bound = math.sqrt(3 / module.weight[0].numel())
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.normal_(0, 0.1, generator=generator)
    return net.eval()


def hollow(build) -> nn.Module:
    """A network without the time it takes to draw weights that are replaced at once."""
    with torch.device("meta"):
        net = build()
    return net.to_empty(device="cpu")


@pytest.mark.parametrize(
    "name", [name for name in ROWS if name in {*torchvision.models.list_models(), *PAPERS}]
)
def test_rows_have_the_parameters_they_are_published_with(name):
    if name in PAPERS:
        assert ROWS[name].parameters / 1e6 == pytest.approx(
            PAPERS[name], rel=0.04 if PAPERS[name] == 0.8 else 0.03
        )
    else:
        published = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
        assert ROWS[name].parameters == published


def test_every_network_for_small_pictures_has_a_published_count():
    """Of the others it is in torchvision or timm, with which they are compared elsewhere."""
    assert {name for name, row in ROWS.items() if row.classes == 10} == set(PAPERS) | UNPRINTED


def test_names_are_found_by_patterns():
    assert list_models() == list(ROWS)
    assert list_models("preresnet*") == ["preresnet110", "preresnet164", "preresnet1001"]
    assert list_models("*_bit") == [name for name in ROWS if name.endswith("_bit")]
    assert list_models("vgg*") == []


def test_a_new_network_is_a_new_line(monkeypatch):
    """Of 38 layers: resnet50 without a block of stage 2 and three of stage 3; the second one starts
    from the first."""
    second = 2 * 512 * 128 + 9 * 128**2 + 2 * (128 + 128 + 512)
    third = 2 * 1024 * 256 + 9 * 256**2 + 2 * (256 + 256 + 1024)
    parameters = ROWS["resnet50"].parameters - second - 3 * third
    with pytest.raises(ValueError, match="unknown network 'resnet38'"):
        create_model("resnet38")
    lines = f"resnet38 {parameters} 0 224 depths=3-3-3-3\npreresnet38 0 0 224 resnet38 order=pre"
    monkeypatch.setattr(rows, "RESNETS", f"{rows.RESNETS}{lines}\n")
    for name, row in rows.read_rows().items():
        monkeypatch.setitem(ROWS, name, row)
    with torch.device("meta"):
        net, pre = create_model("resnet38"), create_model("preresnet38", num_classes=10)
    assert count_parameters(net) == ROWS["resnet38"].parameters == 21_925_416
    assert (
        sum(
            isinstance(module, nn.Conv2d | nn.Linear)
            for name, module in net.named_modules()
            if "downsample" not in name
        )
        == 38
    )
    assert (len(pre.layer3), pre.layer3[0].preactivated) == (3, True)
    assert str(Network.parse("preresnet38 zero_init=true")) == "preresnet38 zero_init=true"
    assert {"resnet38", "preresnet38"} <= set(list_models())


@pytest.mark.parametrize("name", IMAGENET)
@torch.no_grad()
def test_state_dicts_go_to_torchvision_and_back(name):
    ours, theirs = hollow(IMAGENET[name]), hollow(getattr(torchvision.models, name)).eval()
    images = pictures(size=32 if name == "resnet152" else 64)
    theirs.load_state_dict(randomise(ours).state_dict(), strict=True)
    before = ours(images)
    torch.testing.assert_close(theirs(images), before, atol=1e-5, rtol=1e-5)
    theirs.layer2[1].bn2.running_mean += 1
    theirs.fc.bias += 0.1
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-5)
    assert (
        ours(images) - before - 0.1
    ).abs().max() > 1e-3  # the comparison can see what is inside of a branch
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_blocks_by_hand_give_the_networks_by_name():
    with torch.device("meta"):
        by_hand, by_name = (
            ResNet(Bottleneck, [3, 4, 6, 3], num_classes=10),
            create_model("resnet50", num_classes=10),
        )
    shapes = [
        {key: tuple(value.shape) for key, value in net.state_dict().items()}
        for net in (by_hand, by_name)
    ]
    assert shapes[0] == shapes[1]
    assert shapes[0]["fc.weight"] == (10, 2048)


# ----------------------------------------------------------------------------------------------------
# arithmetic


def norm(state, name, x):
    values = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *values, training=False, eps=1e-5)


def conv(state, name, x, stride=1):
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)


def by_the_paper(state, x, depths, strides, order):
    """A CIFAR network in plain functions, from its state dict: figure 2 of the first paper, figure
    4(e) of the second."""
    x = conv(state, "conv1", x)
    if order == "post":
        x = norm(state, "bn1", x).relu()
    for stage, depth in enumerate(depths, 1):
        for index in range(depth):
            block = f"layer{stage}.{index}"
            part = {
                key.removeprefix(f"{block}."): value
                for key, value in state.items()
                if key.startswith(f"{block}.")
            }
            count = sum(bool(re.fullmatch(r"conv\d\.weight", key)) for key in part)
            stride_of = dict.fromkeys(range(1, count + 1), 1)
            stride_of[2 if count == 3 else 1] = strides[stage - 1] if index == 0 else 1
            out = norm(part, "bn1", x).relu() if order == "pre" else x
            short = x
            if "downsample.0.weight" in part:
                short = norm(
                    part, "downsample.1", conv(part, "downsample.0", x, max(stride_of.values()))
                )
            elif "downsample.weight" in part:
                short = conv(part, "downsample", out, max(stride_of.values()))
            for number in range(1, count + 1):
                if order == "pre" and number > 1:
                    out = norm(part, f"bn{number}", out).relu()
                out = conv(part, f"conv{number}", out, stride_of[number])
                if order == "post":
                    out = norm(part, f"bn{number}", out)
                    out = out.relu() if number < count else out
            x = (out + short).relu() if order == "post" else out + short
    if order == "pre":
        x = norm(state, "norm", x).relu()
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("order", ["pre", "post"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@torch.no_grad()
def test_the_order_of_operations_is_that_of_the_papers(order, block):
    words = f"resnet20 block={block} order={order} depths=2-1-2 shortcut=projection"
    net = randomise(create_model(words, num_classes=5))
    images = pictures(size=16)
    expected = by_the_paper(net.state_dict(), images, (2, 1, 2), (1, 2, 2), order)
    torch.testing.assert_close(net(images), expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 1e-3


@torch.no_grad()
def test_a_preactivated_network_has_no_norm_between_stem_and_first_block():
    net = randomise(create_model("resnet18 order=pre widths=8-8-8-8"))
    images = pictures()
    stem = F.max_pool2d(F.conv2d(images, net.conv1.weight, stride=2, padding=3), 3, 2, 1)
    seen = []
    net.layer1.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    net(images)
    torch.testing.assert_close(seen[0], stem)
    assert not [key for key in net.state_dict() if key.startswith("bn1")]


def test_zero_padding_by_hand():
    x = torch.arange(2 * 4 * 4.0).reshape(1, 2, 4, 4)
    out = layers.zero_pad(2, 5, 2)(x)
    assert out.shape == (1, 5, 2, 2)
    assert out[0, 1].tolist() == [[0, 2], [8, 10]]
    assert out[0, 2].tolist() == [[16, 18], [24, 26]]
    assert not out[0, [0, 3, 4]].any()
    assert layers.zero_pad(2, 2, 1) is None
    with pytest.raises(ValueError, match="from 5 to 2 channels; use shortcut=projection"):
        layers.zero_pad(5, 2, 1)


def test_shortcuts_without_parameters_have_none():
    for shortcut, parameters in {
        "zero_pad": 0,
        "none": 0,
        "projection": 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64,
    }.items():
        own = [
            p
            for name, p in create_model(f"resnet20 shortcut={shortcut}").named_parameters()
            if "downsample" in name
        ]
        assert sum(parameter.numel() for parameter in own) == parameters


@pytest.mark.parametrize("order", ["post", "pre"])
@torch.no_grad()
def test_without_shortcuts_the_branch_stands_alone(order):
    net = randomise(create_model(f"resnet20 order={order} shortcut=none"))
    x = pictures(size=8, channels=16)
    for block in (net.layer1[0], net.layer2[0]):
        if order == "post":
            out = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))))
        else:
            out = block.conv2(F.relu(block.bn2(block.conv1(F.relu(block.bn1(x))))))
        torch.testing.assert_close(block(x), out)


@pytest.mark.parametrize("order", ["post", "pre"])
def test_option_c_projects_in_every_block(order):
    counts = {}
    for shortcut in ("projection", "projection_everywhere"):
        with torch.device("meta"):
            net = create_model(f"resnet34 order={order} shortcut={shortcut}")
        names = {key.partition("downsample")[0] for key in net.state_dict() if "downsample" in key}
        counts[shortcut] = len(names)
        assert any(
            "BatchNorm2d" in type(module).__name__ for module in net.layer2[0].downsample.modules()
        ) == (order == "post")
    assert counts == {"projection": 3, "projection_everywhere": 16}  # 13 more


@pytest.mark.parametrize("order", ["post", "pre"])
def test_the_stride_is_where_the_words_put_it(order):
    for place, strides in {"3x3": (1, 2, 1), "1x1": (2, 1, 1)}.items():
        with torch.device("meta"):
            net = create_model(f"resnet50 order={order} stride_in={place}")
        block = net.layer3[0]
        assert tuple(conv.stride[0] for conv in (block.conv1, block.conv2, block.conv3)) == strides
        shortcut = block.downsample if order == "pre" else block.downsample[0]
        assert shortcut.stride == (2, 2)
        assert {conv.stride for conv in net.layer3[1].modules() if isinstance(conv, nn.Conv2d)} == {
            (1, 1)
        }
    with torch.device("meta"):
        assert create_model("resnet50").layer3[0].conv2.stride == (2, 2)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("order", ["post", "pre"])
@torch.no_grad()
def test_zero_init_starts_every_block_as_the_identity(order, block):
    net = create_model(
        f"resnet20 block={block} order={order} shortcut=projection zero_init=true"
    ).eval()
    for stage in (net.layer1, net.layer2, net.layer3):
        for unit in stage:
            unit_in = (unit.bn1 if order == "pre" else unit.conv1).weight.shape[
                0 if order == "pre" else 1
            ]
            x = pictures(size=8, channels=unit_in)
            if unit.downsample is not None:
                expected = (
                    unit.downsample(F.relu(unit.bn1(x)))
                    if order == "pre"
                    else F.relu(unit.downsample(x))
                )
            else:
                expected = x if order == "pre" else F.relu(x)
            torch.testing.assert_close(unit(x), expected, atol=0, rtol=0)
    plain = create_model(f"resnet20 block={block} order={order} shortcut=projection").eval()
    x = pictures(size=8, channels=plain.layer2[1].conv1.weight.shape[1])
    assert not torch.allclose(plain.layer2[1](x), F.relu(x) if order == "post" else x)


def test_weights_start_as_he_et_al_say():
    torch.manual_seed(0)
    net = create_model("resnet18")
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05), (
                name
            )
            assert abs(module.weight.mean().item()) < 0.1 * math.sqrt(2 / fan_out), name
        if isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all()), name
            assert not module.bias.any(), name


@pytest.mark.parametrize(
    "words", ["resnet20", "resnet20 order=pre shortcut=projection", "resnet50 widths=8-8-8-8"]
)
@torch.no_grad()
def test_memory_format_and_batch_do_not_matter(words):
    net = randomise(create_model(words, num_classes=4))
    images = pictures(3, 48)
    expected = net(images)
    last = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        last(images.to(memory_format=torch.channels_last)), expected, atol=1e-5, rtol=1e-5
    )
    alone = torch.cat([last(image[None]) for image in images])
    torch.testing.assert_close(alone, expected, atol=1e-5, rtol=1e-5)


def test_one_channel_and_odd_sizes():
    net = create_model("resnet18 widths=8-8-8-8", num_classes=3, in_channels=1)
    assert net.conv1.weight.shape == (8, 1, 7, 7)
    assert net(torch.randn(2, 1, 33, 65)).shape == (2, 3)


def test_any_number_of_stages():
    assert create_model("resnet20 depths=1-2 widths=8-12", num_classes=3)(
        pictures(size=8)
    ).shape == (2, 3)
    net = ResNet(BasicBlock, [1, 1, 1, 1, 1, 1], 3, widths=[4] * 6).eval()
    assert net.forward_features(pictures(size=128)).shape == (2, 4, 1, 1)


def test_an_outcome_does_not_depend_on_inplace_tricks():
    """Called twice, a network answers the same, and its input is as it was."""
    for words in ("resnet20", "preresnet110 depths=1-1-1", "resnet20 shortcut=none"):
        net, images = randomise(create_model(words)), pictures(size=16)
        kept = images.clone()
        first = net(images)
        torch.testing.assert_close(net(images), first, atol=0, rtol=0)
        torch.testing.assert_close(images, kept, atol=0, rtol=0)


# ----------------------------------------------------------------------------------------------------
# words


SETTINGS = (ResNetSetting, DenseNetSetting, TransformerSetting)


def values(field, stages):
    """What a field of a setting may be, by its own rules."""
    rules, default = field.metadata, field.default
    if "options" in rules:
        return st.sampled_from(rules["options"])
    if "grammar" in rules:
        return st.one_of(*(part(name, kinds) for name, kinds in rules["grammar"].items()))
    if field.name == "time":
        return st.sampled_from(
            [
                ("none",),
                *((kind,) for kind in TIMES),
                tuple(TIMES[number % 3] for number in range(stages)),
            ]
        )
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, float):
        return st.floats(rules["least"], rules["below"], exclude_max=True)
    if isinstance(default, tuple):
        most = 3 if field.name == "depths" else 64
        return st.lists(st.integers(rules["least"], most), min_size=stages, max_size=stages).map(
            tuple
        )
    return st.integers(rules["least"], 200) | st.just(default)


def part(name, kinds):
    """A part with none, some or all of what may follow its name."""
    rest = st.tuples(
        *(st.integers(1, 20).map(str) if kind is int else st.just(kind) for kind in kinds)
    )
    return st.builds(lambda rest, length: (name, *rest[:length]), rest, st.integers(0, len(kinds)))


@st.composite
def networks(draw):
    """A row with any of its words changed, one after the other, as far as they make sense
    together."""
    kind = draw(st.sampled_from(SETTINGS))
    name = draw(
        st.sampled_from([name for name, row in ROWS.items() if isinstance(row.setting, kind)])
    )
    setting, stages = ROWS[name].setting, draw(st.integers(1, 6))
    changes = {field.name: draw(values(field, stages)) for field in fields(kind)}
    for key in draw(st.permutations(list(changes))):
        together = (
            [one for one in ("depths", "widths") if one in changes]
            if key in ("depths", "widths")
            else [key]
        )
        changed = replace(setting, **{one: changes[one] for one in together})
        try:
            changed.check()
        except ValueError:
            continue
        setting = changed
    return Network(name, setting, draw(st.integers(0, 2000)), draw(st.sampled_from([1, 3])))


# A busy machine is no reason to fail
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
EACH = {  # a row, and changes with which every field of its setting is seen; some need another beside them
    "resnet18": "depths=1-2-1-2 widths=8-8-16-16 order=pre time=full",
    "resnet34": "block=bottleneck shortcut=none stride_in=1x1 groups=2 group_width=32 reduce_first=2 zero_init=true",
    "resnet50": "stem=deep stem_width=48 stem_pool=conv spatial=res2-4 attention=se-8-4 norm=group conv=standardised drop_path=0.1 output_stride=16",
    "resnet101": "antialias=blur",
    "densenet121": "growth=16 depths=1-2-3 stem=deep antialias=blur output_stride=8",
    "vit_tiny_patch16_224": "width=48 depth=2 heads=4 patch=8 size=64 order=post drop_path=0.2",
}


def test_words_of_all_fields_round_trip():
    seen = set()
    for name, changes in EACH.items():
        network = Network.parse(f"{name} {changes}")
        assert str(network) == f"{name} {changes}"
        assert Network.parse(str(network)) == network
        seen.update((type(network.setting), pair.partition("=")[0]) for pair in changes.split())
    assert seen == {(kind, field.name) for kind in SETTINGS for field in fields(kind)}


@given(networks())
@settings(PATIENT, max_examples=300)
def test_words_of_any_network_round_trip(network):
    words = str(network)
    again = Network.parse(words, network.num_classes, network.in_channels)
    assert again == network
    assert str(again) == words


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@given(networks())
@settings(PATIENT, max_examples=60)
@torch.no_grad()
def test_what_can_be_said_can_be_built_or_is_refused(network):
    """With a reason, before any picture goes through it."""
    if isinstance(network.setting, TransformerSetting):
        network = replace(network, setting=replace(network.setting, depth=1))
    try:
        with torch.device("meta"):
            net = network.build().eval()
    except ValueError:
        return
    side = max(64, getattr(net, "smallest", 1))
    images = torch.zeros(
        2, network.in_channels, *([4] if network.is_clip else []), side, side, device="meta"
    )
    assert net(images).shape == (2, network.num_classes or net.num_features)


def test_words_say_only_what_differs():
    assert (
        str(Network.parse("resnet50 zero_init=true shortcut=projection"))
        == "resnet50 zero_init=true"
    )
    assert str(Network.parse("resnet50", shortcut="none")) == "resnet50 shortcut=none"
    assert str(Network.parse("resnet20", depths=(3, 3, 3))) == "resnet20"
    assert (Network.parse("resnet20").num_classes, Network.parse("resnet18").num_classes) == (
        10,
        1000,
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("resnet5O", "unknown network 'resnet5O': did you mean .*resnet50"),
        ("vgg16", "unknown network 'vgg16': "),
        ("", "unknown network ''"),
        ("resnet50 shortcuts=none", "unknown setting 'shortcuts': did you mean shortcut"),
        ("resnet50 shortcut=zeropad", "resnet50: shortcut=zeropad: did you mean zero_pad"),
        ("resnet50 block=botleneck", "block=botleneck: did you mean bottleneck"),
        ("resnet50 stem=7x7", "stem=7x7: allowed: cifar, deep, imagenet, tiered"),
        ("resnet50 order=before", "order=before: allowed: post, pre"),
        ("resnet50 stride_in=7x7", "stride_in=7x7: "),
        ("resnet50 output_stride=4", "output_stride=4: allowed: 16, 32, 8"),
        ("resnet50 depths=3-four", "depths='four': int expected"),
        (
            "resnet50 depths=3-4-6",
            "depths=3-4-6 widths=64-128-256-512: give both with a number for each stage",
        ),
        ("resnet50 depths=3-4-0-3", "depths=3-4-0-3; allowed: from 1"),
        ("resnet50 widths=8-8-0-8", "widths=8-8-0-8; allowed: from 1"),
        ("densenet121 depths=3--2", "int expected"),
        ("resnet50 groups=0", "groups=0; allowed: from 1"),
        ("resnet50 stem_width=0", "stem_width=0; allowed: from 1"),
        ("resnet50 drop_path=1", r"drop_path=1\.0; allowed: from 0 to below 1"),
        ("resnet50 drop_path=-0.1", r"drop_path=-0\.1; allowed: from 0 to below 1"),
        ("resnet50 drop_path=nan", "drop_path=nan; allowed: from 0 to below 1"),
        ("resnet50 zero_init=perhaps", "zero_init='perhaps': bool expected"),
        ("resnet50 shortcut", "followed by changes of the form key=value"),
        ("resnet50 order=pre order=post", "order is given twice"),
        ("resnet50 spatial=sq", "spatial=sq: allowed: conv, res2, sk, split"),
        (
            "resnet50 spatial=sk-8-8-8",
            r"spatial=sk-8-8-8: the form is sk\[-NUMBER\[-NUMBER\[-full\]\]\]",
        ),
        ("resnet50 attention=se-0", r"attention=se-0: the form is se\[-NUMBER\[-NUMBER\]\]"),
        ("resnet50 attention=eca-3", "attention=eca-3: the form is eca"),
        (
            "resnet50 time=backwards",
            "time=backwards-.*; allowed: full, spatial, 2plus1, or one for each of 4 stages",
        ),
        ("resnet50 time=full-full", "time=full-full; allowed: .* one for each of 4 stages"),
        (
            "densenet121 block=basic",
            "block: densenet121 is a DenseNet, .* side by side.*; its options: antialias, depths",
        ),
        (
            "vit_tiny_patch16_224 widths=8",
            "widths: vit_tiny_patch16_224 is a Transformer, it has tokens instead of maps",
        ),
        ("resnet50 growth=32", "growth: resnet50 is a residual network"),
        ("vit_tiny_patch16_224 heads=5", "heads=5 must divide width=192"),
        ("vit_tiny_patch16_224 size=100", "patch=16 must divide size=100"),
        (
            "resnet18 widths=64-32-16-8 shortcut=zero_pad",
            "shortcut=zero_pad cannot go from 64 to 32 channels",
        ),
        (
            "resnet18 widths=20-20-20-20 norm=group",
            "norm=group needs multiples of 32 channels, a layer has 20",
        ),
        ("resnext50_32x4d widths=8-8-8-8", "a layer has no channels: choose larger widths"),
        ("res2net50_26w_4s widths=8-8-8-8", "13 channels do not divide into 4 pieces"),
        ("skresnet18 widths=3-3-3-3 stem_width=64", "3 channels do not divide into two halves"),
        (
            "resnet18 groups=2",
            (
                "groups=2 with block=basic: a basic block has two full 3x3 convolutions; use"
                " block=bottleneck"
            ),
        ),
        ("resnet18 stride_in=1x1", "stride_in=1x1 with block=basic: "),
        ("resnet18 spatial=res2-4", "spatial=res2-4 with block=basic: "),
        (
            "resnet50 order=pre spatial=sk",
            "spatial=sk with order=pre: it was made for blocks that end in a ReLU",
        ),
        ("resnet50 antialias=blur stem=cifar", "antialias=blur: it needs a stem that pools"),
        (
            "resnet50 antialias=average spatial=sk",
            "spatial=sk with antialias=average: it smooths the plain 3x3",
        ),
        (
            "resnet50 stride_in=1x1 spatial=split",
            "spatial=split with stride_in=1x1: that part has a stride of its own",
        ),
        (
            "resnet50 conv=standardised",
            "norm=batch with conv=standardised: .* change nothing; use norm=group",
        ),
        ("resnet20 output_stride=8", "output_stride=8 with stem=cifar: .* the network ends at 4"),
        (
            "resnet50 time=full antialias=blur",
            "antialias=blur with time=full: it has no form in three dimensions",
        ),
        ("densenet_bc_100_12 output_stride=8", "output_stride=8 with stem=cifar"),
        (
            "vit_tiny_patch16_224 order=none drop_path=0.1",
            "drop_path=0.1 with order=none: it needs a residual connection",
        ),
        ("legacy_seresnet50", "its stem pools without padding .* timm:legacy_seresnet50"),
        (
            "ecaresnet50d_pruned",
            "every convolution has a width of its own. .* timm:ecaresnet50d_pruned",
        ),
        ("quantized_resnet18", "its integer form belongs to one version of PyTorch"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_what_cannot_be_is_refused(words, message):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        create_model(words)


ANY = {  # where a rule excludes every value but the default: one that does differ
    "groups": "groups=2", "group_width": "group_width=32", "reduce_first": "reduce_first=2", "stride_in": "stride_in=1x1",
    "spatial": "spatial=sk", "antialias": "antialias=blur", "stem_pool": "stem_pool=conv", "output_stride": "output_stride=16",
    "conv": "conv=standardised", "time": "time=full", "drop_path": "drop_path=0.1",
}  # fmt: skip
FIRST = {
    ResNetSetting: "resnet50",
    DenseNetSetting: "densenet121",
    TransformerSetting: "vit_tiny_patch16_224",
}
EXCLUDED = [
    (kind, one, other, why)
    for kind in FIRST
    for one, others, why in kind.excludes
    for other in others.split()
]


@pytest.mark.parametrize(
    ("kind", "one", "other", "why"),
    EXCLUDED,
    ids=[f"{one}-{other}" for _, one, other, _ in EXCLUDED],
)
def test_what_excludes_each_other_is_refused_together_and_allowed_alone(kind, one, other, why):
    one, other = ANY.get(one, one), ANY.get(other, other)
    needed = (
        "norm=group"
        if "conv=standardised" in (one, other) and "norm=batch" not in (one, other)
        else ""
    )
    with pytest.raises(ValueError, match=re.escape(why)) as caught:
        Network.parse(f"{FIRST[kind]} {one} {other} {needed}")
    assert one in str(caught.value)
    assert other in str(caught.value)
    for alone in {one, other} - {"conv=standardised", "norm=batch"}:
        assert Network.parse(f"{FIRST[kind]} {alone}")


@pytest.mark.parametrize(
    "arguments", [{"num_classes": -1}, {"num_classes": -3}, {"in_channels": 0}, {"in_channels": -1}]
)
def test_counts_must_be_positive_but_there_may_be_no_classes(arguments):
    with pytest.raises(
        ValueError, match=re.escape("at least 0 (none, for the pooled features) and 1")
    ):
        create_model("resnet20", **arguments)
    assert create_model("resnet20", num_classes=0)(pictures(size=32)).shape == (2, 64)


def test_stages_and_widths_by_hand_must_agree():
    for layers_, widths in (([1, 1], [8]), ([], []), ([1, 0], [8, 8])):
        with pytest.raises(ValueError, match="every stage needs one width, and a block at least"):
            ResNet(BasicBlock, layers_, widths=widths)


# ----------------------------------------------------------------------------------------------------
# strangers and answers


class Stranger(nn.Module):
    """A block as a reader writes one."""

    expansion = 2

    def __init__(self, in_channels, out_channels, stride=1, downsample=None):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, out_channels * self.expansion, 3, stride, 1),
            nn.GroupNorm(4, out_channels * self.expansion),
            nn.GELU(),
        )
        self.downsample = downsample or nn.Identity()

    def forward(self, x):
        return self.branch(x) + self.downsample(x)


def test_a_block_of_a_stranger_trains_exports_and_gives_maps(tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "SIZES", ((31, 20),))
    torch.manual_seed(0)
    net = ResNet(Stranger, [1, 1, 1], num_classes=3, widths=[4, 8, 8])
    images, labels = pictures(4, 32), torch.tensor([0, 1, 2, 0])
    optimizer = OPTIMIZERS["sgd"](net, 0.05, 0.9, 0.0)
    losses = []
    for _ in range(2):
        loss = F.cross_entropy(net(images), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[1] < losses[0]
    model = Model(net, ("a", "b", "c"), Preprocessing.square(32), describe_network(None, net, 3, 3))
    assert model.network["kind"] == "object"
    picture = Image.effect_noise((50, 40), 80).convert("RGB")
    exporter.export_model(model, tmp_path / "own.onnx", [picture])
    from resnets import load

    found = load(tmp_path / "own.onnx").predict_image(picture, heat=True)
    assert isinstance(found, ClassPrediction)
    assert found.heat.shape[0] == 3
    logits = torch.from_numpy(found.heat.mean((1, 2)))
    torch.testing.assert_close(
        logits.softmax(0), torch.from_numpy(found.probabilities), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    "words",
    [
        "resnet20",
        "preresnet110 depths=1-1-1",
        "resnet50 widths=8-8-8-8",
        "resnet18 order=pre widths=8-8-8-8",
    ],
)
@torch.no_grad()
def test_maps_average_to_the_logits(words):
    net = randomise(create_model(words, num_classes=5))
    answering = Classification().inference(net)
    images = pictures(size=96)
    probabilities, embedding, heat = answering(images)
    assert answering.has_maps
    torch.testing.assert_close(heat.mean((2, 3)), net(images), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(probabilities, net(images).softmax(1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        embedding, net.forward_features(images).mean((2, 3)), atol=1e-6, rtol=1e-5
    )
    assert heat.std() > 1e-3


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))


class WithFeatures(Bare):
    """Says the words, but something else stands between the maps and the classifier."""

    def forward_features(self, x):
        return x

    def get_classifier(self):
        return self.fc


class MaxPooled(WithFeatures):
    def forward(self, x):
        return self.fc(x.amax((2, 3)))


class OneSize(WithFeatures):
    """Takes pictures of 32 px and no others, as vision transformers do."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 3, 4, 4)

    def forward_features(self, x):
        assert x.shape[-1] == 32, "wrong size"
        return self.patches(x)

    def forward(self, x):
        return self.fc(self.forward_features(x).mean((2, 3)))


class ConvHead(WithFeatures):
    def get_classifier(self):
        return nn.Conv2d(3, 2, 1)


@pytest.mark.parametrize("kind", [Bare, WithFeatures, MaxPooled, OneSize, ConvHead])
def test_a_network_without_maps_still_answers(kind):
    net = kind()
    answering = Classification().inference(net).eval()
    assert not answering.has_maps
    images = pictures(size=32)
    (probabilities,) = answering(images)
    torch.testing.assert_close(probabilities, net(images).softmax(1))


def test_looking_for_maps_leaves_the_network_as_it_was():
    net = create_model("resnet20")
    net.layer1.eval()
    modes = [module.training for module in net.modules()]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    Classification().inference(net)
    assert [module.training for module in net.modules()] == modes
    assert all(bool((before[key] == value).all()) for key, value in net.state_dict().items())


def test_a_summary_leaves_the_network_as_it_was():
    net = create_model("resnet18", num_classes=10)
    stages = summarise(net, 224)
    assert net.fc.weight.device.type == "cpu"
    assert net.training
    assert [stage.name for stage in stages] == [
        "conv1",
        "bn1",
        "maxpool",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "avgpool",
        "fc",
    ]
    assert stages[-3].output == (512, 7, 7)
    assert sum(stage.parameters for stage in stages) == count_parameters(net)
    with torch.device("meta"):
        whole = create_model("resnet50")
    # torchvision's table
    assert sum(stage.macs for stage in summarise(whole, 224)) / 1e9 == pytest.approx(4.09, abs=0.01)


@pytest.mark.slow
def test_export_and_compile():
    net, images = randomise(create_model("resnet18")), pictures(size=64)
    expected = net(images)
    program = torch.export.export(
        net, (images,), dynamic_shapes=({0: torch.export.Dim("N", min=1)},)
    )
    torch.testing.assert_close(program.module()(images), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        program.module()(pictures(5)), net(pictures(5)), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(torch.compile(net)(images), expected, atol=1e-4, rtol=1e-4)

"""Traps of the residual family, numbered as they were found, judged against timm and torchvision.

Not ours to hold, since the networks are refused in words or not built at all: the arithmetic of
EvoNorm and FRN (18), of quantised (33), pruned (34) and legacy (4) networks; FPNs, heads and the
eps of 0 in some detectors (20), the auxiliary heads of segmentation (21): of these we read the
backbones. The tests of these numbers hold what is left: that the refusal says why, and where to
find the network as it is, or that the backbone is read. That half-precision files exist (31) is not
tested, but that they are widened.
"""

import pytest
import torch
import torchvision
from torch import nn

timm = pytest.importorskip("timm", reason="the facts are judged against timm")

from test_parity import parity  # noqa: E402
from timm.data import resolve_data_config  # noqa: E402
from timm.layers import SplitAttn, StdConv2d  # noqa: E402
from timm.models import adapt_input_conv  # noqa: E402
from torchvision.ops import FrozenBatchNorm2d  # noqa: E402

from resnets.models import create_model  # noqa: E402
from resnets.models.attention import PooledNorm, SplitAttention  # noqa: E402
from resnets.models.resnet import Bottleneck, ResNet  # noqa: E402
from resnets.models.rewrite import BlurPool, StandardisedConv2d  # noqa: E402
from resnets.models.rows import ROWS  # noqa: E402
from resnets.models.weights import convert, load_weights, look_alikes  # noqa: E402
from resnets.models.zoo import Network  # noqa: E402
from resnets.pretrained import torchvision_weights  # noqa: E402
from resnets.summary.table import count_parameters, summarise  # noqa: E402
from resnets.timm_config import timm_preprocessing  # noqa: E402

randomise = parity.randomise


def noise(height: int = 64, width: int = 64, count: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(1))


def drawn(net: nn.Module) -> nn.Module:
    """In eval mode, as if trained."""
    randomise(net)
    return net.eval()


def small(name: str, **arguments) -> nn.Module:
    """timm's network of this name with one block in each stage."""
    torch.manual_seed(0)
    return drawn(timm.create_model(name, layers=(1, 1, 1, 1), **arguments))


def ours(words: str, state: dict, **arguments) -> nn.Module:
    """Our network with weights of another."""
    net = create_model(words, **arguments).eval()
    net.load_state_dict(convert(state, words))
    return net


def hollow(words: str, **arguments) -> nn.Module:
    with torch.device("meta"):
        return create_model(words, **arguments)


@torch.no_grad()
def check_equal(
    words: str, peer: nn.Module, *sizes: tuple[int, int], relative: float = 1e-5
) -> nn.Module:
    """Our network in words, with the peer's weights, gives the peer's logits."""
    net = ours(words, peer.state_dict())
    for size in sizes or [(64, 64)]:
        expected = peer(noise(*size))
        torch.testing.assert_close(
            net(noise(*size)), expected, atol=relative * expected.abs().max().item(), rtol=0
        )
    return net


def check_refused(words: str, reason: str) -> None:
    name = words.partition(" ")[0]
    with pytest.raises(ValueError, match=reason) as refused:
        create_model(words)
    assert (f"timm:{name}" in str(refused.value)) == (name not in ROWS)


def macs(net: nn.Module, size: int = 224) -> int:
    return sum(stage.macs for stage in summarise(net, size))


# ----------------------------------------------------------------------------------------------------
# 1 to 9


@torch.no_grad()
def test_trap_01_zero_init_hides_the_residual_branch():
    """Before comparing, weights are randomised so that what is wrong inside a branch can be
    seen."""
    seen = {}
    for kind in ("fresh", "randomised"):
        torch.manual_seed(0)
        peer = timm.create_model("resnet50", layers=(1, 1, 1, 1)).eval()
        if kind == "randomised":
            randomise(peer)
        before = peer(noise())
        assert before.abs().max() < 100  # mildly
        peer.layer3[0].conv2.weight.mul_(2)
        seen[kind] = not torch.allclose(peer(noise()), before, rtol=1e-3)
    assert seen == {"fresh": False, "randomised": True}
    blocks = [block for block in create_model("resnet18").modules() if hasattr(block, "branch_end")]
    assert all(block.bn2.weight.all() for block in blocks)  # with us only with zero_init=true


@pytest.mark.parametrize(
    "names",
    [
        ("resnet50", "resnetaa50", "resnetblur50"),
        ("resnet50d", "resnetaa50d", "resnetblur50d"),
        ("resnet18", "resnetblur18"),
        ("resnet34d", "resnetaa34d"),
        ("resnet101d", "resnetaa101d", "resnetblur101d"),
        ("seresnext101d_32x8d", "seresnextaa101d_32x8d"),
    ],
)
def test_trap_02_a_state_dict_does_not_identify_the_network(names):
    keys = [
        {key: value.shape for key, value in hollow(name).state_dict().items()} for name in names
    ]
    assert all(one == keys[0] for one in keys)
    for name in names:
        assert {*names} - {name} <= {*look_alikes(Network.parse(name))}


@torch.no_grad()
def test_trap_02_the_same_weights_give_other_logits():
    state = small("resnetblur50").state_dict()
    logits = [
        ours(f"{name} depths=1-1-1-1", state)(noise())
        for name in ("resnet50", "resnetaa50", "resnetblur50")
    ]
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert (logits[one] - logits[two]).abs().max() > 0.01 * logits[one].abs().max()


def test_trap_03_the_stride_stands_in_the_3x3_and_in_the_first_1x1_by_a_word_only():
    legacy = small("legacy_seresnet50")
    legacy.pool0 = nn.MaxPool2d(3, 2, padding=1)  # its own is trap 4
    names = {"layer0.": "", "se_module": "se", "last_linear": "fc"}
    state = legacy.state_dict()
    for old, new in names.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    words = "seresnet50 depths=1-1-1-1"
    with torch.no_grad():
        expected = legacy(noise())
        torch.testing.assert_close(
            ours(f"{words} stride_in=1x1", state)(noise()), expected, atol=1e-5, rtol=1e-5
        )
        assert not torch.allclose(ours(words, state)(noise()), expected, rtol=1e-2)
    assert macs(hollow("seresnet50")) - macs(hollow("seresnet50 stride_in=1x1")) == pytest.approx(
        0.23e9, rel=0.02
    )


def test_trap_04_legacy_networks_are_refused():
    names = timm.list_models("legacy_se*")
    assert len(names) == 9
    for name in names:
        check_refused(name, "pools without padding and its weights are named in another way")


def test_trap_05_attention_is_rounded_to_multiples_of_8_and_by_a_word_not_at_all():
    assert create_model("seresnet18").layer1[0].se.fc1.out_channels == 8
    legacy = hollow("seresnet18 attention=se-16-1")
    assert legacy.layer1[0].se.fc1.out_channels == 4
    assert (
        count_parameters(legacy)
        == 11_778_592
        == count_parameters(timm.create_model("legacy_seresnet18"))
    )
    assert count_parameters(hollow("seresnet18")) == 11_779_624


@pytest.mark.parametrize("name", ["seresnet18", "resnetrs50", "seresnext26d_32x4d"])
def test_trap_05_ratio_and_biases_are_those_of_timm(name):
    peer, net = timm.create_model(name, layers=(1, 1, 1, 1)), hollow(f"{name} depths=1-1-1-1")
    for stage in (1, 2, 3, 4):
        own, theirs = (getattr(one, f"layer{stage}")[0].se for one in (net, peer))
        assert (own.fc1.out_channels, own.fc2.in_channels) == (
            theirs.fc1.out_channels,
            theirs.fc2.in_channels,
        )
        assert own.fc1.bias is not None
        assert own.fc2.bias is not None
    ratio = 4 if name == "resnetrs50" else 16
    assert net.layer4[0].se.fc1.out_channels == net.layer4[0].se.fc1.in_channels // ratio


def widths(stem: nn.Module) -> list[int]:
    return [conv.out_channels for conv in stem.modules() if isinstance(conv, nn.Conv2d)]


@pytest.mark.parametrize(
    "name", ["resnet10t", "resnet50t", "ecaresnext26t_32x4d", "seresnext26t_32x4d", "seresnet50t"]
)
def test_trap_06_tiered_stems_are_24_32_64(name):
    with torch.device("meta"):
        assert (
            widths(create_model(name).conv1)
            == widths(timm.create_model(name).conv1)
            == [24, 32, 64]
        )


def test_trap_06_densenets_have_no_tiered_stem():
    with pytest.raises(ValueError, match="stem=tiered"):
        create_model("densenet121 stem=tiered")
    with torch.device("meta"):
        peers = timm.create_model("densenet264d").features
        assert widths(peers.conv0) + widths(peers.conv1) + widths(peers.conv2) == [
            hollow("densenet264d").features.get_submodule(f"conv{number}").out_channels
            for number in range(3)
        ]


def test_trap_07_the_stem_of_ecaresnetlight_is_7x7_and_64_wide():
    for net in (hollow("ecaresnetlight"), timm.create_model("ecaresnetlight", layers=(1, 1, 1, 1))):
        assert (net.conv1.kernel_size, net.conv1.out_channels) == ((7, 7), 64)


def test_trap_08_average_antialiasing_takes_the_place_of_the_max_pooling():
    for name in ("resnetaa50", "resnetaa34d"):
        peer = small(name)
        # At 66 px the stem's map of 33 is rounded down, in timm as with us
        net = check_equal(f"{name} depths=1-1-1-1", peer, (64, 64), (66, 66))
        for one in (net, peer):
            assert isinstance(one.maxpool, nn.AvgPool2d)
        for side in (3, 75, 90):
            assert net(noise(side, side)).isfinite().all()
        with pytest.raises(ValueError, match="sides of at least 3 px"):
            net(noise(2, 64))
    with pytest.raises(RuntimeError, match="size of tensor"):
        peer(noise(75, 75))  # in its blocks the branch is rounded down and the shortcut up


def test_trap_08_blur_keeps_the_max_pooling_and_pads_by_reflection():
    net = check_equal("resnetblur50 depths=1-1-1-1", small("resnetblur50"), (64, 64), (75, 90))
    maximum, blur = net.maxpool
    assert (maximum.kernel_size, maximum.stride, blur.stride) == (3, 1, 2)
    point = torch.zeros(1, 1, 5, 5)
    point[0, 0, 1, 1] = 16
    out = BlurPool(stride=1)(point)[0, 0]
    # at the border the second row counts twice
    assert out[:3, :3].tolist() == [
        [4, 4, 2],
        [4, 4, 2],
        [2, 2, 1],
    ]
    assert not list(BlurPool().state_dict())


@pytest.mark.parametrize("words", ["res2net50_26w_4s", "resnest50d", "skresnet50", "resnetv2_50"])
def test_trap_09_antialiasing_is_refused_where_it_would_be_swallowed(words):
    for kind in ("blur", "average"):
        check_refused(f"{words} antialias={kind}", f"antialias={kind}")


def test_trap_09_densenets_are_antialiased_in_the_stem_only():
    for net in (hollow("densenetblur121d"), timm.create_model("densenetblur121d")):
        blurs = [
            key for key, module in net.named_modules() if "blur" in type(module).__name__.lower()
        ]
        assert blurs == ["features.pool0.1"]
    with pytest.raises(ValueError, match="antialias=average"):
        create_model("densenet121 antialias=average")


# ----------------------------------------------------------------------------------------------------
# 10 to 19


def test_trap_10_average_shortcuts_round_up():
    for name in ("resnet50d", "resnetv2_50d"):
        net = check_equal(f"{name} depths=1-1-1-1", small(name), (64, 64), (56, 72), (75, 90))
        assert net.layer2[0].downsample[0](torch.ones(1, 1, 7, 7)).tolist() == [[[[1.0] * 4] * 4]]


@pytest.mark.parametrize("output_stride", [8, 16])
def test_trap_10_dilated_they_pad_below_and_right_with_zeros_that_count(output_stride):
    net = check_equal(
        f"resnet50d depths=2-2-2-2 output_stride={output_stride}",
        drawn(timm.create_model("resnet50d", layers=(2, 2, 2, 2), output_stride=output_stride)),
        *[(64, 64), (75, 90)],
    )
    assert net.layer4[0].downsample[0](torch.ones(1, 1, 2, 2)).tolist() == [
        [[[1.0, 0.5], [0.5, 0.25]]]
    ]


@torch.no_grad()
def test_trap_11_res2net_pools_its_last_piece_with_a_border_that_counts():
    peer = small("res2net50_26w_4s")
    net = check_equal("res2net50_26w_4s depths=1-1-1-1", peer, (64, 64), (75, 90))
    for stage, stride in ((1, 1), (2, 2)):
        for block in (getattr(net, f"layer{stage}")[0].conv2, getattr(peer, f"layer{stage}")[0]):
            means = block.pool(torch.ones(1, 1, 6, 6))
            assert means.shape[-1] == 6 // stride
            assert means[0, 0, 0, 0].item() == pytest.approx(4 / 9)
    for output_stride in (8, 16):
        peer = small("res2net50_26w_4s", output_stride=output_stride)
        check_equal(f"res2net50_26w_4s depths=1-1-1-1 output_stride={output_stride}", peer)


@torch.no_grad()
def test_trap_12_what_is_dropped_is_the_branch_also_in_resnest():
    for words in ("resnest14d", "resnest50d depths=1-1-1-2"):
        net = drawn(create_model(f"{words} drop_path=0.5"))
        block = net.layer4[-1].train()
        x = noise(8, 8, channels=block.conv1.in_channels).relu()
        block.drop_path.p = 1.0
        expected = x if block.downsample is None else block.downsample(x)
        torch.testing.assert_close(block(x), expected.relu(), atol=0, rtol=0)
        block.drop_path.p = 0.0
        assert (block(x) - expected.relu()).abs().max() > 0.1
    rates = [
        block.drop_path.p
        for block in create_model("resnest50d drop_path=0.2").modules()
        if hasattr(block, "branch_end")
    ]
    assert rates == pytest.approx(torch.linspace(0, 0.2, 16).tolist())


@torch.no_grad()
def test_trap_13_resnest_dilated_keeps_its_average():
    """As its authors have it. timm loses it; all else is equal."""
    for name, place in (("resnest50d", "after"), ("resnest50d_1s4x24d", "before")):
        peer = small(name, output_stride=8)
        net = ours(f"{name} depths=1-1-1-1 output_stride=8", peer.state_dict())
        for stage in (net.layer3, net.layer4):
            pool = getattr(stage[0].conv2, place)
            means = pool(torch.ones(1, 1, 6, 6))
            assert means.shape[-1] == 6
            assert means[0, 0, 0, 0].item() == pytest.approx(4 / 9)  # its border counts
            setattr(stage[0].conv2, place, nn.Identity())
        torch.testing.assert_close(net(noise()), peer(noise()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("radix", "groups"), [(1, 1), (2, 1), (1, 4), (2, 2), (4, 2)])
@torch.no_grad()
def test_trap_14_attention_is_shared_out_among_the_splits_of_a_group(radix, groups):
    torch.manual_seed(0)
    theirs = drawn(SplitAttn(64, 64, groups=groups, radix=radix, norm_layer=nn.BatchNorm2d))
    own = SplitAttention(nn.Conv2d(64, 64, 3, padding=1, groups=groups, bias=False), radix).eval()
    own.load_state_dict(theirs.state_dict())
    x = noise(8, 8, channels=64)
    torch.testing.assert_close(own(x), theirs(x), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_trap_15_the_norm_of_pooled_maps_stays_batchnorm():
    """A GroupNorm of 32 channels at one place is zero whatever it is given, and fails for a single
    picture."""
    peer = small("skresnet50", norm_layer="groupnorm")
    check_equal("skresnet50 depths=1-1-1-1 norm=group", peer)
    for words in ("skresnet50 depths=1-1-1-1 norm=group", "resnest14d norm=group"):
        net = drawn(create_model(words))
        assert net(noise(count=1)).shape == (1, 1000)
        norms = [
            module for module in net.modules() if isinstance(module, nn.GroupNorm | nn.BatchNorm2d)
        ]
        assert {type(module) for module in norms} == {nn.GroupNorm, PooledNorm}
    pooled = net.layer1[0].conv2.bn1
    x = noise(1, 1, channels=32)
    assert (pooled(x)[0] - pooled(x)[1]).abs().max() > 0.1


@torch.no_grad()
def test_trap_16_the_stem_of_bit_pools_with_a_border_of_zeros():
    peer = drawn(timm.create_model("resnetv2_50x1_bit"))
    net = create_model("resnetv2_50x1_bit depths=1-1-1-1")
    negative = -torch.ones(1, 64, 8, 8)
    expected = peer.stem.pool(peer.stem.pad(negative))
    assert expected[0, 0, 0].tolist() == [0, 0, 0, 0]
    assert bool((expected[0, 0, 1:, 1:] == -1).all())
    torch.testing.assert_close(net.maxpool(negative), expected, atol=0, rtol=0)
    torch.testing.assert_close(create_model("resnetv2_18").maxpool(negative), negative[..., :4, :4])
    # nothing between the convolution and the pooling
    assert {type(module) for module in (net.bn1, net.relu)} == {nn.Identity}


@torch.no_grad()
def test_trap_17_weights_are_standardised_by_the_biased_variance_and_an_eps_in_the_root():
    torch.manual_seed(0)
    own = StandardisedConv2d(64, 64, 3, bias=False).double()  # without padding, as theirs
    x = noise(8, 8, channels=64).double()
    off = {}
    for eps in (1e-8, 1e-6):
        theirs = StdConv2d(64, 64, 3, padding=0, eps=eps).double()
        theirs.weight.copy_(own.weight)
        off[eps] = (own(x) - theirs(x)).abs().max().item()
    assert off[1e-8] < 1e-12 < 1e-4 < off[1e-6]  # the comparison can see the eps


def test_trap_17_stem_and_shortcuts_are_standardised_too_and_the_head_is_not():
    net = hollow("resnetv2_50x1_bit depths=1-1-1-1")
    convs = {key: module for key, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    assert {type(module) for module in convs.values()} == {StandardisedConv2d}
    assert {"conv1", "layer1.0.downsample"} <= {*convs}
    assert type(net.fc) is nn.Linear
    with torch.device("meta"):
        peer = timm.create_model("resnetv2_50x1_bit")
    assert type(peer.head.fc) is nn.Conv2d
    assert {module.eps for module in peer.modules() if isinstance(module, StdConv2d)} == {
        StandardisedConv2d.eps
    }


@pytest.mark.parametrize("name", ["resnetv2_50d_evos", "resnetv2_50d_frn"])
def test_trap_18_networks_with_norms_of_their_own_are_refused(name):
    check_refused(name, "its norm, (EvoNorm|FRN with TLU), is in no other network")


@torch.no_grad()
def test_trap_19_counters_of_batchnorm_stay_whole_and_may_be_missing():
    words = "resnet18 widths=8-8-8-8"
    net = create_model(words)
    net(noise())
    assert (net.bn1.num_batches_tracked.dtype, net.bn1.num_batches_tracked.shape) == (
        torch.int64,
        (),
    )
    assert net.half().bn1.num_batches_tracked.dtype == torch.int64
    assert net.bn1.num_batches_tracked.item() == 1
    state = net.float().state_dict()
    for version in (None, 2):  # what PyTorch's own strict loading makes depend on metadata
        bare = type(state)((key, value) for key, value in state.items() if "num_batches" not in key)
        if version:
            bare._metadata = state._metadata
        target = create_model(words)
        loaded = load_weights(target, bare)
        assert len(loaded.loaded) == len(bare)
        torch.testing.assert_close(target.eval()(noise()), net.eval()(noise()), atol=0, rtol=0)


# ----------------------------------------------------------------------------------------------------
# 20 to 29


def frozen() -> nn.Module:
    """torchvision's ResNet-50 as detectors have it: norms without counters, that never change."""
    torch.manual_seed(0)
    net = torchvision.models.resnet50(norm_layer=FrozenBatchNorm2d).eval()
    for module in net.modules():
        if isinstance(module, FrozenBatchNorm2d):
            for name, (low, high) in {
                "weight": (0.5, 1),
                "bias": (-0.1, 0.1),
                "running_mean": (-0.1, 0.1),
                "running_var": (0.8, 1.2),
            }.items():
                getattr(module, name).uniform_(low, high)
    return net


@torch.no_grad()
def test_trap_20_backbones_of_detectors_are_read():
    backbone = frozen()
    state = {
        f"backbone.body.{key}": value
        for key, value in backbone.state_dict().items()
        if not key.startswith("fc.")
    }
    others = dict.fromkeys(
        (
            "backbone.fpn.inner_blocks.0.0.weight",
            "rpn.head.conv.0.0.weight",
            "roi_heads.box_head.fc6.bias",
        )
    )
    with torch.device("meta"):
        detector = torchvision.models.detection.fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None
        ).state_dict()
    assert {*state, *others} <= {*detector}
    net = create_model("resnet50").eval()
    loaded = load_weights(
        net, convert({**state, **{key: torch.zeros(1) for key in others}}, "resnet50")
    )
    assert loaded.left == ("fc.weight", "fc.bias")
    assert len(loaded.loaded) == len(state)
    expected = backbone.layer2(
        backbone.layer1(backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(noise())))))
    )
    torch.testing.assert_close(net.forward_stages(noise())[2], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_trap_21_backbones_of_segmentation_are_read_with_or_without_the_auxiliary_head():
    torch.manual_seed(0)
    for auxiliary in (True, False):
        whole = torchvision.models.segmentation.fcn_resnet50(
            weights=None, weights_backbone=None, aux_loss=auxiliary
        )
        drawn(whole)
        assert any(key.startswith("aux_classifier.") for key in whole.state_dict()) == auxiliary
        net = create_model("resnet50 output_stride=8", num_classes=0).eval()
        assert not load_weights(net, convert(whole.state_dict(), "resnet50 output_stride=8")).left
        expected = whole.backbone(noise())["out"]
        assert expected.shape[-1] == 8
        torch.testing.assert_close(net.forward_features(noise()), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "resnet18d", "skresnet18", "resnetv2_18"])
def test_trap_22_basic_blocks_dilate(name):
    with pytest.raises(NotImplementedError, match="Dilation > 1 not supported"):
        torchvision.models.ResNet(
            torchvision.models.resnet.BasicBlock,
            [1] * 4,
            replace_stride_with_dilation=[False, True, True],
        )
    for output_stride in (8, 16):
        peer = drawn(timm.create_model(name, output_stride=output_stride))
        net = check_equal(f"{name} output_stride={output_stride}", peer, (75, 90))
        assert net.forward_features(noise()).shape[-1] == 64 // output_stride


@torch.no_grad()
def test_trap_23_features_of_a_densenet_end_with_the_relu():
    theirs = drawn(torchvision.models.DenseNet(8, (2, 2, 2, 2), 16))
    peer = timm.models.densenet.DenseNet(8, (2, 2, 2, 2)).eval()
    peer.load_state_dict(theirs.state_dict())
    net = ours("densenet121 growth=8 depths=2-2-2-2", theirs.state_dict())
    features = net.forward_features(noise())
    torch.testing.assert_close(features, peer.forward_features(noise()))
    torch.testing.assert_close(features, theirs.features(noise()).relu())
    assert bool((theirs.features(noise()) < 0).any())
    assert (
        theirs.features(noise(29, 29)).shape[-2:] == net.forward_features(noise(29, 29)).shape[-2:]
    )
    for size in ((28, 64), (64, 28)):
        with pytest.raises(ValueError, match="sides of at least 29 px"):
            net(noise(*size))
        with pytest.raises(RuntimeError, match="too small"):
            theirs(noise(*size))


def test_trap_23_a_densenet_starts_by_fan_in():
    torch.manual_seed(0)
    net = create_model("densenet121")
    for one in (
        net.features.denseblock3.denselayer5.conv2,
        net.features.denseblock3.denselayer5.conv1,
    ):
        assert one.weight.std().item() == pytest.approx(
            (2 / one.weight[0].numel()) ** 0.5, rel=0.05
        )


@pytest.mark.parametrize(
    "words",
    [
        "densenet121 growth=8 depths=2-2-2-2",
        "resnet50 widths=8-8-8-8",
        "skresnet18 widths=16-16-16-16",
    ],
)
def test_trap_24_saving_memory_updates_statistics_once(words):
    """Both peers' memory-efficient DenseNets do so twice for some norms."""
    torch.manual_seed(0)
    plain, saving = (
        create_model(words, num_classes=3).train(),
        create_model(words, num_classes=3, checkpointing=True).train(),
    )
    saving.load_state_dict(plain.state_dict())
    for net in (plain, saving):
        x = noise(96, 96).requires_grad_()
        net(x).square().sum().backward()
    assert {value.item() for key, value in saving.state_dict().items() if "num_batches" in key} == {
        1
    }
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(saving.state_dict()[key], value)
    for one, two in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
        assert bool(one.grad.any())


def test_trap_24_the_peers_update_them_twice():
    theirs = torchvision.models.DenseNet(8, (2, 2, 2, 2), 16, memory_efficient=True).train()
    theirs(noise().requires_grad_()).square().sum().backward()
    counts = [value.item() for key, value in theirs.state_dict().items() if "num_batches" in key]
    assert counts.count(2) == 8


def test_trap_25_old_files_of_densenets_are_read():
    """Only torchvision's own loader knows their names."""
    state = torchvision.models.densenet121().state_dict()
    old = {}
    for key, value in state.items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            key = (
                key.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
                if "denselayer" in key
                else key
            )
        old[key] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    found = convert(old, "densenet121")
    assert list(found) == list(state)
    assert all(found[key] is state[key] for key in state)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        torchvision.models.densenet121().load_state_dict(old)


def test_trap_26_the_head_of_resnetv2_is_a_convolution_there_and_linear_here():
    for name in ("resnetv2_50", "resnetv2_50d"):
        state = small(name).state_dict()
        assert state["head.fc.weight"].shape == (1000, 2048, 1, 1)
        assert convert(state, name)["fc.weight"].shape == (1000, 2048)
        # The pooling in the shortcut has no weights, and their names do not tell of it
        assert "stages.1.blocks.0.downsample.conv.weight" in state
        assert not [
            key
            for key in state
            if "downsample" in key and not key.endswith("downsample.conv.weight")
        ]
        check_equal(f"{name} depths=1-1-1-1", small(name))
    shapes = [
        {key: value.shape for key, value in small(name).state_dict().items() if "stem" not in key}
        for name in ("resnetv2_50", "resnetv2_50d")
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    "name",
    ["ig_resnext101_32x16d", "ig_resnext101_32x32d", "ig_resnext101_32x48d", "resnext101_32x48d"],
)
def test_trap_27_wrong_aliases_are_refused(name):
    with pytest.raises(
        ValueError, match=r"this name builds resnext101_32x8d|names weights for it but no network"
    ) as refused:
        create_model(name)
    assert "timm:" not in str(refused.value)  # there is no such network in timm
    if name.startswith("ig_"):
        with torch.device("meta"), pytest.warns(UserWarning, match="deprecated"):
            assert (
                count_parameters(timm.create_model(name))
                == 88_791_336
                == ROWS["resnext101_32x8d"].parameters
            )
    else:
        assert not timm.is_model(name)


def test_trap_28_gluon_variants_are_weights_of_networks_that_we_have():
    names = {
        tag.partition(".")[0]
        for tag in timm.list_pretrained("*.gluon*")
        if not tag.startswith(("hrnet", "inception", "xception"))
    }
    assert (
        {"resnet50", "resnet50c", "resnet50d", "resnet50s", "senet154", "resnest14d"}
        <= names
        <= {*ROWS}
    )


CLASSES = {11821: "in12k", 21843: "in21k", 0: "bamboo"}


@pytest.mark.parametrize("classes", CLASSES)
def test_trap_29_the_head_stays_new_where_weights_have_other_classes(classes):
    words = "resnet18 widths=8-8-8-8"
    published = {
        timm.get_pretrained_cfg(tag).num_classes
        for name in ROWS
        for tag in timm.list_pretrained(f"{name}.*")
    }
    assert classes in published
    source, target = (
        drawn(create_model(words, num_classes=classes)),
        create_model(words, num_classes=7).eval(),
    )
    head = target.fc.weight.clone()
    loaded = load_weights(target, source.state_dict())
    assert loaded.left == ("fc.weight", "fc.bias")
    assert torch.equal(target.fc.weight, head)
    torch.testing.assert_close(
        target.forward_features(noise()), source.forward_features(noise()), atol=0, rtol=0
    )


# ----------------------------------------------------------------------------------------------------
# 30 to 37


def test_trap_30_preprocessing_is_that_of_the_tag():
    """For every published tag of our networks, as timm itself evaluates it."""
    tags = [tag for tag in timm.list_pretrained() if tag.partition(".")[0] in ROWS]
    assert len(tags) > 100
    for tag in tags:
        config = timm.get_pretrained_cfg(tag).to_dict()
        expected = resolve_data_config(pretrained_cfg=config, use_test_size=True)
        found = timm_preprocessing(config)
        assert found.size == tuple(expected["input_size"][1:]), tag
        assert found.resize[0] == int(found.size[0] / expected["crop_pct"]), tag
        assert (found.mean, found.std, found.interpolation) == (
            expected["mean"],
            expected["std"],
            expected["interpolation"],
        ), tag
        assert expected["crop_mode"] == "center", tag
    tv2 = timm_preprocessing(timm.get_pretrained_cfg("resnet50.tv2_in1k").to_dict())
    assert (tv2.size, tv2.resize) == ((224, 224), (232, 232))
    assert timm_preprocessing(timm.get_pretrained_cfg("resnetv2_50.a1h_in1k").to_dict()).mean == (
        0.5,
        0.5,
        0.5,
    )


@pytest.mark.parametrize(("tag", "resize"), [("IMAGENET1K_V1", 256), ("IMAGENET1K_V2", 232)])
def test_trap_30_torchvision_resizes_by_tag_too(tag, resize, tmp_path, monkeypatch):
    entry = torchvision.models.ResNet50_Weights[tag]
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save({"fc.bias": torch.zeros(1)}, tmp_path / "checkpoints" / entry.url.rpartition("/")[2])
    assert torchvision_weights("resnet50", tag).preprocessing.resize == (resize, resize)


@torch.no_grad()
def test_trap_31_half_precision_files_are_widened():
    words = "wide_resnet50_2 widths=8-8-8-8 depths=1-1-1-1"
    source = drawn(create_model(words)).half()
    state = source.state_dict()
    assert {value.dtype for key, value in state.items() if "num_batches" not in key} == {
        torch.float16
    }
    for channels in (3, 1):
        net = create_model(words, in_channels=channels).eval()
        load_weights(net, state)
        assert {
            value.dtype for key, value in net.state_dict().items() if "num_batches" not in key
        } == {torch.float32}
        assert torch.equal(net.layer1[0].conv1.weight, state["layer1.0.conv1.weight"].float())
        assert net(noise(channels=channels)).dtype == torch.float32
    # summed after widening
    assert torch.equal(net.conv1.weight, state["conv1.weight"].float().sum(1, keepdim=True))


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18"])
def test_trap_32_clips_keep_their_number_of_pictures_in_the_stem(name):
    with torch.device("meta"):
        net, theirs = create_model(name), torchvision.models.get_model(name)
        x = torch.zeros(1, 3, 8, 32, 32)
        assert [one.shape for one in net.forward_stages(x)[:2]] == [
            (1, 64, 8, 16, 16)
        ] * 2  # also without pooling
        assert net.forward_stages(x)[0].shape == theirs.stem(x).shape
    for stage in (2, 3, 4):
        own, other = (getattr(one, f"layer{stage}")[0].downsample[0] for one in (net, theirs))
        assert own.stride == other.stride == ((1, 2, 2) if name == "mc3_18" else (2, 2, 2))


def test_trap_32_zero_init_also_works_for_clips():
    net = create_model("r3d_18 zero_init=true widths=8-8-8-8")
    blocks = [block for block in net.modules() if hasattr(block, "branch_end")]
    assert len(blocks) == 8
    assert not any(block.bn2.weight.any() for block in blocks)


def test_trap_33_quantised_networks_are_refused():
    names = torchvision.models.list_models(
        module=torchvision.models.quantization, include="quantized_res*"
    )
    assert len(names) == 4
    for name in names:
        with pytest.raises(
            ValueError, match=f"unknown network '{name}': its integer form belongs to one version"
        ) as refused:
            create_model(name)
        assert "timm:" not in str(refused.value)  # which does not have it


@pytest.mark.parametrize("name", ["ecaresnet50d_pruned", "ecaresnet101d_pruned"])
def test_trap_34_pruned_networks_are_refused(name):
    check_refused(name, "every convolution has a width of its own")


def weighted_layers(net: nn.Module) -> int:
    """Convolutions on the longest way, and the head."""
    return 1 + sum(
        isinstance(module, nn.Conv2d) and not any(part in key for part in ("downsample", ".se."))
        for key, module in net.named_modules()
    )


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet26d", 28),
        ("resnet26t", 28),
        ("resnet10t", 12),
        ("resnet14t", 16),
        ("seresnextaa201d_32x8d", 205),
    ],
)
def test_trap_35_names_do_not_tell_the_depth(name, layers):
    with torch.device("meta"):
        assert (
            weighted_layers(create_model(name))
            == weighted_layers(timm.create_model(name))
            == layers
        )


def test_trap_35_what_mixes_blocks_is_refused_and_any_number_of_stages_is_not():
    check_refused("test_resnet", "it mixes kinds of blocks, for tests of timm")
    assert ResNet(Bottleneck, [1, 1], 3, widths=[8, 8])(noise()).shape == (2, 3)


@pytest.mark.parametrize(
    ("words", "theirs"),
    [
        ("resnet18", lambda: torchvision.models.resnet18()),
        (
            "resnext50_32x4d depths=1-1-1-1",
            lambda: torchvision.models.ResNet(*DEEP, groups=32, width_per_group=4),
        ),
        (
            "wide_resnet50_2 depths=1-1-1-1",
            lambda: torchvision.models.ResNet(*DEEP, width_per_group=128),
        ),
        ("densenet121 depths=2-2-2-2", lambda: torchvision.models.DenseNet(32, (2, 2, 2, 2), 64)),
    ],
)
@torch.no_grad()
def test_trap_36_plain_networks_are_equal_bit_for_bit(words, theirs):
    peer = drawn(theirs())
    assert torch.equal(ours(words, peer.state_dict())(noise(75, 90)), peer(noise(75, 90)))


DEEP = (torchvision.models.resnet.Bottleneck, [1, 1, 1, 1])


@torch.no_grad()
def test_trap_36_frozen_norms_are_equal_within_a_tolerance():
    peer = frozen()
    net = create_model("resnet50").eval()
    load_weights(net, peer.state_dict())
    logits, expected = net(noise()), peer(noise())
    assert not torch.equal(logits, expected)
    torch.testing.assert_close(logits, expected, atol=1e-4 * expected.abs().max().item(), rtol=0)


def test_trap_37_filters_are_summed_for_grey_pictures():
    words = "resnet18 widths=8-8-8-8"
    source, target = drawn(create_model(words)), create_model(words, in_channels=1).eval()
    load_weights(target, source.state_dict())
    torch.testing.assert_close(target.conv1.weight, adapt_input_conv(1, source.conv1.weight))
    grey = noise(channels=1)
    torch.testing.assert_close(
        target(grey), source(grey.expand(-1, 3, -1, -1)), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_trap_37_other_numbers_of_channels_are_refused(channels):
    words = "resnet18 widths=8-8-8-8"
    state = create_model(words).state_dict()
    with pytest.raises(
        ValueError,
        match=rf"of another shape conv1.weight \(8, 3, 7, 7\) for \(8, {channels}, 7, 7\)",
    ):
        load_weights(create_model(words, in_channels=channels), state)

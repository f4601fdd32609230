"""Parity with timm and torchvision, the part that takes seconds, in turns; `python
benchmarks/parity.py` compares the large ones too."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from sampling import sampled
from torch import nn

timm = pytest.importorskip("timm", reason="the networks are compared with those of timm")

from resnets.models import create_model  # noqa: E402
from resnets.models.rows import ROWS  # noqa: E402

FILE = Path(__file__).parent.parent / "benchmarks/parity.py"
THOROUGH = (  # one of each kind, the smallest that has it: also a training pass
    "resnet18", "resnet14t", "resnetaa34d", "resnetblur18", "seresnet18", "ecaresnet26t", "skresnet18", "res2net50_48w_2s",
    "res2next50", "resnest14d", "resnest50d_1s4x24d", "resnetv2_18d", "resnetv2_50x1_bit", "mc3_18", "densenetblur121d",
    "vit_tiny_patch16_224",
)  # fmt: skip


def load():
    spec = importlib.util.spec_from_file_location("parity", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["parity"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


parity = load()
SMALL = [name for name in parity.names() if ROWS[name].parameters < 30e6]


@pytest.mark.parametrize("name", sampled(SMALL, 10, always=["resnet18"]))
def test_a_network_is_equal_to_its_peers(name):
    result = parity.compare(name, thorough=name in THOROUGH)
    assert not parity.judge(result)
    one = "mapped" if name.startswith(("resnetv2", "skres", "res2ne", "mc3")) else "equal"
    assert result.keys == ", ".join([one] * len(result.peers.split(", ")))
    assert (result.training is not None, len(result.counts) > 1) == (name in THOROUGH,) * 2


def test_networks_that_two_libraries_have_are_compared_with_both():
    with torch.device("meta"):
        both = {
            name: dict(parity.make_peers(name))
            for name in ("resnet18", "densenet121", "vit_base_patch16_224", "resnet50d")
        }
    assert [list(found) for found in both.values()] == [["timm", "torchvision"]] * 3 + [["timm"]]
    assert {
        type(net).__module__.partition(".")[0] for found in both.values() for net in found.values()
    } == {"timm", "torchvision"}


# ----------------------------------------------------------------------------------------------------
# none missing


@pytest.mark.skipif(
    timm.__version__ != "1.0.31", reason="other versions of timm have other networks"
)
def test_every_published_network_is_compared_or_refused_in_words():
    assert not parity.miscounted()


def test_a_network_that_is_missing_or_counted_without_being_compared_is_found(monkeypatch):
    rows, before = dict(ROWS), parity.miscounted()
    rows["resnet51"] = rows.pop("resnet50")
    monkeypatch.setattr(parity, "ROWS", rows)
    assert {*parity.miscounted()} - {*before} == {
        "resnet50: neither compared nor refused",
        "resnet51: neither in timm nor in torchvision",
    }
    del rows["resnet51"]
    assert "126 names instead of 127" in parity.miscounted()
    monkeypatch.setattr(parity, "REFUSED", {})
    assert "legacy_seresnet18: neither compared nor refused" in parity.miscounted()
    assert "quantized_resnet18: neither compared nor refused" in parity.miscounted()


def test_rows_that_differ_from_a_list_of_published_numbers_are_found(tmp_path):
    entries = [
        {
            "name": name,
            "source": "timm",
            "params": ROWS[name].parameters,
            "macs": ROWS[name].macs,
            "input_size": [3, ROWS[name].size],
        }
        for name in sorted(parity.published())
    ]
    file = tmp_path / "published.json"
    file.write_text(json.dumps([*entries, {**entries[0], "name": "fcn_resnet50"}]))
    assert not parity.differing(file)
    for key, value in {"params": 1, "macs": 0, "input_size": [3, 1, 1]}.items():
        file.write_text(json.dumps([{**entries[0], key: value}, *entries[1:]]))
        (problem,) = parity.differing(file)
        assert problem.startswith(f"{entries[0]['name']}: (")
    file.write_text(json.dumps(entries[1:]))
    assert parity.differing(file) == [f"{entries[0]['name']}: not in published.json"]


# ----------------------------------------------------------------------------------------------------
# the comparison can fail


def good(**changes):
    row = ROWS["resnet18"]
    counts = {"ours": (row.parameters, row.macs), "timm": (row.parameters, row.macs)}
    values = {
        "name": "resnet18",
        "peers": "timm",
        "keys": "equal",
        "counts": counts,
        "logits": 0.0,
        "spread": 0.5,
    }
    return parity.Result(**{**values, "training": 0.0, "statistics": 0.0, **changes})


def test_a_good_result_is_found_good():
    assert not parity.judge(good())
    assert not parity.judge(good(training=None, statistics=None))


@pytest.mark.parametrize("nought", [1e-3, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("logits", "logits differ by "),
        ("training", "training logits differ by "),
        ("statistics", "running statistics differ by "),
    ],
)
def test_a_difference_is_found(field, words, nought):
    assert parity.judge(good(**{field: nought})) == f"{words}{nought:.1e}"


@pytest.mark.parametrize("whose", ["ours", "timm"])
def test_a_wrong_count_is_found(whose):
    row = ROWS["resnet18"]
    for wrong, words in {
        (row.parameters + 1, row.macs): f"parameters of {whose} 11689513 for 11689512",
        (row.parameters, row.macs - 1): f"multiply-adds of {whose} 1814073343 for 1814073344",
    }.items():
        assert parity.judge(good(counts={**good().counts, whose: wrong})) == words


@pytest.mark.parametrize("spread", [0.0, 1e-5, float("nan")])
def test_logits_that_are_alike_for_all_pictures_show_nothing(spread):
    assert (
        parity.judge(good(spread=spread)) == f"logits of two pictures differ by {spread:.1e} only"
    )


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (
            "resnet18 antialias=blur",
            ["logits", "training logits", "running statistics", "multiply-adds of ours"],
        ),
        ("resnet18 order=pre", None),
        ("resnet18 attention=eca", None),
    ],
)
def test_another_network_under_the_name_is_found(monkeypatch, words, found):
    """Same weights, other arithmetic; or other weights, that do not even load."""
    monkeypatch.setattr(parity, "create_model", lambda name: create_model(words))
    if found is None:
        with pytest.raises(RuntimeError, match="Missing key"):
            parity.compare("resnet18")
    else:
        problems = parity.judge(parity.compare("resnet18"))
        assert not [one for one in found if one not in problems]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            lambda norm: setattr(norm, "eps", 1e-3),
            {"logits", "training logits", "running statistics"},
        ),
        (lambda norm: setattr(norm, "momentum", 0.2), {"running statistics"}),
    ],
)
def test_a_norm_that_differs_in_nothing_but_a_number_is_found(monkeypatch, change, found):
    def changed(name):
        net = create_model(name)
        for module in net.layer4[1].modules():
            if isinstance(module, nn.BatchNorm2d):
                change(module)
        return net

    monkeypatch.setattr(parity, "create_model", changed)
    problems = parity.judge(parity.compare("resnet18"))
    assert {problem.partition(" differ")[0] for problem in problems.split("; ")} == found


@torch.no_grad()
def test_no_weight_stays_zero_where_a_fresh_network_starts_with_zeros():
    """A branch that is multiplied by zero, or a bias of zero, would be equal to anything."""
    for name in ("resnet18", "resnetv2_18", "vit_tiny_patch16_224"):
        net = timm.create_model(name)
        assert any(not parameter.any() for parameter in net.parameters())
        parity.randomise(net)
        assert all(bool(parameter.any()) for parameter in net.parameters())


def test_the_page_says_what_was_found():
    results = [
        good(),
        dataclasses.replace(good(), name="resnet50", training=None, statistics=None, keys="mapped"),
    ]
    page = parity.page([(results[0], ""), (results[1], "logits differ")], "python some.py")
    assert "`python some.py` with torch" in page
    assert "1 of 2 networks agree" in page
    assert (
        "| resnet18 | timm | equal | 11,689,512 | 1.814 | 0.0e+00 | 0.0e+00 | 0.0e+00 | yes |\n"
        in page
    )
    assert (
        "| resnet50 | timm | mapped | 11,689,512 | 1.814 | 0.0e+00 |  |  | logits differ |\n"
        in page
    )

"""The means of training, each off by default: optimizers, rates by depth, clipping."""

import copy
from dataclasses import fields, replace

import pytest
import timm.optim
import torch
from torch import nn

import resnets
from resnets.training import settings as written
from resnets.training.checkpoint import _check_slots
from resnets.training.lamb import Lamb
from resnets.training.optimizers import OPTIMIZERS
from resnets.training.plan import Phase, adapt_phases
from resnets.training.recipes import RECIPES, Circumstances, choose_recipe, decide
from resnets.training.settings import TrainSettings

PHOTOS = Circumstances(True, 224, (480, 640), 0.0, 1000)


def small_net():
    torch.manual_seed(0)
    return resnets.ResNet(resnets.BasicBlock, [1, 1], 2, widths=[4, 8])


# --- what moves the weights


def test_settings_name_the_optimizers_there_are():
    assert tuple(OPTIMIZERS) == written.OPTIMIZERS


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_a_loss_and_goes_on_from_its_state(name):
    net, images = small_net(), torch.randn(16, 3, 16, 16)
    labels = (images.mean((1, 2, 3)) > 0).long()

    def step(net, optimizer):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    make = OPTIMIZERS[name]
    optimizer = make(net, make.lr, 0.9, make.weight_decay, 0.9)
    losses = [step(net, optimizer) for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]
    other = copy.deepcopy(net)
    again = make(other, make.lr, 0.9, make.weight_decay, 0.9)
    state = copy.deepcopy(optimizer.state_dict()["state"])
    slots = {
        number: {key: one for key, one in slot.items() if isinstance(one, torch.Tensor)}
        for number, slot in state.items()
    }
    _check_slots(again, slots)
    again.load_state_dict({**again.state_dict(), "state": slots})
    step(net, optimizer)
    step(other, again)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
def test_lamb_steps_as_timm_does(weight_decay):
    ours, theirs = small_net(), small_net()
    options = {"lr": 0.01, "weight_decay": weight_decay}
    pair = (
        (ours, Lamb(ours.parameters(), **options)),
        (theirs, timm.optim.Lamb(theirs.parameters(), max_grad_norm=None, **options)),
    )
    images, labels = torch.randn(8, 3, 16, 16), torch.arange(8) % 2
    for _ in range(3):
        for net, optimizer in pair:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_layer_of_lamb_moves_in_proportion_to_its_weights():
    weight = nn.Parameter(torch.randn(4, 5))
    before, optimizer = weight.detach().clone(), Lamb([weight], lr=0.1, weight_decay=0.01)
    weight.grad = torch.randn(4, 5)
    optimizer.step()
    assert (weight - before).norm().item() == pytest.approx(0.1 * before.norm().item(), rel=1e-4)


# --- what settings make of a recipe


def test_phases_are_those_of_the_recipe_unless_settings_say_otherwise():
    for (task, _), recipe in RECIPES.items():
        assert adapt_phases(recipe.phases, TrainSettings("x", task=task)) == recipe.phases
    asked = TrainSettings("x", optimizer="lamb", clip=1.0, layer_decay=0.5)
    assert adapt_phases((Phase(depth=0.8, lr=0.1), Phase(clip=10.0)), asked) == (
        Phase(optimizer="lamb", clip=1.0, depth=0.4, lr=0.1),
        Phase(optimizer="lamb", clip=1.0, depth=0.5),
    )


def test_another_optimizer_gets_a_rate_and_a_weight_decay_of_its_own():
    plain = TrainSettings("x", task="classes")
    same = replace(plain, optimizer="adamw")
    assert choose_recipe(same, PHOTOS) == choose_recipe(plain, PHOTOS)
    scratch = replace(PHOTOS, pretrained=False, size=None)
    decided, _ = decide(same, scratch)
    usual, _ = decide(plain, PHOTOS)
    assert decided.lr == pytest.approx(usual.lr)
    assert decided.weight_decay == usual.weight_decay
    assert decide(replace(same, lr=0.3, weight_decay=0.1), scratch)[0].lr == 0.3


def test_means_are_off_by_default():
    off = {"optimizer": None, "clip": None, "layer_decay": 1.0}
    defaults = {one.name: one.default for one in fields(TrainSettings)}
    assert {name: defaults[name] for name in off} == off


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"optimizer": "lion"}, "optimizer is lion; allowed: sgd, adamw"),
        ({"clip": 0.0}, "clip is 0.0; allowed"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5; allowed: 0.01 to 1"),
    ],
)
def test_what_no_means_takes_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        TrainSettings("x", **wrong)

"""The means of training, each off by default: optimizers, rates by depth, clipping, mixing,
accumulation, frozen parts, dropout."""

import copy
import json
from dataclasses import dataclass, fields, replace

import pytest
import timm.optim
import torch
import torchvision
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from torch import nn

import resnets
from resnets.modelfile import read_model
from resnets.run.preparation import refuse_unfit
from resnets.run.spec import Spec
from resnets.run.work import make_state
from resnets.tasks.classes import Classification
from resnets.tasks.labels import MultiLabel
from resnets.training import settings as written
from resnets.training.checkpoint import _check_slots, pack, unpack
from resnets.training.lamb import Lamb
from resnets.training.loop import Hooks, train_steps
from resnets.training.means import Means, classifier_of, freeze
from resnets.training.mix import Mix
from resnets.training.optimizers import OPTIMIZERS, Schedule
from resnets.training.plan import Phase, Plan, PlannedPhase, adapt_phases
from resnets.training.recipes import RECIPES, Circumstances, choose_recipe, decide
from resnets.training.settings import TrainSettings

PHOTOS = Circumstances(True, 224, (480, 640), 0.0, 1000)


def small_net(classes=2):
    torch.manual_seed(0)
    return resnets.ResNet(resnets.BasicBlock, [1, 1], classes, widths=[4, 8])


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
    off = {
        **{"optimizer": None, "clip": None, "layer_decay": 1.0, "loss": None},
        **{"mixup": 0.0, "cutmix": 0.0, "augment": "none", "erase": 0.0, "dropout": 0.0},
        **{"stochastic_depth": 0.0, "accumulate": 1, "freeze": 0},
    }
    assert Means.of(TrainSettings("x")) == Means()
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


# --- mixing


@dataclass
class Some:
    images: torch.Tensor
    targets: dict


def some(count=8, size=16, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, size, size, generator=generator)
    return Some(images, {"labels": torch.arange(count) % classes})


def test_nothing_is_mixed_by_default():
    batch = some()
    mixed = Mix()(batch, (0, 0, 0))
    assert mixed.images is batch.images
    assert mixed.parts == ((1.0, batch.targets),)


@pytest.mark.parametrize("mix", [Mix(0.4), Mix(0.0, 1.0), Mix(0.4, 1.0)])
def test_draws_of_mixing_come_from_the_place_alone(mix):
    batch = some()
    first, again = mix(batch, (3, 7, 0)), mix(batch, (3, 7, 0))
    assert torch.equal(first.images, again.images)
    assert first.parts[0][0] == again.parts[0][0]
    for place in ((4, 7, 0), (3, 8, 0), (3, 7, 1)):
        assert not torch.equal(first.images, mix(batch, place).images)


@pytest.mark.parametrize("criterion", ["cross_entropy", "bce"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("step", range(3))
def test_the_loss_of_mixup_is_that_of_mixed_targets(criterion, smoothing, step):
    """As timm has it: one-hot targets are mixed, smoothed, and go into the loss."""
    batch, raw = some(), torch.randn(8, 3)
    mixed = Mix(0.4)(batch, (0, step, 0))
    (share, _), (rest, other) = mixed.parts
    assert share + rest == pytest.approx(1)
    order = [
        next(
            n
            for n in range(8)
            if torch.allclose(one - share * own, rest * batch.images[n], atol=1e-5)
        )
        for one, own in zip(mixed.images, batch.images, strict=True)
    ]
    assert sorted(order) == list(range(8))
    assert torch.equal(other["labels"], batch.targets["labels"][order])
    hot = nn.functional.one_hot(batch.targets["labels"], 3).float()
    soft = (share * hot + rest * hot[order]) * (1 - smoothing) + smoothing / 3
    expected = (
        SoftTargetCrossEntropy()(raw, soft)
        if criterion == "cross_entropy"
        else BinaryCrossEntropy(smoothing=0.0, sum_classes=True)(raw, soft)
    )
    told = mixed.judge(Classification(smoothing, criterion).loss, raw)
    torch.testing.assert_close(told["loss"], expected)
    hits = raw.argmax(1) == batch.targets["labels"]
    others = raw.argmax(1) == other["labels"]
    assert float(told["accuracy"]) == pytest.approx(float(share * hits.sum() + rest * others.sum()))


def test_labels_and_clips_mix_too():
    batch = some()
    labels = Some(batch.images, {"labels": torch.rand(8, 4).round()})
    raw, mixed = torch.randn(8, 4), Mix(0.4)(labels, (0, 0, 0))
    (share, own), (rest, other) = mixed.parts
    soft = {"labels": share * own["labels"] + rest * other["labels"]}
    torch.testing.assert_close(
        mixed.judge(MultiLabel(0.1).loss, raw)["loss"], MultiLabel(0.1).loss(raw, soft)["loss"]
    )
    clips = Some(torch.randn(4, 3, 5, 16, 16), {"labels": torch.arange(4)})
    changed = (Mix(0.0, 1.0)(clips, (0, 2, 0)).images != clips.images).any(1).any(0)
    assert all(torch.equal(changed[0], one) for one in changed)  # the same rectangle at all times


@pytest.mark.parametrize("step", range(12))
def test_cutmix_puts_in_a_rectangle_and_counts_its_area(step):
    batch = Some(torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 20, 30).clone(), some(6).targets)
    mixed = Mix(0.0, 1.0)(batch, (0, step, 0))
    (share, _), _ = mixed.parts
    order = mixed.images.flatten(1).max(1).values + mixed.images.flatten(1).min(1).values
    foreign = (mixed.images != batch.images).any(0).any(0)
    rows, columns = foreign.any(1).sum(), foreign.any(0).sum()
    assert foreign.sum() == rows * columns
    assert share == pytest.approx(1 - float(foreign.float().mean()))
    assert order.sum() == 30 or not foreign.any()  # a permutation: 2 * (0 + ... + 5)


def test_with_both_each_batch_takes_one_and_shares_are_of_the_beta_distribution():
    batch, cuts, shares = some(size=8), 0, []
    for step in range(400):
        mixed = Mix(0.2, 1.0)(batch, (0, step, 0))
        own = (mixed.images == batch.images).all(1)
        other = torch.stack([(mixed.images == one).all(1) for one in batch.images]).any(0)
        cut = bool((own | other).all())
        cuts += cut
        shares += [] if cut else [mixed.parts[0][0]]
    assert 150 < cuts < 260  # where mixup leaves all as it is, it looks like a cut
    assert sum(0.05 < share < 0.95 for share in shares) / len(shares) < 0.75


# --- losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bce_is_that_of_timm(smoothing):
    raw, labels = torch.randn(16, 5), torch.arange(16) % 5
    expected = BinaryCrossEntropy(smoothing=smoothing, sum_classes=True)(raw, labels)
    told = Classification(smoothing, "bce").loss(raw, {"labels": labels})
    torch.testing.assert_close(told["loss"], expected)


def test_a_loss_that_is_unknown_is_refused():
    with pytest.raises(ValueError, match="criterion is hinge; allowed: cross_entropy, bce"):
        Classification(criterion="hinge")
    with pytest.raises(ValueError, match="criterion is cross_entropy; allowed: bce"):
        MultiLabel(criterion="cross_entropy")


# --- steps


PLAN = Plan((PlannedPhase(Schedule(0.1, 6, 1), weight_decay=1e-3),), 3, 2, 100)
HOOKS = Hooks(lambda state: {}, lambda state: None)


class Numbered(Some):
    count = 8


def numbered(first):
    """Batches from one on."""
    while True:
        made = some(seed=first)
        yield Numbered(made.images, made.targets)
        first += 1


def trained(means, net=None, task=None, batches=None, plan=PLAN):
    """A state after all steps of a plan."""
    net, task = net or small_net(classes=3), task or Classification(0.1)
    plan = replace(plan, means=means)
    state = make_state(net, task, plan, 0.5)
    return train_steps(state, batches or numbered(0), task, plan, HOOKS)


def no_norms():
    """Without statistics of a batch."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )


def test_accumulated_batches_are_as_one_so_many_times_as_large():
    def halves():
        for whole in numbered(0):
            for part in (slice(0, 4), slice(4, 8)):
                half = Numbered(whole.images[part], {"labels": whole.targets["labels"][part]})
                half.count = 4
                yield half

    whole = trained(Means(), no_norms())
    split = trained(Means(accumulate=2), no_norms(), batches=halves())
    assert whole.step == split.step == 6
    for a, b in zip(whole.net.parameters(), split.net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert [row["train_loss"] for row in split.rows] == pytest.approx(
        [row["train_loss"] for row in whole.rows], rel=1e-5
    )


def test_frozen_parts_stay_and_nothing_runs_backward_through_them():
    net = small_net(classes=3)
    before = {name: one.clone() for name, one in net.state_dict().items()}
    asked = []
    net.layer1.register_forward_hook(lambda module, inputs, out: asked.append(out.requires_grad))
    net.layer2.register_forward_hook(lambda module, inputs, out: asked.append(out.requires_grad))
    state = trained(Means(freeze=2), net)
    assert asked == [False, True] * 6
    for name, one in state.net.state_dict().items():
        stays = name.startswith(("conv1", "bn1", "layer1"))
        assert torch.equal(one, before[name]) == stays, name
    unfrozen = trained(Means()).net.state_dict()
    assert not any(torch.equal(unfrozen[name], before[name]) for name in before)


@pytest.mark.parametrize(
    ("net", "parts"),
    [
        (lambda: resnets.create_model("resnet18", num_classes=3), 5),
        (lambda: resnets.create_model("densenet121", num_classes=3), 5),
        (lambda: resnets.create_model("vit_tiny_patch16_224 depth=3", num_classes=3), 4),
        (lambda: torchvision.models.resnet18(num_classes=3), 5),
        (lambda: timm.create_model("resnet18", num_classes=3), 5),
        (lambda: timm.create_model("convnext_atto", num_classes=3), 5),
    ],
)
def test_stages_are_known_by_name_and_the_classifier_is_no_part(net, parts):
    net = net()
    counts = []
    for count in range(parts + 1):
        freeze(net, count)
        moving = [name for name, one in net.named_parameters() if one.requires_grad]
        counts.append(len(moving))
    assert counts == sorted(set(counts), reverse=True)
    assert {
        "fc.weight",
        "classifier.weight",
        "head.weight",
        "head.fc.weight",
        "heads.head.weight",
    } & {*moving}
    with pytest.raises(ValueError, match=rf"freeze={parts + 1}: .* has {parts} parts"):
        freeze(net, parts + 1)


def test_what_has_no_stages_by_name_is_not_frozen():
    with pytest.raises(ValueError, match="0 parts that are known"):
        freeze(no_norms(), 1)


def test_dropout_leaves_out_features_in_training_alone():
    net, seen = small_net(classes=3), []
    state = trained(Means(dropout=0.5), net, plan=replace(PLAN, log_every=100))
    net.fc.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0].clone()))
    images = some().images
    with torch.no_grad():
        features = net.train()(images) is not None and seen[-1]
        assert 0.2 < float((features == 0).float().mean()) < 0.9
        before = net.eval()(images)
        assert torch.equal(before, net(images))
    plain = trained(Means(), plan=replace(PLAN, log_every=100))
    assert not torch.equal(state.net.fc.weight, plain.net.fc.weight)
    with pytest.raises(ValueError, match="no linear layer"):
        classifier_of(nn.Conv2d(1, 1, 1))


EVERYTHING = Means(Mix(0.2, 1.0), accumulate=2, freeze=1, dropout=0.3)


@pytest.mark.parametrize("optimizer", ["sgd", "lamb", "adafactor"])
def test_a_state_with_all_means_goes_on_in_the_same_bits(optimizer):
    phase = PlannedPhase(
        Schedule(0.01, 6, 1), phase=Phase(optimizer=optimizer, clip=1.0, depth=0.7)
    )
    plan, task = replace(PLAN, phases=(phase,), means=EVERYTHING), Classification(0.1, "bce")

    def net():
        torch.manual_seed(0)
        return resnets.create_model("resnet20 depths=1-1-1 drop_path=0.3", num_classes=3)

    whole = trained(EVERYTHING, net(), task, plan=plan)
    for stop in (0, 1, 4):
        part = make_state(net(), task, plan, 0.5)
        halted = replace(HOOKS, stopping=lambda part=part, stop=stop: part.step == stop)
        train_steps(part, numbered(0), task, plan, halted)
        tensors, rest = pack(part)
        again = make_state(net(), task, plan, 0.5)
        rest = json.loads(json.dumps(rest))
        unpack(again, {name: one.clone() for name, one in tensors.items()}, rest, "accuracy")
        train_steps(again, numbered(2 * stop), task, plan, HOOKS)
        ours, theirs = pack(again)[0], pack(whole)[0]
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert [one["train_loss"] for one in again.rows] == [
            one["train_loss"] for one in whole.rows
        ]


# --- whole runs

SMALL = {"size": 32, "weights": "none", "quiet": True, "batch_size": 4, "lr": 0.01, "epochs": 3}
NETWORK = "resnet20 depths=1-1-1"
ALL = {
    **{"optimizer": "lamb", "clip": 1.0, "layer_decay": 0.8, "accumulate": 2, "freeze": 1},
    **{"mixup": 0.2, "cutmix": 1.0, "augment": "rand", "erase": 0.5, "loss": "bce"},
    **{"dropout": 0.2, "stochastic_depth": 0.3},
}


def test_a_run_with_all_means_resumes_to_the_same_bits(colours, tmp_path):
    whole = resnets.train(colours, NETWORK, output=tmp_path / "whole", **ALL, **SMALL)
    stop = [lambda row: row["step"] >= 4]
    resnets.train(colours, NETWORK, output=tmp_path / "part", callbacks=stop, **ALL, **SMALL)
    tensors, metadata = read_model(tmp_path / "part" / "weights" / "last.safetensors")
    assert metadata["checkpoint"]["step"] == 4
    resnets.run.resume(tmp_path / "part", quiet=True)
    for name in ("last", "best"):
        ours, theirs = (
            read_model(tmp_path / run / "weights" / f"{name}.safetensors")[0]
            for run in ("whole", "part")
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not torch.equal(tensors["fc.weight"], theirs["fc.weight"])
    spec = Spec.read(tmp_path / "part" / "args.yaml")
    assert [(one.optimizer, one.clip, one.depth) for one in spec.phases] == [("lamb", 1.0, 0.8)]
    assert spec.task == {
        "name": "classes",
        "smoothing": 0.0,
        "criterion": "bce",
        "class_weights": [],
    }
    assert spec.network["name"] == f"{NETWORK} drop_path=0.3"
    assert spec.steps == 9  # 24 training images, 8 a step
    assert "9 steps of 8 (3.0 epochs)" in (whole.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("task", "wrong", "said"),
    [
        ("boxes", {"mixup": 0.2}, r"mixup=0.2: the task boxes does not take it, .*; allowed: 0"),
        ("mask", {"cutmix": 1.0}, r"cutmix=1.0: the task mask does not take it"),
        ("boxes", {"augment": "rand"}, r"augment=rand: .* would move .*; allowed: none, colour"),
        ("mask", {"dropout": 0.1}, r"dropout=0.1: .*"),
        ("boxes", {"loss": "bce"}, r"loss=bce: .* a loss of its own; leave it out"),
        ("labels", {"loss": "cross_entropy"}, r"loss=cross_entropy: .*; allowed: bce"),
    ],
)
def test_what_a_task_does_not_take_is_refused_with_the_cure(task, wrong, said):
    with pytest.raises(ValueError, match=said):
        refuse_unfit(TrainSettings("x", task=task, **wrong))


def test_what_a_network_does_not_take_is_refused_before_it_is_trained(colours, tmp_path):
    for wrong, said in (
        ({"freeze": 9}, "freeze=9: ResNet has 4 parts"),
        ({"accumulate": 7}, "accumulate=7: 7 batches of 4 are more than the 26 training images"),
    ):
        with pytest.raises(ValueError, match=said):
            resnets.train(colours, NETWORK, output=tmp_path / "a", **wrong, **SMALL)
    with pytest.raises(ValueError, match=r"stochastic_depth=0\.1: the network was made outside"):
        resnets.train(colours, no_norms(), output=tmp_path / "b", stochastic_depth=0.1, **SMALL)
    name = "densenet121 depths=1-1-1-1"
    with pytest.raises(ValueError, match="drop_path"):
        resnets.train(colours, name, output=tmp_path / "c", stochastic_depth=0.1, **SMALL)
    with pytest.raises(ValueError, match="augment=rand is for 8 bits; with bits=16 choose colour"):
        TrainSettings("x", augment="rand", bits=16, channels=1)

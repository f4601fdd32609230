"""The precision of training steps: the scaler of float16, tried on the CPU, where it changes
nothing but the range of the gradients; and the memory that steps reuse."""

from dataclasses import replace

import pytest
import torch

import resnets
from resnets.run.work import make_state
from resnets.tasks.classes import Classification
from resnets.training.checkpoint import pack, unpack
from resnets.training.device import make_scaler, refuse_precision
from resnets.training.loop import Hooks, train_steps
from resnets.training.optimizers import Schedule
from resnets.training.plan import Phase, Plan, PlannedPhase

STEPS, CPU = 8, torch.device("cpu")
HOOKS = Hooks(lambda state: {"val_accuracy": None}, lambda state: None)


class Batch:
    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randn(8, 3, 16, 16, generator=generator)
        self.targets = {"labels": torch.randint(0, 2, (8,), generator=generator)}
        self.count = 8


def make_plan(optimizer="sgd", clip=None, autocast=None):
    phase = Phase(optimizer=optimizer, clip=clip)
    return Plan(
        (PlannedPhase(Schedule(0.01, STEPS, 1), phase=phase, weight_decay=1e-3),),
        4,
        2,
        4,
        autocast=autocast,
    )


def start(plan, scaler=None):
    torch.manual_seed(0)
    net = resnets.ResNet(resnets.BasicBlock, [1, 1], 2, widths=[4, 8])
    state = make_state(net.to(memory_format=torch.channels_last), Classification(), plan, 0.1)
    state.scaler = scaler or state.scaler
    return state


def scaler(growth_interval=2):
    return torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=growth_interval)


def run(state, plan, first=0, stop=STEPS):
    hooks = replace(HOOKS, stopping=lambda: state.step >= stop)
    return train_steps(
        state, (Batch(n) for n in range(first, STEPS + 1)), Classification(), plan, hooks
    )


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_scaled_loss_gives_the_same_bits(optimizer, clip):
    """Powers of two are exact in float32, with and without a gradient that is cut short."""
    plan = make_plan(optimizer, clip)
    plain, scaled = run(start(plan), plan), run(start(plan, scaler()), plan)
    assert scaled.scaler.get_scale() > 2.0**10, "it never grew"
    assert equal(plain.net.state_dict(), scaled.net.state_dict())
    assert "scaler" not in pack(plain)[1]


def contiguous(tensors):
    """As files keep them: in no order of memory of their own."""
    return {name: one.clone(memory_format=torch.contiguous_format) for name, one in tensors.items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_scale_goes_on_where_it_was(optimizer):
    plan = make_plan(optimizer, autocast=torch.float16)
    whole = run(start(plan, scaler()), plan)
    for stop in (0, 3, 5):
        tensors, rest = pack(run(start(plan, scaler()), plan, stop=stop))
        again = start(plan)  # with a scale of its own
        unpack(again, contiguous(tensors), rest, "accuracy")
        assert again.scaler.state_dict() == rest["scaler"]
        run(again, plan, stop)
        assert equal(again.net.state_dict(), whole.net.state_dict())
        assert again.scaler.state_dict() == whole.scaler.state_dict()


def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_halved():
    plan = make_plan(autocast=torch.float16)
    state = start(plan, torch.amp.GradScaler("cpu", init_scale=2.0**24))
    before = {name: one.clone() for name, one in state.net.named_parameters()}
    run(state, plan, stop=1)
    assert state.scaler.get_scale() == 2.0**23
    assert all(torch.equal(before[name], one) for name, one in state.net.named_parameters())


@pytest.mark.parametrize(
    "change", [{"scale": "much"}, {"other": 1.0}, None], ids=["type", "name", "all"]
)
def test_a_scale_of_another_shape_is_no_checkpoint(change):
    plan = make_plan()
    tensors, rest = pack(run(start(plan, scaler()), plan, stop=1))
    rest["scaler"] = [] if change is None else {**rest["scaler"], **change}
    with pytest.raises(ValueError, match="not a checkpoint"):
        unpack(start(plan, scaler()), tensors, rest, "accuracy")


def test_only_float16_is_scaled_and_a_cpu_refuses_it(colours, tmp_path):
    assert not any(make_scaler(CPU, one).is_enabled() for one in (None, torch.bfloat16))
    assert make_scaler(CPU, torch.float16).is_enabled()
    refuse_precision("float16", torch.device("cuda"))
    with pytest.raises(ValueError, match=r"float16.*use bfloat16 or float32, or --device cuda"):
        resnets.train(colours, precision="float16", device="cpu", output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_slots_of_a_checkpoint_take_the_order_of_their_parameters(optimizer):
    """A fused optimizer goes through memory without asking for strides."""
    plan = make_plan(optimizer)
    whole, part, again = run(start(plan), plan), start(plan), start(plan)
    tensors, rest = pack(run(part, plan, stop=3))
    unpack(again, contiguous(tensors), rest, "accuracy")
    for parameter, slots in again.optimizer.state.items():
        assert all(one.stride() == parameter.stride() for one in slots.values() if one.ndim)
    assert equal(run(again, plan, 3).net.state_dict(), whole.net.state_dict())

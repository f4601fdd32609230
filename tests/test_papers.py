"""Recipes by name: rows of settings, where those of the user win, and the schedules they need."""

import importlib.util
import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="training install")

import torch

import resnets
from resnets.cli.config import merged, show_recipes
from resnets.models import Network
from resnets.settings import about, change
from resnets.training.optimizers import Schedule
from resnets.training.papers import PAPERS, filled
from resnets.training.plan import Phase, Plan, plan_phases
from resnets.training.settings import TrainSettings

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_is_values_of_settings_and_says_its_epochs(name):
    paper = PAPERS[name]
    wanted = change(TrainSettings("photos"), filled({"recipe": name}))
    assert wanted.recipe == name
    assert wanted.epochs is not None
    assert all(getattr(wanted, key) == value for key, value in paper.values.items())
    assert paper.purpose.endswith(".")
    assert paper.source
    if wanted.model:
        Network.parse(wanted.model)


@given(name=st.sampled_from(sorted(PAPERS)), lr=st.floats(0.001, 10), seed=st.integers(0, 9))
def test_what_the_user_says_wins(name, lr, seed):
    asked = filled({"recipe": name, "lr": lr, "seed": seed, "model": None})
    assert (asked["lr"], asked["seed"]) == (lr, seed)
    assert asked.get("model") == PAPERS[name].values.get("model")  # None says nothing


def test_minutes_take_the_place_of_the_epochs_of_a_paper_but_not_of_a_probe():
    assert "epochs" not in filled({"recipe": "wrn-paper", "minutes": 3})
    with pytest.raises(ValueError, match="recipe=probe means epochs=0"):
        TrainSettings("x", **filled({"recipe": "probe", "minutes": 3}))


def test_a_recipe_on_the_command_line_wins_over_a_file_and_one_in_a_file_does_not():
    file = {"lr": 0.7, "epochs": 3, "recipe": "cifar-fast", "seed": 4}
    assert filled(merged(file, {}))["lr"] == 0.7
    asked = merged(file, {"recipe": "wrn-paper", "epochs": 2})
    assert (asked["lr"], asked["epochs"], asked["seed"]) == (0.1, 2, 4)


def test_an_unknown_recipe_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean cifar-paper.*--recipe list"):
        filled({"recipe": "cifarpaper"})
    with pytest.raises(ValueError, match="no recipe 'nothing'; allowed: "):
        resnets.train("nowhere", recipe="nothing")


def test_the_list_names_every_recipe_and_its_source():
    text = io.StringIO()
    with redirect_stdout(text):
        show_recipes()
    assert all(name in text.getvalue() for name in PAPERS)
    assert "1512.03385" in text.getvalue()


def test_the_page_of_recipes_is_the_rows():
    spec = importlib.util.spec_from_file_location("recipes", ROOT / "tools" / "recipe_table.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.PAGE.read_text("utf-8") == tool.page(), "run: python tools/recipe_table.py"


# --- schedules


@pytest.mark.parametrize("shape", about(TrainSettings)["schedule"].choices)
@pytest.mark.parametrize("warmup", [0, 7])
def test_schedules_are_those_of_pytorch(shape, warmup):
    steps = 60
    schedule = Schedule(0.4, steps, warmup, shape, (0.5, 0.75), 0.2)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    library = {
        "cosine": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warmup),
        "linear": torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps - warmup),
        "steps": torch.optim.lr_scheduler.MultiStepLR(
            optimizer, [30 - warmup, 45 - warmup], gamma=0.2
        ),
        "constant": torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
    }[shape]
    optimizer.param_groups[0]["lr"] = 0.4
    for step in range(warmup, steps):
        assert schedule(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        library.step()
    assert [schedule(step) for step in range(warmup)] == [
        pytest.approx(0.4 * (step + 1) / (warmup + 1)) for step in range(warmup)
    ]


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(8, 400), cut=st.floats(0.1, 0.9), factor=st.floats(0.2, 2.0))
def test_a_plan_that_is_bent_passes_all_milestones(steps, cut, factor):
    asked = TrainSettings(
        "x", lr=0.1, weight_decay=0.0, warmup=0.0, schedule="steps", milestones="0.5-0.75"
    )
    plan = Plan(plan_phases((Phase(),), steps, asked), 10, 5, 10)
    at = max(1, int(steps * cut))
    plan = plan.bent(at, at + max(4, int((steps - at) * factor)))
    rates = [plan.rate(step) for step in range(plan.steps)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 0.1
    assert rates[-1] == pytest.approx(0.001)
    expected = [
        0.1 * 0.1 ** ((plan.place(s) >= round(steps / 2)) + (plan.place(s) >= round(0.75 * steps)))
        for s in range(plan.steps)
    ]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "0.5-0.4", "0-0.5", "1", "half", "0.5-0.5", "0.5,0.75"])
def test_milestones_that_cannot_be_are_refused(text):
    with pytest.raises(ValueError, match="fractions of the run expected"):
        TrainSettings("x", milestones=text)


# --- whole runs


def test_a_recipe_from_scratch_trains_with_its_schedule(colours, tmp_path):
    run = resnets.train(
        colours, "resnet20 depths=1-1-1", recipe="cifar-paper", epochs=8, size=16, batch_size=8,
        lr=0.01, output=tmp_path / "run", quiet=True,
    )  # fmt: skip
    rates = [
        float(line.split(",")[3])
        for line in (run.folder / "results.csv").read_text().splitlines()[1:]
    ]
    assert sorted(set(rates)) == pytest.approx([0.0001, 0.001, 0.01])


def test_a_probe_needs_pretrained_weights_and_says_so(colours, tmp_path):
    with pytest.raises(
        ValueError, match=r"recipe=probe stops after the linear probe.*--weights auto"
    ):
        resnets.train(
            colours, "resnet20", recipe="probe", weights="none", size=16, output=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()

"""A run keeps to its minutes: its plan is bent where steps take longer or shorter than planned."""

import itertools
import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets.run import pacing as module
from resnets.run.pacing import Pacing
from resnets.run.timing import Costs
from resnets.run.work import Job
from resnets.screen import Screen
from resnets.training.checkpoint import bends_of
from resnets.training.optimizers import Schedule
from resnets.training.plan import Phase, Plan, PlannedPhase, plan_phases
from resnets.training.settings import TrainSettings


def plan_of(steps, phases=(Phase(),)):
    given = TrainSettings("x", lr=0.1, weight_decay=0.0)
    return Plan(plan_phases(phases, steps, given), 10, 5, 10)


def test_a_plan_without_bends_is_what_it_was():
    plan, schedule = plan_of(97), Schedule(0.1, 97, round(0.1 * 97))
    assert [plan.rate(step) for step in range(97)] == [schedule(step) for step in range(97)]
    assert [plan.place(step) for step in range(98)] == list(range(98))
    assert plan.steps == plan.planned == 97


@settings(max_examples=60, deadline=None)
@given(
    st.integers(20, 400), st.lists(st.tuples(st.integers(1, 60), st.integers(1, 300)), max_size=4)
)
def test_bends_end_where_they_say_and_never_go_back(steps, changes):
    plan = plan_of(steps, (Phase(share=3), Phase(trains="head")))
    at = 0
    for further, rest in changes:
        at += further
        if at >= plan.steps:
            break
        before = plan.place(at)
        plan = plan.bent(at, at + rest)
        assert plan.place(at) == pytest.approx(before)
    places = [plan.place(step) for step in range(plan.steps + 1)]
    assert places[0] == 0
    assert places[-1] == pytest.approx(steps)
    assert all(after > before for before, after in itertools.pairwise(places))
    begins = [step for step in range(plan.steps) if plan.begins(step)]
    assert len(begins) <= 1
    assert plan.rate(plan.steps - 1) < plan.phases[-1].schedule.peak


def drive(pace, minutes=10.0, planned_step=1.0, end=30.0, validation=5.0, monkeypatch=None):
    """A run on a made-up clock. `pace` says how many times as long as planned things take at a
    time; gives the seconds of the whole run, and its plan at the end."""
    clock = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    costs = Costs((Phase(),), (planned_step,), validation, end)
    steps, interval = costs.steps_within(60 * minutes, 20)
    plan = Plan(plan_of(steps).phases, 20, 5, interval)
    keep = Pacing(60 * minutes, costs, Screen(quiet=True))
    state = SimpleNamespace(step=0, seconds=0.0)
    while state.step < plan.steps:
        took = planned_step * pace(clock[0])
        clock[0] += took
        state.step, state.seconds = state.step + 1, state.seconds + took
        if state.step % plan.validate_every == 0 or state.step == plan.steps:
            clock[0] += validation * pace(clock[0])
        if state.step < plan.steps:
            plan = keep(state, plan)
    return clock[0] + end * pace(clock[0]), plan


def test_an_even_machine_ends_in_time_and_hardly_early(monkeypatch):
    seconds, plan = drive(lambda _: 1.0, monkeypatch=monkeypatch)
    assert 0.85 * 600 <= seconds <= 600
    assert plan.steps >= plan.planned


@pytest.mark.parametrize("slow", [1.3, 2.0, 3.0])
def test_a_machine_that_gets_busy_in_the_middle_ends_at_most_a_tenth_late(slow, monkeypatch):
    seconds, plan = drive(lambda now: slow if now > 300 else 1.0, monkeypatch=monkeypatch)
    assert seconds <= 1.1 * 600
    assert plan.steps < plan.planned
    assert plan.bends


def test_where_the_end_is_a_large_part_a_busy_machine_is_noticed_at_once(monkeypatch):
    """It takes as much longer as the steps do. Averaged over six looks, this one was 15 % late."""
    busy = {"minutes": 3.0, "planned_step": 0.35, "end": 40.0, "validation": 7.0}
    seconds, plan = drive(lambda now: 2.0 if now > 90 else 1.0, **busy, monkeypatch=monkeypatch)
    assert seconds <= 1.1 * 180
    assert plan.steps < plan.planned


def test_a_machine_that_was_busy_when_it_was_timed_trains_for_longer(monkeypatch):
    seconds, plan = drive(lambda _: 0.6, monkeypatch=monkeypatch)
    assert seconds <= 600
    assert plan.steps > 1.3 * plan.planned


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.5, 2.5), min_size=12, max_size=12))
def test_however_uneven_a_machine_is_the_run_ends(paces):
    with pytest.MonkeyPatch.context() as patch:
        seconds, _ = drive(lambda now: paces[min(11, int(now // 60))], monkeypatch=patch)
    assert seconds < 2 * 600


@pytest.mark.parametrize(("minutes", "kept"), [(0.1, 0.6), (1.0, 2.0), (10.0, 18.0)])
def test_a_run_is_to_be_over_a_little_before_its_limit(minutes, kept):
    spec = SimpleNamespace(settings=TrainSettings("x", minutes=minutes))
    job = Job(spec, None, None, None, None, (), started=1000.0)
    assert job.deadline == pytest.approx(1000 + 60 * minutes - kept)
    spec.settings = TrainSettings("x", epochs=1.0)
    assert job.deadline is None


def test_validations_take_a_small_part_of_the_time():
    costs = Costs((Phase(),), (0.1,), 20.0, 30.0)
    steps, interval = costs.steps_within(300, 16)
    count = -(-steps // interval)
    assert interval % 16 == 0
    assert count * 20 <= 0.15 * steps * 0.1 + 20
    assert steps * 0.1 + count * 20 + 30 <= 300


@pytest.mark.parametrize(
    "bends", [[[5, 3]], [[5, "9"]], [[9, 20], [5, 10]], [5], "x", [[5, 9, 1]], [[-1, 4]]]
)
def test_bends_that_make_no_plan_are_no_checkpoint(bends):
    from resnets.training.checkpoint import _checked

    good = {"step": 0, "seconds": 0.0, "sums": {}, "rows": [], "best": {}}
    assert bends_of(_checked(good, "accuracy")) == ()
    with pytest.raises(ValueError, match="not a checkpoint"):
        _checked({**good, "bends": bends}, "accuracy")


def test_the_clock_is_looked_at_from_time_to_time(monkeypatch):
    looks = []
    monkeypatch.setattr(
        module, "time", SimpleNamespace(monotonic=lambda: looks.append(1) or time.monotonic())
    )
    keep = Pacing(time.monotonic() + 1e6, Costs((Phase(),), (1.0,), 1.0, 1.0), Screen(quiet=True))
    plan = plan_of(1000)
    for step in range(1, 400):
        plan = keep(SimpleNamespace(step=step, seconds=float(step)), plan)
    assert 2 <= len(looks) <= 30


def test_planned_phases_know_their_seconds():
    phases = (Phase(share=1, size=64), Phase(share=1))
    costs = Costs(phases, (1.0, 3.0), 1.0, 1.0)
    keep = Pacing(1e9, costs, Screen(quiet=True))
    plan = plan_of(100, phases)
    assert isinstance(plan.phases[0], PlannedPhase)
    assert keep._step(plan, 0, 50) == 1
    assert keep._step(plan, 50, 100) == 3
    assert keep._step(plan, 25, 75) == 2

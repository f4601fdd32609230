"""Settings that were left open: the table of recipes gives what these rules say in words."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets.kinds import KINDS
from resnets.settings import about
from resnets.training.optimizers import OPTIMIZERS
from resnets.training.plan import Phase, plan_phases, split_steps
from resnets.training.recipes import RECIPES, WHY, Circumstances, decide
from resnets.training.settings import TrainSettings


def decided_in_words(given_, seen):
    """The rules of classes, as code."""
    short = min(seen.median)
    tiny = not seen.pretrained and short <= 64
    batch = min(64 if tiny else 32, max(8, 2 ** max(0, seen.count // 8).bit_length() // 2))
    how = "fine-tuning" if seen.pretrained else "from scratch"
    fit = "pad" if seen.elongated > 0.5 else "crop"
    choices = {
        "size": (
            (seen.size, "what the weights were trained for")
            if seen.size
            else (
                (max(16, short // 4 * 4), "that of the images")
                if tiny
                else (128, "from scratch on a CPU: takes a third of the time of 224")
            )
        ),
        "fit": (fit, f"{seen.elongated:.0%} of the images are longer than 1.6 : 1"),
        "epochs": (5.0 if seen.pretrained else 30.0, how),
        "batch_size": (batch, f"{seen.count:,} training images, {how}"),
        "weight_decay": (0.05 if seen.pretrained else 5e-4, how),
        "smoothing": (0.1 if not tiny else 0.0, how),
        "norms": (
            ("frozen", "small batches give poor statistics")
            if seen.pretrained and (given_.batch_size or batch) < 16
            else ("train", how)
        ),
        "crop": (
            ("shift", "small images")
            if tiny
            else (
                ("resized", "photos")
                if (given_.fit or fit) == "crop"
                else ("shift", "keeps whole images")
            )
        ),
        "smallest": (0.35 if seen.pretrained else 0.25, how),
    }
    reasons = {key: reason for key, (_, reason) in choices.items() if getattr(given_, key) is None}
    if given_.minutes:
        reasons.pop("epochs", None)
        choices.pop("epochs")
    filled = replace(
        given_,
        **{key: value for key, (value, _) in choices.items() if getattr(given_, key) is None},
    )
    if filled.lr is None:
        base = 0.001 * filled.batch_size / 32 if seen.pretrained else 0.1 * filled.batch_size / 64
        filled = replace(filled, lr=round(base, 6))
        reasons["lr"] = f"{how}, in proportion to the batch size"
    return filled, reasons


def values_of(name):
    """Every value that a setting may be given, or none."""
    one = about(TrainSettings)[name]
    if one.choices:
        return st.none() | st.sampled_from(one.choices)
    low, high = one.between
    whole = name in ("size", "batch_size")
    numbers = st.integers(int(low), int(high)) if whole else st.floats(low, high)
    return st.none() | numbers


OPEN = ("size", "fit", "batch_size", "lr", "weight_decay", "smoothing", "norms", "crop", "smallest")
TIME = st.sampled_from([{}, {"epochs": 2.5}, {"minutes": 3.0}])
SIDE = st.integers(1, 200) | st.integers(1, 20_000)
SEEN = st.builds(
    Circumstances,
    pretrained=st.booleans(),
    size=st.none() | st.integers(16, 512),
    median=st.tuples(SIDE, SIDE),
    elongated=st.floats(0, 1),
    count=st.integers(1, 600) | st.integers(1, 10**7),
)


def outcome(rule, asked, seen):
    """What was decided; or why nothing was: a rate may be too high for very large batches."""
    try:
        return rule(asked, seen)
    except ValueError as error:
        return str(error), {}


@settings(max_examples=500, deadline=None)
@given(values=st.fixed_dictionaries({name: values_of(name) for name in OPEN}), time=TIME, seen=SEEN)
def test_the_table_gives_what_the_rules_before_it_gave(values, time, seen):
    asked = TrainSettings(
        "photos", task="classes", precision="float32", flip="horizontal", **values, **time
    )
    decided, reasons = outcome(decide, asked, seen)
    expected, why = outcome(decided_in_words, asked, seen)
    assert decided == expected
    assert list(reasons.items()) == list(why.items())  # the order in which they are shown


@pytest.mark.parametrize(
    ("task", "device", "bfloat16", "expected"),
    [
        ("boxes", "cpu", True, "bfloat16"),
        ("boxes", "cpu", False, "float32"),
        ("classes", "cpu", True, "bfloat16"),
        ("classes", "cpu", False, "float32"),
        ("classes", "cuda", True, "bfloat16"),
        ("mask", "mps", False, "float32"),
    ],
)
def test_precision_is_that_of_the_recipe_where_the_device_has_it(task, device, bfloat16, expected):
    seen = Circumstances(True, 224, (480, 640), 0.0, 200, device=device, bfloat16=bfloat16)
    decided, _ = decide(TrainSettings("photos", task=task), seen)
    assert decided.precision == expected
    asked = TrainSettings("photos", task=task, precision="float32")
    assert decide(asked, seen)[0].precision == "float32"


@pytest.mark.parametrize(
    ("extent", "size"),
    [(None, 320), (0.2, 320), (0.05, 320), (0.04, 416), (0.03, 544), (0.01, 640)],
)
def test_small_things_get_a_larger_input(extent, size):
    seen = Circumstances(True, 224, (1080, 1920), 0.0, 200, extent=extent)
    decided, reasons = decide(TrainSettings("photos", task="boxes"), seen)
    assert decided.size == size
    assert ("boxes are below" in reasons["size"]) == (size > 320)
    assert decide(TrainSettings("photos", task="boxes", size=256), seen)[0].size == 256


def test_every_kind_has_a_recipe_for_every_start():
    starts = ("pretrained", "scratch", "tiny")
    assert RECIPES.keys() == {(kind, start) for kind in KINDS for start in starts}
    assert all(recipe.fit in KINDS[kind].fits for (kind, _), recipe in RECIPES.items())
    assert all(f"{kind} (" in about(TrainSettings)["task"].help for kind in KINDS)
    named = {key if isinstance(key, str) else key[0] for key in WHY}
    assert named <= about(TrainSettings).keys()


@given(shares=st.lists(st.floats(0.01, 100), min_size=1, max_size=5), steps=st.integers(1, 10_000))
def test_phases_share_all_steps_and_none_of_them_is_empty(shares, steps):
    phases = [Phase(share=share) for share in shares]
    counts = split_steps(phases, steps)
    assert sum(counts) == steps
    assert all(
        abs(n - steps * p.share / sum(shares)) <= 1 for n, p in zip(counts, phases, strict=True)
    )
    planned = plan_phases(phases, steps, TrainSettings("x", lr=0.1, weight_decay=0.0))
    assert [one.start for one in planned[1:]] == [one.end for one in planned[:-1]]
    assert (planned[0].start, planned[-1].end) == (0, steps)
    assert all(one.schedule.steps for one in planned)


@pytest.mark.parametrize(
    "wrong", [{"trains": "neck"}, {"optimizer": "lion"}, {"share": 0.0}, {"lr": -1.0}, {"size": 0}]
)
def test_a_phase_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="allowed"):
        Phase(**wrong)
    assert "sgd" in OPTIMIZERS

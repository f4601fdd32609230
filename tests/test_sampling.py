"""The part of a long list that a default run takes: everything has its turn, and a run can be
repeated."""

from collections import Counter
from types import SimpleNamespace

import pytest
from conftest import pytest_terminal_summary
from sampling import WEEK, part, sampled

from resnets.models.rows import ROWS


@pytest.mark.parametrize("one_in", [1, 2, 3, 7, 50])
def test_every_name_has_its_turn_and_the_parts_are_alike(one_in):
    turns = [part(ROWS, one_in, week) for week in range(1000, 1000 + one_in)]
    assert Counter(name for turn in turns for name in turn) == dict.fromkeys(ROWS, 1)
    assert max(map(len, turns)) - min(map(len, turns)) <= 1
    assert part(ROWS, one_in, 1000) == part(reversed(ROWS), one_in, 1000) == turns[0]


def test_the_others_are_slow_and_none_is_left_out():
    given = sampled(ROWS, 4, always=["resnet18"], week=1000)
    run = [one for one in given if isinstance(one, str)]
    others = [one for one in given if not isinstance(one, str)]
    assert [one if isinstance(one, str) else one.values[0] for one in given] == list(ROWS)
    assert {*run} == {"resnet18"} | part(ROWS, 4, 1000)
    assert {mark.name for one in others for mark in one.marks} == {"slow"}


def test_a_run_says_how_to_repeat_its_part():
    lines = []
    pytest_terminal_summary(SimpleNamespace(write_line=lines.append))
    assert lines[-1].endswith(f"RESNETS_TEST_WEEK={WEEK}")

"""When a run pauses for an overloaded host, and how many tiles it lets be in flight after."""

from __future__ import annotations

import logging
import math

import pytest

from scanner.run.pace import FIRST_S, MOST_S, QUIET_S, Pace
from scanner.run.reads import tells_overload


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    """Pauses that the workers were told of."""
    return []


@pytest.fixture
def pace(clock, told):
    return Pace(told.append, clock, draw=lambda: 0.5)


def test_calm_hosts_bound_nothing(pace, told):
    assert pace.window(8, 16) == 16
    assert pace.held() == 0
    for _ in range(100):
        pace.eased()
    assert pace.window(200, 400) == 400
    assert not told


def test_one_overloaded_answer_pauses_all_and_costs_no_tile(pace, clock, told):
    pace.window(8, 16)
    pace.overloaded()
    assert told == [FIRST_S]
    assert pace.held() == FIRST_S
    clock.now += FIRST_S / 2
    pace.overloaded()  # asked before the pause: the same
    assert told == [FIRST_S]
    clock.now += FIRST_S
    assert pace.held() == 0
    assert pace.window(8, 16) == 16
    assert pace.waited == FIRST_S


def test_where_it_goes_on_pauses_double_and_tiles_are_halved(pace, clock, told, caplog):
    windows = []
    with caplog.at_level(logging.WARNING):
        for _ in range(9):
            pace.overloaded()
            windows.append(pace.window(16, 32))
            clock.now += pace.held() + 1
    assert told == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert max(told) == MOST_S
    assert windows == [32, 8, 4, 2, 1, 1, 1, 1, 1], "never none: a run goes on"
    (line,) = [record.message for record in caplog.records]
    assert "overloaded" in line


def test_tiles_that_end_well_bring_it_back(pace, clock):
    pace.window(16, 32)
    for _ in range(3):
        pace.overloaded()
        clock.now += pace.held()
    assert pace.window(16, 32) == 4
    clock.now -= 1
    pace.eased()  # in the pause: read before it
    assert pace.window(16, 32) == 4
    clock.now += 1
    counts = []
    while pace.window(16, 32) < 32:
        pace.eased()
        counts.append(pace.window(16, 32))
        assert len(counts) < 1000
    assert counts == sorted(counts), "additive: never a leap but the last"
    assert max(counts[:-1]) == 15
    assert len(counts) > 16


def test_peace_makes_the_next_overload_a_new_one(pace, clock, told):
    for _ in range(4):
        pace.overloaded()
        clock.now += pace.held() + QUIET_S + 1
    assert told[0] == FIRST_S
    assert max(told) == FIRST_S
    assert pace.window(16, 32) == 32
    for _ in range(6):
        pace.overloaded()
        clock.now += pace.held() + 1
    clock.now += QUIET_S  # the last pause was longer: that much peace is asked for
    pace.overloaded()
    assert told[-1] == MOST_S


def test_pauses_differ_from_run_to_run(clock):
    told = []
    for drawn in (0.0, 1.0):
        Pace(told.append, clock, draw=lambda drawn=drawn: drawn).overloaded()
    assert told == [FIRST_S * 0.75, FIRST_S * 1.25]


def test_a_bound_is_a_whole_number_of_tiles(pace, clock):
    pace.window(5, 10)
    for _ in range(2):
        pace.overloaded()
        clock.now += pace.held()
    assert pace.window(5, 10) == math.floor(2.5)


@pytest.mark.parametrize(
    ("text", "overload"),
    [
        ("CPLE_AppDefined in HTTP error code: 503 - http://h/a.tif. Retrying again in 0.5", True),
        ("CPLE_AppDefined:HTTP error code: 429 - http://h/a.tif. Retrying again in 1.2 secs", True),
        ("HTTP response code: 503", True),
        ("CPLE_OpenFailed in HTTP error code : 429", True),
        ("HTTP response code: 403", False),
        ("HTTP error code: 500 - http://h/503.tif. Retrying again in 0.5 secs", False),
        ("HTTP error code: 504 - http://h/a.tif. Retrying again in 0.5 secs", False),
        ("CURL error: Operation timed out after 503 milliseconds", False),
        ("/data/503/B02.tif: No such file or directory", False),
    ],
)
def test_what_an_overload_is(text, overload):
    assert tells_overload(text) is overload

"""What is known of a clock that somebody sets."""

from __future__ import annotations

import math

import pytest

from steadyocr.jobs.clock import Leap, LeapWatch, Sight
from steadyocr.testing import FakeClock

NOW = 1_700_000_000.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def machine() -> FakeClock:
    return FakeClock(1000.0)


@pytest.fixture
def watch(clock: FakeClock, machine: FakeClock) -> LeapWatch:
    watch = LeapWatch(machine)
    watch.look(clock)
    return watch


def test_a_clock_that_never_jumps_is_not_watched(clock: FakeClock) -> None:
    watch = LeapWatch(None)
    watch.look(clock)
    clock.advance(1e6)
    assert watch.look(clock) == Sight(NOW + 1e6, math.inf, ())


def test_a_slow_drift_is_no_leap(watch: LeapWatch, clock: FakeClock, machine: FakeClock) -> None:
    for _ in range(100):
        clock.advance(11)
        machine.advance(10)
        assert watch.look(clock).leaps == ()


def test_an_answer_that_comes_late_is_no_leap(watch: LeapWatch, clock: FakeClock, machine: FakeClock) -> None:
    def late() -> float:
        shown = clock()
        clock.advance(60)
        machine.advance(60)
        return shown

    assert watch.look(late) == Sight(NOW, math.inf, ())
    assert watch.look(clock) == Sight(NOW + 60, math.inf, ())


def test_a_leap_ahead_lasts_until_it_is_undone(watch: LeapWatch, clock: FakeClock, machine: FakeClock) -> None:
    clock.advance(3600)
    assert watch.look(clock) == Sight(NOW + 3600, 0.0, (Leap(NOW, 3600.0),))
    clock.advance(10)
    machine.advance(10)
    assert watch.look(clock) == Sight(NOW + 3610, 10.0, (Leap(NOW, 3600.0),))
    clock.advance(-1000)
    assert watch.look(clock).leaps == (Leap(NOW, 2600.0),)
    clock.advance(-7200)
    assert watch.look(clock).leaps == ()


def test_one_leap_back_undoes_several(watch: LeapWatch, clock: FakeClock) -> None:
    for _ in range(3):
        clock.advance(100)
        watch.look(clock)
    clock.advance(-250)
    assert watch.look(clock).leaps == (Leap(NOW, 50.0),)


def test_of_many_leaps_the_last_are_known(watch: LeapWatch, clock: FakeClock) -> None:
    for _ in range(20):
        clock.advance(100)
        watch.look(clock)
    assert len(watch.look(clock).leaps) == 8

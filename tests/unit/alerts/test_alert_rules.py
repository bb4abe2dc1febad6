"""When an incident is raised and when it is over, on a clock set by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest

from alerts_support import event
from steadyocr.ops.alerts.memory_slope import MAX_POINTS, MEMORY_SAMPLE, MemorySlopeRule
from steadyocr.ops.alerts.notices import Severity
from steadyocr.ops.alerts.rules import CountRule, Head, SignRule, StateRule
from steadyocr.ops.alerts.slope import robust_slope

HEAD = Head(name="r", severity=Severity.WARNING, title="t", hint="h", listens=frozenset({"e"}))
MIB = 1 << 20


@pytest.mark.parametrize(
    ("times", "raised"),
    [
        ([0, 150, 299.9], True),
        ([0, 0, 0], True),
        ([0, 299], False),
        ([0, 150, 300], False),
        ([0, 300, 599], False),
        ([0, 200, 400, 499], True),
    ],
)
def test_the_window_slides(times: list[float], raised: bool) -> None:
    rule = CountRule(HEAD, 3, 300.0)
    for at in times:
        rule.observe(event("e"), at)
    assert rule.active(times[-1]) is raised


@pytest.mark.parametrize(
    ("times", "raised"), [([0.0, 150.0, 299.9], True), ([0.05, 150.0, 300.02], True), ([0.0, 150.0, 300.0], False)]
)
def test_whether_there_were_enough_does_not_depend_on_when_somebody_looks(times: list[float], raised: bool) -> None:
    rule = CountRule(HEAD, 3, 300.0)
    for at in times:
        rule.observe(event("e"), at)
    # The next look comes up to a second later, or much later where a cool-down is in between.
    assert rule.active(301.0) is rule.active(900.0) is raised
    assert rule.explain(900.0).startswith("3 within" if raised else "2 within")


def test_what_was_told_is_not_raised_again_by_the_same_events() -> None:
    rule = CountRule(HEAD, 3, 300.0)
    for at in (0.0, 1.0, 2.0):
        rule.observe(event("e"), at)
    rule.told()
    assert not rule.active(3.0)


def test_a_window_is_taken_over_from_the_run_before() -> None:
    before, after = CountRule(HEAD, 3, 300.0), CountRule(HEAD, 3, 300.0)
    for at in (0.0, 200.0, 301.0):
        before.observe(event("e"), at)
    assert before.times(350.0) == [200.0, 301.0]
    after.recall([at + 1000 for at in before.times(350.0)], due=before.due)
    assert not after.active(1350.0)
    after.observe(event("e"), 1499.0)
    assert after.active(1499.0)


def test_a_count_is_over_only_after_a_whole_quiet_window() -> None:
    rule = CountRule(HEAD, 3, 300.0)
    for at in (0.0, 1.0, 250.0):
        rule.observe(event("e"), at)
    assert not rule.cleared(320.0), "one event is still within"
    assert not rule.cleared(549.9)
    assert rule.cleared(550.0)


def test_a_window_is_bounded() -> None:
    rule = CountRule(HEAD, 3, 300.0)
    for _ in range(100_000):
        rule.observe(event("e"), 1.0)
    assert len(rule._times) == 1000
    assert rule.explain(1.0).startswith("1000 within 5 min")


def test_only_the_sign_counts() -> None:
    rule = CountRule(HEAD, 1, 300.0, lambda told: told.fields["where"] == "engine")
    rule.observe(event("e", where="admission"), 0.0)
    assert not rule.active(0.0)
    rule.observe(event("e", where="engine"), 0.0)
    assert rule.active(0.0)


def signs(rule: SignRule, times: list[float]) -> None:
    for at in times:
        rule.observe(event("e"), at)


def test_signs_must_go_on_for_the_whole_time() -> None:
    rule = SignRule(HEAD, 60.0, gap_s=10.0)
    signs(rule, [float(at) for at in range(0, 60, 5)])
    assert not rule.active(55.0)
    assert not rule.active(62.0), "time alone is no sign"
    signs(rule, [60.0])
    assert rule.active(60.0)
    assert not rule.active(71.0), "no sign for longer than the gap"


def test_a_gap_between_signs_begins_the_count_anew() -> None:
    rule = SignRule(HEAD, 60.0, gap_s=10.0)
    signs(rule, [0.0, 10.0, 20.0, 30.1 + 0.1, 40.0, 50.0, 60.0])
    assert not rule.active(60.0)


def test_signs_are_over_when_they_stay_away() -> None:
    rule = SignRule(HEAD, 0.0, calm_s=60.0)
    signs(rule, [0.0])
    assert (rule.cleared(59.9), rule.cleared(60.0)) == (False, True)


def good_or_bad(told: Any) -> bool | None:
    verdict: bool | None = told.fields["bad"]
    return verdict


def test_a_state_must_last_and_its_end_must_last_too() -> None:
    rule = StateRule(HEAD, good_or_bad, hold_s=60.0, calm_s=30.0)
    rule.observe(event("e", bad=True), 0.0)
    rule.observe(event("e", bad=True), 50.0)
    assert (rule.active(59.9), rule.active(60.0)) == (False, True)
    rule.observe(event("e", bad=None), 70.0)
    assert rule.active(70.0)
    rule.observe(event("e", bad=False), 80.0)
    assert not rule.active(80.0)
    rule.observe(event("e", bad=False), 100.0)
    assert (rule.cleared(109.9), rule.cleared(110.0)) == (False, True)
    rule.observe(event("e", bad=True), 111.0)
    assert not rule.cleared(200.0)


def slope_rule() -> MemorySlopeRule:
    return MemorySlopeRule(HEAD, 32.0 * MIB, 6 * 3600.0)


def sample(rule: MemorySlopeRule, at: float, rss: float, pid: int = 1) -> None:
    rule.observe(event(MEMORY_SAMPLE, who="engine 0", pid=pid, rss_bytes=round(rss)), at)


def test_memory_that_climbs_is_seen_through_noise_and_outliers() -> None:
    chance, rule = random.Random(1), slope_rule()
    for at in range(0, 4 * 3600, 20):
        noise = chance.gauss(0, 10 * MIB) + (500 * MIB if chance.random() < 0.2 else 0)
        sample(rule, at, 300 * MIB + 64 * MIB * at / 3600 + noise)
    assert rule.active(0.0)
    assert "engine 0 grows by 6" in rule.explain(0.0)


def test_memory_that_only_swings_is_no_leak() -> None:
    chance, rule = random.Random(1), slope_rule()
    for at in range(0, 7 * 3600, 20):
        sample(rule, at, 300 * MIB + chance.choice([0, 0, 0, 800 * MIB]))
        assert not rule.active(0.0)


def test_one_step_up_after_the_start_is_no_leak() -> None:
    rule = slope_rule()
    for at in range(0, 7 * 3600, 20):
        sample(rule, at, (300 if at < 600 else 700) * MIB)
        assert not rule.active(0.0)


def test_a_short_climb_says_nothing_and_a_new_process_begins_anew() -> None:
    rule = slope_rule()
    for at in range(0, 2 * 3600, 20):
        sample(rule, at, 300 * MIB + 100 * MIB * at / 3600)
    assert not rule.active(0.0), "less than half the window was seen"
    for at in range(2 * 3600, 4 * 3600, 20):
        sample(rule, at, 300 * MIB + 100 * MIB * at / 3600)
    assert rule.active(0.0)
    sample(rule, 4 * 3600, 300 * MIB, pid=2)
    assert not rule.active(0.0)
    assert rule.cleared(0.0)


def test_samples_and_processes_are_bounded() -> None:
    rule = slope_rule()
    for at in range(0, 24 * 3600, 20):
        sample(rule, at, 300 * MIB)
    for number in range(100):
        rule.observe(event(MEMORY_SAMPLE, who=f"engine {number}", pid=1, rss_bytes=1), 0.0)
    assert len(rule._series) == 64
    assert max(len(series.points) for series in rule._series.values()) <= MAX_POINTS


def test_the_slope_is_the_median_of_all() -> None:
    assert robust_slope([(0, 0), (1, 2), (2, 4), (3, 1000), (4, 8)]) == 2
    assert robust_slope([(0, 1)]) == robust_slope([]) == robust_slope([(1, 1), (1, 9)]) == 0

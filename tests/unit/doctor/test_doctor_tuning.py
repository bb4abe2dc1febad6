"""The choice of settings, with a machine that is made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from steadyocr.errors import DeadlineExceeded
from steadyocr.ops.doctor.measuring import default_side, sides
from steadyocr.ops.doctor.outcome import wanted_settings
from steadyocr.ops.doctor.tuning import Candidate, Measurement, Tuner, Verdict, Wishes, candidates
from steadyocr.ops.sizing import threads_agree
from steadyocr.settings import load_settings
from support import without_waiting

DEFAULT = Candidate(1, 2)
TRIED = [DEFAULT, Candidate(2, 1), Candidate(1, 1), Candidate(2, 2)]
SIDES = [1280, 960, 736]
MIB = 1 << 20

Speed = Callable[[Candidate, int], float]


class Machine:
    """Takes as long as it is told, and does so many pictures a second."""

    def __init__(self, per_s: Speed, slow_start_s: float = 0.0) -> None:
        self.now = 0.0
        self.measured: list[tuple[Candidate, int]] = []
        self._per_s = per_s
        self._slow_start_s = slow_start_s

    async def __call__(self, candidate: Candidate, max_side: int, seconds: float) -> Measurement:
        self.measured.append((candidate, max_side))
        self.now += seconds + self._slow_start_s
        rate = self._per_s(candidate, max_side)
        each = candidate.engines / rate
        return Measurement(
            candidate=candidate,
            max_side=max_side,
            pictures=round(rate * seconds),
            seconds=seconds,
            p50_s=each,
            p95_s=each * 1.2,
            memory_bytes=(100 + 300 * candidate.engines) * MIB,
        )


async def tuned(machine: Machine, budget_s: float = 120.0, **wishes: float) -> Verdict:
    bounds = Wishes(p95_s=wishes.get("p95_s"), memory_bytes=int(wishes.get("memory", 0)) or None)
    return await Tuner(machine, bounds, budget_s, clock=lambda: machine.now).run(TRIED, SIDES)


def table(**rates: float) -> Speed:
    """Pictures a second by candidate (``e2t1``) at the default side; smaller sides are faster in proportion."""
    return lambda one, side: rates.get(f"e{one.engines}t{one.threads}", 1.0) * 1280 / side


@without_waiting
async def test_the_fastest_wins_when_it_is_really_faster() -> None:
    verdict = await tuned(Machine(table(e1t2=2.0, e2t1=3.0)))
    assert (verdict.chosen.candidate, verdict.chosen.max_side, verdict.met) == (Candidate(2, 1), 1280, True)
    assert verdict.default.candidate == DEFAULT
    assert "1.50 times as fast" in verdict.reason


@without_waiting
async def test_a_small_lead_is_noise_and_the_defaults_stay() -> None:
    verdict = await tuned(Machine(table(e1t2=2.0, e2t1=2.05)))
    assert (verdict.chosen.candidate, verdict.met) == (DEFAULT, True)
    assert "noise" in verdict.reason


@without_waiting
async def test_the_defaults_are_said_to_be_best_only_against_others() -> None:
    verdict = await tuned(Machine(table(e1t2=4.0)))
    assert verdict.chosen.candidate == DEFAULT
    assert verdict.reason == "the defaults are the best of 4 choices"


@without_waiting
async def test_a_lead_that_does_not_come_again_does_not_win() -> None:
    calls = 0

    def lucky_once(one: Candidate, _: int) -> float:
        nonlocal calls
        calls += 1
        return 4.0 if one == DEFAULT and calls > len(TRIED) else 3.0 if one == Candidate(2, 1) else 2.0

    assert (await tuned(Machine(lucky_once))).chosen.candidate == DEFAULT


@without_waiting
async def test_a_lead_that_could_not_be_confirmed_does_not_win() -> None:
    machine = Machine(table(e1t2=2.0, e2t1=3.0), slow_start_s=12.0)
    verdict = await tuned(machine, 60.0)
    assert len(verdict.table) < 8
    assert verdict.chosen.candidate == DEFAULT
    assert "not enough time to be sure" in verdict.reason


@without_waiting
async def test_what_takes_too_much_memory_cannot_win() -> None:
    verdict = await tuned(Machine(table(e1t2=2.0, e2t1=9.0, e1t1=3.0)), memory=500 * MIB)
    assert (verdict.chosen.candidate, verdict.met) == (Candidate(1, 1), True)


@without_waiting
async def test_what_is_too_slow_for_one_picture_cannot_win() -> None:
    # Two engines read more in all, but each picture takes longer.
    verdict = await tuned(Machine(table(e1t2=2.0, e2t1=3.0)), p95_s=0.7)
    assert verdict.chosen.candidate == DEFAULT
    assert verdict.met


@without_waiting
async def test_the_side_is_made_smaller_only_as_far_as_is_needed() -> None:
    machine = Machine(table(e1t2=2.0, e2t1=2.0))
    verdict = await tuned(machine, p95_s=0.5)
    assert (verdict.chosen.candidate, verdict.chosen.max_side, verdict.met) == (DEFAULT, 960, True)
    assert 736 not in [side for _, side in machine.measured]


@without_waiting
async def test_wishes_that_cannot_be_met_are_said_to_be_so_with_the_nearest() -> None:
    verdict = await tuned(Machine(table(e1t2=2.0)), p95_s=0.01)
    assert (verdict.met, verdict.chosen.max_side) == (False, 736)
    assert "nothing meets the wishes" in verdict.reason


@pytest.mark.parametrize("budget_s", [12.0, 30.0, 120.0])
@without_waiting
async def test_the_time_is_kept(budget_s: float) -> None:
    machine = Machine(table(e1t2=2.0, e2t1=3.0))
    await tuned(machine, budget_s)
    assert machine.now <= budget_s + 1e-6


@without_waiting
async def test_engines_that_start_slowly_cost_measurements_and_not_more_than_one_start_of_time() -> None:
    machine = Machine(table(e1t2=2.0, e2t1=3.0), slow_start_s=10.0)
    verdict = await tuned(machine, 60.0)
    assert machine.now <= 60.0 + 10.0
    assert len(verdict.table) >= 2


@without_waiting
async def test_with_too_little_time_nothing_is_claimed() -> None:
    with pytest.raises(DeadlineExceeded):
        await tuned(Machine(table(e1t2=2.0), slow_start_s=100.0), 20.0)
    with pytest.raises(DeadlineExceeded):
        await tuned(Machine(table(e1t2=0.1, e2t1=0.1, e1t1=0.1, e2t2=0.1)), 20.0)


@without_waiting
async def test_every_measurement_is_in_the_table_and_told() -> None:
    machine, told = Machine(table(e1t2=2.0, e2t1=3.0)), list[Measurement]()
    verdict = await Tuner(machine, Wishes(), 60.0, told.append, lambda: machine.now).run(TRIED, SIDES)
    assert list(verdict.table) == told
    assert len(told) == len(machine.measured) == 4 + 4
    assert verdict.table[0].to_wire()["candidate"] == {"engines": 1, "threads": 2}


@pytest.mark.parametrize("cores", [1, 2, 4, 16, 64])
def test_candidates_start_with_the_default_are_few_and_different(cores: int) -> None:
    default = Candidate(max(1, cores // 2), 2 if cores > 1 else 1)
    found = candidates(cores, default)
    assert found[0] == default
    assert 2 <= len(found) <= 9
    assert len(set(found)) == len(found)
    assert all(one.engines >= 1 and one.threads >= 1 for one in found)
    assert all(threads_agree(one.engines, one.threads, cores) for one in found), "what is written must be accepted"


def test_candidates_of_one_core() -> None:
    assert candidates(1, Candidate(1, 1)) == [Candidate(1, 1), Candidate(2, 1)]


async def settings_after(machine: Machine, **wishes: float) -> dict[str, int]:
    return wanted_settings(await tuned(machine, **wishes), SIDES[0])


@without_waiting
async def test_what_the_service_does_by_itself_is_never_pinned() -> None:
    automatic = {"engines.count": 0, "engines.threads": 0, "models.max_side": 0}
    assert await settings_after(Machine(table(e1t2=4.0))) == automatic
    assert await settings_after(Machine(table(e1t2=2.0, e2t1=2.05))) == automatic
    assert await settings_after(Machine(table(e1t2=2.0, e2t1=2.0)), p95_s=0.5) == {**automatic, "models.max_side": 960}
    assert await settings_after(Machine(table(e1t2=2.0, e2t1=3.0))) == {
        "engines.count": 2,
        "engines.threads": 1,
        "models.max_side": 0,
    }


@pytest.mark.parametrize(
    ("configured", "offered"),
    [(0, [1280, 960, 736, 512]), (960, [1280, 960, 736, 512]), (800, [1280, 960, 800, 736, 512]), (2560, [2560, 1280])],
)
def test_the_models_own_side_is_always_offered(isolated_environment: Path, configured: int, offered: list[int]) -> None:
    settings, _ = load_settings({"models": {"max_side": configured}}, environ={})
    assert sides(settings)[: len(offered)] == offered
    assert default_side(settings) == 1280

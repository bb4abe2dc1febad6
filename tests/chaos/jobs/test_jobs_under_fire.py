"""The whole program is shot at while it works jobs off: every item ends with exactly one outcome, the right one.

Short by default; ``make chaos`` sets STEADYOCR_CHAOS_KILLS and STEADYOCR_CHAOS_CUTS.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from jobs_field import Field, field

from jobs_support import FAST_FOLDER, postgres  # noqa: F401 - a fixture
from steadyocr.jobs.models import ItemState
from steadyocr.jobs.sql_store import SqlJobStore, open_job_store

pytestmark = pytest.mark.chaos

KILLS = int(os.environ.get("STEADYOCR_CHAOS_KILLS", "4"))
CUTS = int(os.environ.get("STEADYOCR_CHAOS_CUTS", "2"))
LONG = "STEADYOCR_CHAOS_CUTS" in os.environ
ITEMS_PER_JOB = 40


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="steadyocr-field-", dir=FAST_FOLDER))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, folder: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{folder}/jobs.db"
    new: str = request.getfixturevalue("postgres").new_database()
    return new


def shoot(there: Field, store: SqlJobStore, kills: int) -> None:
    """Kill at random while there is work, and see to it that there is; then let it be finished."""
    deadline = time.monotonic() + 60 + 15 * kills
    while there.kills.total() < kills:
        assert time.monotonic() < deadline, there.kills
        if there.open_jobs(store) < 2:
            there.submit(store, ITEMS_PER_JOB, poison=random.random() < 0.2)
        # By progress rather than by the clock: where nothing gets done there is nothing to lose.
        enough, patience = there.ended(store) + random.randint(0, 5), time.monotonic() + 5
        while there.ended(store) < enough and time.monotonic() < patience:
            there.keep_up()
            time.sleep(0.02)
        time.sleep(random.uniform(0.0, 0.05))
        there.kill_something()
        there.keep_up()
    there.until(lambda: there.kept_up_and_finished(store))


def test_random_kills_lose_nothing_and_show_nothing_twice(url: str, folder: Path) -> None:
    store = open_job_store(url)
    with field(folder, url) as there:
        there.add_node("serve")
        there.add_node("work")
        there.submit(store, ITEMS_PER_JOB, poison=2)
        there.wait_ready()
        shoot(there, store, KILLS)
        there.assert_all_is_well(store)
        print(f"{dict(there.kills)}; {there.items} items")
    store.close()


def test_the_power_is_cut_again_and_again_while_jobs_come_in(url: str, folder: Path) -> None:
    # What is special about a server is that it lives on while the node is gone; the short form looks once.
    cuts = 1 if url.startswith("postgresql") and not LONG else CUTS
    store = open_job_store(url)
    with field(folder, url) as there:
        node = there.add_node("serve")
        for cut in range(cuts):
            there.wait_ready()
            before = there.accepted
            with ThreadPoolExecutor(1, thread_name_prefix="client") as client:
                posting = client.submit(there.post_until_cut, node)
                if cut % 2 or cuts == 1:  # on a slow machine nothing would be accepted otherwise
                    there.until(partial(there.accepted_more_than, before))
                time.sleep(random.uniform(0.1, 0.6))
                node.cut_power()
                posting.result(40)
            there.keep_up()
        there.until(lambda: there.finished(store))
        there.assert_all_is_well(store)
        assert there.accepted >= max(1, cuts // 2)
        assert len(store.jobs(limit=10_000)) <= there.accepted + 1, "sent again is not made again"
        print(f"{cuts} cuts; {there.accepted} jobs accepted")
    store.close()


def test_a_node_that_is_told_to_stop_puts_its_items_back_at_once(folder: Path) -> None:
    url = f"sqlite:///{folder}/jobs.db"
    store = open_job_store(url)
    with field(folder, url, jobs__lease_s="600") as there:
        node = there.add_node("work")
        job_id = there.submit(store, 400)
        there.until(lambda: store.job(job_id).done >= 5)
        assert node.stop() == 0
        items = store.items(job_id, limit=1000)
        assert {item.state for item in items} == {ItemState.DONE, ItemState.QUEUED}
        assert all(item.attempts + item.losses == 0 for item in items), "and nobody is blamed"
    store.close()


def test_of_two_nodes_one_takes_over_what_the_other_had(folder: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres").new_database()
    store = open_job_store(url)
    with field(folder, url) as there:
        first, _ = there.add_node("work"), there.add_node("work")
        job_id = there.submit(store, 150)
        there.wait_ready()
        there.until(lambda: len({item.owner for item in store.items(job_id, limit=200) if item.owner}) == 2)
        first.cut_power()
        there.until(lambda: there.finished(store))
        there.assert_all_is_well(store)
        there.nodes.remove(first)
    store.close()

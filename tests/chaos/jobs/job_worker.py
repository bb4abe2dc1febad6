"""A process that works a store off until it is killed: ``job_worker.py URL RUNS``.

Every run of an item is noted in the file RUNS, so that the test knows what happened, whatever was killed. Items
named ``poison…`` end the process.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from steadyocr.errors import Unavailable
from steadyocr.jobs.config import StoreConfig
from steadyocr.jobs.models import ItemOutcome
from steadyocr.jobs.sql_store import open_job_store

CONFIG = StoreConfig(max_losses=3, backoff_first_s=0.05, backoff_max_s=0.1)
LEASE_S = 0.5


HEATS = 11
MOST_AT_ONCE = 7


def race(url: str, start: Barrier, found: Queue[list[int]]) -> None:
    """Claim until nothing is left, together with others, and tell what was got.

    The first claims of all start at the same instant, again and again, so that no process is done before another
    has begun.
    """
    store = open_job_store(url)
    mine: list[int] = []
    for heat in itertools.count():
        if heat < HEATS:
            start.wait(60)
        leases = store.claim(str(os.getpid()), limit=random.choice([1, 1, MOST_AT_ONCE]))
        if not leases:
            break
        mine += [lease.item_id for lease in leases]
    found.put(mine)
    store.close()


def main(url: str, runs: str) -> None:
    note = os.open(runs, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    store = open_job_store(url, CONFIG)
    while True:
        try:
            store.reap()
            for lease in store.claim(str(os.getpid()), lease_s=LEASE_S):
                os.write(note, f"{lease.position}\n".encode())
                if lease.name.startswith("poison"):
                    os._exit(1)
                time.sleep(0.005)
                store.complete(lease, ItemOutcome(result={"position": lease.position}))
        except Unavailable:
            time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What becomes of an item whose engine died, and of the next upload of the same picture."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from steadyocr.errors import EngineDied, Quarantined
from steadyocr.scheduling.admission import AdmissionQueue
from steadyocr.scheduling.deaths import Death, DeathCause
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.memory_contract import MemoryContract
from steadyocr.scheduling.quarantine import Quarantine
from steadyocr.scheduling.reports import Reports
from steadyocr.scheduling.suspicion import Suspicion

_log = logging.getLogger("steadyocr.aftermath")

# Deaths with an item in hand that prove nothing against it (kills from outside, say) before it is given up, unblamed.
_MAX_OUTSIDE_DEATHS = 5
# Who has taken all memory is seldom gone in a moment.
_SHORTAGE_S = 30.0


class Aftermath:
    """Blames, retries and condemns.

    A picture is condemned when an engine dies of it while it is a suspect and therefore alone. That its client has
    gone makes no difference to what it does to engines. An engine that found itself unsound proves something only where
    it was proven after the death before: a card that has died takes all engines that are on it, whatever they read, and
    lets no new one come up. One that the kernel killed for memory proves something only where it had outgrown what was
    predicted: otherwise it was in the way of somebody else. That picture is tried again alone, smaller, and once memory
    is less short.

    Args:
        queue: Where retries go.
        quarantine: Where the condemned go.
        contract: Knows what an item was predicted to take.
        reports: Told of each verdict.
        outstanding: All items that somebody waits for.
    """

    def __init__(
        self,
        queue: AdmissionQueue,
        quarantine: Quarantine,
        contract: MemoryContract,
        reports: Reports,
        outstanding: Collection[WorkItem],
    ) -> None:
        self.suspicion = Suspicion()
        self._queue = queue
        self._quarantine = quarantine
        self._contract = contract
        self._reports = reports
        self._outstanding = outstanding

    def before_work(self, item: WorkItem) -> None:
        """Make an item a suspect when engines have died of the same picture before."""
        if item.kind == "run" and not item.suspect:
            item.suspect = self.suspicion.holds(item, asyncio.get_running_loop().time())

    def after_work(self, item: WorkItem) -> None:
        """Acquit an item that an engine has got through with, whatever the answer."""
        if item.suspect and item.kind == "run":
            self.suspicion.acquit(item)

    def after_death(self, item: WorkItem, death: Death) -> None:
        """Decide about an item and its picture."""
        item.attempts += 1
        item.short_of_memory |= death.cause is DeathCause.OUT_OF_MEMORY
        if not death.blames_the_item:
            if death.casts_suspicion and item.kind == "run":
                self.suspicion.blame(item, asyncio.get_running_loop().time())
            if not item.abandoned:
                self._retry_unblamed(item, death)
        elif item.kind != "run":
            self._retry_or_give_up(item, death)
        elif self._fell_to_others(item, death):
            if not item.abandoned:
                self._retry_unblamed(item, death)
        else:
            proof = self._proves(item, death)
            deaths = self.suspicion.blame(item, asyncio.get_running_loop().time(), proven=proof)
            if item.suspect and proof:
                self._condemn(item, death, deaths)
            elif not item.abandoned:
                item.suspect = True
                if proof:
                    self._retry(item, death)
                else:
                    self._retry_unblamed(item, death)

    def _fell_to_others(self, item: WorkItem, death: Death) -> bool:
        """Whether an engine was killed for memory that it had not taken."""
        return death.cause is DeathCause.OUT_OF_MEMORY and not self._contract.exceeded(item, death.peak_bytes)

    def _proves(self, item: WorkItem, death: Death) -> bool:
        """Whether an engine died of the picture, as far as one death can tell."""
        if death.cause is not DeathCause.UNSOUND:
            return True
        before = self.suspicion.last_death_at(item)
        return before is not None and death.proven_at is not None and death.proven_at > before

    def _retry_unblamed(self, item: WorkItem, death: Death) -> None:
        item.outside_deaths += 1
        if item.outside_deaths >= _MAX_OUTSIDE_DEATHS:
            item.fail(_given_up(death))
        else:
            self._retry(item, death)

    def _retry_or_give_up(self, item: WorkItem, death: Death) -> None:
        """Work of our own, and a slider's, has no picture that could be condemned."""
        if item.suspect:
            item.fail(EngineDied(f"engines ended with this work in hand ({death}); it is given up", retry_after_s=5.0))
        elif not item.abandoned:
            item.suspect = True
            self._retry(item, death)

    def _retry(self, item: WorkItem, death: Death) -> None:
        extra = {"item": item.id, "request_id": item.request_id, "death": str(death), "alone": item.suspect}
        _log.warning("An engine died with an item in hand; the item is retried", extra=extra)
        self._queue.put_back(item)

    def _condemn(self, item: WorkItem, death: Death, deaths: int) -> None:
        # An entry may have been pushed out since; that an item is a suspect says that there was one death before.
        deaths = max(deaths, 2)
        self.suspicion.clear(item)
        self._quarantine.condemn(item.digest, {**self._contract.describe(item), **death.describe(), "deaths": deaths})
        self._reports.quarantined(item, item.digest, death, deaths)
        for each in (item, *self._same_picture(item)):
            each.fail(
                Quarantined(
                    f"this picture ended {deaths} engines ({death}); it is quarantined and will be refused",
                    sha256=item.digest,
                )
            )

    def _same_picture(self, item: WorkItem) -> list[WorkItem]:
        """Copies that were taken in before the verdict: each would cost another engine."""
        size = len(item.payload)
        return [
            other
            for other in self._outstanding
            if other is not item and other.kind == "run" and len(other.payload) == size and other.digest == item.digest
        ]


def _given_up(death: Death) -> EngineDied:
    """What is said of an item that many engines ended with through no fault of its own."""
    if death.cause is DeathCause.OUT_OF_MEMORY:
        return EngineDied(
            "engines were killed again and again because this machine is short of memory", retry_after_s=_SHORTAGE_S
        )
    return EngineDied("engines ended again and again through no fault of the picture", retry_after_s=5.0)

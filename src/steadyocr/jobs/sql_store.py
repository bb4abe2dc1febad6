"""The job store on a database: each call is one transaction."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Collection, Iterable, Sequence

from steadyocr.errors import InsufficientStorage
from steadyocr.jobs import control, leasing, outcomes, queries, retention, webhook_rows
from steadyocr.jobs.config import StoreConfig
from steadyocr.jobs.database import Database, open_database
from steadyocr.jobs.disk import refuse_low_disk
from steadyocr.jobs.models import (
    Census,
    ErrorWire,
    Event,
    Heartbeat,
    Item,
    ItemOutcome,
    ItemState,
    Job,
    JobPlace,
    JobState,
    Lease,
    Load,
    NewItem,
    NewJob,
    Progress,
)
from steadyocr.jobs.stopping import KeepOn, always
from steadyocr.jobs.store import RETRYABLE
from steadyocr.jobs.submit import lack_of_room, refuse_wrong_count, submit
from steadyocr.jobs.watch import Watch, open_watch
from steadyocr.jobs.webhook_models import Delivery, DeliveryOutcome, Webhook


class SqlJobStore:
    """A job store on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(self, new: NewJob) -> Job:
        """See :meth:`JobStore.submit`."""
        refuse_wrong_count(len(new.items), self._database.config.max_items)
        job_id = uuid.uuid4().hex
        return self._database.write(lambda tx: submit(tx, job_id, new, self._refuse_low_disk))

    def _refuse_low_disk(self) -> None:
        if self._database.path is not None:
            refuse_low_disk(self._database.path.parent, self._database.config.min_free_bytes)

    def lack_of_room(
        self, size_bytes: int, *, tenant: str = "", idempotency_key: str | None = None
    ) -> InsufficientStorage | None:
        """See :meth:`JobStore.lack_of_room`."""
        return self._database.read(lambda tx: lack_of_room(tx, size_bytes, tenant, idempotency_key))

    def claim(self, owner: str, *, limit: int = 1, lease_s: float = 30.0, token: str | None = None) -> list[Lease]:
        """See :meth:`JobStore.claim`."""
        again, known = token is not None, token or secrets.token_hex(8)
        return self._database.write(lambda tx: leasing.claim(tx, owner, known, limit, lease_s, again=again))

    def begin(self, lease: Lease) -> bool:
        """See :meth:`JobStore.begin`."""
        return self._database.write(lambda tx: leasing.begin(tx, lease))

    def heartbeat(self, leases: Sequence[Lease], *, lease_s: float = 30.0) -> Heartbeat:
        """See :meth:`JobStore.heartbeat`."""
        return self._database.write(lambda tx: leasing.heartbeat(tx, leases, lease_s))

    def complete(self, lease: Lease, outcome: ItemOutcome) -> bool:
        """See :meth:`JobStore.complete`."""
        return self._database.write(lambda tx: outcomes.complete(tx, lease, outcome))

    def expand(self, lease: Lease, children: Sequence[NewItem]) -> bool:
        """See :meth:`JobStore.expand`."""
        return self._database.write(lambda tx: outcomes.expand(tx, lease, children))

    def fail(self, lease: Lease, error: ErrorWire, *, dead: bool = False) -> bool:
        """See :meth:`JobStore.fail`."""
        return self._database.write(lambda tx: outcomes.fail(tx, lease, error, dead=dead))

    def retry_later(self, lease: Lease, error: ErrorWire) -> ItemState | None:
        """See :meth:`JobStore.retry_later`."""
        return self._database.write(lambda tx: outcomes.retry_later(tx, lease, error))

    def release(self, lease: Lease, *, delay_s: float = 0.0) -> bool:
        """See :meth:`JobStore.release`."""
        return self._database.write(lambda tx: outcomes.release(tx, lease, delay_s))

    def reap(self, *, lease_s: float = 30.0) -> int:
        """See :meth:`JobStore.reap`."""
        return self._database.write(lambda tx: leasing.reap(tx, lease_s))

    def expire_overdue(self) -> int:
        """See :meth:`JobStore.expire_overdue`."""
        return self._database.write(control.expire_overdue)

    def cancel(self, job_id: str) -> Job:
        """See :meth:`JobStore.cancel`."""
        return self._database.write(lambda tx: control.cancel(tx, job_id))

    def retry(
        self, job_id: str, states: Collection[ItemState] = RETRYABLE, positions: Collection[int] | None = None
    ) -> Job:
        """See :meth:`JobStore.retry`."""
        return self._database.write(lambda tx: control.retry(tx, job_id, states, positions))

    def delete(self, job_id: str) -> None:
        """See :meth:`JobStore.delete`."""
        self._database.write(lambda tx: control.delete_job(tx, job_id))

    def job(self, job_id: str) -> Job:
        """See :meth:`JobStore.job`."""
        return self._database.read(lambda tx: queries.get_job(tx, job_id))

    def jobs(
        self,
        *,
        tenant: str | None = None,
        states: Collection[JobState] | None = None,
        before: JobPlace | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """See :meth:`JobStore.jobs`."""
        return self._database.read(
            lambda tx: queries.list_jobs(tx, tenant=tenant, states=states, before=before, limit=limit)
        )

    def progress(self, job_id: str) -> Progress:
        """See :meth:`JobStore.progress`."""
        return self._database.read(lambda tx: queries.progress(tx, job_id))

    def items(
        self,
        job_id: str,
        *,
        after: int = -1,
        offset: int = 0,
        limit: int = 100,
        states: Collection[ItemState] | None = None,
    ) -> list[Item]:
        """See :meth:`JobStore.items`."""
        return self._database.read(
            lambda tx: queries.get_items(tx, job_id, after=after, offset=offset, limit=limit, states=states)
        )

    def item(self, job_id: str, position: int) -> Item:
        """See :meth:`JobStore.item`."""
        return self._database.read(lambda tx: queries.get_item(tx, job_id, position))

    def results(self, job_id: str, *, after: int = -1, limit: int = 100) -> list[Item]:
        """See :meth:`JobStore.results`."""
        return self._database.read(lambda tx: queries.get_results(tx, job_id, after=after, limit=limit))

    def events(self, job_id: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """See :meth:`JobStore.events`."""
        return self._database.read(lambda tx: queries.get_events(tx, job_id, after=after, limit=limit))

    def waiting(self) -> int:
        """See :meth:`JobStore.waiting`."""
        return self._database.read(queries.waiting)

    def load(self) -> Load:
        """See :meth:`JobStore.load`."""
        return self._database.read(queries.load)

    def census(self) -> Census:
        """See :meth:`JobStore.census`."""
        return self._database.read(queries.census)

    def webhook(self, job_id: str) -> Webhook | None:
        """See :meth:`JobStore.webhook`."""
        return self._database.read(lambda tx: webhook_rows.get(tx, job_id))

    def claim_deliveries(
        self, *, limit: int = 1, lease_s: float = 60.0, except_to: Collection[str] = ()
    ) -> list[Delivery]:
        """See :meth:`JobStore.claim_deliveries`."""
        token = secrets.token_hex(8)
        return self._database.write(lambda tx: webhook_rows.claim(tx, token, limit, lease_s, except_to))

    def settle_delivery(self, delivery: Delivery, outcome: DeliveryOutcome) -> bool:
        """See :meth:`JobStore.settle_delivery`."""
        return self._database.write(lambda tx: webhook_rows.settle(tx, delivery, outcome))

    def referenced(self, keys: Iterable[str]) -> set[str]:
        """See :meth:`JobStore.referenced`."""
        wanted = list(keys)
        return self._database.read(lambda tx: queries.referenced(tx, wanted))

    def stored_bytes(self) -> int:
        """See :meth:`JobStore.stored_bytes`."""
        return self._database.read(queries.stored_bytes)

    def prune(self, older_than_s: float, keep_on: KeepOn = always, *, by_hand: bool = False) -> int:
        """See :meth:`JobStore.prune`."""
        deleted = 0
        while keep_on() and (
            some := self._database.write(lambda tx: retention.prune(tx, older_than_s, by_hand=by_hand))
        ):
            deleted += some
        return deleted

    def prune_to_quota(self, max_bytes: int, keep_on: KeepOn = always) -> int:
        """See :meth:`JobStore.prune_to_quota`."""
        deleted = 0
        while keep_on() and (some := self._database.write(lambda tx: retention.prune_to_quota(tx, max_bytes))):
            deleted += some
        return deleted

    def try_writing(self) -> None:
        """See :meth:`JobStore.try_writing`."""
        self._database.write(lambda tx: retention.keep_facts(tx, {"tried_at": tx.now}))

    def watch(self) -> Watch:
        """See :meth:`JobStore.watch`."""
        return open_watch(self._database)

    def stop_retrying(self) -> None:
        """See :meth:`JobStore.stop_retrying`."""
        self._database.stop_retrying()

    def close(self) -> None:
        """See :meth:`JobStore.close`."""
        self._database.close()


def open_job_store(url: str, config: StoreConfig | None = None) -> SqlJobStore:
    """Open the job store that a URL names, ``sqlite:////path/to/jobs.db`` or ``postgresql://user@host/name``.

    Raises:
        ConfigError: The URL, the file system or the schema version cannot be used.
        Unavailable: The server does not answer.
    """
    return SqlJobStore(open_database(url, config))

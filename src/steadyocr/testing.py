"""Stand-ins for tests, ours and yours: a job store in memory, and a clock that moves when told to."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from steadyocr.errors import EngineDied, IdempotencyConflict, InsufficientStorage, NotFoundError
from steadyocr.jobs.bookkeeping import advance, event_data
from steadyocr.jobs.config import StoreConfig, longest_lease_s
from steadyocr.jobs.control import job_not_found
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
from steadyocr.jobs.quota import promised_within, refusal
from steadyocr.jobs.records import dump
from steadyocr.jobs.retention import Pruning
from steadyocr.jobs.stopping import KeepOn, always, while_wanted
from steadyocr.jobs.store import RETRYABLE
from steadyocr.jobs.submit import initial_states, label, new_job, refuse_wrong_count, waiting_state
from steadyocr.jobs.webhook_models import Delivery, DeliveryOutcome, Webhook, WebhookState, receiver_of
from steadyocr.jobs.webhook_rows import WRITTEN_AHEAD_S

_GIVEN_UP = (JobState.CANCELLED, JobState.EXPIRED)


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on, or back."""
        self.now += seconds


@dataclasses.dataclass(slots=True)
class _Row:
    """An item, and what of it is nobody's business."""

    item: Item
    priority: int
    rank: int
    token: str | None = None
    begun: bool = False

    def set(self, **values: Any) -> None:  # noqa: ANN401 - handed on
        self.item = dataclasses.replace(self.item, **values)


class _MemoryWatch:
    def __init__(self) -> None:
        self._changed = threading.Event()
        self._closed = False

    def note(self) -> None:
        self._changed.set()

    def wait(self, timeout_s: float) -> bool:
        if self._closed or not self._changed.wait(timeout_s):
            return False
        self._changed.clear()
        return not self._closed

    def close(self) -> None:
        self._closed = True
        self._changed.set()


class _MemoryWebhooks:
    """Who is told, by job."""

    def __init__(self) -> None:
        self._webhooks: dict[str, Webhook] = {}
        self._tokens: dict[str, str] = {}
        self._written_at: dict[str, float] = {}

    def add(self, created: Job, url: str, now: float) -> None:
        ended = created.finished_at is not None
        self._set(created.id, url, int(ended), now if ended else None, now)

    def _set(self, job_id: str, url: str, ended: int, next_at: float | None, now: float) -> None:
        state = WebhookState.WAITING if next_at is None else WebhookState.DUE
        self._tokens.pop(job_id, None)
        self._written_at[job_id] = now
        self._webhooks[job_id] = Webhook(
            job_id=job_id,
            url=url,
            state=state,
            round=ended,
            attempts=0,
            next_at=next_at,
            delivered_at=None,
            status=None,
            problem=None,
        )

    def note_change(self, before: Job, after: Job, now: float) -> None:
        was_open, is_open = before.finished_at is None, after.finished_at is None
        known = self._webhooks.get(after.id)
        if known is not None and was_open != is_open:
            self._set(after.id, known.url, known.round + (not is_open), None if is_open else now, now)

    def get(self, job_id: str) -> Webhook | None:
        return self._webhooks.get(job_id)

    def is_due(self, job_id: str) -> bool:
        known = self._webhooks.get(job_id)
        return known is not None and known.state is WebhookState.DUE

    def forget(self, job_id: str) -> None:
        self._webhooks.pop(job_id, None)
        self._tokens.pop(job_id, None)
        self._written_at.pop(job_id, None)

    def _has_come(self, known: Webhook, now: float) -> bool:
        written_ahead = self._written_at[known.job_id] > now + WRITTEN_AHEAD_S
        return known.next_at is not None and (known.next_at <= now or written_ahead)

    def claim(
        self, jobs: Mapping[str, Job], now: float, limit: int, lease_s: float, except_to: Collection[str]
    ) -> list[Delivery]:
        others = [known for known in self._webhooks.values() if receiver_of(known.url) not in except_to]
        due = [known for known in others if self._has_come(known, now)]
        due.sort(key=lambda known: known.next_at or now)
        return [self._take(known, jobs[known.job_id], now, lease_s) for known in due[:limit]]

    def _take(self, known: Webhook, ended: Job, now: float, lease_s: float) -> Delivery:
        token = self._tokens[ended.id] = uuid.uuid4().hex
        self._written_at[ended.id] = now
        taken = dataclasses.replace(known, attempts=known.attempts + 1, next_at=now + lease_s)
        self._webhooks[ended.id] = taken
        name = f"{ended.id}-{taken.round}"
        return Delivery(id=name, job=ended, url=taken.url, token=token, attempts=taken.attempts)

    def settle(self, delivery: Delivery, outcome: DeliveryOutcome, now: float) -> bool:
        known = self._webhooks.get(delivery.job.id)
        held = self._tokens.get(delivery.job.id) == delivery.token
        if known is None or not held or known.state is not WebhookState.DUE:
            return False
        values: dict[str, Any] = {"status": outcome.status, "problem": outcome.problem, "next_at": None}
        if outcome.delivered:
            values |= {"state": WebhookState.DELIVERED, "delivered_at": now}
        elif outcome.retry_in_s is None:
            values["state"] = WebhookState.FAILED
        else:
            values["next_at"] = now + outcome.retry_in_s
        self._written_at[known.job_id] = now
        self._webhooks[known.job_id] = dataclasses.replace(known, **values)
        return True


def _count_lines(result: object) -> int | None:
    match result:
        case {"lines": list(lines)}:
            return len(lines)
    return None


class InMemoryJobStore:
    """A :class:`steadyocr.jobs.store.JobStore` that forgets everything with its process. Usable from several threads.

    Args:
        config: How patient it is.
        clock: Its time.
    """

    def __init__(self, config: StoreConfig | None = None, clock: Callable[[], float] | None = None) -> None:
        self._config = config or StoreConfig()
        self._clock = clock or FakeClock()
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], tuple[str, str | None]] = {}
        self._rows: dict[str, list[_Row]] = {}
        self._events: dict[str, list[Event]] = {}
        self._webhooks = _MemoryWebhooks()
        self._watches: list[_MemoryWatch] = []
        self._ids = itertools.count(1)
        self._pruning: Pruning | None = None

    def _job(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise job_not_found()
        return self._jobs[job_id]

    def _all(self) -> Iterable[_Row]:
        return itertools.chain.from_iterable(self._rows.values())

    def _save(self, before: Job, after: Job, *, item: Mapping[str, Any] | None = None) -> Job:
        facts: list[tuple[Any, Mapping[str, Any]]] = [] if item is None else [("item", item)]
        if item is None or (before.state, before.finished_at is None) != (after.state, after.finished_at is None):
            facts.append(("job", {}))
        events = self._events.setdefault(after.id, [])
        for kind, extra in facts:
            after = dataclasses.replace(after, last_event=after.last_event + 1)
            events.append(Event(after.last_event, self._clock(), kind, event_data(after, extra)))
        del events[: -self._config.max_events]
        self._jobs[after.id] = after
        self._webhooks.note_change(before, after, self._clock())
        for watch in self._watches:
            watch.note()
        return after

    def _add(self, job: Job, new: Sequence[NewItem], states: Sequence[ItemState], parent: int | None = None) -> None:
        now, rows, rank = self._clock(), self._rows.setdefault(job.id, []), self._first_rank(job)
        for index, (entry, state) in enumerate(zip(new, states, strict=True)):
            item = Item(
                id=next(self._ids),
                job_id=job.id,
                position=len(rows),
                parent=parent,
                kind=entry.kind,
                name=label(entry.name),
                input_ref=entry.input_ref,
                size_bytes=entry.size_bytes,
                state=state,
                attempts=0,
                losses=0,
                run_at=now,
                owner=None,
                lease_until=None,
                started_at=None,
                finished_at=None if state is ItemState.QUEUED else now,
                result=None,
                result_ref=None,
                overlay_ref=None,
                error=entry.error,
            )
            rows.append(_Row(item, job.priority, rank + index))

    def _first_rank(self, job: Job) -> int:
        queued = [row for row in self._all() if row.item.state is ItemState.QUEUED]
        clock = (r.rank for r in queued if r.priority == job.priority and not r.item.attempts + r.item.losses)
        own = (row.rank + 1 for row in queued if row.item.job_id == job.id)
        return max(min(clock, default=0), max(own, default=0))

    def submit(self, new: NewJob) -> Job:
        """See :meth:`JobStore.submit`."""
        refuse_wrong_count(len(new.items), self._config.max_items)
        with self._lock:
            key = None if new.idempotency_key is None else (new.tenant, new.idempotency_key)
            if key is not None and key in self._keys:
                known, request_hash = self._keys[key]
                if request_hash != new.request_hash:
                    raise IdempotencyConflict("this idempotency key was used for another request")
                return self._jobs[known]
            states = initial_states(new.items, JobState.QUEUED)
            created = new_job(uuid.uuid4().hex, new, states, self._clock())
            if (lack := self._lack_of_room(created.stored_bytes)) is not None:
                raise lack
            if key is not None:
                self._keys[key] = (created.id, new.request_hash)
            self._add(created, new.items, states)
            if new.webhook_url is not None:
                self._webhooks.add(created, new.webhook_url, self._clock())
            return self._save(created, dataclasses.replace(created, last_event=0))

    def lack_of_room(
        self, size_bytes: int, *, tenant: str = "", idempotency_key: str | None = None
    ) -> InsufficientStorage | None:
        """See :meth:`JobStore.lack_of_room`."""
        with self._lock:
            return None if (tenant, idempotency_key) in self._keys else self._lack_of_room(size_bytes)

    def _lack_of_room(self, size_bytes: int) -> InsufficientStorage | None:
        jobs, now = self._jobs.values(), self._clock()
        ended = [(job.finished_at, job.stored_bytes) for job in jobs if self._is_promised(job) and job.finished_at]
        taken = sum(job.stored_bytes for job in jobs if job.finished_at is None) + sum(size for _, size in ended)
        if not 0 < self._config.max_stored_bytes < taken + size_bytes:
            return None
        return refusal(self._config, now, taken, size_bytes, ended)

    def _is_promised(self, job: Job) -> bool:
        after, until = promised_within(self._clock(), self._config.grace_s)
        return job.finished_at is not None and after < job.finished_at <= until

    def claim(self, owner: str, *, limit: int = 1, lease_s: float = 30.0, token: str | None = None) -> list[Lease]:
        """See :meth:`JobStore.claim`."""
        with self._lock:
            self.expire_overdue()
            now = self._clock()
            held = [row for row in self._all() if row.item.state is ItemState.LEASED and row.token == token]
            longest_s = self._config.longest_delay_s
            due = [row for row in self._all() if row.item.state is ItemState.QUEUED]
            due = [row for row in due if _passed(row.item.run_at, now, longest_s)]
            due.sort(key=lambda row: (-row.priority, row.rank, row.item.id))
            leases = []
            for row in held or due[:limit]:
                row.token, row.begun = token or uuid.uuid4().hex, limit == 1
                row.set(state=ItemState.LEASED, owner=owner, lease_until=now + lease_s, started_at=now)
                job = self._jobs[row.item.job_id]
                if job.state is JobState.QUEUED:
                    job = self._save(job, advance(job, now, {}, state=JobState.RUNNING))
                leases.append(_lease(row, job, row.token))
            return sorted(leases, key=lambda lease: lease.item_id)

    def _held(self, lease: Lease) -> _Row | None:
        row = self._row(lease)
        return row if row is not None and row.item.state is ItemState.LEASED else None

    def _row(self, lease: Lease) -> _Row | None:
        rows = self._rows.get(lease.job_id, [])
        row = rows[lease.position] if lease.position < len(rows) else None
        return row if row is not None and row.token == lease.token else None

    def begin(self, lease: Lease) -> bool:
        """See :meth:`JobStore.begin`."""
        with self._lock:
            if (row := self._held(lease)) is None:
                return False
            row.begun = True
            return True

    def heartbeat(self, leases: Sequence[Lease], *, lease_s: float = 30.0) -> Heartbeat:
        """See :meth:`JobStore.heartbeat`."""
        with self._lock:
            kept = []
            for lease in leases:
                if (row := self._held(lease)) is not None:
                    row.set(lease_until=self._clock() + lease_s)
                    kept.append(lease)
            lost = frozenset(lease.key for lease in leases) - {lease.key for lease in kept}
            unwanted = (lease.key for lease in kept if self._jobs[lease.job_id].state in _GIVEN_UP)
            return Heartbeat(lost, frozenset(unwanted))

    def _settle(self, lease: Lease, state: ItemState, stored_bytes: int = 0, **values: Any) -> bool:  # noqa: ANN401
        if (row := self._held(lease)) is None:
            known = self._row(lease)
            return known is not None and known.item.state is state
        ended = state is not ItemState.QUEUED
        row.begun = False
        row.set(state=state, lease_until=None, finished_at=self._clock() if ended else None, **values)
        before = self._jobs[lease.job_id]
        if ended:
            after = advance(before, self._clock(), {state: 1}, stored_bytes=stored_bytes)
            self._save(before, after, item=_event_item(row))
        else:
            for watch in self._watches:
                watch.note()
        return True

    def complete(self, lease: Lease, outcome: ItemOutcome) -> bool:
        """See :meth:`JobStore.complete`."""
        # Through JSON, so that what cannot be stored elsewhere is refused here too.
        result = None if outcome.result_ref is not None else json.loads(dump(outcome.result))
        refs = {"result_ref": outcome.result_ref, "overlay_ref": outcome.overlay_ref}
        with self._lock:
            return self._settle(lease, ItemState.DONE, outcome.stored_bytes, result=result, error=None, **refs)

    def expand(self, lease: Lease, children: Sequence[NewItem]) -> bool:
        """See :meth:`JobStore.expand`."""
        with self._lock:
            before = self._jobs.get(lease.job_id)
            if before is None:
                return False
            refuse_wrong_count(before.total + len(children), self._config.max_items)
            row = self._held(lease)
            if row is None:
                known = self._row(lease)
                return known is not None and known.item.state is ItemState.DONE
            size = sum(child.size_bytes for child in children)
            if (lack := self._lack_of_room(size)) is not None:
                raise lack
            now, result = self._clock(), {"expanded": len(children)}
            row.set(state=ItemState.DONE, lease_until=None, finished_at=now, result=result, error=None)
            states = initial_states(children, before.state)
            after = advance(before, now, Counter((ItemState.DONE, *states)), added=len(states), stored_bytes=size)
            self._add(before, children, states, parent=lease.position)
            self._save(before, after, item=_event_item(row))
            return True

    def fail(self, lease: Lease, error: ErrorWire, *, dead: bool = False) -> bool:
        """See :meth:`JobStore.fail`."""
        with self._lock:
            return self._settle(lease, ItemState.DEAD if dead else ItemState.FAILED, error=error)

    def retry_later(self, lease: Lease, error: ErrorWire) -> ItemState | None:
        """See :meth:`JobStore.retry_later`."""
        with self._lock:
            before = self._jobs.get(lease.job_id)
            if before is None:
                return None
            attempts = lease.attempts + 1
            dead = attempts >= self._config.max_attempts
            state = ItemState.DEAD if dead else waiting_state(before.state)
            run_at = self._clock() + self._config.backoff_s(attempts)
            return state if self._settle(lease, state, attempts=attempts, error=error, run_at=run_at) else None

    def release(self, lease: Lease, *, delay_s: float = 0.0) -> bool:
        """See :meth:`JobStore.release`."""
        with self._lock:
            before = self._jobs.get(lease.job_id)
            if before is None:
                return False
            return self._settle(lease, waiting_state(before.state), run_at=self._clock() + delay_s)

    def reap(self, *, lease_s: float = 30.0) -> int:
        """See :meth:`JobStore.reap`."""
        with self._lock:
            now, longest_s = self._clock(), longest_lease_s(lease_s)
            expired = [row for row in self._all() if _passed(row.item.lease_until, now, longest_s)]
            for row in expired:
                self._lose(row)
            return len(expired)

    def _lose(self, row: _Row) -> None:
        job = self._jobs[row.item.job_id]
        state, run_at = waiting_state(job.state), self._clock()
        losses = row.item.losses + row.begun
        if row.begun:
            run_at += self._config.backoff_s(losses)
            if losses >= self._config.max_losses:
                state = ItemState.DEAD
                row.set(error=EngineDied(f"{losses} times the process that ran this item went away").to_wire())
        self._settle(_lease(row, job, row.token or ""), state, losses=losses, run_at=run_at)

    def expire_overdue(self) -> int:
        """See :meth:`JobStore.expire_overdue`."""
        with self._lock:
            now = self._clock()
            open_jobs = (job for job in self._jobs.values() if job.finished_at is None and job.state not in _GIVEN_UP)
            overdue = [job for job in open_jobs if job.deadline is not None and job.deadline <= now]
            for job in overdue:
                self._end_waiting(job, JobState.EXPIRED, ItemState.EXPIRED)
            return len(overdue)

    def _end_waiting(self, before: Job, state: JobState, item_state: ItemState) -> Job:
        now = self._clock()
        waiting = [row for row in self._rows[before.id] if row.item.state is ItemState.QUEUED]
        for row in waiting:
            row.set(state=item_state, finished_at=now)
        return self._save(before, advance(before, now, {item_state: len(waiting)}, state=state))

    def cancel(self, job_id: str) -> Job:
        """See :meth:`JobStore.cancel`."""
        with self._lock:
            before = self._job(job_id)
            if before.finished_at is not None or before.state is JobState.CANCELLED:
                return before
            return self._end_waiting(before, JobState.CANCELLED, ItemState.CANCELLED)

    def retry(
        self, job_id: str, states: Collection[ItemState] = RETRYABLE, positions: Collection[int] | None = None
    ) -> Job:
        """See :meth:`JobStore.retry`."""
        with self._lock:
            before, now = self._job(job_id), self._clock()
            rows = [r for r in self._rows[job_id] if r.item.state in states and r.item.input_ref is not None]
            rows = [row for row in rows if positions is None or row.item.position in positions]
            if not rows:
                return before
            back = Counter(row.item.state for row in rows)
            for rank, row in enumerate(rows, self._first_rank(before)):
                row.rank, row.token = rank, None
                row.set(state=ItemState.QUEUED, attempts=0, losses=0, run_at=now, finished_at=None, error=None)
            after = advance(before, now, {state: -count for state, count in back.items()}, state=JobState.RUNNING)
            if before.deadline is not None and before.deadline <= now:
                after = dataclasses.replace(after, deadline=None)
            return self._save(before, after)

    def delete(self, job_id: str) -> None:
        """See :meth:`JobStore.delete`."""
        with self._lock:
            self._job(job_id)
            del self._jobs[job_id], self._rows[job_id], self._events[job_id]
            self._webhooks.forget(job_id)
            self._keys = {key: known for key, known in self._keys.items() if known[0] != job_id}

    def job(self, job_id: str) -> Job:
        """See :meth:`JobStore.job`."""
        with self._lock:
            return self._job(job_id)

    def jobs(
        self,
        *,
        tenant: str | None = None,
        states: Collection[JobState] | None = None,
        before: JobPlace | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """See :meth:`JobStore.jobs`."""
        with self._lock:
            found = [
                job
                for job in self._jobs.values()
                if (tenant is None or job.tenant == tenant)
                and (states is None or job.state in states)
                and (before is None or job.place < before)
            ]
        return sorted(found, key=lambda job: job.place, reverse=True)[:limit]

    def progress(self, job_id: str) -> Progress:
        """See :meth:`JobStore.progress`."""
        with self._lock:
            job = self._job(job_id)
            states = Counter(row.item.state for row in self._rows[job_id])
            queued = [row for row in self._all() if row.item.state is ItemState.QUEUED]
            last = max((row.rank for row in queued if row.item.job_id == job_id), default=None)
            ahead = [
                row
                for row in queued
                if last is not None
                and (row.priority > job.priority or (row.priority == job.priority and row.rank <= last))
            ]
            leased = (r for r in self._all() if r.item.state is ItemState.LEASED and r.priority >= job.priority)
            archives = sum(row.item.kind == "expand" for row in (*ahead, *leased))
            return Progress(job, states[ItemState.LEASED], len(ahead), archives)

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
        with self._lock:
            self._job(job_id)
            items = [row.item for row in self._rows[job_id][after + 1 :]]
        wanted = [
            dataclasses.replace(item, result=None, lines=_count_lines(item.result))
            for item in items
            if states is None or item.state in states
        ]
        return wanted[offset : offset + limit]

    def item(self, job_id: str, position: int) -> Item:
        """See :meth:`JobStore.item`."""
        with self._lock:
            self._job(job_id)
            if not 0 <= position < len(self._rows[job_id]):
                raise NotFoundError("the job has no item at this position")
            return self._rows[job_id][position].item

    def results(self, job_id: str, *, after: int = -1, limit: int = 100) -> list[Item]:
        """See :meth:`JobStore.results`."""
        with self._lock:
            self._job(job_id)
            items = [row.item for row in self._rows[job_id][after + 1 :]]
        open_states = (ItemState.QUEUED, ItemState.LEASED)
        return list(itertools.takewhile(lambda item: item.state not in open_states, items))[:limit]

    def events(self, job_id: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """See :meth:`JobStore.events`."""
        with self._lock:
            self._job(job_id)
            return [event for event in self._events[job_id] if event.id > after][:limit]

    def waiting(self) -> int:
        """See :meth:`JobStore.waiting`."""
        with self._lock:
            return sum(row.item.state is ItemState.QUEUED for row in self._all())

    def load(self) -> Load:
        """See :meth:`JobStore.load`."""
        with self._lock:
            jobs = list(self._jobs.values())
        return Load(sum(job.done + job.failed + job.dead for job in jobs), sum(job.remaining for job in jobs))

    def census(self) -> Census:
        """See :meth:`JobStore.census`."""
        with self._lock:
            jobs, items = list(self._jobs.values()), Counter(row.item.state for row in self._all())
            unfinished = [job.created_at for job in jobs if job.remaining]
            oldest_s = max((self._clock() - created_at for created_at in unfinished), default=0.0)
        return Census(Counter(job.state for job in jobs), items, oldest_s)

    def webhook(self, job_id: str) -> Webhook | None:
        """See :meth:`JobStore.webhook`."""
        with self._lock:
            return self._webhooks.get(job_id)

    def claim_deliveries(
        self, *, limit: int = 1, lease_s: float = 60.0, except_to: Collection[str] = ()
    ) -> list[Delivery]:
        """See :meth:`JobStore.claim_deliveries`."""
        with self._lock:
            return self._webhooks.claim(self._jobs, self._clock(), limit, lease_s, except_to)

    def settle_delivery(self, delivery: Delivery, outcome: DeliveryOutcome) -> bool:
        """See :meth:`JobStore.settle_delivery`."""
        with self._lock:
            return self._webhooks.settle(delivery, outcome, self._clock())

    def referenced(self, keys: Iterable[str]) -> set[str]:
        """See :meth:`JobStore.referenced`."""
        with self._lock:
            items = [row.item for row in self._all()]
        refs = {ref for item in items for ref in (item.input_ref, item.result_ref, item.overlay_ref)}
        return set(keys) & refs

    def stored_bytes(self) -> int:
        """See :meth:`JobStore.stored_bytes`."""
        with self._lock:
            return sum(job.stored_bytes for job in self._jobs.values())

    def _ended(self) -> list[tuple[float, str]]:
        return sorted((job.finished_at, job.id) for job in self._jobs.values() if job.finished_at is not None)

    def prune(self, older_than_s: float, keep_on: KeepOn = always, *, by_hand: bool = False) -> int:
        """See :meth:`JobStore.prune`."""
        with self._lock:
            if not by_hand:
                self._pruning = Pruning.after(self._pruning, self._clock(), older_than_s)
                if not self._pruning.allowed:
                    return 0
            deleted = 0
            old = [job_id for finished_at, job_id in self._ended() if finished_at < self._clock() - older_than_s]
            for job_id in while_wanted(old, keep_on):
                self.delete(job_id)
                deleted += 1
            return deleted

    def prune_to_quota(self, max_bytes: int, keep_on: KeepOn = always) -> int:
        """See :meth:`JobStore.prune_to_quota`."""
        with self._lock:
            deleted = 0
            ended = [job_id for _, job_id in self._ended() if not self._is_promised(self._jobs[job_id])]
            for job_id in while_wanted(sorted(ended, key=self._webhooks.is_due), keep_on):
                if self.stored_bytes() <= max_bytes:
                    break
                self.delete(job_id)
                deleted += 1
            return deleted

    def try_writing(self) -> None:
        """See :meth:`JobStore.try_writing`."""

    def watch(self) -> _MemoryWatch:
        """See :meth:`JobStore.watch`."""
        watch = _MemoryWatch()
        self._watches.append(watch)
        return watch

    def stop_retrying(self) -> None:
        """See :meth:`JobStore.stop_retrying`."""

    def close(self) -> None:
        """See :meth:`JobStore.close`."""


def _passed(moment: float | None, now: float, longest_s: float) -> bool:
    return moment is not None and (moment <= now or moment > now + longest_s)


def _lease(row: _Row, job: Job, token: str) -> Lease:
    item = row.item
    return Lease(
        item_id=item.id,
        token=token,
        job_id=item.job_id,
        position=item.position,
        kind=item.kind,
        name=item.name,
        input_ref=item.input_ref or "",
        size_bytes=item.size_bytes,
        options=job.options,
        attempts=item.attempts,
        losses=item.losses,
        deadline=job.deadline,
        lease_until=item.lease_until or 0.0,
    )


def _event_item(row: _Row) -> dict[str, Any]:
    return {"item": {"position": row.item.position, "state": row.item.state.value}}

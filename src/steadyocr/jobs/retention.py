"""Which jobs are thrown away: those that are old, and those that are too much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy import delete, exists, func, not_, select, text

from steadyocr.jobs.database import Tx
from steadyocr.jobs.queries import stored_bytes
from steadyocr.jobs.quota import is_promised
from steadyocr.jobs.schema import fact, job, webhook, webhook_is_due

# Deleting is cut into transactions, so that a big clean-up never holds the write lock for long.
_PRUNED_AT_ONCE: Final = 20
_ITEMS_AT_ONCE: Final = 10_000
# Rounds are at most a day apart; after a longer gap nobody can say whether the time passed or the clock was set.
_GAP_S: Final = 2 * 86_400.0
_AT: Final = "pruned_at"
_FROM: Final = "prune_from"


@dataclass(frozen=True, slots=True)
class Pruning:
    """When jobs are thrown away for their age.

    Not for a whole time of keeping after the clock leapt ahead: a machine without a battery wakes up in 1970, and when
    it learns the time, all that it did seems to be decades old; and whoever finds the clock set wrong can set it right.
    The quota holds all the while.

    Attributes:
        at: The round before this one, by the store's clock.
        begins: From when on they are.
    """

    at: float
    begins: float

    @classmethod
    def after(cls, last: Self | None, now: float, older_than_s: float) -> Self:
        """Return how it stands now, if it stood like this in the round before."""
        kept_s = max(0.0, older_than_s)
        if last is None:
            return cls(now, now)
        if now - last.at > _GAP_S:
            # A wait under way goes on where it was, or a machine that is off at weekends would wait for ever; and one
            # that is on but once a week would too, if of its gaps, long as they seem, nothing counted.
            rest_s = max(0.0, last.begins - last.at - _GAP_S)
            return cls(now, now + (kept_s if last.allowed else min(kept_s, rest_s)))
        # A beginning that was set by a clock ahead of today's would come too late.
        return cls(now, now if last.allowed else min(last.begins, now + kept_s))

    @property
    def allowed(self) -> bool:
        """Whether old jobs may go in this round."""
        return self.at >= self.begins


def prune(tx: Tx, older_than_s: float, *, by_hand: bool = False) -> int:
    """Delete some jobs that ended longer ago than this; returns how many, 0 when none is left."""
    if not by_hand and not _next_round(tx, older_than_s).allowed:
        return 0
    order = (job.c.finished_at, job.c.id)
    before = func.sum(job.c.total).over(order_by=order) - job.c.total
    old = select(job.c.id, before.label("before")).where(job.c.finished_at < tx.now - older_than_s).order_by(*order)
    some = old.limit(_PRUNED_AT_ONCE).subquery()
    chosen = select(some.c.id).where(some.c.before < _ITEMS_AT_ONCE)
    # Said again of the row itself: while this waits for its lock, somebody may have begun it anew.
    ended = job.c.finished_at < tx.now - older_than_s
    return tx.connection.execute(delete(job).where(job.c.id.in_(chosen), ended)).rowcount


def _next_round(tx: Tx, older_than_s: float) -> Pruning:
    rows = tx.connection.execute(select(fact).where(fact.c.name.in_((_AT, _FROM))))
    known = {row.name: float(row.value) for row in rows}
    last = Pruning(known[_AT], known[_FROM]) if len(known) == 2 else None
    pruning = Pruning.after(last, tx.now, older_than_s)
    keep_facts(tx, {_AT: pruning.at, _FROM: pruning.begins})
    return pruning


def keep_facts(tx: Tx, facts: Mapping[str, float]) -> None:
    """Keep numbers by their names, in the place of older ones. Nodes may do so side by side."""
    store = text(
        "INSERT INTO fact (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    )
    tx.connection.execute(store, [{"name": name, "value": repr(value)} for name, value in sorted(facts.items())])


def prune_to_quota(tx: Tx, max_bytes: int) -> int:
    """Delete the job that ended longest ago if all jobs together take more than this; returns how many it deleted.

    Jobs whose end has still to be told go last: whoever waits for word would wait for ever. Jobs that have not ended
    are never deleted and those that ended just now are spared, so the quota can stay exceeded. After the clock was
    set nobody can say which these are, so then all are spared for as long.
    """
    if tx.steady_s < tx.config.grace_s or stored_bytes(tx) <= max_bytes:
        return 0
    ended = job.c.finished_at.is_not(None) & not_(is_promised(tx))
    untold = exists().where(webhook.c.job_id == job.c.id, webhook_is_due)
    for which in (ended & ~untold, ended):
        oldest = select(job.c.id).where(which).order_by(job.c.finished_at).limit(1)
        if deleted := tx.connection.execute(delete(job).where(job.c.id.in_(oldest), ended)).rowcount:
            return deleted
    return 0

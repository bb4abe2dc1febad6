"""What can be set about jobs. Plain values; the settings give theirs in."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Final

# An item that is put back because the service is busy waits no longer than this.
_LONGEST_RELEASE_S: Final = 60.0
# A lease that seems to run longer than this, or twice as long as any, was written before the clock was set back.
_LONGEST_LEASE_S: Final = 600.0
# Clients have this long to fetch results before the quota may take them.
GRACE_S: Final = 3600.0


def longest_lease_s(lease_s: float) -> float:
    """Return how long a lease may be at most, where this is how long they are; nodes need not agree exactly."""
    return max(2 * lease_s, _LONGEST_LEASE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """How patient the store is.

    Attributes:
        max_attempts: Bad runs after which an item is dead.
        max_losses: Lost leases after which an item is dead. More than attempts: a node may die for reasons of its
            own, and several times in a row.
        backoff_first_s: Wait after the first bad run, in seconds; doubled each time.
        backoff_max_s: Longest wait, in seconds.
        max_items: Items that one job may hold, expansions included.
        max_events: Events kept for a job.
        min_free_bytes: Free disk space below which new jobs are refused (SQLite only; 0 switches it off).
        max_stored_bytes: Bytes of unfinished jobs and of promised results above which new jobs are refused (0 switches
            it off).
        grace_s: For how long after its end the results of a job are promised, and the quota does not touch them.
    """

    max_attempts: int = 3
    max_losses: int = 5
    backoff_first_s: float = 2.0
    backoff_max_s: float = 60.0
    max_items: int = 10_000
    max_events: int = 1000
    min_free_bytes: int = 0
    max_stored_bytes: int = 0
    grace_s: float = GRACE_S

    @property
    def longest_delay_s(self) -> float:
        """How long an item waits at most; one that seems to wait longer was written before the clock was set back."""
        return max(self.backoff_max_s, _LONGEST_RELEASE_S)

    def backoff_s(self, tries: int) -> float:
        """How long an item waits after this many bad runs."""
        return min(self.backoff_first_s * 2.0 ** min(tries - 1, 32), self.backoff_max_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """What an archive may be at most.

    Attributes:
        max_entries: Files in it, directories included.
        max_entry_bytes: One file, unpacked.
        max_total_bytes: All files, unpacked.
        max_ratio: Unpacked size over packed size of one file above a megabyte.
    """

    max_entries: int = 10_000
    max_entry_bytes: int = 32 << 20
    max_total_bytes: int = 4 << 30
    max_ratio: float = 250.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerConfig:
    """How a runner works.

    Attributes:
        slots: Items in hand at the same time. One more than engines keeps them busy while outcomes are written; with
            two more, one always waits, and engines need not tidy up between two (``EngineConfig.scratch_bytes``).
        lease_s: How long an item stays with a runner that gives no sign, in seconds.
        poll_s: Longest wait between two looks for work, in seconds.
        pause_s: Wait after the service refused an item for being busy, when it does not say how long, in seconds.
        inline_result_bytes: A larger result is stored as a blob.
        archive: What an archive may be.
    """

    slots: int = 2
    lease_s: float = 30.0
    poll_s: float = 1.0
    pause_s: float = 1.0
    inline_result_bytes: int = 32 << 10
    archive: ArchiveLimits = field(default_factory=ArchiveLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionConfig:
    """How long and how much is kept.

    Attributes:
        keep_s: Ended jobs are deleted after this, in seconds.
        max_bytes: Ended jobs are deleted, oldest first, while all jobs together take more than this; those that ended
            just now are spared (:attr:`StoreConfig.grace_s`).
        orphan_age_s: Blobs that nobody refers to are deleted after this, in seconds; longer than any upload takes.
        interval_s: Time between two rounds, in seconds.
    """

    keep_s: float = 7 * 24 * 3600.0
    max_bytes: int = 20 << 30
    orphan_age_s: float = 3600.0
    interval_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """How ends of jobs are told to their clients.

    Attributes:
        secret: What deliveries are signed with.
        networks: Networks that are not public and may be told all the same.
        max_attempts: Tries after which a delivery is given up.
        timeout_s: One try, from the look-up of the name to the answer, in seconds.
        backoff_first_s: Wait after the first failed try, in seconds; four times as long after each further one.
        backoff_max_s: Longest wait, in seconds.
        poll_s: Time between two looks for what is due, in seconds.
        at_once: Deliveries under way at the same time.
    """

    secret: bytes = field(repr=False)
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    max_attempts: int = 8
    timeout_s: float = 10.0
    backoff_first_s: float = 10.0
    backoff_max_s: float = 3600.0
    poll_s: float = 2.0
    at_once: int = 4

    def backoff_s(self, tries: int) -> float:
        """How long a delivery waits after this many failed tries."""
        return min(self.backoff_first_s * 4.0 ** min(tries - 1, 16), self.backoff_max_s)

"""What a database error means: worth another try at once, worth one later, or a fault of ours."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from steadyocr.errors import InsufficientStorage, InternalError, SteadyOCRError, Unavailable

_RETRY_AFTER_S: Final = 5.0
_SQLITE_CONTENTION: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SQLITE_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SQLITE_OUTAGE: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
# PostgreSQL's Appendix A: connection lost, transaction rolled back by the server, resources short, server going away.
_PG_TRANSIENT_CLASSES: Final = ("08", "40", "53", "57")
# Further states that are transient: a lock not to be had in time; a session ended by the server for standing still.
_PG_TRANSIENT: Final = frozenset({"55P03", "25P03", "25P04"})
# A server that has become a standby, or whose disk is full.
_PG_READ_ONLY: Final = "25006"
_PG_DISK_FULL: Final = "53100"


@dataclass(frozen=True, slots=True)
class Fault:
    """A database error, understood.

    Attributes:
        error: What callers see.
        transient: Whether the same transaction may well succeed when repeated at once.
        elsewhere: The connection leads to a server that is not the right one any more; only a new one may help.
    """

    error: SteadyOCRError
    transient: bool
    elsewhere: bool = False


def _unreachable() -> Unavailable:
    return Unavailable("the job store cannot be used at the moment; try again later", retry_after_s=_RETRY_AFTER_S)


def _damaged() -> Unavailable:
    return Unavailable(
        "the file of the job store is damaged; its operator must repair it or put a backup in its place",
        retry_after_s=_RETRY_AFTER_S,
        damaged=True,
    )


def _full() -> InsufficientStorage:
    return InsufficientStorage("the disk of the job store is full; free some space", retry_after_s=60.0)


def understand(error: SQLAlchemyError) -> Fault:
    """Tell what an error of the database or its driver means."""
    if isinstance(error, PoolTimeout):
        return Fault(_unreachable(), transient=True)
    if not isinstance(error, DBAPIError):
        return _ours()
    if isinstance(error.orig, sqlite3.Error):
        return _understand_sqlite(error.orig)
    return _understand_postgres(error)


def without_values(error: SQLAlchemyError) -> None:
    """Take out of an error what it quotes of a row: names that clients gave to their files, and texts that were read.

    PostgreSQL adds it in lines of its own, after the one that says what is wrong.
    """
    broken: list[BaseException | None] = [error, error.orig if isinstance(error, DBAPIError) else None]
    for each in broken:
        if each is not None and each.args:
            each.args = (str(each.args[0]).partition("\n")[0], *each.args[1:])


def _understand_sqlite(error: sqlite3.Error) -> Fault:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _SQLITE_CONTENTION:
        return Fault(_unreachable(), transient=True)
    if code == sqlite3.SQLITE_FULL:
        return Fault(_full(), transient=False)
    if code in _SQLITE_DAMAGED:
        return Fault(_damaged(), transient=False)
    if code in _SQLITE_OUTAGE:
        return Fault(_unreachable(), transient=False)
    return _ours()


def _understand_postgres(error: DBAPIError) -> Fault:
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state == _PG_DISK_FULL:
        return Fault(_full(), transient=False)
    if state is None:
        # Without a word from the server only a broken connection is transient; the rest is the driver refusing us.
        lost = error.connection_invalidated or type(error.orig).__name__ in ("OperationalError", "ConnectionTimeout")
        return Fault(_unreachable(), transient=True) if lost else _ours()
    if state.startswith(_PG_TRANSIENT_CLASSES) or state in _PG_TRANSIENT or error.connection_invalidated:
        return Fault(_unreachable(), transient=True)
    if state == _PG_READ_ONLY:
        return Fault(_unreachable(), transient=False, elsewhere=True)
    return _ours()


def _ours() -> Fault:
    return Fault(InternalError("the job store refused a statement; the log has the reason"), transient=False)

"""The store for an event loop.

The store blocks: on a disk flush for milliseconds, on another process's write lock or a dead server for seconds. So
its calls run in a few threads that belong to this object, have a name, and end with it. There is no second, async
copy of the interface to keep in step: :meth:`AsyncJobStore.run` takes a method of the store and its arguments, and
the types come out right.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from steadyocr.errors import InternalError, QueueFull, Unavailable
from steadyocr.jobs.quota import NoRoom
from steadyocr.jobs.store import READS, JobStore

P = ParamSpec("P")
T = TypeVar("T")

_MAX_PENDING: Final = 256
_WATCH_PIECE_S: Final = 5.0


class AsyncJobStore:
    """A job store whose calls do not block the event loop. Belongs to the loop it is made in.

    Args:
        store: What does the work. It is closed together with this.
        threads: Calls that may run at the same time.
        max_pending: Calls that may be under way or wait for a thread; one more is refused.

    Attributes:
        changes: Counts the changes seen in the store so far, whoever made them.
        trouble: Why the store could not be used when it was last tried; ``None`` while it works. That reading works
            does not end trouble with writing, nor does a call that had nothing to write, and a damaged file stays one.
    """

    def __init__(self, store: JobStore, *, threads: int = 2, max_pending: int = _MAX_PENDING) -> None:
        self.store = store
        self.changes = 0
        self.trouble: Unavailable | None = None
        self._only_reading = False
        self._proof: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="job-store")
        self._pending = 0
        self._max_pending = max_pending
        self._change = asyncio.Event()
        self._watch = store.watch()
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch_store, name="job-watch", daemon=True)
        self._watcher.start()

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call in a thread: ``await jobs.run(jobs.store.job, job_id)``.

        A call that was started runs to its end even if nobody waits for it any more; when this closes, it is not tried
        again, and one that waits for a thread is given up: with a silent server each try may take its whole time limit.

        Raises:
            QueueFull: Too many calls wait already.
            Unavailable: It was closed meanwhile.
            SteadyOCRError: What the call raises.
        """
        if self._pending >= self._max_pending:
            raise QueueFull("the job store is busy; try again later", retry_after_s=1.0)
        self._pending += 1
        running = self._loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))
        reads = getattr(call, "__name__", "") in READS
        running.add_done_callback(lambda done: self._note_end(done, reads))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if running.cancelled():
                raise Unavailable("the job store is closed") from None
            raise

    def _note_end(self, running: asyncio.Future[T], reads: bool) -> None:
        self._pending -= 1
        if running.cancelled():
            return
        # Whoever waited has had it, or has gone.
        error = running.exception()
        if self._is_damaged():
            return
        if isinstance(error, Unavailable) and not isinstance(error, NoRoom):
            # Trouble with writing is the greater one.
            if self.trouble is None or self._only_reading or not reads:
                self.trouble, self._only_reading = error, reads
        elif self.trouble is None or isinstance(error, InternalError) or (reads and not self._only_reading):
            return
        elif self._only_reading or (error is None and running.result()):
            self.trouble = None
        elif self._proof is None and not self._closing.is_set():
            # It had nothing to write, or refused to: on a full disk, asking for work that is not there goes on working.
            self._proof = self._loop.run_in_executor(self._threads, self.store.try_writing)
            self._proof.add_done_callback(self._note_proof)

    def _note_proof(self, proof: asyncio.Future[None]) -> None:
        self._proof = None
        if not proof.cancelled() and proof.exception() is None and not self._only_reading and not self._is_damaged():
            self.trouble = None

    def _is_damaged(self) -> bool:
        return self.trouble is not None and bool(self.trouble.details.get("damaged"))

    async def changed(self, since: int, timeout_s: float) -> None:
        """Wait until :attr:`changes` is no more what it was, or until the time is up."""
        if self.changes == since:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._change.wait()

    def _watch_store(self) -> None:
        while not self._closing.is_set():
            # The loop may be closed already when its owner forgot to close this.
            with contextlib.suppress(RuntimeError):
                if self._watch.wait(_WATCH_PIECE_S):
                    self._loop.call_soon_threadsafe(self._note_change)

    def _note_change(self) -> None:
        self.changes += 1
        # Wakes everybody who waits now; who comes later waits for the next change.
        self._change.set()
        self._change = asyncio.Event()

    async def close(self) -> None:
        """End the threads and close the store. Safe to call twice."""
        self._closing.set()
        self.store.stop_retrying()
        await self._loop.run_in_executor(None, self._end_threads)

    def _end_threads(self) -> None:
        self._watch.close()
        self._watcher.join()
        self._threads.shutdown(cancel_futures=True)
        self.store.close()

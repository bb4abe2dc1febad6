"""The laboratory: fine-tuning and export, each in a process of its own that never harms serving.

A run ends with the service: it is asked to, writes its checkpoint and can be resumed. Nothing goes on unowned, and a
service that starts finds what did not end properly, ends it and says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import BackendUnavailable, ConflictError, NotReady
from steadyocr.runtime.manifest import BUILTIN_MODELS
from steadyocr.service import lab_exports, lab_gate, lab_runs
from steadyocr.service.lab_adoption import Adoption
from steadyocr.service.lab_child import Child, Ending, end_leftover, start_ticks
from steadyocr.service.lab_datasets import Datasets
from steadyocr.service.lab_records import LOG_NAME, WORK_NAME, Record, Records, State
from steadyocr.settings import Settings

_log = logging.getLogger("steadyocr.lab")

_DEFAULT_BASE: Final = "resnet18-db"

# Writes down how something ended, from its folder.
End = Callable[[Record, Ending, Path], None]


class Lab:
    """Owns all runs and exports, and their processes.

    Args:
        settings: The whole tree.
        change_detector: Makes another model the serving detector, or raises and changes nothing.

    Attributes:
        datasets: The data sets.
        runs: Records of fine-tuning.
        exports: Records of exports.
    """

    def __init__(self, settings: Settings, change_detector: Callable[[str], Awaitable[None]]) -> None:
        self._settings = settings
        root = settings.data_dir / "lab"
        lab = settings.lab
        self._limits = lab_gate.limits_of(lab)
        self._threads = lab_gate.threads_of(lab)
        self._environment = lab_gate.environment_of(settings.data_dir, self._threads)
        self.datasets = Datasets(
            lab.datasets_root(settings.data_dir), root / "scratch", self._limits, self._environment
        )
        self.runs = Records(root / "runs", max_count=lab.max_runs, max_bytes=lab.max_bytes)
        self.exports = Records(root / "exports", max_count=lab.max_exports, max_bytes=lab.max_bytes)
        self._adoption = Adoption(settings, self._limits, self._environment, change_detector)
        self._children: dict[str, Child] = {}
        # Bytes that each run or export under way was predicted to take; at its start it holds next to nothing yet.
        self._reserved: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loaded = False
        self._closed = False

    @property
    def user_models(self) -> Path:
        """Folder of the user's own models."""
        return self._settings.data_dir / "models"

    @property
    def places(self) -> tuple[tuple[Path, str], ...]:
        """Folders of this machine that logs name, and what clients see instead."""
        return ((self.datasets.root, "datasets/"), (self._settings.data_dir, ""), (BUILTIN_MODELS, "models/"))

    def unavailable_reason(self) -> str:
        """Why nothing can be done here; empty when something can."""
        return lab_gate.unavailable_reason(self._settings.lab)

    def default_base(self) -> str:
        """The model that fine-tuning starts from when nobody says: the one in use, or the one shipped for it."""
        models = lab_runs.base_models(self.user_models)
        used = self._adoption.serving
        return used if used in models else next(iter([_DEFAULT_BASE, *models]))

    async def load(self) -> None:
        """Take up the records of an earlier process; what it did not see the end of is ended and marked.

        Raises:
            OSError: They cannot be read now. Nothing is started before they can; it can be tried again at any time.
        """
        # All are read before anything is done, which is then done once.
        left = [(records, await asyncio.to_thread(records.load)) for records in (self.runs, self.exports)]
        for records, open_ones in left:
            for record in open_ones:
                await end_leftover(record.pid, record.ticks)
                record.end(State.INTERRUPTED, "the service ended while this ran")
                records.save(record)
                _log.warning("Something in the laboratory was cut off by the end of the service")
        for record in self.runs.newest_first():
            if self._adoption.settle(record):
                self.runs.save(record)
        self._loaded = True

    async def stop(self) -> None:
        """Ask everything that runs to end, and wait until it has."""
        self._closed = True
        for records in (self.runs, self.exports):
            for record in records.newest_first():
                if not record.state.ended:
                    self._ask_to_stop(record)
        self._adoption.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def report(self, name: str) -> dict[str, Any]:
        """Check a data set.

        Raises:
            SteadyOCRError: See :meth:`start_run` and :meth:`~steadyocr.service.lab_datasets.Datasets.report`.
        """
        self._refuse_unavailable()
        return await self.datasets.report(name)

    # Runs

    def start_run(self, values: Mapping[str, Any]) -> Record:
        """Start fine-tuning.

        Raises:
            BackendUnavailable: The packages for it are not there.
            NotReady: The service has only just started.
            InvalidOption: The parameters are wrong.
            NotFoundError: There is no such data set.
            ConflictError: A run is under way.
            MemoryPressure: Memory is short.
            InsufficientStorage: The disk is full.
        """
        self._refuse_unavailable()
        models = lab_runs.base_models(self.user_models)
        params = lab_runs.parse_run(values, models, self.default_base())
        dataset = self.datasets.folder(params["dataset"])
        self._refuse_second(self.runs, "a run")
        needed = lab_gate.training_bytes(params["batch_size"], params["crop_size"])
        self._refuse_short_memory(needed)
        record = self.runs.create(params)
        work = self.runs.folder(record) / WORK_NAME
        command = lab_runs.train_command(dataset, models[params["base_model"]], work, params, self._threads)
        self._start(self.runs, record, [command], lab_runs.end_run, needed)
        return record

    def resume_run(self, run_id: str) -> Record:
        """Go on with a run.

        Raises:
            ConflictError: It cannot be gone on with, or another is under way.
            SteadyOCRError: See :meth:`start_run`.
        """
        self._refuse_unavailable()
        record = self.runs.get(run_id)
        folder = self.runs.folder(record)
        lab_runs.refuse_resume(record, folder)
        self._refuse_second(self.runs, "a run")
        params = record.params
        needed = lab_gate.training_bytes(params["batch_size"], params["crop_size"])
        self._refuse_short_memory(needed)
        command = lab_runs.resume_command(folder / WORK_NAME)
        self._start(self.runs, record, [command], lab_runs.end_run, needed, resumed=True)
        return record

    def cancel(self, records: Records, record_id: str) -> Record:
        """Ask a run or an export to end.

        Raises:
            ConflictError: It has ended already.
        """
        record = records.get(record_id)
        if record.state.ended:
            raise ConflictError(f"this has ended already ({record.state})")
        self._ask_to_stop(record)
        return record

    def _ask_to_stop(self, record: Record) -> None:
        record.state = State.STOPPING
        if record.id in self._children:
            self._children[record.id].ask_to_stop()

    def use_run(self, run_id: str, name: str | None) -> Record:
        """Make a run's best weights the serving detector; goes on in the background, see the record's ``use``.

        Raises:
            ConflictError: It has no weights yet, the name is that of another model, or another is being changed to.
            InvalidOption: The name cannot be a model's.
            MemoryPressure: Memory is short.
        """
        self._refuse_unavailable()
        record = self.runs.get(run_id)
        best = self.runs.folder(record) / WORK_NAME / lab_runs.BEST_NAME
        if not record.state.ended or not best.is_file():
            raise ConflictError("only a run that has ended, with weights to show for it, can be used")
        self._refuse_short_memory(lab_gate.export_bytes())
        work = self._adoption.begin(record, best, name, lambda: self.runs.save(record))
        self._keep(self._holding(f"use-{record.id}", lab_gate.export_bytes(), work), f"lab-use-{record.id}")
        return record

    def go_back(self, run_id: str) -> Record:
        """Serve again with what served before this run's weights; goes on in the background, see its ``use``.

        Raises:
            ConflictError: They do not serve, nothing is known of before, or another change is under way.
        """
        self._refuse_unavailable()
        record = self.runs.get(run_id)
        folder = self.runs.folder(record) / WORK_NAME
        work = self._adoption.begin_back(record, folder, lambda: self.runs.save(record))
        self._keep(work, f"lab-back-{record.id}")
        return record

    def can_go_back(self, record: Record) -> bool:
        """Whether a run's weights serve, and it is known what did before."""
        return self._adoption.can_go_back(record)

    # Exports

    def start_export(self, values: Mapping[str, Any]) -> Record:
        """Start an export.

        Raises:
            SteadyOCRError: See :meth:`start_run`.
        """
        self._refuse_unavailable()
        params = lab_exports.parse_export(values)
        source = self._source(params["model"])
        calibration = self.datasets.folder(params["dataset"]) if params["dataset"] else None
        self._refuse_second(self.exports, "an export")
        needed = lab_gate.export_bytes()
        self._refuse_short_memory(needed)
        record = self.exports.create(params)
        record.facts["size"] = lab_exports.snapped(params)
        folder = self.exports.folder(record)
        commands = lab_exports.commands(source, folder, params, calibration, self._threads)
        self._start(self.exports, record, commands, lab_exports.end_export, needed)
        return record

    def _source(self, name: str) -> Path:
        """The folder of a model, or the weights of a run."""
        models = lab_runs.base_models(self.user_models)
        if name in models:
            return models[name]
        best = self.runs.folder(self.runs.get(name)) / WORK_NAME / lab_runs.BEST_NAME
        if not best.is_file():
            raise ConflictError("this run has no weights yet")
        return best

    # Processes

    def _refuse_unavailable(self) -> None:
        reason = self.unavailable_reason()
        if reason:
            raise BackendUnavailable(reason)
        if self._closed:
            raise ConflictError("the service is stopping")
        if not self._loaded:
            # What began now would be taken for something that an earlier process left, and ended.
            raise NotReady("what an earlier process left is still looked through", retry_after_s=1.0)

    def _refuse_second(self, records: Records, what: str) -> None:
        if any(not record.state.ended for record in records.newest_first()):
            raise ConflictError(f"{what} is under way already, and there is one at a time; wait for it or cancel it")

    def _refuse_short_memory(self, needed_bytes: int) -> None:
        """Refuse what would not fit beside all that runs, once that has grown to what it was predicted to take."""
        held = {record_id: child.memory_bytes() for record_id, child in self._children.items()}
        growing = sum(max(0, most - held.get(record_id, 0)) for record_id, most in self._reserved.items())
        lab_gate.refuse_short_memory(self._settings.lab, needed_bytes, growing)

    def _start(
        self,
        records: Records,
        record: Record,
        commands: Sequence[Sequence[str]],
        end: End,
        needed_bytes: int,
        *,
        resumed: bool = False,
    ) -> None:
        """Run commands one after the other in the background, until one fails; the record says how it went."""
        if resumed:
            record.reopen()
        self._reserved[record.id] = needed_bytes
        self._keep(self._work(records, record, commands, end), f"lab-{record.id}")

    async def _work(self, records: Records, record: Record, commands: Sequence[Sequence[str]], end: End) -> None:
        try:
            ending = Ending(0, "")
            for command in commands:
                ending = await self._run(records, record, command)
                if ending.reason or ending.code:
                    break
            if self._closed and ending.reason:
                record.end(State.INTERRUPTED, "the service was stopped while this ran")
            else:
                await asyncio.to_thread(end, record, ending, records.folder(record))
        except Exception:  # noqa: BLE001 - whatever it was, the record must not stay open
            _log.exception("Something in the laboratory failed unexpectedly")
            record.end(State.FAILED, "an unexpected fault; the service's log has the trace")
        finally:
            del self._reserved[record.id]
            if not record.state.ended:  # this task was given up itself
                record.end(State.INTERRUPTED, "the service ended while this ran")
            records.save(record)
        records.sweep()

    @staticmethod
    def _asked_to_stop(record: Record) -> bool:
        # A call, because the state changes behind the back of who awaits.
        return record.state is State.STOPPING

    async def _run(self, records: Records, record: Record, command: Sequence[str]) -> Ending:
        if self._asked_to_stop(record):
            return Ending(0, "asked")
        child = Child(command, records.folder(record) / LOG_NAME, self._environment, self._limits)
        await child.start()
        self._children[record.id] = child
        try:
            record.pid = child.pid or 0
            record.ticks = start_ticks(record.pid)
            if self._asked_to_stop(record):  # while it was started
                child.ask_to_stop()
            saved = records.save(record)
            if not saved:
                # After a crash nobody would know of it.
                child.ask_to_stop()
            ending = await child.wait()
            return ending if saved or not ending.reason else Ending(ending.code, "disk")
        finally:
            del self._children[record.id]

    async def _holding(self, name: str, needed_bytes: int, work: Coroutine[Any, Any, None]) -> None:
        """Keep memory for work whose process is not among the children, for as long as it goes on."""
        self._reserved[name] = needed_bytes
        try:
            await work
        finally:
            del self._reserved[name]

    def _keep(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

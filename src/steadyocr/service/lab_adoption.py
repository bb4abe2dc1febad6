"""Making a run's weights the serving detector: imported, checked, swapped in while serving, written into the settings.

The engines prove the new model with the golden picture before an old one leaves, and all go back when one fails; only
then is the settings file changed, so a restart serves what serves now.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import ConflictError, InternalError, InvalidOption, SteadyOCRError
from steadyocr.runtime.manifest import BUILTIN_MODELS
from steadyocr.service.lab_child import Child, Limits, read_tail
from steadyocr.service.lab_records import Record
from steadyocr.settings import ENV_PREFIX, Settings

_log = logging.getLogger("steadyocr.lab")

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VARIABLE: Final = f"{ENV_PREFIX}MODELS__DETECTOR"
_DONE: Final = frozenset({"done", "failed"})
# Fact of a record: the names under which a run's weights have become models.
_IMPORTED: Final = "imported"

Work = Coroutine[Any, Any, None]


class Adoption:
    """One change of the serving model at a time.

    Attributes:
        serving: Name of the detector in use.

    Args:
        settings: The whole tree.
        limits: What the importing process may take.
        environment: Of that process.
        change_detector: Makes another model the serving detector, or raises and changes nothing.
    """

    def __init__(
        self,
        settings: Settings,
        limits: Limits,
        environment: dict[str, str],
        change_detector: Callable[[str], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._environment = environment
        self._change_detector = change_detector
        self.serving = settings.models.detector
        self._child: Child | None = None
        self._busy = False
        self._cancelled = False

    def begin(self, record: Record, best: Path, name: str | None, save: Callable[[], object]) -> Work:
        """Check the wish; returns the work, to be run in the background.

        Raises:
            InvalidOption: The name cannot be a model's of a user.
            ConflictError: The name is that of a model that was not made of this run, or another change is under way.
        """
        first, second = _own_names(record)
        # Weights that serve are not written over: the new ones may not prove themselves.
        wanted = name or (first if first != self.serving else second)
        if wanted == self.serving:
            raise ConflictError(
                "a model of this name serves now, and goes on until the new one is proven; take another"
            )
        if not _NAME.fullmatch(wanted) or (BUILTIN_MODELS / wanted).exists():
            raise InvalidOption(
                "a model name has at most 64 small letters, digits, '.', '_' and '-', starts with a letter or digit "
                "and is not that of a built-in model",
                option="name",
            )
        self._refuse_others_model(wanted, record)
        self._refuse_second()
        return self._adopt(record, wanted, save, best.parent, best)

    def _refuse_others_model(self, name: str, record: Record) -> None:
        """Write over no model but what this run's own weights were imported as: the others may be nowhere else."""
        if name == self._settings.models.recogniser:
            raise ConflictError("the recogniser has this name; take another")
        taken = os.path.lexists(self._settings.data_dir / "models" / name)
        if taken and name not in {*_own_names(record), *_imported(record)}:
            raise ConflictError("there is another model of this name, which is not written over; take another name")

    def begin_back(self, record: Record, folder: Path, save: Callable[[], object]) -> Work:
        """Serve again with what served before a run's weights; returns the work, to be run in the background.

        Raises:
            ConflictError: They do not serve, nothing is known of before, or another change is under way.
        """
        use = record.facts.get("use") or {}
        if not self.can_go_back(record):
            raise ConflictError("only while a run's model serves can the one before it be taken back")
        self._refuse_second()
        return self._adopt(record, str(use["before"]), save, folder, None)

    def can_go_back(self, record: Record) -> bool:
        """Whether a run's weights serve, and it is known what did before."""
        use = record.facts.get("use") or {}
        return use.get("state") == "done" and use.get("model") == self.serving and bool(use.get("before"))

    def _refuse_second(self) -> None:
        if self._busy:
            raise ConflictError("the serving model is being changed already; wait for that to end")
        self._busy = True

    def cancel(self) -> None:
        """Give up what has not been swapped in yet."""
        self._cancelled = True
        if self._child is not None:
            self._child.ask_to_stop()

    def settle(self, record: Record) -> bool:
        """Mark a change that an earlier process did not finish; returns whether there was one."""
        use = record.facts.get("use")
        if not use or use["state"] in _DONE:
            return False
        record.facts["use"] = {**use, "state": "failed", "reason": "the service ended before the change was done"}
        return True

    async def _adopt(
        self, record: Record, name: str, save: Callable[[], object], folder: Path, best: Path | None
    ) -> None:
        """Change to a model; with weights to import there is a way back to the one before."""
        before = self.serving if best is not None and self.serving != name else ""
        imported = _imported(record)

        def now(state: str, reason: str = "") -> None:
            record.facts["use"] = {"state": state, "model": name, "reason": reason, "before": before}
            save()

        try:
            if best is not None:
                now("importing")
                # One that has come up since is not written over either.
                replace = ("--replace",) if name in {*_own_names(record), *imported} else ()
                await self._command(folder, "models", "import", str(best), "--name", name, *replace)
                record.facts[_IMPORTED] = sorted({*imported, name})
            now("swapping")
            await self._change_detector(name)
            self.serving = name
            now("done", await self._write_down(folder, name))
        except SteadyOCRError as error:
            _log.warning("A model from the laboratory does not serve", extra={"code": error.code})
            now("failed", f"{error.message}; the model that served before goes on")
        except Exception:  # noqa: BLE001 - whatever it was, the record must not stay open
            _log.exception("Changing to a model from the laboratory failed unexpectedly")
            now("failed", "an unexpected fault; the service's log has the trace")
        finally:
            self._busy = False

    async def _write_down(self, folder: Path, name: str) -> str:
        """Make it the detector of the next start too; returns why that is not so."""
        if os.environ.get(_VARIABLE, name) != name:
            return f"until the next start: the environment variable {_VARIABLE} names another"
        file = self._settings.file
        given = ("--config", str(file)) if file is not None and file.is_file() else ()
        try:
            await self._command(folder, "models", "use", name, *given)
        except SteadyOCRError:
            return "until the next start: the settings file could not be changed"
        return ""

    async def _command(self, folder: Path, *words: str) -> None:
        """Run one of our own commands.

        Raises:
            InternalError: It failed; with its last words.
        """
        log = folder.parent / "use.log"
        log.unlink(missing_ok=True)
        self._child = Child((sys.executable, "-m", "steadyocr", *words), log, self._environment, self._limits)
        if self._cancelled:
            raise InternalError("the service is stopping")
        await self._child.start()
        ending = await self._child.wait()
        if ending.code or ending.reason:
            said = read_tail(log, 2048).decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise InternalError(f"the weights could not be taken over: {said[:300]}".replace(f"{folder}/", ""))


def _own_names(record: Record) -> tuple[str, str]:
    """The names that a run's weights get where nobody chooses one; the second one while the first serves."""
    base = f"lab-{record.id}"
    return base, f"{base}-2"


def _imported(record: Record) -> set[str]:
    """The names under which a run's weights were imported."""
    listed = record.facts.get(_IMPORTED)
    names = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
    # Older versions kept no list. A way back from it tells an import from a return to what served before.
    use = record.facts.get("use") or {}
    if use.get("state") == "done" and use.get("before"):
        names.add(str(use.get("model")))
    return names

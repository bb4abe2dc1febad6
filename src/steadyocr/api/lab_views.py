"""What clients see of the laboratory's records. No path of this machine is in it."""

from __future__ import annotations

from typing import Any

from steadyocr.service.lab import Lab
from steadyocr.service.lab_records import WORK_NAME, Record
from steadyocr.service.lab_runs import BEST_NAME, can_resume, progress_of, tail_of_log


def run_in_short(lab: Lab, record: Record) -> dict[str, Any]:
    """Return a run's state without curve and log."""
    folder = lab.runs.folder(record)
    ended = record.state.ended
    return {
        **_common(record),
        "resumable": can_resume(record, folder),
        "usable": ended and (folder / WORK_NAME / BEST_NAME).is_file(),
        "use": record.facts.get("use"),
        "undoable": lab.can_go_back(record),
    }


def run_view(lab: Lab, record: Record) -> dict[str, Any]:
    """Return all of a run."""
    folder = lab.runs.folder(record)
    return {
        **run_in_short(lab, record),
        **progress_of(record, folder),
        "log": [_without_paths(line, lab) for line in tail_of_log(folder)],
    }


def is_over(record: Record) -> bool:
    """Whether nothing will change any more."""
    use = record.facts.get("use")
    return record.state.ended and (not use or use["state"] in ("done", "failed"))


def export_view(lab: Lab, record: Record) -> dict[str, Any]:
    """Return all of an export."""
    facts = record.facts
    return {
        **_common(record),
        "size": facts.get("size"),
        "file": facts.get("file"),
        "file_url": f"v1/lab/exports/{record.id}/file" if facts.get("file") else None,
        "bytes": facts.get("bytes"),
        "sha256": facts.get("sha256"),
        "parity": facts.get("parity"),
        "speed": facts.get("speed"),
        "log": [_without_paths(line, lab) for line in tail_of_log(lab.exports.folder(record))],
    }


def _common(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "state": record.state.value,
        "reason": record.reason,
        "params": record.params,
        "created_at": record.created_at,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
    }


def _without_paths(line: str, lab: Lab) -> str:
    for folder, name in lab.places:
        line = line.replace(f"{folder}/", name).replace(str(folder), name)
    return line

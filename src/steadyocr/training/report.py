"""A data folder's check as JSON, for who may not import it: ``python -m steadyocr.training.report FOLDER``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import SteadyOCRError
from steadyocr.training.checker import Problem, Report, check_folder
from steadyocr.training.label_lines import Finding

_MAX_PROBLEMS: Final = 200
_ORDER: Final = {"error": 0, "warning": 1, "note": 2}


def report_of(folder: Path) -> dict[str, Any]:
    """Check a folder; counts, and the first problems with the worst ahead. Paths are relative to the folder.

    Raises:
        DatasetError: Nothing in it is a data set.
    """
    report = check_folder(folder)
    notes = _unjudged(folder)
    problems = sorted((*report.problems, *notes), key=lambda problem: _ORDER[problem.finding.severity])
    return {
        "pictures": report.pictures,
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "notes": report.count("note") + len(notes),
        "usable": _usable(report),
        "problems": [_plain(problem, folder) for problem in problems[:_MAX_PROBLEMS]],
        "left_out": max(0, len(problems) - _MAX_PROBLEMS),
    }


def _unjudged(folder: Path) -> list[Problem]:
    """A run's curve of H-mean would stay empty, and nothing would say why."""
    path = folder / "test_list.txt"
    if path.is_file():
        return []
    message = "no pictures to judge by, so that no H-mean is measured; 'steadyocr dataset split' sets some aside"
    return [Problem(path, None, Finding("not_judged", "note", message))]


def _usable(report: Report) -> bool:
    return report.pictures > 0 and not report.count("error")


def _plain(problem: Problem, folder: Path) -> dict[str, Any]:
    path = problem.path
    return {
        "file": path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name,
        "line": problem.line,
        "kind": problem.finding.kind,
        "severity": problem.finding.severity,
        "message": problem.finding.message.replace(f"{folder}/", ""),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report, or what is wrong with the folder as a whole; returns the exit status."""
    (folder,) = sys.argv[1:] if arguments is None else arguments
    try:
        answer = report_of(Path(folder))
    except SteadyOCRError as error:
        answer = {"error": error.message.replace(f"{folder}: ", "").replace(folder, "the folder")}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())

"""``steadyocr dataset``: check, repair and divide folders of labelled pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from steadyocr.cli.exit_codes import ExitCode
from steadyocr.cli.progress import counting_bar
from steadyocr.training.checker import Report, apply_fixes, check_folder
from steadyocr.training.split import split_folder

Say = Callable[[str], None]


def check(root: Path, *, fix: bool, notes: bool, say: Say) -> ExitCode:
    """Say every problem; with ``fix``, mend what is safe and check again."""
    report = _checked(root)
    if fix:
        changed = apply_fixes(report)
        for path in changed:
            say(_printable(f"{path}: repaired, the first version is kept as {path.name}.orig"))
        report = _checked(root) if changed else report
    for problem in report.problems:
        if notes or problem.finding.severity != "note":
            say(_printable(str(problem)))
    say(_summary(report, fix))
    return ExitCode.BAD_INPUT if report.count("error") else ExitCode.OK


def _checked(root: Path) -> Report:
    with counting_bar("checking", 0) as advance:
        return check_folder(root, advance)


def _summary(report: Report, fix: bool) -> str:
    fixable = sum(problem.finding.fixable for problem in report.problems)
    text = (
        f"{report.pictures} pictures: {report.count('error')} errors, {report.count('warning')} warnings, "
        f"{report.count('note')} notes"
    )
    return f"{text}; --fix would repair {fixable}" if fixable and not fix else text


def split(root: Path, out: Path, *, share: float, seed: int, say: Say) -> None:
    """Divide a folder and say how."""
    train, val = split_folder(root, out, share, seed)
    text = f"{out}: {train} pictures to train on, {val} to judge on; next: steadyocr train {out} --out RUN"
    say(_printable(text))


def _printable(text: str) -> str:
    """Write bytes of a file name that are not UTF-8 out, for no output takes them."""
    return text.encode(errors="backslashreplace").decode()

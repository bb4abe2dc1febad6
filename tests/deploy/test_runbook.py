"""What the runbook names exists: settings, commands, routes, error codes."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from ci_must import skipped_unless
from steadyocr.cli.exit_codes import EXIT_BY_CODE
from steadyocr.cli.main import app
from steadyocr.jobs.database import open_database
from steadyocr.jobs.migrations import MIGRATIONS
from steadyocr.ops.doctor import installation
from steadyocr.ops.doctor.findings import Status
from steadyocr.settings import Settings, load_settings

TEXT = (Path(__file__).parents[2] / "docs/RUNBOOK.md").read_text(encoding="utf-8")
SPANS = re.findall(r"`([^`\n]+)`", TEXT)
SECTIONS = Settings.model_fields
PAGE = 4096


@pytest.mark.parametrize("name", sorted({span.split(" ")[0] for span in SPANS if span.split(".")[0] in SECTIONS}))
def test_settings_exist(name: str) -> None:
    section, _, field = name.partition(".")
    fields = getattr(SECTIONS[section].annotation, "model_fields", {})
    # "queue.waiting" and the like are of /v1/info.
    assert not field or field in fields or name in ("queue.waiting", "memory.pressure")


@pytest.mark.parametrize("span", sorted({span for span in SPANS if re.match(r"steadyocr [a-z]", span)}))
def test_commands_exist(span: str) -> None:
    command: Any = typer.main.get_command(app)
    words = iter(span.split()[1:])
    while commands := getattr(command, "commands", None):
        word = next(words)
        assert word in commands, span
        command = commands[word]
    for option in (word for word in span.split() if word.startswith("--")):
        assert any(option in parameter.opts for parameter in command.params), span


@pytest.mark.parametrize("code", sorted(set(re.findall(r"^### .*?\b\d{3} `(\w+)`", TEXT, re.MULTILINE))))
def test_error_codes_exist(code: str) -> None:
    assert code in EXIT_BY_CODE


def a_killed_writer(database: Path) -> None:
    """Leave changes in the WAL, as a service that was killed does."""
    lines = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1])",
        "c.execute('PRAGMA wal_autocheckpoint = 0')",
        "c.execute('CREATE TABLE filler (x)')",
        "c.executemany('INSERT INTO filler VALUES (?)', [('b' * 900,)] * 500)",
        "c.commit(); os.kill(os.getpid(), 9)",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines), database], check=False)


@skipped_unless(shutil.which("sqlite3") is not None, "the sqlite3 program is not installed")
def test_a_damaged_job_store_is_mended_as_told(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    settings, _ = load_settings(environ={"STEADYOCR_DATA_DIR": str(tmp_path)})
    open_database(settings.jobs.database_url(tmp_path)).close()
    a_killed_writer(jobs / "jobs.db")
    connection = sqlite3.connect(jobs / "jobs.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray((jobs / "jobs.db").read_bytes())
    data[-40 * PAGE : -38 * PAGE] = b"\xff" * (2 * PAGE)
    (jobs / "jobs.db").write_bytes(data)
    assert installation.job_database(settings).status is Status.FAIL
    (jobs / "jobs.db-wal").write_bytes(b"of the old file")
    (block,) = re.findall(r"```sh\n([^`]*mended\.db[^`]*)```", TEXT)
    done = subprocess.run(["bash", "-eu", "-c", block], cwd=jobs, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in jobs.glob("jobs.db*")] == ["jobs.db"]
    assert installation.job_database(settings).status is Status.OK
    connection = sqlite3.connect(jobs / "jobs.db")
    assert connection.execute("SELECT max(version) FROM schema_version").fetchone()[0] == MIGRATIONS[-1].version
    assert connection.execute("SELECT count(*) FROM filler").fetchone()[0] > 400
    connection.close()


def test_every_exit_code_that_ends_the_unit_is_explained() -> None:
    assert {"| 2, 4 |", "| 5 |"} <= set(re.findall(r"^\| [\d, ]+ \|", TEXT, re.MULTILINE))

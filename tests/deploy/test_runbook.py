"""What the runbook names exists: settings, commands, routes, error codes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from steadyocr.cli.exit_codes import EXIT_BY_CODE
from steadyocr.cli.main import app
from steadyocr.settings import Settings

TEXT = (Path(__file__).parents[2] / "docs/RUNBOOK.md").read_text(encoding="utf-8")
SPANS = re.findall(r"`([^`\n]+)`", TEXT)
SECTIONS = Settings.model_fields


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


def test_every_exit_code_that_ends_the_unit_is_explained() -> None:
    assert {"| 2, 4 |", "| 5 |"} <= set(re.findall(r"^\| [\d, ]+ \|", TEXT, re.MULTILINE))

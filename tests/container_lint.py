"""Rules for a container file, each of which says what is wrong. Small and ours: no linter is packaged for this."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its continued lines joined."""

    name: str
    text: str


def instructions(source: str) -> list[Instruction]:
    lines = [line for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    words = (line.split(None, 1) for line in joined.splitlines())
    return [Instruction(name.upper(), text.strip()) for name, text in words]


def problems(source: str) -> list[str]:
    found = instructions(source)
    return [*_bases(found), *_identity(found), *_commands(found), *_copies(found), *_ways_out(found)]


def _last_stage(found: list[Instruction]) -> list[Instruction]:
    starts = [number for number, one in enumerate(found) if one.name == "FROM"]
    return found[starts[-1] :]


def _texts(found: list[Instruction], name: str) -> list[str]:
    return [one.text for one in found if one.name == name]


def _bases(found: list[Instruction]) -> Iterator[str]:
    stages: set[str] = set()
    for text in _texts(found, "FROM"):
        base, *rest = text.split()
        if base not in stages and not re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*", base):
            yield f"base image {base} is not pinned to a full version"
        if rest:
            stages.add(rest[-1])


def _identity(found: list[Instruction]) -> Iterator[str]:
    users = _texts(_last_stage(found), "USER")
    if not users:
        yield "runs as root: no USER"
    elif not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        yield f"USER {users[-1]} is not a number, so a cluster cannot tell that it is not root"


def _commands(found: list[Instruction]) -> Iterator[str]:
    for text in _texts(found, "RUN"):
        if "pip install" in text and "--no-cache-dir" not in text:
            yield "pip keeps its cache in the image"
        if (
            "pip install" in text
            and "--require-hashes" not in text
            and "--no-deps ." not in text.replace("--no-build-isolation ", "")
        ):
            yield "pip installs something that is not pinned by hash"
        if "apt-get install" in text and ("--no-install-recommends" not in text or "rm -rf /var/lib/apt" not in text):
            yield "apt-get leaves more in the image than is needed"
        if re.search(r"\b(curl|wget|sudo)\b", text):
            yield "something is downloaded past the package managers, or sudo is used"


def _copies(found: list[Instruction]) -> Iterator[str]:
    if _texts(found, "ADD"):
        yield "ADD unpacks and downloads unasked: use COPY"
    for text in _texts(found, "COPY"):
        if text.split()[-2] in (".", "./"):
            yield "COPY . takes in whatever lies around"
    secret = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD)\w*\s*=", re.IGNORECASE)
    if any(secret.search(text) for name in ("ENV", "ARG") for text in _texts(found, name)):
        yield "a secret is baked in"


def _ways_out(found: list[Instruction]) -> Iterator[str]:
    last = _last_stage(found)
    if not _texts(last, "HEALTHCHECK"):
        yield "no HEALTHCHECK"
    for name in ("ENTRYPOINT", "CMD"):
        if any(not text.startswith("[") for text in _texts(last, name)):
            yield f"{name} runs in a shell, which swallows the stop signal"
    if not _texts(last, "ENTRYPOINT"):
        yield "no ENTRYPOINT"

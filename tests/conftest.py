from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import forked
import remembering_engine
from support import KnownPicture, RunningServer, known_picture, running_server

# Property tests must not depend on the machine's speed, nor CI on its luck.
settings.register_profile(
    "steadyocr",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("steadyocr")


# Several processes share the files; what takes minutes goes first, so that none is left alone with it at the end.
_LONGEST_FIRST = ("systemd", "chaos", "browser", "e2e", "integration")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long suites first; the order within a file stays."""

    def place(item: pytest.Item) -> int:
        folder = item.nodeid.split("/")[1]
        return _LONGEST_FIRST.index(folder) if folder in _LONGEST_FIRST else len(_LONGEST_FIRST)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def nursery() -> Iterator[None]:
    yield
    forked.end()


@pytest.fixture(scope="session")
def chinese() -> KnownPicture:
    return known_picture("chinese")


@pytest.fixture(scope="session")
def english() -> KnownPicture:
    return known_picture("english")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests that leave it as it was."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """The program with engines that read each picture once, for tests that judge what stands in front of them."""
    base = tmp_path_factory.getbasetemp()
    # Under xdist each process has a folder of its own in that of the run.
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(remembering_engine.FOLDER, str(run / "remembered"))
        yield sys.executable, remembering_engine.__file__


@pytest.fixture
def isolated_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings from whoever runs the tests; returns the data folder."""
    for name in list(os.environ):
        if name.startswith("STEADYOCR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "steadyocr"


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Put the root logger back as it was; commands that are run in this process set it up for themselves."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    access_disabled = logging.getLogger("uvicorn.access").disabled
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = access_disabled

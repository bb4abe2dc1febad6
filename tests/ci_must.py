"""Where CI has what a test needs, or can install it, a skip would hide a hole: there it is a failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import NoReturn

import pytest


def ci_must(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the CI run on a machine on which it installs the system packages: root with apt (``.ci/run``)."""
    return environ.get("CI") == "true" and os.geteuid() == 0 and shutil.which("apt-get") is not None


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test, or fail it where CI must run it."""
    if ci_must():
        pytest.fail(f"CI must not skip this: {reason}", pytrace=False)
    pytest.skip(reason)


def skipped_unless(present: bool, reason: str) -> pytest.MarkDecorator:
    """Mark a test that needs something. Where CI must run it, it runs, and fails for want of it."""
    return pytest.mark.skipif(not present and not ci_must(), reason=reason)

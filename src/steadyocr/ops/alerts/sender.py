"""Carrying a notice over the network, in a process of its own.

The libraries that speak to chat services block, wait in name lookups without a limit and cost 50 MB. In a short-lived
process none of that touches serving: it is killed when its time is up. The channel's URL goes in by standard input, so
that it is in no process list; nothing that the library says comes back but one of a few fixed sentences.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Final

from steadyocr.ops.alerts.channels import Channel
from steadyocr.ops.alerts.delivery import Outcome
from steadyocr.ops.alerts.notices import Notice

_COMMAND: Final = (sys.executable, "-m", "steadyocr.ops.alerts.apprise_process")


class ProcessSender:
    """Sends each notice through a fresh process.

    Args:
        timeout_s: After this it is killed, in seconds.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    async def send(self, channel: Channel, notice: Notice) -> Outcome:
        """See :class:`~steadyocr.ops.alerts.delivery.Sender`."""
        order = {**notice.to_wire(), "url": channel.url.get_secret_value(), "limit_s": self._timeout_s}
        try:
            process = await asyncio.create_subprocess_exec(
                *_COMMAND,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            return Outcome(f"no process could be started: {error.strerror}")
        try:
            async with asyncio.timeout(self._timeout_s):
                answer, _ = await process.communicate(json.dumps(order).encode())
        except TimeoutError:
            return Outcome(f"no answer within {self._timeout_s:g} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        try:
            verdict = json.loads(answer)
            return Outcome(str(verdict["problem"]), bool(verdict["refused"]))
        except (ValueError, KeyError, TypeError):
            return Outcome(f"the sending process ended with {process.returncode}")

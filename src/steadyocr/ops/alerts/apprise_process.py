"""The process that sends one notice over one channel. Reads an order from standard input, writes a verdict.

Nothing is logged here, by nobody: what libraries log on such an occasion has the channel's secret in it.
"""

from __future__ import annotations

import json
import logging
import math
import re
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from steadyocr.ops.alerts.robots import RobotAnswer, fitted, listening_to_robots

if TYPE_CHECKING:
    from apprise import Apprise

# Addresses as chat services show them, which the library knows by other names.
_DINGTALK: Final = re.compile(r"https://oapi\.dingtalk\.com/robot/send\?access_token=([A-Za-z0-9]+)$")
_FEISHU: Final = re.compile(r"https://open\.feishu\.cn/open-apis/bot/v2/hook/([A-Za-z0-9_-]+)$")
# Time-out and too many: it may be taken later.
_LATER: Final = frozenset({"408", "429"})
_STATUS: Final = re.compile(r"error=(\d{3})\b")


def translations(url: str) -> list[str]:
    """Return a URL and what else it may mean: a chat robot's own address, or a plain JSON webhook."""
    if found := _DINGTALK.match(url):
        return [f"dingtalk://{found[1]}"]
    if found := _FEISHU.match(url):
        return [f"feishu://{found[1]}"]
    plain = {"http": "json", "https": "jsons"}
    scheme, _, rest = url.partition("://")
    return [url, f"{plain[scheme]}://{rest}"] if scheme in plain else [url]


class _Ears(logging.Handler):
    """Listens to the library for the one thing worth telling: a status number."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.problem = "the far side did not take it"
        self.refused = True

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if found := _STATUS.search(text):
            self.problem = f"the far side answered {found[1]}"
            self.refused = found[1].startswith("4") and found[1] not in _LATER
        elif "connection error" in text.lower():
            self.problem, self.refused = "no connection, or no answer", False


def send(order: dict[str, Any]) -> dict[str, Any]:
    """Send; return what went wrong (``problem``) and whether the far side was reached and did not want it."""
    import apprise

    ears = _Ears()
    library_log = logging.getLogger("apprise")
    library_log.handlers[:] = [ears]
    library_log.propagate = False
    asset = apprise.AppriseAsset(
        app_id="steadyocr",
        app_desc="steadyocr alerts",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        storage_mode="memory",
    )
    sender = apprise.Apprise(asset=asset)
    if not any(sender.add(url) for url in translations(order["url"])):
        return {"problem": "the channel's URL is not understood", "refused": False}
    kinds = {"recovered": "success", "test": "info", "digest": "info"}
    kind = kinds.get(order["kind"], "failure" if order["severity"] == "critical" else "warning")
    with listening_to_robots() as robot:
        sent = sender.notify(title=order["title"], body=_fitted(sender, order), notify_type=kind, body_format="text")
    return _verdict(ears, robot, sent=bool(sent))


def _verdict(ears: _Ears, robot: RobotAnswer, *, sent: bool) -> dict[str, Any]:
    if not sent:
        return {"problem": ears.problem, "refused": ears.refused}
    return {"problem": f"the robot answered {robot.code}" if robot.code else "", "refused": robot.refused}


def _fitted(sender: Apprise, order: dict[str, Any]) -> str:
    """Cut the text to what the service takes; it would refuse a longer one for ever."""
    from apprise import OverflowMode

    # Who says in the URL what is to become of long ones has it so.
    bounds = [server.body_maxlen for server in sender if server.overflow_mode is OverflowMode.UPSTREAM]
    body: str = order["body"]
    return fitted(order["title"], body, min(bounds)) if bounds else body


def main() -> int:
    """Do as told, within the time allowed even if whoever asked is gone."""
    logging.getLogger().addHandler(logging.NullHandler())
    order = json.load(sys.stdin)
    signal.alarm(math.ceil(order["limit_s"]) + 1)
    sys.stdout.write(json.dumps(send(order)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

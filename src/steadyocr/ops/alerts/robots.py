"""What chat services do beside HTTP: robots that answer 200 and mean no, and messages that are too long for them.

The library takes any 200 for success. A robot of DingTalk, WeCom, Feishu or Lark whose key is wrong, who misses its
keyword or has had enough for this minute answers 200 and says so in the body; the alert would count as told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests

# Where 0 is success, by host. Of others nothing is known: there, 200 may mean it.
_CODES: Final = {
    "oapi.dingtalk.com": "errcode",
    "qyapi.weixin.qq.com": "errcode",
    "open.feishu.cn": "code",
    "open.larksuite.com": "code",
}
# Busy, or too many in this minute: it may be taken later.
_LATER: Final = frozenset({-1, 45009, 130101, 11232})
_CUT: Final = "\n…"
# What the library puts between title and body where a service knows no titles.
_BETWEEN: Final = 8


@dataclass(slots=True)
class RobotAnswer:
    """What a robot said.

    Attributes:
        code: Its own error code; 0 when it has taken the message or is none of those that have codes.
    """

    code: int = 0

    @property
    def refused(self) -> bool:
        """Whether it did not want this very message, or anything from us."""
        return self.code != 0 and self.code not in _LATER


@contextlib.contextmanager
def listening_to_robots() -> Iterator[RobotAnswer]:
    """Look at all answers that come over HTTP meanwhile; the library shows them to nobody."""
    import requests

    heard = RobotAnswer()
    original = requests.Session.send

    def send(session: requests.Session, request: requests.PreparedRequest, **more: Any) -> requests.Response:  # noqa: ANN401 - as the library's
        response = original(session, request, **more)
        heard.code = heard.code or _code_in(response)
        return response

    requests.Session.send = send  # type: ignore[method-assign, assignment]
    try:
        yield heard
    finally:
        requests.Session.send = original  # type: ignore[method-assign]


def _code_in(response: requests.Response) -> int:
    name = _CODES.get(urlsplit(response.url or "").hostname or "")
    if name is None or response.status_code != 200:
        return 0
    try:
        said = response.json()
    except ValueError:
        return 0
    code = said.get(name) if isinstance(said, dict) else None
    return code if isinstance(code, int) else 0


def fitted(title: str, body: str, most: int) -> str:
    """Return a body that a service takes; what does not fit is left out at its end, with a sign that it was.

    Args:
        title: Goes in front of it where a service knows no titles.
        body: As it is.
        most: What the service takes. Some count bytes and some characters, so bytes are counted.
    """
    raw, room = body.encode(), most - len(title.encode()) - _BETWEEN
    if len(raw) <= room:
        return body
    return raw[: max(0, room - len(_CUT.encode()))].decode(errors="ignore") + _CUT

"""Chat robots that answer 200 and mean no, and messages that are longer than they take. The library is the real one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from steadyocr.ops.alerts.apprise_process import send

# The library imports what is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DINGTALK = "https://oapi.dingtalk.com/robot/send?access_token=" + "a1" * 32
FEISHU = "https://open.feishu.cn/open-apis/bot/v2/hook/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
LARK = "https://open.larksuite.com/open-apis/bot/v2/hook/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
WECOM = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
HOOK = "json://hooks.example.org/path"


@dataclass
class FarSide:
    """Stands in for the network below the library.

    Attributes:
        answer: What each post is answered with, beside 200.
        got: What was posted.
    """

    answer: str = ""
    got: list[Any] = field(default_factory=list)

    def post(self, _: object, request: requests.PreparedRequest, **__: object) -> requests.Response:
        assert isinstance(request.body, bytes | str)
        self.got.append(json.loads(request.body))
        response = requests.Response()
        response.status_code, response._content = 200, self.answer.encode()
        response.request, response.url = request, request.url or ""
        return response


@pytest.fixture
def far_side(monkeypatch: pytest.MonkeyPatch) -> FarSide:
    there = FarSide()
    monkeypatch.setattr(
        requests.adapters.HTTPAdapter, "send", lambda adapter, request, **more: there.post(adapter, request, **more)
    )
    return there


def order(url: str, body: str = "for 1 min", title: str = "[critical] box: the queue is full") -> dict[str, Any]:
    return {
        "kind": "raised",
        "rule": "r",
        "severity": "critical",
        "title": title,
        "body": body,
        "at": 0.0,
        "url": url,
        "limit_s": 5,
    }


@pytest.mark.parametrize(
    ("url", "answer", "problem", "refused"),
    [
        (DINGTALK, {"errcode": 0, "errmsg": "ok"}, "", False),
        (DINGTALK, {"errcode": 310000, "errmsg": "keywords not in content"}, "the robot answered 310000", True),
        (DINGTALK, {"errcode": 130101, "errmsg": "send too fast"}, "the robot answered 130101", False),
        (WECOM, {"errcode": 0, "errmsg": "ok"}, "", False),
        (WECOM, {"errcode": 93000, "errmsg": "invalid webhook url"}, "the robot answered 93000", True),
        (WECOM, {"errcode": 45009, "errmsg": "api freq out of limit"}, "the robot answered 45009", False),
        (FEISHU, {"code": 0, "msg": "success"}, "", False),
        (FEISHU, {"StatusCode": 0, "StatusMessage": "success"}, "", False),
        (FEISHU, {"code": 19024, "msg": "Key Words Not Found"}, "the robot answered 19024", True),
        (LARK, {"code": 11232, "msg": "frequency limited"}, "the robot answered 11232", False),
        # Of others nothing is known: there, 200 in the answer may mean success.
        (HOOK, {"code": 200, "errcode": 1}, "", False),
    ],
)
def test_a_robot_that_says_no_with_status_200_has_not_taken_it(
    far_side: FarSide, url: str, answer: Mapping[str, object], problem: str, refused: bool
) -> None:
    far_side.answer = json.dumps(answer)
    assert send(order(url)) == {"problem": problem, "refused": refused}
    assert len(far_side.got) == 1


@pytest.mark.parametrize("answer", ["", "<html>", "[]", "null", '{"errcode": "0"}', '{"errcode": null}'])
def test_an_answer_that_says_nothing_is_no_refusal(far_side: FarSide, answer: str) -> None:
    far_side.answer = answer
    assert send(order(DINGTALK)) == {"problem": "", "refused": False}


def test_nothing_is_left_in_the_library(far_side: FarSide) -> None:
    before = requests.Session.send
    send(order(WECOM))
    assert requests.Session.send is before


def wecom_text(got: Any) -> str:
    return str(got["text"]["content"])


@pytest.mark.parametrize(
    ("url", "text_of", "most_bytes"),
    [(WECOM, wecom_text, 2048), (HOOK, lambda got: got["title"] + got["message"], 8000)],
)
@pytest.mark.parametrize("sign", ["x", "字", "🔥"])
def test_a_long_message_is_cut_to_what_the_service_takes(
    far_side: FarSide, url: str, text_of: Callable[[Any], str], most_bytes: int, sign: str
) -> None:
    line = sign * (39 if most_bytes < 4000 else 9)
    assert send(order(url, "\n".join(f"{number:3} {line}" for number in range(90))))["problem"] == ""
    (got,) = far_side.got
    text = text_of(got)
    assert len(text.encode()) <= most_bytes
    assert text.startswith("[critical] box: the queue is full")
    assert "  0 " in text
    # The generic webhook takes all of it.
    assert text.endswith("…") == (url == WECOM)


def test_who_asks_the_library_to_split_gets_several(far_side: FarSide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apprise.NotifyBase.request_rate_per_sec", 0)
    send(order(f"{WECOM}&overflow=split", "x" * 3000))
    assert "".join(wecom_text(got) for got in far_side.got).count("x") > 2900

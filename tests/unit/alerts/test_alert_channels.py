"""Channels: where they come from, what is refused, and that no message gives them away."""

from __future__ import annotations

import datetime as dt
import traceback
from pathlib import Path
from typing import Any

import pytest

from steadyocr.errors import ConfigError
from steadyocr.ops.alerts.apprise_process import translations
from steadyocr.ops.alerts.channels import load_channels
from steadyocr.ops.alerts.quiet import QuietHours
from steadyocr.settings import load_settings
from steadyocr.settings.alerts import AlertSettings

SECRET = "s3cr3t"


def channels_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "channels"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def from_file(path: Path) -> AlertSettings:
    return AlertSettings(channels_file=path)


def test_channels_come_from_settings_and_from_the_file(tmp_path: Path) -> None:
    path = channels_file(tmp_path, f"# people\n\nops = json://host/{SECRET}\nmailto://u:{SECRET}@host\n")
    settings = AlertSettings.model_validate({"channels": [f"night=wecombot://{SECRET}"], "channels_file": path})
    channels = load_channels(settings)
    names = [channel.name for channel in channels]
    assert names[:2] == ["night", "ops"]
    assert names[2].startswith("mailto-")
    assert channels[1].url.get_secret_value() == f"json://host/{SECRET}"
    assert SECRET not in repr(channels) + str(names) + settings.model_dump_json() + repr(settings)


def test_the_environment_gives_several_with_blanks_between(isolated_environment: Path) -> None:
    environ = {"STEADYOCR_ALERTS__CHANNELS": "a=json://h/a?x=1,2  b=json://h/b"}
    settings, _ = load_settings(environ=environ)
    assert [channel.name for channel in load_channels(settings.alerts)] == ["a", "b"]


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o644, 0o666, 0o601])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = channels_file(tmp_path, f"json://host/{SECRET}\n", mode)
    with pytest.raises(ConfigError, match=f"open to others \\({mode:04o}\\)"):
        load_channels(from_file(path))


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_file_for_its_owner_is_taken(tmp_path: Path, mode: int) -> None:
    assert len(load_channels(from_file(channels_file(tmp_path, "json://host\n", mode)))) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"json://host\n{SECRET}\n", "line 2 of channels"),
        (f"a=json://x\na=json://{SECRET}", "two alert channels are called 'a'"),
        (f"json://{SECRET} extra", "line 1 of channels"),
        ("\n".join(f"json://{number}" for number in range(17)), "at most 16"),
        ("json://host/" + "x" * 70_000, "longer than"),
    ],
)
def test_a_bad_file_is_refused_without_repeating_it(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        load_channels(from_file(channels_file(tmp_path, text)))
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_channels(from_file(tmp_path / "gone"))
    path = channels_file(tmp_path, "")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_channels(from_file(path))


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("https://oapi.dingtalk.com/robot/send?access_token=abc123", ["dingtalk://abc123"]),
        ("https://open.feishu.cn/open-apis/bot/v2/hook/aa-bb", ["feishu://aa-bb"]),
        ("https://host/x?y=1", ["https://host/x?y=1", "jsons://host/x?y=1"]),
        ("http://host", ["http://host", "json://host"]),
        ("wecombot://key", ["wecombot://key"]),
    ],
)
def test_addresses_as_robots_show_them_are_understood(url: str, meant: list[str]) -> None:
    assert translations(url) == meant


def local(hour: int, minute: int) -> float:
    return dt.datetime(2026, 3, 4, hour, minute).astimezone().timestamp()


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("22:00-07:00", [(22, 0), (23, 59), (0, 0), (6, 59)], [(7, 0), (12, 0), (21, 59)]),
        ("09:30-17:00", [(9, 30), (16, 59)], [(9, 29), (17, 0), (0, 0)]),
        ("08:00-08:00", [], [(8, 0), (0, 0)]),
    ],
)
def test_quiet_hours(hours: str, inside: list[tuple[int, int]], outside: list[tuple[int, int]]) -> None:
    quiet = QuietHours.parse(hours)
    assert quiet is not None
    assert all(quiet.covers(local(*at)) for at in inside)
    assert not any(quiet.covers(local(*at)) for at in outside)


@pytest.mark.parametrize(
    "bad", [{"quiet_hours": "22-7"}, {"quiet_hours": "25:00-07:00"}, {"channels": ["json://x"] * 17}, {"chanels": []}]
)
def test_bad_settings_are_refused(bad: dict[str, Any], isolated_environment: Path) -> None:
    with pytest.raises(ConfigError, match=r"alerts\."):
        load_settings({"alerts": bad}, environ={})


def test_no_quiet_hours_is_none() -> None:
    assert QuietHours.parse("") is None

"""Alerts over a real network: a webhook that fails first, one that refuses, one that hangs, and a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from alerts_support import Rig, a_notice
from fake_webhook import FakeWebhook, fake_webhook
from steadyocr.ops.alerts.channels import Channel
from steadyocr.ops.alerts.delivery import Backoff, Delivery, Outcome
from steadyocr.ops.alerts.remembered import Counted, Remembered, write_state
from steadyocr.ops.alerts.sender import ProcessSender
from support import PATIENCE_S, KnownPicture, call_cli, in_real_time, run_cli, running_server, wait_until

SECRET = "s3cr3t-token"
# A process is started for each try; on a busy machine that takes a while.
SENT_S = 60.0


@pytest.fixture
def hook() -> Iterator[FakeWebhook]:
    with fake_webhook() as running:
        yield running


def channel(hook: FakeWebhook) -> Channel:
    return Channel("one", SecretStr(hook.url(SECRET)))


def channels_file(folder: Path, *lines: str) -> str:
    path = folder / "channels"
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    return str(path)


def over_http(folder: Path, hook: FakeWebhook) -> Rig:
    """The alerts with a clock set by hand and a real network."""
    rig = Rig(folder)
    rig.delivery = Delivery(rig.spool, [channel(hook)], ProcessSender(20), rig.time.clock, Backoff(5, 900))
    return rig


@pytest.mark.parametrize(("apart_s", "events", "told"), [(140, 3, 2), (140, 2, 0), (290, 3, 0)])
@in_real_time
async def test_three_times_out_of_memory_in_five_minutes_is_one_alert_and_one_recovery(
    tmp_path: Path, hook: FakeWebhook, apart_s: float, events: int, told: int
) -> None:
    hook.statuses = [500, 503]
    rig = over_http(tmp_path, hook)
    for number in range(events):
        if number:
            await rig.run(apart_s, step_s=10)
        rig.events.emit("memory_event", where="engine", reason="killed")
    await rig.run(900, step_s=10)
    assert (
        hook.titles
        == [
            "[critical] box: engines run out of memory",
            "[ok] box: over: engines run out of memory",
        ][:told]
    )
    assert [body["type"] for body in hook.got] == ["failure", "success"][:told]
    assert hook.attempts == (4 if told else 0), "the first two were answered with an error"


@in_real_time
async def test_what_became_of_an_attempt(hook: FakeWebhook) -> None:
    sender, notice = ProcessSender(20), a_notice()
    for status, outcome in {
        200: Outcome(),
        404: Outcome("the far side answered 404", refused=True),
        429: Outcome("the far side answered 429"),
        500: Outcome("the far side answered 500"),
    }.items():
        hook.statuses = [status]
        assert await sender.send(channel(hook), notice) == outcome
    nobody = Channel("nobody", SecretStr("json://127.0.0.1:9/x"))
    assert await sender.send(nobody, notice) == Outcome("no connection, or no answer")
    nonsense = Channel("nonsense", SecretStr("nonsense://x"))
    assert await sender.send(nonsense, notice) == Outcome("the channel's URL is not understood")


@in_real_time
async def test_a_webhook_that_hangs_is_left_when_its_time_is_up(hook: FakeWebhook) -> None:
    hook.hanging = True
    started = time.monotonic()
    assert await ProcessSender(1.5).send(channel(hook), a_notice()) == Outcome("no answer within 1.5 s")
    assert time.monotonic() - started < 15


@in_real_time
async def test_a_process_that_cannot_be_started_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadyocr.ops.alerts.sender._COMMAND", ("/nowhere/python",))
    outcome = await ProcessSender(5).send(Channel("one", SecretStr("json://x")), a_notice())
    assert outcome.problem.startswith("no process could be started")
    monkeypatch.setattr("steadyocr.ops.alerts.sender._COMMAND", ("false",))
    outcome = await ProcessSender(5).send(Channel("one", SecretStr("json://x")), a_notice())
    assert outcome.problem == "the sending process ended with 1"


def test_the_test_command_says_which_channel_works(tmp_path: Path, hook: FakeWebhook) -> None:
    path = channels_file(tmp_path, f"good={hook.url(SECRET)}", f"bad=json://127.0.0.1:9/{SECRET}")
    done = call_cli("alerts", "test", data_dir=tmp_path, alerts__channels_file=path, logging__level="debug")
    assert (done.returncode, done.stdout.splitlines()) == (11, ["good: sent", "bad: no connection, or no answer"])
    assert SECRET not in done.stdout + done.stderr
    assert hook.titles[0].startswith("[test] ")
    assert call_cli("alerts", "test", data_dir=tmp_path).returncode == 4


def test_a_serving_process_sends_what_waited_and_what_happens_and_is_not_harmed_by_a_hang(
    tmp_path: Path, hook: FakeWebhook, english: KnownPicture
) -> None:
    settings: dict[str, Any] = {
        "alerts__channels": f"hook={hook.url(SECRET)}",
        "alerts__source": "box",
        "alerts__restarts_count": "1",
        # Sending starts a process; it must not be given up while a busy machine still loads it.
        "alerts__send_timeout_s": "10",
        "alerts__retry_first_s": "0.1",
        "alerts__retry_max_s": "0.5",
        "logging__level": "debug",
        "engines__count": "1",
    }
    hook.statuses = [500] * 9
    failed = call_cli("alerts", "unit-failed", "steadyocr.service", data_dir=tmp_path, **settings)
    assert failed.returncode == 6
    assert "1 notice(s) wait for the next start" in failed.stdout
    listed = call_cli("alerts", "list", data_dir=tmp_path, **settings).stdout
    assert "unit_failed (critical), since" in listed
    assert "steadyocr.service failed and is not started again" in listed
    hook.statuses.clear()
    with running_server(tmp_path, **settings) as server:
        failed_title = "[critical] box: steadyocr.service failed and is not started again"
        wait_until(lambda: hook.titles == [failed_title], SENT_S)
        hook.hanging = True
        attempts = hook.attempts
        os.kill(server.engine_pid(), signal.SIGKILL)
        wait_until(lambda: hook.attempts > attempts, SENT_S)
        assert server.ocr(english.data)["lines"]
        assert server.client.get("/readyz").status_code == 200
        hook.release()
        wait_until(lambda: "[critical] box: engines die again and again" in hook.titles, SENT_S)
        assert len(hook.titles) == 2
        wait_until(lambda: list((tmp_path / "alerts" / "spool").iterdir()) == [])
        assert SECRET not in server.client.get("/v1/info").text
    assert SECRET not in str(server.log)


def test_a_service_that_is_killed_again_and_again_is_told_and_explained_by_its_successor(
    tmp_path: Path, hook: FakeWebhook
) -> None:
    settings: dict[str, Any] = {"alerts__channels": hook.url(SECRET), "alerts__source": "box", "engines__count": "1"}
    # Two kills of a short while ago, as the services after them wrote them down.
    known = Remembered(counted={"service_deaths": Counted((time.time() - 3000, time.time() - 60))})
    write_state(tmp_path / "alerts" / "incidents.json", known)
    with running_server(tmp_path, **settings) as server:
        killed = server.pid
        server.process.kill()
        server.process.wait(PATIENCE_S)
    with running_server(tmp_path, **settings) as server:
        wait_until(lambda: hook.titles == ["[critical] box: the service itself is killed again and again"])
        assert f"process {killed}" in hook.got[0]["message"]
        assert server.find_log("The last service ended without a word") is not None
        wait_until(lambda: list((tmp_path / "flight").glob("flight-*-service.json")))
        shown = call_cli("flight", "show", data_dir=tmp_path).stdout
        assert f"The service itself (process {killed}) was gone" in shown
    with running_server(tmp_path, **settings) as server:
        assert server.find_log("The last service ended without a word") is None, "it was stopped in order"
    assert len(hook.titles) == 1


def test_a_damaged_state_of_the_alerts_does_not_keep_the_service_from_starting(tmp_path: Path) -> None:
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / "incidents.json").write_text('{"out_of_memory": {"began_at": null}, "not_ready": "x"}')
    with running_server(tmp_path, engines__count="1") as server:
        assert server.client.get("/readyz").status_code == 200


def test_a_unit_that_failed_is_told_at_once_when_the_network_is_there(tmp_path: Path, hook: FakeWebhook) -> None:
    done = call_cli("alerts", "unit-failed", "a@b.service", data_dir=tmp_path, alerts__channels=hook.url(SECRET))
    assert done.returncode == 0, done.stderr
    assert len(hook.titles) == 1
    assert call_cli("alerts", "unit-failed", "a b; rm", data_dir=tmp_path).returncode == 2


def test_a_unit_that_fails_again_and_again_is_told_once_and_as_often_as_a_reminder(
    tmp_path: Path, hook: FakeWebhook
) -> None:
    settings = {"alerts__channels": hook.url(SECRET)}
    for told, remind_s in ((1, "3600"), (1, "3600"), (2, "60")):
        done = call_cli("alerts", "unit-failed", "a.service", data_dir=tmp_path, alerts__remind_s=remind_s, **settings)
        assert (done.returncode, len(hook.titles)) == (0, told), done.stderr
        state = tmp_path / "alerts" / "incidents.json"
        known = json.loads(state.read_text())
        if "that was told at" in done.stdout:
            known["open"]["unit_failed"]["told_at"] -= 100
            state.write_text(json.dumps(known))


def test_the_list_changes_nothing_and_takes_a_damaged_state(tmp_path: Path) -> None:
    spool = tmp_path / "alerts" / "spool"
    spool.mkdir(parents=True)
    old = a_notice("waits since long ago", at=1.0)
    (spool / "0000000001.json").write_text(json.dumps({"notice": old.to_wire(), "pending": ["gone"], "held": False}))
    (spool / "0000000002.json").write_text("{")
    (tmp_path / "alerts" / "incidents.json").write_text('{"out_of_memory": {"began_at": null}, "x": 1}')
    done = call_cli("alerts", "list", data_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "waits since long ago" in done.stdout
    assert "out_of_memory (unknown), since" in done.stdout
    assert sorted(path.name for path in spool.iterdir()) == ["0000000001.json", "0000000002.json"]


def test_a_unit_that_failed_for_its_settings_is_told_with_the_reason(tmp_path: Path, hook: FakeWebhook) -> None:
    settings = {"alerts__channels": hook.url(SECRET), "queue__max_size": "many"}
    done = call_cli("alerts", "unit-failed", "a@b.service", data_dir=tmp_path, **settings)
    assert done.returncode == 0, done.stderr
    assert "queue.max_size (environment)" in hook.got[0]["message"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "steadyocr.toml").write_text("[queue\n")
    done = call_cli("alerts", "unit-failed", "a@b.service", data_dir=elsewhere, alerts__channels=hook.url(SECRET))
    assert done.returncode == 0, done.stderr
    assert "is not valid TOML" in hook.got[1]["message"]
    wrong = call_cli("alerts", "unit-failed", "a@b.service", data_dir=tmp_path, alerts__send_timeout_s="soon")
    assert wrong.returncode == 4


def test_the_serving_process_never_loads_what_sends() -> None:
    report = "import sys, steadyocr.ops.companions; print(*[n for n in ('apprise', 'requests') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_a_server_with_an_open_channels_file_does_not_start(tmp_path: Path) -> None:
    path = channels_file(tmp_path, f"json://{SECRET}")
    Path(path).chmod(0o644)
    done = run_cli("serve", "--port", "0", data_dir=tmp_path, alerts__channels_file=path)
    assert done.returncode == 4
    assert "open to others (0644)" in done.stderr
    assert SECRET not in done.stderr

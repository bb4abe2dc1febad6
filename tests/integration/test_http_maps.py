"""Kept maps and the history, over real HTTP."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from steadyocr.service.maps import MAP_NAME
from support import KnownPicture, RunningServer, encoded, running_server, texts_of, wait_until

KEYS = {"alice": "alice-key-0123456789", "bob": "bob-key-0123456789"}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with two keys, three history entries at most and one engine to lose."""
    settings: dict[str, Any] = {
        "auth__api_keys": ",".join(KEYS.values()),
        "history__max_entries": "3",
        "engines__count": "1",
    }
    with running_server(tmp_path_factory.mktemp("keyed"), **settings) as running:
        running.client.headers["X-API-Key"] = KEYS["alice"]
        yield running


def lines_of(server: RunningServer, map_id: str, **knobs: object) -> httpx.Response:
    return server.client.post(f"/v1/maps/{map_id}/lines", json=knobs)


def test_the_same_knobs_give_the_same_lines_without_the_network(server: RunningServer, chinese: KnownPicture) -> None:
    page = server.ocr(chinese.data, keep_map=True)
    again = lines_of(server, page["map_id"]).raise_for_status().json()
    assert again["lines"] == page["lines"]
    assert set(again["timings_ms"]) == {"postprocess"}
    knobs = ("bin_threshold", "box_threshold", "unclip_ratio")
    assert again["options"] == {name: page["options"][name] for name in knobs}


def test_without_asking_nothing_is_kept(server: RunningServer, english: KnownPicture) -> None:
    before = server.client.get("/v1/history").json()["entries"]
    page = server.ocr(english.data)
    assert not {"map_id", "history_id"} & set(page)
    assert server.client.get("/v1/history").json()["entries"] == before


def test_knobs_move_the_boxes_and_new_lines_are_read_on_demand(server: RunningServer, chinese: KnownPicture) -> None:
    # Nothing passes at first; then everything does, and is read for the first time.
    page = server.ocr(chinese.data, keep_map=True, box_threshold=1)
    assert page["lines"] == []
    unread = lines_of(server, page["map_id"], box_threshold=0.3).raise_for_status().json()["lines"]
    assert len(unread) == len(chinese.texts)
    assert {line["text"] for line in unread} == {None}
    read = lines_of(server, page["map_id"], box_threshold=0.3, recognise=True).raise_for_status().json()
    assert texts_of(read) == chinese.texts
    assert "recognise" in read["timings_ms"]
    kept = lines_of(server, page["map_id"], box_threshold=0.3).raise_for_status().json()
    assert texts_of(kept) == chinese.texts
    assert "recognise" not in kept["timings_ms"]
    wider = lines_of(server, page["map_id"], box_threshold=0.3, unclip_ratio=2.0).raise_for_status().json()
    assert texts_of(wider) == chinese.texts
    assert np.ptp(wider["lines"][0]["quad"], axis=0).sum() > np.ptp(kept["lines"][0]["quad"], axis=0).sum()


def test_a_client_that_waits_no_longer_is_told_so(server: RunningServer, english: KnownPicture) -> None:
    page = server.ocr(english.data, keep_map=True)
    hasty = {"X-Request-Timeout": "0.000001"}
    answer = server.client.post(f"/v1/maps/{page['map_id']}/lines", json={}, headers=hasty)
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    patient = server.client.post(f"/v1/maps/{page['map_id']}/lines", json={}, headers={"X-Request-Timeout": "60"})
    assert patient.json()["lines"] == page["lines"]


def test_boxes_without_texts_have_a_map_too(server: RunningServer, english: KnownPicture) -> None:
    page = server.client.post("/v1/detect", params={"keep_map": "true"}, content=english.data).json()
    read = lines_of(server, page["map_id"], recognise=True).raise_for_status().json()
    assert texts_of(read) == english.texts


def test_the_heat_map_is_a_gray_picture_at_network_scale(server: RunningServer, english: KnownPicture) -> None:
    large = english.image.resize((english.image.width * 2, english.image.height * 2))
    page = server.ocr(encoded(large), keep_map=True, max_side=320)
    answer = server.client.get(f"/v1/maps/{page['map_id']}/heat.png").raise_for_status()
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as heat:
        assert heat.mode == "L"
        assert max(heat.size) == 320
        x, y = np.mean(page["lines"][0]["quad"], axis=0) * 320 / max(large.size)
        assert np.asarray(heat)[int(y), int(x)] > 128


@pytest.mark.parametrize("map_id", ["nothing", "..", "%2e%2e%2fsecret", "a" * 400])
def test_an_unknown_map_is_a_typed_404(server: RunningServer, map_id: str) -> None:
    for answer in (
        server.client.get(f"/v1/maps/{map_id}/heat.png"),
        server.client.post(f"/v1/maps/{map_id}/lines", json={}),
    ):
        assert answer.status_code == 404
        assert answer.json()["code"] in ("map_expired", "not_found")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", "invalid_request"),
        (b"{", "invalid_request"),
        (b'{"max_side": 64}', "invalid_option"),
        (b'{"bin_threshold": 2}', "invalid_option"),
        (b'{"unclip_ratio": "wide"}', "invalid_option"),
        (b'{"recognise": "perhaps"}', "invalid_option"),
        (b"[" * 100_000, "invalid_request"),
    ],
)
def test_wrong_knobs_are_refused(server: RunningServer, english: KnownPicture, body: bytes, code: str) -> None:
    answer = server.client.post("/v1/maps/any/lines", content=body)
    assert answer.json()["code"] == code
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize(
    "options",
    [
        {"keep_map": "true", "quality": "tile"},
        {"keep_map": "true", "format": "text"},
        {"keep": "true", "format": "overlay.png"},
        {"keep": "perhaps"},
    ],
)
def test_odd_wishes_are_refused(server: RunningServer, english: KnownPicture, options: dict[str, str]) -> None:
    answer = server.client.post("/v1/ocr", params=options, content=english.data)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")


def test_a_map_outlives_the_engine_that_made_it(keyed: RunningServer, english: KnownPicture) -> None:
    page = keyed.ocr(english.data, keep_map=True)
    os.kill(keyed.engine_pid(), signal.SIGKILL)
    # A slider's move is not waited for as long as a slow machine may take to start an engine.
    while (answer := lines_of(keyed, page["map_id"])).status_code == 504:
        pass
    assert answer.raise_for_status().json()["lines"] == page["lines"]


def test_a_map_whose_files_are_gone_is_expired(
    keyed: RunningServer, english: KnownPicture, tmp_path_factory: pytest.TempPathFactory
) -> None:
    page = keyed.ocr(english.data, keep_map=True)
    (kept,) = tmp_path_factory.getbasetemp().glob(f"keyed0/cache/maps/{page['map_id']}/{MAP_NAME}")
    kept.unlink()
    assert lines_of(keyed, page["map_id"]).json()["code"] == "map_expired"


def test_the_history_is_its_owners_and_bounded(
    keyed: RunningServer, english: KnownPicture, chinese: KnownPicture
) -> None:
    first = keyed.ocr(english.data, keep=True)["history_id"]
    second = keyed.ocr(chinese.data, keep=True)["history_id"]
    listing = keyed.client.get("/v1/history").raise_for_status().json()
    assert (listing["enabled"], listing["shared"], listing["keep_s"]) == (True, False, 7 * 86_400)
    entries = listing["entries"]
    assert [entry["id"] for entry in entries] == [second, first]
    assert (entries[1]["width"], entries[1]["height"]) == english.image.size
    assert entries[1]["lines"] == len(english.texts)
    assert entries[1]["first_line"] == english.texts[0]
    assert keyed.client.get("/v1/history", params={"limit": 1}).json()["entries"] == entries[:1]

    page = keyed.client.get(f"/v1/history/{first}").raise_for_status().json()
    assert texts_of(page) == english.texts
    picture = keyed.client.get("/" + page["image_url"])
    assert picture.content == english.data
    assert picture.headers["content-type"] == "image/png"
    assert "sandbox" in picture.headers["content-security-policy"]
    with Image.open(io.BytesIO(keyed.client.get("/" + page["thumb_url"]).content)) as thumbnail:
        assert thumbnail.format == "JPEG"

    bob = {"X-API-Key": KEYS["bob"]}
    assert keyed.client.get("/v1/history", headers=bob).json()["entries"] == []
    for path in ("", "/image", "/thumb"):
        assert keyed.client.get(f"/v1/history/{first}{path}", headers=bob).status_code == 404
    assert keyed.client.delete(f"/v1/history/{first}", headers=bob).status_code == 404

    third, fourth = (keyed.ocr(english.data, keep=True)["history_id"] for _ in range(2))
    assert [entry["id"] for entry in keyed.client.get("/v1/history").json()["entries"]] == [fourth, third, second]
    assert keyed.client.delete(f"/v1/history/{second}").status_code == 204
    assert keyed.client.delete(f"/v1/history/{second}").status_code == 404
    assert keyed.client.get(f"/v1/history/{second}").status_code == 404

    bobs = keyed.client.post("/v1/ocr", content=english.data, params={"keep": True}, headers=bob).json()["history_id"]
    assert keyed.client.delete("/v1/history").status_code == 204
    assert keyed.client.get("/v1/history").json()["entries"] == []
    assert [entry["id"] for entry in keyed.client.get("/v1/history", headers=bob).json()["entries"]] == [bobs]


def test_without_keys_everybody_shares_one_history_and_is_told(server: RunningServer) -> None:
    assert server.client.get("/v1/history").json()["shared"] is True


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "many", "٣", "", "9" * 5000])
def test_a_wrong_limit_is_refused(server: RunningServer, limit: str) -> None:
    answer = server.client.get("/v1/history", params={"limit": limit})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")


def test_maps_and_history_outlive_a_restart_and_old_maps_go(
    tmp_path_factory: pytest.TempPathFactory, english: KnownPicture
) -> None:
    folder = tmp_path_factory.mktemp("restarted")
    with running_server(folder) as server:
        page = server.ocr(english.data, keep=True, keep_map=True)
    with running_server(folder, page__map_keep_s="0.001", history__enabled="false") as server:
        wait_until(lambda: not list((folder / "cache" / "maps").iterdir()))
        assert lines_of(server, page["map_id"]).json()["code"] == "map_expired"
        assert texts_of(server.client.get(f"/v1/history/{page['history_id']}").json()) == english.texts
        refused = server.ocr(english.data, keep=True)
        assert refused["history_id"] is None
        assert server.client.get("/v1/history").json()["enabled"] is False

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steadyocr.errors import ConfigError
from steadyocr.settings import Settings, load_settings

pytestmark = pytest.mark.usefixtures("isolated_environment")

BOOLEANS = {
    "true": True, "True": True, "1": True, "yes": True, "on": True,
    "false": False, "False": False, "0": False, "no": False, "off": False,
}  # fmt: skip


def from_env(**values: str) -> Settings:
    return load_settings(environ={f"STEADYOCR_{name}": text for name, text in values.items()})[0]


def toml(folder: Path, text: str) -> Path:
    path = folder / "any.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_listen_on_this_machine_only() -> None:
    settings, origins = load_settings(environ={})
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 7860)
    assert origins.of("server.port") == "default"


def test_the_stronger_source_wins_and_is_named(tmp_path: Path) -> None:
    path = toml(tmp_path, "[server]\nport = 1\nhost = '::1'\n[queue]\nmax_size = 5\ntimeout_s = 9\n")
    settings, origins = load_settings(
        {"server": {"port": 3}},
        config_file=path,
        environ={"STEADYOCR_SERVER__PORT": "2", "STEADYOCR_QUEUE__MAX_SIZE": "6"},
    )
    assert (settings.server.port, origins.of("server.port")) == (3, "command line")
    assert (settings.queue.max_size, origins.of("queue.max_size")) == (6, "environment")
    assert (settings.queue.timeout_s, origins.of("queue.timeout_s")) == (9, str(path))
    assert (settings.server.host, origins.of("server.host")) == ("::1", str(path))
    assert origins.of("limits.max_pixels") == "default"


def test_the_file_named_in_the_environment_is_read(tmp_path: Path) -> None:
    path = toml(tmp_path, "[queue]\nmax_size = 5\n")
    assert load_settings(environ={"STEADYOCR_CONFIG": str(path)})[0].queue.max_size == 5


def test_a_file_that_begins_with_a_mark_of_its_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "marked.toml"
    path.write_text("[queue]\nmax_size = 5\n", encoding="utf-8-sig")
    assert load_settings(config_file=path, environ={})[0].queue.max_size == 5


def test_a_data_folder_set_to_nothing_is_not_set() -> None:
    assert from_env(DATA_DIR="").data_dir == load_settings(environ={})[0].data_dir


def test_the_file_in_the_data_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "steadyocr.toml").write_text("[queue]\nmax_size = 5\n")
    assert from_env(DATA_DIR=str(tmp_path)).queue.max_size == 5


@pytest.mark.parametrize(
    "name", ["QUEUE__MAX_SIZ", "QUEU__MAX_SIZE", "PORT", "DATADIR", "SERVER__PORT__X", "QUEUE_MAX_SIZE", "QUEUE__"]
)
def test_a_misspelt_variable_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_env(**{name: "1"})
    assert name.lower().replace("__", ".").rstrip(".").split(".")[0] in raised.value.message
    assert "environment" in raised.value.message


@pytest.mark.parametrize(("first", "second"), [("SERVER", "SERVER__PORT"), ("SERVER__PORT", "SERVER")])
def test_a_variable_that_is_section_and_value_at_once_is_refused(first: str, second: str) -> None:
    with pytest.raises(ConfigError, match="server"):
        from_env(**{first: "1", second: "1"})


def test_a_value_below_another_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="STEADYOCR_SERVER__PORT__X"):
        from_env(SERVER__PORT="1", SERVER__PORT__X="2")


@pytest.mark.parametrize(
    ("text", "named"), [("[queue]\nmax_siz = 1", "queue.max_siz"), ("[queu]\na = 1", "queu"), ("port = 1", "port")]
)
def test_a_misspelt_key_in_the_file_is_refused_with_its_place(tmp_path: Path, text: str, named: str) -> None:
    path = toml(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        load_settings(config_file=path, environ={})
    assert named in raised.value.message
    assert str(path) in raised.value.message


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml cannot be read"):
        load_settings(config_file=tmp_path / "gone.toml", environ={})


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_settings(config_file=toml(tmp_path, "[queue"), environ={})


@pytest.mark.parametrize(("text", "meant"), BOOLEANS.items())
def test_booleans_in_the_environment_are_read_as_people_write_them(text: str, meant: bool) -> None:
    assert from_env(SERVER__INSECURE=text).server.insecure is meant


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SERVER__INSECURE", "maybe"),
        ("SERVER__PORT", "65536"),
        ("SERVER__PORT", "-1"),
        ("SERVER__PORT", "http"),
        ("QUEUE__MAX_SIZE", "0"),
        ("QUEUE__TIMEOUT_S", "0"),
        ("QUEUE__TIMEOUT_S", "nan"),
        ("QUEUE__TIMEOUT_S", "inf"),
        ("LIMITS__MAX_SIDE_RATIO", "0.5"),
        ("LIMITS__MAX_SIDE_RATIO", "nan"),
        ("ENGINES__COUNT", "-1"),
        ("ENGINES__ITEM_LIMIT_S", "0"),
        ("ENGINES__BACKEND", "cuda"),
        ("LOGGING__LEVEL", "loud"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_env(**{name: text})
    assert name.lower().replace("__", ".") in raised.value.message


def test_settings_cannot_be_changed_afterwards() -> None:
    settings = from_env()
    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_a_public_address_needs_a_key_or_a_word(host: str) -> None:
    with pytest.raises(ConfigError, match="API key"):
        from_env(SERVER__HOST=host).refuse_open_door()
    from_env(SERVER__HOST=host, AUTH__API_KEYS="secret").refuse_open_door()
    from_env(SERVER__HOST=host, SERVER__INSECURE="true").refuse_open_door()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_alone_needs_no_key(host: str) -> None:
    from_env(SERVER__HOST=host).refuse_open_door()


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_blank_keys_are_no_keys(text: str) -> None:
    with pytest.raises(ConfigError, match="API key"):
        from_env(SERVER__HOST="0.0.0.0", AUTH__API_KEYS=text).refuse_open_door()


@pytest.mark.parametrize("keys", ['[""]', '["good", ""]', '["  "]'])
def test_an_empty_key_in_the_file_is_refused(tmp_path: Path, keys: str) -> None:
    with pytest.raises(ConfigError, match=r"auth\.api_keys"):
        load_settings(config_file=toml(tmp_path, f"[auth]\napi_keys = {keys}"), environ={})


@pytest.mark.parametrize("key", ["密钥-abc", "caf\u00e9", "two\\nlines"])
def test_a_key_that_no_header_carries_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=r"auth\.api_keys"):
        load_settings(config_file=toml(tmp_path, f'[auth]\napi_keys = ["{key}"]'), environ={})


def test_blanks_round_a_key_are_not_of_it(tmp_path: Path) -> None:
    settings, _ = load_settings(config_file=toml(tmp_path, '[auth]\napi_keys = [" hush \\n"]'), environ={})
    assert settings.auth.api_keys[0].get_secret_value() == "hush"


def test_names_of_hosts_come_from_the_environment_as_keys_do() -> None:
    assert from_env(SERVER__ALLOWED_HOSTS="ocr.lan, ocr.example.com").server.allowed_hosts == (
        "ocr.lan",
        "ocr.example.com",
    )


def test_a_list_in_brackets_is_one_too() -> None:
    """Its quotes would be part of the keys, and no client would get in."""
    settings = from_env(AUTH__API_KEYS='["one", "two"]')
    assert [key.get_secret_value() for key in settings.auth.api_keys] == ["one", "two"]
    for wrong in ("[one, two]", '["one", 2]', '[["one"]]'):
        with pytest.raises(ConfigError, match="STEADYOCR_AUTH__API_KEYS"):
            from_env(AUTH__API_KEYS=wrong)


def test_keys_never_show() -> None:
    settings = from_env(AUTH__API_KEYS="hush-one, hush-two")
    assert [key.get_secret_value() for key in settings.auth.api_keys] == ["hush-one", "hush-two"]
    assert "hush" not in json.dumps(settings.model_dump(mode="json"))
    assert "hush" not in repr(settings) + str(settings)


@pytest.mark.parametrize("source", ["[auth]\napi_keys = 'hush-one'", "[auth]\napi_keys = ['hush', {a = 'hush-two'}]"])
def test_a_refused_key_does_not_show_in_the_message(tmp_path: Path, source: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_settings(config_file=toml(tmp_path, source), environ={})
    assert "hush" not in raised.value.message


@pytest.mark.parametrize(
    ("given", "count", "threads"),
    [
        ({}, 4, 2),
        ({"ENGINES__COUNT": "1"}, 1, 8),
        ({"ENGINES__COUNT": "3"}, 3, 2),
        ({"ENGINES__COUNT": "20"}, 20, 1),
        ({"ENGINES__THREADS": "5"}, 4, 5),
    ],
)
def test_engines_fit_the_machine_where_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], count: int, threads: int
) -> None:
    monkeypatch.setattr("steadyocr.settings.tree.available_threads", lambda: 8)
    monkeypatch.setattr("steadyocr.settings.sizing.detect_budget_bytes", lambda: 64 << 30)
    config = from_env(**given).scheduler_config()
    assert (config.engines, config.slot.engine.threads) == (count, threads)


@pytest.mark.parametrize(
    ("cores", "limit_gib", "given", "count", "threads"),
    [
        # 64 engines' worth of cores in the memory of four: the others would be killed for it, over and over.
        (64, 4, {}, 4, 16),
        (64, 64, {}, 32, 2),
        (64, 64, {"MEMORY__BUDGET_BYTES": str(4 << 30)}, 4, 16),
        (64, 0.25, {}, 1, 64),
        (8, 2, {}, 1, 8),
        (64, 4, {"ENGINES__COUNT": "32"}, 32, 2),
        (64, 64, {"ENGINES__DEVICE": "cuda:1"}, 1, 64),
        (64, 64, {"ENGINES__DEVICE": "cuda", "ENGINES__COUNT": "2"}, 2, 32),
        (2, 64, {}, 1, 2),
        (1, 64, {}, 1, 1),
    ],
)
def test_engines_fit_the_memory_and_the_card_too(
    monkeypatch: pytest.MonkeyPatch, cores: int, limit_gib: float, given: dict[str, str], count: int, threads: int
) -> None:
    monkeypatch.setattr("steadyocr.settings.tree.available_threads", lambda: cores)
    monkeypatch.setattr("steadyocr.settings.sizing.detect_budget_bytes", lambda: int(limit_gib * 2**30))
    config = from_env(**given).scheduler_config()
    assert (config.engines, config.slot.engine.threads) == (count, threads)
    assert config.slot.engine.device_memory_share == pytest.approx(0.9 / count)


@pytest.mark.parametrize(
    ("cores", "engines", "share"), [(0.4, "1", 0.4), (0.4, "2", 0.2), (1.0, "2", 0.5), (8.0, "4", 1.0)]
)
def test_engines_know_what_they_can_count_on_of_a_core(
    monkeypatch: pytest.MonkeyPatch, cores: float, engines: str, share: float
) -> None:
    monkeypatch.setattr("steadyocr.settings.tree.available_cores", lambda: cores)
    assert from_env(ENGINES__COUNT=engines).scheduler_config().slot.engine.core_share == pytest.approx(share)


def test_what_is_set_reaches_the_engines() -> None:
    settings = from_env(LIMITS__MAX_PIXELS="5000", QUEUE__MAX_SIZE="3", ENGINES__ITEM_LIMIT_S="7", DATA_DIR="/d")
    config: Any = settings.scheduler_config()
    assert config.slot.engine.max_pixels == 5000
    assert config.slot.engine.user_models == "/d/models"
    assert (config.queue_size, config.slot.item_limit_s) == (3, 7)

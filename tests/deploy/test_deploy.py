"""The files for containers: lint, schemas of what must be said, and that their numbers fit the service."""

from __future__ import annotations

import functools
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from container_lint import problems
from steadyocr.settings import Settings, load_settings
from support import RunningServer, free_port

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "deploy/Containerfile").read_text()
CHECK = ROOT / "deploy/healthcheck.py"


def mapping(required: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": required, "required": list(required), **more}


PROBE = mapping(
    {"httpGet": mapping({"path": {"enum": ["/readyz", "/livez"]}, "port": {"const": "http"}})},
)
LIMITS = mapping({"cpu": {"type": "string"}, "memory": {"type": "string", "pattern": "^[0-9]+Gi$"}})
CONTAINER = mapping(
    {
        "image": {"type": "string", "pattern": "^steadyocr:"},
        "ports": {"contains": {"const": {"name": "http", "containerPort": 7860}}},
        "resources": mapping({"requests": LIMITS, "limits": LIMITS}),
        "securityContext": mapping(
            {
                "allowPrivilegeEscalation": {"const": False},
                "readOnlyRootFilesystem": {"const": True},
                "capabilities": {"const": {"drop": ["ALL"]}},
            }
        ),
        "startupProbe": PROBE,
        "readinessProbe": PROBE,
        "livenessProbe": PROBE,
    }
)
POD = mapping(
    {
        # Service links would be unknown settings, which are refused.
        "enableServiceLinks": {"const": False},
        "automountServiceAccountToken": {"const": False},
        "securityContext": mapping({"runAsNonRoot": {"const": True}, "runAsUser": {"type": "integer", "minimum": 1}}),
        "terminationGracePeriodSeconds": {"type": "integer"},
        "containers": {"type": "array", "minItems": 1, "items": CONTAINER},
    }
)
DEPLOYMENT = mapping(
    {
        "apiVersion": {"const": "apps/v1"},
        "kind": {"const": "Deployment"},
        "spec": mapping(
            {
                "replicas": {"const": 1},
                "strategy": {"const": {"type": "Recreate"}},
                "selector": mapping({"matchLabels": {"type": "object"}}),
                "template": mapping({"metadata": mapping({"labels": {"type": "object"}}), "spec": POD}),
            }
        ),
    }
)
COMPOSE_SERVICE = mapping(
    {
        "build": mapping({"context": {"const": ".."}, "dockerfile": {"const": "deploy/Containerfile"}}),
        # Reachable from this machine only, unless somebody decides otherwise.
        "ports": {"items": {"pattern": r"^127\.0\.0\.1:"}},
        "restart": {"const": "unless-stopped"},
        "stop_grace_period": {"pattern": "^[0-9]+s$"},
        "mem_limit": {"type": "string"},
        "memswap_limit": {"type": "string"},
        "cpus": {"type": "number"},
        "pids_limit": {"type": "integer"},
        "read_only": {"const": True},
        "cap_drop": {"const": ["ALL"]},
        "security_opt": {"const": ["no-new-privileges:true"]},
        "logging": mapping({"options": mapping({"max-size": {"type": "string"}, "max-file": {"type": "string"}})}),
    }
)


@functools.cache
def manifests() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/steadyocr.yaml").read_text())
    return {document["kind"]: document for document in documents}


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = manifests()["Deployment"]["spec"]["template"]["spec"]
    return spec


def compose() -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["steadyocr"]
    return service


def defaults() -> Settings:
    return load_settings(environ={})[0]


def container_environment() -> dict[str, str]:
    (text,) = re.findall(r"^ENV (.*?[^\\])$", CONTAINERFILE, re.MULTILINE | re.DOTALL)
    return dict(pair.split("=", 1) for pair in text.replace("\\\n", " ").split())


def test_the_container_file_follows_the_rules() -> None:
    assert problems(CONTAINERFILE) == []


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (":3.11.13-slim-bookworm\n", ":latest\n", "not pinned"),
        ("USER 10001:10001\n", "", "runs as root"),
        ("USER 10001:10001", "USER steadyocr", "not a number"),
        ("--no-cache-dir ", "", "cache"),
        ("--require-hashes ", "", "hash"),
        ("COPY src ./src", "COPY . ./src", "whatever lies around"),
        ("COPY src ./src", "ADD src ./src", "COPY"),
        ("COPY src ./src", "RUN curl -O x", "downloaded"),
        ("COPY src ./src", "RUN apt-get install gcc", "apt-get"),
        ("STEADYOCR_DATA_DIR=/data", "STEADYOCR_AUTH__API_KEYS=x", "secret"),
        ("HEALTHCHECK", "LABEL", "HEALTHCHECK"),
        ('CMD ["serve"]', "CMD serve", "shell"),
        ("ENTRYPOINT", "LABEL", "ENTRYPOINT"),
    ],
)
def test_the_rules_find_what_breaks_them(before: str, after: str, problem: str) -> None:
    assert before in CONTAINERFILE
    assert problem in "; ".join(problems(CONTAINERFILE.replace(before, after)))


def test_what_the_container_file_copies_is_there_and_let_through() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.MULTILINE)
    paths = {path for line in copied for path in line.split()}
    assert paths == let_through
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_container_file_sets_settings_that_exist_and_keeps_the_door_shut() -> None:
    settings, _ = load_settings(environ=container_environment())
    assert settings.data_dir == Path("/data")
    assert "VOLUME /data" in CONTAINERFILE
    assert f"EXPOSE {settings.server.port}\n" in CONTAINERFILE
    with pytest.raises(Exception, match="API key"):
        settings.refuse_open_door()


def test_the_manifests_say_what_they_must() -> None:
    assert sorted(manifests()) == ["Deployment", "PersistentVolumeClaim", "Service"]
    jsonschema.validate(manifests()["Deployment"], DEPLOYMENT)


@pytest.mark.parametrize("missing", ["startupProbe", "readinessProbe", "livenessProbe", "resources"])
def test_a_manifest_without_a_probe_or_limit_is_found(missing: str) -> None:
    broken = {key: value for key, value in pod()["containers"][0].items() if key != missing}
    with pytest.raises(jsonschema.ValidationError, match=missing):
        jsonschema.validate(broken, CONTAINER)


def test_the_manifests_fit_together() -> None:
    deployment, service, claim = (manifests()[kind] for kind in ("Deployment", "Service", "PersistentVolumeClaim"))
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod()["containers"][0]["volumeMounts"]}
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert mounts == {"data": "/data", "tmp": "/tmp"}
    assert pod()["securityContext"]["runAsUser"] == 10001
    assert "USER 10001:10001" in CONTAINERFILE


def test_both_wait_longer_than_a_drain_takes() -> None:
    needed_s = defaults().server.drain_timeout_s + 15
    assert int(compose()["stop_grace_period"].removesuffix("s")) >= needed_s
    pause_s = int(pod()["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod()["terminationGracePeriodSeconds"] >= needed_s + pause_s


def test_the_startup_probe_waits_for_all_attempts_to_get_an_engine() -> None:
    probe = pod()["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 3 * defaults().engines.start_timeout_s


def test_the_compose_file_says_what_it_must() -> None:
    jsonschema.validate(compose(), COMPOSE_SERVICE)
    assert compose()["mem_limit"] == compose()["memswap_limit"], "no swap"


def test_settings_named_in_the_files_exist() -> None:
    texts = (path.read_text() for path in (ROOT / "deploy").rglob("*.yaml"))
    names = {name for text in texts for name in re.findall(r"STEADYOCR_[A-Z]+__[A-Z0-9_]+", text)}
    assert "STEADYOCR_AUTH__API_KEYS" in names
    for name in names:
        section, field = name.removeprefix("STEADYOCR_").lower().split("__")
        assert field in type(getattr(defaults(), section)).model_fields, name


@pytest.mark.parametrize(
    ("environment", "file", "port"),
    [
        ({}, None, 7860),
        ({}, "[server]\nport = 8001\n", 8001),
        ({}, "[queue]\nmax_size = 5\n", 7860),
        ({}, "\ufeff[server]\nport = 8001\n", 8001),
        ({"STEADYOCR_SERVER__PORT": "8002"}, "[server]\nport = 8001\n", 8002),
        ({"STEADYOCR_server__port": "8002"}, None, 8002),
        ({"STEADYOCR_CONFIG": "{data}/other.toml"}, "[server]\nport = 8001\n", 8003),
    ],
)
def test_the_health_check_finds_the_port_as_the_service_does(
    tmp_path: Path, environment: dict[str, str], file: str | None, port: int
) -> None:
    (tmp_path / "other.toml").write_text("[server]\nport = 8003\n")
    if file is not None:
        (tmp_path / "steadyocr.toml").write_text(file)
    given = {name: value.format(data=tmp_path) for name, value in environment.items()}
    given["STEADYOCR_DATA_DIR"] = str(tmp_path)
    assert load_settings(environ=given)[0].server.port == port
    assert int(runpy.run_path(str(CHECK))["find_port"](given)) == port


@pytest.mark.parametrize("file", ["no TOML", "server = 5\n", "\udcff"])
def test_the_health_check_outlives_a_settings_file_that_became_useless(tmp_path: Path, file: str) -> None:
    (tmp_path / "steadyocr.toml").write_text(file, errors="surrogateescape")
    assert runpy.run_path(str(CHECK))["find_port"]({"STEADYOCR_DATA_DIR": str(tmp_path)}) == "7860"


def run_check(port: int) -> subprocess.CompletedProcess[str]:
    # A proxy that is not there must not be asked.
    environment = {**os.environ, "STEADYOCR_SERVER__PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
    return subprocess.run(
        [sys.executable, CHECK], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_health_check_asks_the_deep_check(server: RunningServer) -> None:
    assert run_check(int(server.url.rsplit(":", 1)[1])).returncode == 0
    dead = run_check(free_port())
    assert (dead.returncode, "no answer" in dead.stderr) == (1, True)

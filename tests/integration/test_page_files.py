"""The files of the web page: what they weigh, how they are served, that the strings are complete."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

import steadyocr.webui
from steadyocr.api.app import create_app
from steadyocr.errors import ERRORS_BY_CODE
from steadyocr.service import Service
from steadyocr.settings import Settings
from steadyocr.settings.sections import AuthSettings, ServerSettings
from steadyocr.webui.routes import Asset, load_assets, open_paths, open_prefixes, page_router
from steadyocr.webui.slim import slim_page, slim_script, slim_style

STATIC = Path(steadyocr.webui.__file__).parent / "static"
MAX_PACKED_BYTES = 60_000
# Keys that are put together at run time: the part before the value.
MADE_KEYS = (
    *("error.", "state.", "engine.", "format.", "health.", "knobs.", "stage.", "theme.", "tune.use_"),
    *("batch.file", "batch.state", "batch.size", "batch.time", "batch.lines", "batch.actions"),
)
SCRIPTS = sorted(STATIC.rglob("*.js"))


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """The page over a service that is not started, with keys on."""
    settings = Settings(data_dir=tmp_path, auth=AuthSettings(api_keys=(SecretStr("secret"),)))
    app = create_app(
        Service(settings), extra_routers=(page_router(),), open_paths=open_paths(), open_prefixes=open_prefixes()
    )
    return TestClient(app)


def served() -> dict[str, Asset]:
    """All files by the paths that they are served at."""
    assets = load_assets()
    return {"/": assets.page, **{f"{assets.base}/{name}": asset for name, asset in assets.files.items()}}


def strings(language: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((STATIC / "i18n" / f"{language}.json").read_text(encoding="utf-8"))
    return table


def values_in(text: Any) -> set[str]:
    forms = text.values() if isinstance(text, dict) else [text]
    return {name for form in forms for name in re.findall(r"\{(\w+)\}", form)}


def test_the_page_is_small() -> None:
    packed = {path: len(asset.packed) for path, asset in served().items()}
    languages = [size for path, size in packed.items() if "/i18n/" in path]
    assert len(languages) == 2
    # Nobody loads both at once.
    assert sum(packed.values()) - min(languages) < MAX_PACKED_BYTES


def test_it_opens_without_a_key_and_nothing_else_does(client: TestClient) -> None:
    for path in served():
        assert client.get(path).status_code == 200, path
    for path in ("/v1/info", "/v1/options", "/uii", "/v1/ui/options"):
        assert client.get(path, follow_redirects=False).status_code == 401, path
    # There is nothing else below it.
    for path in ("/ui", "/ui/", "/ui/js/main.js", f"{load_assets().base}/js/main.js/", "/ui/%2e%2e/v1/info"):
        assert client.get(path, follow_redirects=False).status_code == 404, path


@pytest.mark.filterwarnings("ignore::fastapi.exceptions.FastAPIDeprecationWarning")
@pytest.mark.parametrize("root", ["/ocr", "/ui", "/ui/x", "/uix", "/livez"])
def test_no_prefix_of_a_proxy_opens_what_needs_a_key(tmp_path: Path, root: str) -> None:
    """Whether the proxy strips its prefix or not, and whatever a client puts in front itself."""
    settings = Settings(
        data_dir=tmp_path, auth=AuthSettings(api_keys=(SecretStr("secret"),)), server=ServerSettings(root_path=root)
    )
    app = create_app(
        Service(settings), extra_routers=(page_router(),), open_paths=open_paths(), open_prefixes=open_prefixes()
    )
    client = TestClient(app)
    for path in ("/v1/info", f"{root}/v1/info", f"{root}{root}/v1/info", f"/ui{root}/v1/info", f"{root}/v1/options"):
        assert client.get(path, follow_redirects=False).status_code in {401, 404}, path
    assert client.get(f"{root}/v1/info").status_code == 401
    for path in served():
        assert client.get(f"{root}{path}").status_code == 200, path


@pytest.mark.parametrize("name", ["", "js/main.js", "css/app.css", "favicon.svg", "i18n/zh.json"])
def test_headers(client: TestClient, name: str) -> None:
    path = f"{load_assets().base}/{name}" if name else "/"
    answer = client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == ("max-age=31536000, immutable" if name else "no-cache")
    again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.head(path).status_code == 200
    assert client.post(path, headers={"X-API-Key": "secret"}).status_code == 405


def test_a_page_of_another_version_is_served_what_there_is_but_keeps_none_of_it(client: TestClient) -> None:
    now = client.get(f"{load_assets().base}/js/tabs/batch.js")
    for version in ("000000", "x", load_assets().version.upper() + "0"):
        other = client.get(f"/ui/{version}/js/tabs/batch.js")
        assert other.content == now.content
        assert other.headers["cache-control"] == "no-cache"
        again = client.get(f"/ui/{version}/js/tabs/batch.js", headers={"If-None-Match": now.headers["etag"]})
        assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")


def test_every_file_of_a_page_lies_under_its_version(client: TestClient) -> None:
    assets = load_assets()
    linked = re.findall(r"""(?:href|src)="([^"#]+)""", assets.page.body.decode())
    assert linked
    for link in [*linked, *re.findall(r"fetch\(`([^$]+)", assets.files["js/early.js"].body.decode())]:
        assert f"/{link}".startswith(f"{assets.base}/"), link


def test_another_file_is_another_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<body></body>", encoding="utf-8")
    monkeypatch.setattr("steadyocr.webui.routes._STATIC", tmp_path)
    versions = set()
    for body in ("a{b:c}", "a{b:d}", "/* not served */\na{b:d}"):
        (tmp_path / "one.css").write_text(body, encoding="utf-8")
        versions.add(load_assets.__wrapped__().version)
    (tmp_path / "one.css").rename(tmp_path / "two.css")
    versions.add(load_assets.__wrapped__().version)
    assert len(versions) == 3


def test_content_types_and_packing(client: TestClient) -> None:
    base = load_assets().base
    kinds = {path: client.get(path).headers["content-type"] for path in served()}
    assert kinds["/"] == "text/html; charset=utf-8"
    assert kinds[f"{base}/js/main.js"] == "text/javascript; charset=utf-8"
    assert kinds[f"{base}/favicon.svg"] == "image/svg+xml"
    packed = client.get(f"{base}/css/app.css", headers={"Accept-Encoding": "gzip"})
    plain = client.get(f"{base}/css/app.css", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert gzip.decompress(load_assets().files["css/app.css"].packed) == plain.content


def test_links_are_relative_and_lead_nowhere_else() -> None:
    for file in STATIC.rglob("*"):
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"""https?://|["'(`]//\w""", text), file
        assert not re.search(r"""(?:src|href)=["']/""", text), file
        assert not re.search(r"""["'`]/?(?<!\w)/(?:v1|ui|readyz)""", text), file


def test_markup_has_nothing_inline() -> None:
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text)
    for file in SCRIPTS:
        script = file.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script), (
            file
        )


def test_every_preloaded_module_is_there_and_no_early_one_is_missing() -> None:
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    named = {name.removeprefix("ui/") for name in re.findall(r'(?:href|src)="(ui/[^"#]+)"', text)}
    assert all((STATIC / name).is_file() for name in named)
    early: set[str] = set()
    waiting = ["js/main.js"]
    while waiting:
        module = waiting.pop()
        early.add(module)
        source = (STATIC / module).read_text(encoding="utf-8")
        for target in re.findall(r"^import (?:.*? from )?'(\.[^']+)'", source, re.MULTILINE):
            found = ((STATIC / module).parent / target).resolve().relative_to(STATIC.resolve()).as_posix()
            if found not in early:
                waiting.append(found)
    assert early <= named, "a module that the first view needs would be found one round trip late"


def test_both_languages_say_the_same_things() -> None:
    english, chinese = strings("en"), strings("zh")
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert values_in(chinese[key]) == values_in(text), key
        assert text, key
        assert chinese[key], key


def test_every_error_a_client_may_see_has_a_sentence() -> None:
    sentences = {key.removeprefix("error.") for key in strings("en")}
    assert set(ERRORS_BY_CODE) - sentences == set()


def test_every_string_is_used_and_every_key_is_known() -> None:
    sources = "\n".join(file.read_text(encoding="utf-8") for file in [*SCRIPTS, STATIC / "index.html"])
    known = strings("en")
    quoted = set(re.findall(r"""['"`]([a-z]+\.[a-z_0-9]+)['"`]""", sources))
    families = {key.split(".")[0] for key in known if "." in key}
    asked = {key for key in quoted if key.split(".")[0] in families and not key.endswith((".js", ".jpg", ".png"))}
    assert asked - known.keys() == set()
    idle = {key for key in known if key not in quoted and f"'{key}'" not in sources and f'"{key}"' not in sources}
    assert {key for key in idle if not key.startswith(MADE_KEYS)} == set()


def test_slimming_takes_comments_indentation_and_spaces_beside_signs() -> None:
    source = "// one\nconst a = 1;  // kept\n\n  /**\n   * two\n   */\n  b(`x = ${y}`, 'http://y');\n  c()\n"
    assert slim_script(source) == "const a = 1;  // kept\nb(`x = ${y}`,'http://y');c()\n"
    assert slim_script("if (a) {\n  b();\n  c();\n}\nd();\n") == "if(a){b();c()}\nd();"
    page = "<html>\n<head>\n  <title>a b</title>\n  <x>\n</head>\n<body>\n  <p>c\n  <i>d</i>\n  <i>e</i>\n"
    assert slim_page(page) == "<html><head><title>a b</title><x></head><body>\n<p>c\n<i>d</i>\n<i>e</i>\n"
    assert slim_style("/* one\n two */\na, b {\n  b: c; /* kept */\n}\n") == "a,b{b:c;/* kept */}"


@pytest.mark.parametrize(
    "line",
    [
        "a + +b",
        "t(`${x ? ` ${y} : z` : ''}, 1`)",
        """s.replace(/[ ,"] ;/g, '- ')""",
        "throw new Error('a = b');",
        "say('it\\'s = ', x)",
        "a = b",
    ],
)
def test_slimming_changes_no_text_and_joins_no_statements(line: str) -> None:
    quiet = line.replace("a = b", "a=b") if line == "a = b" else line.replace("', x", "',x")
    assert slim_script(f"{line}\nnext();\n") == f"{quiet}{'' if quiet.endswith(';') else chr(10)}next();"


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_scripts_keep_to_what_slimming_relies_on(file: Path) -> None:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        assert line.count("`") % 2 == 0, f"line {number}: a text runs over the end of the line"
        empty = re.match(r"\s*(?:for|while) \((?:[^()]|\([^()]*\))*\);$", line)
        assert not empty, f"line {number}: a loop with an empty body"
    assets = load_assets()
    slim = assets.files[file.relative_to(STATIC).as_posix()].body.decode().replace(f"ui/{assets.version}/", "ui/")
    assert not re.search(r"^\s|^//|^/\*|^\*", slim, re.MULTILINE)
    # Texts are what they were: none was taken for code.
    bare = re.sub(r"^\s*(?://.*\n|/\*(?s:.*?)\*/\n)", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    texts = re.compile(r"'[^'\n]*'|`[^`\n]*`")
    assert texts.findall(slim) == texts.findall(bare)

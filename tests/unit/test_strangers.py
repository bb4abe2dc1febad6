"""Pages of other sites get nowhere; programs, proxies that say what they are called, and the page itself do."""

from __future__ import annotations

import socket

import pytest
from starlette.datastructures import Headers

from steadyocr.api.strangers import StrangerRules
from steadyocr.errors import AccessError

RULES = StrangerRules(("ocr.example.com",))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:7860",
        "[::1]:7860",
        "192.168.7.4",
        "localhost:7860",
        "LOCALHOST.",
        "ocr.localhost:7860",
        "ocr.example.com",
        "OCR.example.com:443",
        f"{socket.gethostname()}:7860",
        "",
    ],
)
def test_addresses_and_the_services_own_names_are_let_in(host: str) -> None:
    RULES.check("GET", Headers({"host": host}))


@pytest.mark.parametrize("host", ["evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example", "[evil]:1"])
def test_a_name_that_somebody_points_here_is_not(host: str) -> None:
    with pytest.raises(AccessError, match="allowed_hosts"):
        RULES.check("GET", Headers({"host": host}))
    StrangerRules(None).check("GET", Headers({"host": host}))


@pytest.mark.parametrize("rules", [RULES, StrangerRules(None)], ids=["some names", "every name"])
def test_what_another_sites_page_sends_is_refused_and_what_it_links_to_is_not(rules: StrangerRules) -> None:
    def headers(site: str) -> Headers:
        return Headers({"host": "127.0.0.1:7860", "sec-fetch-site": site})

    for method in ("POST", "PUT", "DELETE"):
        with pytest.raises(AccessError, match="another site"):
            rules.check(method, headers("cross-site"))
        for site in ("same-origin", "same-site", "none"):
            rules.check(method, headers(site))
        # A program.
        rules.check(method, Headers({"host": "127.0.0.1:7860"}))
    rules.check("GET", headers("cross-site"))

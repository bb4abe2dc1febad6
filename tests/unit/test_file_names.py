"""File names as HTTP libraries send them in forms."""

from __future__ import annotations

import pytest
from python_multipart.multipart import parse_options_header

from steadyocr.api.file_names import as_chosen, with_plain_name

START = b'form-data; name="files"'


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        # Browsers, curl, httpx, requests.
        ('filename="你好.png"'.encode(), "你好.png"),
        # Libraries for whom forms are like any other header.
        (b"filename*=utf-8''%E4%BD%A0%E5%A5%BD.png", "你好.png"),
        (b"filename*=\"utf-8''%E4%BD%A0%E5%A5%BD.png\"", "你好.png"),
        (b"FileName* = UTF-8'zh'%E4%BD%A0.png; size=3", "你.png"),
        # .NET.
        (b"filename=\"=?utf-8?B?5L2g5aW9LnBuZw==?=\"; filename*=utf-8''%E4%BD%A0%E5%A5%BD.png", "你好.png"),
        (b"filename==?utf-8?B?5L2g?=; filename*=utf-8''%E4%BD%A0.png", "你.png"),
        # Both: the plain one counts.
        (b"filename=\"plain.png\"; filename*=utf-8''other.png", "plain.png"),
        (b"filename*=utf-8''other.png; filename=\"plain.png\"", "plain.png"),
        (b"filename=\"a; filename*=utf-8''b.png\"", "a; filename*=utf-8''b.png"),
        (b"filename*=gbk''%C4%E3.png", "你.png"),
        (b"filename*=''%E4%BD%A0.png", "你.png"),
        (b"filename*=no-such''%E4%BD%A0.png", "你.png"),
        (b"filename*=utf-8''%C4%E3.png", "\ufffd\ufffd.png"),
        (b"filename*=utf-8''a%22b%5C%0D%0Ac.png", 'a"b\\__c.png'),
    ],
)
def test_a_name_arrives(sent: bytes, name: str) -> None:
    _, options = parse_options_header(with_plain_name(START + b"; " + sent))
    assert options[b"name"] == b"files"
    assert options[b"filename"].decode() == name


def test_what_browsers_write_with_percent_signs_is_read_back() -> None:
    assert as_chosen("a%22quote%0Aline%0D%0A50%25.png") == 'a"quote_line_50%25.png'


@pytest.mark.parametrize(
    "disposition",
    [
        b"form-data; name=\"a; filename*=utf-8''x\"",
        b'form-data; name="a\\"; filename*=utf-8\'\'x"',
        b"form-data; name=\"without an end; filename*=utf-8''x",
    ],
)
def test_what_stands_in_another_value_is_no_name(disposition: bytes) -> None:
    assert with_plain_name(disposition) == disposition


@pytest.mark.parametrize("sent", [b"", b"; filename*=nothing", b"; filename*", b"; filename*=''"])
def test_where_there_is_none_none_is_made_up(sent: bytes) -> None:
    _, options = parse_options_header(with_plain_name(START + sent))
    assert not options.get(b"filename")

"""What a browser does not need of a source file: comments on lines of their own, indentation, spaces beside signs.

Simple on purpose: it knows no grammar. In scripts it squeezes only lines in which nothing can be mistaken: one with a
slash outside quotes (a regular expression, a comment) or with several templates (one may lie in another) keeps its
spaces and its end. The page's sources keep to what the rest relies on (a test looks): block comments stand on lines of
their own, no text runs over a line's end, and no loop has an empty body.
"""

from __future__ import annotations

import re
from typing import Final

_BLOCK: Final = re.compile(r"^[ \t]*/\*.*?\*/[ \t]*\n", re.MULTILINE | re.DOTALL)
_LINE: Final = re.compile(r"^[ \t]*//.*\n", re.MULTILINE)
_INDENT: Final = re.compile(r"^[ \t\n]+", re.MULTILINE)
_QUOTED: Final = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`)""")
# Not plus and minus: "a + +b" needs its space.
_SPACED: Final = re.compile(r" ?([=*{}()\[\],;:?<>&|!]) ?")
# After these no statement ends, whatever follows; after others a line's end may be a semicolon.
_GOES_ON: Final = ("{", "(", "[", ",", ";")
_STYLE_SIGNS: Final = re.compile(r"\s*([{};,])\s*|(:) ")


def slim_script(source: str) -> str:
    """Return a module without whole-line comments, indentation and most spaces."""
    lines = [_slim_line(line) for line in _INDENT.sub("", _LINE.sub("", _BLOCK.sub("", source))).splitlines()]
    # A block's last statement ends with the block.
    return "".join(
        line[:-1] if line.endswith(";") and after.startswith("}") else line
        for line, after in zip(lines, [*lines[1:], ""], strict=True)
    )


def slim_style(source: str) -> str:
    """Return a style sheet without comments, indentation and spaces beside signs."""
    return _STYLE_SIGNS.sub(r"\1\2", _INDENT.sub("", _BLOCK.sub("", source))).replace(";}", "}")


def slim_page(source: str) -> str:
    """Return a page without indentation, and without the ends of lines in its head, where nothing is shown."""
    head, body, rest = _INDENT.sub("", source).partition("<body>")
    return head.replace(">\n", ">") + body + rest


def _slim_line(line: str) -> str:
    parts = _QUOTED.split(line)
    if line.count("`") > 2 or any("/" in code for code in parts[::2]):
        return f"{line}\n"
    slim = "".join(part if index % 2 else _SPACED.sub(r"\1", part) for index, part in enumerate(parts))
    return slim if slim.endswith(_GOES_ON) else f"{slim}\n"

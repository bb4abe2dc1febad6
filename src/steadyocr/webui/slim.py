"""What a browser does not need of a source file: whole-line comments and indentation. A seventh of the page's weight.

Simple on purpose: it knows no grammar, so the page's sources keep to what it relies on (a test looks): block comments
stand on lines of their own, and no text runs over a line's end.
"""

from __future__ import annotations

import re
from typing import Final

_BLOCK: Final = re.compile(r"^[ \t]*/\*.*?\*/[ \t]*\n", re.MULTILINE | re.DOTALL)
_LINE: Final = re.compile(r"^[ \t]*//.*\n", re.MULTILINE)
_INDENT: Final = re.compile(r"^[ \t\n]+", re.MULTILINE)


def slim_script(source: str) -> str:
    """Return a module without whole-line comments and indentation."""
    return _INDENT.sub("", _LINE.sub("", _BLOCK.sub("", source)))


def slim_style(source: str) -> str:
    """Return a style sheet without whole-line comments and indentation."""
    return _INDENT.sub("", _BLOCK.sub("", source))

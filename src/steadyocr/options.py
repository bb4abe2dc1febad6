"""The options of a request: one table that validation, documentation and user interfaces are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from steadyocr.errors import InvalidOption
from steadyocr.types import OcrOptions, Quality

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One option: its type, range and meaning. Defaults are the serving model's own."""

    name: str
    type: Literal["number", "integer", "boolean", "string"]
    description: str
    minimum: float | None = None
    maximum: float | None = None
    default: float | bool | str | None = None
    choices: tuple[str, ...] = ()


OPTION_SPECS: Final = (
    OptionSpec(
        name="bin_threshold",
        type="number",
        minimum=0.0,
        maximum=1.0,
        description="text probability above which a pixel belongs to a line; lower it for faint text",
    ),
    OptionSpec(
        name="box_threshold",
        type="number",
        minimum=0.0,
        maximum=1.0,
        description="mean probability below which a line is dropped; raise it on busy backgrounds",
    ),
    OptionSpec(
        name="unclip_ratio",
        type="number",
        minimum=0.0,
        maximum=5.0,
        description="how far the detected core of a line is grown: offset = area x ratio / perimeter",
    ),
    OptionSpec(
        name="max_side",
        type="integer",
        minimum=32,
        maximum=4096,
        description="longest side given to the detector, in pixels; larger pictures are shrunk, ratio kept",
    ),
    OptionSpec(
        name="quality",
        type="string",
        choices=get_args(Quality),
        default="shrink",
        description="shrink: one look at the whole picture; tile: at native scale, for small text on huge pictures",
    ),
    OptionSpec(name="recognise", type="boolean", default=True, description="read the lines, not only find them"),
)
_SPECS: Final = {spec.name: spec for spec in OPTION_SPECS}


def parse_options(values: Mapping[str, Any], *, recognise: bool = True, overlay: bool = False) -> OcrOptions:
    """Check a request's options.

    Args:
        values: By name; texts as they come from a query or a form, or JSON values.
        recognise: What ``recognise`` is when the request does not say.
        overlay: Whether the overlay picture is wanted.

    Raises:
        InvalidOption: An option is unknown, of the wrong type or out of range; the message names it and the range.
    """
    parsed: dict[str, Any] = {"recognise": recognise}
    for name, value in values.items():
        spec = _SPECS.get(name)
        if spec is None:
            raise InvalidOption(f"unknown option {name[:40]!r}; known: {', '.join(_SPECS)}", option=name[:40])
        parsed[name] = _parse(spec, value)
    return OcrOptions(**parsed, overlay=overlay)


def parse_boolean(value: object, name: str) -> bool:
    """Understand a truth value, as a text or as JSON has it.

    Raises:
        InvalidOption: It is none.
    """
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise InvalidOption(f"{name} must be true or false", option=name)
    return text in _TRUE


def _parse(spec: OptionSpec, value: object) -> float | bool | str:
    if spec.type == "string":
        if value not in spec.choices:
            raise InvalidOption(f"{spec.name} must be one of {', '.join(spec.choices)}", option=spec.name)
        return str(value)
    if spec.type == "boolean":
        return parse_boolean(value, spec.name)
    if spec.type == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)  # 1280.0 is an integer to JSON
    try:
        # By way of its text: True is a number to Python, but to nobody else.
        number = int(str(value)) if spec.type == "integer" else float(str(value))
    except ValueError as error:
        raise InvalidOption(f"{spec.name} must be of type {spec.type}", option=spec.name) from error
    minimum, maximum = spec.minimum or 0.0, spec.maximum or 0.0
    # Written so that not-a-number is refused too.
    if not minimum <= number <= maximum:
        raise InvalidOption(f"{spec.name} must lie between {minimum:g} and {maximum:g}", option=spec.name)
    return number

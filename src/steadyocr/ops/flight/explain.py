"""A flight record in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from steadyocr.ops.alerts.notices import say_span, say_time

_CAUSES: Final = {
    "crash": "crashed",
    "out_of_memory": "was killed by the kernel because memory ran out",
    "hang": "hung and was killed",
    "starved": "was given too little of the machine to get on, and was killed",
    "overdue": "worked on after everybody had stopped waiting, and was killed",
    "unsound": "ended by itself, as it read even the golden picture no more after a fault",
    "exit": "ended by itself",
    "outside": "was killed from outside",
    "start_failed": "could not be started",
}
_STEPS: Final = ("decode", "detect", "order", "recognise", "overlay")
_OUTCOMES: Final = {
    "ok": "was read by another engine",
    "quarantined": "was quarantined: it had ended engines alone, too",
    "engine_died": "was given up: engines ended with it again and again through no fault of its own",
    "deadline_exceeded": "was not answered in its time",
    "cancelled": "was given up, nobody waited any more",
    "memory_pressure": "was refused for want of memory",
}
_MIB: Final = 1 << 20
_LAST_EVENTS: Final = 12


def explain(name: str, record: Mapping[str, Any]) -> str:
    """Return what a record says, for a person.

    Args:
        name: Of its file.
        record: As it was written.
    """
    death = record.get("death")
    lines = [f"{name}: {record.get('reason')}"]
    if death:
        lines += _explain_death(death, record)
    if service := record.get("service_death"):
        lines += _explain_service_death(service)
    if situation := record.get("situation"):
        lines += _explain_situation(situation)
    lines.append("")
    lines += _last_events(record.get("events") or {})
    return "\n".join(lines)


def _explain_death(death: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[str]:
    cause = _CAUSES.get(str(death.get("cause")), str(death.get("cause")))
    how = death.get("signal") or f"exit code {death.get('exit_code')}"
    age = f", {say_span(death['uptime_s'])} after its start" if death.get("uptime_s") is not None else ""
    yield f"{say_time(death['at'])}: engine {death.get('slot')} (process {death.get('pid')}) {cause} ({how}){age}."
    item = death.get("item")
    if not item:
        yield f"It had no picture in hand. Memory: {_say_peak(death, None)}."
        return
    yield from _explain_item(death, item)
    yield f"Afterwards: {_say_outcome(item, record.get('outcome'))}."


def _explain_service_death(death: Mapping[str, Any]) -> Iterator[str]:
    lived = f" after {say_span(death['uptime_s'])} at least" if death.get("uptime_s") is not None else ""
    seen = f", last seen alive at {say_time(death['seen_at'])}" if death.get("seen_at") is not None else ""
    yield f"The service itself (process {death.get('pid')}) was gone{lived}{seen}."
    if death.get("rebooted"):
        yield "The machine was started anew since: it went down, or lost its power, with the service running."
        return
    yield (
        "A process that is killed says nothing, so it is not known by whom: by hand (kill -9), by the kernel for want "
        "of memory, by systemd's watchdog, or by a fault of the interpreter."
    )
    yield "Ask: journalctl -u steadyocr, systemctl status steadyocr, dmesg; in containers: docker inspect (OOMKilled)."


def _explain_item(death: Mapping[str, Any], item: Mapping[str, Any]) -> Iterator[str]:
    what = {"run": "a picture", "golden": "the golden picture"}.get(str(item.get("kind")), f"{item.get('kind')} work")
    size = f" of {item['width']} x {item['height']} pixels" if item.get("width") else ""
    asked = f" (request {item['request_id']})" if item.get("request_id") else ""
    yield f"In hand: {what}{size}{asked}, on attempt {max(1, item.get('attempts') or 1)}."
    yield f"Step: {_say_step(death.get('stage'))}{_say_running(item.get('running_s'))}."
    yield f"Memory: {_say_peak(death, item.get('predicted_bytes'))}."
    yield f"Ladder: {_say_ladder(item)}."


def _say_step(stage: object) -> str:
    if stage not in _STEPS:
        return "not begun" if stage is None else str(stage)
    return f"{stage} (step {_STEPS.index(str(stage)) + 1} of {len(_STEPS)})"


def _say_running(running_s: float | None) -> str:
    return "" if running_s is None else f", {say_span(running_s)} after it was handed over"


def _say_peak(death: Mapping[str, Any], predicted: float | None) -> str:
    real = death.get("peak_bytes") or death.get("rss_bytes")
    if not real:
        return "unknown" if not predicted else f"{predicted / _MIB:.0f} MiB were predicted, the real peak is unknown"
    if death.get("peak_is_exact"):
        said = f"{real / _MIB:.0f} MiB in reality"
    elif death.get("peak_bytes"):
        said = f"at least {real / _MIB:.0f} MiB in reality, when last looked at"
    else:
        said = f"{real / _MIB:.0f} MiB when it was last idle"
    if not predicted:
        return said
    return f"{predicted / _MIB:.0f} MiB predicted, {said} ({real / predicted:.2f} times as much)"


def _say_ladder(item: Mapping[str, Any]) -> str:
    steps = item.get("step") or []
    if not item.get("cap"):
        return "full quality, nothing was taken away"
    return f"{', '.join(steps) or 'smaller'}: the longer side was held to {item['cap']} pixels"


def _say_outcome(item: Mapping[str, Any], outcome: Mapping[str, Any] | None) -> str:
    if outcome is None:
        unknown = "it is not known, because the work has no request id" if not item.get("request_id") else ""
        return unknown or "it was still on its way when this was written"
    code = str(outcome.get("code"))
    said = _OUTCOMES.get(code, f"ended with the error {code}")
    spent = f" in {say_span(outcome['service_s'])}" if outcome.get("service_s") and code == "ok" else ""
    smaller = f", {', '.join(outcome['degraded'])}" if outcome.get("degraded") else ""
    return f"the picture {said}{spent}{smaller}, {outcome.get('attempts')} engine(s) had died with it"


def _explain_situation(situation: Mapping[str, Any]) -> Iterator[str]:
    budget = situation.get("budget_bytes") or 0
    waiting = situation.get("waiting")
    yield (
        f"Around it: memory pressure level {situation.get('pressure')}, budget {budget / _MIB:.0f} MiB, "
        f"front {(situation.get('front_rss_bytes') or 0) / _MIB:.0f} MiB, {waiting} waiting"
        + (f", not ready: {situation['unready']}" if situation.get("unready") else "")
        + "."
    )


def _last_events(rings: Mapping[str, Any]) -> Iterator[str]:
    entries = sorted((entry for ring in rings.values() for entry in ring), key=lambda entry: float(entry.get("at", 0)))
    yield f"The last {min(len(entries), _LAST_EVENTS)} of {len(entries)} events before it:"
    for entry in entries[-_LAST_EVENTS:]:
        facts = " ".join(f"{name}={_short(value)}" for name, value in entry.items() if name not in ("at", "event"))
        yield f"  {say_time(entry.get('at', 0))}  {entry.get('event')}  {facts}"[:200]


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + " ".join(f"{name}={part}" for name, part in value.items() if part is not None) + "}"
    return str(value)

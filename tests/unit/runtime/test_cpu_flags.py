from __future__ import annotations

from pathlib import Path

import openvino as ov
import pytest

from steadyocr.runtime.base import SessionOptions
from steadyocr.runtime.cpu import bf16_is_slow, cpu_flags, cpu_model, training_pays_in_bf16
from steadyocr.runtime.manifest import find_model
from steadyocr.runtime.openvino import OpenVINOSession


@pytest.mark.parametrize(
    ("flags", "slow", "trains_fast"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", True, False),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 amx_tile amx_bf16", False, True),
        ("flags\t\t: fpu avx2", False, False),
        ("Features\t: fp asimd bf16", False, False),
        ("", False, False),
    ],
)
def test_bf16_without_fast_units_for_it_is_slow(tmp_path: Path, flags: str, slow: bool, trains_fast: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: made up\n{flags}\n")
    assert bf16_is_slow(cpuinfo) is slow
    assert training_pays_in_bf16(cpuinfo) is trains_fast


def test_a_processor_that_does_not_tell_has_no_features(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path / "missing") == frozenset()
    assert not bf16_is_slow(tmp_path / "missing")


@pytest.mark.parametrize(("slow", "hints"), [(True, "f32"), (False, None)])
def test_openvino_is_told_where_bf16_is_slow(monkeypatch: pytest.MonkeyPatch, slow: bool, hints: str | None) -> None:
    monkeypatch.setattr("steadyocr.runtime.openvino.bf16_is_slow", lambda: slow)
    given: dict[str, object] = {}

    def compile_model(_: object, __: object, ___: str, config: dict[str, object]) -> None:
        given.update(config)
        raise InterruptedError

    monkeypatch.setattr(ov.Core, "compile_model", compile_model)
    session = OpenVINOSession(find_model("resnet18-db").verified_file(), SessionOptions(threads=1))
    with pytest.raises(InterruptedError):
        session.run(None)  # type: ignore[arg-type]
    assert given.get("INFERENCE_PRECISION_HINT") == hints


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "processor: 0\nmodel name\t: Xeon 8481C\nstepping\t: 8\n\nprocessor: 1\nmodel name\t: other\n",
            "Xeon 8481C 8",
        ),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd40\nCPU revision\t: 1\n", "0x41 0xd40 1"),
        ("", ""),
    ],
)
def test_a_processor_has_a_name(tmp_path: Path, lines: str, expected: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(lines)
    assert cpu_model(cpuinfo) == expected

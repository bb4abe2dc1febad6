"""bfloat16 is used where it is faster, and nowhere else: torch emulates it at more than ten times the cost."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from labelled import make_folder  # noqa: E402
from steadyocr.training import loop, model, precision  # noqa: E402
from steadyocr.training.config import Source, TrainConfig, ValidationConfig  # noqa: E402


@pytest.mark.parametrize("pays", [True, False])
def test_on_a_processor_it_takes_units_for_it(monkeypatch: pytest.MonkeyPatch, pays: bool) -> None:
    monkeypatch.setattr(precision, "training_pays_in_bf16", lambda: pays)
    assert precision.bf16_pays("cpu") is pays


@pytest.mark.parametrize(("capability", "pays"), [((9, 0), True), ((8, 0), True), ((7, 5), False)])
def test_on_a_card_too(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], pays: bool) -> None:
    of_cards = {torch.device("cuda:1"): capability}
    monkeypatch.setattr(torch.cuda, "get_device_capability", of_cards.__getitem__)
    assert precision.bf16_pays("cuda:1") is pays


@pytest.mark.parametrize(("wanted", "pays"), [(True, True), (True, False), (False, True)])
def test_a_run_computes_in_it_where_it_is_wanted_and_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool, pays: bool
) -> None:
    monkeypatch.setattr(model, "_STAGE_CHANNELS", (8, 8, 16, 16))
    monkeypatch.setattr(loop, "bf16_pays", lambda _: pays)
    computed: set[object] = set()
    forward = torch.nn.functional.conv2d

    def spy(*args: object, **options: object) -> object:
        out = forward(*args, **options)
        computed.add(out.dtype)
        return out

    monkeypatch.setattr(torch.nn.functional, "conv2d", spy)
    folder = str(make_folder(tmp_path / "data", 2))
    config = TrainConfig(
        sources=(Source(path=folder),),
        inner_channels=8,
        crop_size=64,
        batch_size=2,
        epochs=1,
        num_workers=0,
        bf16=wanted,
        validation=ValidationConfig(sources=(Source(path=folder),), max_side=64),
    )
    loop.train(config, tmp_path / "run")
    assert computed == {torch.bfloat16 if wanted and pays else torch.float32}

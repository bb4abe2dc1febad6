from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from steadyocr.errors import DatasetError
from steadyocr.training.synth import effects, writer
from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.colours import rgb
from steadyocr.training.synth.fonts import FontBook, discover
from steadyocr.training.synth.picture import KINDS, finish, render_picture
from steadyocr.training.synth.sheet import Mark, Sheet, Style, layer, plain, write
from steadyocr.training.synth.text import TextSource
from steadyocr.training.synth.warp import Bend, cross_area, lay, quad_to_quad
from steadyocr.training.synth.writer import Job, write_dataset, write_picture

DEJAVU = Path("/usr/share/fonts/truetype/dejavu")


@pytest.fixture(scope="module")
def assets() -> Assets:
    faces = discover((DEJAVU,)) or discover()
    if not faces:
        pytest.skip("no font on this machine")
    return Assets(FontBook(faces), TextSource())


def style(assets: Assets, **changes: object) -> Style:
    face = assets.face(np.random.default_rng(0), "en", "sans")
    return Style(**({"face": face, "size": 30, "fill": rgb(0, 0, 0)} | changes))  # type: ignore[arg-type]


def ink_outside(before: np.ndarray, after: np.ndarray, quads: list[np.ndarray], grow_px: int) -> float:
    """Share of the changed pixels that lie in no quad (grown by so many pixels)."""
    changed = np.abs(before.astype(int) - after.astype(int)).max(axis=2) > 40
    inside = np.zeros(changed.shape, dtype=np.uint8)
    for quad in quads:
        cv2.fillPoly(inside, [np.round(quad).astype(np.int32)], 1)
    if grow_px:
        inside = cv2.dilate(inside, np.ones((2 * grow_px + 1, 2 * grow_px + 1), np.uint8))
    assert changed.any()
    return float((changed & (inside == 0)).sum() / changed.sum())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_quads_lie_in_the_picture_and_run_clockwise(assets: Assets, kind: str) -> None:
    for seed in range(2):
        image, lines = render_picture(np.random.default_rng(seed), assets, kind)
        height, width = image.shape[:2]
        assert image.dtype == np.uint8
        assert 300 <= min(width, height) <= max(width, height) <= 2400
        for line in lines:
            assert line.quad.shape == (4, 2)
            assert (line.quad >= 0).all()
            assert (line.quad <= (width - 1, height - 1)).all()
            assert cross_area(line.quad) > 0
            assert line.text
            assert "\n" not in line.text
        assert bool(lines) == (kind != "blank") or seed >= 0


def test_same_seed_same_picture(assets: Assets) -> None:
    for kind in ("sign", "document", "ad"):
        first, labels = render_picture(np.random.default_rng([3, 4]), assets, kind)
        second, again = render_picture(np.random.default_rng([3, 4]), assets, kind)
        assert np.array_equal(first, second)
        assert [line.text for line in labels] == [line.text for line in again]
        other, _ = render_picture(np.random.default_rng([3, 5]), assets, kind)
        assert first.shape != other.shape or not np.array_equal(first, other)


def test_ink_lies_in_its_quad_and_fills_it(assets: Assets) -> None:
    before = plain(500, 80, rgb(255, 255, 255))
    after = plain(500, 80, rgb(255, 255, 255))
    for changes in ({}, {"stroke_px": 3, "stroke": rgb(200, 0, 0)}, {"spacing": 6.0}):
        after = plain(500, 80, rgb(255, 255, 255))
        mark = write(after, 20, 50, "Straße 12 gh", style(assets, **changes))
        assert mark is not None
        assert ink_outside(before.rgb, after.rgb, [mark.quad], 0) == 0
        ys, xs = np.nonzero(np.abs(after.rgb.astype(int) - 255).max(axis=2) > 40)
        margins = np.array(
            [
                xs.min() - mark.quad[0, 0],
                ys.min() - mark.quad[0, 1],
                mark.quad[2, 0] - xs.max(),
                mark.quad[2, 1] - ys.max(),
            ]
        )
        assert (margins >= 0).all()
        assert (margins <= 0.12 * mark.height + 2).all()


@pytest.mark.parametrize("bend", [None, Bend(6.0, 0.4, 0.7, 300)])
def test_ink_moves_with_its_quad(assets: Assets, bend: Bend | None) -> None:
    base = Sheet(np.full((400, 500, 3), 255, dtype=np.uint8))
    top = layer(300, 80, rgb(255, 255, 255))
    write(top, 20, 52, "Turned text", style(assets))
    source = np.array([[0, 0], [300, 0], [300, 80], [0, 80]], dtype=np.float64)
    target = np.array([[60, 300], [330, 90], [380, 160], [120, 370]], dtype=np.float64)
    before = base.rgb.copy()
    lay(base, top, quad_to_quad(source, target), bend)
    [mark] = base.marks
    assert ink_outside(before, base.rgb, [mark.quad], 1) < 0.005
    reading = mark.quad[1] - mark.quad[0]
    assert reading[0] > 0 > reading[1]


def test_photographed_page_keeps_ink_under_labels(assets: Assets) -> None:
    for seed in range(6):
        blank, page = plain(600, 500, rgb(255, 255, 255)), plain(600, 500, rgb(255, 255, 255))
        for y in range(60, 480, 60):
            write(page, 60, y, "The quick brown fox", style(assets, size=24))
        empty = effects.photographed(np.random.default_rng(seed), assets, blank)
        full = effects.photographed(np.random.default_rng(seed), assets, page)
        assert ink_outside(empty.rgb, full.rgb, [m.quad for m in full.marks], 1) < 0.01


def test_what_cannot_be_read_is_ignored() -> None:
    def mark(width: float, height: float, contrast: float, x: float = 10.0) -> Mark:
        return Mark(np.array([[x, 10], [x + width, 10], [x + width, 10 + height], [x, 10 + height]]), "abc", contrast)

    def ignored(mark: Mark, blur: float = 0.0) -> bool | None:
        line = finish(mark, 200, 100, blur)
        return None if line is None else line.ignore

    assert ignored(mark(60, 20, 200)) is False
    assert ignored(mark(60, 4, 200)) is True
    assert ignored(mark(60, 20, 8)) is True
    assert ignored(mark(60, 20, 200), blur=6) is True
    assert ignored(mark(60, 20, 200, x=180)) is True
    assert ignored(mark(60, 20, 200, x=199)) is None
    cut = finish(mark(100, 20, 200, x=130), 200, 100, 0)
    assert cut is not None
    assert not cut.ignore
    assert np.allclose(cut.quad[:, 0], [130, 199, 199, 130])


def test_falls_back_to_latin_without_cjk_fonts(assets: Assets) -> None:
    if discover((DEJAVU,)):
        assert assets.fonts.languages == {"en"}
    _, lines = render_picture(np.random.default_rng(5), assets, "ad")
    assert lines
    face = assets.face(np.random.default_rng(0), "zh")
    assert all(face.covers(line.text) or line.text for line in lines)


def test_no_font_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="font"):
        Assets.load(font_dirs=(tmp_path,))


def test_coverage_agrees_with_the_drawn_glyphs(assets: Assets) -> None:
    face = assets.face(np.random.default_rng(1), "en", "sans")
    assert face.covers("Grüße, 12.50 €")
    assert face.fit("a\U0001f600b\uffff") == "ab"


def test_dataset_does_not_depend_on_workers(tmp_path: Path, assets: Assets) -> None:
    seen: list[tuple[int, int]] = []
    write_dataset(tmp_path / "two", 3, 11, 2, kinds=("plates", "blank"), progress=lambda d, n: seen.append((d, n)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    rows = [json.loads(row) for row in (tmp_path / "two" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    write_dataset(tmp_path / "one", 3, 11, 1, kinds=("plates", "blank"))
    assert rows == [
        json.loads(row) for row in (tmp_path / "one" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for row in rows:
        labels = (tmp_path / "two" / row["label"]).read_text(encoding="utf-8").splitlines()
        assert len(labels) == row["boxes"]
        assert all(len(one.split(",", 8)) == 9 for one in labels)
        picture = cv2.imread(str(tmp_path / "two" / row["file"]))
        assert picture is not None
        assert picture.shape[:2] == (row["h"], row["w"])


def test_picture_depends_on_seed_and_index_alone(tmp_path: Path, assets: Assets) -> None:
    for part in ("a/images", "a/labels", "b/images", "b/labels"):
        (tmp_path / part).mkdir(parents=True)
    first = write_picture(Job(tmp_path / "a", 2), assets, 5)
    write_picture(Job(tmp_path / "b", 2), assets, 4)
    assert write_picture(Job(tmp_path / "b", 2), assets, 5) == first


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DatasetError, match="not empty"):
        write_dataset(tmp_path, 1, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_refuses_an_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="unknown kind 'poem'"):
        write_dataset(tmp_path / "x", 1, 0, kinds=("poem",))


@pytest.mark.parametrize("source", ["backgrounds_dir", "corpora_dir"])
def test_refuses_a_folder_to_draw_from_that_is_not_there(tmp_path: Path, source: str) -> None:
    with pytest.raises(DatasetError, match="typo: no such folder"):
        write_dataset(tmp_path / "x", 1, 0, 2, **{source: tmp_path / "typo"})  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_refuses_a_negative_seed(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="seed"):
        write_dataset(tmp_path / "x", 1, -1)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("assets")
def test_processes_that_cannot_start_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_start", divmod)  # fails on what it is given
    with pytest.raises(DatasetError, match="a process that renders has died"):
        write_dataset(tmp_path / "x", 1, 0, 2)

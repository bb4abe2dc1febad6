"""Three ICDAR dialects, our own layout, LabelMe and COCO; errors name file and line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from labelled import make_folder, make_icdar
from steadyocr.errors import DatasetError
from steadyocr.training.checker import check_folder
from steadyocr.training.json_labels import read_json_labels
from steadyocr.training.labels import parse_label_line, read_folder, read_folders, read_label_file
from steadyocr.training.regions import LabelledImage

ROW = "1,2,31,2,31,12,1,12,text"


def test_dialect_a(tmp_path: Path) -> None:
    images = read_folder(make_icdar(tmp_path / "set"))
    assert [image.path.name for image in images] == ["0.png", "1.png", "2.png"]
    assert all(len(image.regions) == 1 and image.dataset == "set" for image in images)


def test_dialect_b_names_both_files(tmp_path: Path) -> None:
    root = make_icdar(tmp_path)
    rows = [f"train_images/{n}.png train_gts/{n}.txt" for n in (2, 0)]
    (root / "train_list.txt").write_text("\n".join(rows), encoding="utf-8")
    assert [image.path.name for image in read_folder(root)] == ["2.png", "0.png"]


def test_dialect_c_has_a_prefix_and_a_bom(tmp_path: Path) -> None:
    images = read_folder(make_icdar(tmp_path, prefix="gt_", bom=True))
    assert len(images) == 3
    assert images[0].regions[0].text == "bar"


def test_test_split_is_read_when_asked_for(tmp_path: Path) -> None:
    make_icdar(tmp_path, 3)
    make_icdar(tmp_path, 2, "test")
    assert len(read_folder(tmp_path, "test")) == 2


def test_picture_name_with_a_blank(tmp_path: Path) -> None:
    root = make_icdar(tmp_path, 1)
    (root / "train_images" / "0.png").rename(root / "train_images" / "a b.png")
    (root / "train_gts" / "0.txt").rename(root / "train_gts" / "a b.txt")
    (root / "train_list.txt").write_text("a b.png\n", encoding="utf-8")
    assert read_folder(root)[0].path.name == "a b.png"


@pytest.mark.parametrize("between", ["\t", " ", " \t "])
@pytest.mark.parametrize("name", ["a b", "a  b", "a\u3000b"])
def test_dialect_b_takes_names_with_blanks(tmp_path: Path, name: str, between: str) -> None:
    root = make_icdar(tmp_path, 1)
    (root / "train_images" / "0.png").rename(root / "train_images" / f"{name}.png")
    (root / "train_gts" / "0.txt").rename(root / "train_gts" / f"{name}.txt")
    for row in (f"train_images/{name}.png{between}train_gts/{name}.txt", f"{name}.png{between}{name}.txt"):
        (root / "train_list.txt").write_text(f"{row}\n", encoding="utf-8")
        (labelled,) = read_folder(root)
        assert (labelled.path.name, labelled.regions[0].text) == (f"{name}.png", "bar")
        assert not check_folder(root).problems


def test_blanks_round_a_name_belong_to_it_when_the_file_says_so(tmp_path: Path) -> None:
    root = make_icdar(tmp_path, 1)
    (root / "train_images" / "0.png").rename(root / "train_images" / " 0 .png ")
    for row in (" 0 .png \ttrain_gts/0.txt", "train_images/ 0 .png \t0.txt"):
        (root / "train_list.txt").write_text(f"{row}\n", encoding="utf-8")
        assert read_folder(root)[0].path.name == " 0 .png "


def test_line_separators_of_unicode_do_not_end_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{ROW}\u2028more\x0cand more\r\n{ROW}\r{ROW}", encoding="utf-8")
    assert [region.text for region in read_label_file(path)] == ["text\u2028more\x0cand more", "text", "text"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("gone.png", r"train_list.txt:2: no such picture: gone.png"),
        ("train_images/0.png train_gts/gone.txt", r"train_list.txt:2: no such label file: train_gts/gone.txt"),
        ("0.png\ttrain_gts/a b.txt", r"train_list.txt:2: no such label file: train_gts/a b.txt"),
        ("a b.png\ttrain_gts/0.txt", r"train_list.txt:2: no such picture: a b.png"),
        ("x" * 5000, r"train_list.txt:2: no such picture: xxx"),
    ],
)
def test_missing_file_is_named_with_its_line(tmp_path: Path, entry: str, message: str) -> None:
    root = make_icdar(tmp_path)
    (root / "train_list.txt").write_text(f"0.png\n{entry}\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_folder(root)


def test_own_layout_reads_the_sets_from_its_manifest(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "own", 2)
    assert {image.dataset for image in read_folder(root)} == {"own"}
    rows = [{"file": "images/1.png", "dataset": "forms"}, {"file": "images/0.png", "label": "labels/0.txt"}]
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert [(image.path.name, image.dataset) for image in read_folder(root)] == [("1.png", "forms"), ("0.png", "own")]
    (root / "manifest.jsonl").write_text('\n{"nofile": 1}\n', encoding="utf-8")
    with pytest.raises(DatasetError, match=r"manifest.jsonl:2"):
        read_folder(root)


def test_text_may_hold_commas_and_be_ignored() -> None:
    assert parse_label_line(f"{ROW},with, commas", "f:1").text == "text,with, commas"
    assert parse_label_line("1,2,31,2,31,12,1,12,###", "f:1").ignore
    assert not parse_label_line("1,2,31,2,31,12,1,12,", "f:1").ignore
    assert parse_label_line("1.5,2,31,2,31,12,1,12", "f:1").polygon[0] == pytest.approx([1.5, 2])


def test_bom_blank_lines_and_foreign_row_ends_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + f"\r\n{ROW}\r\n\r\n{ROW}".encode())
    assert [region.text for region in read_label_file(path)] == ["text", "text"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,2,3", r"a.txt:3: 3 fields"),
        ("1,2,x,2,31,12,1,12,t", r"a.txt:3: a coordinate is not a number"),
        ("1,2,nan,2,31,12,1,12,t", r"a.txt:3: a coordinate is not finite"),
        ("1,2,1e39,2,31,12,1,12,t", r"a.txt:3: a coordinate is not finite"),
    ],
)
def test_bad_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{ROW}\n\n{row}\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_label_file(path)


def test_other_encodings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(f"{ROW}\n".encode() + "1,2,31,2,31,12,1,12,中文\n".encode("gbk"))
    with pytest.raises(DatasetError, match=r"a.txt:2: not UTF-8"):
        read_label_file(path)


def test_labelme(tmp_path: Path) -> None:
    shapes = [
        {"label": "a", "points": [[0, 0], [9, 0], [9, 5], [4, 7], [0, 5]]},
        {"label": "###", "shape_type": "rectangle", "points": [[20, 30], [10, 25]]},
    ]
    path = tmp_path / "page.json"
    path.write_text(json.dumps({"imagePath": "page.png", "shapes": shapes}), encoding="utf-8")
    (found,) = read_json_labels(path)
    assert found.path == tmp_path / "page.png"
    assert [len(region.polygon) for region in found.regions] == [5, 4]
    assert found.regions[1].polygon.tolist() == [[10, 25], [20, 25], [20, 30], [10, 30]]
    assert found.regions[1].ignore
    assert read_folder(tmp_path)[0].path.name == "page.png"


def test_coco(tmp_path: Path) -> None:
    values = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 7, "segmentation": [[0, 0, 9, 0, 9, 5, 0, 5]], "attributes": {"text": "hello"}},
            {"image_id": 7, "bbox": [1, 2, 3, 4], "iscrowd": 1},
        ],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    first, second = read_json_labels(path)
    assert (first.path, second.regions) == (tmp_path / "a.jpg", ())
    assert [region.text for region in first.regions] == ["hello", ""]
    assert first.regions[1].ignore
    assert np.array_equal(first.regions[1].polygon, [[1, 2], [4, 2], [4, 6], [1, 6]])


CROSSED = [10, 20, 50, 20, 10, 40, 50, 40]
IN_ORDER = [[10, 20], [50, 20], [50, 40], [10, 40]]


def test_quads_that_cross_are_put_in_order(tmp_path: Path) -> None:
    """Corners row by row: drawn as they stood, they had no area to learn."""
    lines = make_icdar(tmp_path / "lines", 1)
    (lines / "train_gts" / "0.txt").write_text(",".join(map(str, CROSSED)) + ",text\n", encoding="utf-8")
    points = np.reshape(CROSSED, (4, 2)).tolist()
    labelme = {"imagePath": "a.png", "shapes": [{"label": "text", "points": points}]}
    coco = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "segmentation": [CROSSED], "text": "text"}],
    }
    folders = [lines]
    for name, values in (("labelme", labelme), ("coco", coco)):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        (folders[-1] / "x.json").write_text(json.dumps(values), encoding="utf-8")
    for folder in folders:
        (labelled,) = read_folder(folder)
        assert labelled.regions[0].polygon.tolist() == IN_ORDER
        assert labelled.regions[0].text == "text"
        assert "crossed" in {problem.finding.kind for problem in check_folder(folder).problems}


def test_quads_that_do_not_cross_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    rows = ["10,10,10,30,80,30,80,10,turned", "10,10,80,10,20,20,10,30,hollow", "5,5,5,5,5,5,5,5,point"]
    path.write_text("\n".join(rows), encoding="utf-8")
    found = [",".join(f"{value:g}" for value in region.polygon.ravel()) for region in read_label_file(path)]
    assert found == [row.rpartition(",")[0] for row in rows]


@pytest.mark.parametrize("text", ["{", "[]", '{"annotations": [{"image_id": 1}], "images": []}'])
def test_bad_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"x.json"):
        read_folder(tmp_path)


def sets(images: list[LabelledImage]) -> dict[str, int]:
    return dict(Counter(image.dataset for image in images))


def test_sets_of_one_name_in_several_folders_are_told_apart(tmp_path: Path) -> None:
    """They became one row of a table, and its figures nobody's."""
    roots = [make_folder(tmp_path / name, count) for name, count in (("a/test", 1), ("b/test", 2), ("b/other", 3))]
    assert sets(read_folders(roots)) == {"a/test": 1, "b/test": 2, "other": 3}
    deeper = make_folder(tmp_path / "more" / "b" / "test", 4)
    assert sets(read_folders([*roots[:2], deeper])) == {
        f"{tmp_path.name}/a/test": 1,
        f"{tmp_path.name}/b/test": 2,
        "more/b/test": 4,
    }
    for root, name in zip(roots, ("forms", "forms", "other"), strict=True):
        rows = [{"file": "images/0.png", "dataset": name}]
        (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert sets(read_folders(roots)) == {"a/test/forms": 1, "b/test/forms": 1, "other": 1}
    assert sets(read_folders(roots[1:])) == {"forms": 1, "other": 1}


def test_folder_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "x", 2)
    (tmp_path / "link").symlink_to(root)
    assert sets(read_folders([root, root / ".." / "x", tmp_path / "link"])) == {"x": 2}


def test_folder_without_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="neither"):
        read_folder(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        read_folder(tmp_path / "gone")

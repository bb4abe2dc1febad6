"""LabelMe and COCO files and manifests, good, bad and cut up at random: never a traceback, always file and entry."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labelled import make_folder
from steadyocr.errors import DatasetError
from steadyocr.training.checker import check_folder
from steadyocr.training.labels import read_folder
from steadyocr.training.split import split_folder

SHAPE = {"label": "one", "shape_type": "polygon", "points": [[10, 10], [80, 10], [80, 30], [10, 30]]}
LABELME: dict[str, Any] = {"version": "5.0", "imagePath": "0.png", "shapes": [SHAPE, {**SHAPE, "label": "two"}]}
COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "0.png"}, {"id": 2, "file_name": "1.png"}],
    "annotations": [
        {"image_id": 1, "segmentation": [[10, 10, 80, 10, 80, 30, 10, 30]], "attributes": {"text": "one"}},
        {"image_id": 2, "bbox": [10, 10, 70, 20], "iscrowd": 0, "text": "two"},
    ],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pictures with nothing to label them yet."""
    make_folder(tmp_path / "made", 2)
    (tmp_path / "set").mkdir()
    for path in (tmp_path / "made" / "images").iterdir():
        shutil.copy(path, tmp_path / "set")
    return tmp_path / "set"


def put(root: Path, values: object) -> None:
    (root / "x.json").write_text(json.dumps(values), encoding="utf-8")


def refusal(root: Path, values: object) -> str:
    """What the reader says; the check has to say the same, as a problem of that file."""
    put(root, values)
    with pytest.raises(DatasetError) as caught:
        read_folder(root)
    message = caught.value.message
    assert message.startswith(f"{root / 'x.json'}:"), message
    problems = [problem for problem in check_folder(root).problems if problem.finding.severity == "error"]
    assert problems[0].path == root / "x.json"
    assert message in {f"{root / 'x.json'}: {problem.finding.message}" for problem in problems}
    return message.removeprefix(f"{root / 'x.json'}: ")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"shapes": None}, "shapes"),
        ({"shapes": {}}, "shapes"),
        ({"shapes": "none"}, "shapes"),
        ({"shapes": [SHAPE, None]}, "shape 1"),
        ({"shapes": [{**SHAPE, "points": None}]}, "shape 0"),
        ({"shapes": [{**SHAPE, "points": ["12", "34", "56"]}]}, "shape 0"),
        ({"shapes": [{**SHAPE, "points": {"12": 1, "34": 2, "56": 3}}]}, "shape 0"),
        ({"shapes": [{**SHAPE, "points": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}]}, "shape 0"),
        ({"shapes": [{**SHAPE, "points": [[1, True], [4, 5], [7, 8]]}]}, "shape 0"),
        ({"shapes": [{**SHAPE, "points": [[1, 10**400], [4, 5], [7, 8]]}]}, "shape 0"),
        ({"shapes": [{**SHAPE, "points": [[1, 1e39], [4, 5], [7, 8]]}]}, "shape 0"),
        ({"shapes": [{**SHAPE, "points": [[1, 2], [4, 5]]}]}, "shape 0"),
        ({"shapes": [{**SHAPE, "label": ["a"]}]}, "shape 0"),
        ({"shapes": [{**SHAPE, "shape_type": []}]}, "shape 0"),
        ({"imagePath": ["0.png"]}, "imagePath"),
        ({"imagePath": "0\0.png"}, "imagePath"),
        ({"imagePath": "\ud800.png"}, "imagePath"),
    ],
)
def test_labelme_of_a_wrong_shape_is_named_with_its_entry(root: Path, change: dict[str, Any], where: str) -> None:
    assert refusal(root, {**LABELME, **change}).startswith(where)


def coco(place: str, index: int, **change: object) -> dict[str, Any]:
    values = copy.deepcopy(COCO)
    values[place][index].update(change)
    return values


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({**COCO, "annotations": None}, "annotations"),
        ({**COCO, "annotations": {"0": {}}}, "annotations"),
        ({**COCO, "annotations": [[]]}, "annotation 0"),
        ({**COCO, "images": None}, "images"),
        ({**COCO, "images": [None]}, "image 0"),
        ({"annotations": COCO["annotations"]}, "images"),
        (coco("annotations", 0, attributes=["text"]), "annotation 0"),
        (coco("annotations", 0, attributes="text"), "annotation 0"),
        (coco("annotations", 0, attributes={"text": {}}), "annotation 0"),
        (coco("annotations", 0, segmentation=["12345678"]), "annotation 0"),
        (coco("annotations", 0, segmentation=[[1, 2, 3, 4, 5]]), "annotation 0"),
        (coco("annotations", 0, segmentation=[7]), "annotation 0"),
        (coco("annotations", 0, image_id=[]), "annotation 0"),
        (coco("annotations", 1, bbox="1234"), "annotation 1"),
        (coco("annotations", 1, bbox=[1, 2, 3]), "annotation 1"),
        (coco("annotations", 1, bbox=None), "annotation 1"),
        (coco("annotations", 1, iscrowd="0"), "annotation 1"),
        (coco("annotations", 1, text=[]), "annotation 1"),
        (coco("images", 1, file_name=3), "image 1"),
        (coco("images", 1, file_name=""), "image 1"),
        (coco("images", 1, id={}), "image 1"),
        (coco("images", 1, id=1), "image 1"),
    ],
)
def test_coco_of_a_wrong_shape_is_named_with_its_entry(root: Path, values: dict[str, Any], where: str) -> None:
    assert refusal(root, values).startswith(where)


@pytest.mark.parametrize("text", ['{"shapes": [' + "[" * 100_000, '{"shapes": [1' + "0" * 5000 + "]}", "[]", "7", ""])
def test_what_the_json_reader_itself_chokes_on_is_named(root: Path, text: str) -> None:
    (root / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"x\.json"):
        read_folder(root)
    assert [problem.finding.kind for problem in check_folder(root).problems] == ["bad_json"]


def test_annotations_of_no_picture_are_reported_one_by_one(root: Path) -> None:
    """They were left out without a word: of a file whose ids are texts here and numbers there, all of them."""
    values = copy.deepcopy(COCO)
    values["annotations"] += [{**COCO["annotations"][0], "image_id": image_id} for image_id in ("1", 9)]
    assert refusal(root, values) == "annotation 2: image_id '1' is that of no picture"
    found = [problem.finding.message for problem in check_folder(root).problems]
    assert found == [f"annotation {n}: image_id {shown} is that of no picture" for n, shown in ((2, "'1'"), (3, "9"))]


def test_check_goes_on_behind_a_bad_entry(root: Path) -> None:
    far = {**SHAPE, "points": [[10, 10], [900, 10], [900, 30], [10, 30]]}
    put(root, {**LABELME, "shapes": [None, SHAPE, {"points": 1}, far]})
    found = [problem.finding for problem in check_folder(root).problems]
    assert [finding.kind for finding in found] == ["bad_json", "bad_json", "far_outside"]
    assert [finding.message.split(":")[0] for finding in found[:2]] == ["shape 0", "shape 2"]


def test_absent_and_null_texts_are_empty(root: Path) -> None:
    put(root, {**LABELME, "shapes": [{**SHAPE, "label": None}, {**SHAPE, "label": 2024}, {"points": SHAPE["points"]}]})
    (labelled,) = read_folder(root)
    assert [region.text for region in labelled.regions] == ["", "2024", ""]


@pytest.mark.parametrize("lead", ["", "images/"])
def test_coco_beside_its_images_folder(root: Path, lead: str) -> None:
    """Its usual shape was taken for our own layout, and its labels asked for one by one."""
    (root / "images").mkdir()
    for name in ("0.png", "1.png"):
        (root / name).rename(root / "images" / name)
    put(root, {**COCO, "images": [{**row, "file_name": f"{lead}{row['file_name']}"} for row in COCO["images"]]})
    found = read_folder(root)
    assert [image.path for image in found] == [root / "images" / name for name in ("0.png", "1.png")]
    assert [image.regions[0].text for image in found] == ["one", "two"]
    report = check_folder(root)
    assert (report.pictures, report.problems) == (2, ())


@pytest.mark.parametrize("sign", ["labels", "manifest.jsonl"])
def test_json_beside_our_own_layout_is_passed_over(tmp_path: Path, sign: str) -> None:
    root = make_folder(tmp_path / "x", 2)
    (root / "package.json").write_text("{}", encoding="utf-8")
    if sign == "manifest.jsonl":
        (root / "labels").rename(root / "gts")
        rows = [{"file": f"images/{n}.png", "label": f"gts/{n}.txt"} for n in range(2)]
        (root / sign).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert [image.regions[0].text for image in read_folder(root)] == ["bar", "bar"]
    assert not check_folder(root).problems


def test_pictures_with_no_labels_at_all_say_which_are_missing(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "x", 1)
    shutil.rmtree(root / "labels")
    with pytest.raises(DatasetError, match=r"0\.png: no label file .*labels/0\.txt"):
        read_folder(root)
    assert [problem.finding.kind for problem in check_folder(root).problems] == ["missing_label"]


def test_settings_of_a_training_run_are_no_labels(root: Path) -> None:
    """``steadyocr train .`` in the wrong folder."""
    (root / "config.json").write_text('{"sources": [], "crop_size": 448}', encoding="utf-8")
    with pytest.raises(DatasetError, match=r"config\.json: .*training run"):
        read_folder(root)
    (problem,) = check_folder(root).problems
    assert "training run" in problem.finding.message
    assert check_folder(root).pictures == 0


def test_other_json_beside_labels_is_named(root: Path) -> None:
    put(root, LABELME)
    (root / "package.json").write_text('{"name": "app"}', encoding="utf-8")
    with pytest.raises(DatasetError, match=r"package\.json: neither LabelMe .* nor COCO"):
        read_folder(root)
    assert [(p.path.name, p.finding.kind) for p in check_folder(root).problems] == [("package.json", "bad_json")]


def test_set_of_the_folder_one_stands_in_has_a_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, LABELME)
    monkeypatch.chdir(root)
    assert read_folder(Path())[0].dataset == "set"
    monkeypatch.chdir(root.parent / "made")
    assert read_folder(Path())[0].dataset == "made"


@pytest.mark.parametrize(
    "row",
    [
        "[" * 100_000,
        "null",
        '{"file": 1}',
        '{"file": ""}',
        '{"file": "images/0\\u0000.png"}',
        '{"file": "images/0.png", "label": 5}',
        '{"file": "images/0.png", "dataset": []}',
    ],
)
def test_bad_manifest_row_is_named_with_its_line(tmp_path: Path, row: str) -> None:
    root = make_folder(tmp_path / "x", 1)
    (root / "manifest.jsonl").write_text(f'{{"file": "images/0.png", "dataset": null}}\n{row}\n', encoding="utf-8")
    with pytest.raises(DatasetError, match=r"manifest\.jsonl:2: "):
        read_folder(root)
    assert [(p.finding.kind, p.line) for p in check_folder(root).problems] == [("bad_row", 2)]


ODD: tuple[object, ...] = (
    *(None, True, False, 0, -1, 3.5, 1e39, 10**400, float("nan"), float("inf")),
    *("", "x", "12", "###", "\0", "\ud800", "a" * 5000, "../..", "/"),
    *([], [[]], [None], {}, {"text": 1}, [1, 2], [[1, 2], [3, 4], [5, 6]]),
)


def places(values: Any) -> Iterator[Callable[[object], None]]:
    """A setter for each value inside."""
    entries = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in list(entries):
        yield lambda new, key=key: values.__setitem__(key, new)  # type: ignore[misc]
        yield from places(value)


def mutated(rng: random.Random, values: Any) -> Any:
    """Replace one to three values anywhere inside by odd ones."""
    values = copy.deepcopy(values)
    for _ in range(rng.randint(1, 3)):
        found = list(places(values))
        if found:
            rng.choice(found)(copy.deepcopy(rng.choice(ODD)))
    return values


def read_and_check(root: Path, out: Path) -> None:
    """All that a user may do with a folder: our own errors are answers, any other is a traceback."""
    check_folder(root)
    said = ""
    try:
        read_folder(root)
        split_folder(root, out, 0.5, 1)
    except DatasetError as error:
        said = error.message
    assert not said or str(root) in said
    shutil.rmtree(out, ignore_errors=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [LABELME, COCO], ids=["labelme", "coco"])
def test_random_damage_ends_in_no_traceback(root: Path, values: dict[str, Any]) -> None:
    rng = random.Random(20)
    for _ in range(100):
        put(root, mutated(rng, values))
        read_and_check(root, root.parent / "out")


@pytest.mark.filterwarnings("error")
def test_random_damage_to_a_manifest_ends_in_no_traceback(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "x", 2)
    row = {"file": "images/0.png", "label": "labels/0.txt", "dataset": "a"}
    rng = random.Random(21)
    for _ in range(60):
        rows = [mutated(rng, [row])[0], {**row, "file": "images/1.png"}]
        (root / "manifest.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rows), encoding="utf-8")
        read_and_check(root, tmp_path / "out")


@pytest.mark.filterwarnings("error")
def test_random_bytes_end_in_no_traceback(root: Path) -> None:
    rng = random.Random(22)
    whole = json.dumps(COCO).encode()
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (root / "x.json").write_bytes(bytes(data[: rng.randint(0, len(data))] if rng.random() < 0.3 else data))
        read_and_check(root, root.parent / "out")

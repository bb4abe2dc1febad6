from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labelled import make_folder, make_icdar
from steadyocr.errors import ConflictError, DatasetError
from steadyocr.training.checker import Report, apply_fixes, check_folder
from steadyocr.training.labels import read_folder
from steadyocr.training.split import _link, split_folder, split_images

GOOD = "10,10,80,10,80,30,10,30,text"


def kinds(report: Report) -> dict[str, int | None]:
    return {problem.finding.kind: problem.line for problem in report.problems}


def with_rows(root: Path, *rows: str) -> Path:
    make_icdar(root, 1)
    (root / "train_gts" / "0.txt").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return root


@pytest.mark.parametrize("make", [make_folder, make_icdar])
def test_good_folder_has_no_problem(tmp_path: Path, make: object) -> None:
    root = make_folder(tmp_path / "x") if make is make_folder else make_icdar(tmp_path / "x")
    report = check_folder(root)
    assert not report.problems
    assert report.pictures >= 3
    assert apply_fixes(report) == []


@pytest.mark.parametrize(
    ("row", "kind", "severity"),
    [
        ("1,2,3", "bad_row", "error"),
        ("1,2,x,2,31,12,1,12,t", "bad_row", "error"),
        ("1,2,inf,2,31,12,1,12,t", "bad_row", "error"),
        ("10,10,10,30,80,30,80,10,t", "counter_clockwise", "warning"),
        ("10,10,80,30,80,10,10,30,t", "crossed", "warning"),
        ("10,10,80,10,80,12,10,12,t", "tiny", "warning"),
        ("10,10,80,10,80,10,10,10,t", "no_area", "error"),
        ("-1,10,80,10,80,30,-1,30,t", "outside", "warning"),
        ("10,10,800,10,800,30,10,30,t", "far_outside", "error"),
        (f"{GOOD},more", "comma_in_text", "note"),
        ("10,10,80,10,80,30,10,30", "no_text", "note"),
    ],
)
def test_problem_is_named_with_its_line(tmp_path: Path, row: str, kind: str, severity: str) -> None:
    report = check_folder(with_rows(tmp_path, GOOD, "", row))
    assert kinds(report) == {kind: 3}
    (problem,) = report.problems
    assert problem.finding.severity == severity
    assert str(problem).startswith(f"{tmp_path / 'train_gts' / '0.txt'}:3: {severity}: ")


def test_duplicate_row_names_the_first(tmp_path: Path) -> None:
    report = check_folder(with_rows(tmp_path, GOOD, GOOD))
    assert kinds(report) == {"duplicate": 2}
    assert "line 1" in report.problems[0].finding.message


def test_files_that_are_missing_or_broken(tmp_path: Path) -> None:
    root = make_icdar(tmp_path, 4)
    (root / "train_images" / "1.png").write_bytes(b"no picture")
    (root / "train_gts" / "2.txt").write_bytes("1,2,3,4,5,6,7,8,中".encode("gbk"))
    (root / "train_gts" / "3.txt").write_text("", encoding="utf-8")
    (root / "train_list.txt").write_text("0.png\ngone.png\n1.png\n0.png\n2.png\n3.png\n", encoding="utf-8-sig")
    found = {(problem.finding.kind, problem.line) for problem in check_folder(root).problems}
    assert found == {
        ("bom", 1),
        ("missing_file", 2),
        ("unreadable_picture", None),
        ("listed_twice", 4),
        ("not_utf8", 1),
        ("empty", None),
    }


def test_file_that_cannot_be_read_is_not_called_another_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_icdar(tmp_path, 1)

    def denied(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_text", denied)
    problems = check_folder(root).problems
    assert next(p.finding.message for p in problems if p.path.name == "train_list.txt") == (
        "cannot be read: Permission denied"
    )


def test_own_layout_names_missing_and_orphaned_labels(tmp_path: Path) -> None:
    root = make_folder(tmp_path, 3)
    (root / "labels" / "0.txt").rename(root / "labels" / "other.txt")
    assert kinds(check_folder(root)) == {"missing_label": None, "orphan_label": None}
    (root / "manifest.jsonl").write_text('{"file": "images/gone.png", "label": "labels/1.txt"}\n[]\n', encoding="utf-8")
    assert kinds(check_folder(root)) == {"missing_picture": None, "bad_row": 2}


def test_fix_takes_the_mark_off_a_manifest(tmp_path: Path) -> None:
    root = make_folder(tmp_path, 1)
    manifest = root / "manifest.jsonl"
    row = '{"file": "images/0.png", "dataset": "forms"}\n'
    manifest.write_text(row, encoding="utf-8-sig")
    assert kinds(check_folder(root)) == {"bom": 1}
    assert apply_fixes(check_folder(root)) == [manifest]
    assert manifest.read_bytes() == row.encode()
    assert not check_folder(root).problems


@pytest.mark.parametrize("layout", ["images", "manifest", "list"])
def test_pictures_of_one_stem_that_share_a_label_file_are_named(tmp_path: Path, layout: str) -> None:
    """One of them is trained on the other's labels."""
    root = make_icdar(tmp_path, 2) if layout == "list" else make_folder(tmp_path, 2)
    pictures, labels = ("train_images", "train_gts") if layout == "list" else ("images", "labels")
    (root / labels / "0.txt").write_text("1,2\n", encoding="utf-8")
    (root / pictures / "0.jpg").write_bytes((root / pictures / "0.png").read_bytes())
    names = ["0.jpg", "0.png", "1.png"]
    if layout == "list":
        (root / "train_list.txt").write_text("\n".join(names), encoding="utf-8")
    if layout == "manifest":
        rows = [f'{{"file": "images/{name}"}}\n' for name in names]
        (root / "manifest.jsonl").write_text("".join(rows), encoding="utf-8")
    report = check_folder(root)
    assert [(p.path.name, p.finding.kind, p.finding.severity) for p in report.problems] == [
        ("0.txt", "bad_row", "error"),
        ("0.png", "shared_label", "error"),
    ]
    assert report.problems[1].finding.message == "has the same label file as 0.jpg: 0.txt"
    assert report.pictures == 3


def test_label_file_that_a_manifest_gives_to_several_pictures_is_theirs(tmp_path: Path) -> None:
    root = make_folder(tmp_path, 2)
    rows = [f'{{"file": "images/{n}.png", "label": "labels/0.txt"}}\n' for n in range(2)]
    (root / "manifest.jsonl").write_text("".join(rows), encoding="utf-8")
    assert not check_folder(root).problems


def test_json_layouts_are_checked(tmp_path: Path) -> None:
    make_folder(tmp_path / "x", 1)
    picture = tmp_path / "x" / "images" / "0.png"
    picture.rename(tmp_path / "0.png")
    shape = '{"label": "t", "points": [[10, 10], [10, 30], [900, 30], [900, 10]]}'
    (tmp_path / "0.json").write_text(f'{{"imagePath": "0.png", "shapes": [{shape}]}}', encoding="utf-8")
    (tmp_path / "1.json").write_text("{", encoding="utf-8")
    assert set(kinds(check_folder(tmp_path))) == {"counter_clockwise", "far_outside", "bad_json"}


def test_fix_repairs_what_is_safe_and_keeps_the_first_version(tmp_path: Path) -> None:
    root = make_icdar(tmp_path, 1)
    path = root / "train_gts" / "0.txt"
    broken = (
        "\ufeff10,10,10,30,80,30,80,10,counter, clockwise\r\n"
        "10,50,80,70,80,50,10,70,crossed\r\n"
        "\r\n"
        "-1.5,40,80,40,80,48,-1.5,48,###\r\n"
        "-1.5,40,80,40,80,48,-1.5,48,###\r\n"
        "1,2,3,broken stays"
    )
    path.write_bytes(broken.encode())
    assert apply_fixes(check_folder(root)) == [path]
    assert path.read_text(encoding="utf-8") == (
        "10,10,80,10,80,30,10,30,counter, clockwise\n"
        "10,50,80,50,80,70,10,70,crossed\n"
        "0,40,80,40,80,48,0,48,###\n"
        "1,2,3,broken stays\n"
    )
    assert path.with_name("0.txt.orig").read_bytes() == broken.encode()
    assert set(kinds(check_folder(root))) == {"bad_row", "comma_in_text"}
    # A second repair finds nothing, and never touches the first version.
    assert apply_fixes(check_folder(root)) == []


FIX_AND_BE_KILLED = """
import resource, signal, sys
from pathlib import Path
from steadyocr.training.checker import apply_fixes, check_folder

report = check_folder(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
apply_fixes(report)
"""


def killed_while_fixing(root: Path) -> None:
    """Repair in a process that the kernel kills in the middle of the first file it writes."""
    ended = subprocess.run([sys.executable, "-c", FIX_AND_BE_KILLED, str(root)], check=False)
    assert ended.returncode == -signal.SIGXFSZ


@pytest.mark.parametrize("kept_before", [False, True])
def test_kill_in_the_middle_of_a_repair_loses_nothing(tmp_path: Path, kept_before: bool) -> None:
    broken = "10,10,10,30,80,30,80,10,turned\n"
    root = with_rows(tmp_path, broken.strip())
    path = root / "train_gts" / "0.txt"
    first = path.with_name("0.txt.orig")
    if kept_before:
        first.write_text(broken, encoding="utf-8")
    killed_while_fixing(root)
    assert path.read_text(encoding="utf-8") == broken
    assert first.exists() == kept_before
    assert apply_fixes(check_folder(root)) == [path]
    assert path.read_text(encoding="utf-8") == "10,10,80,10,80,30,10,30,turned\n"
    assert first.read_text(encoding="utf-8") == broken


def test_repair_keeps_the_first_of_all_versions_and_the_file_as_it_was(tmp_path: Path) -> None:
    root = with_rows(tmp_path / "set", "10,10,10,30,80,30,80,10,turned")
    path = root / "train_gts" / "0.txt"
    elsewhere = path.rename(tmp_path / "0.txt")
    elsewhere.chmod(0o640)
    path.symlink_to(elsewhere)
    apply_fixes(check_folder(root))
    assert path.is_symlink()
    assert (elsewhere.stat().st_mode & 0o777, elsewhere.read_text(encoding="utf-8")[:11]) == (0o640, "10,10,80,10")
    elsewhere.write_text("10,10,10,30,80,30,80,10,again\n", encoding="utf-8")
    apply_fixes(check_folder(root))
    assert path.with_name("0.txt.orig").read_text(encoding="utf-8") == "10,10,10,30,80,30,80,10,turned\n"
    assert sorted(each.name for each in path.parent.iterdir()) == ["0.txt", "0.txt.orig"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["0.txt", "set"]


def test_repair_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = with_rows(tmp_path, "10,10,10,30,80,30,80,10,turned")
    report = check_folder(root)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatasetError, match=r"0\.txt: cannot be repaired: No space left"):
        apply_fixes(report)
    assert [each.name for each in (root / "train_gts").iterdir()] == ["0.txt"]


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="neither"):
        check_folder(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        check_folder(tmp_path / "gone")


def test_split_keeps_every_picture_once_and_the_labels(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "in", 10)
    assert split_folder(source, tmp_path / "out", 0.3, seed=4) == (7, 3)
    parts = [read_folder(tmp_path / "out", split) for split in ("train", "test")]
    assert sorted(image.path.name for part in parts for image in part) == [f"{n}.png" for n in range(10)]
    before = {image.path.name: image.regions[0].polygon.tolist() for image in read_folder(source)}
    assert {i.path.name: i.regions[0].polygon.tolist() for part in parts for i in part} == before
    with pytest.raises(ConflictError):
        split_folder(source, tmp_path / "out", 0.3, seed=4)


@pytest.mark.parametrize("can_link", [True, False])
def test_split_never_writes_to_a_picture_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    """A second name that was taken too led the copy through a link into another original."""
    source = make_folder(tmp_path / "in", 1)
    names = ["1.jpg", "1.png", *(f"{place}-1.png" for place in range(6))]
    for name in names:
        (source / "images" / name).write_bytes(name.encode())
        (source / "labels" / f"{Path(name).stem}.txt").write_text(f"{GOOD}\n", encoding="utf-8")
    if not can_link:

        def refused(*_: object) -> None:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr(os, "link", refused)
    before = {path: path.read_bytes() for path in source.rglob("*.*")}
    for seed in range(20):
        out = tmp_path / str(seed)
        split_folder(source, out, 0.1, seed)
        assert {path: path.read_bytes() for path in source.rglob("*.*")} == before
        written = [image.path.read_bytes() for split in ("train", "test") for image in read_folder(out, split)]
        assert sorted(written) == sorted(data for path, data in before.items() if path.parent.name == "images")


def test_copy_over_a_file_that_is_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(FileExistsError):
        _link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "b"


def test_split_gives_names_that_no_list_can_hold_plain_ones(tmp_path: Path) -> None:
    """Of names from a Chinese Windows' archive, and of one with a row end, half a new folder came."""
    source = make_folder(tmp_path / "in", 4)
    for old, new in (("0", os.fsdecode("中文".encode("gbk"))), ("1", os.fsdecode(b"\xff")), ("2", "a\nb")):
        (source / "images" / f"{old}.png").rename(source / "images" / f"{new}.png")
        (source / "labels" / f"{old}.txt").rename(source / "labels" / f"{new}.txt")
    before = sorted(image.path.read_bytes() for image in read_folder(source))
    split_folder(source, tmp_path / "out", 0.25, seed=0)
    images = [image for split in ("train", "test") for image in read_folder(tmp_path / "out", split)]
    assert sorted(image.path.read_bytes() for image in images) == before
    names = {image.path.name for image in images}
    assert "3.png" in names
    assert names < {f"{n}.png" for n in range(4)} | {f"{n}-{n}.png" for n in range(4)}


def test_split_of_a_folder_of_links_has_pictures(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "in", 4)
    (tmp_path / "elsewhere").mkdir()
    for image in read_folder(source):
        moved = image.path.rename(tmp_path / "elsewhere" / image.path.name)
        image.path.symlink_to(os.path.relpath(moved, image.path.parent))
    split_folder(source, tmp_path / "out", 0.5, seed=1)
    for split in ("train", "test"):
        assert all(image.path.read_bytes() for image in read_folder(tmp_path / "out", split))


def test_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    images = read_folder(make_folder(tmp_path, 12))
    one, again, other = (
        split_images(images, 0.25, 1),
        split_images(images[::-1], 0.25, 1),
        split_images(images, 0.25, 2),
    )
    assert [[i.path for i in part] for part in one] == [[i.path for i in part] for part in again]
    assert {i.path for i in one[1]} != {i.path for i in other[1]}


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (4, 0.0), (4, 1.0)])
def test_split_refuses_what_makes_no_sense(tmp_path: Path, count: int, share: float) -> None:
    with pytest.raises(DatasetError):
        split_folder(make_folder(tmp_path / "in", count), tmp_path / "out", share, seed=0)


def test_nothing_is_made_worse_and_nothing_found_right_is_touched(tmp_path: Path) -> None:
    """A box of which the edge would leave nothing stays as it is, and so do files with Windows' row ends."""
    root = with_rows(tmp_path, "-2,10,-1,10,-1,30,-2,30,edge")
    make_icdar(tmp_path / "other", 1)
    windows = tmp_path / "other" / "train_gts" / "0.txt"
    windows.write_bytes(f"{GOOD}\r\n".encode())
    for folder in (root, tmp_path / "other"):
        before = {path: path.read_bytes() for path in folder.rglob("*.txt")}
        report = check_folder(folder)
        assert not any(problem.finding.fixable for problem in report.problems)
        assert apply_fixes(report) == []
        assert {path: path.read_bytes() for path in folder.rglob("*.txt")} == before


def test_rows_that_become_the_same_are_one(tmp_path: Path) -> None:
    root = with_rows(tmp_path, "-1,10,80,10,80,40,-1,40,twice", "0,10,80,10,80,40,0,40,twice")
    apply_fixes(check_folder(root))
    assert not check_folder(root).problems
    assert (root / "train_gts" / "0.txt").read_text() == "0,10,80,10,80,40,0,40,twice\n"

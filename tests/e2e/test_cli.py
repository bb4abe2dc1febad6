"""The command line as people use it: a real process for each call that reads."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from steadyocr import __version__
from support import FIXTURES, KnownPicture, call_cli, run_cli, texts_of

ENGLISH, CHINESE = str(FIXTURES / "english.png"), str(FIXTURES / "chinese.png")


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.png"
    path.write_bytes(b"no picture")
    return path


def test_version(tmp_path: Path) -> None:
    done = run_cli("version", data_dir=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


def test_one_picture_as_text_goes_to_standard_output_alone(tmp_path: Path, chinese: KnownPicture) -> None:
    done = run_cli("ocr", CHINESE, data_dir=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == chinese.texts


def test_several_pictures_as_json_are_one_line_each(
    tmp_path: Path, chinese: KnownPicture, english: KnownPicture
) -> None:
    done = run_cli("ocr", ENGLISH, CHINESE, "--format", "json", "--unclip-ratio", "1.9", data_dir=tmp_path)
    pages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [page["file"] for page in pages] == [ENGLISH, CHINESE]
    assert [texts_of(page) for page in pages] == [english.texts, chinese.texts]
    assert {page["options"]["unclip_ratio"] for page in pages} == {1.9}


def test_one_bad_picture_spoils_only_itself(
    remembering: tuple[str, ...], tmp_path: Path, bad: Path, chinese: KnownPicture, english: KnownPicture
) -> None:
    folder = tmp_path / "out" / "deeper"
    arguments = ("ocr", ENGLISH, str(bad), CHINESE, "-f", "csv", "-o", str(folder))
    done = run_cli(*arguments, data_dir=tmp_path, program=remembering)
    assert done.returncode == 11
    assert done.stdout == ""
    (complaint,) = done.stderr.splitlines()
    assert complaint.startswith(f"{bad}: ")
    assert complaint.endswith("[unsupported_media_type]")
    assert sorted(path.name for path in folder.iterdir()) == ["chinese.png.csv", "english.png.csv"]
    for name, known in (("english", english), ("chinese", chinese)):
        rows = list(csv.DictReader(io.StringIO((folder / f"{name}.png.csv").read_text(encoding="utf-8"))))
        assert [row["text"] for row in rows] == known.texts


def test_the_overlay_is_written(remembering: tuple[str, ...], tmp_path: Path) -> None:
    arguments = ("ocr", ENGLISH, "-f", "overlay.png", "-o", str(tmp_path))
    done = run_cli(*arguments, data_dir=tmp_path, program=remembering)
    assert done.returncode == 0
    with Image.open(tmp_path / "english.png.overlay.png") as drawn:
        assert drawn.size == (720, 420)


def test_pictures_of_the_same_name_do_not_overwrite_each_other(remembering: tuple[str, ...], tmp_path: Path) -> None:
    copies = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "same.png"
        path.write_bytes(Path(ENGLISH).read_bytes())
        copies.append(str(path))
    arguments = ("ocr", *copies, "--no-recognise", "-f", "json", "-o", str(tmp_path / "out"))
    done = run_cli(*arguments, data_dir=tmp_path, program=remembering)
    assert done.returncode == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_single_bad_picture_gives_its_own_exit_code(remembering: tuple[str, ...], tmp_path: Path, bad: Path) -> None:
    done = run_cli("ocr", str(bad), data_dir=tmp_path, program=remembering)
    assert done.returncode == 3
    assert "[unsupported_media_type]" in done.stderr


def test_a_picture_that_is_not_there_is_named(remembering: tuple[str, ...], tmp_path: Path) -> None:
    done = run_cli("ocr", str(tmp_path / "gone.png"), data_dir=tmp_path, program=remembering)
    assert done.returncode == 3
    assert "gone.png: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("ocr", ENGLISH, "--max-side", "7"),
        ("ocr", ENGLISH, "--bin-threshold", "nan"),
        ("ocr", ENGLISH, "--format", "docx"),
        ("ocr", ENGLISH, "--format", "overlay.png"),
        ("ocr", ENGLISH, "--colour", "red"),
        ("ocr",),
        ("dance",),
    ],
    ids=lambda arguments: " ".join(arguments[-2:])[-24:],
)
def test_wrong_usage_ends_with_2_and_without_a_trace(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    # One as a real process; the others say it in this one.
    call = run_cli if arguments == ("dance",) else call_cli
    done = call(*arguments, data_dir=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_config_shows_values_and_where_they_came_from(tmp_path: Path) -> None:
    (tmp_path / "steadyocr.toml").write_text("[limits]\nmax_side_ratio = 50\n")
    done = call_cli("config", data_dir=tmp_path, queue__max_size="7", auth__api_keys="hush")
    assert done.returncode == 0
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["queue.max_size"][1:] == ["7", "environment", "STEADYOCR_QUEUE__MAX_SIZE"]
    assert rows["limits.max_side_ratio"][1:3] == ["50.0", str(tmp_path / "steadyocr.toml")]
    assert rows["server.port"][1:3] == ["7860", "default"]
    assert "hush" not in done.stdout


def test_config_refuses_what_serve_would_refuse(tmp_path: Path) -> None:
    done = call_cli("config", data_dir=tmp_path, queue__max_size="0")
    assert done.returncode == 4
    assert "queue.max_size (environment)" in done.stderr

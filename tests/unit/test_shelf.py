from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from steadyocr.errors import InsufficientStorage, NotFoundError, Unavailable
from steadyocr.service.shelf import Bounds, Shelf


class Clock:
    """Time that passes, and the wall clock, which may be set wrong."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.set_by = 0.0

    def wall(self) -> float:
        return self.now + self.set_by

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def missing() -> NotFoundError:
    return NotFoundError("gone")


def shelf_in(root: Path, clock: Clock, *, renewed_by_use: bool = False, **bounds: int) -> Shelf:
    values = {"max_age_s": 100, "max_count": 3, "max_bytes": 1000, **bounds}
    return Shelf(root, Bounds(**values, renewed_by_use=renewed_by_use), missing, clock.wall, clock.monotonic)


def ids(shelf: Shelf) -> list[str]:
    return [entry.id for entry in shelf.newest_first()]


def test_what_is_put_is_read_until_it_is_deleted(tmp_path: Path, clock: Clock) -> None:
    shelf = shelf_in(tmp_path, clock)
    entry = shelf.put({"a": b"one", "b": b"two"}, {"width": 7})
    assert shelf.read(entry.id, "a") == b"one"
    assert shelf.use(entry.id).facts == {"width": 7}
    shelf.delete(entry.id)
    with pytest.raises(NotFoundError):
        shelf.read(entry.id, "a")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_is_not_said_to_be(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = shelf_in(tmp_path, clock)
    entry = shelf.put({"a": b"one"}, {})

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.EROFS, "read-only")

    with monkeypatch.context() as broken:
        broken.setattr("steadyocr.service.shelf.shutil.rmtree", refuse)
        with pytest.raises(Unavailable):
            shelf.delete(entry.id)
    assert ids(shelf) == [entry.id]
    shelf.delete(entry.id)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../secret", "/etc", "%2e%2e", "x" * 5000, "a\0b"])
def test_only_what_was_put_has_a_name(tmp_path: Path, clock: Clock, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"not for you")
    shelf = shelf_in(tmp_path / "shelf", clock)
    shelf.put({"secret": b"mine"}, {})
    for ask in (shelf.use, shelf.delete, lambda entry: shelf.read(entry, "secret")):
        with pytest.raises(NotFoundError):
            ask(name)


def test_one_too_many_pushes_the_oldest_out(tmp_path: Path, clock: Clock) -> None:
    shelf = shelf_in(tmp_path, clock)
    put = []
    for _ in range(4):
        clock.now += 1
        put.append(shelf.put({"a": b"x"}, {}).id)
    assert ids(shelf) == put[:0:-1]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_byte_too_many_pushes_the_oldest_out(tmp_path: Path, clock: Clock) -> None:
    shelf = shelf_in(tmp_path, clock)
    first = shelf.put({"a": bytes(500)}, {}).id
    clock.now += 1
    second = shelf.put({"a": bytes(500)}, {}).id
    assert shelf.used_bytes == 1000
    assert ids(shelf) == [second, first]
    clock.now += 1
    third = shelf.put({"a": bytes(1)}, {}).id
    assert ids(shelf) == [third, second]


def test_whoever_has_most_makes_room(tmp_path: Path, clock: Clock) -> None:
    shelf = shelf_in(tmp_path, clock, max_count=5)
    put: dict[str, list[str]] = {"a": [], "b": []}
    for owner in "aabbbbb":
        clock.now += 1
        put[owner].append(shelf.put({"a": bytes(10)}, {"owner": owner}).id)
    assert ids(shelf) == [*put["b"][:1:-1], *put["a"][::-1]]
    # As many each: the oldest of all goes.
    shelf.delete(put["b"][2])
    for owner in "bba":
        clock.now += 1
        put[owner].append(shelf.put({"a": bytes(10)}, {"owner": owner}).id)
    assert put["a"][0] not in ids(shelf)
    assert [len([one for one in put[owner] if one in ids(shelf)]) for owner in "ab"] == [2, 3]


def test_of_bytes_too_who_has_most_makes_room(tmp_path: Path, clock: Clock) -> None:
    shelf = shelf_in(tmp_path, clock, max_count=9)
    mine = shelf.put({"a": bytes(300)}, {"owner": "a"}).id
    theirs = []
    for _ in range(4):
        clock.now += 1
        theirs.append(shelf.put({"a": bytes(200)}, {"owner": "b"}).id)
    assert ids(shelf) == [*theirs[:0:-1], mine]


def test_more_than_the_whole_shelf_is_refused_and_pushes_nothing_out(tmp_path: Path, clock: Clock) -> None:
    shelf = shelf_in(tmp_path, clock)
    kept = shelf.put({"a": bytes(10)}, {}).id
    with pytest.raises(InsufficientStorage):
        shelf.put({"a": bytes(1001)}, {})
    assert ids(shelf) == [kept]


def test_age_counts_from_the_beginning_or_from_the_last_use(tmp_path: Path, clock: Clock) -> None:
    plain, renewed = shelf_in(tmp_path / "plain", clock), shelf_in(tmp_path / "renewed", clock, renewed_by_use=True)
    entries = [(shelf, shelf.put({"a": b"x"}, {}).id) for shelf in (plain, renewed)]
    clock.now += 100
    for shelf, entry_id in entries:
        shelf.use(entry_id)
    clock.now += 1
    with pytest.raises(NotFoundError):
        plain.use(entries[0][1])
    assert renewed.use(entries[1][1]).id == entries[1][1]
    clock.now += 101
    renewed.sweep()
    assert list((tmp_path / "renewed").iterdir()) == []


def test_a_changed_file_counts_with_its_new_size(tmp_path: Path, clock: Clock) -> None:
    shelf = shelf_in(tmp_path, clock)
    entry = shelf.put({"a": b"[]"}, {})
    shelf.replace(entry.id, "a", lambda before: before + bytes(98))
    assert shelf.used_bytes == 100
    with pytest.raises(NotFoundError):
        shelf.replace("nothing", "a", lambda before: before)


def test_a_restart_takes_up_what_is_whole_and_removes_the_rest(tmp_path: Path, clock: Clock) -> None:
    before = shelf_in(tmp_path, clock)
    kept = before.put({"a": b"whole"}, {"n": 1})
    (tmp_path / ".new-half").mkdir()
    (tmp_path / ".new-half" / "a").write_bytes(b"half")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "entry.json").write_text("{", encoding="utf-8")
    (tmp_path / "stale").mkdir()
    (tmp_path / "stale" / "entry.json").write_text(json.dumps({"at": 1.0, "facts": {}}), encoding="utf-8")

    after = shelf_in(tmp_path, clock)
    after.load()
    assert ids(after) == [kept.id]
    assert after.read(kept.id, "a") == b"whole"
    assert after.used_bytes == 5
    assert [path.name for path in tmp_path.iterdir()] == [kept.id]


def test_a_full_disk_is_told_and_leaves_nothing_half(tmp_path: Path, clock: Clock) -> None:
    shelf = shelf_in(tmp_path, clock, min_free_bytes=1 << 62)
    with pytest.raises(InsufficientStorage):
        shelf.put({"a": b"x"}, {})
    assert list(tmp_path.iterdir()) == []


def test_an_entry_that_cannot_be_written_leaves_nothing_half(tmp_path: Path, clock: Clock) -> None:
    shelf = shelf_in(tmp_path, clock)
    with pytest.raises(FileNotFoundError):
        shelf.put({"no/such/folder": b"x"}, {})
    assert list(tmp_path.iterdir()) == []
    assert ids(shelf) == []


def test_with_the_clock_set_back_the_newest_is_never_pushed_out_by_itself(tmp_path: Path, clock: Clock) -> None:
    shelf = shelf_in(tmp_path, clock, renewed_by_use=True)
    put = [shelf.put({"a": b"x"}, {}).id for _ in range(3)]
    clock.set_by = -500.0
    for _ in range(2):
        clock.now += 1
        put.append(shelf.put({"a": b"x"}, {}).id)
    assert ids(shelf) == put[:1:-1]


@pytest.mark.parametrize("set_by", [-1e6, 1e6])
def test_a_clock_that_is_set_makes_nothing_older_or_younger(tmp_path: Path, clock: Clock, set_by: float) -> None:
    shelf = shelf_in(tmp_path, clock)
    kept = shelf.put({"a": b"x"}, {}).id
    clock.set_by = set_by
    clock.now += 100
    shelf.sweep()
    assert ids(shelf) == [kept]
    clock.now += 1
    shelf.sweep()
    assert ids(shelf) == []


def test_what_a_restart_finds_in_the_future_counts_as_new_and_goes_before_what_comes(
    tmp_path: Path, clock: Clock
) -> None:
    before = shelf_in(tmp_path, clock)
    old = []
    for _ in range(3):
        clock.now += 1
        old.append(before.put({"a": b"x"}, {}).id)
    clock.set_by = -500.0
    after = shelf_in(tmp_path, clock)
    after.load()
    new = after.put({"a": b"x"}, {}).id
    assert ids(after) == [new, old[2], old[1]]
    clock.now += 101
    assert ids(after) == []


@pytest.mark.parametrize("at", ["NaN", "1" + "0" * 400])
def test_an_entry_without_a_time_is_damaged(tmp_path: Path, clock: Clock, at: str) -> None:
    (tmp_path / "never").mkdir()
    (tmp_path / "never" / "entry.json").write_text(f'{{"at": {at}, "facts": {{}}}}', encoding="utf-8")
    shelf = shelf_in(tmp_path, clock)
    shelf.load()
    assert list(tmp_path.iterdir()) == []


def test_an_entry_that_the_disk_does_not_give_is_left_alone_and_taken_up_later(tmp_path: Path, clock: Clock) -> None:
    kept = shelf_in(tmp_path, clock).put({"a": b"x"}, {})
    facts, aside = tmp_path / kept.id / "entry.json", tmp_path.parent / f"{tmp_path.name}-facts"
    facts.rename(aside)
    facts.mkdir()  # cannot be read, whoever asks
    shelf = shelf_in(tmp_path, clock)
    shelf.load()
    assert ids(shelf) == []
    facts.rmdir()
    aside.rename(facts)
    shelf.load()
    assert ids(shelf) == [kept.id]
    assert shelf.read(kept.id, "a") == b"x"


def test_a_late_look_at_what_was_left_spares_what_came_meanwhile(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = shelf_in(tmp_path, clock).put({"a": b"old"}, {})
    clock.now += 1
    shelf = shelf_in(tmp_path, clock)
    before = shelf.put({"a": b"before"}, {})
    write = Path.write_bytes

    def while_writing(path: Path, data: bytes) -> int:
        shelf.load()
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", while_writing)
    during = shelf.put({"a": b"during"}, {})
    assert ids(shelf) == [during.id, before.id, left.id]


def test_a_file_that_the_disk_does_not_give_is_as_good_as_gone(tmp_path: Path, clock: Clock) -> None:
    shelf = shelf_in(tmp_path, clock)
    kept = shelf.put({"a": b"x"}, {})
    (tmp_path / kept.id / "a").unlink()
    (tmp_path / kept.id / "a").mkdir()
    with pytest.raises(NotFoundError):
        shelf.read(kept.id, "a")

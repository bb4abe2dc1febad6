"""What every blob store does: the folder, the bucket in memory, and the bucket of an S3 server."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import time
import uuid
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from steadyocr.errors import ConfigError, InsufficientStorage, NotFoundError, PayloadTooLarge, Unavailable
from steadyocr.jobs import durability
from steadyocr.jobs.blobs import BlobStore, Unreadable, put_bytes, put_stream, storage_works
from steadyocr.jobs.local_blobs import LocalBlobs
from steadyocr.jobs.object_blobs import ObjectBlobs, open_blobs
from support import in_real_time


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Where uploads under way are written."""
    return tmp_path / "blobs" / "unfinished"


@pytest.fixture(scope="module")
def s3_options() -> Iterator[dict[str, str]]:
    """A local S3 server with an empty bucket, where moto is installed."""
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {"endpoint": f"http://{host}:{port}", "access_key_id": "a", "secret_access_key": "b", "region": "us-east-1"}
    server.stop()


@pytest.fixture(params=["folder", "bucket", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, work: Path) -> BlobStore:
    if request.param == "folder":
        return LocalBlobs(tmp_path / "blobs")
    if request.param == "s3":
        options = request.getfixturevalue("s3_options")
        bucket = uuid.uuid4().hex
        httpx.put(f"{options['endpoint']}/{bucket}", trust_env=False).raise_for_status()
        return open_blobs(f"s3://{bucket}/prefix", spool=work, options=options)
    obstore = pytest.importorskip("obstore.store")
    return ObjectBlobs(obstore.MemoryStore(), work)


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


def content_of(blobs: BlobStore, key: str) -> bytes:
    with blobs.open(key) as stream:
        return stream.read()


def test_a_blob_is_known_by_its_content(blobs: BlobStore, work: Path) -> None:
    blob = put_bytes(blobs, b"picture")
    assert (blob.key, blob.size_bytes) == (hashlib.sha256(b"picture").hexdigest(), 7)
    assert blobs.exists(blob.key)
    assert content_of(blobs, blob.key) == b"picture"
    assert list(work.iterdir()) == []


def test_the_same_content_is_stored_once(blobs: BlobStore) -> None:
    first, second = put_bytes(blobs, b"picture"), put_bytes(blobs, b"picture")
    put_bytes(blobs, b"other")
    assert first == second
    assert blobs.usage_bytes() == 12
    assert len(list(blobs.list_older(0))) == 2


def test_an_empty_blob_is_a_blob(blobs: BlobStore) -> None:
    assert content_of(blobs, put_bytes(blobs, b"").key) == b""


@in_real_time
async def test_an_upload_is_stored_as_it_comes(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    parts = [bytes([n]) * 700_000 for n in range(5)]
    blob = await put_stream(blobs, chunks_of(*parts), max_bytes=10_000_000)
    assert content_of(blobs, blob.key) == b"".join(parts)


def test_too_many_bytes_are_refused_as_soon_as_they_come(blobs: BlobStore, work: Path) -> None:
    seen = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal seen
        while True:
            seen += 1_000_000
            yield bytes(1_000_000)

    with pytest.raises(PayloadTooLarge):
        asyncio.run(put_stream(blobs, endless(), max_bytes=3_000_000))
    assert seen < 8_000_000
    assert list(work.iterdir()) == []
    assert blobs.usage_bytes() == 0


def test_an_upload_that_breaks_off_leaves_nothing(blobs: BlobStore, work: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(2_000_000)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(put_stream(blobs, broken(), max_bytes=10_000_000))
    assert list(work.iterdir()) == []
    assert blobs.usage_bytes() == 0


def test_a_low_disk_refuses_before_anything_is_written_but_for_what_ends_work_under_way(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    for blobs in (
        LocalBlobs(tmp_path / "blobs", min_free_bytes=1 << 60),
        ObjectBlobs(pytest.importorskip("obstore.store").MemoryStore(), tmp_path / "spool", min_free_bytes=1 << 60),
    ):
        with pytest.raises(InsufficientStorage) as caught:
            put_bytes(blobs, b"picture")
        assert caught.value.retry_after_s is not None
        assert content_of(blobs, put_bytes(blobs, b"result", reserve=True).key) == b"result"
        assert storage_works(blobs)


def test_a_full_disk_is_a_typed_error_and_leaves_nothing(tmp_path: Path) -> None:
    # /dev/full takes no byte: writes to it fail as they do on a full disk.
    blobs = LocalBlobs(tmp_path / "blobs")
    with blobs.writer(100) as writer, Path("/dev/full").open("wb", buffering=0) as full:
        os.dup2(full.fileno(), writer._file.fileno())
        with pytest.raises(InsufficientStorage):
            writer.write(b"picture")
    assert list((tmp_path / "blobs" / "unfinished").iterdir()) == []


def test_many_small_contents_are_stored_together(blobs: BlobStore, work: Path) -> None:
    known = put_bytes(blobs, b"known")
    contents: list[bytes | bytearray] = [
        b"known",
        *(b"%d" % n for n in range(20)),
        b"",
        bytearray(b"again"),
        b"again",
    ]
    stored = blobs.put_many(contents)
    assert [blob.key for blob in stored] == [hashlib.sha256(content).hexdigest() for content in contents]
    assert [content_of(blobs, blob.key) for blob in stored] == contents
    assert stored[0] == known
    assert len(list(blobs.list_older(0))) == 23
    assert list(work.iterdir()) == []
    assert blobs.put_many([]) == []


def test_many_are_refused_together_when_the_disk_is_too_low_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = LocalBlobs(tmp_path / "blobs", min_free_bytes=1000)
    monkeypatch.setattr("steadyocr.jobs.disk.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1100}))
    blobs.put_many([bytes(50), bytes(49)])
    with pytest.raises(InsufficientStorage):
        blobs.put_many([bytes(51), bytes(52)])


def test_a_low_disk_is_no_reason_to_refuse_many_that_are_there_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = LocalBlobs(tmp_path / "blobs", min_free_bytes=1000)
    stored = blobs.put_many([b"a", b"b"])
    monkeypatch.setattr("steadyocr.jobs.disk.shutil.disk_usage", lambda _: type("Usage", (), {"free": 999}))
    assert blobs.put_many([b"b", b"a"]) == stored[::-1]
    with pytest.raises(InsufficientStorage):
        blobs.put_many([b"a", b"c"])


def test_of_many_none_is_left_when_one_does_not_fit(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    write, written = os.write, 0

    def fill_up(descriptor: int, data: memoryview) -> int:
        nonlocal written
        written += 1
        if written > 5:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", fill_up)
    with pytest.raises(InsufficientStorage):
        blobs.put_many([b"%d" % n for n in range(10)])
    assert list(work.iterdir()) == []
    assert blobs.usage_bytes() == 0


class Recorder:
    """Notes what brings a blob to the disk, in its order, folders by their place in the store."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        rename, fsync = os.rename, os.fsync

        def noted_rename(source: str, target: str) -> None:
            rename(source, target)
            self.steps.append("rename")

        def noted_fsync(descriptor: int) -> None:
            fsync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            place = "/" if path == root else path.relative_to(root).parts[0]
            self.steps.append("fsync " + ("content" if place == "unfinished" else place))

        monkeypatch.setattr(os, "rename", noted_rename)
        monkeypatch.setattr(os, "fsync", noted_fsync)


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_a_blob_is_on_the_disk_before_it_counts_whoever_put_it_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    root = tmp_path / "blobs"
    store = (lambda blobs: blobs.put_many([b"picture"])) if many else (lambda blobs: put_bytes(blobs, b"picture"))
    folder = hashlib.sha256(b"picture").hexdigest()[:2]
    blobs, neighbour = LocalBlobs(root), LocalBlobs(root)
    recorder = Recorder(root, monkeypatch)
    store(blobs)
    assert recorder.steps[:2] == ["fsync content", "rename"]
    assert sorted(recorder.steps[2:]) == ["fsync /", f"fsync {folder}"]
    # Another process finds it there, and cannot know whether its folder and the folder's folder were flushed.
    recorder.steps.clear()
    store(neighbour)
    assert "rename" not in recorder.steps
    assert {f"fsync {folder}", "fsync /"} <= set(recorder.steps)
    recorder.steps.clear()
    store(neighbour)
    assert f"fsync {folder}" in recorder.steps
    assert "fsync /" not in recorder.steps, "once is enough for the folder's folder"


@pytest.mark.parametrize("with_syncfs", [True, False])
def test_many_are_flushed_before_they_get_their_names_and_again_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_syncfs: bool
) -> None:
    root = tmp_path / "blobs"
    blobs, contents = LocalBlobs(root), [b"%d" % n for n in range(20)]
    recorder = Recorder(root, monkeypatch)

    def whole(_: int) -> int:
        recorder.steps.append("syncfs")
        return 0

    monkeypatch.setattr(durability, "_syncfs", lambda: whole if with_syncfs else None)
    blobs.put_many(contents)
    first, last = recorder.steps.index("rename"), len(recorder.steps) - recorder.steps[::-1].index("rename")
    folders = {hashlib.sha256(content).hexdigest()[:2] for content in contents}
    if with_syncfs:
        assert (recorder.steps[:first], recorder.steps[last:]) == (["syncfs"], ["syncfs"])
    else:
        assert recorder.steps[:first] == ["fsync content"] * 20
        assert sorted(recorder.steps[last:]) == sorted(["fsync /", *(f"fsync {folder}" for folder in folders)])


def test_a_kernel_without_the_call_flushes_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "_syncfs", lambda: lambda _: -1)
    monkeypatch.setattr("ctypes.get_errno", lambda: errno.ENOSYS)
    assert len(LocalBlobs(tmp_path / "blobs").put_many([b"%d" % n for n in range(20)])) == 20
    monkeypatch.setattr("ctypes.get_errno", lambda: errno.ENOSPC)
    with pytest.raises(InsufficientStorage):
        LocalBlobs(tmp_path / "other").put_many([b"%d" % n for n in range(20)])


def test_a_disk_without_room_for_a_file_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no inode left")

    local = LocalBlobs(tmp_path / "blobs")
    bucket = ObjectBlobs(pytest.importorskip("obstore.store").MemoryStore(), tmp_path / "spool")
    key = put_bytes(bucket, b"picture").key
    monkeypatch.setattr("tempfile.mkstemp", full)
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    for blobs in (local, bucket):
        with pytest.raises(InsufficientStorage):
            blobs.writer(100)
    with pytest.raises(InsufficientStorage):
        bucket.open(key)


def test_an_upload_that_was_taken_for_a_leftover_is_to_be_sent_again(tmp_path: Path, work: Path) -> None:
    # As happens when the wall clock is set forward meanwhile.
    blobs = LocalBlobs(tmp_path / "blobs")
    with blobs.writer(100) as writer:
        writer.write(b"picture")
        assert blobs.sweep_unfinished(0) == 1
        with pytest.raises(Unavailable, match="send it again"):
            writer.commit()


def test_a_folder_that_is_not_mounted_is_no_missing_blob(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    (tmp_path / "blobs").rename(tmp_path / "unmounted")
    with pytest.raises(Unavailable):
        blobs.open("0" * 64)


def test_what_is_not_there_is_said_to_be_missing(blobs: BlobStore) -> None:
    key = hashlib.sha256(b"missing").hexdigest()
    assert not blobs.exists(key)
    assert not blobs.delete(key)
    with pytest.raises(NotFoundError):
        blobs.open(key)


@pytest.mark.parametrize("key", ["../../etc/passwd", "", "ABCD" * 16, "a" * 63, "a" * 64 + "\n"])
def test_only_a_key_is_a_key(blobs: BlobStore, key: str) -> None:
    with pytest.raises(NotFoundError):
        blobs.open(key)
    with pytest.raises(NotFoundError):
        blobs.delete(key)


def test_a_deleted_blob_is_gone_and_can_come_again(blobs: BlobStore) -> None:
    key = put_bytes(blobs, b"picture").key
    assert blobs.delete(key)
    assert not blobs.exists(key)
    assert put_bytes(blobs, b"picture").key == key
    assert blobs.exists(key)


def test_young_blobs_are_not_listed_and_not_deleted(blobs: BlobStore) -> None:
    key = put_bytes(blobs, b"picture").key
    assert list(blobs.list_older(60)) == []
    assert not blobs.delete(key, min_age_s=60)
    assert [blob.key for blob in blobs.list_older(0)] == [key]
    assert blobs.delete(key, min_age_s=0)


def test_storing_again_makes_young_again(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    key = put_bytes(blobs, b"picture").key
    (path,) = (tmp_path / "blobs").glob(f"*/{key}")
    os.utime(path, (time.time() - 1000, time.time() - 1000))
    assert [blob.key for blob in blobs.list_older(500)] == [key]
    put_bytes(blobs, b"picture")
    assert list(blobs.list_older(500)) == []


def test_a_blob_stored_again_while_it_is_swept_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    key = put_bytes(blobs, b"picture").key
    (path,) = (tmp_path / "blobs").glob(f"*/{key}")
    os.utime(path, (time.time() - 1000, time.time() - 1000))
    moved = Path.rename

    def store_first(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        put_bytes(blobs, b"picture")
        return moved(self, target)

    monkeypatch.setattr(Path, "rename", store_first)
    assert not blobs.delete(key, min_age_s=500)
    assert content_of(blobs, key) == b"picture"


def test_leftovers_of_broken_uploads_are_swept_when_old(blobs: BlobStore, work: Path) -> None:
    (work / "upload-old").write_bytes(b"x")
    (work / "upload-new").write_bytes(b"x")
    os.utime(work / "upload-old", (time.time() - 1000, time.time() - 1000))
    # Somebody's own folder beside them must not end every sweep.
    (work / "folder").mkdir()
    os.utime(work / "folder", (time.time() - 1000, time.time() - 1000))
    assert blobs.sweep_unfinished(500) == 1
    assert sorted(path.name for path in work.iterdir()) == ["folder", "upload-new"]


def test_a_blob_can_be_read_at_any_place(blobs: BlobStore) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", b"hello" * 1000)
    with blobs.open(put_bytes(blobs, packed.getvalue()).key) as stream, zipfile.ZipFile(stream) as archive:
        assert archive.read("a.txt") == b"hello" * 1000


def test_a_folder_or_a_bucket_is_opened_by_its_url(tmp_path: Path) -> None:
    assert isinstance(open_blobs(str(tmp_path / "a"), spool=tmp_path), LocalBlobs)
    assert isinstance(open_blobs(f"file://{tmp_path}/a", spool=tmp_path), LocalBlobs)
    pytest.importorskip("obstore")
    options = {"region": "us-east-1", "endpoint": "http://127.0.0.1:9"}
    assert isinstance(open_blobs("s3://bucket/prefix", spool=tmp_path / "spool", options=options), ObjectBlobs)


@pytest.mark.parametrize(("url", "options"), [("ftp://host/x", {}), ("s3://bucket", {"nonsense": "1"})])
def test_a_url_that_cannot_be_used_is_refused(url: str, options: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"jobs\.blobs"):
        open_blobs(url, spool=tmp_path, options=options)


def test_a_bucket_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    options = {"region": "us-east-1", "endpoint": "http://127.0.0.1:9", "access_key_id": "a", "secret_access_key": "b"}
    blobs = open_blobs("s3://bucket", spool=tmp_path, options=options)
    with pytest.raises(Unavailable):
        blobs.exists("0" * 64)


def test_an_object_that_is_refused_is_told_from_a_bucket_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstore = pytest.importorskip("obstore")
    bucket = ObjectBlobs(pytest.importorskip("obstore.store").MemoryStore(), tmp_path / "spool")
    key = put_bytes(bucket, b"picture").key
    get, refused = obstore.get, {key}

    def get_what_is_allowed(store: object, path: str) -> object:
        if path.rpartition("/")[2] in refused or not refused:
            raise obstore.exceptions.PermissionDeniedError("403")
        return get(store, path)

    monkeypatch.setattr(obstore, "get", get_what_is_allowed)
    with pytest.raises(Unreadable):
        bucket.open(key)
    assert storage_works(bucket)
    refused.clear()
    with pytest.raises(Unreadable):
        bucket.open(key)
    assert not storage_works(bucket)

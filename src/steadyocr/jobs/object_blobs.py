"""Blobs in an S3-compatible object store, through obstore (extra ``[s3]``)."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast
from urllib.parse import urlsplit

from steadyocr.errors import ConfigError, NotFoundError, Unavailable
from steadyocr.jobs.blobs import Blob, BlobStore, BlobWriter, Unreadable, check_key, sweep_folder
from steadyocr.jobs.durability import disk_errors
from steadyocr.jobs.local_blobs import LocalBlobs
from steadyocr.jobs.stopping import KeepOn, always, while_wanted

if TYPE_CHECKING:
    from obstore.store import ObjectStore, S3Config

# An object this young need not be stored again to be safe from the sweep.
_YOUNG_S: Final = 600.0
_CHUNK_BYTES: Final = 4 << 20
# Requests under way at the same time for many small blobs.
_REQUESTS: Final = 8


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    from obstore.exceptions import BaseError, PermissionDeniedError
    from obstore.exceptions import NotFoundError as ObjectNotFound

    try:
        yield
    except (ObjectNotFound, FileNotFoundError) as error:
        raise NotFoundError("the blob is not there any more") from error
    except BaseError as error:
        # A bucket that is slow or away is so for any object; a refusal may be of this one alone.
        kind = Unreadable if isinstance(error, PermissionDeniedError) else Unavailable
        raise kind("the object store cannot be used at the moment; try again later", retry_after_s=5.0) from error


class ObjectBlobs:
    """Blobs in a bucket.

    An upload is written to a local file first: its key is known only at its end, and what breaks off on the way
    leaves nothing in the bucket.

    Args:
        store: The bucket, and a prefix in it.
        spool: Local folder for uploads under way.
        min_free_bytes: Disk space there that must stay free.
    """

    def __init__(self, store: ObjectStore, spool: Path, *, min_free_bytes: int = 0) -> None:
        self._store = store
        self._spool = spool
        self._min_free_bytes = min_free_bytes
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _path(self, key: str) -> str:
        return f"{check_key(key)[:2]}/{key[2:4]}/{key}"

    def writer(self, max_bytes: int, *, reserve: bool = False) -> BlobWriter:
        """See :meth:`BlobStore.writer`."""
        floor = 0 if reserve else self._min_free_bytes
        return BlobWriter(self._spool, self._keep, max_bytes=max_bytes, min_free_bytes=floor)

    def put_many(self, contents: Sequence[bytes | bytearray]) -> list[Blob]:
        """See :meth:`BlobStore.put_many`. Each costs its requests, so several go at the same time."""
        blobs = [Blob.of(content) for content in contents]
        new = {blob.key: bytes(content) for blob, content in zip(blobs, contents, strict=True)}
        with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="bucket-put") as threads:
            list(threads.map(self._put, new, new.values()))
        return blobs

    def _put(self, key: str, content: Path | bytes) -> None:
        import obstore

        age = self._age_s(key)
        if age is None or age > _YOUNG_S:
            with _translated():
                obstore.put(self._store, self._path(key), content)

    def _keep(self, written: Path, blob: Blob) -> None:
        self._put(blob.key, written)

    def _age_s(self, key: str) -> float | None:
        import obstore

        path = self._path(key)
        try:
            with _translated():
                info = obstore.head(self._store, path)
        except NotFoundError:
            return None
        return (datetime.now(UTC) - info["last_modified"]).total_seconds()

    def open(self, key: str) -> BinaryIO:
        """See :meth:`BlobStore.open`."""
        import obstore

        # Reading here and there, as archives are read, would cost a request each time.
        with contextlib.ExitStack() as opened, disk_errors():
            local = opened.enter_context(tempfile.TemporaryFile(dir=self._spool))
            with _translated():
                for chunk in obstore.get(self._store, self._path(key)).stream(min_chunk_size=_CHUNK_BYTES):
                    local.write(chunk)
            local.seek(0)
            opened.pop_all()
        return local

    def exists(self, key: str) -> bool:
        """See :meth:`BlobStore.exists`."""
        return self._age_s(key) is not None

    def lost(self, keys: Iterable[str]) -> bool:  # noqa: ARG002 - asking for each would cost a request
        """See :meth:`BlobStore.lost`. A bucket's own clock tells ages, and it refuses nodes whose clock is far off."""
        return False

    def renew(self, key: str) -> bool:
        """See :meth:`BlobStore.renew`. An object's age is when it was written, so it can only be looked at."""
        return self.exists(key)

    def delete(self, key: str, *, min_age_s: float = 0.0) -> bool:
        """See :meth:`BlobStore.delete`. Between look and deletion lies one request; objects cannot be moved aside."""
        import obstore

        age = self._age_s(key)
        if age is None or age < min_age_s:
            return False
        with _translated():
            obstore.delete(self._store, self._path(key))
        return True

    def list_older(self, min_age_s: float, keep_on: KeepOn = always) -> Iterator[Blob]:
        """See :meth:`BlobStore.list_older`."""
        latest = datetime.now(UTC) - timedelta(seconds=min_age_s)
        for info in while_wanted(self._objects(), keep_on):
            if info["last_modified"] <= latest:
                yield Blob(info["path"].rpartition("/")[2], info["size"])

    def usage_bytes(self) -> int:
        """See :meth:`BlobStore.usage_bytes`."""
        return sum(info["size"] for info in self._objects())

    def _objects(self) -> Iterator[Any]:
        import obstore

        with _translated():
            for batch in obstore.list(self._store):
                yield from batch

    def sweep_unfinished(self, min_age_s: float, keep_on: KeepOn = always) -> int:
        """See :meth:`BlobStore.sweep_unfinished`."""
        return sweep_folder(self._spool, min_age_s, keep_on)


def open_blobs(
    url: str, *, spool: Path, options: Mapping[str, str] | None = None, min_free_bytes: int = 0
) -> BlobStore:
    """Return the blob store that a URL names.

    Args:
        url: A folder, or ``s3://bucket/prefix``.
        spool: Local folder for uploads on their way to a bucket.
        options: obstore's S3 options (``endpoint``, ``access_key_id``, ``secret_access_key``, ``region``, …); what is
            not given is taken from the usual ``AWS_…`` variables.
        min_free_bytes: Local disk space that must stay free.

    Raises:
        ConfigError: The URL or an option cannot be used, or obstore is not installed.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("", "file"):
        return LocalBlobs(Path(url.removeprefix("file://")), min_free_bytes=min_free_bytes)
    if scheme not in ("s3", "s3a"):
        raise ConfigError(f"jobs.blobs names {scheme!r}; only a folder or s3://bucket/prefix is supported")
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError as error:
        raise ConfigError("s3:// needs a library: pip install 'steadyocr[s3]'") from error
    settings = dict(options or {})
    plain = settings.get("endpoint", "").startswith("http://")
    try:
        store = S3Store.from_url(
            url,
            config=cast("S3Config", settings),
            client_options={"allow_http": plain, "timeout": "30s", "connect_timeout": "5s"},
        )
    except (BaseError, TypeError, ValueError) as error:
        raise ConfigError(f"jobs.blobs cannot be used: {str(error).partition(chr(10))[0]}") from error
    return ObjectBlobs(store, spool, min_free_bytes=min_free_bytes)

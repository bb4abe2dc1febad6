"""Which file system a path is on. SQLite's write-ahead log needs one that belongs to this machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from steadyocr.errors import ConfigError

# Names as in mountinfo: unlike statfs numbers they tell one FUSE file system from another.
_NETWORK: Final = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
        "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "virtiofs", "vboxsf", "vmhgfs",
        "fuse.ceph", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.mount-s3",
        "fuse.moosefs", "fuse.rclone", "fuse.s3fs", "fuse.seaweedfs", "fuse.sshfs", "fuse.vmhgfs-fuse",
    }
)  # fmt: skip


def file_system_of(path: Path, mountinfo: str) -> str:
    """Return the type of the file system that holds a path; empty when it cannot be told.

    Args:
        path: Absolute, links resolved.
        mountinfo: The text of ``/proc/self/mountinfo``; of two mounts on one place the later one counts.
    """
    best, found = -1, ""
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if not separator or len(fields) < 5 or not kind:
            continue
        mount = Path(_unescape(fields[4]))
        if path.is_relative_to(mount) and len(mount.parts) >= best:
            best, found = len(mount.parts), kind[0]
    return found


def _unescape(text: str) -> str:
    return text.replace(r"\040", " ").replace(r"\011", "\t").replace(r"\012", "\n").replace(r"\134", "\\")


def refuse_network_file_system(folder: Path, mountinfo: str | None = None) -> None:
    """Refuse to keep an SQLite database where it would be damaged sooner or later.

    Raises:
        ConfigError: The folder is on a network file system.
    """
    if mountinfo is None:
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    kind = file_system_of(folder.resolve(), mountinfo)
    if kind in _NETWORK:
        raise ConfigError(
            f"the job database would be on a network file system ({kind}), where SQLite loses data; put data_dir on a "
            "local disk, or set jobs.url to a PostgreSQL server"
        )

"""Where a database must not lie: network file systems neither lock nor share memory as SQLite's log needs it."""

from __future__ import annotations

import os
from pathlib import Path

from llmctl.domain.errors import StoreError, StoreUnavailable

MOUNTS = Path("/proc/self/mounts")
# Names as in /proc/mounts; https://www.sqlite.org/wal.html: "WAL does not work over a network filesystem".
NETWORK = frozenset(
    "9p afs beegfs ceph cifs coda fuse.ceph fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs gfs2 glusterfs gpfs lustre"
    " ncpfs nfs nfs4 ocfs2 orangefs smb3 smbfs".split()
)


def check(database: Path, mounts: Path = MOUNTS) -> None:
    """Raises StoreError for a place on another machine, or where nothing may be written. Where mounts cannot be seen,
    every place is on this machine."""
    kind = kind_of(database, mounts)
    if kind in NETWORK:
        raise StoreError(
            f"{database} lies on a network file system ({kind}), where SQLite is not safe",
            hint="move it to a disk of this machine",
            code="database_place",
        )
    check_writable(database)


def check_writable(database: Path) -> None:
    """Raises StoreUnavailable where the file, its log, or their directory may not be written."""
    for path in (database, Path(f"{database}-wal"), database.absolute().parent):
        if path.exists() and not os.access(path, os.W_OK):
            raise StoreUnavailable(f"{path} may not be written", hint="check its owner and mode, and how it is mounted")


def kind_of(path: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that a path lies on; "" where that is unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    place = path.resolve()
    best, kind = Path("/"), ""
    for line in lines:
        _, point, type_, *_ = [*line.split(" "), "", "", ""]
        where = Path(_unescaped(point))
        # Of two on one point, the later lies over the earlier.
        if place.is_relative_to(where) and len(where.parts) >= len(best.parts):
            best, kind = where, type_
    return kind


def _unescaped(text: str) -> str:
    r"""Spaces and such are written as octal: `\040`."""
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text

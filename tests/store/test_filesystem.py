from __future__ import annotations

from pathlib import Path

import pytest

from llmctl.domain.errors import StoreError
from llmctl.store import filesystem


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    file = tmp_path / "mounts"
    file.write_text(
        "/dev/sda1 / ext4 rw 0 0\n"
        f"server:/x {tmp_path}/shared\\040files nfs4 rw 0 0\n"
        f"/dev/sdb1 {tmp_path}/shared\\040files/disk xfs rw 0 0\n"
        f"//server/y {tmp_path}/over ext4 rw 0 0\n"
        f"//server/y {tmp_path}/over cifs rw 0 0\n"
    )
    return file


@pytest.mark.parametrize(
    ("place", "kind"),
    [("x.db", "ext4"), ("shared files/x.db", "nfs4"), ("shared files/disk/x.db", "xfs"), ("over/x.db", "cifs")],
)
def test_the_nearest_mount_says_where_a_database_lies(tmp_path: Path, mounts: Path, place: str, kind: str) -> None:
    assert filesystem.kind_of(tmp_path / place, mounts) == kind


def test_network_file_systems_are_refused(tmp_path: Path, mounts: Path) -> None:
    filesystem.check(tmp_path / "x.db", mounts)
    with pytest.raises(StoreError, match="network file system \\(nfs4\\)"):
        filesystem.check(tmp_path / "shared files" / "x.db", mounts)


def test_where_mounts_cannot_be_seen_every_place_is_good(tmp_path: Path) -> None:
    filesystem.check(tmp_path / "x.db", tmp_path / "none")


def test_this_machine_is_not_refused(tmp_path: Path) -> None:
    assert filesystem.kind_of(tmp_path)
    filesystem.check(tmp_path / "x.db")

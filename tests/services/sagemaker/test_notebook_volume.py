"""The volume of a notebook instance: nothing is lost between folder and archive, and nothing readable stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilvi.core.errors import PilviError
from pilvi.services.sagemaker.notebook_volume import Volume, claiming
from pilvi.testing.server import TestServer

SECRET = b"passenger list, nobody else shall read"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with TestServer(tmp_path_factory.mktemp("volumes")) as running:
        yield running.cloud


def filled(cloud: Any, id: str) -> Volume:
    volume = Volume(cloud, id)
    volume.open(None)
    (volume.files / "data").mkdir()
    (volume.files / "data/train.csv").write_bytes(SECRET * 100_000)
    (volume.files / "run.sh").write_text("#!/bin/sh\n")
    (volume.files / "run.sh").chmod(0o755)
    (volume.files / "link").symlink_to("data/train.csv")
    (volume.files / "ümläut 名前.txt").write_text("name")
    (volume.files / "empty").mkdir()
    return volume


def tree(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes())
        for path in folder.rglob("*")
    }  # fmt: skip


def test_what_was_packed_is_there_again(cloud: Any) -> None:
    volume = filled(cloud, "again")
    before = tree(volume.files)
    archive = volume.pack()
    assert archive is not None
    cloud.store.write(*claiming(archive))
    volume.drop_files()
    assert not volume.folder.exists()
    volume.open(archive)
    assert tree(volume.files) == before
    volume.drop_archive(archive)
    volume.drop_files()


def test_a_packed_volume_cannot_be_read_from_the_disk(cloud: Any) -> None:
    volume = filled(cloud, "sealed")
    archive = volume.pack()
    volume.drop_files()
    found = [path for path in cloud.config.data_dir.rglob("*") if path.is_file() and SECRET in path.read_bytes()]
    assert found == []
    volume.drop_archive(archive)


def test_a_volume_with_a_key_of_its_own_opens_with_that_key_alone(cloud: Any) -> None:
    volume = filled(cloud, "own")
    before = tree(volume.files)
    own = Volume(cloud, "own", key=b"k" * 32)
    archive = own.pack()
    assert archive is not None
    for other in (volume, Volume(cloud, "own", key=b"x" * 32)):
        with pytest.raises(PilviError):
            other.open(archive)
    own.open(archive)
    assert tree(own.files) == before
    own.drop_archive(archive)
    own.drop_files()


def test_an_opening_that_was_cut_off_begins_again(cloud: Any) -> None:
    volume = filled(cloud, "cut")
    before, archive = tree(volume.files), volume.pack()
    (volume.files / "run.sh").write_text("half")
    (volume.files / "stray").write_text("rest of an opening")
    volume.open(archive)
    assert tree(volume.files) == before
    volume.drop_files()


def test_folders_of_a_run_go_with_it(cloud: Any) -> None:
    volume = filled(cloud, "run")
    volume.run.mkdir()
    (volume.run / "home").mkdir()
    volume.pack()
    assert not volume.run.exists()
    assert volume.folder.stat().st_mode & 0o077 == 0

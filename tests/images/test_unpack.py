"""Layers into a folder: whiteouts, links, and what tries to get out."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from pilvi.core.errors import Invalid
from pilvi.core.trees import inside
from pilvi.images.config import User, find_user
from pilvi.images.unpack import Tree


def layer(*members: tuple[str, str | bytes | None, dict[str, object]] | tuple[str, str | bytes | None]) -> bytes:
    """(name, bytes of a file | target of a link | None for a folder, more of the header)"""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content, *more in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if content is None else 0o644
            info.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE if isinstance(content, str) else tarfile.REGTYPE
            info.linkname = content if isinstance(content, str) else ""
            info.size = len(content) if isinstance(content, bytes) else 0
            for key, value in (more[0] if more else {}).items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return plain.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree")


def put(tree: Tree, *layers: bytes) -> None:
    for data in layers:
        tree.add_layer([data[:100], data[100:]])


def test_layers_lie_over_one_another(tree: Tree) -> None:
    put(
        tree,
        layer(("a", None), ("a/x", b"1"), ("a/y", b"2"), ("b", b"3")),
        layer(("./a/x", b"new"), ("a/.wh.y", b""), (".wh.b", b"")),
    )
    assert sorted(str(path.relative_to(tree.folder)) for path in tree.folder.rglob("*")) == ["a", "a/x"]
    assert (tree.folder / "a/x").read_bytes() == b"new"


@pytest.mark.parametrize("name", [".wh...", "a/.wh...", ".wh.", "a/.wh.."])
def test_a_whiteout_of_no_file_is_refused(tree: Tree, name: str) -> None:
    (tree.folder.parent / "beside").write_text("not the image's")
    with pytest.raises(Invalid, match="removes what is no file"):
        put(tree, layer(("a", None), ("a/x", b"1")), layer((name, b"")))
    assert (tree.folder.parent / "beside").exists()
    assert (tree.folder / "a" / "x").exists()


def test_an_opaque_folder_keeps_its_own(tree: Tree) -> None:
    put(tree, layer(("a/old", b"1"), ("a/sub/old", b"1")), layer(("a", None), ("a/new", b"2"), ("a/.wh..wh..opq", b"")))
    assert sorted(path.name for path in (tree.folder / "a").iterdir()) == ["new"]


def test_a_file_takes_a_folders_place_and_back(tree: Tree) -> None:
    put(tree, layer(("a/b", b"1"), ("f", b"2")), layer(("a", b"now a file"), ("f", None), ("f/g", b"3")))
    assert (tree.folder / "a").read_bytes() == b"now a file"
    assert (tree.folder / "f/g").read_bytes() == b"3"


def test_compressed_layers_and_their_digests(tree: Tree) -> None:
    plain = layer(("a", b"1"))
    zipped = gzip.compress(plain[:512]) + gzip.compress(plain[512:])
    digest = f"sha256:{hashlib.sha256(plain).hexdigest()}"
    tree.add_layer([zipped], digest)
    with pytest.raises(Invalid, match="the image's configuration says"):
        tree.add_layer([zipped], "sha256:" + "0" * 64)
    with pytest.raises(Invalid, match="no archive"):
        tree.add_layer([b"x" * 1024])
    with pytest.raises(Invalid, match="zstd"):
        tree.add_layer([b"\x28\xb5\x2f\xfd" + b"x" * 100])


def test_links_of_lower_layers_are_followed_inside(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    put(
        tree,
        layer(
            ("usr/lib", None), ("lib", "usr/lib"), ("abs", "/usr/lib"), ("out", str(tmp_path / "outside")), ("up", "../../outside")
        ),
        layer(("lib/a", b"1"), ("abs/b", b"2"), ("out/c", b"3"), ("up/d", b"4")),
    )
    assert sorted(path.name for path in (tree.folder / "usr/lib").iterdir()) == ["a", "b"]
    assert list((tmp_path / "outside").iterdir()) == []


def test_paths_that_lead_out_are_refused(tree: Tree) -> None:
    for member in (("../x", b"1"), ("a/../../x", b"1"), ("h", "../../etc/passwd", {"type": tarfile.LNKTYPE})):
        with pytest.raises(Invalid, match="leads out of the image"):
            put(tree, layer(member))
    with pytest.raises(Invalid, match="which is not there"):
        put(tree, layer(("h", "/etc/passwd", {"type": tarfile.LNKTYPE})))


def test_a_file_never_writes_through_a_link(tree: Tree, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    put(tree, layer(("x", str(victim))), layer(("x", b"theirs")))
    assert victim.read_text() == "mine"
    assert not (tree.folder / "x").is_symlink()
    put(tree, layer(("y", str(victim))), layer(("z", "y", {"type": tarfile.LNKTYPE})), layer(("z", b"theirs")))
    assert victim.read_text() == "mine"


def test_hard_links_share_their_content(tree: Tree) -> None:
    put(tree, layer(("a", b"1"), ("b", "a", {"type": tarfile.LNKTYPE})))
    assert os.stat(tree.folder / "a").st_ino == os.stat(tree.folder / "b").st_ino


def test_powers_and_devices_are_left_out(tree: Tree) -> None:
    put(
        tree,
        layer(
            ("su", b"#!", {"mode": 0o6755}),
            ("tmp", None, {"mode": 0o1777}),
            ("dev", b"", {"type": tarfile.CHRTYPE}),
            ("no", b"", {"mode": 0}),
        ),
    )
    assert stat.S_IMODE((tree.folder / "su").stat().st_mode) == 0o755
    assert stat.S_IMODE((tree.folder / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((tree.folder / "no").stat().st_mode) == 0o600
    assert not (tree.folder / "dev").exists()


def test_an_image_has_a_size_it_may_have(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="too large"):
        put(Tree(tmp_path / "small", most_bytes=10), layer(("a", b"x" * 11)))


def test_inside_never_leaves(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/etc")
    (tmp_path / "ring").symlink_to("ring")
    (tmp_path / "up").symlink_to("../../..")
    assert inside(tmp_path, "/a/passwd") == "/etc/passwd"
    assert inside(tmp_path, "/up/x") == "/x"
    assert inside(tmp_path, "/../../x") == "/x"
    with pytest.raises(Invalid):
        inside(tmp_path, "/ring")


def test_lists_of_users_that_are_no_files_hold_nobody_up(tree: Tree) -> None:
    put(tree, layer(("etc", None), ("etc/passwd", b"", {"type": tarfile.FIFOTYPE})))
    assert find_user(tree.folder, "12") == User(12, 0, "/")
    with pytest.raises(Invalid, match="unable to find user app"):
        find_user(tree.folder, "app")

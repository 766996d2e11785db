"""Images built from Dockerfiles: copies, stages, arguments, and the same image twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from pilvi.cli.images import SandboxRunner, split
from pilvi.core.errors import Invalid
from pilvi.images.archive import read_archive, write_archive
from pilvi.images.base import python_base
from pilvi.images.build import Build, Image
from pilvi.images.client import Registry
from pilvi.images.config import User, read_config
from pilvi.images.diff import Entry
from pilvi.images.unpack import Tree


class NoRunner:
    def run(
        self, tree: Path, command: Sequence[str], env: Mapping[str, str], cwd: str, user: User, say: Callable[[str], None]
    ) -> tuple[int, list[Entry]]:
        raise AssertionError("nothing is to run")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    (place / "src" / "deep").mkdir(parents=True)
    (place / "src" / "a.py").write_text("a")
    (place / "src" / "deep" / "b.py").write_text("b")
    (place / "src" / "c.pyc").write_text("c")
    (place / "secret").write_text("s")
    (place / ".dockerignore").write_text("**/*.pyc\nsecret\n")
    return place


def build(folder: Path, work: Path, text: str, **more: object) -> Image:
    work.mkdir()

    def nothing(name: str) -> Image:
        raise Invalid(f"{name} is in no registry")

    return Build(folder, work, nothing, NoRunner(), **more).build(text)  # type: ignore[arg-type]


def files_of(image: Image, folder: Path) -> dict[str, str]:
    tree = Tree(folder)
    for layer in image.layers:
        tree.add_layer([layer.path.read_bytes()], layer.diff_id)
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_copy_takes_files_folders_and_patterns(folder: Path, tmp_path: Path) -> None:
    image = build(
        folder,
        tmp_path / "w",
        "FROM scratch\nWORKDIR /app\nCOPY src/ .\nCOPY src/a.py /one\nCOPY src/*.py /many/\nADD src/deep /deep\n",
    )
    assert files_of(image, tmp_path / "tree") == {
        "app/a.py": "a",
        "app/deep/b.py": "b",
        "deep/b.py": "b",
        "many/a.py": "a",
        "one": "a",
    }


def test_copy_follows_links_but_never_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    (private / "keys").mkdir(parents=True)
    (private / "keys" / "id").write_text("not for images")
    (folder / "inner").symlink_to("src/deep")
    (folder / "file").symlink_to("src/a.py")
    (folder / "outer").symlink_to(private)
    (folder / "up").symlink_to(f"../{private.name}/keys")
    image = build(folder, tmp_path / "w", "FROM scratch\nCOPY inner /inner\nCOPY file /files/\n")
    assert files_of(image, tmp_path / "tree") == {"inner/b.py": "b", "files/file": "a"}
    for number, name in enumerate(("outer", "up", "outer/keys", "outer/keys/id", "oute*", "outer/*")):
        with pytest.raises(Invalid, match="is not there"):
            build(folder, tmp_path / f"w{number}", f"FROM scratch\nCOPY {name} /x\n")


def test_an_archives_own_lists_are_in_it(tmp_path: Path) -> None:
    import tarfile

    (tmp_path / "outside.json").write_text('{"manifests": []}')
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        link = tarfile.TarInfo("index.json")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside.json")
        archive.addfile(link)
    with pytest.raises(Invalid, match=r"has no index\.json"):
        read_archive(tmp_path / "image.tar", tmp_path)


def test_the_same_folder_makes_the_same_image(folder: Path, tmp_path: Path) -> None:
    text = 'FROM scratch\nCOPY . /app\nENV A=1\nCMD ["a"]\n'
    one = build(folder, tmp_path / "w1", text)
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "src" / "a.py").touch()
    two = build(tmp_path / "copy", tmp_path / "w2", text)
    assert one.manifest_bytes() == two.manifest_bytes()


def test_stages_arguments_and_settings(folder: Path, tmp_path: Path) -> None:
    text = """ARG WHAT=src
FROM scratch AS first
ARG WHAT
ARG NAME=none
COPY $WHAT/a.py /made/$NAME
FROM scratch
COPY --from=first --chmod=755 /made /here
ENV A=1 B=${A}2
LABEL x=y
EXPOSE 8080
USER 5:6
WORKDIR /w
WORKDIR deep
ENTRYPOINT ["run"]
CMD serve
"""
    image = build(folder, tmp_path / "w", text, arguments={"NAME": "given"})
    assert files_of(image, tmp_path / "tree") == {"here/given": "a"}
    config = read_config(image.config_bytes())
    assert (config.entrypoint, config.cmd, config.user, config.working_dir) == (
        ("run",),
        ("/bin/sh", "-c", "serve"),
        "5:6",
        "/w/deep",
    )
    assert config.env is not None
    assert (config.env["A"], config.env["B"]) == ("1", "2")
    inner = json.loads(image.config_bytes())["config"]
    assert (inner["Labels"], inner["ExposedPorts"]) == ({"x": "y"}, {"8080/tcp": {}})
    assert config.command(("train",)) == ("run", "train")
    assert config.command(()) == ("run", "/bin/sh", "-c", "serve")
    assert config.command(("x",), replaces_entry=True) == ("x",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM scratch\nCOPY nothing /x", "line 2: COPY: nothing is not there"),
        ("FROM scratch\nCOPY ../secret /x", "leads out of the build's folder"),
        ("FROM scratch\nADD http://example.com/x /x", "only local files"),
        ("FROM scratch\nCOPY --parents a /x", "--parents is not supported"),
        ("FROM nobody/has:this", "in no registry"),
        ("FROM scratch\nUSER x\nRUN a", "unable to find user x"),
    ],
)
def test_what_cannot_be_built_is_told(folder: Path, tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        build(folder, tmp_path / "w", text)


def test_archives_keep_the_image(folder: Path, tmp_path: Path) -> None:
    image = build(folder, tmp_path / "w", "FROM scratch\nCOPY src /app\n")
    write_archive(image, tmp_path / "image.tar", "v1", tmp_path)
    (tmp_path / "read").mkdir()
    assert read_archive(tmp_path / "image.tar", tmp_path / "read").manifest_bytes() == image.manifest_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "junk.tar").write_bytes(b"\0" * 1024)
    with pytest.raises(Invalid, match="holds no image"):
        read_archive(tmp_path / "junk.tar", tmp_path / "other")


def test_docker_save_archives_are_read(folder: Path, tmp_path: Path) -> None:
    import gzip
    import tarfile

    image = build(folder, tmp_path / "w", "FROM scratch\nCOPY src /app\n")
    place = tmp_path / "docker"
    place.mkdir()
    (place / "layer.tar").write_bytes(gzip.decompress(image.layers[0].path.read_bytes()))
    (place / "config.json").write_bytes(image.config_bytes())
    (place / "manifest.json").write_text(json.dumps([{"Config": "config.json", "RepoTags": ["a:b"], "Layers": ["layer.tar"]}]))
    with tarfile.open(tmp_path / "docker.tar", "w") as archive:
        for path in place.iterdir():
            archive.add(path, path.name)
    (tmp_path / "read").mkdir()
    assert read_archive(tmp_path / "docker.tar", tmp_path / "read").manifest_bytes() == image.manifest_bytes()


def test_a_base_of_another_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="this machine has Python"):
        python_base("python:2.7", tmp_path)


def test_references_are_split() -> None:
    host = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    assert split("a/b") == ("a/b", "latest")
    assert split(f"{host}/a/b:v1") == ("a/b", "v1")
    assert split("127.0.0.1:4566/a@sha256:x") == ("a", "sha256:x")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return python_base("python:3", tmp_path_factory.mktemp("base"))


def test_run_changes_the_image_and_nothing_else(base: Image, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    runner = SandboxRunner(tmp_path / "w")
    said: list[str] = []
    text = """FROM python:3
COPY src /app
RUN rm /app/a.py && echo made > /made && mkdir -p /new/empty && ln -s /made /link && echo $A $PWD; test ! -e /work
RUN ["/bin/sh", "-c", "rm -r /app/deep && cat /link"]
"""
    try:
        image = Build(folder, tmp_path / "w", lambda _name: base, runner, {}, said.append).build(text)
        (tmp_path / "w2").mkdir()
        with pytest.raises(Invalid, match="ended with status 3"):
            Build(folder, tmp_path / "w2", lambda _name: base, runner, {}, said.append).build("FROM python:3\nRUN exit 3")
    finally:
        runner.close()
    tree = Tree(tmp_path / "tree")
    for layer in image.layers:
        tree.add_layer([layer.path.read_bytes()], layer.diff_id)
    assert (tree.folder / "made").read_text() == "made\n"
    assert (tree.folder / "link").is_symlink()
    assert (tree.folder / "new/empty").is_dir()
    assert not (tree.folder / "app/a.py").exists()
    assert not (tree.folder / "app/deep").exists()
    assert "  made" in said
    assert json.loads(image.config_bytes())["config"]["Labels"]["org.pilvi.base"].startswith("Python 3.")


def test_a_registry_that_is_not_there_is_told(tmp_path: Path) -> None:
    from pilvi.core.errors import Unavailable

    with pytest.raises(Unavailable, match="does not answer"):
        Registry("http://127.0.0.1:9").pull("app", "v1", tmp_path)

"""Building images from Dockerfiles, without Docker: every instruction that changes files makes a layer.

    build(Context...) -> Image(config, layers)

COPY and ADD write archives straight from the build's folder; RUN runs in the stage's own file tree, apart from everything, with the
sandbox that jobs run in, and what it changed is the layer. Equal inputs give equal images, but for what RUN itself makes.
"""

from __future__ import annotations

import fnmatch
import json
import platform
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from pilvi.core.errors import Invalid
from pilvi.core.trees import inside
from pilvi.images.config import PATH, User, find_user, read_config
from pilvi.images.diff import EPOCH, Entry, Layer, tree_entries, write_layer
from pilvi.images.dockerfile import Dockerfile, Instruction, Stage, pairs, read_dockerfile, substituted
from pilvi.images.manifest import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, digest_of
from pilvi.images.unpack import Tree

_COMMENT = "built by pilvi"
_ARGUMENTS = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"})


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this disk: a configuration and its layers, lowest first."""

    config: Mapping[str, Any]
    layers: tuple[Layer, ...]

    def config_bytes(self) -> bytes:
        return json.dumps(self.config, sort_keys=True, separators=(",", ":")).encode()

    def manifest_bytes(self) -> bytes:
        config = self.config_bytes()
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": OCI_LAYER, "digest": layer.digest, "size": layer.size} for layer in self.layers],
        }
        return json.dumps(manifest, separators=(",", ":")).encode()


class Runner(Protocol):
    """Runs a program in a file tree."""

    def run(
        self, tree: Path, command: Sequence[str], env: Mapping[str, str], cwd: str, user: User, say: Callable[[str], None]
    ) -> tuple[int, list[Entry]]:
        """(exit status, what it changed); the tree itself stays as it was."""


@dataclass
class Build:
    """One build. folder: what COPY takes from. work: an empty folder of its own. find_base: an image that FROM names."""

    folder: Path
    work: Path
    find_base: Callable[[str], Image]
    runner: Runner
    arguments: Mapping[str, str] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _line: None

    def build(self, text: str, target: str = "") -> Image:
        """The last stage's image, or that of the stage named `target`. Invalid, with the line, when it cannot be built."""
        file = read_dockerfile(text)
        given = self._global_arguments(file)
        done: dict[str, _Stage] = {}
        for number, stage in enumerate(file.stages):
            built = _Stage(self, stage, number, done, given)
            for instruction in stage.instructions:
                try:
                    built.perform(instruction)
                except Invalid as error:
                    raise Invalid(f"line {instruction.line}: {instruction.name}: {error.message}") from error
            done[str(number)] = done[stage.name] = built
            if target and target.lower() == stage.name:
                return built.image()
        if target:
            raise Invalid(f"there is no stage {target}")
        return done[str(len(file.stages) - 1)].image()

    def _global_arguments(self, file: Dockerfile) -> dict[str, str]:
        found: dict[str, str] = {}
        for instruction in file.arguments:
            for name, value in pairs(instruction, found).items():
                found[name] = self.arguments.get(name, value)
        return found


class _Stage:
    def __init__(self, build: Build, stage: Stage, number: int, done: Mapping[str, _Stage], given: Mapping[str, str]) -> None:
        self._build, self._done, self._given = build, done, given
        self._work = build.work / f"stage-{number}"
        self._work.mkdir()
        base = substituted(stage.base, given)
        build.say(f"FROM {base}")
        if base == "scratch":
            image = Image(empty_config(), ())
        elif base.lower() in done:
            image = done[base.lower()].image()
        else:
            image = build.find_base(base)
        self._layers = list(image.layers)
        self._config = dict(image.config)
        self._inner: dict[str, Any] = dict(image.config.get("config") or {})
        self._env = dict(read_config(image.config_bytes()).env or {})
        self._arguments: dict[str, str] = {}
        self._shell: tuple[str, ...] = ("/bin/sh", "-c")
        self._tree: Tree | None = None
        self._history = list(image.config.get("history") or ())

    def perform(self, instruction: Instruction) -> None:
        self._build.say(f"{instruction.name} {instruction.text}")
        getattr(self, f"do_{instruction.name.lower()}")(instruction)

    def image(self) -> Image:
        inner = {**self._inner, "Env": [f"{name}={value}" for name, value in self._env.items()]}
        rootfs = {"type": "layers", "diff_ids": [layer.diff_id for layer in self._layers]}
        return Image({**self._config, "config": inner, "rootfs": rootfs, "history": self._history}, tuple(self._layers))

    def tree(self) -> Path:
        """The stage's files, unpacked when they are first asked for."""
        if self._tree is None:
            self._tree = Tree(self._work / "tree")
            for layer in self._layers:
                self._tree.add_layer(_file_pieces(layer.path), layer.diff_id)
        return self._tree.folder

    # -- instructions -------------------------------------------------------------------------------------------------

    def do_arg(self, instruction: Instruction) -> None:
        for name, value in pairs(instruction, self._values()).items():
            self._arguments[name] = self._build.arguments.get(name, value or self._given.get(name, ""))

    def do_env(self, instruction: Instruction) -> None:
        self._env |= pairs(instruction, self._values())

    def do_label(self, instruction: Instruction) -> None:
        self._inner["Labels"] = {**(self._inner.get("Labels") or {}), **pairs(instruction, self._values())}

    def do_maintainer(self, instruction: Instruction) -> None:
        self._inner["Labels"] = {**(self._inner.get("Labels") or {}), "maintainer": instruction.text}

    def do_workdir(self, instruction: Instruction) -> None:
        self._inner["WorkingDir"] = str(PurePosixPath(self._cwd(), self._filled(instruction.text)))
        self._put([Entry(self._cwd().strip("/"))], instruction)

    def do_user(self, instruction: Instruction) -> None:
        self._inner["User"] = self._filled(instruction.text)

    def do_expose(self, instruction: Instruction) -> None:
        ports = [port if "/" in port else f"{port}/tcp" for port in self._filled(instruction.text).split()]
        self._inner["ExposedPorts"] = {**(self._inner.get("ExposedPorts") or {}), **{port: {} for port in ports}}

    def do_volume(self, instruction: Instruction) -> None:
        self._inner["Volumes"] = {**(self._inner.get("Volumes") or {}), **{path: {} for path in instruction.words()}}

    def do_stopsignal(self, instruction: Instruction) -> None:
        self._inner["StopSignal"] = self._filled(instruction.text)

    def do_healthcheck(self, instruction: Instruction) -> None:
        name, _, rest = instruction.text.partition(" ")
        self._inner["Healthcheck"] = {"Test": ["NONE"]} if name == "NONE" else {"Test": ["CMD-SHELL", rest]}

    def do_shell(self, instruction: Instruction) -> None:
        words = instruction.json()
        if not words:
            raise Invalid("needs the JSON form")
        self._shell = words

    def do_cmd(self, instruction: Instruction) -> None:
        self._inner["Cmd"] = list(instruction.json() or (*self._shell, instruction.text))

    def do_entrypoint(self, instruction: Instruction) -> None:
        self._inner["Entrypoint"] = list(instruction.json() or (*self._shell, instruction.text))
        self._inner.pop("Cmd", None)

    def do_copy(self, instruction: Instruction) -> None:
        self._bring(instruction, does_unpack=False)

    def do_add(self, instruction: Instruction) -> None:
        self._bring(instruction, does_unpack=True)

    def do_run(self, instruction: Instruction) -> None:
        if instruction.flags:
            raise Invalid(f"--{next(iter(instruction.flags))} is not supported")
        command = instruction.json() or (*self._shell, instruction.text)
        tree = self.tree()
        user = find_user(tree, str(self._inner.get("User") or ""))
        proxies = {name: value for name, value in self._build.arguments.items() if name in _ARGUMENTS}
        env = {"PATH": PATH, "HOME": user.home, **proxies, **self._arguments, **self._env}
        status, entries = self._build.runner.run(tree, command, env, self._cwd(), user, self._build.say)
        if status != 0:
            raise Invalid(f"the command '{' '.join(command)}' ended with status {status}")
        self._put(entries, instruction)

    # -- private ------------------------------------------------------------------------------------------------------

    def _bring(self, instruction: Instruction, *, does_unpack: bool) -> None:
        flags = dict(instruction.flags)
        source = self._source(flags.pop("from", ""))
        owner = flags.pop("chown", "")
        mode = int(flags.pop("chmod"), 8) if "chmod" in flags else None
        flags.pop("link", None)
        if flags:
            raise Invalid(f"--{next(iter(flags))} is not supported")
        *patterns, destination = [self._filled(word) for word in instruction.words()]
        if not patterns:
            raise Invalid("needs a source and a destination")
        user = find_user(self.tree(), owner) if owner and not owner.replace(":", "").isdigit() else _numbers(owner)
        ignored = _ignored(source) if source == self._build.folder else lambda _path: False
        entries: list[Entry] = []
        is_folder = destination.endswith("/") or len(patterns) > 1
        target = str(PurePosixPath(self._cwd(), destination)).strip("/")
        for pattern in patterns:
            if "://" in pattern:
                raise Invalid(f"{pattern}: only local files can be added")
            found = list(_matches(source, pattern))
            if not found:
                raise Invalid(f"{pattern} is not there")
            for name, place in found:
                if does_unpack and place.is_file() and tarfile.is_tarfile(place):
                    entries += self._unpacked(place, target)
                elif place.is_dir():
                    entries += [entry for entry in tree_entries(place, f"{target}/" if target else "") if entry.path]
                else:
                    is_below = is_folder or len(found) > 1 or Path(f"{self.tree()}{inside(self.tree(), '/' + target)}").is_dir()
                    entries.append(Entry(f"{target}/{name}".lstrip("/") if is_below else target, place))
        kept = [entry for entry in entries if entry.source is None or not ignored(entry.source)]
        self._put([replace(entry, mode=mode, uid=user.uid, gid=user.gid) for entry in kept], instruction)

    def _unpacked(self, archive: Path, target: str) -> list[Entry]:
        folder = self._work / f"add-{len(self._layers)}"
        Tree(folder).add_layer(_plain_pieces(archive))
        return list(tree_entries(folder, f"{target}/" if target else "", None))

    def _source(self, name: str) -> Path:
        """Where COPY takes from: the build's folder, another stage, another image."""
        if not name:
            return self._build.folder
        name = substituted(name, self._given)
        if (stage := self._done.get(name.lower())) is not None:
            return stage.tree()
        folder = self._work / f"from-{len(self._layers)}"
        tree = Tree(folder)
        for layer in self._build.find_base(name).layers:
            tree.add_layer(_file_pieces(layer.path), layer.diff_id)
        return folder

    def _put(self, entries: Sequence[Entry], instruction: Instruction) -> None:
        """A layer of these entries, and the folders above them."""
        named = {entry.path for entry in entries}
        above = {str(parent) for entry in entries for parent in PurePosixPath(entry.path).parents if str(parent) != "."}
        folders = [Entry(path) for path in sorted(above - named) if not self._has(path)]
        entries = [entry for entry in entries if entry.source is not None or entry.is_whiteout or not self._has(entry.path)]
        if not entries:
            return
        layer = write_layer([*folders, *entries], self._work / f"layer-{len(self._layers)}.tar.gz")
        self._layers.append(layer)
        if self._tree is not None:
            self._tree.add_layer(_file_pieces(layer.path), layer.diff_id)
        said = f"{instruction.name} {instruction.text}"
        self._history.append({"created": _created(), "created_by": said, "comment": _COMMENT})

    def _has(self, path: str) -> bool:
        return bool(path) and Path(f"{self.tree()}{inside(self.tree(), '/' + path)}").is_dir()

    def _cwd(self) -> str:
        return str(self._inner.get("WorkingDir") or "/")

    def _values(self) -> dict[str, str]:
        return {**self._arguments, **self._env}

    def _filled(self, text: str) -> str:
        return substituted(text, self._values())


def empty_config() -> dict[str, Any]:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "created": _created(),
        "architecture": machine,
        "os": "linux",
        "config": {"Env": [f"PATH={PATH}"]},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }


def _created() -> str:
    return datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _numbers(owner: str) -> User:
    uid, _, gid = owner.partition(":")
    return User(int(uid or 0), int(gid or uid or 0), "/")


def _matches(folder: Path, pattern: str) -> Iterator[tuple[str, Path]]:
    """Files that a source names, by the name they are found under; links are followed, but never out of the folder."""
    relative = PurePosixPath("/", pattern).relative_to("/")
    if ".." in relative.parts:
        raise Invalid(f"{pattern} leads out of the build's folder")
    if str(relative) == ".":
        yield folder.name, folder
        return
    base = folder.resolve()
    for place in sorted(folder.glob(str(relative))):
        if place.parent.resolve().is_relative_to(base):
            found = Path(f"{folder}{inside(folder, str(place.relative_to(folder)))}")
            if found.exists():
                yield place.name, found


def _ignored(folder: Path) -> Callable[[Path], bool]:
    """What .dockerignore keeps out."""
    try:
        lines = (folder / ".dockerignore").read_text().splitlines()
    except OSError:
        return lambda _path: False
    rules = [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def is_ignored(path: Path) -> bool:
        name, verdict = path.relative_to(folder).as_posix(), False
        for rule in rules:
            pattern = rule.removeprefix("!").strip("/").removeprefix("./").removeprefix("**/")
            parts = name.split("/")
            tails = ["/".join(parts[start:]) for start in range(len(parts))] if "**/" in rule else [name]
            hits = [tail for tail in tails if fnmatch.fnmatchcase(tail, pattern) or fnmatch.fnmatchcase(tail, f"{pattern}/*")]
            if hits:
                verdict = not rule.startswith("!")
        return verdict

    return is_ignored


def _file_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def _plain_pieces(path: Path) -> Iterator[bytes]:
    """An archive of any compression that Python knows, uncompressed."""
    with tarfile.open(path) as archive:
        opened = archive.fileobj
        assert opened is not None
        opened.seek(0)
        while piece := opened.read(1 << 20):
            yield piece

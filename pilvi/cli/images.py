"""`pilvi images`: build, push, import, save and list container images, as a client of the running cloud."""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilvi.app.keys import root_key
from pilvi.cli.env import wait_ready
from pilvi.compute import ProcessSpec, Root
from pilvi.compute.process import ProcessCompute
from pilvi.core.errors import Invalid, PilviError
from pilvi.images.archive import read_archive, write_archive
from pilvi.images.base import python_base
from pilvi.images.build import Build, Image
from pilvi.images.client import Registry
from pilvi.images.config import User
from pilvi.images.diff import Entry, compared, upper_entries

_HOST = re.compile(r"(?:\d{12}\.dkr\.ecr\.[a-z0-9-]+\.[a-z.]+|public\.ecr\.aws|localhost:\d+|127\.0\.0\.1:\d+)/")


@dataclass(frozen=True, slots=True)
class Target:
    """The cloud to talk to, as whom."""

    endpoint: str
    region: str
    key_id: str
    secret: str
    token: str | None

    def client(self) -> Any:
        import botocore.session

        return botocore.session.get_session().create_client(
            "ecr",
            region_name=self.region,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key_id,
            aws_secret_access_key=self.secret,
            aws_session_token=self.token,
        )

    def registry(self) -> Registry:
        token = self.client().get_authorization_token()["authorizationData"][0]["authorizationToken"]
        return Registry(self.endpoint, base64.b64decode(token).decode())


def find_target(data_dir: Path, environ: Mapping[str, str] = os.environ) -> Target:
    """The caller that the shell's AWS variables name, else the root of the server on the data directory."""
    if environ.get("AWS_ENDPOINT_URL") and environ.get("AWS_ACCESS_KEY_ID"):
        region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        keys = (environ["AWS_ACCESS_KEY_ID"], environ.get("AWS_SECRET_ACCESS_KEY", ""), environ.get("AWS_SESSION_TOKEN"))
        return Target(environ["AWS_ENDPOINT_URL"], region, *keys)
    state = wait_ready(data_dir)
    _, key_id, secret = root_key(data_dir)
    return Target(str(state["endpoint"]), str(state["region"]), key_id, secret, None)


def build(
    target: Callable[[], Target],
    folder: Path,
    tags: Sequence[str],
    *,
    file: Path | None = None,
    arguments: Mapping[str, str] | None = None,
    stage: str = "",
    output: Path | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Build a folder's Dockerfile; push the image under its tags, or write it to a file."""
    text = (file or folder / "Dockerfile").read_text()
    with _work_folder() as work:
        runner = SandboxRunner(work)
        try:
            bases = Bases(target, work)
            image = Build(folder.resolve(), work, bases.find, runner, arguments or {}, say).build(text, stage)
        finally:
            runner.close()
        if output is not None:
            write_archive(image, output, tags[0] if tags else "latest", work)
            say(f"written to {output}")
            return 0
        return _push(target(), image, tags, say)


def push(target: Target, file: Path, reference: str, say: Callable[[str], None] = print) -> int:
    """Bring the image in a file (docker save, OCI archive) to the registry."""
    with _work_folder() as work:
        return _push(target, read_archive(file, work), [reference], say)


def save(target: Target, reference: str, file: Path, say: Callable[[str], None] = print) -> int:
    """Write an image of the registry to a file."""
    repository, tag = split(reference)
    with _work_folder() as work:
        image = target.registry().pull(repository, tag, work)
        write_archive(image, file, tag, work)
    say(f"written to {file}")
    return 0


def show(target: Target, say: Callable[[str], None] = print) -> int:
    """Every image with a tag, a line each."""
    client = target.client()
    for page in client.get_paginator("describe_repositories").paginate():
        for repository in page["repositories"]:
            name = repository["repositoryName"]
            for images in client.get_paginator("describe_images").paginate(repositoryName=name):
                for image in images["imageDetails"]:
                    size = f"{image['imageSizeInBytes'] / (1 << 20):.1f} MiB"
                    for tag in image.get("imageTags") or ["<none>"]:
                        say(f"{name}:{tag:<24} {image['imageDigest'][:19]}  {size:>12}  {image['imagePushedAt']:%Y-%m-%d %H:%M}")
    return 0


def split(reference: str) -> tuple[str, str]:
    """(repository, tag or digest) of NAME[:TAG][@DIGEST], with or without ECR's host before it."""
    name = _HOST.sub("", reference.removeprefix("docker://"), count=1)
    if "@" in name:
        repository, _, digest = name.partition("@")
        return repository.partition(":")[0], digest
    repository, _, tag = name.partition(":")
    if not repository:
        raise Invalid(f"{reference} names no repository")
    return repository, tag or "latest"


def _push(target: Target, image: Image, references: Sequence[str], say: Callable[[str], None]) -> int:
    if not references:
        raise Invalid("say where the image goes: -t REPOSITORY:TAG, or -o FILE")
    client, registry = target.client(), target.registry()
    for reference in references:
        repository, tag = split(reference)
        try:
            client.create_repository(repositoryName=repository)
            say(f"repository {repository} is new")
        except client.exceptions.RepositoryAlreadyExistsException:
            pass
        digest = registry.push(repository, tag, image)
        uri = client.describe_repositories(repositoryNames=[repository])["repositories"][0]["repositoryUri"]
        say(f"pushed {uri}:{tag} {digest}")
    return 0


class Bases:
    """Where FROM finds images: the cloud's registry, and for `python` without one this machine's own."""

    def __init__(self, target: Callable[[], Target], work: Path) -> None:
        self._target = target
        self._work = work / "bases"
        self._work.mkdir()

    def find(self, name: str) -> Image:
        repository, reference = split(name)
        try:
            return self._target().registry().pull(repository, reference, self._work)
        except PilviError as error:
            if re.fullmatch(r"(?:docker\.io/)?(?:library/)?python(?::.*)?", name):
                return python_base(name, self._work)
            raise Invalid(
                f"FROM {name}: {error.message}. Bring it first: pilvi images import FILE {repository}:{reference}"
            ) from error


class SandboxRunner:
    """RUN, in the sandbox that jobs run in."""

    def __init__(self, work: Path) -> None:
        self._compute = ProcessCompute()
        self._work = work
        self._count = 0

    def run(
        self, tree: Path, command: Sequence[str], env: Mapping[str, str], cwd: str, user: User, say: Callable[[str], None]
    ) -> tuple[int, list[Entry]]:
        self._count += 1
        changes = self._work / f"run-{self._count}"
        spec = ProcessSpec(tuple(command), env, cwd=cwd, hostname="build", root=Root(tree, changes, user.uid, user.gid))
        process = self._compute.launch(spec, lambda line: say(f"  {line}"))
        ended = process.wait()
        status = 1 if ended is None else ended.code
        copy = changes / "copy"
        return status, list(compared(tree, copy) if copy.is_dir() else upper_entries(changes / "upper"))

    def close(self) -> None:
        self._compute.close()


@contextmanager
def _work_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pilvi-images-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
        for place in Path(folder).glob("run-*/work/work"):
            place.chmod(0o700)

"""Container clients of other people against ECR: what they push is pulled back with the same digest. skopeo's tests are in tests/services/ecr."""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilvi.testing.server import Account

Client = Callable[..., str]


@pytest.fixture
def host(aws: Account) -> str:
    aws.client("ecr").create_repository(repositoryName="app")
    return aws.endpoint.removeprefix("http://")


@pytest.fixture
def client(aws: Account, host: str, tmp_path: Path) -> Iterator[Client]:
    """Runs a client that is logged in; images of the test go afterwards."""
    token = aws.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    password = base64.b64decode(token).decode().partition(":")[2]
    env = {**os.environ, "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}

    def run(*command: str, given: str | None = None) -> str:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed: apt-get install {command[0]}")
        done = subprocess.run(command, env=env, input=given, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def logged_in(program: str, *command: str) -> str:
        if program not in ready:
            run(program, "login", "--tls-verify=false", "--username=AWS", "--password-stdin", host, given=password)
            ready.add(program)
        return run(program, *command)

    ready: set[str] = set()
    yield logged_in
    for program in ready:
        subprocess.run([program, "rmi", "--force", f"{host}/app:one", f"{host}/app:two"], env=env, capture_output=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A file system with one file."""
    file = tmp_path / "tree.tar"
    with tarfile.open(file, "w") as tar:
        member = tarfile.TarInfo("hello.txt")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"hello"))
    return file


def digests(aws: Account) -> dict[str, Any]:
    images = aws.client("ecr").describe_images(repositoryName="app")["imageDetails"]
    return {tag: image["imageDigest"] for image in images for tag in image.get("imageTags", ())}


def test_podman_pulls_what_it_pushed(aws: Account, host: str, client: Client, tree: Path) -> None:
    image = f"{host}/app:one"
    client("podman", "import", str(tree), image)
    client("podman", "push", "--tls-verify=false", image)
    client("podman", "rmi", "--force", image)
    client("podman", "pull", "--tls-verify=false", image)
    assert client("podman", "image", "inspect", "--format={{.Digest}}", image) == digests(aws)["one"]


def test_buildah_builds_on_what_is_there_and_pushes(aws: Account, host: str, client: Client, tree: Path, tmp_path: Path) -> None:
    shutil.copy(tree, tmp_path / "content.tar")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nADD content.tar /\nENV COLOUR=blue\n")
    image = f"{host}/app:two"
    client("buildah", "build", "--tag", image, str(tmp_path))
    client("buildah", "push", "--tls-verify=false", image)
    assert set(digests(aws)) == {"two"}
    said = aws.client("ecr").batch_get_image(repositoryName="app", imageIds=[{"imageTag": "two"}])["images"]
    assert said[0]["imageId"]["imageDigest"] == digests(aws)["two"]

"""Git repositories in notebooks: the script that clones them, and a notebook instance that opens with one."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.core.errors import Unavailable
from pilvi.services.sagemaker import notebook_fleet
from pilvi.services.sagemaker.notebook_git import Repository, clone_script
from pilvi.testing.server import Account, eventually

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git: install the Debian package git")

WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


class Secrets:
    """Stands for the context of a role that reads one secret."""

    def __init__(self, text: str) -> None:
        self.text = text

    def call(self, *_: Any, **__: Any) -> dict[str, str]:
        return {"SecretString": self.text}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the repository team/lesson.git, ready to be served as plain files; its branch `more` has a second file."""
    work, bare = tmp_path / "work", tmp_path / "site" / "team" / "lesson.git"
    env = {**os.environ, **WHO}

    def git(*arguments: str, cwd: Path = work) -> None:
        subprocess.run(["git", *arguments], cwd=cwd, env=env, check=True, capture_output=True)

    work.mkdir()
    git("init", "-b", "main")
    (work / "lesson.ipynb").write_text("{}")
    git("add", ".")
    git("commit", "-m", "one")
    git("checkout", "-b", "more")
    (work / "second.txt").write_text("2")
    git("add", ".")
    git("commit", "-m", "two")
    git("checkout", "main")
    git("clone", "--bare", str(work), str(bare), cwd=tmp_path)
    git("update-server-info", cwd=bare)
    return tmp_path / "site"


def cloned(site: Path, target: Path, *repositories: Repository, secret: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script with https://git.example.com/ leading to the site."""
    script = clone_script(Secrets(secret), repositories, str(target))  # type: ignore[arg-type]
    config = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{site}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://git.example.com/",
    }
    return subprocess.run(["bash", "-c", script], env={**os.environ, **config}, capture_output=True, text=True, check=False)


def test_folder_is_the_last_part_of_the_address() -> None:
    assert Repository("https://git.example.com/team/lesson.git").folder == "lesson"
    assert Repository("https://git.example.com/team/les son/").folder == "les-son"
    assert Repository("https://git.example.com/..").folder == "repository"


def test_clone_script_clones_a_branch_once(site: Path, tmp_path: Path) -> None:
    target = tmp_path / "files"
    target.mkdir()
    repository = Repository("https://git.example.com/team/lesson.git", branch="more")
    assert cloned(site, target, repository).returncode == 0
    assert {path.name for path in (target / "lesson").iterdir()} == {".git", "lesson.ipynb", "second.txt"}
    (target / "lesson" / "own.txt").write_text("mine")
    assert cloned(site, target, repository).returncode == 0, "what is there stays as it is"
    assert (target / "lesson" / "own.txt").read_text() == "mine"


def test_clone_script_tells_what_is_not_there(site: Path, tmp_path: Path) -> None:
    done = cloned(site, tmp_path, Repository("https://git.example.com/team/none.git"))
    assert done.returncode != 0
    assert "none.git" in done.stderr


def test_clone_script_gives_the_secret_to_the_one_command() -> None:
    repository = Repository("https://git.example.com/team/lesson.git", secret_arn="arn:aws:secretsmanager:us-east-1:1:secret:s")
    secret = '{"username": "ada", "password": "p w/d"}'
    script = clone_script(Secrets(secret), (repository,), "/x")  # type: ignore[arg-type]
    assert "https://ada:p%20w%2Fd@git.example.com/team/lesson.git" in script
    with pytest.raises(Unavailable, match="username and password"):
        clone_script(Secrets("[]"), (repository,), "/x")  # type: ignore[arg-type]


# -- in a notebook instance -----------------------------------------------------------------------------------------------


@pytest.fixture
def served(site: Path, tmp_path: Path) -> Iterator[str]:
    """The site over https, with a certificate of its own; gives its address."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl: install the Debian package openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", str(key), "-out"]
    subprocess.run([*line, str(certificate)], check=True, capture_output=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(
    Environments(Config.runtimes_dir_default()).find("notebook") is None, reason="needs: pilvi runtimes install notebook"
)
def test_an_instance_opens_with_its_repository(aws: Account, served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = notebook_fleet.seat_of

    def trusting(*arguments: Any) -> Any:
        return dataclasses.replace(made(*arguments), variables=(("GIT_SSL_NO_VERIFY", "1"),))

    monkeypatch.setattr(notebook_fleet, "seat_of", trusting)
    sagemaker = aws.client("sagemaker")
    role = aws.role("Git", "sagemaker.amazonaws.com")
    sagemaker.create_code_repository(CodeRepositoryName="lesson", GitConfig={"RepositoryUrl": f"{served}/team/lesson.git"})
    request = {"NotebookInstanceName": "git", "InstanceType": "ml.t3.medium", "RoleArn": role}
    sagemaker.create_notebook_instance(**request, DefaultCodeRepository="lesson")

    def status() -> str:
        return str(sagemaker.describe_notebook_instance(NotebookInstanceName="git")["NotebookInstanceStatus"])

    eventually(lambda: status() != "Pending", within_s=180)
    found = sagemaker.describe_notebook_instance(NotebookInstanceName="git")
    assert found["NotebookInstanceStatus"] == "InService", found.get("FailureReason")
    assert found["DefaultCodeRepository"] == "lesson"
    browser = requests.Session()
    page = browser.get(sagemaker.create_presigned_notebook_instance_url(NotebookInstanceName="git")["AuthorizedUrl"], timeout=20)
    assert "/lab/tree/lesson" in page.url
    files = browser.get(f"http://{found['Url']}/api/contents/lesson", timeout=20).json()["content"]
    assert [file["name"] for file in files] == ["lesson.ipynb"]
    sagemaker.stop_notebook_instance(NotebookInstanceName="git")
    eventually(lambda: status() == "Stopped", within_s=60)
    sagemaker.update_notebook_instance(NotebookInstanceName="git", DefaultCodeRepository=f"{served}/team/none.git")
    sagemaker.start_notebook_instance(NotebookInstanceName="git")
    eventually(lambda: status() == "Failed", within_s=60)
    reason = sagemaker.describe_notebook_instance(NotebookInstanceName="git")["FailureReason"]
    assert "could not be cloned" in reason
    assert "none.git" in reason
    assert [
        entry["NotebookInstanceName"]
        for entry in sagemaker.list_notebook_instances(DefaultCodeRepositoryContains="none")["NotebookInstances"]
    ] == ["git"]

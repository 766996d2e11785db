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
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.core.errors import Unavailable
from pilvi.services.sagemaker import notebook_fleet
from pilvi.services.sagemaker.notebook_git import Repository, clone_script
from pilvi.testing.server import Account, eventually

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git: install the Debian package git")

ENVIRONMENT = Environments(Config.runtimes_dir_default()).find("notebook")
CLIENT = Path(__file__).with_name("notebook_client.py")
PUSH = """
import subprocess
script = "cd ~/SageMaker/lesson && echo hello > from-notebook.txt && git add . && git -c user.name=a -c user.email=a@b commit -qm x && git push origin main"
print(subprocess.run(script, shell=True, capture_output=True, text=True))
"""
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
    git("config", "http.receivepack", "true", cwd=bare)
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


class GitHandler(http.server.BaseHTTPRequestHandler):
    """Repositories of a folder, as git's own `http-backend` serves them: to be read, and pushed to."""

    def __init__(self, site: Path, *arguments: Any) -> None:
        self.site = site
        super().__init__(*arguments)

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        variables = {
            "GIT_PROJECT_ROOT": str(self.site),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_USER": "ada",
            "REMOTE_ADDR": "127.0.0.1",
        }
        data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        done = subprocess.run(["git", "http-backend"], input=data, env={**os.environ, **variables}, capture_output=True, check=True)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def served(site: Path, tmp_path: Path) -> Iterator[str]:
    """The site over https, with a certificate of its own; gives its address."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl: install the Debian package openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", str(key), "-out"]
    subprocess.run([*line, str(certificate)], check=True, capture_output=True)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(GitHandler, site))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(ENVIRONMENT is None, reason="needs: pilvi runtimes install notebook")
def test_an_instance_opens_with_its_repository_and_pushes_to_it(
    aws: Account, served: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    # A push from the notebook is seen by whoever clones next.
    opened = sagemaker.create_presigned_notebook_instance_url(NotebookInstanceName="git")["AuthorizedUrl"]
    entrance = urlsplit(requests.get(opened, allow_redirects=False, timeout=20).headers["Location"])
    assert ENVIRONMENT is not None
    client = [str(ENVIRONMENT.python), str(CLIENT), f"http://{entrance.netloc}", parse_qs(entrance.query)["token"][0]]
    done = subprocess.run(client, input=PUSH, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert "main -> main" in done.stdout
    other = site.parent / "bob"
    subprocess.run(
        ["git", "-c", "http.sslVerify=false", "clone", f"{served}/team/lesson.git", str(other)], check=True, capture_output=True
    )
    assert (other / "from-notebook.txt").read_text() == "hello\n"
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

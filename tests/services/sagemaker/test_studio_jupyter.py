"""Studio's apps that really run: JupyterLab in two spaces at once, files that outlive an app, lifecycle scripts, the first page."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from botocore.exceptions import ClientError

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.testing.server import Account, TestServer, eventually
from pilvi.testing.up import Up

ENVIRONMENT = Environments(Config.runtimes_dir_default()).find("notebook")
pytestmark = pytest.mark.skipif(ENVIRONMENT is None, reason="needs: pilvi runtimes install notebook")

CLIENT = Path(__file__).with_name("notebook_client.py")
PERMISSIONS = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


class Studio:
    """A domain with a user and two spaces."""

    def __init__(self, aws: Account) -> None:
        self.aws = aws
        self.sagemaker = aws.client("sagemaker")
        role = aws.role("StudioRole", "sagemaker.amazonaws.com", PERMISSIONS)
        settings = {"ExecutionRole": role}
        key = aws.client("kms").create_key()["KeyMetadata"]["KeyId"]
        made = self.sagemaker.create_domain(DomainName="d", AuthMode="IAM", DefaultUserSettings=settings, KmsKeyId=key)
        self.domain = made["DomainId"]
        for user in ("ada", "bob"):
            self.sagemaker.create_user_profile(DomainId=self.domain, UserProfileName=user)
        for name, kind in (("private", "Private"), ("common", "Shared")):
            self.sagemaker.create_space(
                DomainId=self.domain,
                SpaceName=name,
                OwnershipSettings={"OwnerUserProfileName": "ada"},
                SpaceSharingSettings={"SharingType": kind},
                SpaceSettings={"AppType": "JupyterLab"},
            )

    def where(self, space: str) -> dict[str, str]:
        return {"DomainId": self.domain, "SpaceName": space, "AppType": "JupyterLab", "AppName": "default"}

    def start(self, space: str, **spec: str) -> None:
        self.sagemaker.create_app(**self.where(space), **({"ResourceSpec": spec} if spec else {}))

    def wait(self, space: str, status: str) -> dict[str, Any]:
        passing = {"Pending", "InService", "Deleting"} - {status}
        eventually(
            lambda: self.sagemaker.describe_app(**self.where(space))["Status"] not in passing - {"InService"},
            within_s=180,
            every_s=0.2,
        )
        eventually(lambda: self.sagemaker.describe_app(**self.where(space))["Status"] not in passing, within_s=60, every_s=0.2)
        found = dict(self.sagemaker.describe_app(**self.where(space)))
        assert found["Status"] == status, found.get("FailureReason")
        return found

    def url(self, user: str, space: str = "", **more: Any) -> str:
        name = {"SpaceName": space} if space else {}
        made = self.sagemaker.create_presigned_domain_url(DomainId=self.domain, UserProfileName=user, **name, **more)
        return str(made["AuthorizedUrl"])

    def run(self, space: str, code: str) -> str:
        """What the code prints when a fresh kernel of the space's app runs it."""
        assert ENVIRONMENT is not None
        answer = requests.get(self.url("ada", space), allow_redirects=False, timeout=20)
        address = urlsplit(answer.headers["Location"])
        command = [str(ENVIRONMENT.python), str(CLIENT), f"http://{address.netloc}", parse_qs(address.query)["token"][0]]
        done = subprocess.run(command, input=code, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def studio(server: TestServer) -> Iterator[Studio]:
    """Both apps run."""
    studio = Studio(server.account("740000000001"))
    for space in ("private", "common"):
        studio.start(space)
    for space in ("private", "common"):
        studio.wait(space, "InService")
    yield studio
    for space in ("private", "common"):
        if studio.sagemaker.describe_app(**studio.where(space))["Status"] == "InService":
            studio.sagemaker.delete_app(**studio.where(space))
            studio.wait(space, "Deleted")


def test_two_spaces_run_at_once_with_separate_files(studio: Studio) -> None:
    write = "import os; open(os.path.expanduser('~/mine.txt'), 'w').write('{}'); print(os.getcwd())"
    assert studio.run("private", write.format("private")) == "/home/sagemaker-user\n"
    studio.run("common", write.format("common"))
    for space in ("private", "common"):
        assert studio.run(space, "print(open('/home/sagemaker-user/mine.txt').read())") == f"{space}\n"


def test_an_app_works_under_the_role(studio: Studio) -> None:
    code = """
import boto3, json
print(json.dumps([boto3.client("sts").get_caller_identity()["Arn"], json.load(open("/opt/ml/metadata/resource-metadata.json"))]))
"""
    caller, metadata = json.loads(studio.run("private", code))
    assert caller == f"arn:aws:sts::{studio.aws.account}:assumed-role/StudioRole/SageMaker"
    assert (metadata["DomainId"], metadata["SpaceName"], metadata["UserProfileName"]) == (studio.domain, "private", "ada")


def test_a_url_opens_once_and_leads_to_a_file(studio: Studio) -> None:
    url = studio.url("ada", "private", LandingUri="app:JupyterLab:mine.txt")
    answer = requests.get(url, allow_redirects=False, timeout=20)
    assert urlsplit(answer.headers["Location"]).path == "/lab/tree/mine.txt"
    assert requests.get(url, timeout=20).status_code == 403
    page = requests.Session().get(studio.url("bob", "common"), timeout=20)
    assert "<title>JupyterLab</title>" in page.text, "a shared space is everybody's"
    with pytest.raises(ClientError, match="AccessDenied"):
        studio.url("bob", "private")


def test_the_first_page_shows_what_is_there(studio: Studio) -> None:
    page = requests.get(studio.url("bob"), timeout=20)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "common" in page.text
    assert "private" not in page.text
    links = re.findall(r'href="([^#"]+)"', page.text)
    opened = requests.Session().get(unescape(links[0]), timeout=20)
    assert "<title>JupyterLab</title>" in opened.text


def test_two_people_see_each_others_edits_in_a_shared_space(studio: Studio) -> None:
    assert ENVIRONMENT is not None
    notebook = {
        "cells": [{"cell_type": "code", "source": "start", "metadata": {}, "outputs": [], "execution_count": None, "id": "a"}]
    }
    notebook |= {"metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    studio.run("common", f"import json; json.dump({notebook!r}, open('both.ipynb', 'w'))")
    tokens, address = [], ""
    for user in ("ada", "bob"):
        answer = requests.get(studio.url(user, "common"), allow_redirects=False, timeout=20)
        place = urlsplit(answer.headers["Location"])
        address, tokens = place.netloc, [*tokens, parse_qs(place.query)["token"][0]]
    client = CLIENT.with_name("collaboration_client.py")
    command = [str(ENVIRONMENT.python), str(client), f"http://{address}", *tokens, "both.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "start and ada was here\nada bob\n"


def test_children_keep_their_parents(studio: Studio) -> None:
    for call, where in (
        (studio.sagemaker.delete_space, {"SpaceName": "private"}),
        (studio.sagemaker.delete_user_profile, {"UserProfileName": "ada"}),
        (studio.sagemaker.delete_domain, {}),
    ):
        with pytest.raises(ClientError, match=r"ResourceInUse.*associated with it"):
            call(DomainId=studio.domain, **where)
    with pytest.raises(ClientError, match="already exists"):
        studio.start("private")


def test_files_survive_with_another_type_and_scripts_run(studio: Studio, server: TestServer) -> None:
    studio.run(
        "private", "open('kept.txt', 'w').write('a line that must not be found on the disk'); open('/tmp/gone', 'w').write('x')"
    )
    studio.sagemaker.delete_app(**studio.where("private"))
    studio.wait("private", "Deleted")
    data_dir = server.config.data_dir
    assert [path for path in data_dir.rglob("*") if path.is_file() and b"must not be found" in path.read_bytes()] == []
    content = base64.b64encode(b"echo script was here > ~/script.txt").decode()
    arn = studio.sagemaker.create_studio_lifecycle_config(
        StudioLifecycleConfigName="greet", StudioLifecycleConfigContent=content, StudioLifecycleConfigAppType="JupyterLab"
    )["StudioLifecycleConfigArn"]
    studio.start("private", InstanceType="ml.m5.2xlarge", LifecycleConfigArn=arn)
    found = studio.wait("private", "InService")
    assert found["ResourceSpec"]["InstanceType"] == "ml.m5.2xlarge"
    code = "import os; print(open('kept.txt').read(), os.path.exists('/tmp/gone'), open('script.txt').read(), os.environ['PILVI_MEMORY_MIB'])"
    kept, memory = studio.run("private", code).split(" False script was here\n ")
    assert kept == "a line that must not be found on the disk"
    assert int(memory) > 4096


def test_an_app_that_cannot_start_has_failed(studio: Studio) -> None:
    studio.sagemaker.delete_app(**studio.where("common"))
    studio.wait("common", "Deleted")
    content = base64.b64encode(b"echo no way; exit 3").decode()
    arn = studio.sagemaker.create_studio_lifecycle_config(
        StudioLifecycleConfigName="bad", StudioLifecycleConfigContent=content, StudioLifecycleConfigAppType="JupyterLab"
    )["StudioLifecycleConfigArn"]
    studio.start("common", InstanceType="ml.t3.medium", LifecycleConfigArn=arn)
    found = studio.wait("common", "Failed")
    assert "(OnStart) of the app failed with exit status 3" in found["FailureReason"]
    events = studio.aws.client("logs").filter_log_events(logGroupName="/aws/sagemaker/studio", filterPattern="way")["events"]
    assert [event["message"] for event in events] == ["no way"]


def test_after_kill_9_the_app_runs_again_with_its_files(tmp_path: Path) -> None:
    first = Up(tmp_path / "data")
    try:
        studio = Studio(first.root)
        studio.start("private")
        studio.wait("private", "InService")
        studio.run("private", "open('kept.txt', 'w').write('still here')")
    finally:
        first.kill()
    second = Up(tmp_path / "data")
    try:
        again = Studio.__new__(Studio)
        again.aws, again.sagemaker, again.domain = second.root, second.root.client("sagemaker"), studio.domain
        assert again.sagemaker.describe_app(**again.where("private"))["Status"] == "Pending"
        again.wait("private", "InService")
        assert again.run("private", "print(open('kept.txt').read())") == "still here\n"
    finally:
        second.stop()

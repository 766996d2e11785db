"""Code Editor apps of Studio that really run: the editor opens in a browser, for its user only."""

from __future__ import annotations

import base64
from collections.abc import Iterator
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
from tests.browser import CHROMIUM, Browser

INSTALLED = Environments(Config.runtimes_dir_default()).find("code-editor")
needs_editor = pytest.mark.skipif(INSTALLED is None, reason="needs: pilvi runtimes install code-editor")

WHERE = {"SpaceName": "code", "AppType": "CodeEditor", "AppName": "default"}


class Studio:
    """A domain with a user and a space for Code Editor."""

    def __init__(self, aws: Account) -> None:
        self.aws = aws
        self.sagemaker = aws.client("sagemaker")
        role = aws.role("StudioRole", "sagemaker.amazonaws.com")
        made = self.sagemaker.create_domain(DomainName="d", AuthMode="IAM", DefaultUserSettings={"ExecutionRole": role})
        self.domain = made["DomainId"]
        self.sagemaker.create_user_profile(DomainId=self.domain, UserProfileName="ada")
        self.sagemaker.create_space(
            DomainId=self.domain,
            SpaceName="code",
            OwnershipSettings={"OwnerUserProfileName": "ada"},
            SpaceSharingSettings={"SharingType": "Private"},
            SpaceSettings={"AppType": "CodeEditor"},
        )

    def told(self) -> dict[str, Any]:
        return dict(self.sagemaker.describe_app(DomainId=self.domain, **WHERE))

    def start(self, **spec: Any) -> dict[str, Any]:
        """Start the app, and what it has come to."""
        self.sagemaker.create_app(DomainId=self.domain, **WHERE, **spec)
        eventually(lambda: self.told()["Status"] != "Pending", within_s=120, every_s=0.2)
        return self.told()

    def url(self, **more: Any) -> str:
        made = self.sagemaker.create_presigned_domain_url(DomainId=self.domain, UserProfileName="ada", SpaceName="code", **more)
        return str(made["AuthorizedUrl"])

    def stop(self) -> None:
        self.sagemaker.delete_app(DomainId=self.domain, **WHERE)
        eventually(lambda: self.told()["Status"] == "Deleted", within_s=60, every_s=0.2)


@pytest.fixture(scope="module")
def studio(server: TestServer) -> Iterator[Studio]:
    studio = Studio(server.account("740000000002"))
    found = studio.start()
    assert found["Status"] == "InService", found.get("FailureReason")
    yield studio
    if studio.told()["Status"] == "InService":
        studio.stop()


@needs_editor
def test_the_editor_lets_in_who_comes_by_a_presigned_url(studio: Studio) -> None:
    answer = requests.get(studio.url(), allow_redirects=False, timeout=20)
    place = urlsplit(answer.headers["Location"])
    assert parse_qs(place.query)["folder"] == ["/home/sagemaker-user"]
    session = requests.Session()
    page = session.get(answer.headers["Location"], timeout=20)
    assert page.status_code == 200
    assert "token" not in urlsplit(page.url).query
    assert "workbench" in page.text
    cookie = next(iter(session.cookies))
    assert cookie.name == f"pilvi-session-{place.port}"
    base = f"http://{place.netloc}"
    assert requests.get(base, timeout=20).status_code == 403
    assert requests.get(f"{base}/?token={parse_qs(place.query)['token'][0]}x", timeout=20).status_code == 403
    assert requests.get(base, cookies={cookie.name: str(cookie.value).replace("ada", "bob")}, timeout=20).status_code == 403
    socket = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "eA==", "Sec-WebSocket-Version": "13"}
    assert requests.get(base, headers=socket, timeout=20).status_code == 403


@needs_editor
def test_the_first_page_leads_to_the_editor(studio: Studio) -> None:
    made = studio.sagemaker.create_presigned_domain_url(DomainId=studio.domain, UserProfileName="ada")
    page = requests.get(made["AuthorizedUrl"], timeout=20)
    assert "Open Code Editor" in page.text


@needs_editor
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_editor_and_its_terminal_work_in_a_browser(studio: Studio) -> None:
    with Browser() as browser:
        browser.open(studio.url())
        browser.until("!!document.querySelector('.monaco-workbench .explorer-folders-view')", within_s=90)
        browser.until("document.title.endsWith('Code Editor')")
        browser.press("Backquote", "`", browser.CONTROL)
        browser.until("!!document.querySelector('.terminal-wrapper.active textarea')")
        browser.value("document.querySelector('.terminal-wrapper.active textarea').focus()")
        browser.write("python3 -c \"open('ma' + 'de.txt', 'w').write('x' * 2)\"")
        browser.press("Enter", "Enter")
        browser.until(
            "[...document.querySelectorAll('.explorer-folders-view .label-name')].some(it => it.textContent === 'made.txt')"
        )


@needs_editor
def test_a_space_has_one_kind_of_app(studio: Studio) -> None:
    with pytest.raises(ClientError, match="is for apps of type CodeEditor"):
        studio.sagemaker.create_app(DomainId=studio.domain, **{**WHERE, "AppType": "JupyterLab"})
    with pytest.raises(ClientError, match="give app:CodeEditor:"):
        studio.url(LandingUri="app:JupyterLab:file")
    answer = requests.get(studio.url(LandingUri="app:CodeEditor:some/where"), allow_redirects=False, timeout=20)
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["folder"] == ["/home/sagemaker-user/some/where"]


@needs_editor
def test_a_script_takes_downloads_out_of_the_editor(studio: Studio) -> None:
    assert "isEnabledFileDownloads&quot;:true" in requests.Session().get(studio.url(), timeout=20).text
    studio.stop()
    script = "mkdir -p ~/.config/code-server && echo 'disable-file-downloads: true' > ~/.config/code-server/config.yaml"
    arn = studio.sagemaker.create_studio_lifecycle_config(
        StudioLifecycleConfigName="no-downloads",
        StudioLifecycleConfigContent=base64.b64encode(script.encode()).decode(),
        StudioLifecycleConfigAppType="CodeEditor",
    )["StudioLifecycleConfigArn"]
    found = studio.start(ResourceSpec={"InstanceType": "ml.t3.medium", "LifecycleConfigArn": arn})
    assert found["Status"] == "InService", found.get("FailureReason")
    assert "isEnabledFileDownloads&quot;:false" in requests.Session().get(studio.url(), timeout=20).text


def test_an_editor_that_is_not_installed_says_how(tmp_path: Path) -> None:
    up = Up(tmp_path / "data", "--runtimes-dir", str(tmp_path / "none"))
    try:
        found = Studio(up.root).start()
    finally:
        up.stop()
    assert (found["Status"], found["FailureReason"]) == (
        "Failed",
        "The runtime code-editor is not installed. Install it with: pilvi runtimes install code-editor",
    )

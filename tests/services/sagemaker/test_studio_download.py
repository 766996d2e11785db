"""Work that stays on the server: a script of the domain takes the download actions out of JupyterLab, as people do it on AWS."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.testing.server import Account, TestServer, eventually
from tests.browser import CHROMIUM, Browser

pytestmark = [
    pytest.mark.skipif(
        Environments(Config.runtimes_dir_default()).find("notebook") is None, reason="needs: pilvi runtimes install notebook"
    ),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]

SCRIPT = """#!/bin/bash
set -eux
echo something > ~/model.txt
jupyter labextension disable @jupyterlab/docmanager-extension:download
jupyter labextension disable @jupyterlab/filebrowser-extension:download
"""
PLAIN = "#!/bin/bash\necho something > ~/model.txt\n"


def start(aws: Account, domain: str, script: str) -> str:
    """The app of a space with the domain's script; its URL."""
    sagemaker = aws.client("sagemaker")
    arn = sagemaker.create_studio_lifecycle_config(
        StudioLifecycleConfigName=f"script-{len(script)}",
        StudioLifecycleConfigContent=base64.b64encode(script.encode()).decode(),
        StudioLifecycleConfigAppType="JupyterLab",
    )["StudioLifecycleConfigArn"]
    settings = {"DefaultResourceSpec": {"LifecycleConfigArn": arn, "InstanceType": "ml.t3.medium"}, "LifecycleConfigArns": [arn]}
    sagemaker.update_domain(DomainId=domain, DefaultUserSettings={"JupyterLabAppSettings": settings})
    where: dict[str, Any] = {"DomainId": domain, "SpaceName": "work", "AppType": "JupyterLab", "AppName": "default"}
    sagemaker.create_app(**where)
    eventually(lambda: sagemaker.describe_app(**where)["Status"] != "Pending", within_s=180, every_s=0.2)
    found = sagemaker.describe_app(**where)
    assert found["Status"] == "InService", found.get("FailureReason")
    made = sagemaker.create_presigned_domain_url(DomainId=domain, UserProfileName="ada", SpaceName="work")
    return str(made["AuthorizedUrl"])


def stop(aws: Account, domain: str) -> None:
    sagemaker = aws.client("sagemaker")
    where: dict[str, Any] = {"DomainId": domain, "SpaceName": "work", "AppType": "JupyterLab", "AppName": "default"}
    sagemaker.delete_app(**where)
    eventually(lambda: sagemaker.describe_app(**where)["Status"] == "Deleted", within_s=60, every_s=0.2)


def actions(url: str) -> list[str]:
    """What the menu of a file in JupyterLab's file browser offers."""
    with Browser() as browser:
        browser.open(url)
        item = "[...document.querySelectorAll('.jp-DirListing-item')].find(it => it.textContent.includes('model.txt'))"
        browser.until(f"{item}?.getBoundingClientRect().y > 0 && !document.querySelector('#jupyterlab-splash')", within_s=90)
        place = browser.value(f"(() => {{const r = {item}.getBoundingClientRect(); return [r.x + 40, r.y + r.height / 2]}})()")
        x, y = place
        browser.click(x, y, button="right")
        labels = "[...document.querySelectorAll('.lm-Menu-itemLabel')].map(it => it.textContent).filter(it => it)"
        browser.until(f"{labels}.includes('Rename')")
        return list(browser.value(labels))


def test_a_domains_script_removes_the_download_action(server: TestServer) -> None:
    aws = server.account("740000000003")
    sagemaker = aws.client("sagemaker")
    role = aws.role("StudioRole", "sagemaker.amazonaws.com")
    domain = sagemaker.create_domain(DomainName="d", AuthMode="IAM", DefaultUserSettings={"ExecutionRole": role})["DomainId"]
    sagemaker.create_user_profile(DomainId=domain, UserProfileName="ada")
    sagemaker.create_space(
        DomainId=domain,
        SpaceName="work",
        OwnershipSettings={"OwnerUserProfileName": "ada"},
        SpaceSharingSettings={"SharingType": "Private"},
        SpaceSettings={"AppType": "JupyterLab"},
    )
    assert "Download" in actions(start(aws, domain, PLAIN))
    stop(aws, domain)
    assert "Download" not in actions(start(aws, domain, SCRIPT))
    stop(aws, domain)

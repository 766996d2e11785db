"""Studio's records: domains, user profiles, spaces, app image and lifecycle configurations, without a running app."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.refusal import refusal
from pilvi.testing.server import Account, TestServer, eventually
from tests.services.sagemaker.conftest import SKLEARN_IMAGE


class Studio:
    """One account's Studio with a domain."""

    def __init__(self, aws: Account) -> None:
        self.aws = aws
        self.sagemaker = aws.client("sagemaker")
        self.role = aws.role("Studio", "sagemaker.amazonaws.com")
        self.domain = self.make("one")

    def make(self, name: str, **changes: Any) -> str:
        settings = {"DefaultUserSettings": {"ExecutionRole": self.role}, **changes}
        return str(self.sagemaker.create_domain(DomainName=name, AuthMode="IAM", **settings)["DomainId"])

    def user(self, name: str, **settings: Any) -> str:
        made = self.sagemaker.create_user_profile(DomainId=self.domain, UserProfileName=name, UserSettings=settings)
        return str(made["UserProfileArn"])

    def space(self, name: str, owner: str = "ada", kind: str = "Private", **settings: Any) -> str:
        made = self.sagemaker.create_space(
            DomainId=self.domain,
            SpaceName=name,
            OwnershipSettings={"OwnerUserProfileName": owner},
            SpaceSharingSettings={"SharingType": kind},
            SpaceSettings={"AppType": "JupyterLab", **settings},
        )
        return str(made["SpaceArn"])


@pytest.fixture
def studio(aws: Account) -> Studio:
    return Studio(aws)


# -- domains --------------------------------------------------------------------------------------------------------------


def together(*calls: Callable[[], Any]) -> list[str]:
    """Make calls at the same time; gives the error code of each, '' for none."""
    begin = threading.Barrier(len(calls))

    def made(call: Callable[[], Any]) -> str:
        begin.wait()
        try:
            call()
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(made, calls))


def test_nothing_is_made_in_what_is_deleted_at_the_same_time(studio: Studio) -> None:
    sagemaker = studio.sagemaker
    for number in range(10):
        domain = studio.make(f"race-{number}")
        child = {"DomainId": domain, "UserProfileName": "ada"}
        codes = together(partial(sagemaker.create_user_profile, **child), partial(sagemaker.delete_domain, DomainId=domain))
        assert codes in (["", "ResourceInUse"], ["ResourceNotFound", ""])
        users = [user["DomainId"] for user in sagemaker.list_user_profiles()["UserProfiles"]]
        assert (domain in users) == (codes[0] == "")
    studio.user("owner")
    for number in range(10):
        owner = {"DomainId": studio.domain, "UserProfileName": f"owner-{number}"}
        studio.user(owner["UserProfileName"])
        makes = partial(studio.space, f"space-{number}", owner["UserProfileName"])
        codes = together(makes, partial(sagemaker.delete_user_profile, **owner))
        assert codes in (["", "ResourceInUse"], ["ResourceNotFound", ""])


def test_create_domain_is_in_service(studio: Studio) -> None:
    found = studio.sagemaker.describe_domain(DomainId=studio.domain)
    assert (found["DomainName"], found["Status"], found["AuthMode"]) == ("one", "InService", "IAM")
    assert found["DomainArn"] == f"arn:aws:sagemaker:us-east-1:{studio.aws.account}:domain/{studio.domain}"
    assert found["DefaultUserSettings"] == {"ExecutionRole": studio.role}
    assert found["AppNetworkAccessType"] == "PublicInternetOnly"
    second = studio.make("two")
    assert [domain["DomainId"] for domain in studio.sagemaker.list_domains()["Domains"]] == [studio.domain, second]
    tags = [{"Key": "a", "Value": "b"}]
    studio.sagemaker.add_tags(ResourceArn=found["DomainArn"], Tags=tags)
    assert studio.sagemaker.list_tags(ResourceArn=found["DomainArn"])["Tags"] == tags


def test_create_domain_keeps_a_grant_on_its_key_until_it_is_deleted(studio: Studio) -> None:
    kms = studio.aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    domain = studio.make("sealed", KmsKeyId=key)
    assert studio.sagemaker.describe_domain(DomainId=domain)["KmsKeyId"] == key
    assert [grant["GranteeServicePrincipal"] for grant in kms.list_grants(KeyId=key)["Grants"]] == ["sagemaker.amazonaws.com"]
    studio.sagemaker.delete_domain(DomainId=domain)
    assert kms.list_grants(KeyId=key)["Grants"] == []
    kms.disable_key(KeyId=key)
    with pytest.raises(ClientError, match="is disabled"):
        studio.make("disabled", KmsKeyId=key)


def test_create_domain_refuses_what_it_cannot(studio: Studio) -> None:
    create, settings = studio.sagemaker.create_domain, {"ExecutionRole": studio.role}
    assert "SSO" in refusal(create, DomainName="x", AuthMode="SSO", DefaultUserSettings=settings)[1]
    nobody = {"ExecutionRole": f"arn:aws:iam::{studio.aws.account}:role/Nobody"}
    assert "Could not assume role" in refusal(create, DomainName="x", AuthMode="IAM", DefaultUserSettings=nobody)[1]
    canvas = {**settings, "CanvasAppSettings": {"DirectDeploySettings": {"Status": "ENABLED"}}}
    assert "CanvasAppSettings" in refusal(create, DomainName="x", AuthMode="IAM", DefaultUserSettings=canvas)[1]
    code, _ = refusal(create, DomainName="x", AuthMode="IAM", DefaultUserSettings=settings, SubnetIds=["subnet-00000000"])
    assert code == "ValidationException"


def test_describe_domain_knows_no_other_account(studio: Studio, other_aws: Account) -> None:
    sagemaker = other_aws.client("sagemaker")
    assert refusal(sagemaker.describe_domain, DomainId=studio.domain)[0] == "ResourceNotFound"
    assert sagemaker.list_domains()["Domains"] == []


def test_update_domain_changes_settings(studio: Studio) -> None:
    studio.sagemaker.update_domain(DomainId=studio.domain, DefaultSpaceSettings={"ExecutionRole": studio.role})
    found = studio.sagemaker.describe_domain(DomainId=studio.domain)
    assert found["DefaultSpaceSettings"] == {"ExecutionRole": studio.role}
    assert found["LastModifiedTime"] > found["CreationTime"]


def test_delete_refuses_while_children_are_there(studio: Studio) -> None:
    sagemaker, domain = studio.sagemaker, studio.domain
    user, space = studio.user("ada"), studio.space("work")
    arn = sagemaker.describe_domain(DomainId=domain)["DomainArn"]
    expected = ("ResourceInUse", f"Unable to delete Domain [{arn}] because UserProfile(s) are associated with it.")
    assert refusal(sagemaker.delete_domain, DomainId=domain) == expected
    expected = ("ResourceInUse", f"Unable to delete UserProfile [{user}] because Space(s) are associated with it.")
    assert refusal(sagemaker.delete_user_profile, DomainId=domain, UserProfileName="ada") == expected
    sagemaker.delete_space(DomainId=domain, SpaceName="work")
    assert refusal(sagemaker.describe_space, DomainId=domain, SpaceName="work")[0] == "ResourceNotFound"
    assert space.endswith(f"space/{domain}/work")
    sagemaker.delete_user_profile(DomainId=domain, UserProfileName="ada")
    sagemaker.delete_domain(DomainId=domain)
    assert refusal(sagemaker.describe_domain, DomainId=domain)[0] == "ResourceNotFound"


# -- user profiles --------------------------------------------------------------------------------------------------------


def test_create_user_profile_is_in_service(studio: Studio) -> None:
    arn = studio.user("Ada", ExecutionRole=studio.role)
    found = studio.sagemaker.describe_user_profile(DomainId=studio.domain, UserProfileName="ada")
    assert (found["UserProfileArn"], found["UserProfileName"], found["Status"]) == (arn, "Ada", "InService")
    request = {"DomainId": studio.domain, "UserProfileName": "ada"}
    assert refusal(studio.sagemaker.create_user_profile, **request) == ("ResourceInUse", f"UserProfile [{arn}] already exists.")
    assert refusal(studio.sagemaker.create_user_profile, **request | {"DomainId": "d-none"})[0] == "ResourceNotFound"
    nobody = {"ExecutionRole": f"arn:aws:iam::{studio.aws.account}:role/Nobody"}
    studio.sagemaker.update_user_profile(**request, UserSettings={"DefaultLandingUri": "studio::"})
    found = studio.sagemaker.describe_user_profile(**request)["UserSettings"]
    assert found == {"ExecutionRole": studio.role, "DefaultLandingUri": "studio::"}
    assert "Could not assume" in refusal(studio.sagemaker.update_user_profile, **request, UserSettings=nobody)[1]


def test_list_user_profiles_pages_and_filters(studio: Studio) -> None:
    for name in ("ada", "bob", "adele"):
        studio.user(name)
    other = studio.make("two")
    studio.sagemaker.create_user_profile(DomainId=other, UserProfileName="ada")
    pages = studio.sagemaker.get_paginator("list_user_profiles").paginate(PaginationConfig={"PageSize": 3})
    assert [len(page["UserProfiles"]) for page in pages] == [3, 1]
    found = studio.sagemaker.list_user_profiles(DomainIdEquals=studio.domain, UserProfileNameContains="ad")["UserProfiles"]
    assert [user["UserProfileName"] for user in found] == ["ada", "adele"]


# -- spaces ---------------------------------------------------------------------------------------------------------------


def test_create_space_has_an_owner_of_its_domain(studio: Studio) -> None:
    studio.user("ada")
    arn = studio.space("Work")
    found = studio.sagemaker.describe_space(DomainId=studio.domain, SpaceName="work")
    assert (found["SpaceArn"], found["SpaceName"], found["Status"]) == (arn, "Work", "InService")
    assert found["SpaceSettings"]["SpaceStorageSettings"]["EbsStorageSettings"]["EbsVolumeSizeInGb"] == 5
    listed = studio.sagemaker.list_spaces(DomainIdEquals=studio.domain, SpaceNameContains="wor")["Spaces"]
    assert [space["SpaceSharingSettingsSummary"] for space in listed] == [{"SharingType": "Private"}]
    create = studio.sagemaker.create_space
    assert refusal(create, DomainId=studio.domain, SpaceName="WORK")[0] == "ResourceInUse"
    owner = {"OwnerUserProfileName": "ada"}
    assert "together" in refusal(create, DomainId=studio.domain, SpaceName="x", OwnershipSettings=owner)[1]
    kind = {"AppType": "Canvas"}
    assert "Canvas" in refusal(create, DomainId=studio.domain, SpaceName="x", SpaceSettings=kind)[1]


def test_update_space_only_grows_its_storage(studio: Studio) -> None:
    studio.user("ada")
    studio.space("work", SpaceStorageSettings={"EbsStorageSettings": {"EbsVolumeSizeInGb": 10}})
    update, where = studio.sagemaker.update_space, {"DomainId": studio.domain, "SpaceName": "work"}
    size = {"SpaceStorageSettings": {"EbsStorageSettings": {"EbsVolumeSizeInGb": 8}}}
    assert "only be increased" in refusal(update, **where, SpaceSettings=size)[1]
    spec = {"JupyterLabAppSettings": {"DefaultResourceSpec": {"InstanceType": "ml.m5.xlarge"}}}
    update(**where, SpaceSettings=spec, SpaceDisplayName="My work")
    found = studio.sagemaker.describe_space(**where)
    assert found["SpaceDisplayName"] == "My work"
    assert found["SpaceSettings"]["JupyterLabAppSettings"] == spec["JupyterLabAppSettings"]


def test_create_space_has_the_storage_its_owners_settings_say(studio: Studio) -> None:
    def storage(default: int, most: int) -> dict[str, Any]:
        sizes = {"DefaultEbsVolumeSizeInGb": default, "MaximumEbsVolumeSizeInGb": most}
        return {"SpaceStorageSettings": {"DefaultEbsStorageSettings": sizes}}

    def size(name: str) -> int:
        found = studio.sagemaker.describe_space(DomainId=studio.domain, SpaceName=name)["SpaceSettings"]
        return int(found["SpaceStorageSettings"]["EbsStorageSettings"]["EbsVolumeSizeInGb"])

    settings = {"ExecutionRole": studio.role, **storage(20, 30)}
    studio.sagemaker.update_domain(DomainId=studio.domain, DefaultUserSettings=settings)
    studio.user("ada")
    studio.user("bob", **storage(8, 9))
    studio.space("hers")
    studio.space("his", owner="bob")
    assert (size("hers"), size("his")) == (20, 8)
    large = {"SpaceStorageSettings": {"EbsStorageSettings": {"EbsVolumeSizeInGb": 31}}}
    with pytest.raises(ClientError, match="must not be larger than 30 GB"):
        studio.space("large", **large)
    update = studio.sagemaker.update_space
    assert "larger than 9 GB" in refusal(update, DomainId=studio.domain, SpaceName="his", SpaceSettings=large)[1]


def test_settings_that_would_do_something_are_refused_unless_they_are_off(studio: Studio) -> None:
    create = studio.sagemaker.create_user_profile

    def idle(value: str) -> dict[str, Any]:
        return {"JupyterLabAppSettings": {"AppLifecycleManagement": {"IdleSettings": {"LifecycleManagement": value}}}}

    code, message = refusal(create, DomainId=studio.domain, UserProfileName="eve", UserSettings=idle("ENABLED"))
    assert (code, message) == ("ValidationException", "IdleSettings is not supported by this server yet.")
    create(DomainId=studio.domain, UserProfileName="eve", UserSettings=idle("DISABLED"))


def test_create_presigned_domain_url_refuses_users_without_the_portal(studio: Studio) -> None:
    studio.user("ada")
    studio.user("bob", StudioWebPortal="ENABLED")
    create = studio.sagemaker.create_presigned_domain_url
    settings = {"ExecutionRole": studio.role, "StudioWebPortal": "DISABLED"}
    studio.sagemaker.update_domain(DomainId=studio.domain, DefaultUserSettings=settings)
    code, message = refusal(create, DomainId=studio.domain, UserProfileName="ada")
    assert (code, "StudioWebPortal" in message) == ("ValidationException", True)
    assert create(DomainId=studio.domain, UserProfileName="bob")["AuthorizedUrl"]


# -- apps and URLs that cannot be ------------------------------------------------------------------------------------------


def test_create_app_refuses_what_is_not_built(studio: Studio) -> None:
    studio.user("ada")
    studio.space("work")
    create, where = studio.sagemaker.create_app, {"DomainId": studio.domain, "SpaceName": "work"}
    for kind in ("JupyterServer", "Canvas"):
        code, message = refusal(create, **where, AppType=kind, AppName="default")
        assert (code, message) == ("ValidationException", f"AppType {kind} is not supported by this server yet.")
    assert "must be default" in refusal(create, **where, AppType="JupyterLab", AppName="other")[1]
    user = {"DomainId": studio.domain, "UserProfileName": "ada"}
    assert "give a SpaceName" in refusal(create, **user, AppType="JupyterLab", AppName="default")[1]
    script = f"arn:aws:sagemaker:us-east-1:{studio.aws.account}:studio-lifecycle-config/none"
    spec = {"InstanceType": "ml.t3.medium", "LifecycleConfigArn": script}
    assert refusal(create, **where, AppType="JupyterLab", AppName="default", ResourceSpec=spec)[0] == "ResourceNotFound"
    assert refusal(studio.sagemaker.describe_app, **where, AppType="JupyterLab", AppName="default")[0] == "ResourceNotFound"


def test_an_app_without_its_environment_has_failed(tmp_path: Path) -> None:
    with TestServer(tmp_path / "data", runtimes_dir=tmp_path / "runtimes") as bare:
        studio = Studio(bare.account("741000000001"))
        studio.user("ada")
        sagemaker = studio.sagemaker
        for number in range(3):
            studio.space(f"work-{number}")
            where = {"DomainId": studio.domain, "SpaceName": f"work-{number}", "AppType": "JupyterLab", "AppName": "default"}
            sagemaker.create_app(**where)
            eventually(lambda where=where: sagemaker.describe_app(**where)["Status"] == "Failed")  # type: ignore[misc]
            assert "pilvi runtimes install notebook" in sagemaker.describe_app(**where)["FailureReason"]
        spec = {"JupyterLabAppSettings": {"DefaultResourceSpec": {"InstanceType": "ml.m5.xlarge"}}}
        sagemaker.update_user_profile(DomainId=studio.domain, UserProfileName="ada", UserSettings=spec)
        sagemaker.create_app(**where, Tags=[{"Key": "team", "Value": "a"}])
        assert sagemaker.describe_app(**where)["ResourceSpec"] == {"InstanceType": "ml.m5.xlarge"}, "as its owner has set"
        eventually(lambda: sagemaker.describe_app(**where)["Status"] == "Failed")
        pages = sagemaker.get_paginator("list_apps").paginate(PaginationConfig={"PageSize": 2})
        assert [[app["SpaceName"] for app in page["Apps"]] for page in pages] == [["work-0", "work-1"], ["work-2"]]
        assert len(sagemaker.list_apps(SpaceNameEquals="work-1")["Apps"]) == 1
        assert refusal(sagemaker.list_apps, NextToken="foreign")[0] == "ValidationException"
        arn = sagemaker.create_app(**where)["AppArn"]
        assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [], "the tags of an app before it are gone"
        eventually(lambda: sagemaker.describe_app(**where)["Status"] == "Failed")
        assert refusal(sagemaker.delete_space, DomainId=studio.domain, SpaceName="work-2")[0] == "ResourceInUse"
        sagemaker.delete_app(**where)
        eventually(lambda: sagemaker.describe_app(**where)["Status"] == "Deleted")
        assert refusal(sagemaker.delete_app, **where)[0] == "ResourceInUse"
        sagemaker.delete_space(DomainId=studio.domain, SpaceName="work-2")
        assert len(sagemaker.list_apps()["Apps"]) == 2


def test_create_presigned_domain_url_opens_for_those_who_may(studio: Studio) -> None:
    studio.user("ada")
    studio.user("bob")
    studio.space("work")
    create = studio.sagemaker.create_presigned_domain_url
    assert refusal(create, DomainId=studio.domain, UserProfileName="carl")[0] == "ResourceNotFound"
    assert refusal(create, DomainId=studio.domain, UserProfileName="ada", SpaceName="work")[0] == "ResourceNotFound"
    assert refusal(create, DomainId=studio.domain, UserProfileName="bob", SpaceName="work")[0] == "AccessDeniedException"


def test_the_studio_page_tells_the_jobs_that_the_role_may_list(studio: Studio) -> None:
    def page(user: str) -> str:
        where = {"DomainId": studio.domain, "UserProfileName": user}
        with urlopen(studio.sagemaker.create_presigned_domain_url(**where)["AuthorizedUrl"]) as answer:
            return str(answer.read().decode())

    able = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sagemaker:ListTrainingJobs", "Resource": "*"}]}
    studio.user("ada", ExecutionRole=studio.aws.role("Lister", "sagemaker.amazonaws.com", able))
    studio.user("bob")
    studio.space("hers")
    assert "Training jobs</h2><p>None.</p>" in page("ada")
    assert "Processing jobs</h2><p>The execution role may not list them.</p>" in page("ada")
    assert "hers" in page("ada")
    links = re.findall(r'<a href="#([^"]+)">', page("bob"))
    assert {"spaces", "training-jobs", "processing-jobs", "tuning-jobs", "notebook-instances"} <= set(links)
    assert page("bob").count("may not list them") == len(links) - 1
    assert "hers" not in page("bob")
    job = {"AlgorithmSpecification": {"TrainingImage": SKLEARN_IMAGE, "TrainingInputMode": "File"}}
    job |= {"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}}
    job |= {"OutputDataConfig": {"S3OutputPath": "s3://none/out"}, "StoppingCondition": {"MaxRuntimeInSeconds": 60}}
    studio.sagemaker.create_training_job(TrainingJobName="live", RoleArn=studio.role, **job)
    assert re.search("<tr><td>live</td><td>(InProgress|Failed)</td></tr>", page("ada"))


# -- configurations -------------------------------------------------------------------------------------------------------


def test_studio_lifecycle_configs_live(studio: Studio) -> None:
    sagemaker, content = studio.sagemaker, base64.b64encode(b"echo hello").decode()
    request = {"StudioLifecycleConfigName": "hello", "StudioLifecycleConfigContent": content}
    arn = sagemaker.create_studio_lifecycle_config(**request, StudioLifecycleConfigAppType="JupyterLab")["StudioLifecycleConfigArn"]
    assert (
        refusal(sagemaker.create_studio_lifecycle_config, **request, StudioLifecycleConfigAppType="JupyterLab")[0]
        == "ResourceInUse"
    )
    assert sagemaker.describe_studio_lifecycle_config(StudioLifecycleConfigName="hello")["StudioLifecycleConfigContent"] == content
    assert len(sagemaker.list_studio_lifecycle_configs(AppTypeEquals="JupyterLab")["StudioLifecycleConfigs"]) == 1
    assert sagemaker.list_studio_lifecycle_configs(AppTypeEquals="CodeEditor")["StudioLifecycleConfigs"] == []
    studio.user("ada")
    studio.space("work", JupyterLabAppSettings={"DefaultResourceSpec": {"LifecycleConfigArn": arn}})
    assert refusal(sagemaker.delete_studio_lifecycle_config, StudioLifecycleConfigName="hello")[0] == "ResourceInUse"
    sagemaker.delete_space(DomainId=studio.domain, SpaceName="work")
    sagemaker.delete_studio_lifecycle_config(StudioLifecycleConfigName="hello")
    assert refusal(sagemaker.describe_studio_lifecycle_config, StudioLifecycleConfigName="hello")[0] == "ResourceNotFound"


def test_app_image_configs_live(studio: Studio) -> None:
    sagemaker = studio.sagemaker
    kernel = {"KernelSpecs": [{"Name": "python3"}]}
    sagemaker.create_app_image_config(AppImageConfigName="mine", KernelGatewayImageConfig=kernel)
    assert refusal(sagemaker.create_app_image_config, AppImageConfigName="mine")[0] == "ResourceInUse"
    changed = {"KernelSpecs": [{"Name": "other"}]}
    sagemaker.update_app_image_config(AppImageConfigName="mine", KernelGatewayImageConfig=changed)
    assert sagemaker.describe_app_image_config(AppImageConfigName="mine")["KernelGatewayImageConfig"] == changed
    assert [entry["AppImageConfigName"] for entry in sagemaker.list_app_image_configs()["AppImageConfigs"]] == ["mine"]
    sagemaker.delete_app_image_config(AppImageConfigName="mine")
    assert refusal(sagemaker.describe_app_image_config, AppImageConfigName="mine")[0] == "ResourceNotFound"

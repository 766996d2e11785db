"""Public repositories: anyone pulls, their account pushes."""

from __future__ import annotations

import base64
import json
import shutil

import pytest
from botocore.exceptions import ClientError

from tests.services.ecr.conftest import OCI, Wire, digest, image_of, login, push, upload
from tests.services.ecr.test_registry import run


def code_of(raised):
    return raised.value.response["Error"]["Code"]


@pytest.fixture
def public(aws):
    client = aws.client("ecr-public")
    client.create_repository(repositoryName="app")
    return client


def name_of(public):
    return public.describe_repositories(repositoryNames=["app"])["repositories"][0]["repositoryUri"]


def test_create_repository_has_a_public_address(public, aws):
    (found,) = public.describe_repositories()["repositories"]
    alias = public.describe_registries()["registries"][0]["aliases"][0]["name"]
    assert found["repositoryUri"] == f"public.ecr.aws/{alias}/app"
    assert found["repositoryArn"] == f"arn:aws:ecr-public::{aws.account}:repository/app"
    with pytest.raises(ClientError) as raised:
        public.create_repository(repositoryName="app")
    assert code_of(raised) == "RepositoryAlreadyExistsException"
    with pytest.raises(ClientError) as raised:
        aws.client("ecr-public", "eu-west-1").create_repository(repositoryName="app")
    assert code_of(raised) == "UnsupportedCommandException"


def test_anybody_pulls_from_public_repositories_only(public, aws):
    image = image_of("one")
    aws.client("ecr").create_repository(repositoryName="app")
    mine = login(aws)
    assert mine.push("app", image, "v1").status == 201
    assert mine.push(name_of(public), image, "v1").status == 201
    nobody = Wire(aws.endpoint)
    assert nobody.ask("GET", f"/v2/{name_of(public)}/manifests/v1").body == image.manifest
    assert nobody.ask("GET", f"/v2/{name_of(public)}/blobs/{digest(image.layers[0])}").body == image.layers[0]
    assert nobody.ask("GET", "/v2/app/manifests/v1").status == 401
    assert nobody.ask("POST", f"/v2/{name_of(public)}/blobs/uploads/", b"").status == 401


def test_public_host_gives_everybody_a_token(public, aws):
    assert login(aws).push(name_of(public), image_of("one"), "v1").status == 201
    nobody = Wire(aws.endpoint, host="public.ecr.aws")
    assert 'realm="http://public.ecr.aws/token"' in nobody.ask("GET", "/v2/").headers["Www-Authenticate"]
    token = json.loads(nobody.ask("GET", "/token/?service=public.ecr.aws&scope=aws").body)["token"]
    wire = Wire(aws.endpoint, f"Bearer {token}", "public.ecr.aws")
    assert wire.ask("GET", f"/v2/{name_of(public).removeprefix('public.ecr.aws/')}/manifests/v1").status == 200


def test_others_may_not_push(public, other_aws):
    answer = login(other_aws).ask("POST", f"/v2/{name_of(public)}/blobs/uploads/", b"")
    assert (answer.status, answer.error) == (403, "DENIED")
    assert login(other_aws).ask("GET", "/v2/public.ecr.aws/nobody/app/manifests/v1").error == "NAME_UNKNOWN"


def test_images_through_the_api(public):
    image = image_of("one")
    for blob in image.blobs:
        upload(public, "app", blob)
    public.put_image(repositoryName="app", imageManifest=image.manifest.decode(), imageManifestMediaType=OCI, imageTag="v1")
    layers = public.batch_check_layer_availability(repositoryName="app", layerDigests=[digest(image.layers[0])])["layers"]
    assert layers[0]["layerAvailability"] == "AVAILABLE"
    assert public.describe_images(repositoryName="app")["imageDetails"][0]["imageDigest"] == image.digest
    assert public.describe_image_tags(repositoryName="app")["imageTagDetails"][0]["imageTag"] == "v1"
    with pytest.raises(ClientError) as raised:
        public.delete_repository(repositoryName="app")
    assert code_of(raised) == "RepositoryNotEmptyException"
    assert public.batch_delete_image(repositoryName="app", imageIds=[{"imageTag": "v1"}])["failures"] == []
    public.delete_repository(repositoryName="app")
    with pytest.raises(ClientError) as raised:
        public.initiate_layer_upload(repositoryName="app")
    assert code_of(raised) == "RepositoryNotFoundException"


def test_upload_layer_part_wants_the_next_bytes(public):
    id = public.initiate_layer_upload(repositoryName="app")["uploadId"]
    with pytest.raises(ClientError) as raised:
        public.upload_layer_part(repositoryName="app", uploadId=id, partFirstByte=5, partLastByte=5, layerPartBlob=b"x")
    assert code_of(raised) == "InvalidLayerPartException"
    with pytest.raises(ClientError) as raised:
        public.complete_layer_upload(repositoryName="app", uploadId=id, layerDigests=[digest(b"")])
    assert code_of(raised) == "EmptyUploadException"


def test_catalog_data_policy_and_tags_are_kept(public, aws):
    public.put_repository_catalog_data(repositoryName="app", catalogData={"description": "d", "architectures": ["x86-64"]})
    assert public.get_repository_catalog_data(repositoryName="app")["catalogData"]["description"] == "d"
    public.put_registry_catalog_data(displayName="we")
    assert public.get_registry_catalog_data()["registryCatalogData"] == {"displayName": "we"}
    statement = {"Effect": "Allow", "Principal": "*", "Action": "ecr-public:PutImage"}
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    public.set_repository_policy(repositoryName="app", policyText=text)
    assert public.get_repository_policy(repositoryName="app")["policyText"] == text
    public.delete_repository_policy(repositoryName="app")
    with pytest.raises(ClientError) as raised:
        public.get_repository_policy(repositoryName="app")
    assert code_of(raised) == "RepositoryPolicyNotFoundException"
    arn = f"arn:aws:ecr-public::{aws.account}:repository/app"
    public.tag_resource(resourceArn=arn, tags=[{"Key": "a", "Value": "1"}])
    assert public.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "a", "Value": "1"}]
    public.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert public.list_tags_for_resource(resourceArn=arn)["tags"] == []


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed: apt-get install skopeo")
def test_skopeo_pulls_without_credentials(public, aws, tmp_path):
    image = image_of("one")
    assert login(aws).push(name_of(public), image, "v1").status == 201
    there = f"docker://{aws.endpoint.removeprefix('http://')}/{name_of(public)}:v1"
    pulled = run(
        "skopeo", "--insecure-policy", "copy", "--src-no-creds", "--src-tls-verify=false", there, f"dir:{tmp_path / 'out'}"
    )
    assert pulled.returncode == 0, pulled.stderr
    assert digest((tmp_path / "out" / "manifest.json").read_bytes()) == image.digest


def test_get_authorization_token_is_a_login(public):
    data = public.get_authorization_token()["authorizationData"]
    assert base64.b64decode(data["authorizationToken"]).startswith(b"AWS:")


def test_pull_through_cache_fills_private_repositories(public, aws):
    image, mine = image_of("one"), login(aws)
    assert mine.push(name_of(public), image, "v1").status == 201
    ecr = aws.client("ecr")
    ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="ecr-public", upstreamRegistryUrl="public.ecr.aws")
    name = f"ecr-public/{name_of(public).removeprefix('public.ecr.aws/')}"
    assert mine.ask("GET", f"/v2/{name}/manifests/v1").body == image.manifest
    assert mine.ask("GET", f"/v2/{name}/blobs/{digest(image.layers[0])}").body == image.layers[0]
    assert ecr.describe_images(repositoryName=name)["imageDetails"][0]["imageTags"] == ["v1"]
    assert push(ecr, name, image_of("two"), "mine")["imageId"]["imageTag"] == "mine"

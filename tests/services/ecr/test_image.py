"""Images and layers through the API."""

from __future__ import annotations

import json
import urllib.request

import pytest
from botocore.exceptions import ClientError

from tests.services.ecr.conftest import INDEX, OCI, digest, image_of, push, upload

MIB = 1 << 20


def code_of(raised):
    return raised.value.response["Error"]["Code"]


def index_of(*images):
    entries = [{"mediaType": OCI, "digest": image.digest, "size": len(image.manifest)} for image in images]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})


# -- layers ---------------------------------------------------------------------------------------------------------------


def test_layer_goes_up_and_down(ecr):
    data = b"layer" * 1000
    name = upload(ecr, "app", data)
    found = ecr.batch_check_layer_availability(repositoryName="app", layerDigests=[name, digest(b"other"), "what"])
    assert [(one["layerAvailability"], one.get("layerSize")) for one in found["layers"]] == [
        ("AVAILABLE", 5000),
        ("UNAVAILABLE", None),
    ]
    assert found["failures"][0]["failureCode"] == "InvalidLayerDigest"
    url = ecr.get_download_url_for_layer(repositoryName="app", layerDigest=name)["downloadUrl"]
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == data
    with pytest.raises(ClientError) as raised:
        ecr.get_download_url_for_layer(repositoryName="app", layerDigest=digest(b"other"))
    assert code_of(raised) == "LayersNotFoundException"


def test_upload_layer_part_takes_parts_in_order(ecr):
    start = ecr.initiate_layer_upload(repositoryName="app")["uploadId"]
    parts = [b"a" * 5 * MIB, b"b" * 10]
    place = {"repositoryName": "app", "uploadId": start}
    ecr.upload_layer_part(**place, partFirstByte=0, partLastByte=5 * MIB - 1, layerPartBlob=parts[0])
    with pytest.raises(ClientError) as raised:
        ecr.upload_layer_part(**place, partFirstByte=0, partLastByte=9, layerPartBlob=parts[1])
    assert code_of(raised) == "InvalidLayerPartException"
    assert raised.value.response["lastValidByteReceived"] == 5 * MIB - 1
    last = ecr.upload_layer_part(**place, partFirstByte=5 * MIB, partLastByte=5 * MIB + 9, layerPartBlob=parts[1])
    assert last["lastByteReceived"] == 5 * MIB + 9
    with pytest.raises(ClientError) as raised:
        ecr.complete_layer_upload(**place, layerDigests=[digest(b"other")])
    assert code_of(raised) == "InvalidLayerException"
    assert ecr.complete_layer_upload(**place, layerDigests=[digest(b"".join(parts))])["layerDigest"] == digest(b"".join(parts))
    with pytest.raises(ClientError) as raised:
        ecr.complete_layer_upload(**place, layerDigests=[digest(b"".join(parts))])
    assert code_of(raised) == "UploadNotFoundException"


def test_complete_layer_upload_refuses_small_parts_nothing_and_twice(ecr):
    upload(ecr, "app", b"once")
    with pytest.raises(ClientError) as raised:
        upload(ecr, "app", b"once")
    assert code_of(raised) == "LayerAlreadyExistsException"
    start = ecr.initiate_layer_upload(repositoryName="app")["uploadId"]
    with pytest.raises(ClientError) as raised:
        ecr.complete_layer_upload(repositoryName="app", uploadId=start, layerDigests=[digest(b"")])
    assert code_of(raised) == "EmptyUploadException"
    for at, data in ((0, b"a"), (1, b"b")):
        ecr.upload_layer_part(repositoryName="app", uploadId=start, partFirstByte=at, partLastByte=at, layerPartBlob=data)
    with pytest.raises(ClientError) as raised:
        ecr.complete_layer_upload(repositoryName="app", uploadId=start, layerDigests=[digest(b"ab")])
    assert code_of(raised) == "LayerPartTooSmallException"


def test_layers_are_kept_once_an_account(ecr, server):
    ecr.create_repository(repositoryName="other")
    push(ecr, "app", image_of("one"), "v1")
    blobs = set(server.cloud.blobs.names())
    push(ecr, "other", image_of("one"), "v1")
    assert set(server.cloud.blobs.names()) == blobs
    ecr.batch_delete_image(repositoryName="app", imageIds=[{"imageTag": "v1"}])
    url = ecr.get_download_url_for_layer(repositoryName="other", layerDigest=digest(image_of("one").layers[0]))["downloadUrl"]
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == image_of("one").layers[0]


# -- images ---------------------------------------------------------------------------------------------------------------


def test_put_image_is_described_listed_and_got(ecr, aws):
    image = image_of("one")
    put = push(ecr, "app", image, "v1")
    assert put["imageId"] == {"imageDigest": image.digest, "imageTag": "v1"}
    (found,) = ecr.describe_images(repositoryName="app")["imageDetails"]
    assert (found["imageDigest"], found["imageTags"], found["imageSizeInBytes"]) == (image.digest, ["v1"], len(image.layers[0]))
    assert "lastRecordedPullTime" not in found
    got = ecr.batch_get_image(repositoryName="app", imageIds=[{"imageTag": "v1"}, {"imageTag": "v2"}, {}])
    assert got["images"][0]["imageManifest"].encode() == image.manifest
    assert [failure["failureCode"] for failure in got["failures"]] == ["ImageNotFound", "MissingDigestAndTag"]
    assert "lastRecordedPullTime" in ecr.describe_images(repositoryName="app")["imageDetails"][0]
    with pytest.raises(ClientError, match="imageTag:'v2'") as raised:
        ecr.describe_images(repositoryName="app", imageIds=[{"imageTag": "v2"}])
    assert code_of(raised) == "ImageNotFoundException"


def test_put_image_refuses_what_is_not_whole(ecr):
    image = image_of("one")
    with pytest.raises(ClientError, match="do not exist") as raised:
        ecr.put_image(repositoryName="app", imageManifest=image.manifest.decode())
    assert code_of(raised) == "LayersNotFoundException"
    with pytest.raises(ClientError, match="Invalid JSON syntax") as raised:
        ecr.put_image(repositoryName="app", imageManifest="{")
    assert code_of(raised) == "InvalidParameterException"
    with pytest.raises(ClientError) as raised:
        ecr.put_image(repositoryName="app", imageManifest=index_of(image))
    assert code_of(raised) == "ReferencedImagesNotFoundException"
    push(ecr, "app", image, "v1")
    with pytest.raises(ClientError) as raised:
        ecr.put_image(repositoryName="app", imageManifest=image.manifest.decode(), imageDigest=digest(b"other"))
    assert code_of(raised) == "ImageDigestDoesNotMatchException"
    with pytest.raises(ClientError, match="and tag 'v1' already exists") as raised:
        push(ecr, "app", image, "v1")
    assert code_of(raised) == "ImageAlreadyExistsException"


def test_put_image_moves_tags(ecr):
    one, two = image_of("one"), image_of("two")
    push(ecr, "app", one, "latest")
    push(ecr, "app", two, "latest")
    tags = {entry["imageDigest"]: entry.get("imageTags") for entry in ecr.describe_images(repositoryName="app")["imageDetails"]}
    assert tags == {one.digest: None, two.digest: ["latest"]}
    assert ecr.list_images(repositoryName="app", filter={"tagStatus": "UNTAGGED"})["imageIds"] == [{"imageDigest": one.digest}]
    assert ecr.list_images(repositoryName="app", filter={"tagStatus": "TAGGED"})["imageIds"] == [
        {"imageDigest": two.digest, "imageTag": "latest"}
    ]


def test_batch_delete_image_takes_tags_then_images(ecr, server):
    blobs = set(server.cloud.blobs.names())
    image = image_of("one")
    push(ecr, "app", image, "a")
    push(ecr, "app", image, "b")
    gone = ecr.batch_delete_image(repositoryName="app", imageIds=[{"imageTag": "a"}])
    assert gone["imageIds"] == [{"imageDigest": image.digest, "imageTag": "a"}]
    assert ecr.describe_images(repositoryName="app")["imageDetails"][0]["imageTags"] == ["b"]
    gone = ecr.batch_delete_image(repositoryName="app", imageIds=[{"imageDigest": image.digest}, {"imageTag": "zzz"}])
    assert gone["imageIds"] == [{"imageDigest": image.digest, "imageTag": "b"}]
    assert gone["failures"][0]["failureCode"] == "ImageNotFound"
    assert ecr.list_images(repositoryName="app")["imageIds"] == []
    assert set(server.cloud.blobs.names()) == blobs


def test_images_of_a_list_stay_with_it(ecr):
    one, two = image_of("one"), image_of("two")
    for image in (one, two):
        push(ecr, "app", image)
    listed = ecr.put_image(repositoryName="app", imageManifest=index_of(one, two), imageTag="multi")["image"]
    (found,) = ecr.describe_images(repositoryName="app", imageIds=[{"imageTag": "multi"}])["imageDetails"]
    assert found["imageManifestMediaType"] == INDEX
    gone = ecr.batch_delete_image(repositoryName="app", imageIds=[{"imageDigest": one.digest}])
    assert gone["failures"][0]["failureCode"] == "ImageReferencedByManifestList"
    ids = [{"imageDigest": one.digest}, {"imageDigest": two.digest}, {"imageDigest": listed["imageId"]["imageDigest"]}]
    assert ecr.batch_delete_image(repositoryName="app", imageIds=ids)["failures"] == []


def test_describe_images_pages_to_the_end(ecr):
    for number in range(5):
        push(ecr, "app", image_of(str(number)), f"v{number}")
    for operation, member in (("describe_images", "imageDetails"), ("list_images", "imageIds")):
        pages = ecr.get_paginator(operation).paginate(repositoryName="app", PaginationConfig={"PageSize": 2})
        assert [len(page[member]) for page in pages] == [2, 2, 1]


def test_list_image_referrers_finds_what_speaks_of_an_image(ecr):
    image = image_of("one")
    push(ecr, "app", image, "v1")
    content = json.loads(image.manifest)
    subject = {"mediaType": OCI, "digest": image.digest, "size": len(image.manifest)}
    text = json.dumps({**content, "artifactType": "application/x-signature", "subject": subject})
    put = ecr.put_image(repositoryName="app", imageManifest=text)["image"]["imageId"]["imageDigest"]
    (found,) = ecr.list_image_referrers(repositoryName="app", subjectId={"imageDigest": image.digest})["referrers"]
    assert (found["digest"], found["artifactType"]) == (put, "application/x-signature")


def test_images_are_the_accounts_own(ecr, other_aws):
    push(ecr, "app", image_of("one"), "v1")
    with pytest.raises(ClientError) as raised:
        other_aws.client("ecr").describe_images(repositoryName="app")
    assert code_of(raised) == "RepositoryNotFoundException"


def test_registry_scanning_configuration_is_kept(ecr):
    assert ecr.get_registry_scanning_configuration()["scanningConfiguration"] == {"scanType": "BASIC", "rules": []}
    rules = [{"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "*", "filterType": "WILDCARD"}]}]
    ecr.put_registry_scanning_configuration(scanType="BASIC", rules=rules)
    assert ecr.get_registry_scanning_configuration()["scanningConfiguration"]["rules"] == rules
    found = ecr.batch_get_repository_scanning_configuration(repositoryNames=["app", "nope"])
    assert found["scanningConfigurations"][0]["scanFrequency"] == "MANUAL"
    assert found["failures"][0]["failureCode"] == "REPOSITORY_NOT_FOUND"

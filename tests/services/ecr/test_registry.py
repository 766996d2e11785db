"""The registry protocol: request by request, and by skopeo where it is installed (Debian package skopeo)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from pilvi.core.errors import Conflict
from pilvi.images import layers
from tests.services.ecr.conftest import INDEX, OCI, Wire, basic, digest, image_of, login, push

skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed: apt-get install skopeo")


def test_push_and_pull_keep_the_digest(ecr, aws):
    image, wire = image_of("one"), login(aws)
    put = wire.push("app", image, "v1")
    assert (put.status, put.headers["Docker-Content-Digest"]) == (201, image.digest)
    for reference in ("v1", image.digest):
        got = wire.ask("GET", f"/v2/app/manifests/{reference}")
        assert (got.status, got.body, got.headers["Content-Type"]) == (200, image.manifest, OCI)
        head = wire.ask("HEAD", f"/v2/app/manifests/{reference}")
        assert (head.headers["Docker-Content-Digest"], head.headers["Content-Length"]) == (image.digest, str(len(image.manifest)))
    blob = wire.ask("GET", f"/v2/app/blobs/{digest(image.layers[0])}")
    assert blob.body == image.layers[0]
    assert ecr.describe_images(repositoryName="app")["imageDetails"][0]["imageTags"] == ["v1"]
    assert wire.push("app", image, "v1").status == 201


def test_hosts_and_names_say_whose_registry_it_is(aws, other_aws):
    aws.client("ecr", "eu-west-1").create_repository(repositoryName="app")
    host = f"{aws.account}.dkr.ecr.eu-west-1.amazonaws.com"
    image = image_of("one")
    assert login(aws, host=host).push("app", image, "v1").status == 201
    assert login(aws, "eu-west-1").ask("GET", "/v2/app/manifests/v1").status == 200
    assert login(aws).ask("GET", f"/v2/{host}/app/manifests/v1").status == 200
    assert login(aws).ask("GET", "/v2/app/manifests/v1").error == "NAME_UNKNOWN"
    denied = login(other_aws, host=host).ask("GET", "/v2/app/manifests/v1")
    assert (denied.status, denied.error) == (403, "DENIED")


def test_nobody_gets_in_without_a_good_password(ecr, aws):
    ours, theirs = Wire(aws.endpoint), Wire(aws.endpoint, host=f"{aws.account}.dkr.ecr.us-east-1.amazonaws.com")
    assert ours.ask("GET", "/v2/").headers["Www-Authenticate"].startswith(f'Bearer realm="{aws.endpoint}/v2/token"')
    assert theirs.ask("GET", "/v2/").headers["Www-Authenticate"].startswith("Basic realm=")
    for authorization in (basic("AWS", "wrong"), basic("root", "wrong"), "Bearer x", "Basic %%%"):
        wire = Wire(aws.endpoint, authorization)
        for path in ("/v2/", "/v2/app/manifests/v1"):
            answer = wire.ask("GET", path)
            assert (answer.status, answer.error) == (401, "UNAUTHORIZED")
        assert wire.ask("PUT", "/v2/app/manifests/v1", b"{}").status == 401
    assert Wire(aws.endpoint, basic("AWS", "wrong")).ask("GET", "/v2/token").status == 401


def test_tokens_are_shown_for_tokens_and_nobodys_opens_nothing_private(ecr, aws):
    mine = json.loads(login(aws).ask("GET", "/v2/token?service=x&scope=repository:app:pull").body)
    assert Wire(aws.endpoint, f"Bearer {mine['token']}").ask("GET", "/v2/").status == 200
    nobodys = json.loads(Wire(aws.endpoint).ask("GET", "/v2/token").body)
    nobody = Wire(aws.endpoint, f"Bearer {nobodys['token']}")
    assert nobody.ask("GET", "/v2/").status == 200
    assert nobody.ask("GET", "/v2/app/manifests/v1").status == 401
    assert nobody.ask("POST", "/v2/app/blobs/uploads/", b"").status == 401


def test_a_password_is_worth_what_its_key_is_worth(ecr, aws):
    push(ecr, "app", image_of("one"), "v1")
    allowed = {"Effect": "Allow", "Action": ["ecr:GetAuthorizationToken", "ecr:BatchGetImage"], "Resource": "*"}
    user = aws.user("u", {"Version": "2012-10-17", "Statement": [allowed]})
    wire = login(user)
    assert wire.ask("GET", "/v2/app/manifests/v1").status == 200
    layer = digest(image_of("one").layers[0])
    for answer, action in (
        (wire.ask("GET", f"/v2/app/blobs/{layer}"), "ecr:GetDownloadUrlForLayer"),
        (wire.ask("POST", "/v2/app/blobs/uploads/", b""), "ecr:InitiateLayerUpload"),
        (wire.ask("PUT", "/v2/app/manifests/v2", image_of("one").manifest), "ecr:PutImage"),
        (wire.ask("DELETE", "/v2/app/manifests/v1"), "ecr:BatchDeleteImage"),
        (wire.ask("GET", "/v2/app/tags/list"), "ecr:ListImages"),
    ):
        assert (answer.status, answer.error) == (403, "DENIED")
        assert action.encode() in answer.body
    aws.client("iam").delete_access_key(UserName="u", AccessKeyId=user.access_key_id)
    assert wire.ask("GET", "/v2/app/manifests/v1").status == 401


def test_the_address_of_a_layer_is_no_password(ecr, aws):
    image = image_of("one")
    assert login(aws).push("app", image, "v1").status == 201
    url = ecr.get_download_url_for_layer(repositoryName="app", layerDigest=digest(image.config))["downloadUrl"]
    wire = Wire(aws.endpoint, basic("AWS", url.rpartition("/")[2]))
    assert wire.ask("GET", "/v2/app/manifests/v1").status == 401


def test_uploads_come_in_pieces(ecr, aws):
    wire, data = login(aws), b"0123456789" * 1000
    start = wire.ask("POST", "/v2/app/blobs/uploads/", b"")
    assert (start.status, start.headers["Range"]) == (202, "0-0")
    place = start.headers["Location"]
    first = wire.ask("PATCH", place, data[:4000], Content_Range="0-3999")
    assert (first.status, first.headers["Range"]) == (202, "0-3999")
    wrong = wire.ask("PATCH", place, data[:4000], Content_Range="0-3999")
    assert (wrong.status, wrong.headers["Range"]) == (416, "0-3999")
    told = wire.ask("GET", place)
    assert (told.status, told.headers["Range"]) == (204, "0-3999")
    assert wire.ask("PATCH", place, data[4000:9000]).headers["Range"] == "0-8999"
    assert wire.ask("PUT", f"{place}?digest={digest(b'other')}", b"").error == "DIGEST_INVALID"
    done = wire.ask("PUT", f"{place}?digest={digest(data)}", data[9000:])
    assert (done.status, done.headers["Docker-Content-Digest"]) == (201, digest(data))
    part = wire.ask("GET", f"/v2/app/blobs/{digest(data)}", Range="bytes=3995-4004")
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, data[3995:4005], f"bytes 3995-4004/{len(data)}")
    assert wire.ask("GET", place).error == "BLOB_UPLOAD_UNKNOWN"


def test_uploads_at_once_and_cancelled(ecr, aws, server):
    wire, blobs = login(aws), set(server.cloud.blobs.names())
    assert wire.ask("POST", f"/v2/app/blobs/uploads/?digest={digest(b'one')}", b"one").status == 201
    place = wire.ask("POST", "/v2/app/blobs/uploads/", b"").headers["Location"]
    wire.ask("PATCH", place, b"two")
    assert wire.ask("DELETE", place).status == 204
    assert wire.ask("GET", place).status == 404
    assert len(set(server.cloud.blobs.names()) - blobs) == 1


def test_two_that_add_to_an_upload_at_once_do_not_mix(ecr, aws, server):
    ctx = server.cloud.context(server.cloud.identities.root(aws.account), "ecr", region=aws.region)
    upload = layers.start_upload(ctx, "app")

    def late():
        yield b"mine"
        assert layers.append(ctx, "app", upload, [b"theirs"]) == 6
        yield b"mine"

    with pytest.raises(Conflict):
        layers.append(ctx, "app", upload, late())
    with pytest.raises(layers.DigestMismatch):
        layers.complete(ctx, "app", upload, digest(b"minemine"))
    layers.complete(ctx, "app", upload, digest(b"theirs"))
    assert b"".join(layers.read_layer(ctx, layers.find_layer(ctx, "app", digest(b"theirs")))) == b"theirs"


def test_layers_are_mounted_from_other_repositories(ecr, aws):
    ecr.create_repository(repositoryName="other")
    wire = login(aws)
    wire.push_blob("app", b"layer")
    assert wire.ask("HEAD", f"/v2/other/blobs/{digest(b'layer')}").status == 404
    assert wire.ask("POST", f"/v2/other/blobs/uploads/?mount={digest(b'layer')}&from=app", b"").status == 201
    assert wire.ask("HEAD", f"/v2/other/blobs/{digest(b'layer')}").headers["Content-Length"] == "5"
    assert wire.ask("POST", f"/v2/other/blobs/uploads/?mount={digest(b'none')}&from=app", b"").status == 202


def test_immutable_tags_are_refused(ecr, aws):
    ecr.put_image_tag_mutability(repositoryName="app", imageTagMutability="IMMUTABLE")
    wire = login(aws)
    assert wire.push("app", image_of("one"), "v1").status == 201
    assert wire.push("app", image_of("one"), "v1").status == 201
    answer = wire.push("app", image_of("two"), "v1")
    assert (answer.status, answer.error) == (400, "TAG_INVALID")


def test_manifests_that_are_not_whole_are_refused(ecr, aws):
    wire, image = login(aws), image_of("one")
    assert wire.ask("PUT", "/v2/app/manifests/v1", image.manifest, Content_Type=OCI).error == "MANIFEST_BLOB_UNKNOWN"
    assert wire.ask("PUT", "/v2/app/manifests/v1", b"{", Content_Type=OCI).error == "MANIFEST_INVALID"
    wire.push("app", image, "v1")
    assert wire.ask("PUT", f"/v2/app/manifests/{digest(b'x')}", image.manifest, Content_Type=OCI).error == "DIGEST_INVALID"
    assert wire.ask("PUT", "/v2/nope/manifests/v1", image.manifest, Content_Type=OCI).error == "NAME_UNKNOWN"


def test_lists_of_images_are_pushed_whole(ecr, aws):
    wire, one, two = login(aws), image_of("one"), image_of("two")
    for image in (one, two):
        assert wire.push("app", image, image.digest).status == 201
    entries = [{"mediaType": OCI, "digest": image.digest, "size": len(image.manifest)} for image in (one, two)]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    assert wire.ask("PUT", "/v2/app/manifests/multi", index, Content_Type=INDEX).status == 201
    assert wire.ask("GET", "/v2/app/manifests/multi").headers["Content-Type"] == INDEX


def test_tags_and_repositories_are_listed_in_pages(ecr, aws):
    wire, image = login(aws), image_of("one")
    for tag in ("c", "a", "b"):
        wire.push("app", image, tag)
    first = wire.ask("GET", "/v2/app/tags/list?n=2")
    assert json.loads(first.body) == {"name": "app", "tags": ["a", "b"]}
    following = first.headers["Link"].partition("<")[2].partition(">")[0]
    assert json.loads(wire.ask("GET", following).body)["tags"] == ["c"]
    assert json.loads(wire.ask("GET", "/v2/_catalog").body) == {"repositories": ["app"]}


def test_manifests_are_deleted(ecr, aws):
    wire, image = login(aws), image_of("one")
    wire.push("app", image, "v1")
    assert wire.ask("DELETE", f"/v2/app/manifests/{image.digest}").status == 202
    assert wire.ask("GET", "/v2/app/manifests/v1").error == "MANIFEST_UNKNOWN"
    assert wire.ask("DELETE", f"/v2/app/manifests/{image.digest}").status == 404


def test_referrers_are_told(ecr, aws):
    wire, image = login(aws), image_of("one")
    wire.push("app", image, "v1")
    subject = {"mediaType": OCI, "digest": image.digest, "size": len(image.manifest)}
    signature = json.dumps({**json.loads(image.manifest), "artifactType": "application/x-sig", "subject": subject}).encode()
    put = wire.ask("PUT", f"/v2/app/manifests/{digest(signature)}", signature, Content_Type=OCI)
    assert put.headers["OCI-Subject"] == image.digest
    found = json.loads(wire.ask("GET", f"/v2/app/referrers/{image.digest}").body)
    assert [entry["digest"] for entry in found["manifests"]] == [digest(signature)]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@skopeo
def test_skopeo_pushes_copies_and_pulls(ecr, aws, tmp_path: Path):
    image = image_of("one")
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    (folder / "manifest.json").write_bytes(image.manifest)
    for blob in image.blobs:
        (folder / digest(blob).removeprefix("sha256:")).write_bytes(blob)
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    creds = base64.b64decode(token).decode()
    there = f"docker://{aws.endpoint.removeprefix('http://')}"
    ecr.create_repository(repositoryName="other")
    copy = ("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--src-tls-verify=false")
    pushed = run(*copy, "--dest-creds", creds, f"dir:{folder}", f"{there}/app:v1")
    assert pushed.returncode == 0, pushed.stderr
    assert run(*copy, "--src-creds", creds, "--dest-creds", creds, f"{there}/app:v1", f"{there}/other:v1").returncode == 0
    assert run(*copy, "--src-creds", creds, f"{there}/other:v1", f"dir:{tmp_path / 'back'}").returncode == 0
    assert digest((tmp_path / "back" / "manifest.json").read_bytes()) == image.digest
    refused = run(*copy, "--dest-creds", "AWS:wrong", f"dir:{folder}", f"{there}/app:v2")
    assert refused.returncode != 0
    assert "unauthorized" in refused.stderr.lower()
    user = aws.user("u", {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ecr:Get*", "Resource": "*"}]})
    token = user.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    denied = run(*copy, "--dest-creds", base64.b64decode(token).decode(), f"dir:{folder}", f"{there}/app:v2")
    assert denied.returncode != 0
    assert "403 (Forbidden)" in denied.stderr


def test_signed_calls_to_v2_paths_are_their_services(aws):
    with pytest.raises(ClientError) as raised:
        aws.client("apigatewayv2").get_apis()
    assert raised.value.response["Error"]["Code"] == "NotImplemented"


def test_many_push_the_same_at_once(ecr, aws, server):
    ecr.create_repository(repositoryName="other")
    blobs = set(server.cloud.blobs.names())
    images = [image_of("shared"), image_of("one"), image_of("two")]

    def work(number: int) -> list[int]:
        wire, repository = login(aws), ("app", "other")[number % 2]
        return [wire.push(repository, image, f"{number}-{at}").status for at, image in enumerate(images)]

    with ThreadPoolExecutor(6) as pool:
        assert set(chain.from_iterable(pool.map(work, range(6)))) == {201}
    assert len(set(server.cloud.blobs.names()) - blobs) == len({blob for image in images for blob in image.blobs})
    for name in ("app", "other"):
        assert len(ecr.list_images(repositoryName=name)["imageIds"]) == 9
        ecr.delete_repository(repositoryName=name, force=True)
    assert set(server.cloud.blobs.names()) == blobs

"""Functions from container images: any program in ECR that speaks the runtime API."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.services.ecr.conftest import Image, digest, layer_of, push

LOOP = rb"""#!/bin/bash
address=$AWS_LAMBDA_RUNTIME_API
below=2018-06-01/runtime/invocation
exec 3<>"/dev/tcp/${address%%:*}/${address##*:}"
ask() {
  printf '%s /%s/%s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s' "$1" "$below" "$2" "$address" "${#3}" "$3" >&3
  read -r _ <&3
  while IFS=$': \r' read -r name value <&3 && [ -n "$name" ]; do
    [ "${name,,}" = content-length ] && length=$value
    [ "${name,,}" = lambda-runtime-aws-request-id ] && id=$value
  done
  IFS= read -r -N "$length" body <&3
}
while true; do
  ask GET next
  echo "image got $body"
  hidden=true; [ -e /var/task ] && hidden=false
  ask POST "$id/response" "{\"event\": $body, \"argv\": \"$*\", \"cwd\": \"$PWD\", \"name\": \"$AWS_LAMBDA_FUNCTION_NAME\", \"own\": \"$OWN\", \"hidden\": $hidden}"
done
"""
"""With nothing but bash: it opens connections itself."""


def bash() -> dict[str, bytes]:
    """This machine's bash, and what it loads."""
    said = subprocess.run(["ldd", "/bin/bash"], capture_output=True, text=True, check=True).stdout
    paths = ["/bin/bash", *re.findall(r"(?:=> )?(/\S+) \(0x", said)]
    return {path.lstrip("/"): Path(path).read_bytes() for path in paths}


@pytest.fixture(scope="module")
def base() -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in bash().items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), 1, mtime=0)


def image_of(base: bytes, **config: Any) -> Image:
    program = layer_of({"app/loop.sh": LOOP})
    rootfs = {"type": "layers", "diff_ids": [digest(gzip.decompress(layer)) for layer in (base, program)]}
    inner = {
        "Entrypoint": ["/bin/bash", "/app/loop.sh"],
        "Cmd": ["app.handler"],
        "WorkingDir": "/app",
        "Env": ["OWN=yes"],
        **config,
    }
    content = {"architecture": "amd64", "os": "linux", "config": inner, "rootfs": rootfs}
    return Image(json.dumps(content).encode(), (base, program))


@pytest.fixture(scope="module")
def pushed(lab, base) -> str:
    ecr = lab.account.client("ecr")
    uri = ecr.create_repository(repositoryName="functions")["repository"]["repositoryUri"]
    push(ecr, "functions", image_of(base), "v1")
    return f"{uri}:v1"


def create(lab, name: str, uri: str, **settings: Any) -> dict[str, Any]:
    settings = {"Role": lab.role, "Timeout": 20, "MemorySize": 256, **settings}
    return lab.client.create_function(FunctionName=name, PackageType="Image", Code={"ImageUri": uri}, **settings)


def test_a_function_from_an_image_answers(lab, pushed):
    made = create(lab, "imaged", pushed)
    assert (made["PackageType"], made["CodeSize"]) == ("Image", 0)
    assert "Runtime" not in made
    answer = lab.invoke("imaged", {"a": 1})
    assert answer == {"event": {"a": 1}, "argv": "app.handler", "cwd": "/app", "name": "imaged", "own": "yes", "hidden": True}
    code = lab.client.get_function(FunctionName="imaged")["Code"]
    assert (code["RepositoryType"], code["ImageUri"]) == ("ECR", pushed)
    assert code["ResolvedImageUri"].startswith(pushed.removesuffix(":v1") + "@sha256:")
    assert made["CodeSha256"] == code["ResolvedImageUri"].rpartition(":")[2]


def test_the_image_may_be_overridden(lab, pushed):
    made = create(lab, "overridden", pushed, ImageConfig={"Command": ["other.handler"], "WorkingDirectory": "/tmp"})
    assert made["ImageConfigResponse"]["ImageConfig"]["Command"] == ["other.handler"]
    answer = lab.invoke("overridden")
    assert (answer["argv"], answer["cwd"]) == ("other.handler", "/tmp")
    lab.client.update_function_configuration(FunctionName="overridden", ImageConfig={})
    assert lab.invoke("overridden")["argv"] == "app.handler"


def test_a_function_keeps_its_image_until_it_is_given_another(lab, pushed, base):
    create(lab, "pinned", pushed, Publish=True)
    push(lab.account.client("ecr"), "functions", image_of(base, Cmd=["next.handler"]), "v2")
    lab.client.update_function_code(FunctionName="pinned", ImageUri=pushed.replace(":v1", ":v2"))
    assert lab.invoke("pinned")["argv"] == "next.handler"
    assert lab.invoke("pinned", Qualifier="1")["argv"] == "app.handler"
    lab.client.delete_function(FunctionName="pinned")


def test_what_is_no_image_is_refused(lab, pushed):
    for uri, text in (
        ("example.com/app:v1", "is not valid"),
        (pushed.replace(":v1", ":v9"), "does not exist"),
        (pushed.replace("functions", "nowhere"), "does not exist"),
        (pushed.replace("us-east-1", "eu-west-1"), "not in the Region"),
    ):
        with pytest.raises(ClientError, match=text) as error:
            create(lab, "refused", uri)
        assert error.value.response["Error"]["Code"] == "InvalidParameterValueException"
    with pytest.raises(ClientError, match="Handler is not supported"):
        create(lab, "refused", pushed, Handler="index.handler")
    with pytest.raises(ClientError, match="provide ImageUri"):
        lab.client.create_function(FunctionName="refused", PackageType="Image", Role=lab.role, Code={"ZipFile": lab.zipped({})})
    lab.create("zipped")
    with pytest.raises(ClientError, match="don't provide ImageUri"):
        lab.client.update_function_code(FunctionName="zipped", ImageUri=pushed)
    with pytest.raises(ClientError, match="only for functions created with container images"):
        lab.client.update_function_configuration(FunctionName="zipped", ImageConfig={"Command": ["x"]})


def test_another_accounts_image_needs_its_leave(lab, new_lab, pushed):
    other = new_lab()
    with pytest.raises(ClientError, match="does not have permission to access the ECR image"):
        create(other, "foreign", pushed)
    arn = f"arn:aws:lambda:us-east-1:{other.account.account}:function:*"
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                "Condition": {"StringLike": {"aws:sourceArn": arn}},
            }
        ],
    }
    lab.account.client("ecr").set_repository_policy(repositoryName="functions", policyText=json.dumps(policy))
    create(other, "foreign", pushed)
    assert other.invoke("foreign")["name"] == "foreign"

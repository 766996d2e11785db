"""Endpoints of one's own image: the serve command, port 8080, several at once."""

from __future__ import annotations

import itertools
import json

import pytest
from botocore.exceptions import ClientError

from pilvi.cli import images
from pilvi.testing.server import TestServer
from tests.services.sagemaker_runtime.conftest import Desk

SERVE = """\
import http.server, json, os, sys, urllib.request

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", "from=container")
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(500 if os.environ.get("UNWELL") else 200, b"")
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "teapot" in asked:
            return self.answer(418, b"short and stout")
        if "look" in asked:
            try:
                urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"], timeout=10)
            except urllib.error.HTTPError as error:
                return self.answer(200, str(error.code).encode())
        self.answer(200, json.dumps([sys.argv[1:], open("/opt/ml/model/factor.txt").read()]).encode())
    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
DOCKERFILE = """\
FROM python:3.11-slim
COPY serve.py /app/serve.py
ENTRYPOINT ["python3", "/app/serve.py"]
"""


_numbers = itertools.count(735000000001)


@pytest.fixture(scope="module")
def desk(server: TestServer) -> Desk:
    return Desk(server.account(str(next(_numbers))))


@pytest.fixture(scope="module")
def image(desk: Desk, server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    if server.cloud.compute.isolation == "none":
        pytest.skip("this machine has no namespaces")
    folder = tmp_path_factory.mktemp("image")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "serve.py").write_text(SERVE)

    def nowhere() -> images.Target:
        raise images.Invalid("there is no registry")

    assert images.build(nowhere, folder, ["own:v1"], output=folder / "own.tar", say=lambda _: None) == 0
    aws = desk.aws
    target = images.Target(aws.endpoint, aws.region, aws.access_key_id, aws.secret, None)
    assert images.push(target, folder / "own.tar", "own:v1", lambda _: None) == 0
    pull = {"Effect": "Allow", "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], "Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": [pull]}
    aws.client("iam").put_role_policy(RoleName="Server", PolicyName="pull", PolicyDocument=json.dumps(document))
    return f"{aws.account}.dkr.ecr.us-east-1.amazonaws.com/own:v1"


def test_own_images_serve_side_by_side(desk: Desk, image: str) -> None:
    """Every one of them listens on port 8080; one of them has the machine's, the others have networks of their own."""
    desk.model("own", 3.0, Image=image)
    desk.endpoint("own", desk.variant("own", InitialInstanceCount=2))
    for _ in range(6):
        answer = desk.runtime.invoke_endpoint(EndpointName="own", Body="{}")
        assert json.loads(answer["Body"].read()) == [["serve"], "3.0"]
        assert answer["CustomAttributes"] == "from=container"
        assert int(desk.ask("own", '{"look": 1}')) >= 400
    with pytest.raises(ClientError, match=r"Received client error \(418\) from primary with message .short and stout"):
        desk.ask("own", '{"teapot": 1}')
    desk.remove("own")


def test_own_image_that_is_unwell_is_not_in_service(desk: Desk, image: str) -> None:
    desk.model("unwell", Image=image, Environment={"UNWELL": "1"})
    desk.config("unwell", desk.variant("unwell", ContainerStartupHealthCheckTimeoutInSeconds=60))
    # The least that AWS allows is a minute; the test's own limit is shorter.
    desk.sagemaker.create_endpoint(EndpointName="unwell", EndpointConfigName="unwell")
    assert desk.describe("unwell")["EndpointStatus"] == "Creating"
    with pytest.raises(ClientError, match="is not in service: its status is Creating"):
        desk.ask("unwell")

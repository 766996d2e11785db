"""Functions in other languages: Node.js, and whatever a package or a layer brings a bootstrap for."""

from __future__ import annotations

import base64
import io
import zipfile
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import eventually

BASH = """#!/bin/bash
set -euo pipefail
while true; do
  headers=$(mktemp)
  event=$(curl -sS -L -D "$headers" "http://${AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation/next")
  id=$(grep -i lambda-runtime-aws-request-id "$headers" | tr -d '[:space:]' | cut -d: -f2)
  echo "working on $event"
  curl -sS "http://${AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation/$id/response" -d "{\\"echo\\": $event, \\"handler\\": \\"$_HANDLER\\"}" > /dev/null
done
"""
NODE = """
exports.handler = async (event, context) => {
  console.log("seen", event);
  if (event === "fail") throw new TypeError("told to");
  return { event, name: context.functionName, left: context.getRemainingTimeInMillis() > 1000, id: context.awsRequestId };
};
exports.callback = (event, context, callback) => setTimeout(() => callback(null, [event]), 5);
"""
ECHO = "def handler(event, context):\n    return event\n"


def executable(files: dict[str, str]) -> bytes:
    """A zip whose files may be run."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o755 << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def test_a_layer_may_carry_a_bash_bootstrap(lab):
    layer = lab.client.publish_layer_version(LayerName="bash", Content={"ZipFile": executable({"bootstrap": BASH})})
    lab.create("bash", "", Runtime="provided.al2023", Layers=[layer["LayerVersionArn"]], Handler="any.thing")
    assert lab.invoke("bash", {"a": 1}) == {"echo": {"a": 1}, "handler": "any.thing"}
    lab.grant("logs", "logs:*")
    answer = lab.raw(FunctionName="bash", Payload=b"7", LogType="Tail")
    tail = base64.b64decode(answer["LogResult"]).decode()
    assert tail.index("START RequestId") < tail.index("working on 7") < tail.index("END RequestId") < tail.index("REPORT RequestId")


def test_a_package_may_bring_its_own(lab):
    lab.create("own", Runtime="provided.al2", Code={"ZipFile": executable({"bootstrap": BASH})})
    assert [lab.invoke("own", number)["echo"] for number in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("package", "words"),
    [
        (lambda lab: lab.zipped({"index.py": ECHO}), "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
        (lambda lab: lab.zipped({"bootstrap": BASH}), "fork/exec /var/task/bootstrap: permission denied"),
    ],
)
def test_a_custom_runtime_without_a_bootstrap_says_so(lab, package, words):
    name = f"lost{len(words)}"
    lab.create(name, Runtime="provided.al2023", Code={"ZipFile": package(lab)})
    failure = lab.failure(name)
    assert failure["errorType"] == "Runtime.InvalidEntrypoint"
    assert words in failure["errorMessage"]


def test_a_custom_runtime_is_killed_when_its_time_is_over(lab):
    slow = BASH.replace('echo "working', 'sleep 10; echo "working')
    lab.create("slow", Runtime="provided.al2023", Timeout=1, Code={"ZipFile": executable({"bootstrap": slow})})
    assert "Task timed out after 1.00 seconds" in lab.failure("slow")["errorMessage"]


@pytest.mark.parametrize("runtime", ["python3.9", "python3.13", "nodejs22.x"])
def test_the_same_echo_runs_under_every_language(lab, runtime):
    name = "echo-" + runtime.replace(".", "")
    code = {"index.js": "exports.handler = async (event) => event;"} if runtime.startswith("nodejs") else {"index.py": ECHO}
    lab.create(name, Runtime=runtime, Code={"ZipFile": lab.zipped(code)})
    event = {"text": "für alle", "list": [1, 2.5, None, True]}
    assert lab.invoke(name, event) == event


@pytest.fixture(scope="module")
def node(lab) -> Any:
    lab.grant("logs", "logs:*")
    lab.create("node", Runtime="nodejs22.x", Code={"ZipFile": lab.zipped({"index.js": NODE})})
    return lab


def test_node_tells_the_handler_where_it_is(node):
    answer = node.invoke("node", {"a": [1]})
    assert answer.pop("id")
    assert answer == {"event": {"a": [1]}, "name": "node", "left": True}


def test_node_tells_what_was_thrown(node):
    failure = node.failure("node", "fail")
    assert (failure["errorType"], failure["errorMessage"]) == ("TypeError", "told to")
    assert "TypeError: told to" in failure["trace"][0]


def test_node_takes_callbacks_and_modules(node):
    node.create("calling", Runtime="nodejs20.x", Handler="index.callback", Code={"ZipFile": node.zipped({"index.js": NODE})})
    assert node.invoke("calling", 5) == [5]
    module = "import path from 'node:path';\nexport const handler = async (event) => path.basename(event);\n"
    node.create("module", Runtime="nodejs24.x", Handler="app/main.handler", Code={"ZipFile": node.zipped({"app/main.mjs": module})})
    assert node.invoke("module", "/a/b") == "b"


def test_node_imports_from_layers(node):
    content = node.zipped({"nodejs/node_modules/greet/index.js": "exports.greet = (name) => `hello ${name}`;"})
    layer = node.client.publish_layer_version(LayerName="greet", Content={"ZipFile": content})["LayerVersionArn"]
    code = {
        "ZipFile": node.zipped({"index.js": "const { greet } = require('greet');\nexports.handler = async (name) => greet(name);"})
    }
    node.create("greeting", Runtime="nodejs22.x", Code=code, Layers=[layer])
    assert node.invoke("greeting", "you") == "hello you"
    node.client.update_function_configuration(FunctionName="greeting", Layers=[])
    assert node.failure("greeting", "you")["errorType"] == "Runtime.ImportModuleError"


@pytest.mark.parametrize(
    ("code", "handler", "kind"),
    [
        ("exports.other = 1;", "index.handler", "Runtime.HandlerNotFound"),
        ("exports.handler = (;", "index.handler", "Runtime.UserCodeSyntaxError"),
        ("", "missing.handler", "Runtime.ImportModuleError"),
        ("throw new RangeError('early');", "index.handler", "RangeError"),
    ],
)
def test_node_tells_why_a_function_does_not_start(node, code, handler, kind):
    name = f"bad-{kind.replace('.', '')}"
    node.create(name, Runtime="nodejs22.x", Handler=handler, Code={"ZipFile": node.zipped({"index.js": code})})
    assert node.failure(name)["errorType"] == kind


def test_node_logs_lines_with_the_request(node):
    node.invoke("node", "logged")
    logs = node.account.client("logs")
    (event,) = eventually(lambda: logs.filter_log_events(logGroupName="/aws/lambda/node", filterPattern='"seen logged"')["events"])
    assert "\tINFO\tseen logged" in event["message"]


def test_runtimes_of_old_run_and_their_log_says_so(lab):
    lab.grant("logs", "logs:*")
    lab.create("old", ECHO, Runtime="python3.7")
    assert lab.invoke("old", 1) == 1
    logs = lab.account.client("logs")

    def warned() -> bool:
        try:
            return bool(logs.filter_log_events(logGroupName="/aws/lambda/old", filterPattern='"python3.7 is deprecated"')["events"])
        except logs.exceptions.ResourceNotFoundException:
            return False

    assert eventually(warned)
    with pytest.raises(ClientError, match="no longer supported"):
        lab.create("older", ECHO, Runtime="python2.7")

from __future__ import annotations

import base64
import json
import pickle
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from pilvi.services.lambda_.pool import STARTING

MANY = """
import json, os, sys, time
print("module loaded")
COUNT = 0

def echo(event, context):
    return event

def facts(event, context):
    return {
        "name": context.function_name, "version": context.function_version, "id": context.aws_request_id,
        "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb, "left": context.get_remaining_time_in_millis(),
        "group": context.log_group_name, "stream": context.log_stream_name, "client": context.client_context and context.client_context.custom,
        "env": {key: value for key, value in os.environ.items() if "SECRET" not in key and "TOKEN" not in key}, "cwd": os.getcwd(),
    }

def count(event, context):
    global COUNT
    COUNT += 1
    return [COUNT, os.getpid()]

def fail(event, context):
    raise KeyError("features")

def speak(event, context):
    print("hello"); print("wörld", file=sys.stderr)
    import logging
    logging.getLogger().warning("two\\nlines")
    return "x" * 10

def sleep(event, context):
    print("going to sleep")
    time.sleep(event)
    return event

def hog(event, context):
    data = []
    while True:
        data.append(bytearray(os.urandom(1 << 20) * 8))

def leave(event, context):
    os._exit(event)

def large(event, context):
    return "x" * event

def not_json(event, context):
    return {1, 2}

def dispatch(event, context):
    return globals()[event["do"]](event.get("with"), context)
"""


@pytest.fixture(scope="module")
def many(lab):
    """One function that does many things, so that one warm worker serves most tests."""
    lab.create("many", MANY, Handler="index.dispatch", Timeout=20)
    return lambda do, given=None, **settings: lab.invoke("many", {"do": do, "with": given}, **settings)


def test_invoke_gives_back_what_the_handler_returns(lab, many):
    assert many("echo", {"a": [1, "ü", None]}) == {"a": [1, "ü", None]}
    answer = lab.raw(FunctionName="many", Payload=json.dumps({"do": "echo"}))
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert answer["Payload"].read() == b"null"
    assert "LogResult" not in answer


def test_invoke_without_payload_gives_an_empty_event(lab):
    lab.create("empty")
    assert json.loads(lab.raw(FunctionName="empty")["Payload"].read()) == {}


def test_invoke_tells_the_handler_where_it_is(lab, many):
    found = many("facts")
    assert found["name"] == "many"
    assert found["version"] == "$LATEST"
    assert found["arn"] == f"arn:aws:lambda:us-east-1:{lab.account.account}:function:many"
    assert found["memory"] == "128"
    assert 15_000 < found["left"] <= 20_000
    assert found["group"] == "/aws/lambda/many"
    assert found["stream"].split("/")[3].startswith("[$LATEST]")
    assert found["cwd"] == found["env"]["LAMBDA_TASK_ROOT"]
    assert found["env"]["AWS_REGION"] == found["env"]["AWS_DEFAULT_REGION"] == "us-east-1"
    assert found["env"]["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.11"
    assert found["env"]["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert found["env"]["_HANDLER"] == "index.dispatch"
    assert found["env"]["_X_AMZN_TRACE_ID"].startswith("Root=1-")
    answer = lab.raw(FunctionName="many", Payload=json.dumps({"do": "facts"}))
    assert json.loads(answer["Payload"].read())["id"] == answer["ResponseMetadata"]["RequestId"]


def test_invoke_passes_the_client_context(lab, many):
    context = base64.b64encode(json.dumps({"custom": {"ü": "1"}}).encode()).decode()
    assert many("facts", ClientContext=context)["client"] == {"ü": "1"}
    with pytest.raises(ClientError) as error:
        many("facts", ClientContext="!")
    assert error.value.response["Error"]["Code"] == "InvalidRequestContentException"


def test_invoke_reuses_a_warm_worker(many):
    (first, pid), *others = [many("count") for _ in range(5)]
    assert others == [[first + number, pid] for number in range(1, 5)]


def test_invoke_tells_what_the_handler_raised(lab):
    lab.create("raising", MANY, Handler="index.fail")
    found = lab.failure("raising")
    assert (found["errorType"], found["errorMessage"]) == ("KeyError", "'features'")
    assert "index.py" in found["stackTrace"][0]
    assert "fail" in found["stackTrace"][0]


@pytest.mark.parametrize(
    ("code", "handler", "kind", "words"),
    [
        ("import nothing_like_this", "index.handler", "Runtime.ImportModuleError", "No module named 'nothing_like_this'"),
        ("x = 1", "index.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'index'"),
        ("def handler(", "index.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'index'"),
        ("raise ValueError('at import')", "index.handler", "ValueError", "at import"),
        ("import os; os._exit(3)", "index.handler", "Runtime.ExitError", "Runtime exited with error: exit status 3"),
    ],
)
def test_invoke_tells_why_a_function_does_not_start(lab, code, handler, kind, words):
    name = f"broken-{abs(hash(code))}"
    lab.create(name, code, Handler=handler)
    found = lab.failure(name)
    assert found["errorType"] == kind
    assert words in found["errorMessage"]


def test_invoke_gives_the_tail_of_the_log(lab, many):
    many("echo")
    answer = lab.raw(FunctionName="many", Payload=json.dumps({"do": "speak"}), LogType="Tail")
    request_id = answer["ResponseMetadata"]["RequestId"]
    lines = base64.b64decode(answer["LogResult"]).decode().split("\n")
    assert lines[0] == f"START RequestId: {request_id} Version: $LATEST"
    assert lines[1:3] == ["hello", "wörld"]
    assert lines[3].startswith("[WARNING]\t")
    assert lines[3].endswith(f"Z\t{request_id}\ttwo")
    assert lines[4:6] == ["lines", f"END RequestId: {request_id}"]
    assert lines[6].startswith(f"REPORT RequestId: {request_id}\tDuration: ")
    assert "\tMemory Size: 128 MB\tMax Memory Used: " in lines[6]
    answer = lab.raw(FunctionName="many", Payload=json.dumps({"do": "fail"}), LogType="Tail")
    tail = base64.b64decode(answer["LogResult"]).decode()
    assert "[ERROR] KeyError: 'features'\nTraceback (most recent call last):" in tail


def test_invoke_gives_no_more_than_four_kilobytes_of_log(lab):
    lab.create("chatty", "def handler(event, context):\n    for n in range(1000): print('line', n)")
    tail = base64.b64decode(lab.raw(FunctionName="chatty", LogType="Tail")["LogResult"])
    assert len(tail) == 4096
    assert b"line 999\n" in tail


def test_invoke_ends_what_takes_too_long(lab):
    lab.create("slow", MANY, Handler="index.sleep", Timeout=1)
    answer = lab.raw(FunctionName="slow", Payload=b"60", LogType="Tail")
    found = json.loads(answer["Payload"].read())
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert answer["FunctionError"] == "Unhandled"
    assert found == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request_id} Error: Task timed out after 1.00 seconds",
    }
    tail = base64.b64decode(answer["LogResult"]).decode()
    assert "going to sleep\n" in tail
    assert f"{request_id} Task timed out after 1.00 seconds\n" in tail
    assert "Status: timeout" in tail
    assert lab.invoke("slow", 0) == 0


def test_invoke_ends_what_takes_too_much_memory(lab):
    lab.create("hungry", MANY, Handler="index.hog", Timeout=30)
    answer = lab.raw(FunctionName="hungry", Payload=b"1")
    found = json.loads(answer["Payload"].read())
    assert found == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {answer['ResponseMetadata']['RequestId']} Error: Runtime exited with error: signal: killed",
    }


def test_invoke_tells_that_the_runtime_left(lab):
    lab.create("leaving", MANY, Handler="index.leave")
    assert lab.failure("leaving", 7)["errorMessage"].endswith("Error: Runtime exited with error: exit status 7")
    assert lab.failure("leaving", 0)["errorMessage"].endswith("Error: Runtime exited without providing a reason")


def test_invoke_limits_what_goes_in_and_out(lab, many):
    with pytest.raises(ClientError) as error:
        lab.raw(FunctionName="many", Payload=b'"' + b"x" * 6291556 + b'"')
    assert error.value.response["Error"]["Code"] == "RequestEntityTooLargeException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    with pytest.raises(ClientError) as error:
        lab.raw(FunctionName="many", InvocationType="Event", Payload=b'"' + b"x" * 1048576 + b'"')
    assert "Request must be smaller than 1048576 bytes" in error.value.response["Error"]["Message"]
    assert len(many("large", 6_000_000)) == 6_000_000
    assert lab.failure("many", {"do": "large", "with": 7_000_000})["errorType"] == "Function.ResponseSizeTooLarge"
    assert lab.failure("many", {"do": "not_json"})["errorType"] == "Runtime.MarshalError"


@pytest.mark.parametrize("payload", [b"<xml/>", b"{", b"{'a': 1}", b"\xff", b"NaN"])
def test_invoke_refuses_what_is_no_json(lab, many, payload):
    with pytest.raises(ClientError) as error:
        lab.raw(FunctionName="many", Payload=payload)
    assert error.value.response["Error"]["Code"] == "InvalidRequestContentException"
    assert "Could not parse request body into json" in error.value.response["Error"]["Message"]


def test_invoke_of_what_is_missing(lab):
    arn = f"arn:aws:lambda:us-east-1:{lab.account.account}:function:nothing"
    for settings, found in (({}, arn), ({"Qualifier": "7"}, f"{arn}:7"), ({"Qualifier": "live"}, f"{arn}:live")):
        with pytest.raises(ClientError) as error:
            lab.raw(FunctionName="nothing", **settings)
        assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"
        assert error.value.response["Error"]["Message"] == f"Function not found: {found}"


def test_invoke_dry_run_only_asks(lab, many):
    answer = lab.raw(FunctionName="many", InvocationType="DryRun", Payload=b"{}")
    assert answer["StatusCode"] == 204
    nobody = lab.account.user("nobody-may")
    with pytest.raises(ClientError) as error:
        nobody.client("lambda").invoke(FunctionName="many", InvocationType="DryRun")
    assert error.value.response["Error"]["Code"] == "AccessDeniedException"
    assert "lambda:InvokeFunction" in error.value.response["Error"]["Message"]


def test_invoke_runs_side_by_side(lab):
    code = "import os, time\ndef handler(event, context):\n    open('/tmp/mine', 'x').close()\n    time.sleep(0.5)\n    return os.path.exists('/tmp/mine')"
    lab.create("parallel", code, Timeout=30)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: lab.invoke("parallel"), range(8))) == [True] * 8


def test_invoke_respects_reserved_concurrency(lab):
    lab.create("narrow", MANY, Handler="index.sleep", Timeout=10)
    lab.client.put_function_concurrency(FunctionName="narrow", ReservedConcurrentExecutions=1)

    def refused(seconds: float) -> ClientError | None:
        try:
            lab.invoke("narrow", seconds)
        except ClientError as error:
            return error
        return None

    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(refused, [1.0] * 3))
    assert answers.count(None) == 1
    error = next(answer for answer in answers if answer is not None)
    assert error.response["Error"]["Code"] == "TooManyRequestsException"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert error.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    lab.client.put_function_concurrency(FunctionName="narrow", ReservedConcurrentExecutions=0)
    assert refused(0) is not None
    lab.client.delete_function_concurrency(FunctionName="narrow")
    assert lab.invoke("narrow", 0) == 0


def test_invoke_acts_under_the_functions_role(lab):
    """The story: a pickled model in S3, a handler that loads it, a role that may not and then may."""
    bucket = f"models-{lab.account.account}"
    s3 = lab.account.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="model.pkl", Body=pickle.dumps({"weights": [0.5, -1.0]}))
    code = """
import json, pickle
import boto3

def handler(event, context):
    body = json.loads(event["body"])
    model = pickle.loads(boto3.client("s3").get_object(Bucket=body["bucket"], Key="model.pkl")["Body"].read())
    score = sum(w * x for w, x in zip(model["weights"], body["features"]))
    return {"statusCode": 200, "body": json.dumps({"prediction": int(score > 0)})}
"""
    lab.create("predict", code, Timeout=30, MemorySize=256)
    event = {"body": json.dumps({"bucket": bucket, "features": [3, 1]})}
    denied = lab.failure("predict", event)
    assert "(AccessDenied) when calling the GetObject operation" in denied["errorMessage"]
    lab.grant("read", "s3:GetObject", resource=f"arn:aws:s3:::{bucket}/*")
    assert lab.invoke("predict", event) == {"statusCode": 200, "body": '{"prediction": 1}'}


def test_invoke_sees_only_its_own_files(lab, server):
    code = """
import os
def handler(event, context):
    found = {}
    for path in (event, "/root", "/home", "/work"):
        try:
            found[path] = os.listdir(path)
        except OSError as error:
            found[path] = type(error).__name__
    try:
        open("/var/task/new", "w")
        found["written"] = True
    except OSError:
        found["written"] = False
    return found
"""
    if server.cloud.compute.isolation == "none":
        pytest.skip("this machine offers no namespaces")
    lab.create("curious", code)
    found = lab.invoke("curious", str(server.config.data_dir))
    assert found[str(server.config.data_dir)] in ("FileNotFoundError", [])
    assert found["written"] is False


def test_invoke_async_accepts_events_in_the_old_way(lab, many):
    answer = lab.client.invoke_async(FunctionName="many", InvokeArgs=b'{"do": "echo"}')
    assert answer["Status"] == 202


def test_invoke_with_response_stream_sends_pieces(lab, many):
    answer = lab.client.invoke_with_response_stream(
        FunctionName="many", Payload=json.dumps({"do": "large", "with": 100_000}), LogType="Tail"
    )
    events = list(answer["EventStream"])
    assert b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1]) == b'"' + b"x" * 100_000 + b'"'
    assert len(events) == 3
    assert b"REPORT" in base64.b64decode(events[-1]["InvokeComplete"]["LogResult"])
    answer = lab.client.invoke_with_response_stream(FunctionName="many", Payload=json.dumps({"do": "fail"}))
    (event,) = answer["EventStream"]
    assert event["InvokeComplete"]["ErrorCode"] == "Unhandled"
    assert json.loads(event["InvokeComplete"]["ErrorDetails"])["errorType"] == "KeyError"


def test_many_invocations_at_once_share_few_workers(lab, many):
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda number: many("echo", number), range(200)))
    assert answers == list(range(200))


def test_a_worker_answers_only_to_its_own_token(server):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{server.endpoint}/_pilvi/lambda/guess/2018-06-01/runtime/invocation/next")
    assert error.value.code == 403
    error.value.close()


def test_get_account_settings_counts(new_lab):
    lab = new_lab()
    made = lab.create("one")
    lab.client.put_function_concurrency(FunctionName="one", ReservedConcurrentExecutions=5)
    found = lab.client.get_account_settings()
    assert found["AccountUsage"] == {"FunctionCount": 1, "TotalCodeSize": made["CodeSize"]}
    assert found["AccountLimit"]["ConcurrentExecutions"] == 1000
    assert found["AccountLimit"]["UnreservedConcurrentExecutions"] == 995
    assert lab.client.get_function_concurrency(FunctionName="one")["ReservedConcurrentExecutions"] == 5
    assert lab.client.get_function(FunctionName="one")["Concurrency"] == {"ReservedConcurrentExecutions": 5}
    with pytest.raises(ClientError) as error:
        lab.client.put_function_concurrency(FunctionName="one", ReservedConcurrentExecutions=901)
    assert "below its minimum value of [100]" in error.value.response["Error"]["Message"]


def test_calls_at_once_do_not_start_more_than_the_machine_can(lab, server):
    """Who comes while the first workers start is served by them."""
    lab.create("burst", "import os\ndef handler(event, context):\n    return os.getpid()\n")
    with ThreadPoolExecutor(40) as threads:
        clients = [lab.account.client("lambda") for _ in range(4)]
        calls = [
            threads.submit(lambda client=clients[n % 4]: client.invoke(FunctionName="burst")["Payload"].read()) for n in range(40)
        ]
        pids = {call.result() for call in calls}
    assert len(pids) <= 3 * STARTING


def test_slow_calls_at_once_run_side_by_side(lab):
    lab.create("patient", "import time\ndef handler(event, context):\n    time.sleep(1)\n", Timeout=30)
    many = 2 * STARTING
    client = lab.account.client("lambda")
    with ThreadPoolExecutor(many) as threads:
        answers = list(threads.map(lambda _: client.invoke(FunctionName="patient")["Payload"].read(), range(many)))
    assert answers == [b"null"] * many

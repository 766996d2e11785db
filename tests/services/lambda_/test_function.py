from __future__ import annotations

import base64
import hashlib
import io
import json
import urllib.error
import urllib.request
import zipfile

import pytest
from botocore.exceptions import ClientError

ECHO = "def handler(event, context):\n    return event\n"


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


def message_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Message"]


def test_create_function_answers_every_setting(lab):
    data = lab.zipped({"index.py": ECHO})
    made = lab.create("settings", Code={"ZipFile": data}, Description="d", Timeout=7, MemorySize=256, Tags={"a": "1"})
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert made["FunctionArn"] == f"arn:aws:lambda:us-east-1:{lab.account.account}:function:settings"
    assert made["CodeSha256"] == base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert made["CodeSize"] == len(data)
    assert (made["Timeout"], made["MemorySize"], made["Version"], made["State"]) == (7, 256, "$LATEST", "Active")
    assert made["LastUpdateStatus"] == "Successful"
    assert made["PackageType"] == "Zip"
    assert made["LastModified"].endswith("+0000")
    found = lab.client.get_function(FunctionName="settings")
    assert found["Tags"] == {"a": "1"}
    assert {**found["Configuration"]} == {key: value for key, value in made.items() if key != "ResponseMetadata"}


def test_create_function_waiters_end(lab):
    lab.create("waited")
    lab.client.get_waiter("function_active_v2").wait(FunctionName="waited")
    lab.client.get_waiter("function_active").wait(FunctionName="waited")
    lab.client.get_waiter("function_updated_v2").wait(FunctionName="waited")
    lab.client.get_waiter("function_exists").wait(FunctionName="waited")


def test_create_function_without_handler_or_runtime_is_refused(lab):
    for settings in ({"Handler": "index.handler"}, {"Runtime": "python3.9"}):
        with pytest.raises(ClientError) as error:
            lab.client.create_function(FunctionName="half", Role=lab.role, Code={"ZipFile": lab.zipped({"a.py": ""})}, **settings)
        assert code_of(error) == "InvalidParameterValueException"
        assert message_of(error) == "Runtime and Handler are mandatory parameters for functions created with deployment packages."


def test_create_function_of_an_existing_name_is_a_conflict(lab):
    lab.create("twice")
    with pytest.raises(ClientError) as error:
        lab.create("twice")
    assert code_of(error) == "ResourceConflictException"
    assert message_of(error) == "Function already exist: twice"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no zip at all", "Could not unzip uploaded file. Please check your file, then try to upload again."),
        (b"PK\x05\x06" + b"\0" * 18, "Uploaded file must be a non-empty zip"),
    ],
)
def test_create_function_with_a_bad_zip_is_refused(lab, data, message):
    with pytest.raises(ClientError) as error:
        lab.create("bad", Code={"ZipFile": data})
    assert code_of(error) == "InvalidParameterValueException"
    assert message_of(error) == message


@pytest.mark.parametrize("name", ["../outside.py", "/etc/absolute.py", "a/../../b.py"])
def test_create_function_refuses_a_zip_that_leaves_its_folder(lab, name):
    with pytest.raises(ClientError, match="Could not unzip"):
        lab.create("escape", Code={"ZipFile": lab.zipped({name: "x"})})


def test_create_function_refuses_too_large_content(lab):
    with pytest.raises(ClientError) as error:
        lab.create("huge", Code={"ZipFile": lab.zipped({"zeros": b"\0" * 262144001})})
    assert message_of(error) == "Unzipped size must be smaller than 262144000 bytes"


def test_create_function_with_a_role_lambda_cannot_take_is_refused(lab):
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    other = lab.iam.create_role(RoleName="for-ec2", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    for role in (other, f"arn:aws:iam::{lab.account.account}:role/missing"):
        with pytest.raises(ClientError) as error:
            lab.create("roleless", Role=role)
        assert code_of(error) == "InvalidParameterValueException"
        assert message_of(error) == "The role defined for the function cannot be assumed by Lambda."


def test_create_function_needs_leave_to_pass_the_role(lab):
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "lambda:*", "Resource": "*"}]}
    user = lab.account.user("no-pass", policy)
    settings = {
        "Runtime": "python3.11",
        "Handler": "index.handler",
        "Role": lab.role,
        "Code": {"ZipFile": lab.zipped({"index.py": ECHO})},
    }
    with pytest.raises(ClientError) as error:
        user.client("lambda").create_function(FunctionName="unpassed", **settings)
    assert code_of(error) == "AccessDeniedException"
    assert "iam:PassRole" in message_of(error)
    grant = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "iam:PassRole",
                "Resource": lab.role,
                "Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}},
            }
        ],
    }
    lab.iam.put_user_policy(UserName="no-pass", PolicyName="pass", PolicyDocument=json.dumps(grant))
    user.client("lambda").create_function(FunctionName="passed", **settings)


@pytest.mark.parametrize("runtime", ["python3.8", "python3.9", "python3.12", "python3.14"])
def test_create_function_accepts_every_python(lab, runtime):
    made = lab.create(f"runtime-{runtime.replace('.', '-')}", Runtime=runtime)
    assert made["Runtime"] == runtime


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"Runtime": "java21"}, "java21 is not available"),
        ({"Runtime": "python2.7"}, "no longer supported for creating"),
        ({"VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}}, "networks are not available"),
        ({"TracingConfig": {"Mode": "Active"}}, "tracing is not available"),
        ({"PackageType": "Image", "Code": {"ImageUri": "x"}}, "is not supported for functions created with container images"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "Reserved keys used in this request: AWS_REGION"),
        ({"Environment": {"Variables": {"LONG": "x" * 4096}}}, "exceeded the 4KB limit"),
    ],
)
def test_create_function_refuses_what_it_cannot_do(lab, settings, words):
    with pytest.raises(ClientError) as error:
        lab.create("unable", **settings)
    assert code_of(error) == "InvalidParameterValueException"
    assert words in message_of(error)


@pytest.mark.parametrize(("member", "value", "limit"), [("Timeout", 901, 900), ("MemorySize", 10241, 10240)])
def test_create_function_limits_time_and_memory(lab, member, value, limit):
    with pytest.raises(ClientError) as error:
        lab.create("beyond", **{member: value})
    assert f"Member must have value less than or equal to {limit}" in message_of(error)


def test_create_function_takes_empty_forms_of_what_is_absent(lab):
    lab.create("forms", VpcConfig={"SubnetIds": [], "SecurityGroupIds": []}, TracingConfig={"Mode": "PassThrough"}, Layers=[])


def test_create_function_from_s3_reads_as_the_caller(lab):
    s3 = lab.account.client("s3")
    s3.create_bucket(Bucket=f"code-{lab.account.account}")
    bucket = f"code-{lab.account.account}"
    s3.put_object(Bucket=bucket, Key="function.zip", Body=lab.zipped({"index.py": "def handler(event, context): return 'from s3'"}))
    lab.create("stored", Code={"S3Bucket": bucket, "S3Key": "function.zip"})
    assert lab.invoke("stored") == "from s3"
    with pytest.raises(ClientError) as error:
        lab.create("missing-key", Code={"S3Bucket": bucket, "S3Key": "nothing.zip"})
    assert code_of(error) == "InvalidParameterValueException"
    assert "S3 Error Code: NoSuchKey" in message_of(error)
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["lambda:*", "iam:PassRole"], "Resource": "*"}]}
    user = lab.account.user("no-s3", policy)
    with pytest.raises(ClientError) as error:
        user.client("lambda").update_function_code(FunctionName="stored", S3Bucket=bucket, S3Key="function.zip")
    assert code_of(error) == "AccessDeniedException"
    assert f"GetObject for {bucket}/function.zip" in message_of(error)


def test_create_function_publishes_when_asked(lab):
    made = lab.create("published", Publish=True)
    assert made["Version"] == "1"
    assert made["FunctionArn"].endswith(":published:1")


def test_get_function_of_what_is_missing(lab):
    arn = f"arn:aws:lambda:us-east-1:{lab.account.account}:function:nothing"
    for operation in ("get_function", "get_function_configuration", "delete_function"):
        with pytest.raises(ClientError) as error:
            getattr(lab.client, operation)(FunctionName="nothing")
        assert code_of(error) == "ResourceNotFoundException"
        assert message_of(error) == f"Function not found: {arn}"
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_get_function_links_to_the_code(lab):
    lab.create("linked", code="SECRET = 1")
    location = lab.client.get_function(FunctionName="linked")["Code"]["Location"]
    with urllib.request.urlopen(location) as answer:
        archive = zipfile.ZipFile(io.BytesIO(answer.read()))
    assert archive.read("index.py") == b"SECRET = 1"
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(location.replace("zip.", "zip.A"))
    assert error.value.code == 403
    error.value.close()


def test_get_function_accepts_every_form_of_a_name(lab):
    made = lab.create("forms-of-name", Publish=True)
    account = lab.account.account
    for name in (
        "forms-of-name",
        "function:forms-of-name",
        f"{account}:function:forms-of-name",
        f"arn:aws:lambda:us-east-1:{account}:function:forms-of-name",
        "forms-of-name:$LATEST",
    ):
        found = lab.client.get_function(FunctionName=name)["Configuration"]
        assert found["Version"] == "$LATEST"
    assert lab.client.get_function(FunctionName="forms-of-name:1")["Configuration"]["FunctionArn"] == made["FunctionArn"]
    assert lab.client.get_function(FunctionName=made["FunctionArn"])["Configuration"]["Version"] == "1"
    with pytest.raises(ClientError) as error:
        lab.client.get_function(FunctionName="forms-of-name:1", Qualifier="2")
    assert message_of(error) == "The derived qualifier from the function name does not match the specified qualifier."
    with pytest.raises(ClientError) as error:
        lab.client.get_function(FunctionName=f"arn:aws:lambda:eu-west-1:{account}:function:forms-of-name")
    assert message_of(error) == "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"


def test_list_functions_pages_to_the_end(new_lab):
    lab = new_lab()
    names = [f"f{number}" for number in range(7)]
    for name in names:
        lab.create(name)
    lab.client.publish_version(FunctionName="f3")
    pages = list(lab.client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3}))
    assert [len(page["Functions"]) for page in pages] == [3, 3, 1]
    assert [item["FunctionName"] for page in pages for item in page["Functions"]] == names
    assert "State" not in pages[0]["Functions"][0]
    pages = list(lab.client.get_paginator("list_functions").paginate(FunctionVersion="ALL", PaginationConfig={"PageSize": 2}))
    found = [(item["FunctionName"], item["Version"]) for page in pages for item in page["Functions"]]
    assert found == [*((name, "$LATEST") for name in names[:4]), ("f3", "1"), *((name, "$LATEST") for name in names[4:])]
    assert all(len(page["Functions"]) <= 2 for page in pages)


def test_functions_are_unseen_from_another_account(lab, other_aws):
    lab.create("private")
    assert other_aws.client("lambda").list_functions()["Functions"] == []
    with pytest.raises(ClientError) as error:
        other_aws.client("lambda").get_function(FunctionName=f"arn:aws:lambda:us-east-1:{lab.account.account}:function:private")
    assert code_of(error) == "AccessDeniedException"


def test_update_function_code_is_run_at_once(lab):
    made = lab.create("changing", code="def handler(event, context): return 1")
    assert lab.invoke("changing") == 1
    data = lab.zipped({"index.py": "def handler(event, context): return 2"})
    dry = lab.client.update_function_code(FunctionName="changing", ZipFile=data, DryRun=True)
    assert dry["CodeSha256"] != made["CodeSha256"]
    assert lab.invoke("changing") == 1
    changed = lab.client.update_function_code(FunctionName="changing", ZipFile=data, Publish=True)
    assert changed["Version"] == "1"
    assert lab.invoke("changing") == 2
    assert lab.invoke("changing", Qualifier="1") == 2
    lab.client.update_function_code(
        FunctionName="changing", ZipFile=lab.zipped({"index.py": "def handler(event, context): return 3"})
    )
    assert lab.invoke("changing") == 3
    assert lab.invoke("changing", Qualifier="1") == 2


def test_update_function_code_checks_the_revision(lab):
    lab.create("revised")
    with pytest.raises(ClientError) as error:
        lab.client.update_function_code(FunctionName="revised", ZipFile=lab.zipped({"a.py": ""}), RevisionId="stale")
    assert code_of(error) == "PreconditionFailedException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412


def test_update_function_code_leaves_no_old_package_behind(server, lab):
    lab.create("packages")
    before = len(list(server.cloud.blobs.names()))
    for number in range(3):
        lab.client.update_function_code(FunctionName="packages", ZipFile=lab.zipped({"index.py": f"N = {number}"}))
    assert len(list(server.cloud.blobs.names())) == before
    lab.client.publish_version(FunctionName="packages")
    lab.client.update_function_code(FunctionName="packages", ZipFile=lab.zipped({"index.py": "N = 9"}))
    assert len(list(server.cloud.blobs.names())) == before + 1
    lab.client.delete_function(FunctionName="packages", Qualifier="1")
    assert len(list(server.cloud.blobs.names())) == before
    lab.client.delete_function(FunctionName="packages")
    assert len(list(server.cloud.blobs.names())) == before - 1


def test_update_function_configuration_keeps_what_is_not_given(lab):
    made = lab.create("partly", Description="old", Environment={"Variables": {"ONE": "1"}})
    changed = lab.client.update_function_configuration(FunctionName="partly", Timeout=9)
    assert (changed["Timeout"], changed["Description"], changed["Environment"]["Variables"]) == (9, "old", {"ONE": "1"})
    assert changed["RevisionId"] != made["RevisionId"]
    changed = lab.client.update_function_configuration(FunctionName="partly", Description="", Environment={"Variables": {}})
    assert "Environment" not in changed
    assert changed["Description"] == ""
    with pytest.raises(ClientError) as error:
        lab.client.update_function_configuration(FunctionName="partly", RevisionId=made["RevisionId"], Timeout=1)
    assert code_of(error) == "PreconditionFailedException"


def test_environment_variables_are_sealed_and_reach_the_handler(server, lab):
    secret = "plaintext-to-be-found-nowhere"
    lab.create(
        "env", "import os\ndef handler(event, context): return os.environ['TOKEN']", Environment={"Variables": {"TOKEN": secret}}
    )
    assert lab.invoke("env") == secret
    lab.client.update_function_configuration(FunctionName="env", Environment={"Variables": {"TOKEN": "other"}})
    assert lab.invoke("env") == "other"
    kept = [path for path in server.config.data_dir.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert kept == []


def test_delete_function_takes_everything_with_it(lab):
    lab.create("doomed", Publish=True)
    lab.client.create_alias(FunctionName="doomed", Name="live", FunctionVersion="1")
    lab.client.add_permission(
        FunctionName="doomed", StatementId="s", Action="lambda:InvokeFunction", Principal="events.amazonaws.com"
    )
    lab.invoke("doomed")
    assert lab.client.delete_function(FunctionName="doomed")["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(ClientError):
        lab.raw(FunctionName="doomed")
    lab.create("doomed")
    assert [item["Version"] for item in lab.client.list_versions_by_function(FunctionName="doomed")["Versions"]] == ["$LATEST"]
    assert lab.client.list_aliases(FunctionName="doomed")["Aliases"] == []
    with pytest.raises(ClientError):
        lab.client.get_policy(FunctionName="doomed")


def test_delete_function_refuses_latest_and_versions_in_use(lab):
    lab.create("kept", Publish=True)
    lab.client.create_alias(FunctionName="kept", Name="live", FunctionVersion="1")
    with pytest.raises(ClientError) as error:
        lab.client.delete_function(FunctionName="kept", Qualifier="$LATEST")
    assert message_of(error) == "$LATEST version cannot be deleted without deleting the function."
    with pytest.raises(ClientError) as error:
        lab.client.delete_function(FunctionName="kept", Qualifier="1")
    assert code_of(error) == "ResourceConflictException"
    lab.client.delete_alias(FunctionName="kept", Name="live")
    lab.client.delete_function(FunctionName="kept", Qualifier="1")
    assert len(lab.client.list_versions_by_function(FunctionName="kept")["Versions"]) == 1

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import eventually

WHICH = "import os\ndef handler(event, context): return [context.function_version, os.environ.get('STAGE')]"


def test_publish_version_freezes_code_and_settings(lab):
    lab.create("frozen", WHICH, Environment={"Variables": {"STAGE": "one"}})
    first = lab.client.publish_version(FunctionName="frozen", Description="the first")
    assert (first["Version"], first["Description"]) == ("1", "the first")
    assert first["FunctionArn"].endswith(":frozen:1")
    assert lab.client.publish_version(FunctionName="frozen")["Version"] == "1"
    lab.client.update_function_configuration(FunctionName="frozen", Environment={"Variables": {"STAGE": "two"}})
    second = lab.client.publish_version(FunctionName="frozen")
    assert second["Version"] == "2"
    assert lab.invoke("frozen", Qualifier="1") == ["1", "one"]
    assert lab.invoke("frozen:2") == ["2", "two"]
    assert lab.invoke("frozen") == ["$LATEST", "two"]


def test_publish_version_checks_what_it_publishes(lab):
    made = lab.create("checked")
    with pytest.raises(ClientError) as error:
        lab.client.publish_version(FunctionName="checked", CodeSha256="other")
    assert error.value.response["Error"]["Code"] == "InvalidParameterValueException"
    assert f"is different from current CodeSHA256 in $LATEST ({made['CodeSha256']})" in error.value.response["Error"]["Message"]
    with pytest.raises(ClientError) as error:
        lab.client.publish_version(FunctionName="checked", RevisionId="stale")
    assert error.value.response["Error"]["Code"] == "PreconditionFailedException"
    with pytest.raises(ClientError) as error:
        lab.client.publish_version(FunctionName="unknown")
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert (
        lab.client.publish_version(FunctionName="checked", CodeSha256=made["CodeSha256"], RevisionId=made["RevisionId"])["Version"]
        == "1"
    )


def test_publish_version_never_gives_a_number_twice(lab):
    lab.create("numbers", Publish=True)
    lab.client.delete_function(FunctionName="numbers", Qualifier="1")
    assert lab.client.publish_version(FunctionName="numbers")["Version"] == "2"


def test_list_versions_by_function_pages_to_the_end(lab):
    lab.create("listed")
    for number in range(1, 12):
        lab.client.update_function_configuration(FunctionName="listed", Description=str(number))
        lab.client.publish_version(FunctionName="listed")
    pages = list(
        lab.client.get_paginator("list_versions_by_function").paginate(FunctionName="listed", PaginationConfig={"PageSize": 4})
    )
    assert [len(page["Versions"]) for page in pages] == [4, 4, 4]
    assert [item["Version"] for page in pages for item in page["Versions"]] == ["$LATEST", *map(str, range(1, 12))]
    assert pages[0]["Versions"][0]["FunctionArn"].endswith(":listed:$LATEST")
    single = list(
        lab.client.get_paginator("list_versions_by_function").paginate(FunctionName="listed", PaginationConfig={"PageSize": 1})
    )
    assert [item["Version"] for page in single for item in page["Versions"]] == ["$LATEST", *map(str, range(1, 12))]


@pytest.fixture(scope="module")
def staged(lab):
    """A function with two versions that tell which they are."""
    lab.create("staged", WHICH, Publish=True)
    lab.client.update_function_configuration(FunctionName="staged", Description="second")
    lab.client.publish_version(FunctionName="staged")
    return "staged"


def test_create_alias_names_a_version(lab, staged):
    made = lab.client.create_alias(FunctionName=staged, Name="live", FunctionVersion="1", Description="d")
    assert made["AliasArn"].endswith(":staged:live")
    assert {
        key: value for key, value in lab.client.get_alias(FunctionName=staged, Name="live").items() if key != "ResponseMetadata"
    } == {key: value for key, value in made.items() if key != "ResponseMetadata"}
    assert lab.invoke(staged, Qualifier="live")[0] == "1"
    answer = lab.raw(FunctionName=made["AliasArn"])
    assert answer["ExecutedVersion"] == "1"
    with pytest.raises(ClientError) as error:
        lab.client.create_alias(FunctionName=staged, Name="live", FunctionVersion="1")
    assert error.value.response["Error"]["Message"] == f"Alias already exists: {made['AliasArn']}"
    assert error.value.response["Error"]["Code"] == "ResourceConflictException"
    with pytest.raises(ClientError) as error:
        lab.client.create_alias(FunctionName=staged, Name="other", FunctionVersion="77")
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_update_alias_moves_it(lab, staged):
    made = lab.client.create_alias(FunctionName=staged, Name="moving", FunctionVersion="1")
    assert lab.invoke(staged, Qualifier="moving")[0] == "1"
    moved = lab.client.update_alias(FunctionName=staged, Name="moving", FunctionVersion="2")
    assert moved["RevisionId"] != made["RevisionId"]
    assert lab.invoke(staged, Qualifier="moving")[0] == "2"
    with pytest.raises(ClientError) as error:
        lab.client.update_alias(FunctionName=staged, Name="moving", RevisionId=made["RevisionId"], FunctionVersion="1")
    assert error.value.response["Error"]["Code"] == "PreconditionFailedException"
    with pytest.raises(ClientError) as error:
        lab.client.update_alias(FunctionName=staged, Name="none", FunctionVersion="1")
    assert error.value.response["Error"]["Message"].startswith("Cannot find alias arn: arn:aws:lambda:")


def test_update_alias_splits_calls_by_weight(lab, staged):
    lab.client.create_alias(
        FunctionName=staged, Name="split", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}}
    )
    # Half of 60: both sides are missed once in 2**59 runs.
    assert {lab.invoke(staged, Qualifier="split")[0] for _ in range(60)} == {"1", "2"}
    lab.client.update_alias(FunctionName=staged, Name="split", RoutingConfig={"AdditionalVersionWeights": {"2": 1.0}})
    assert {lab.invoke(staged, Qualifier="split")[0] for _ in range(10)} == {"2"}
    cleared = lab.client.update_alias(FunctionName=staged, Name="split", RoutingConfig={"AdditionalVersionWeights": {}})
    assert "RoutingConfig" not in cleared
    assert {lab.invoke(staged, Qualifier="split")[0] for _ in range(5)} == {"1"}


@pytest.mark.parametrize(
    ("version", "weights", "words"),
    [
        ("1", {"1": 0.1}, "already included in routing configuration"),
        ("1", {"2": 0.1, "3": 0.1}, "cannot be greater than 1"),
        ("$LATEST", {"2": 0.1}, "$LATEST is not supported for an alias pointing to more than 1 version"),
    ],
)
def test_create_alias_refuses_senseless_weights(lab, staged, version, weights, words):
    with pytest.raises(ClientError) as error:
        lab.client.create_alias(
            FunctionName=staged, Name="senseless", FunctionVersion=version, RoutingConfig={"AdditionalVersionWeights": weights}
        )
    assert words in error.value.response["Error"]["Message"]


def test_list_aliases_pages_and_filters(lab):
    lab.create("aliased", Publish=True)
    for number in range(5):
        lab.client.create_alias(FunctionName="aliased", Name=f"a{number}", FunctionVersion="1" if number % 2 else "$LATEST")
    pages = list(lab.client.get_paginator("list_aliases").paginate(FunctionName="aliased", PaginationConfig={"PageSize": 2}))
    assert [item["Name"] for page in pages for item in page["Aliases"]] == ["a0", "a1", "a2", "a3", "a4"]
    assert [item["Name"] for item in lab.client.list_aliases(FunctionName="aliased", FunctionVersion="1")["Aliases"]] == [
        "a1",
        "a3",
    ]


def test_delete_alias_takes_it_away(lab):
    lab.create("bare", Publish=True)
    lab.client.create_alias(FunctionName="bare", Name="gone", FunctionVersion="1")
    lab.client.delete_alias(FunctionName="bare", Name="gone")
    lab.client.delete_alias(FunctionName="bare", Name="gone")
    with pytest.raises(ClientError) as error:
        lab.client.get_alias(FunctionName="bare", Name="gone")
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_workers_of_a_deleted_function_end(server, lab):
    lab.create("ending", "import os\ndef handler(event, context): return context.log_stream_name")
    lab.invoke("ending")
    workers = server.cloud.memory["lambda"].pool.workers

    def alive() -> list[object]:
        return [worker for worker in list(workers.values()) if worker.target.name == "ending"]

    assert len(alive()) == 1
    lab.client.delete_function(FunctionName="ending")
    eventually(lambda: not alive())

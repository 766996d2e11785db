from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import eventually

COUNTING = """
import os
count = 0
def handler(event, context):
    global count
    count += 1
    return [count, os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], os.getpid()]
"""


def refused(call, code, text, **params):
    with pytest.raises(ClientError) as error:
        call(**params)
    assert error.value.response["Error"]["Code"] == code
    assert text in error.value.response["Error"]["Message"]


def test_put_provisioned_concurrency_config_keeps_workers_warm(server, lab):
    lab.create("warm", COUNTING, Publish=True)
    made = lab.client.put_provisioned_concurrency_config(FunctionName="warm", Qualifier="1", ProvisionedConcurrentExecutions=2)
    assert (made["Status"], made["RequestedProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", 2)

    def found():
        return lab.client.get_provisioned_concurrency_config(FunctionName="warm", Qualifier="1")

    assert eventually(lambda: found()["Status"] == "READY")
    assert found()["AvailableProvisionedConcurrentExecutions"] == 2
    count, how, _ = lab.invoke("warm", Qualifier="1")
    assert (count, how) == (1, "provisioned-concurrency")
    assert lab.invoke("warm")[1] == "on-demand"
    listed = lab.client.list_provisioned_concurrency_configs(FunctionName="warm")["ProvisionedConcurrencyConfigs"]
    assert [one["FunctionArn"].rpartition(":")[2] for one in listed] == ["1"]
    # Who ends is replaced.
    for worker in list(server.cloud.memory["lambda"].pool.workers.values()):
        if worker.target.name == "warm":
            worker.end()
    assert eventually(lambda: found()["Status"] == "READY")
    refused(
        lab.client.put_function_concurrency,
        "InvalidParameterValueException",
        "total provisioned concurrency [2]",
        FunctionName="warm",
        ReservedConcurrentExecutions=1,
    )
    lab.client.delete_provisioned_concurrency_config(FunctionName="warm", Qualifier="1")
    lab.client.delete_provisioned_concurrency_config(FunctionName="warm", Qualifier="1")
    refused(
        lab.client.get_provisioned_concurrency_config,
        "ProvisionedConcurrencyConfigNotFoundException",
        "No Provisioned Concurrency Config",
        FunctionName="warm",
        Qualifier="1",
    )


def test_put_provisioned_concurrency_config_refuses_what_cannot_be(lab):
    lab.create("cold", COUNTING, Publish=True)
    lab.client.create_alias(FunctionName="cold", Name="latest", FunctionVersion="$LATEST")
    put, code = lab.client.put_provisioned_concurrency_config, "InvalidParameterValueException"
    for qualifier in ("$LATEST", "latest"):
        refused(
            put, code, "unpublished function versions", FunctionName="cold", Qualifier=qualifier, ProvisionedConcurrentExecutions=1
        )
    refused(put, "ResourceNotFoundException", "not found", FunctionName="cold", Qualifier="9", ProvisionedConcurrentExecutions=1)
    refused(put, code, "keeps 64 workers", FunctionName="cold", Qualifier="1", ProvisionedConcurrentExecutions=65)
    refused(put, code, "unreserved concurrency", FunctionName="cold", Qualifier="1", ProvisionedConcurrentExecutions=901)
    lab.client.put_function_concurrency(FunctionName="cold", ReservedConcurrentExecutions=1)
    refused(put, code, "reservedConcurrentExecution", FunctionName="cold", Qualifier="1", ProvisionedConcurrentExecutions=2)


def test_put_runtime_management_config_is_kept(lab):
    arn = lab.create("managed", Publish=True)["FunctionArn"].removesuffix(":1")
    assert lab.client.get_runtime_management_config(FunctionName="managed")["UpdateRuntimeOn"] == "Auto"
    made = lab.client.put_runtime_management_config(FunctionName="managed", UpdateRuntimeOn="FunctionUpdate")
    assert (made["UpdateRuntimeOn"], made["FunctionArn"]) == ("FunctionUpdate", f"{arn}:$LATEST")
    assert lab.client.get_runtime_management_config(FunctionName="managed")["UpdateRuntimeOn"] == "FunctionUpdate"
    assert lab.client.get_runtime_management_config(FunctionName="managed", Qualifier="1")["UpdateRuntimeOn"] == "Auto"
    refused(
        lab.client.put_runtime_management_config,
        "InvalidParameterValueException",
        "Manual is not available",
        FunctionName="managed",
        UpdateRuntimeOn="Manual",
        RuntimeVersionArn="arn:aws:lambda:us-east-1::runtime:" + "a" * 64,
    )

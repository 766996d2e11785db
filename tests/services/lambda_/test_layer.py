from __future__ import annotations

import io
import json
import os
import urllib.request
import zipfile
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from pilvi.services.lambda_.precompile import modules_in
from pilvi.testing.server import eventually

PACKAGE = {
    "python/greeting/__init__.py": "WORD = 'hello'",
    "python/lib/python3.11/site-packages/deep.py": "WORD = 'deep'",
    "data/file.txt": "opt",
}


@pytest.fixture(scope="module")
def greeting(lab):
    """A layer with a package in both places that Python functions look at."""
    return lab.client.publish_layer_version(
        LayerName="greeting",
        Content={"ZipFile": lab.zipped(PACKAGE)},
        Description="d",
        CompatibleRuntimes=["python3.11"],
        LicenseInfo="MIT",
    )


def test_publish_layer_version_numbers_and_describes(lab, greeting):
    arn = f"arn:aws:lambda:us-east-1:{lab.account.account}:layer:greeting"
    assert (greeting["LayerArn"], greeting["LayerVersionArn"], greeting["Version"]) == (arn, f"{arn}:1", 1)
    assert (greeting["Description"], greeting["LicenseInfo"], greeting["CompatibleRuntimes"]) == ("d", "MIT", ["python3.11"])
    with urllib.request.urlopen(greeting["Content"]["Location"]) as answer:
        data = answer.read()
    assert len(data) == greeting["Content"]["CodeSize"]
    assert set(zipfile.ZipFile(io.BytesIO(data)).namelist()) == set(PACKAGE)


def test_get_layer_version_by_name_and_arn(lab, greeting):
    for found in (
        lab.client.get_layer_version(LayerName="greeting", VersionNumber=1),
        lab.client.get_layer_version(LayerName=greeting["LayerArn"], VersionNumber=1),
        lab.client.get_layer_version_by_arn(Arn=greeting["LayerVersionArn"]),
    ):
        assert found["Content"]["CodeSha256"] == greeting["Content"]["CodeSha256"]
    with pytest.raises(ClientError) as error:
        lab.client.get_layer_version(LayerName="greeting", VersionNumber=99)
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert error.value.response["Error"]["Message"] == "The resource you requested does not exist."


def test_a_handler_imports_from_its_layers_and_not_without(lab, greeting):
    code = "def handler(event, context):\n    import greeting, deep\n    return [greeting.WORD, deep.WORD, open('/opt/data/file.txt').read()]"
    made = lab.create("layered", code, Layers=[greeting["LayerVersionArn"]])
    assert made["Layers"] == [{"Arn": greeting["LayerVersionArn"], "CodeSize": greeting["Content"]["CodeSize"]}]
    assert lab.invoke("layered") == ["hello", "deep", "opt"]
    changed = lab.client.update_function_configuration(FunctionName="layered", Layers=[])
    assert "Layers" not in changed
    assert lab.failure("layered")["errorType"] == "ModuleNotFoundError"


def test_packages_stay_small_because_libraries_lie_in_the_layer(lab):
    library = lab.zipped({"python/big/__init__.py": "WORD = 'big'", "python/big/data.bin": os.urandom(300_000)})
    layer = lab.client.publish_layer_version(LayerName="big", Content={"ZipFile": library})
    lab.create("small", "import big\ndef handler(event, context):\n    return big.WORD\n", Layers=[layer["LayerVersionArn"]])
    assert lab.invoke("small") == "big"
    found = lab.client.get_function(FunctionName="small")["Configuration"]
    assert found["CodeSize"] < 2000
    assert found["Layers"][0]["CodeSize"] == layer["Content"]["CodeSize"] > 300_000


def test_later_layers_lie_over_earlier_ones(lab, greeting):
    over = lab.client.publish_layer_version(
        LayerName="over", Content={"ZipFile": lab.zipped({"python/greeting/__init__.py": "WORD = 'over'"})}
    )
    code = "def handler(event, context):\n    import greeting, deep\n    return greeting.WORD + deep.WORD"
    lab.create("stacked", code, Layers=[greeting["LayerVersionArn"], over["LayerVersionArn"]])
    assert lab.invoke("stacked") == "overdeep"


def test_layers_have_their_limits(lab, greeting):
    arn = greeting["LayerArn"]
    more = [
        lab.client.publish_layer_version(LayerName=f"more{n}", Content={"ZipFile": lab.zipped({"a": "b"})})["LayerVersionArn"]
        for n in range(5)
    ]
    again = lab.client.publish_layer_version(LayerName="greeting", Content={"ZipFile": lab.zipped(PACKAGE)})
    for layers, words in (
        ([greeting["LayerVersionArn"], *more], "Cannot reference more than 5 layers."),
        ([greeting["LayerVersionArn"], again["LayerVersionArn"]], "Two different versions of the same layer are not allowed"),
        ([f"{arn}:77"], f"Layer version {arn}:77 does not exist."),
    ):
        with pytest.raises(ClientError) as error:
            lab.create("overloaded", Layers=layers)
        assert error.value.response["Error"]["Code"] == "InvalidParameterValueException"
        assert words in error.value.response["Error"]["Message"]


def test_code_and_layers_share_one_limit(lab):
    half = lab.zipped({"zeros": b"\0" * 131072001})
    made = lab.client.publish_layer_version(LayerName="half", Content={"ZipFile": half})
    with pytest.raises(ClientError, match="Function code combined with layers exceeds the maximum allowed size of 262144000 bytes"):
        lab.create("both-halves", Code={"ZipFile": half}, Layers=[made["LayerVersionArn"]])


def test_list_layers_and_versions_page_to_the_end(new_lab):
    lab = new_lab()
    for number in range(5):
        for runtime in ("python3.11", "python3.12"):
            lab.client.publish_layer_version(
                LayerName=f"l{number}", Content={"ZipFile": lab.zipped({"a": runtime})}, CompatibleRuntimes=[runtime]
            )
    pages = list(lab.client.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 2}))
    assert [item["LayerName"] for page in pages for item in page["Layers"]] == ["l0", "l1", "l2", "l3", "l4"]
    assert pages[0]["Layers"][0]["LatestMatchingVersion"]["Version"] == 2
    assert lab.client.list_layers(CompatibleRuntime="python3.11")["Layers"][0]["LatestMatchingVersion"]["Version"] == 1
    pages = list(lab.client.get_paginator("list_layer_versions").paginate(LayerName="l0", PaginationConfig={"PageSize": 1}))
    assert [item["Version"] for page in pages for item in page["LayerVersions"]] == [2, 1]
    assert lab.client.list_layer_versions(LayerName="unknown")["LayerVersions"] == []


def test_delete_layer_version_spares_functions_that_use_it(server, lab):
    made = lab.client.publish_layer_version(LayerName="fading", Content={"ZipFile": lab.zipped({"python/fading.py": "A = 1"})})
    code = "import fading\ndef handler(event, context): return fading.A"
    lab.create("still-using", code, Layers=[made["LayerVersionArn"]])
    before = len(list(server.cloud.blobs.names()))
    lab.client.delete_layer_version(LayerName="fading", VersionNumber=1)
    lab.client.delete_layer_version(LayerName="fading", VersionNumber=1)
    with pytest.raises(ClientError):
        lab.client.get_layer_version(LayerName="fading", VersionNumber=1)
    with pytest.raises(ClientError):
        lab.create("too-late", code, Layers=[made["LayerVersionArn"]])
    assert lab.invoke("still-using") == 1
    assert len(list(server.cloud.blobs.names())) == before
    lab.client.delete_function(FunctionName="still-using")
    assert len(list(server.cloud.blobs.names())) == before - 2
    again = lab.client.publish_layer_version(LayerName="fading", Content={"ZipFile": lab.zipped({"a": "b"})})
    assert again["Version"] == 2


def test_layers_are_shared_by_permission(lab, new_lab, greeting):
    other = new_lab()
    layers = [greeting["LayerVersionArn"]]
    with pytest.raises(ClientError) as error:
        other.create("borrowing", Layers=layers)
    assert error.value.response["Error"]["Code"] == "AccessDeniedException"
    assert "lambda:GetLayerVersion" in error.value.response["Error"]["Message"]
    made = lab.client.add_layer_version_permission(
        LayerName="greeting", VersionNumber=1, StatementId="share", Action="lambda:GetLayerVersion", Principal=other.account.account
    )
    assert json.loads(made["Statement"])["Principal"] == {"AWS": f"arn:aws:iam::{other.account.account}:root"}
    found = lab.client.get_layer_version_policy(LayerName="greeting", VersionNumber=1)
    assert found["RevisionId"] == made["RevisionId"]
    other.create("borrowing", "import greeting\ndef handler(event, context): return greeting.WORD", Layers=layers)
    assert other.invoke("borrowing") == "hello"
    with pytest.raises(ClientError):
        lab.client.remove_layer_version_permission(LayerName="greeting", VersionNumber=1, StatementId="none")
    lab.client.remove_layer_version_permission(LayerName="greeting", VersionNumber=1, StatementId="share")
    with pytest.raises(ClientError):
        lab.client.get_layer_version_policy(LayerName="greeting", VersionNumber=1)
    with pytest.raises(ClientError):
        other.create("borrowing-again", Layers=layers)


def test_what_was_imported_is_compiled_for_later_workers(lab):
    made = lab.client.publish_layer_version(
        LayerName="compiled", Content={"ZipFile": lab.zipped({"python/slow_module.py": "A = 1"})}
    )
    code = "import os, helper, slow_module\ndef handler(event, context): return [os.path.exists(m.__cached__) for m in (helper, slow_module)]"
    lab.create(
        "compiling", Code={"ZipFile": lab.zipped({"index.py": code, "helper.py": ""})}, Layers=[made["LayerVersionArn"]], Timeout=20
    )
    assert lab.invoke("compiling") == [False, False]
    eventually(lambda: lab.invoke("compiling") == [True, True])


def test_modules_named_by_a_worker_are_only_its_packages():
    roots = {"/var/task": Path("/data/one"), "/opt": Path("/data/two")}
    named = ["/var/task/a.py", "/data/two/b.py", "/etc/passwd", "/opt/../etc/x.py", "/opt/c.so", "/var/task/d\n.py", "/opt/b.py"]
    assert modules_in(named, roots) == {"/var/task": ["a.py"], "/opt": ["b.py"]}

"""REST APIs, resources, methods, integrations and their responses, stages and deployments, tags: the drawing board."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError, ParamValidationError


@pytest.fixture
def gateway(aws):
    return aws.client("apigateway")


@pytest.fixture
def api(gateway):
    return gateway.create_rest_api(name="TitanicAPI")["id"]


def root_of(gateway, api):
    return next(r["id"] for r in gateway.get_resources(restApiId=api)["items"] if r["path"] == "/")


def failure(call, **params):
    with pytest.raises(ClientError) as raised:
        call(**params)
    error = raised.value.response
    return error["Error"]["Code"], error["Error"]["Message"], error["ResponseMetadata"]["HTTPStatusCode"]


def mock(gateway, api, resource, verb="GET", status="200"):
    """A complete mock method."""
    gateway.put_method(restApiId=api, resourceId=resource, httpMethod=verb, authorizationType="NONE")
    gateway.put_integration(
        restApiId=api,
        resourceId=resource,
        httpMethod=verb,
        type="MOCK",
        requestTemplates={"application/json": '{"statusCode": 200}'},
    )
    gateway.put_method_response(restApiId=api, resourceId=resource, httpMethod=verb, statusCode=status)
    gateway.put_integration_response(restApiId=api, resourceId=resource, httpMethod=verb, statusCode=status)


# -- APIs ---------------------------------------------------------------------------------------------------------------


def test_create_rest_api_describes_it(gateway):
    made = gateway.create_rest_api(name="TitanicAPI", description="d", tags={"a": "b"}, binaryMediaTypes=["image/png"])
    assert len(made["id"]) == 10
    assert made["endpointConfiguration"]["types"] == ["EDGE"]
    assert made["apiKeySource"] == "HEADER"
    assert made["disableExecuteApiEndpoint"] is False
    got = gateway.get_rest_api(restApiId=made["id"])
    made.pop("ResponseMetadata"), got.pop("ResponseMetadata")
    assert got == made
    (root,) = gateway.get_resources(restApiId=made["id"])["items"]
    assert root == {"id": made["rootResourceId"], "path": "/"}


def test_create_rest_api_refuses_what_it_would_ignore(gateway):
    assert failure(gateway.create_rest_api, name="x", endpointConfiguration={"types": ["PRIVATE"]})[2] == 501
    assert failure(gateway.create_rest_api, name="x", minimumCompressionSize=10)[2] == 501
    assert failure(gateway.create_rest_api, name="x", apiKeySource="AUTHORIZER")[2] == 501
    assert failure(gateway.create_rest_api, name="x", policy="no json")[0] == "BadRequestException"


def test_create_rest_api_clones(gateway, api):
    gateway.create_resource(restApiId=api, parentId=root_of(gateway, api), pathPart="predict")
    copy = gateway.create_rest_api(name="copy", cloneFrom=api)["id"]
    assert sorted(r["path"] for r in gateway.get_resources(restApiId=copy)["items"]) == ["/", "/predict"]


def test_get_rest_apis_pages_to_the_end(gateway):
    made = {gateway.create_rest_api(name=f"a{n}")["id"] for n in range(5)}
    pages = list(gateway.get_paginator("get_rest_apis").paginate(PaginationConfig={"PageSize": 2}))
    assert len(pages) == 3
    assert {api["id"] for page in pages for api in page["items"]} == made


def test_get_rest_api_of_another_account_is_not_found(aws, other_aws, api):
    code, message, status = failure(other_aws.client("apigateway").get_rest_api, restApiId=api)
    assert (code, status) == ("NotFoundException", 404)
    assert message == f"Invalid API identifier specified {other_aws.account}:{api}"


def test_update_rest_api_patches(gateway, api):
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "execute-api:/*"}],
    }
    changed = gateway.update_rest_api(
        restApiId=api,
        patchOperations=[
            {"op": "replace", "path": "/name", "value": "renamed"},
            {"op": "replace", "path": "/description", "value": "new"},
            {"op": "add", "path": "/binaryMediaTypes/image~1png"},
            {"op": "replace", "path": "/endpointConfiguration/types/EDGE", "value": "REGIONAL"},
            {"op": "replace", "path": "/policy", "value": json.dumps(policy)},
        ],
    )
    assert (changed["name"], changed["description"], changed["binaryMediaTypes"]) == ("renamed", "new", ["image/png"])
    assert changed["endpointConfiguration"]["types"] == ["REGIONAL"]
    shown = json.loads(json.loads(f'"{changed["policy"]}"'))
    assert shown["Statement"][0]["Resource"].startswith("arn:aws:execute-api:us-east-1:")
    removed = gateway.update_rest_api(restApiId=api, patchOperations=[{"op": "remove", "path": "/policy"}])
    assert "policy" not in removed
    code, message, _ = failure(
        gateway.update_rest_api, restApiId=api, patchOperations=[{"op": "replace", "path": "/nothing", "value": "x"}]
    )
    assert code == "BadRequestException"
    assert "Invalid patch path  '/nothing' specified for op 'replace'. Must be one of: [" in message


def test_delete_rest_api_removes_all_of_it(gateway, api):
    mock(gateway, api, root_of(gateway, api))
    gateway.create_deployment(restApiId=api, stageName="prod")
    gateway.delete_rest_api(restApiId=api)
    assert failure(gateway.delete_rest_api, restApiId=api)[0] == "NotFoundException"
    assert failure(gateway.get_stages, restApiId=api)[0] == "NotFoundException"


# -- resources ----------------------------------------------------------------------------------------------------------


def test_create_resource_makes_paths(gateway, api):
    root = root_of(gateway, api)
    pets = gateway.create_resource(restApiId=api, parentId=root, pathPart="pets")
    assert (pets["path"], pets["parentId"], pets["pathPart"]) == ("/pets", root, "pets")
    pet = gateway.create_resource(restApiId=api, parentId=pets["id"], pathPart="{id}")
    assert pet["path"] == "/pets/{id}"
    got = gateway.get_resource(restApiId=api, resourceId=pet["id"])
    assert got["path"] == "/pets/{id}"


def test_create_resource_refuses(gateway, api):
    root = root_of(gateway, api)
    greedy = gateway.create_resource(restApiId=api, parentId=root, pathPart="{proxy+}")["id"]
    gateway.create_resource(restApiId=api, parentId=root, pathPart="predict")
    gateway.create_resource(restApiId=api, parentId=root, pathPart="{id}")
    make = gateway.create_resource
    assert failure(make, restApiId=api, parentId=root, pathPart="predict") == (
        "ConflictException",
        "Another resource with the same parent already has this name: predict",
        409,
    )
    assert failure(make, restApiId=api, parentId=root, pathPart="a/b")[:2] == (
        "BadRequestException",
        "Resource's path part only allow a-zA-Z0-9._-: or a valid greedy path variable and curly braces at the beginning and the end.",
    )
    assert failure(make, restApiId=api, parentId=root, pathPart="{other}")[0] == "BadRequestException"
    assert failure(make, restApiId=api, parentId=greedy, pathPart="x")[0] == "BadRequestException"
    assert failure(make, restApiId=api, parentId="nosuch", pathPart="x")[:2] == (
        "NotFoundException",
        "Invalid Resource identifier specified",
    )


def test_get_resources_pages_and_embeds_methods(gateway, api):
    root = root_of(gateway, api)
    for n in range(4):
        gateway.create_resource(restApiId=api, parentId=root, pathPart=f"r{n}")
    mock(gateway, api, root)
    pages = list(gateway.get_paginator("get_resources").paginate(restApiId=api, PaginationConfig={"PageSize": 2}))
    assert [len(page["items"]) for page in pages] == [2, 2, 1]
    (plain,) = [r for r in gateway.get_resources(restApiId=api)["items"] if r["path"] == "/"]
    assert plain["resourceMethods"] == {"GET": {}}
    (whole,) = [r for r in gateway.get_resources(restApiId=api, embed=["methods"])["items"] if r["path"] == "/"]
    assert whole["resourceMethods"]["GET"]["methodIntegration"]["type"] == "MOCK"


def test_update_resource_renames_what_is_below(gateway, api):
    root = root_of(gateway, api)
    a = gateway.create_resource(restApiId=api, parentId=root, pathPart="a")["id"]
    b = gateway.create_resource(restApiId=api, parentId=a, pathPart="b")["id"]
    gateway.update_resource(restApiId=api, resourceId=a, patchOperations=[{"op": "replace", "path": "/pathPart", "value": "z"}])
    assert gateway.get_resource(restApiId=api, resourceId=b)["path"] == "/z/b"
    gateway.update_resource(restApiId=api, resourceId=b, patchOperations=[{"op": "replace", "path": "/parentId", "value": root}])
    assert gateway.get_resource(restApiId=api, resourceId=b)["path"] == "/b"
    assert (
        failure(
            gateway.update_resource,
            restApiId=api,
            resourceId=a,
            patchOperations=[{"op": "replace", "path": "/parentId", "value": a}],
        )[0]
        == "BadRequestException"
    )


def test_delete_resource_takes_its_children(gateway, api):
    root = root_of(gateway, api)
    a = gateway.create_resource(restApiId=api, parentId=root, pathPart="a")["id"]
    gateway.create_resource(restApiId=api, parentId=a, pathPart="b")
    gateway.delete_resource(restApiId=api, resourceId=a)
    assert len(gateway.get_resources(restApiId=api)["items"]) == 1
    assert failure(gateway.delete_resource, restApiId=api, resourceId=a)[0] == "NotFoundException"
    assert failure(gateway.delete_resource, restApiId=api, resourceId=root)[0] == "BadRequestException"


# -- methods and integrations -------------------------------------------------------------------------------------------


def test_put_method_and_its_refusals(gateway, api):
    at = {"restApiId": api, "resourceId": root_of(gateway, api)}
    made = gateway.put_method(**at, httpMethod="POST", authorizationType="NONE", operationName="predict")
    assert (made["httpMethod"], made["authorizationType"], made["apiKeyRequired"]) == ("POST", "NONE", False)
    assert failure(gateway.put_method, **at, httpMethod="POST", authorizationType="NONE")[:2] == (
        "ConflictException",
        "Method already exists for this resource",
    )
    assert failure(gateway.put_method, **at, httpMethod="FETCH", authorizationType="NONE")[0] == "BadRequestException"
    assert failure(gateway.put_method, **at, httpMethod="GET", authorizationType="SOME")[0] == "BadRequestException"
    assert failure(gateway.put_method, **at, httpMethod="GET", authorizationType="AWS_IAM")[2] == 501
    assert (
        failure(gateway.put_method, **at, httpMethod="GET", authorizationType="NONE", requestModels={"a/b": "Own"})[0]
        == "BadRequestException"
    )
    assert failure(gateway.get_method, **at, httpMethod="GET")[:2] == ("NotFoundException", "Invalid Method identifier specified")
    changed = gateway.update_method(
        **at, httpMethod="POST", patchOperations=[{"op": "replace", "path": "/operationName", "value": "p2"}]
    )
    assert changed["operationName"] == "p2"
    gateway.delete_method(**at, httpMethod="POST")
    assert failure(gateway.delete_method, **at, httpMethod="POST")[0] == "NotFoundException"


def test_put_integration_and_its_refusals(aws, gateway, api):
    at = {"restApiId": api, "resourceId": root_of(gateway, api), "httpMethod": "POST"}
    function = f"arn:aws:lambda:us-east-1:{aws.account}:function:predict"
    uri = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{function}/invocations"
    assert failure(gateway.put_integration, **at, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)[:2] == (
        "NotFoundException",
        "Invalid Method identifier specified",
    )
    gateway.put_method(**at, authorizationType="NONE")
    assert failure(gateway.get_integration, **at)[:2] == ("NotFoundException", "Invalid Integration identifier specified")
    made = gateway.put_integration(**at, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    assert made["httpMethod"] == "POST"
    assert (made["passthroughBehavior"], made["timeoutInMillis"], made["cacheNamespace"]) == (
        "WHEN_NO_MATCH",
        29000,
        at["resourceId"],
    )

    def refused(**params):
        return failure(gateway.put_integration, **at, **params)

    assert refused(type="AWS_PROXY", uri=uri)[:2] == ("BadRequestException", "Enumeration value for HttpMethod must be non-empty")
    assert (
        refused(type="AWS_PROXY", integrationHttpMethod="POST", uri=function)[1]
        == "AWS ARN for integration must contain path or action"
    )
    assert refused(type="AWS_PROXY", integrationHttpMethod="POST", uri="predict")[1] == "Invalid ARN specified in the request"
    queue = "arn:aws:apigateway:us-east-1:sqs:path/1/q"
    assert "currently only supports Lambda" in refused(type="AWS_PROXY", integrationHttpMethod="POST", uri=queue)[1]
    assert refused(type="AWS", integrationHttpMethod="POST", uri=queue)[2] == 501
    assert refused(type="HTTP_PROXY", integrationHttpMethod="GET", uri="http://example.com")[2] == 501
    assert refused(type="MOCK", timeoutInMillis=29001)[1] == "Timeout should be between 50 ms and 29000 ms"
    changed = gateway.update_integration(
        **at,
        patchOperations=[
            {"op": "replace", "path": "/timeoutInMillis", "value": "1000"},
            {"op": "add", "path": "/requestTemplates/application~1json", "value": "{}"},
        ],
    )
    assert (changed["timeoutInMillis"], changed["requestTemplates"]) == (1000, {"application/json": "{}"})
    gateway.delete_integration(**at)
    assert failure(gateway.delete_integration, **at)[0] == "NotFoundException"


def test_responses_must_be_declared(gateway, api):
    at = {"restApiId": api, "resourceId": root_of(gateway, api), "httpMethod": "OPTIONS"}
    gateway.put_method(**at, authorizationType="NONE")
    gateway.put_integration(**at, type="MOCK")
    header = "method.response.header.Access-Control-Allow-Origin"
    assert failure(gateway.put_integration_response, **at, statusCode="200")[:2] == (
        "NotFoundException",
        "Invalid Response status code specified",
    )
    gateway.put_method_response(**at, statusCode="200", responseModels={"application/json": "Empty"})
    assert failure(gateway.put_method_response, **at, statusCode="200")[:2] == (
        "ConflictException",
        "Response already exists for this resource",
    )
    code, message, _ = failure(gateway.put_integration_response, **at, statusCode="200", responseParameters={header: "'*'"})
    assert code == "BadRequestException"
    assert message.endswith(f"[Invalid mapping expression parameter specified: {header}]")
    gateway.update_method_response(
        **at, statusCode="200", patchOperations=[{"op": "add", "path": f"/responseParameters/{header}", "value": "false"}]
    )
    gateway.put_integration_response(**at, statusCode="200", responseParameters={header: "'*'"}, selectionPattern="")
    assert gateway.get_integration_response(**at, statusCode="200")["responseParameters"] == {header: "'*'"}
    changed = gateway.update_integration_response(
        **at, statusCode="200", patchOperations=[{"op": "replace", "path": "/selectionPattern", "value": "2.."}]
    )
    assert changed["selectionPattern"] == "2.."
    assert (
        failure(
            gateway.update_integration_response,
            **at,
            statusCode="200",
            patchOperations=[{"op": "replace", "path": "/selectionPattern", "value": "(a+)+"}],
        )[0]
        == "BadRequestException"
    )
    gateway.delete_integration_response(**at, statusCode="200")
    assert failure(gateway.get_integration_response, **at, statusCode="200")[0] == "NotFoundException"
    gateway.delete_method_response(**at, statusCode="200")
    assert failure(gateway.get_method_response, **at, statusCode="200")[0] == "NotFoundException"


def test_get_models_gives_the_two_of_every_api(gateway, api):
    assert [model["name"] for model in gateway.get_models(restApiId=api)["items"]] == ["Empty", "Error"]
    assert json.loads(gateway.get_model(restApiId=api, modelName="Error")["schema"])["title"] == "Error Schema"
    assert failure(gateway.get_model, restApiId=api, modelName="Own")[0] == "NotFoundException"


# -- deployments and stages ---------------------------------------------------------------------------------------------


def test_create_deployment_needs_a_complete_api(gateway, api):
    assert failure(gateway.create_deployment, restApiId=api, stageName="prod")[:2] == (
        "BadRequestException",
        "The REST API doesn't contain any methods",
    )
    gateway.put_method(restApiId=api, resourceId=root_of(gateway, api), httpMethod="GET", authorizationType="NONE")
    assert failure(gateway.create_deployment, restApiId=api)[:2] == ("BadRequestException", "No integration defined for method")
    assert failure(gateway.create_deployment, restApiId=api, stageName="a b")[1] == "Stage name only allows a-zA-Z0-9_"


def test_create_deployment_with_a_resource_fails_in_the_client(gateway, api):
    with pytest.raises(ParamValidationError):
        gateway.create_deployment(restApiId=api, resourceId="x", stageName="prod")


def test_deployments_live_and_end(gateway, api):
    root = root_of(gateway, api)
    mock(gateway, api, root)
    first = gateway.create_deployment(restApiId=api, stageName="prod", description="one", variables={"a": "1"})
    second = gateway.create_deployment(restApiId=api, description="two")
    assert {d["id"] for d in gateway.get_deployments(restApiId=api)["items"]} == {first["id"], second["id"]}
    pages = list(gateway.get_paginator("get_deployments").paginate(restApiId=api, PaginationConfig={"PageSize": 1}))
    assert [len(page["items"]) for page in pages] == [1, 1]
    got = gateway.get_deployment(restApiId=api, deploymentId=first["id"], embed=["apisummary"])
    assert got["apiSummary"] == {"/": {"GET": {"authorizationType": "NONE", "apiKeyRequired": False}}}
    assert (
        gateway.update_deployment(
            restApiId=api, deploymentId=second["id"], patchOperations=[{"op": "replace", "path": "/description", "value": "2"}]
        )["description"]
        == "2"
    )
    assert failure(gateway.delete_deployment, restApiId=api, deploymentId=first["id"])[:2] == (
        "BadRequestException",
        "Active stages pointing to this deployment must be moved or deleted",
    )
    stage = gateway.update_stage(
        restApiId=api,
        stageName="prod",
        patchOperations=[
            {"op": "replace", "path": "/deploymentId", "value": second["id"]},
            {"op": "replace", "path": "/variables/b", "value": "2"},
        ],
    )
    assert (stage["deploymentId"], stage["variables"]) == (second["id"], {"a": "1", "b": "2"})
    gateway.delete_deployment(restApiId=api, deploymentId=first["id"])
    assert failure(gateway.get_deployment, restApiId=api, deploymentId=first["id"])[:2] == (
        "NotFoundException",
        "Invalid Deployment identifier specified",
    )


def test_stages_live_and_end(gateway, api):
    mock(gateway, api, root_of(gateway, api))
    deployment = gateway.create_deployment(restApiId=api)["id"]
    made = gateway.create_stage(
        restApiId=api, stageName="dev", deploymentId=deployment, description="d", variables={"x": "y"}, tags={"t": "1"}
    )
    assert (made["stageName"], made["deploymentId"], made["cacheClusterStatus"]) == ("dev", deployment, "NOT_AVAILABLE")
    assert failure(gateway.create_stage, restApiId=api, stageName="dev", deploymentId=deployment)[:2] == (
        "ConflictException",
        "Stage already exists",
    )
    assert failure(gateway.create_stage, restApiId=api, stageName="x", deploymentId="none")[0] == "BadRequestException"
    assert failure(gateway.create_stage, restApiId=api, stageName="x", deploymentId=deployment, tracingEnabled=True)[2] == 501
    gateway.create_deployment(restApiId=api, stageName="prod")
    assert {s["stageName"] for s in gateway.get_stages(restApiId=api)["item"]} == {"dev", "prod"}
    assert [s["stageName"] for s in gateway.get_stages(restApiId=api, deploymentId=deployment)["item"]] == ["dev"]
    assert (
        failure(
            gateway.update_stage,
            restApiId=api,
            stageName="dev",
            patchOperations=[{"op": "replace", "path": "/*/*/throttling/rateLimit", "value": "1"}],
        )[2]
        == 501
    )
    gateway.delete_stage(restApiId=api, stageName="dev")
    assert failure(gateway.get_stage, restApiId=api, stageName="dev")[:2] == (
        "NotFoundException",
        "Invalid stage identifier specified",
    )


def test_tags_of_apis_and_stages(gateway, api):
    mock(gateway, api, root_of(gateway, api))
    gateway.create_deployment(restApiId=api, stageName="prod")
    for arn in (f"arn:aws:apigateway:us-east-1::/restapis/{api}", f"arn:aws:apigateway:us-east-1::/restapis/{api}/stages/prod"):
        gateway.tag_resource(resourceArn=arn, tags={"a": "1", "b": "2"})
        gateway.untag_resource(resourceArn=arn, tagKeys=["a"])
        assert gateway.get_tags(resourceArn=arn)["tags"] == {"b": "2"}
    assert gateway.get_stage(restApiId=api, stageName="prod")["tags"] == {"b": "2"}
    assert failure(gateway.get_tags, resourceArn="arn:aws:apigateway:us-east-1::/restapis/none")[0] == "NotFoundException"

"""Which permission each operation needs: the HTTP verb as the action, the path as the resource.

Source: API Gateway Developer Guide, "Control access to an API with IAM permissions", `arn:aws:apigateway:REGION::/restapis/...`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pilvi.core.service import Access, Context

API = "/restapis/{restApiId}"
RESOURCE = API + "/resources/{resourceId}"
METHOD = RESOURCE + "/methods/{httpMethod}"
INTEGRATION = METHOD + "/integration"
PLAN = "/usageplans/{usagePlanId}"

PATHS: Mapping[str, tuple[str, str]] = {
    "CreateRestApi": ("POST", "/restapis"),
    "GetRestApis": ("GET", "/restapis"),
    "GetRestApi": ("GET", API),
    "UpdateRestApi": ("PATCH", API),
    "DeleteRestApi": ("DELETE", API),
    "CreateResource": ("POST", API + "/resources/{parentId}"),
    "GetResources": ("GET", API + "/resources"),
    "GetResource": ("GET", RESOURCE),
    "UpdateResource": ("PATCH", RESOURCE),
    "DeleteResource": ("DELETE", RESOURCE),
    "PutMethod": ("PUT", METHOD),
    "GetMethod": ("GET", METHOD),
    "UpdateMethod": ("PATCH", METHOD),
    "DeleteMethod": ("DELETE", METHOD),
    "TestInvokeMethod": ("POST", METHOD),
    "PutMethodResponse": ("PUT", METHOD + "/responses/{statusCode}"),
    "GetMethodResponse": ("GET", METHOD + "/responses/{statusCode}"),
    "UpdateMethodResponse": ("PATCH", METHOD + "/responses/{statusCode}"),
    "DeleteMethodResponse": ("DELETE", METHOD + "/responses/{statusCode}"),
    "PutIntegration": ("PUT", INTEGRATION),
    "GetIntegration": ("GET", INTEGRATION),
    "UpdateIntegration": ("PATCH", INTEGRATION),
    "DeleteIntegration": ("DELETE", INTEGRATION),
    "PutIntegrationResponse": ("PUT", INTEGRATION + "/responses/{statusCode}"),
    "GetIntegrationResponse": ("GET", INTEGRATION + "/responses/{statusCode}"),
    "UpdateIntegrationResponse": ("PATCH", INTEGRATION + "/responses/{statusCode}"),
    "DeleteIntegrationResponse": ("DELETE", INTEGRATION + "/responses/{statusCode}"),
    "CreateAuthorizer": ("POST", API + "/authorizers"),
    "GetAuthorizers": ("GET", API + "/authorizers"),
    "GetAuthorizer": ("GET", API + "/authorizers/{authorizerId}"),
    "UpdateAuthorizer": ("PATCH", API + "/authorizers/{authorizerId}"),
    "DeleteAuthorizer": ("DELETE", API + "/authorizers/{authorizerId}"),
    "CreateRequestValidator": ("POST", API + "/requestvalidators"),
    "GetRequestValidators": ("GET", API + "/requestvalidators"),
    "GetRequestValidator": ("GET", API + "/requestvalidators/{requestValidatorId}"),
    "UpdateRequestValidator": ("PATCH", API + "/requestvalidators/{requestValidatorId}"),
    "DeleteRequestValidator": ("DELETE", API + "/requestvalidators/{requestValidatorId}"),
    "CreateModel": ("POST", API + "/models"),
    "UpdateModel": ("PATCH", API + "/models/{modelName}"),
    "DeleteModel": ("DELETE", API + "/models/{modelName}"),
    "GetModels": ("GET", API + "/models"),
    "GetModel": ("GET", API + "/models/{modelName}"),
    "CreateDeployment": ("POST", API + "/deployments"),
    "GetDeployments": ("GET", API + "/deployments"),
    "GetDeployment": ("GET", API + "/deployments/{deploymentId}"),
    "UpdateDeployment": ("PATCH", API + "/deployments/{deploymentId}"),
    "DeleteDeployment": ("DELETE", API + "/deployments/{deploymentId}"),
    "CreateStage": ("POST", API + "/stages"),
    "GetStages": ("GET", API + "/stages"),
    "GetStage": ("GET", API + "/stages/{stageName}"),
    "UpdateStage": ("PATCH", API + "/stages/{stageName}"),
    "DeleteStage": ("DELETE", API + "/stages/{stageName}"),
    "CreateApiKey": ("POST", "/apikeys"),
    "GetApiKeys": ("GET", "/apikeys"),
    "GetApiKey": ("GET", "/apikeys/{apiKey}"),
    "UpdateApiKey": ("PATCH", "/apikeys/{apiKey}"),
    "DeleteApiKey": ("DELETE", "/apikeys/{apiKey}"),
    "CreateUsagePlan": ("POST", "/usageplans"),
    "GetUsagePlans": ("GET", "/usageplans"),
    "GetUsagePlan": ("GET", PLAN),
    "UpdateUsagePlan": ("PATCH", PLAN),
    "DeleteUsagePlan": ("DELETE", PLAN),
    "CreateUsagePlanKey": ("POST", PLAN + "/keys"),
    "GetUsagePlanKeys": ("GET", PLAN + "/keys"),
    "GetUsagePlanKey": ("GET", PLAN + "/keys/{keyId}"),
    "DeleteUsagePlanKey": ("DELETE", PLAN + "/keys/{keyId}"),
    "GetUsage": ("GET", PLAN + "/usage"),
    "GetTags": ("GET", "/tags/{resourceArn}"),
    "TagResource": ("PUT", "/tags/{resourceArn}"),
    "UntagResource": ("DELETE", "/tags/{resourceArn}"),
}


def needed(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """One verb on one path. An operation without a row is not built here and needs every right."""
    verb, template = PATHS.get(operation, ("*", "/*"))
    path = template.format_map({key: quote(value, safe="") if isinstance(value, str) else "" for key, value in req.items()})
    return (Access(f"apigateway:{verb}", ctx.arn(path, account="")),)

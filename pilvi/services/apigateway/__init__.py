"""API Gateway (REST APIs): APIs are drawn up, frozen by a deployment, and served from a stage's own URL."""

from __future__ import annotations

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, LimitExceeded, NotFound
from pilvi.core.service import Service
from pilvi.services.apigateway import (
    api_key,
    authorizer,
    deployment,
    integration,
    integration_response,
    method,
    method_response,
    model,
    request_validator,
    resource,
    rest_api,
    stage,
    tag,
    test_invoke,
    usage,
    usage_plan,
)
from pilvi.services.apigateway.access import needed
from pilvi.services.apigateway.inside import invoke
from pilvi.services.apigateway.site import execute

service = Service(
    "apigateway",
    rest_api.ops,
    resource.ops,
    method.ops,
    method_response.ops,
    integration.ops,
    integration_response.ops,
    model.ops,
    request_validator.ops,
    deployment.ops,
    stage.ops,
    tag.ops,
    test_invoke.ops,
    authorizer.ops,
    api_key.ops,
    usage_plan.ops,
    usage.ops,
    errors={
        NotFound: "NotFoundException",
        AlreadyExists: "ConflictException",
        Conflict: "ConflictException",
        Invalid: "BadRequestException",
        LimitExceeded: "LimitExceededException",
    },
    access=needed,
    sites={"execute-api": execute},
    inside={"Invoke": invoke},
)

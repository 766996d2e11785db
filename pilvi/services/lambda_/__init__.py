"""AWS Lambda: functions, versions, aliases, layers, permissions, and running them."""

from pilvi.core.errors import AlreadyExists, Conflict, Denied, InUse, Invalid, LimitExceeded, NotFound, Unavailable
from pilvi.core.service import Service
from pilvi.services.lambda_ import (
    alias,
    concurrency,
    event_invoke_config,
    event_source_mapping,
    function,
    function_url,
    invoke,
    layer,
    permission,
    provisioned_concurrency_config,
    recursion_config,
    runtime_management_config,
    tag,
    version,
)
from pilvi.services.lambda_.access import access
from pilvi.services.lambda_.engine import close_engine
from pilvi.services.lambda_.runtime_api import runtime_api

service = Service(
    "lambda",
    function.ops,
    version.ops,
    alias.ops,
    layer.ops,
    permission.ops,
    concurrency.ops,
    event_invoke_config.ops,
    event_source_mapping.ops,
    function_url.ops,
    recursion_config.ops,
    runtime_management_config.ops,
    provisioned_concurrency_config.ops,
    tag.ops,
    invoke.ops,
    errors={
        NotFound: "ResourceNotFoundException",
        AlreadyExists: "ResourceConflictException",
        Conflict: "ResourceConflictException",
        InUse: "ResourceConflictException",
        Invalid: "InvalidParameterValueException",
        LimitExceeded: "InvalidParameterValueException",
        Denied: "AccessDeniedException",
        Unavailable: "ServiceException",
    },
    access=access,
    sites={"runtime-api": runtime_api, "function-url": function_url.function_url},
    close=close_engine,
)

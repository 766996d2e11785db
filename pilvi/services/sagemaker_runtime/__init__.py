"""SageMaker's runtime API: requests to models that are in service."""

from __future__ import annotations

from pilvi.core.errors import Denied, Invalid, NotFound, Unavailable
from pilvi.core.service import Service
from pilvi.services.sagemaker_runtime import invoke
from pilvi.services.sagemaker_runtime.access import access

service = Service(
    "sagemaker-runtime",
    invoke.ops,
    errors={
        NotFound: "ValidationError",
        Invalid: "ValidationError",
        Denied: "AccessDeniedException",
        Unavailable: "ServiceUnavailable",
    },
    access=access,
)

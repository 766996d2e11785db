"""Which permission a request to a model needs.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon SageMaker".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.service import Access, Context

_ACTIONS = {"InvokeEndpointWithResponseStream": "InvokeEndpoint"}
_CONDITIONS = {
    "TargetModel": "sagemaker:TargetModel",
}


def access(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """One, on the endpoint: streamed requests need what others need, too."""
    arn = ctx.arn(f"endpoint/{req['EndpointName'].lower()}", service="sagemaker")
    context = {key: req[member] for member, key in _CONDITIONS.items() if req.get(member)}
    name = _ACTIONS.get(operation)
    found = Access(f"sagemaker:{operation}", arn, context=context)
    return (found,) if name is None else (found, Access(f"sagemaker:{name}", arn, context=context))

"""The execution role of a function, as Lambda itself takes it: to poll sources, and to send results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.core.principal import Principal
from pilvi.core.service import Context

if TYPE_CHECKING:
    from pilvi.auth.identity import Identity
    from pilvi.core.service import Cloud
    from pilvi.services.lambda_.names import FunctionRef

SERVICE = "lambda.amazonaws.com"


def acting_as(cloud: Cloud, ref: FunctionRef, role: str) -> tuple[Context, Identity]:
    """A context of the role, and its credentials. Denied when it is gone or does not trust Lambda."""
    principal = Principal("service", ref.account, "", SERVICE, SERVICE, source_arn=ref.arn)
    identity = cloud.identities.assume_role(principal, role, ref.name[:64])
    ctx = Context(cloud, principal=identity.principal, account=ref.account, region=ref.region, service="lambda", identity=identity)
    return ctx, identity

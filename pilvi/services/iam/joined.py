"""All nouns of IAM joined into the service."""

from pilvi.core.errors import AlreadyExists, Conflict, Denied, InUse, Invalid, LimitExceeded, NotFound
from pilvi.core.service import Service
from pilvi.services.iam import (
    access_key,
    account,
    attachment,
    group,
    inline_policy,
    instance_profile,
    mfa_device,
    permissions_boundary,
    policy,
    role,
    service_linked_role,
    simulation,
    user,
)
from pilvi.services.iam.access import access

service = Service(
    "iam",
    user.ops,
    access_key.ops,
    mfa_device.ops,
    group.ops,
    role.ops,
    policy.ops,
    attachment.ops,
    inline_policy.ops,
    permissions_boundary.ops,
    instance_profile.ops,
    service_linked_role.ops,
    account.ops,
    simulation.ops,
    access=access,
    errors={
        NotFound: "NoSuchEntity",
        AlreadyExists: "EntityAlreadyExists",
        InUse: "DeleteConflict",
        LimitExceeded: "LimitExceeded",
        Conflict: "ConcurrentModification",
        Invalid: "ValidationError",
        Denied: "AccessDenied",
    },
)

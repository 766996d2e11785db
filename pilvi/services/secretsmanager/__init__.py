"""Secrets Manager: values that programs ask for by name, versions and labels, rotation, replicas."""

from __future__ import annotations

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, LimitExceeded, NotFound
from pilvi.core.service import Service
from pilvi.services.secretsmanager import password, replication, resource_policy, rotation, secret, tag, value
from pilvi.services.secretsmanager.access import needed

service = Service(
    "secretsmanager",
    secret.ops,
    value.ops,
    tag.ops,
    resource_policy.ops,
    rotation.ops,
    replication.ops,
    password.ops,
    errors={
        NotFound: "ResourceNotFoundException",
        AlreadyExists: "ResourceExistsException",
        Conflict: "InvalidRequestException",
        Invalid: "InvalidParameterException",
        LimitExceeded: "LimitExceededException",
    },
    access=needed,
)

"""ECR: repositories of container images, through the API and through the registry protocol that container clients speak."""

from __future__ import annotations

from pilvi.core.errors import AlreadyExists, Invalid, LimitExceeded, NotFound, Unavailable
from pilvi.core.service import Service
from pilvi.services.ecr import (
    authorization,
    image,
    layer,
    lifecycle_policy,
    pull_through,
    registry_policy,
    replication,
    repository,
    repository_policy,
    scanning,
    tag,
)
from pilvi.services.ecr.access import needed
from pilvi.services.ecr.shelf import visit

service = Service(
    "ecr",
    repository.ops,
    repository_policy.ops,
    tag.ops,
    image.ops,
    layer.ops,
    authorization.ops,
    lifecycle_policy.ops,
    replication.ops,
    registry_policy.ops,
    pull_through.ops,
    scanning.ops,
    errors={
        NotFound: "RepositoryNotFoundException",
        AlreadyExists: "RepositoryAlreadyExistsException",
        Invalid: "InvalidParameterException",
        LimitExceeded: "LimitExceededException",
        Unavailable: "ServerException",
    },
    access=needed,
    sites={"registry": visit},
)

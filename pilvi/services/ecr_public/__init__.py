"""ECR Public: repositories that anyone may pull from, without credentials."""

from __future__ import annotations

from pilvi.core.errors import AlreadyExists, Invalid, NotFound, Unavailable
from pilvi.core.service import Service
from pilvi.services.ecr_public import image, layer, registry, repository
from pilvi.services.ecr_public.access import needed
from pilvi.services.ecr_public.shelf import visit

service = Service(
    "ecr-public",
    repository.ops,
    registry.ops,
    image.ops,
    layer.ops,
    errors={
        NotFound: "RepositoryNotFoundException",
        AlreadyExists: "RepositoryAlreadyExistsException",
        Invalid: "InvalidParameterException",
        Unavailable: "ServerException",
    },
    access=needed,
    sites={"registry": visit},
)

"""ECR's errors in AWS's words. Source: messages that ECR answers, as users and tools quote them."""

from __future__ import annotations

from collections.abc import Sequence

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context


def no_repository(ctx: Context, name: str) -> ServiceError:
    return ServiceError(
        "RepositoryNotFoundException",
        f"The repository with name '{name}' does not exist in the registry with id '{ctx.account}'",
    )


def repository_exists(ctx: Context, name: str) -> ServiceError:
    return ServiceError(
        "RepositoryAlreadyExistsException",
        f"The repository with name '{name}' already exists in the registry with id '{ctx.account}'",
    )


def not_empty(ctx: Context, name: str) -> ServiceError:
    return ServiceError(
        "RepositoryNotEmptyException",
        f"The repository with name '{name}' in registry with id '{ctx.account}' cannot be deleted because it still contains images",
    )


def no_image(ctx: Context, name: str, image: dict[str, str] | None) -> ServiceError:
    digest, tag = (image or {}).get("imageDigest") or "null", (image or {}).get("imageTag") or "null"
    return ServiceError(
        "ImageNotFoundException",
        f"The image with imageId {{imageDigest:'{digest}', imageTag:'{tag}'}} does not exist within the repository with name '{name}' "
        f"in the registry with id '{ctx.account}'",
    )


def image_exists(ctx: Context, name: str, digest: str, tag: str) -> ServiceError:
    where = f"already exists in the repository with name '{name}' in registry with id '{ctx.account}'"
    what = f"Image with digest '{digest}' and tag '{tag}'" if tag else f"Image with digest '{digest}'"
    return ServiceError("ImageAlreadyExistsException", f"{what} {where}")


def tag_taken(name: str, tag: str) -> ServiceError:
    return ServiceError(
        "ImageTagAlreadyExistsException",
        f"The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten because the tag is immutable.",
    )


def missing(ctx: Context, code: str, what: str, name: str, digests: Sequence[str]) -> ServiceError:
    return ServiceError(
        code,
        f"{what} with digests '[{', '.join(digests)}]' required for pushing image into repository with name '{name}' in the registry "
        f"with id '{ctx.account}' do not exist",
    )


def bad_parameter(name: str, reason: str) -> ServiceError:
    return ServiceError("InvalidParameterException", f"Invalid parameter at '{name}' failed to satisfy constraint: '{reason}'")


def no_upload(ctx: Context, name: str, upload: str) -> ServiceError:
    return ServiceError(
        "UploadNotFoundException",
        f"The upload with upload id '{upload}' does not exist within the repository with name '{name}' in the registry with id "
        f"'{ctx.account}'",
    )

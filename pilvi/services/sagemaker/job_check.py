"""What requests for jobs, notebooks and Studio refuse alike: roles that may not be taken, and folders that are not a program's own."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import PurePosixPath

from pilvi.core.arn import Arn
from pilvi.core.errors import Invalid, PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.services.sagemaker.access import PRINCIPAL

NOT_BUILT = "is not supported by this server yet."
SESSION = "SageMaker"
"""The role session's name inside jobs and notebooks."""
_SYSTEM = (
    "/bin", "/dev", "/etc", "/gnu", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/opt/pilvi", "/proc", "/run", "/sbin", "/sys", "/usr",
)  # fmt: skip


def check_passed(ctx: Context, role: str) -> None:
    """A role of another account is never passed."""
    if (arn := Arn.parse(role)) is not None and arn.account != ctx.account:
        raise ServiceError("AccessDeniedException", "Cross-account pass role is not allowed.")


def as_role(ctx: Context, role: str, arn: str) -> Context:
    """SageMaker under a role, for the resource of this ARN. Invalid when the role is not there or does not let SageMaker in."""
    try:
        return ctx.as_service(PRINCIPAL, source_arn=arn).as_role(role, SESSION)
    except PilviError as error:
        raise Invalid(
            f"Could not assume role {role}. Please ensure that the role exists and allows principal '{PRINCIPAL}' to assume the role."
        ) from error


def plain(path: str) -> str:
    """Without //, . and .."""
    return posixpath.normpath(path.replace("//", "/"))


def is_below(path: str, places: Sequence[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(place) for place in places)


def is_system(path: str) -> bool:
    """Whether a folder belongs to the operating system, or to what the server shows to programs."""
    return is_below(plain(path), _SYSTEM)

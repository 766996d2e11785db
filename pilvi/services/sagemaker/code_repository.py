"""Code repositories: names for Git repositories that notebooks are made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Invalid, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker.job_kind import Record, one_page
from pilvi.services.sagemaker.notebook_git import NOUN
from pilvi.services.sagemaker.tag import tagging, untagging

ops = Operations()

_NAME = f"{NOUN}Name"


@ops
def create_code_repository(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a Git repository a name.

    req: CodeRepositoryName (1-63), GitConfig with RepositoryUrl (https), Branch, SecretArn (a secret with username and password).
    Errors: ValidationException - the name is taken.
    Source: SageMaker API reference.
    Differs: the address is first used when a notebook starts, as on AWS; a CodeCommit address leads where it leads.
    """
    arn, now = _arn(ctx, req[_NAME]), ctx.clock.now()
    record = {_NAME: req[_NAME], f"{NOUN}Arn": arn, "GitConfig": req["GitConfig"], "CreationTime": now, "LastModifiedTime": now}
    try:
        ctx.write(ctx.records(NOUN).insertion(req[_NAME].lower(), record), *tagging(ctx, arn, req.get("Tags")))
    except AlreadyExists:
        raise Invalid(f"Cannot create a duplicate CodeRepository ({arn})") from None
    return {f"{NOUN}Arn": arn}


@ops
def describe_code_repository(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One code repository.

    Errors: ValidationException - there is none of this name.
    """
    return _found(ctx, req)


@ops
def list_code_repositories(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Code repositories, a page at a time, filtered by name and times, sorted by Name, CreationTime or LastModifiedTime.

    Errors: ValidationException - a foreign token.
    """
    page, more = one_page(ctx.records(NOUN).all(), req, NOUN, by="Name", order="Ascending")
    return {f"{NOUN}SummaryList": page, "NextToken": more}


@ops
def update_code_repository(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change the secret that a repository is read with; notebooks have it from their next start.

    req: GitConfig with SecretArn; '' takes it away.
    Errors: ValidationException - there is none of this name.
    """
    record = _found(ctx, req)
    secret = (req.get("GitConfig") or {}).get("SecretArn")

    def changed(value: Record) -> Record:
        config = {key: kept for key, kept in value["GitConfig"].items() if key != "SecretArn" or secret is None}
        return {**value, "GitConfig": {**config, **({"SecretArn": secret} if secret else {})}, "LastModifiedTime": ctx.clock.now()}

    ctx.records(NOUN).update(req[_NAME].lower(), changed)
    return {f"{NOUN}Arn": record[f"{NOUN}Arn"]}


@ops
def delete_code_repository(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a name. Clones stay where they are; notebooks that name it cannot start until they name another.

    Errors: ValidationException - there is none of this name.
    """
    record = _found(ctx, req)
    ctx.write(ctx.records(NOUN).deletion(req[_NAME].lower()), *untagging(ctx, record[f"{NOUN}Arn"]))


def _arn(ctx: Context, name: str) -> str:
    return ctx.arn(f"code-repository/{name.lower()}")


def _found(ctx: Context, req: Mapping[str, Any]) -> Record:
    record = ctx.records(NOUN).find(req[_NAME].lower())
    if record is None:
        raise ServiceError("ValidationException", f"Cannot find CodeRepository {_arn(ctx, req[_NAME])}.")
    return record

"""Values: versions of a secret, and the staging labels by which programs ask for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pilvi.core.errors import Conflict, PilviError, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.secretsmanager.access import on_secret
from pilvi.services.secretsmanager.errors import invalid_parameter, invalid_request, no_value, token_in_use
from pilvi.services.secretsmanager.filtering import fits, paged
from pilvi.services.secretsmanager.replication import follow, primary
from pilvi.services.secretsmanager.secrets import (
    CURRENT,
    Secret,
    find,
    only_kept,
    open_value,
    owner_of,
    sealed_value,
    table_of,
    version_with,
    with_stage,
)
from pilvi.storage.records import Update

ops = Operations()

MOST_STAGES = 20


@ops
def get_secret_value(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A secret's value.

    req: SecretId, VersionId or VersionStage (default AWSCURRENT).
    Errors: ResourceNotFoundException - secret, version or label. InvalidRequestException - it waits for its deletion, or the version
    does not have the label. AccessDeniedException, DecryptionFailure - KMS does not let the caller open it.
    """
    return _read(ctx, find(ctx, req["SecretId"]), req.get("VersionId"), req.get("VersionStage"))


@ops
def batch_get_secret_value(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The current values of several secrets; what cannot be read is told of beside them.

    req: SecretIdList (at most 20) or Filters, MaxResults (1-20), NextToken.
    Errors: InvalidParameterException - both or neither. InvalidNextTokenException.
    """
    if bool(req.get("SecretIdList")) == bool(req.get("Filters")):
        raise invalid_parameter("Either 'SecretIdList' or 'Filters' must be provided, but not both.")
    more: dict[str, Any] = {}
    wanted: Sequence[str] = req.get("SecretIdList") or ()
    if req.get("Filters"):
        matching = [secret["ARN"] for secret in table_of(ctx).all() if "DeletedDate" not in secret and fits(secret, req["Filters"])]
        wanted, more = paged(matching, req, default=20)
    values, errors = [], []
    for secret_id in wanted:
        try:
            ctx.authorize(on_secret(ctx, "GetSecretValue", secret_id, {}))
            values.append(_read(ctx, find(ctx, secret_id), None, None))
        except ServiceError as error:
            errors.append({"SecretId": secret_id, "ErrorCode": error.code, "Message": error.message})
    return {"SecretValues": values, "Errors": errors, **more}


@ops
def put_secret_value(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A new version with a value; it becomes AWSCURRENT unless other labels are named.

    req: SecretId, SecretString or SecretBinary, ClientRequestToken (the version's id; again with the same value is no error),
    VersionStages (1-20).
    Errors: ResourceNotFoundException. InvalidRequestException - no value or two, a replica, or it waits for its deletion.
    ResourceExistsException - the token is another version's. EncryptionFailure.
    """
    value = value_from(req)
    if value is None:
        raise invalid_request("You must provide either SecretString or SecretBinary.")
    secret = primary(ctx, req["SecretId"])
    version_id = req.get("ClientRequestToken") or ctx.ids.uuid()
    stages = list(dict.fromkeys(req.get("VersionStages") or [CURRENT]))
    now = ctx.clock.now()
    secret = follow(
        ctx,
        secret,
        lambda there: put_version(ctx, there, version_id, value, stages) | {"LastChangedDate": now},
        {version_id: value},
    )
    return {
        "ARN": secret["ARN"],
        "Name": secret["Name"],
        "VersionId": version_id,
        "VersionStages": secret["_versions"][version_id]["stages"],
    }


@ops
def list_secret_version_ids(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A secret's versions that have labels; with IncludeDeprecated those without too.

    Errors: ResourceNotFoundException. InvalidNextTokenException.
    """
    secret = find(ctx, req["SecretId"], even_deleted=True)
    wanted = [(id, entry) for id, entry in secret["_versions"].items() if entry["stages"] or req.get("IncludeDeprecated")]
    items, more = paged(wanted, req, default=100)
    versions = [
        {
            "VersionId": id,
            "VersionStages": entry["stages"] or None,
            "CreatedDate": entry["created"],
            "KmsKeyIds": ["DefaultEncryptionKey" if str(entry["key"]).startswith("alias/aws/") else entry["key"]]
            if "key" in entry
            else None,
        }
        for id, entry in items
    ]
    return {"Versions": versions, "ARN": secret["ARN"], "Name": secret["Name"], **more}


@ops
def update_secret_version_stage(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Move a staging label to another version, or take it away. What AWSCURRENT leaves becomes AWSPREVIOUS.

    req: SecretId, VersionStage, MoveToVersionId, RemoveFromVersionId (must name the version that has it now).
    Errors: ResourceNotFoundException - secret or version. InvalidParameterException. InvalidRequestException - AWSCURRENT cannot go
    without going elsewhere. LimitExceededException - 20 labels.
    """
    secret, stage = primary(ctx, req["SecretId"]), req["VersionStage"]
    to, away = req.get("MoveToVersionId"), req.get("RemoveFromVersionId")
    if not to and not away:
        raise invalid_parameter("You must provide either MoveToVersionId or RemoveFromVersionId.")
    if stage == CURRENT and not to:
        raise invalid_request(
            "You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed."
        )

    def moved(there: Secret) -> Secret:
        versions, at = there["_versions"], version_with(there, stage)
        if to and to not in versions:
            raise no_value(f"VersionId: {to}")
        if at is not None and at != to and away != at:
            if away:
                raise invalid_parameter(f"The staging label {stage} isn't attached to version {away}.")
            raise invalid_parameter(
                f"The parameter RemoveFromVersionId can't be empty. Staging label {stage} is currently attached to version {at}, "
                "so you must explicitly reference that version in RemoveFromVersionId."
            )
        if away and at != away and at != to:
            raise invalid_parameter(f"The staging label {stage} isn't attached to version {away}.")
        return there | {"_versions": only_kept(with_stage(versions, stage, to or "")), "LastChangedDate": ctx.clock.now()}

    secret = follow(ctx, secret, moved)
    return {"ARN": secret["ARN"], "Name": secret["Name"]}


# -- for the other nouns --------------------------------------------------------------------------------------------------


def value_from(req: Mapping[str, Any]) -> str | bytes | None:
    text, data = req.get("SecretString"), req.get("SecretBinary")
    if text is not None and data is not None:
        raise invalid_request("You can't specify both a binary secret value and a string secret value in the same secret.")
    return text if text is not None else data


def put_version(ctx: Context, secret: Secret, version_id: str, value: str | bytes, stages: Sequence[str]) -> Secret:
    """The secret with one more version, or with a value for one that waited for it."""
    versions = dict(secret["_versions"])
    known = versions.get(version_id)
    if known is not None and "sealed" in known:
        if not is_same_value(ctx, secret, version_id, value):
            raise token_in_use(version_id, secret["ARN"])
        return secret
    wanted = list(stages) if versions else list(dict.fromkeys([*stages, CURRENT]))
    versions[version_id] = {
        "stages": (known or {}).get("stages", []),
        "created": ctx.clock.now(),
    } | sealed_value(ctx, secret, version_id, value)
    for stage in wanted:
        versions = with_stage(versions, stage, version_id)
    if len(versions[version_id]["stages"]) > MOST_STAGES:
        raise ServiceError("LimitExceededException", f"A version can have at most {MOST_STAGES} staging labels.")
    return secret | {"_versions": only_kept(versions)}


def is_same_value(ctx: Context, secret: Secret, version_id: str, value: str | bytes) -> bool:
    version = secret["_versions"].get(version_id)
    return version is not None and "sealed" in version and open_value(ctx, secret, version_id) == value


# -- reading ------------------------------------------------------------------------------------------------------------------


def _read(ctx: Context, secret: Secret, version_id: str | None, stage: str | None) -> dict[str, Any]:
    id = version_id or version_with(secret, stage or CURRENT)
    version = secret["_versions"].get(id) if id else None
    if version is None or id is None or "sealed" not in version:
        raise no_value(f"VersionId: {version_id}" if version_id else f"staging label: {stage or CURRENT}")
    if version_id and stage and stage not in version["stages"]:
        raise invalid_request(
            f"You provided a VersionStage that is not associated to the provided VersionId. Stage: {stage}, VersionId: {version_id}"
        )
    value = open_value(ctx, secret, id)
    _accessed(ctx, secret)
    found = {
        "ARN": secret["ARN"],
        "Name": secret["Name"],
        "VersionId": id,
        "VersionStages": version["stages"] or None,
        "CreatedDate": version["created"],
    }
    return found | ({"SecretString": value} if version["is_text"] else {"SecretBinary": value})


def _accessed(ctx: Context, secret: Secret) -> None:
    """The day of its last use; written once a day, and not at all when somebody else writes just now."""
    day = ctx.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    if secret.get("LastAccessedDate") == day:
        return
    rows = table_of(ctx, owner_of(ctx, secret["ARN"]))
    row = rows.row(secret["Name"])
    if row is not None:
        with suppress(Conflict, PilviError):
            ctx.write(Update(rows.table, row.id, row.value | {"LastAccessedDate": day}, row.version))

"""User profiles: the people of a Studio domain, with the settings they have instead of its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Invalid
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker.job_kind import Record
from pilvi.services.sagemaker.studio_check import check_settings, find_domain, find_user, in_use, merged, taken
from pilvi.services.sagemaker.studio_listing import page_of
from pilvi.services.sagemaker.studio_parent import delete_parent, write_below
from pilvi.services.sagemaker.tag import tagging, untagging

ops = Operations()

NOUN = "UserProfile"


@ops
def create_user_profile(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a user profile. It is InService at once.

    req: DomainId, UserProfileName (1-63), UserSettings with ExecutionRole, Tags.
    Errors: ResourceNotFound - no such domain. ResourceInUse - the name is taken. ValidationException - a role cannot be assumed, or
        something is asked for that is not built. AccessDeniedException - the caller may not pass the role.
    Differs: single sign-on is refused.
    """
    domain = find_domain(ctx, req["DomainId"])["DomainId"]
    key = f"{domain}/{req['UserProfileName']}".lower()
    arn, now = ctx.arn(f"user-profile/{key}"), ctx.clock.now()
    if req.get("SingleSignOnUserIdentifier") or req.get("SingleSignOnUserValue"):
        raise Invalid("Single sign-on is not supported by this server yet.")
    check_settings(ctx, req.get("UserSettings"), arn)
    record = {
        **{name: value for name, value in req.items() if name != "Tags" and value is not None},
        "UserProfileArn": arn,
        "Status": "InService",
        "CreationTime": now,
        "LastModifiedTime": now,
        "_key": key,
    }
    try:
        write_below(ctx, [("Domain", domain)], ctx.records(NOUN).insertion(key, record), *tagging(ctx, arn, req.get("Tags")))
    except AlreadyExists:
        raise taken(NOUN, arn) from None
    return {"UserProfileArn": arn}


@ops
def describe_user_profile(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about one user profile.

    Errors: ResourceNotFound - no such domain or user profile.
    """
    find_domain(ctx, req["DomainId"])
    return find_user(ctx, req["DomainId"], req["UserProfileName"])


@ops
def list_user_profiles(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """User profiles, a page at a time, filtered by domain and name, sorted by CreationTime or LastModifiedTime.

    Errors: ValidationException - a foreign token.
    """
    page, more = page_of(ctx.records(NOUN).all(), req, NOUN)
    return {"UserProfiles": page, "NextToken": more}


@ops
def update_user_profile(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change a user's settings; apps have them from their next start.

    Errors: ResourceNotFound - no such user profile. ValidationException - as for CreateUserProfile.
    """
    record = find_user(ctx, req["DomainId"], req["UserProfileName"])
    check_settings(ctx, req.get("UserSettings"), record["UserProfileArn"])

    def changed(value: Record) -> Record:
        settings = merged(value.get("UserSettings"), req.get("UserSettings"))
        return {**value, "UserSettings": settings, "LastModifiedTime": ctx.clock.now()}

    ctx.records(NOUN).update(record["_key"], changed)
    return {"UserProfileArn": record["UserProfileArn"]}


@ops
def delete_user_profile(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a user profile that owns nothing any more.

    Errors: ResourceNotFound - no such user profile. ResourceInUse - it owns spaces.
    """

    def check_free(record: Record) -> None:
        spaces = ctx.records("Space").all(prefix=f"{record['DomainId']}/")
        owners = {(space.get("OwnershipSettings") or {}).get("OwnerUserProfileName", "").lower() for space in spaces}
        if record["UserProfileName"].lower() in owners:
            raise in_use(NOUN, record["UserProfileArn"], "Space")

    key = find_user(ctx, req["DomainId"], req["UserProfileName"])["_key"]
    delete_parent(ctx, NOUN, key, check_free, lambda record: untagging(ctx, record["UserProfileArn"]))

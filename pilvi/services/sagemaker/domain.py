"""Studio domains: who works in Studio, with which defaults; and the URL that opens it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker.job_kind import Record
from pilvi.services.sagemaker.notebook_ticket import PATH, SESSION_S, URL_S, Place, presigned_url
from pilvi.services.sagemaker.space import app_type_of
from pilvi.services.sagemaker.studio_check import (
    check_network,
    check_portal,
    check_settings,
    find_domain,
    find_space,
    find_user,
    in_use,
    merged,
    missing,
)
from pilvi.services.sagemaker.studio_fleet import HOME, app_key, place_of, studio_of
from pilvi.services.sagemaker.studio_listing import page_of
from pilvi.services.sagemaker.studio_parent import delete_parent
from pilvi.services.sagemaker.tag import tagging, untagging
from pilvi.services.sagemaker.volume_key import grant_key, retire_key

ops = Operations()

_LETTERS = 12


@ops
def create_domain(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a domain. It is InService at once: there is nothing to wait for.

    req: DomainName, AuthMode (IAM), DefaultUserSettings with ExecutionRole, DefaultSpaceSettings, SubnetIds, VpcId, KmsKeyId (a key
        that the caller may create grants on), Tags.
    Errors: ValidationException - a role cannot be assumed, a subnet is not there, the KMS key cannot be used, or something is asked for that is not built.
        AccessDeniedException - the caller may not pass the role.
    Source: SageMaker API reference.
    Differs: AuthMode SSO is refused. There is no EFS file system: every space keeps its files in a volume of its own, unencrypted
        while its app runs and sealed (under KmsKeyId's data key, where one is given) while none does. The network is
        this machine's. Settings that would have to do something (Canvas, RStudio, custom images, idle shutdown, Docker) are refused; those
        of apps that cannot be created, of what the portal shows, and ExecutionRoleIdentityConfig are recorded.
    """
    if req["AuthMode"] != "IAM":
        raise Invalid("AuthMode SSO is not supported by this server yet.")
    if req.get("HomeEfsFileSystemKmsKeyId"):
        raise Invalid("HomeEfsFileSystemKmsKeyId is not supported by this server yet: please give KmsKeyId.")
    id = f"d-{ctx.ids.lower(_LETTERS)}"
    arn, now = ctx.arn(f"domain/{id}"), ctx.clock.now()
    check_network(ctx, req)
    for member in ("DefaultUserSettings", "DefaultSpaceSettings", "DomainSettings"):
        check_settings(ctx, req.get(member), arn)
    key = grant_key(ctx, arn, req["KmsKeyId"]) if req.get("KmsKeyId") else None
    record = {
        "AppNetworkAccessType": "PublicInternetOnly",
        **{key: value for key, value in req.items() if key != "Tags" and value is not None},
        "DomainId": id,
        "DomainArn": arn,
        "Status": "InService",
        "Url": f"{ctx.cloud.endpoint}{PATH}open/{id}",
        "CreationTime": now,
        "LastModifiedTime": now,
        "_key": id,
        "_volume_key": key,
    }
    ctx.write(ctx.records("Domain").insertion(id, record), *tagging(ctx, arn, req.get("Tags")))
    return {"DomainArn": arn, "DomainId": id, "Url": record["Url"]}


@ops
def describe_domain(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about one domain.

    Errors: ResourceNotFound - there is none of this id.
    """
    return find_domain(ctx, req["DomainId"])


@ops
def list_domains(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The domains of the account in this Region, a page at a time.

    Errors: ValidationException - a foreign token.
    """
    page, more = page_of(ctx.records("Domain").all(), req, "Domain")
    return {"Domains": page, "NextToken": more}


@ops
def update_domain(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change a domain's settings; apps have them from their next start.

    req: DefaultUserSettings, DefaultSpaceSettings, DomainSettingsForUpdate, SubnetIds, AppNetworkAccessType, TagPropagation.
    Errors: ResourceNotFound - there is none of this id. ValidationException - as for CreateDomain.
    """
    arn = find_domain(ctx, req["DomainId"])["DomainArn"]
    check_network(ctx, req)
    renamed = {"DomainSettingsForUpdate": "DomainSettings"}
    nested = {renamed.get(name, name): req[name] for name in (*_NESTED, *renamed) if req.get(name) is not None}
    for settings in nested.values():
        check_settings(ctx, settings, arn)

    def changed(value: Record) -> Record:
        plain = {name: req[name] for name in _PLAIN if req.get(name) is not None}
        deep = {name: merged(value.get(name), settings) for name, settings in nested.items()}
        return {**value, **plain, **deep, "LastModifiedTime": ctx.clock.now()}

    ctx.records("Domain").update(req["DomainId"], changed)
    return {"DomainArn": arn}


@ops
def delete_domain(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a domain that nobody is in any more.

    Errors: ResourceNotFound - there is none of this id. ResourceInUse - it has user profiles or spaces.
    Differs: RetentionPolicy decides over nothing: the files went with their spaces.
    """

    def check_free(record: Record) -> None:
        for noun in ("UserProfile", "Space"):
            if ctx.records(noun).scan(prefix=f"{record['DomainId']}/", limit=1):
                raise in_use("Domain", record["DomainArn"], noun)

    record = delete_parent(ctx, "Domain", req["DomainId"], check_free, lambda record: untagging(ctx, record["DomainArn"]))
    if record.get("_volume_key"):
        retire_key(ctx, record["DomainArn"], record["_volume_key"])


@ops
def create_presigned_domain_url(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A URL that opens Studio without a password: once, within five minutes or `ExpiresInSeconds`.

    req: DomainId, UserProfileName; SpaceName for the app of a space; SessionExpirationDurationInSeconds (1800-43200, 43200 when not
        given); LandingUri (`app:JupyterLab:path` leads to a file or folder, `app:CodeEditor:path` to a folder).
    Errors: ResourceNotFound - no such domain, user profile, space, or running app in it. AccessDeniedException - the space is another's.
        ValidationException - StudioWebPortal is DISABLED for the user or the domain, or the LandingUri is not built.
    Differs: without SpaceName the URL opens a page that lists the user's spaces and apps, and what their role may list (jobs, models, endpoints, ...). An app is not started by
        opening: CreateApp starts it. The URL is this server's and leads to where Jupyter listens on this machine.
    """
    domain = find_domain(ctx, req["DomainId"])["DomainId"]
    user = find_user(ctx, domain, req["UserProfileName"])
    check_portal(ctx, domain, user)
    session_s = req.get("SessionExpirationDurationInSeconds") or SESSION_S
    name = req.get("SpaceName")
    if name:
        app = _app_in(ctx, domain, user, name)
        place, path = place_of(ctx.account, ctx.region, app), _path_in(req.get("LandingUri") or "", app["AppType"])
    else:
        place, path = Place(ctx.account, ctx.region, f"{HOME}{domain}/{user['UserProfileName']}".lower()), ""
    url_s, who = req.get("ExpiresInSeconds") or URL_S, user["UserProfileName"]
    token = studio_of(ctx.cloud).runs.tickets.issue(place, session_s, path, url_s, who)
    return {"AuthorizedUrl": presigned_url(ctx.cloud.endpoint, domain, token)}


_NESTED = ("DefaultUserSettings", "DefaultSpaceSettings")
_PLAIN = ("SubnetIds", "VpcId", "AppNetworkAccessType", "AppSecurityGroupManagement", "TagPropagation", "HomeEfsFileSystemCreation")


def _app_in(ctx: Context, domain: str, user: Record, name: str) -> Record:
    """The running app of a space that the user may enter."""
    space = find_space(ctx, domain, name)
    if not may_enter(space, user["UserProfileName"]):
        raise ServiceError("AccessDeniedException", f"The Space [{name}] belongs to another user profile.")
    key = app_key(domain, name, app_type_of(space), "default")
    app = ctx.records("App").find(key)
    if app is None or app["Status"] != "InService":
        raise missing("App", f"{key} InService")
    return app


def may_enter(space: Mapping[str, Any], user: str) -> bool:
    """A shared space is everybody's, a private one its owner's."""
    owner = (space.get("OwnershipSettings") or {}).get("OwnerUserProfileName", "")
    return (space.get("SpaceSharingSettings") or {}).get("SharingType") == "Shared" or owner.lower() == user.lower()


def _path_in(landing: str, app_type: str) -> str:
    """The path in `app:JupyterLab:relative/path`."""
    kind, _, path = landing.removeprefix("app:").partition(":")
    if landing and (not landing.startswith("app:") or kind != app_type):
        raise Invalid(f"LandingUri {landing} is not supported by this server yet: give app:{app_type}:relative/path.")
    return path.lstrip("/")

"""What a user sees first in Studio: their spaces with a way into those that run, and the jobs that their role may list. Plain HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import PilviError
from pilvi.services.sagemaker.domain import may_enter
from pilvi.services.sagemaker.job_check import SESSION
from pilvi.services.sagemaker.notebook_program import PROGRAMS
from pilvi.services.sagemaker.notebook_run import context_for
from pilvi.services.sagemaker.notebook_ticket import Place, Ticket, presigned_url
from pilvi.services.sagemaker.processing_job import KIND as PROCESSING
from pilvi.services.sagemaker.space import app_type_of
from pilvi.services.sagemaker.studio_fleet import HOME, app_key, place_of, studio_of
from pilvi.services.sagemaker.training_job import KIND as TRAINING

if TYPE_CHECKING:
    from pilvi.core.service import Cloud, Context
    from pilvi.services.sagemaker.job_kind import JobKind

_MOST = 20
_STYLE = "body{font:16px sans-serif;margin:2rem auto;max-width:60rem}table{border-collapse:collapse}td,th{padding:.3rem 1rem;text-align:left}"


def page(cloud: Cloud, ticket: Ticket) -> str:
    """The page of a user profile. Links in it open once, as the URL that led here."""
    place = ticket.place
    domain, _, user = place.name.removeprefix(HOME).partition("/")
    spaces = [
        space
        for space in cloud.rows(place.account, place.region, "sagemaker", "Space").all()
        if space["DomainId"] == domain and may_enter(space, user)
    ]
    as_user = _as_user(cloud, place, domain, user)
    parts = [
        _table("Spaces", ("Space", "App", "Instance", ""), [_space(cloud, ticket, space) for space in spaces]),
        _job_table("Training jobs", as_user, TRAINING),
        _job_table("Processing jobs", as_user, PROCESSING),
    ]
    title = f"Studio - {escape(user)}"
    return f"<!doctype html><html lang=en><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>{''.join(parts)}</html>\n"


def _space(cloud: Cloud, ticket: Ticket, space: dict[str, Any]) -> list[str]:
    place = ticket.place
    program = PROGRAMS[app_type_of(space)]
    key = app_key(space["DomainId"], space["SpaceName"], program.app_type, "default")
    app = cloud.rows(place.account, place.region, "sagemaker", "App").find(key)
    name = escape(space.get("SpaceDisplayName") or space["SpaceName"])
    if app is None or app["Status"] == "Deleted":
        return [name, program.name, "", "does not run"]
    instance = escape(app["ResourceSpec"]["InstanceType"])
    if app["Status"] != "InService":
        return [name, program.name, instance, escape(app["Status"])]
    token = studio_of(cloud).runs.tickets.issue(place_of(place.account, place.region, app), ticket.session_s, user=ticket.user)
    url = escape(presigned_url(cloud.endpoint, space["DomainId"], token))
    return [name, program.name, instance, f'<a href="{url}">Open {program.name}</a>']


def _job_table(title: str, ctx: Context | None, kind: JobKind) -> str:
    """What the user's role may list of a kind, newest first."""
    request = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": _MOST}
    try:
        if ctx is None:
            return ""
        found = ctx.call("sagemaker", f"List{kind.noun}s", **request)[f"{kind.noun}Summaries"]
    except PilviError:
        return f"<h2>{title}</h2><p>The execution role may not list them.</p>"
    return _table(title, ("Name", "Status"), [[escape(job[f"{kind.noun}Name"]), job[f"{kind.noun}Status"]] for job in found])


def _as_user(cloud: Cloud, place: Place, domain: str, user: str) -> Context | None:
    """The user's execution role at work; None where there is none, or it does not let SageMaker in."""
    rows = [
        (cloud.rows(place.account, place.region, "sagemaker", "UserProfile").find(f"{domain}/{user}") or {}).get("UserSettings"),
        (cloud.rows(place.account, place.region, "sagemaker", "Domain").find(domain) or {}).get("DefaultUserSettings"),
    ]
    role = next((settings["ExecutionRole"] for settings in rows if settings and settings.get("ExecutionRole")), None)
    if role is None:
        return None
    try:
        ctx = context_for(cloud, place.account, place.region, "")
        arn = ctx.arn(f"user-profile/{domain}/{user}", service="sagemaker")
        return context_for(cloud, place.account, place.region, arn).as_role(role, SESSION)
    except PilviError:
        return None


def _table(title: str, heads: tuple[str, ...], rows: list[list[str]]) -> str:
    if not rows:
        return f"<h2>{title}</h2><p>None.</p>"
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>{title}</h2><table><tr>{head}</tr>{body}</table>"

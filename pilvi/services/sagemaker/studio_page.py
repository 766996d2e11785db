"""What a user sees first in Studio: their spaces with a way into those that run, and what the account works on. Plain HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from pilvi.services.sagemaker.domain import may_enter
from pilvi.services.sagemaker.notebook_ticket import Place, Ticket, presigned_url
from pilvi.services.sagemaker.processing_job import KIND as PROCESSING
from pilvi.services.sagemaker.studio_fleet import HOME, app_key, place_of, studio_of
from pilvi.services.sagemaker.training_job import KIND as TRAINING

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
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
    parts = [
        _table("Spaces", ("Space", "App", "Instance", ""), [_space(cloud, ticket, space) for space in spaces]),
        _table("Training jobs", ("Name", "Status"), _jobs(cloud, place, TRAINING)),
        _table("Processing jobs", ("Name", "Status"), _jobs(cloud, place, PROCESSING)),
    ]
    title = f"Studio - {escape(user)}"
    return f"<!doctype html><html lang=en><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>{''.join(parts)}</html>\n"


def _space(cloud: Cloud, ticket: Ticket, space: dict[str, Any]) -> list[str]:
    place = ticket.place
    key = app_key(space["DomainId"], space["SpaceName"], "JupyterLab", "default")
    app = cloud.rows(place.account, place.region, "sagemaker", "App").find(key)
    name = escape(space.get("SpaceDisplayName") or space["SpaceName"])
    if app is None or app["Status"] == "Deleted":
        return [name, "JupyterLab", "", "does not run"]
    instance = escape(app["ResourceSpec"]["InstanceType"])
    if app["Status"] != "InService":
        return [name, "JupyterLab", instance, escape(app["Status"])]
    token = studio_of(cloud).runs.tickets.issue(place_of(place.account, place.region, app), ticket.session_s, user=ticket.user)
    url = escape(presigned_url(cloud.endpoint, space["DomainId"], token))
    return [name, "JupyterLab", instance, f'<a href="{url}">Open JupyterLab</a>']


def _jobs(cloud: Cloud, place: Place, kind: JobKind) -> list[list[str]]:
    records = cloud.rows(place.account, place.region, "sagemaker", kind.noun).all()
    newest = sorted(records, key=lambda record: record["CreationTime"], reverse=True)[:_MOST]
    return [[escape(record[f"{kind.noun}Name"]), kind.status(cloud.jobs.get(record["_job"])).primary] for record in newest]


def _table(title: str, heads: tuple[str, ...], rows: list[list[str]]) -> str:
    if not rows:
        return f"<h2>{title}</h2><p>None.</p>"
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>{title}</h2><table><tr>{head}</tr>{body}</table>"

"""What a user sees first in Studio: their spaces with a way into those that run, and beside them what their role may list. Plain HTML.

Everything but the spaces comes through the API, as the user's execution role: a panel for each of `PANELS` that this server has.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from pilvi.core.errors import PilviError, ServiceError
from pilvi.services.sagemaker.domain import may_enter
from pilvi.services.sagemaker.job_check import SESSION
from pilvi.services.sagemaker.notebook_program import PROGRAMS
from pilvi.services.sagemaker.notebook_run import context_for
from pilvi.services.sagemaker.notebook_ticket import Place, Ticket, presigned_url
from pilvi.services.sagemaker.space import app_type_of
from pilvi.services.sagemaker.studio_fleet import HOME, app_key, place_of, studio_of

if TYPE_CHECKING:
    from pilvi.core.service import Cloud, Context

_MOST = 20
_STYLE = (
    "body{font:16px sans-serif;margin:2rem auto;max-width:70rem;display:grid;grid-template-columns:14rem 1fr}"
    "h1{grid-column:1/3}nav{position:sticky;top:0;align-self:start}nav a{display:block;padding:.3rem 0}"
    "table{border-collapse:collapse}td,th{padding:.3rem 1rem;text-align:left}section{scroll-margin-top:1rem}"
)


class Panel(NamedTuple):
    """A list of the API: which operation, where in its answer, and what of each entry is shown."""

    title: str
    operation: str
    member: str
    name: str
    status: str = ""


PANELS = (
    Panel("Training jobs", "ListTrainingJobs", "TrainingJobSummaries", "TrainingJobName", "TrainingJobStatus"),
    Panel("Processing jobs", "ListProcessingJobs", "ProcessingJobSummaries", "ProcessingJobName", "ProcessingJobStatus"),
    Panel(
        "Tuning jobs",
        "ListHyperParameterTuningJobs",
        "HyperParameterTuningJobSummaries",
        "HyperParameterTuningJobName",
        "HyperParameterTuningJobStatus",
    ),
    Panel("Transform jobs", "ListTransformJobs", "TransformJobSummaries", "TransformJobName", "TransformJobStatus"),
    Panel("Models", "ListModels", "Models", "ModelName"),
    Panel("Endpoints", "ListEndpoints", "Endpoints", "EndpointName", "EndpointStatus"),
    Panel(
        "Model registry",
        "ListModelPackageGroups",
        "ModelPackageGroupSummaryList",
        "ModelPackageGroupName",
        "ModelPackageGroupStatus",
    ),
    Panel("Feature groups", "ListFeatureGroups", "FeatureGroupSummaries", "FeatureGroupName", "FeatureGroupStatus"),
    Panel("Experiments", "ListExperiments", "ExperimentSummaries", "ExperimentName"),
    Panel("Pipelines", "ListPipelines", "PipelineSummaries", "PipelineName"),
    Panel("Notebook instances", "ListNotebookInstances", "NotebookInstances", "NotebookInstanceName", "NotebookInstanceStatus"),
)


def page(cloud: Cloud, ticket: Ticket) -> str:
    """The page of a user profile. Links in it open once, as the URL that led here."""
    place = ticket.place
    domain, _, user = place.name.removeprefix(HOME).partition("/")
    spaces = [
        space
        for space in cloud.rows(place.account, place.region, "sagemaker", "Space").all()
        if space["DomainId"] == domain and may_enter(space, user)
    ]
    sections = {"Spaces": _table(("Space", "App", "Instance", ""), [_space(cloud, ticket, space) for space in spaces])}
    as_user = _as_user(cloud, place, domain, user)
    for panel in PANELS:
        if as_user is not None and (shown := _panel(as_user, panel)) is not None:
            sections[panel.title] = shown
    title = f"Studio - {escape(user)}"
    links = "".join(f'<a href="#{_anchor(name)}">{name}</a>' for name in sections)
    parts = "".join(f'<section id="{_anchor(name)}"><h2>{name}</h2>{content}</section>' for name, content in sections.items())
    head = f"<!doctype html><html lang=en><title>{title}</title><style>{_STYLE}</style>"
    return f"{head}<h1>{title}</h1><nav>{links}</nav><main>{parts}</main></html>\n"


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


def _panel(ctx: Context, panel: Panel) -> str | None:
    """What the user's role may list of a kind, newest first; None where this server does not have the operation."""
    request = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": _MOST}
    try:
        found = ctx.call("sagemaker", panel.operation, **request)[panel.member]
    except PilviError as error:
        if isinstance(error, ServiceError) and error.code == "NotImplemented":
            return None
        return "<p>The execution role may not list them.</p>"
    heads = ("Name", "Status") if panel.status else ("Name",)
    return _table(heads, [[escape(str(one.get(key, ""))) for key in (panel.name, panel.status) if key] for one in found])


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


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")

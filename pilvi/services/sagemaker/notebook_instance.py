"""Notebook instances: JupyterLab under a role, with a volume that outlives its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Invalid, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker import state_note
from pilvi.services.sagemaker.job_kind import Record, one_page
from pilvi.services.sagemaker.notebook_check import (
    check_lifecycle_config,
    check_members,
    check_network,
    check_repositories,
    check_role,
)
from pilvi.services.sagemaker.notebook_fleet import NOUN, STATUS, fleet_of
from pilvi.services.sagemaker.notebook_ticket import SESSION_S, Place, presigned_url
from pilvi.services.sagemaker.tag import tagging
from pilvi.services.sagemaker.volume_key import grant_key, retire_key

ops = Operations()


@ops
def create_notebook_instance(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a notebook instance and start it: InService when its Jupyter answers.

    req: NotebookInstanceName (1-63, letters, digits, hyphens), InstanceType, RoleArn; SubnetId with SecurityGroupIds (at most 5),
        VolumeSizeInGB (5-16384), LifecycleConfigName, DefaultCodeRepository and up to three AdditionalCodeRepositories (names or https
        addresses), DirectInternetAccess, RootAccess, PlatformIdentifier, KmsKeyId (a key that the caller may create grants on), Tags.
    Errors: ValidationException - the name is taken, the role cannot be assumed, the subnet, a group, a code repository or the
        lifecycle configuration is not there, the KMS key cannot be used, or something is asked for that is not built. AccessDeniedException - the caller may not pass the role.
    Source: SageMaker API reference; messages as users of AWS report them.
    Differs: an instance has as many cores and as much memory of its type as this machine has; the volume's size, RootAccess and
        DirectInternetAccess are recorded: its user is no root, and the network of the subnet is this machine's. The kernels python3
        and conda_python3 are one environment (Python 3.11 with JupyterLab, pandas 2, scikit-learn, boto3, the SageMaker SDK), with
        PyTorch where the runtime pytorch is installed; conda_tensorflow2_p310 is there with the runtime tensorflow. Packages
        installed from a notebook last until it stops. Accelerators are refused. Files of the volume lie unencrypted in the data
        directory while the instance runs, sealed (under KmsKeyId's data key, where one is given) while it is stopped. Instances of a server that ended
        are started again at the next request about notebook instances.
    """
    name = req["NotebookInstanceName"]
    arn = ctx.arn(f"notebook-instance/{name.lower()}")
    rows, fleet = ctx.records(NOUN), fleet_of(ctx.cloud)
    taken = Invalid(f"Cannot create a duplicate Notebook Instance ({arn})")
    if not name:
        raise Invalid("NotebookInstanceName must have a length of at least 1.")
    check_members(req)
    check_lifecycle_config(ctx, req)
    check_repositories(ctx, req)
    if rows.find(name.lower()) is not None:
        raise taken
    check_role(ctx, req["RoleArn"], arn)
    network = check_network(ctx, req)
    key = grant_key(ctx, arn, req["KmsKeyId"]) if req.get("KmsKeyId") else None
    record = {
        **_defaults(ctx),
        **_kept(req),
        **network,
        f"{NOUN}Arn": arn,
        "_id": ctx.ids.lower(20),
        "_archive": None,
        "_is_made": False,
        "_volume_key": key,
    }
    try:
        noted = state_note.noting(ctx.cloud, ctx.account, ctx.region, NOUN, record)
        ctx.write(rows.insertion(name.lower(), record), *tagging(ctx, arn, req.get("Tags")), noted)
    except AlreadyExists:
        if key is not None:
            retire_key(ctx, arn, key)
        raise taken from None
    state_note.wake(ctx.cloud, ctx.account, ctx.region)
    fleet.start(_place(ctx, name))
    return {f"{NOUN}Arn": arn}


@ops
def describe_notebook_instance(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about one notebook instance.

    Errors: ValidationException - RecordNotFound.
    Differs: Url is where its Jupyter listens on this machine. There is no NetworkInterfaceId: no interface is made.
    """
    fleet_of(ctx.cloud)
    return _found(ctx, req)


@ops
def list_notebook_instances(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Notebook instances, a page at a time, filtered by name, status and times, sorted by Name, CreationTime or Status.

    Errors: ValidationException - a foreign token.
    """
    fleet_of(ctx.cloud)
    found = ctx.records(NOUN).all()
    if part := req.get("DefaultCodeRepositoryContains"):
        found = [record for record in found if part in (record.get("DefaultCodeRepository") or "")]
    if name := req.get("AdditionalCodeRepositoryEquals"):
        found = [record for record in found if name in (record.get("AdditionalCodeRepositories") or ())]
    if part := req.get("NotebookInstanceLifecycleConfigNameContains"):
        found = [record for record in found if part.lower() in (record.get(_SCRIPTS) or "").lower()]
    page, more = one_page(found, req, NOUN, by="Name", order="Ascending")
    return {"NotebookInstances": page, "NextToken": more}


@ops
def update_notebook_instance(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change a stopped notebook instance; the next start has it.

    req: InstanceType, RoleArn, VolumeSizeInGB (only more), LifecycleConfigName or DisassociateLifecycleConfig, DefaultCodeRepository and
        AdditionalCodeRepositories or DisassociateDefaultCodeRepository and DisassociateAdditionalCodeRepositories, RootAccess,
        PlatformIdentifier, IpAddressType.
    Errors: ValidationException - RecordNotFound, it is not stopped, the role cannot be assumed, the volume would shrink, or
        something is asked for that is not built.
    Differs: the change is made at once; the status Updating is not seen.
    """
    fleet_of(ctx.cloud)
    record = _found(ctx, req)
    check_members(req)
    check_lifecycle_config(ctx, req)
    check_repositories(ctx, req)
    if role := req.get("RoleArn"):
        check_role(ctx, role, record[f"{NOUN}Arn"])

    def changed(value: Record) -> Record:
        _check_transition(value, "Updating")
        if (size := req.get("VolumeSizeInGB")) is not None and size < value["VolumeSizeInGB"]:
            raise Invalid(f"The volume size of a notebook instance can only be increased. It is {value['VolumeSizeInGB']} GB.")
        kept = {key: req[key] for key in _CHANGEABLE if req.get(key) is not None}
        if (name := req.get("LifecycleConfigName")) or req.get("DisassociateLifecycleConfig"):
            kept[_SCRIPTS] = name or None
        for member in ("DefaultCodeRepository", "AdditionalCodeRepositories"):
            if req.get(member) or req.get(f"Disassociate{member}"):
                kept[member] = req.get(member)
        return {**value, **kept, "LastModifiedTime": ctx.clock.now()}

    ctx.records(NOUN).update(_id(req), changed)
    return {}


@ops
def start_notebook_instance(ctx: Context, req: Mapping[str, Any]) -> None:
    """Start a notebook instance that is stopped or has failed, with the files it had.

    Errors: ValidationException - RecordNotFound, or it runs already: creating it has started it.
    """
    fleet = fleet_of(ctx.cloud)
    _move(ctx, req, "Pending")
    fleet.start(_place(ctx, req["NotebookInstanceName"]))


@ops
def stop_notebook_instance(ctx: Context, req: Mapping[str, Any]) -> None:
    """Stop a notebook instance: its kernels and its Jupyter end, its files stay.

    Errors: ValidationException - RecordNotFound, or it does not run.
    """
    fleet = fleet_of(ctx.cloud)
    _move(ctx, req, "Stopping")
    fleet.stop(_place(ctx, req["NotebookInstanceName"]))


@ops
def delete_notebook_instance(ctx: Context, req: Mapping[str, Any]) -> None:
    """Delete a notebook instance that is stopped or has failed, with its files. Its log stays.

    Errors: ValidationException - RecordNotFound, or it has not stopped.
    """
    fleet = fleet_of(ctx.cloud)
    _move(ctx, req, "Deleting")
    fleet.remove(_place(ctx, req["NotebookInstanceName"]))


@ops
def create_presigned_notebook_instance_url(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A URL that opens JupyterLab without a password: once, within five minutes.

    req: SessionExpirationDurationInSeconds (1800-43200, 43200 when not given): how long the session behind the URL lasts.
    Errors: ValidationException - RecordNotFound, or it does not run.
    Differs: the URL is this server's and leads to the address where Jupyter listens on this machine, so it opens on this machine.
        A restart of the server ends URLs that were not opened.
    """
    fleet = fleet_of(ctx.cloud)
    record = _found(ctx, req)
    if record[STATUS] != "InService":
        raise Invalid(
            f"Status ({record[STATUS]}) not in ([InService]). Unable to create a presigned URL for Notebook Instance "
            f"({record[f'{NOUN}Arn']})."
        )
    name = record[f"{NOUN}Name"]
    token = fleet.runs.tickets.issue(_place(ctx, name), req.get("SessionExpirationDurationInSeconds") or SESSION_S)
    return {"AuthorizedUrl": presigned_url(ctx.cloud.endpoint, name, token)}


TRANSITIONS = {
    "Pending": ("Stopped", "Failed"),
    "Stopping": ("InService",),
    "Updating": ("Stopped", "Failed"),
    "Deleting": ("Stopped", "Failed"),
}
"""What one may ask for, and from where. The other half is the fleet's."""

_SCRIPTS = "NotebookInstanceLifecycleConfigName"
_CHANGEABLE = (
    "InstanceType",
    "RoleArn",
    "VolumeSizeInGB",
    "RootAccess",
    "PlatformIdentifier",
    "IpAddressType",
    "InstanceMetadataServiceConfiguration",
)


def _move(ctx: Context, req: Mapping[str, Any], status: str) -> None:
    """Into a state, if it can be reached from where the instance is."""
    _found(ctx, req)

    def moved(value: Record) -> Record:
        _check_transition(value, status)
        return {**value, STATUS: status, "LastModifiedTime": ctx.clock.now(), "FailureReason": None, "Url": None}

    ctx.records(NOUN).update(_id(req), moved, lambda value: [state_note.noting(ctx.cloud, ctx.account, ctx.region, NOUN, value)])
    state_note.wake(ctx.cloud, ctx.account, ctx.region)


def _check_transition(record: Record, status: str) -> None:
    allowed = TRANSITIONS[status]
    if record[STATUS] not in allowed:
        raise Invalid(
            f"Status ({record[STATUS]}) not in ([{', '.join(allowed)}]). Unable to transition to ({status}) for Notebook Instance "
            f"({record[f'{NOUN}Arn']})."
        )


def _found(ctx: Context, req: Mapping[str, Any]) -> Record:
    record = ctx.records(NOUN).find(_id(req))
    if record is None:
        raise ServiceError("ValidationException", "RecordNotFound")
    return record


def _id(req: Mapping[str, Any]) -> str:
    return str(req["NotebookInstanceName"]).lower()


def _place(ctx: Context, name: str) -> Place:
    return Place(ctx.account, ctx.region, name.lower())


def _kept(req: Mapping[str, Any]) -> Record:
    left_out = ("Tags", "SecurityGroupIds", "LifecycleConfigName")
    kept = {key: value for key, value in req.items() if key not in left_out and value not in (None, [])}
    return {**kept, _SCRIPTS: req.get("LifecycleConfigName") or None}


def _defaults(ctx: Context) -> Record:
    """What AWS fills in."""
    now = ctx.clock.now()
    return {
        STATUS: "Pending",
        "CreationTime": now,
        "LastModifiedTime": now,
        "DirectInternetAccess": "Enabled",
        "RootAccess": "Enabled",
        "VolumeSizeInGB": 5,
        "PlatformIdentifier": "notebook-al2-v3",
        "IpAddressType": "ipv4",
        "InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": "1"},
    }

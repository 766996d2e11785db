"""Algorithms: a training image with what it declares: hyperparameters, channels, metrics, instance types.

Training and tuning jobs that name one are held to the declaration (algorithm_use.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker import training_job
from pilvi.services.sagemaker.algorithm_check import check_declaration, check_validation, validation_request
from pilvi.services.sagemaker.algorithm_use import NOUN, find_algorithm, status_of
from pilvi.services.sagemaker.job_kind import Record, one_page
from pilvi.services.sagemaker.tag import tagging, untagging
from pilvi.storage.records import Change

ops = Operations()


@ops
def create_algorithm(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Declare an algorithm. With a ValidationSpecification its training job runs, and decides whether the algorithm may be used.

    req: AlgorithmName (1-63), TrainingSpecification with image, channels and instance types; up to 100 hyperparameters.
    Errors: ValidationException - the name is taken, the declaration contradicts itself, or the validation job would be refused.
    Differs: images are not scanned. Validation by a batch transform job and certification for the AWS Marketplace are refused.
        InferenceSpecification is recorded.
    """
    name = req["AlgorithmName"]
    arn, algorithms = ctx.arn(f"algorithm/{name.lower()}"), ctx.records(NOUN)
    taken = ServiceError("ValidationException", f"Algorithm already exists: {arn}")
    if algorithms.find(name.lower()) is not None:
        raise taken
    check_declaration(ctx, req)
    record: Record = {key: value for key, value in req.items() if key != "Tags"}
    record |= {"AlgorithmArn": arn, "CreationTime": ctx.clock.now()}
    tags = tagging(ctx, arn, req.get("Tags"))
    try:
        if req.get("ValidationSpecification"):
            _validate(ctx, record, *tags)
        else:
            ctx.write(algorithms.insertion(name.lower(), record), *tags)
    except AlreadyExists:
        raise taken from None
    return {"AlgorithmArn": arn}


@ops
def describe_algorithm(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """An algorithm's declaration, and how its validation stands.

    req: AlgorithmName: its name or ARN.
    Errors: ValidationException - there is none.
    """
    record = find_algorithm(ctx, req["AlgorithmName"])
    status, reason = status_of(ctx, record)
    profiles = (record.get("ValidationSpecification") or {}).get("ValidationProfiles") or ()
    statuses = [{"Name": profile["ProfileName"], "Status": status, "FailureReason": reason} for profile in profiles]
    return {
        **record,
        "AlgorithmStatus": status,
        "AlgorithmStatusDetails": {"ValidationStatuses": statuses, "ImageScanStatuses": []},
    }


@ops
def list_algorithms(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Algorithms, a page at a time, filtered by name and time of creation, sorted by Name or CreationTime.

    Errors: ValidationException - a foreign token.
    """
    entries = [_summary(ctx, record) for record in ctx.records(NOUN).all()]
    page, more = one_page(entries, req, NOUN, by="CreationTime", order="Ascending")
    return {"AlgorithmSummaryList": page, "NextToken": more}


@ops
def delete_algorithm(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget an algorithm. Jobs that were started with it go on.

    Errors: ValidationException - there is none. ConflictException - it is being validated.
    """
    record = find_algorithm(ctx, req["AlgorithmName"])
    if status_of(ctx, record)[0] == "InProgress":
        raise ServiceError("ConflictException", f"Algorithm {record['AlgorithmName']} is being validated and cannot be deleted.")
    ctx.write(ctx.records(NOUN).deletion(record["AlgorithmName"].lower()), *untagging(ctx, record["AlgorithmArn"]))


# -- validation ------------------------------------------------------------------------------------------------------------


def _validate(ctx: Context, record: Record, *changes: Change) -> None:
    """Start the training job that shows whether the algorithm works, and keep the algorithm with it."""
    check_validation(record)
    name = record["AlgorithmName"]
    job_name = f"{name[:40]}-validation-{ctx.ids.hex(8)}"
    record["_validation"] = job_name
    insertion = ctx.records(NOUN).insertion(name.lower(), record)
    training_job.start(ctx, validation_request(record, job_name), insertion, *changes)


def _summary(ctx: Context, record: Record) -> Record:
    members = ("AlgorithmName", "AlgorithmArn", "AlgorithmDescription", "CreationTime")
    return {
        **{member: record.get(member) for member in members},
        "AlgorithmStatus": status_of(ctx, record)[0],
        "LastModifiedTime": record["CreationTime"],
    }

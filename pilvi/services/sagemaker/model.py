"""Models: an image, what it loads, and the role it works under. Endpoints and transform jobs run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Invalid
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker.job_kind import Record, one_page
from pilvi.services.sagemaker.model_check import check_request, check_surroundings
from pilvi.services.sagemaker.tag import tagging, untagging

ops = Operations()

NOUN = "Model"


@ops
def create_model(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a model: one container, several in a row (an inference pipeline), or several that are asked by name.

    req: ModelName (1-63), PrimaryContainer or Containers (2-15), each with Image, ModelDataUrl or ModelDataSource, Environment, Mode;
        InferenceExecutionConfig (Serial, Direct); ExecutionRoleArn; VpcConfig, EnableNetworkIsolation, Tags.
    Errors: ValidationException - the name is taken, the role cannot be assumed, there is no such image, the model's data are not
        there or the role may not read them, or something is asked for that is not built. AccessDeniedException - the caller may
        not pass the role.
    Source: SageMaker API reference, CreateModel, ContainerDefinition; messages as users of AWS report them.
    Differs: VpcConfig is recorded and does nothing. Model packages, private registries in a VPC and additional data sources are refused.
    """
    name, arn = req["ModelName"], ctx.arn(f"model/{req['ModelName'].lower()}")
    check_request(ctx, req)
    models = ctx.records(NOUN)
    if models.find(name.lower()) is not None:
        raise taken(arn)
    check_surroundings(ctx, req, arn)
    record = {**recorded(req), "ModelArn": arn, "CreationTime": ctx.clock.now()}
    try:
        ctx.write(models.insertion(name.lower(), record), *tagging(ctx, arn, req.get("Tags")))
    except AlreadyExists:
        raise taken(arn) from None
    return {"ModelArn": arn}


@ops
def describe_model(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about one model. Errors: ValidationException - there is none of this name."""
    return find_model(ctx, req["ModelName"])


@ops
def list_models(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Models, a page at a time, filtered by name and time. Errors: ValidationException - a foreign token."""
    page, more = listed(ctx, NOUN, req)
    return {"Models": page, "NextToken": more}


@ops
def delete_model(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a model. Its data stay, and so do endpoints that run it. Errors: ValidationException - there is none of this name."""
    record = find_model(ctx, req["ModelName"])
    ctx.write(ctx.records(NOUN).deletion(record["ModelName"].lower()), *untagging(ctx, record["ModelArn"]))


def find_model(ctx: Context, name: str) -> Record:
    found = ctx.records(NOUN).find(name.lower())
    if found is None:
        raise Invalid(f'Could not find model "{ctx.arn(f"model/{name.lower()}")}".')
    return found


def containers_of(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [model["PrimaryContainer"]] if model.get("PrimaryContainer") else list(model["Containers"])


def recorded(req: Mapping[str, Any]) -> Record:
    """The request as Describe gives it back, with what AWS fills in."""
    record: Record = {name: value for name, value in req.items() if name != "Tags"}
    record["EnableNetworkIsolation"] = bool(req.get("EnableNetworkIsolation"))
    if req.get("PrimaryContainer"):
        record["PrimaryContainer"] = _container(req["PrimaryContainer"])
    if req.get("Containers"):
        record["Containers"] = [_container(one) for one in req["Containers"]]
        record["InferenceExecutionConfig"] = req.get("InferenceExecutionConfig") or {"Mode": "Serial"}
    return record


def _container(given: Mapping[str, Any]) -> Record:
    found = {"Mode": "SingleModel", "Environment": {}, **given}
    url, is_multi = given.get("ModelDataUrl"), found["Mode"] == "MultiModel"
    if url and not given.get("ModelDataSource") and not is_multi:
        found["ModelDataSource"] = {"S3DataSource": {"S3Uri": url, "S3DataType": "S3Object", "CompressionType": "Gzip"}}
    return found


def listed(ctx: Context, noun: str, req: Mapping[str, Any]) -> tuple[list[Record], str | None]:
    """A page of what has a name, an ARN and a time of creation."""
    members = (f"{noun}Name", f"{noun}Arn", "CreationTime")
    entries = [
        {name: record[name] for name in members} | {"LastModifiedTime": record["CreationTime"]}
        for record in ctx.records(noun).all()
    ]
    return one_page(entries, req, noun, by="CreationTime", order="Descending")


def taken(arn: str) -> Invalid:
    return Invalid(f'Cannot create already existing model "{arn}".')

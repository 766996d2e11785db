"""Hyperparameter tuning jobs: many training jobs over ranges of hyperparameters, of which the best is kept.

the operations (here) -- record --> tuning_control.py: one thread while the job runs
                                      tuning_choice.py, tuning_model.py   what the next trial tries
                                      tuning_rule.py                      which trial ends early, when all is done
                                      tuning_child.py                     a trial as a CreateTrainingJob request
                                      tuning_trial.py                     a trial's record, counts, the best
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Invalid, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker import state_note
from pilvi.services.sagemaker.job_kind import Record, one_page
from pilvi.services.sagemaker.tag import tagging, untagging
from pilvi.services.sagemaker.tuning_check import check_children, completed
from pilvi.services.sagemaker.tuning_child import definitions_of, objective_of, objectives_of
from pilvi.services.sagemaker.tuning_control import RUNNING, STATUS, Place, control_of, seen
from pilvi.services.sagemaker.tuning_rule import converged_at, not_improving
from pilvi.services.sagemaker.tuning_trial import NOUN, Trial, best_of, counters, from_record, prefix, summary
from pilvi.services.sagemaker.tuning_warm_start import TUNING_JOB, check_parents, missing, overall_best

ops = Operations()

_SEED_BITS = 31


@ops
def create_hyper_parameter_tuning_job(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Start a tuning job. It goes on until it is done, also when the server is restarted in between.

    req: HyperParameterTuningJobName (1-32 letters, digits, hyphens); HyperParameterTuningJobConfig with Strategy, ResourceLimits,
        objective and up to 30 ranges; TrainingJobDefinition, or up to 10 TrainingJobDefinitions with objective and ranges of their own.
    Errors: ResourceInUse - the name is taken. ResourceNotFound - a parent of the warm start is missing. ResourceLimitExceeded -
        more jobs or ranges than AWS allows. ValidationException - ranges, strategy or objective make no sense, or the training
        jobs would be refused. AccessDeniedException - the caller may not pass a role.
    Source: SageMaker API reference; Developer Guide, "Automatic Model Tuning"; messages for a taken name and a missing metric as
        users of AWS report them.
    Differs: Bayesian and Hyperband need the extra pilvi[tuning] and choose with Optuna's estimator, so their values are not AWS's.
        Auto scaling is logarithmic where a range's ends differ by a factor of 100. Early stopping begins with three completed
        training jobs. Convergence is 20 training jobs in a row without an improvement of 1 %. Definitions take turns, and their
        objectives must be of one type. Autotune sets ranges around the hints, 50 training jobs and stopping on convergence.
    """
    name = req[f"{TUNING_JOB}Name"]
    jobs = ctx.records(TUNING_JOB)
    taken = AlreadyExists(f"A hyperparameter tuning job with the name, {name}, already exists. Choose a different name.")
    if jobs.find(name.lower()) is not None:
        raise taken
    record = completed(ctx, req)
    check_parents(ctx, record)
    check_children(ctx, record)
    arn, now = ctx.arn(f"hyper-parameter-tuning-job/{name.lower()}"), ctx.clock.now()
    seed = record[f"{TUNING_JOB}Config"].get("RandomSeed")
    record |= {
        f"{TUNING_JOB}Arn": arn,
        STATUS: "InProgress",
        "CreationTime": now,
        "LastModifiedTime": now,
        "_seed": int(ctx.ids.hex(8), 16) >> (32 - _SEED_BITS) if seed is None else seed,
    }
    control = control_of(ctx.cloud)
    try:
        noted = state_note.noting(ctx.cloud, ctx.account, ctx.region, TUNING_JOB, record)
        ctx.write(jobs.insertion(name.lower(), record), *tagging(ctx, arn, req.get("Tags")), noted)
    except AlreadyExists:
        raise taken from None
    state_note.wake(ctx.cloud, ctx.account, ctx.region)
    control.run(Place(ctx.account, ctx.region, name.lower()))
    return {f"{TUNING_JOB}Arn": arn}


@ops
def describe_hyper_parameter_tuning_job(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about one tuning job, with its best training job so far.

    Errors: ResourceNotFound - there is none of this name.
    """
    return described(ctx, find(ctx, req[f"{TUNING_JOB}Name"]))


@ops
def list_hyper_parameter_tuning_jobs(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tuning jobs, a page at a time, filtered by name, status and times, sorted by Name, CreationTime or Status.

    Errors: ValidationException - a foreign token.
    """
    entries = [_summary(ctx, record) for record in ctx.records(TUNING_JOB).all()]
    page, more = one_page(entries, req, TUNING_JOB, by="Name", order="Ascending")
    return {f"{TUNING_JOB}Summaries": page, "NextToken": more}


@ops
def list_training_jobs_for_hyper_parameter_tuning_job(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The training jobs that a tuning job launched, with the values each tried and its objective.

    req: SortBy FinalObjectiveMetricValue leaves out those without an objective.
    Errors: ResourceNotFound - there is no tuning job of this name. ValidationException - a foreign token.
    """
    record = find(ctx, req[f"{TUNING_JOB}Name"])
    trials = trials_of(ctx, record)
    by = req.get("SortBy") or "Name"
    if by == "FinalObjectiveMetricValue":
        trials = [trial for trial in trials if trial.objective is not None]
    if (wanted := req.get("StatusEquals")) is not None:
        trials = [trial for trial in trials if trial.status == wanted]
    trials.sort(key=lambda trial: _position(trial, by), reverse=req.get("SortOrder") == "Descending")
    start = _start(req.get("NextToken"))
    end = start + (req.get("MaxResults") or 10)
    return {
        "TrainingJobSummaries": [_trial_summary(record, trial) for trial in trials[start:end]],
        "NextToken": encode_token(str(end)) if end < len(trials) else None,
    }


@ops
def stop_hyper_parameter_tuning_job(ctx: Context, req: Mapping[str, Any]) -> None:
    """End a tuning job and every training job of it that runs; what those have left is kept.

    Errors: ResourceNotFound - there is none of this name. ValidationException - it has ended.
    """
    record = find(ctx, req[f"{TUNING_JOB}Name"])
    name = record[f"{TUNING_JOB}Name"].lower()

    def stopping(value: Record) -> Record:
        if value[STATUS] not in RUNNING:
            raise ServiceError(
                "ValidationException",
                f"The request was rejected because the hyper parameter tuning job is in status {value[STATUS]}.",
            )
        return value | {STATUS: "Stopping", "LastModifiedTime": ctx.clock.now()}

    ctx.records(TUNING_JOB).update(
        name, stopping, lambda value: [state_note.noting(ctx.cloud, ctx.account, ctx.region, TUNING_JOB, value)]
    )
    state_note.wake(ctx.cloud, ctx.account, ctx.region)
    control_of(ctx.cloud).run(Place(ctx.account, ctx.region, name))
    for trial in trials_of(ctx, record):
        if trial.is_live and (job := ctx.records("TrainingJob").find(trial.job_name.lower())) is not None:
            ctx.jobs.stop(job["_job"])


@ops
def delete_hyper_parameter_tuning_job(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a tuning job that has ended; its name is free again. Its training jobs stay.

    Errors: ResourceInUse - it has not ended. Deleting one that is not there is no error, as AWS's model declares none.
    """
    row = ctx.records(TUNING_JOB).row(req[f"{TUNING_JOB}Name"].lower())
    if row is None:
        return
    if (status := row.value[STATUS]) in RUNNING:
        raise ServiceError("ResourceInUse", f"Hyperparameter tuning job {row.value[f'{TUNING_JOB}Name']} is in status {status}.")
    trials = ctx.records(NOUN)
    gone = [trials.deletion(entry.id) for entry in _rows_of(ctx, row.value)]
    ctx.write(ctx.records(TUNING_JOB).deletion(row.id, row.version), *gone, *untagging(ctx, row.value[f"{TUNING_JOB}Arn"]))


# -- what others may ask ---------------------------------------------------------------------------------------------------


def find(ctx: Context, name: str) -> Record:
    """The record of a tuning job; AWS's error when there is none."""
    record = ctx.records(TUNING_JOB).find(name.lower())
    if record is None:
        raise missing(name)
    return record


def trials_of(ctx: Context, record: Mapping[str, Any]) -> list[Trial]:
    """Every trial, as it stands now."""
    objectives, jobs = objectives_of(record), dict[int, str]()
    found = [from_record(row.value) for row in _rows_of(ctx, record)]
    return [seen(ctx, trial, objectives[trial.definition], jobs) if trial.is_live else trial for trial in found]


def described(ctx: Context, record: Record) -> Record:
    """The record with what its training jobs say."""
    objectives, trials = objectives_of(record), trials_of(ctx, record)
    best = best_of(trials, objectives)
    found = {**record, **counters(trials)}
    if best is not None:
        found["BestTrainingJob"] = _trial_summary(record, best)
    if (above := overall_best(ctx, record, best, objectives)) is not None:
        found["OverallBestTrainingJob"] = _trial_summary(record, above[0]) | {"TuningJobName": above[1]}
    ended = record.get("HyperParameterTuningEndTime") or ctx.clock.now()
    found["ConsumedResources"] = {"RuntimeInSeconds": int((ended - record["CreationTime"]).total_seconds())}
    found["TuningJobCompletionDetails"] = {
        "NumberOfTrainingJobsObjectiveNotImproving": not_improving(trials, objectives),
        "ConvergenceDetectedTime": converged_at(trials, objectives),
    }
    times = (time for trial in trials for time in (trial.created, trial.ended) if time is not None)
    found["LastModifiedTime"] = max(record["LastModifiedTime"], *times, record["LastModifiedTime"])
    return found


# -- private ---------------------------------------------------------------------------------------------------------------


def _rows_of(ctx: Context, record: Mapping[str, Any]) -> list[Any]:
    rows, after, start = [], "", prefix(record[f"{TUNING_JOB}Name"])
    while page := ctx.records(NOUN).scan(prefix=start, after=after):
        rows += page
        after = page[-1].id
    return rows


def _trial_summary(record: Mapping[str, Any], trial: Trial) -> Record:
    # Of a parent's trial, too: a warm start has one definition, and so have its parents.
    definition = definitions_of(record)[trial.definition]
    return summary(trial, objective_of(record[f"{TUNING_JOB}Config"], definition), definition.get("DefinitionName"))


def _start(token: str | None) -> int:
    position = decode_token(token)
    if position and not position.isdigit():
        raise Invalid("Invalid NextToken.")
    return int(position or 0)


def _position(trial: Trial, by: str) -> tuple[Any, str]:
    value = {
        "CreationTime": trial.created,
        "Status": trial.status,
        "FinalObjectiveMetricValue": trial.objective,
    }.get(by, trial.job_name)
    return value, trial.job_name


def _summary(ctx: Context, record: Record) -> Record:
    """One entry of the list. An ended tuning job's counts stand in its record."""
    found = {
        **{
            member: record[member]
            for member in (f"{TUNING_JOB}Name", f"{TUNING_JOB}Arn", STATUS, "CreationTime", "LastModifiedTime")
        },
        "HyperParameterTuningEndTime": record.get("HyperParameterTuningEndTime"),
        "Strategy": record[f"{TUNING_JOB}Config"]["Strategy"],
        "ResourceLimits": record[f"{TUNING_JOB}Config"]["ResourceLimits"],
    }
    if record[STATUS] not in RUNNING:
        return found | {name: record[name] for name in ("TrainingJobStatusCounters", "ObjectiveStatusCounters")}
    return found | counters(trials_of(ctx, record))

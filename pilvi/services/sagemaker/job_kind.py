"""What all job kinds of SageMaker share, as data: words for states, paging and sorting, stopping, failure reasons.

A kind is a record, not a class to inherit from: training_job.py makes one, processing and transform will make theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context
from pilvi.jobs import LIVE, Status
from pilvi.services.sagemaker import job_list

_NOT_FOUND = (
    "A program was not found, or cannot be run here: the last lines of the job's log name it. Please check ContainerEntrypoint, "
    "ContainerArguments and what is in the image."
)
Record = dict[str, Any]
Job = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Words:
    """How a kind calls a state."""

    primary: str
    secondary: str
    message: str


@dataclass(frozen=True, slots=True)
class JobKind:
    noun: str
    """Table, and prefix of its members: TrainingJob -> TrainingJobName, TrainingJobArn, TrainingJobStatus."""
    words: Mapping[Status, Words]
    summary: Callable[[Record, Job], Record]
    """One entry of its List answer."""
    sort_default: str = "CreationTime"
    order_default: str = "Ascending"
    missing: str = "Requested resource not found."
    """What AWS says when there is none; {name} stands for the name."""
    is_indexed: bool = False
    """Whether its records are kept in job_list's index: whoever makes and forgets them adds `indexing` and `unindexing`."""

    def find(self, ctx: Context, name: str) -> tuple[Record, Job]:
        """The noun's record and its job; AWS's error when there is none."""
        record = ctx.records(self.noun).find(name.lower())
        if record is None:
            raise ServiceError("ValidationException", self.missing.replace("{name}", name))
        return record, ctx.jobs.get(record["_job"])

    def status(self, job: Job) -> Words:
        """Where the job is, in the kind's words."""
        status, outcome = Status(job["status"]), job["outcome"]
        words = self.words[status]
        if status is Status.UPLOADING and outcome in (Status.STOPPED, Status.TIMED_OUT, Status.WAITED_OUT):
            return Words(self.words[Status.STOPPING].primary, words.secondary, words.message)
        return words

    def transitions(self, job: Job) -> list[Record]:
        """SecondaryStatusTransitions: one entry for a status, with the latest message, as AWS gives it."""
        found: list[Record] = []
        for entry in job["transitions"]:
            words = self.words[Status(entry["status"])]
            start = entry["start"]
            if found and found[-1]["Status"] == words.secondary:
                start = found.pop()["StartTime"]
            found.append(
                {"Status": words.secondary, "StartTime": start, "EndTime": entry.get("end"), "StatusMessage": words.message}
            )
        if reason := job.get("waiting_reason"):
            found[-1]["StatusMessage"] += f". {reason}"
        return found

    def stop(self, ctx: Context, name: str) -> None:
        """Ask for the end; an ended job is told as AWS tells it."""
        record, job = self.find(ctx, name)
        if Status(job["status"]) not in LIVE:
            status = self.status(job).primary
            raise ServiceError(
                "ValidationException",
                f"The request was rejected because the {_spoken(self.noun)} is in status {status}.",
            )
        ctx.jobs.stop(record["_job"])

    def listed(self, ctx: Context, req: Mapping[str, Any]) -> Record:
        """One page of summaries, filtered and sorted as asked."""
        if self.is_indexed and req.get("SortBy") in (None, "CreationTime", "Name"):
            page, more = job_list.page(ctx, self.noun, req, lambda record: self._wanted(ctx, record, req), order=self.order_default)
            return {f"{self.noun}Summaries": page, "NextToken": more}
        found = [(record, ctx.jobs.get(record["_job"])) for record in ctx.records(self.noun).all()]
        entries = [self.summary(record, job) for record, job in found]
        page, more = one_page(entries, req, self.noun, by=self.sort_default, order=self.order_default)
        return {f"{self.noun}Summaries": page, "NextToken": more}

    def _wanted(self, ctx: Context, record: Record, req: Mapping[str, Any]) -> Record | None:
        """The record's entry, or None where the request is not after it. What needs no job is looked at first."""
        if (text := req.get("NameContains")) and text.lower() not in record[f"{self.noun}Name"].lower():
            return None
        entry = self.summary(record, ctx.jobs.get(record["_job"]))
        return entry if _is_wanted(entry, req, self.noun) else None


def one_page(
    entries: Sequence[Record], req: Mapping[str, Any], noun: str, *, by: str, order: str
) -> tuple[list[Record], str | None]:
    """The entries that a List request is after, sorted, and the token of its next page. by, order: when it does not say."""
    kept = [entry for entry in entries if _is_wanted(entry, req, noun)]
    by = req.get("SortBy") or by
    is_descending = (req.get("SortOrder") or order) == "Descending"
    member = {"Name": f"{noun}Name", "Status": f"{noun}Status"}.get(by, by)
    kept.sort(key=lambda entry: _position(entry, member, noun), reverse=is_descending)
    if token := req.get("NextToken"):
        last = _last_position(token)
        kept = [
            entry
            for entry in kept
            if (_position(entry, member, noun) < last if is_descending else _position(entry, member, noun) > last)
        ]
    size = req.get("MaxResults") or 10
    more = encode_token(json.dumps(_position(kept[size - 1], member, noun))) if len(kept) > size else None
    return kept[:size], more


def failure_reason(job: Job) -> str | None:
    """Why a job failed, in the forms AWS gives: ClientError, AlgorithmError, InternalServerError."""
    if job["status"] != Status.FAILED:
        return None
    if (code := job.get("exit_code")) not in (None, 0):
        return _algorithm_error(job, code)
    reason, broke_at = job["reason"], job.get("broke_at")
    if job.get("is_internal"):
        return str(reason)
    if broke_at == Status.DOWNLOADING:
        return f"ClientError: Data download failed:{reason}"
    if broke_at == Status.UPLOADING:
        return f"ClientError: Artifact upload failed:{reason}"
    if broke_at is not None:
        return f"ClientError: {reason}"
    if job.get("exit_reason") == "memory":
        return _algorithm_error(job, 137)
    return f"InternalServerError: {reason}"


def _algorithm_error(job: Job, code: int) -> str:
    if job.get("exit_reason") == "disk":
        return (
            "ClientError: The job wrote more than its storage volume holds (VolumeSizeInGB). "
            "Please use a larger volume, or keep less data on it."
        )
    if job.get("exit_reason") == "machine-disk":
        return "ClientError: The disk of the machine is full, and this job takes most of it. Please keep less data on it."
    if job.get("exit_reason") == "memory":
        return "ClientError: Please use an instance type with more memory, or reduce the size of job data processed on an instance."
    text = job.get("failure_text") or (_NOT_FOUND if code == 127 else "")
    # Built-in algorithms tell by exit code 2 that the user can mend it.
    if code == 2 and text.startswith("ClientError: "):
        return f"{text}, exit code: 2"
    return f"AlgorithmError: {text}, exit code: {code if code >= 0 else 128 - code}"


def _is_wanted(entry: Record, req: Mapping[str, Any], noun: str) -> bool:
    created, modified = entry["CreationTime"], entry["LastModifiedTime"]
    tests = (
        ("CreationTimeAfter", lambda limit: created >= limit),
        ("CreationTimeBefore", lambda limit: created <= limit),
        ("LastModifiedTimeAfter", lambda limit: modified >= limit),
        ("LastModifiedTimeBefore", lambda limit: modified <= limit),
        ("NameContains", lambda text: text.lower() in entry[f"{noun}Name"].lower()),
        ("StatusEquals", lambda status: entry[f"{noun}Status"] == status),
        ("WarmPoolStatusEquals", lambda status: (entry.get("WarmPoolStatus") or {}).get("Status") == status),
    )
    return all(test(req[name]) for name, test in tests if req.get(name) is not None)


def _position(entry: Record, member: str, noun: str) -> tuple[Any, str]:
    """Where an entry stands in a sorted list: the value asked for, then the name, so that no two are equal."""
    value = entry[member]
    return (value.timestamp() if isinstance(value, datetime) else value, entry[f"{noun}Name"])


def _last_position(token: str) -> tuple[Any, str]:
    try:
        value, name = json.loads(decode_token(token))
    except (ValueError, TypeError) as error:
        raise Invalid("Invalid NextToken.") from error
    return value, name


def _spoken(noun: str) -> str:
    """TrainingJob -> training job."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in noun).strip()


def duplicates(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})

"""Lists of Studio's resources: whole names, one domain's, in the order of their times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.services.sagemaker.job_kind import Record, one_page


def modified(req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request, its ModifiedTimeAfter and ...Before under the names that other lists have for them."""
    names = {"ModifiedTimeAfter": "LastModifiedTimeAfter", "ModifiedTimeBefore": "LastModifiedTimeBefore"}
    return {names.get(name, name): value for name, value in req.items()}


def page_of(records: Sequence[Record], req: Mapping[str, Any], noun: str) -> tuple[list[Record], str | None]:
    """One page of a domain's (or all domains') resources, filtered by the request's ...Equals and ...Contains."""
    found = [record for record in records if _is_wanted(record, req, noun)]
    # Names are only unique within their domain.
    keyed = [{"LastModifiedTime": record["CreationTime"], **record, f"{noun}Name": record["_key"]} for record in found]
    plain = {name: value for name, value in req.items() if not name.startswith("StatusEquals")}
    page, more = one_page(keyed, plain, noun, by="CreationTime", order="Ascending")
    names = {record["_key"]: record for record in found}
    return [names[entry[f"{noun}Name"]] for entry in page], more


def _is_wanted(record: Record, req: Mapping[str, Any], noun: str) -> bool:
    contains = req.get(f"{noun}NameContains")
    equals = {"DomainIdEquals": "DomainId", "UserProfileNameEquals": "UserProfileName", "SpaceNameEquals": "SpaceName"}
    return (not contains or contains.lower() in record[f"{noun}Name"].lower()) and all(
        req.get(name) in (None, record.get(member)) for name, member in equals.items()
    )

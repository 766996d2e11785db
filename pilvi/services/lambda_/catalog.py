"""What an invocation runs, looked up once and remembered until any row of Lambda changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import NotFound
from pilvi.services.lambda_.names import LATEST, FunctionRef, function_not_found, version_id
from pilvi.storage.records import Rows, Table

if TYPE_CHECKING:
    from pilvi.core.ids import Ids
    from pilvi.core.service import Cloud

_KEY = "lambda-catalog"


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One version of a function as it stands. Equal keys may share warm workers."""

    account: str
    region: str
    name: str
    version: str
    arn: str
    """Of the function, without a qualifier."""
    key: str
    record: Mapping[str, Any]
    memory_mib: int
    timeout_s: int
    reserved: int | None
    """Reserved concurrency of the function."""
    may_loop: bool = False
    """It is run however often a chain of events comes back to it."""


@dataclass(frozen=True, slots=True)
class _Route:
    """Where a name leads: to one version, or with some probability to another."""

    main: Target
    other: Target | None = None
    weight: float = 0.0


class Catalog:
    """Answers from memory; safe from any thread (at worst something is looked up twice)."""

    def __init__(self, cloud: Cloud) -> None:
        self._store = cloud.store
        self._generation = -1
        self._routes: dict[FunctionRef, _Route] = {}
        self._policies: dict[FunctionRef, dict[str, Any] | None] = {}
        self._reserved: dict[tuple[str, str], int] = {}

    def target(self, ref: FunctionRef, ids: Ids) -> Target:
        """The version to run now. Errors: ResourceNotFoundException."""
        self._refresh()
        route = self._routes.get(ref)
        if route is None:
            route = self._routes[ref] = self._route(ref)
        if route.other is not None and int(ids.hex(8), 16) < route.weight * 2**32:
            return route.other
        return route.main

    def policy(self, ref: FunctionRef) -> dict[str, Any] | None:
        """The policy document of a function, version or alias; None when there is none."""
        self._refresh()
        if ref not in self._policies:
            found = self._rows(ref, "Policy").find(f"{ref.name}/{ref.version_or_alias}")
            self._policies[ref] = found["Policy"] if found else None
        return self._policies[ref]

    def reserved_total(self, account: str, region: str) -> int:
        """Concurrency that functions of an account have for themselves."""
        self._refresh()
        place = (account, region)
        if place not in self._reserved:
            rows = Rows(self._store, Table(account, region, "lambda", "Function"))
            self._reserved[place] = sum(record["_reserved"] or 0 for record in rows.all())
        return self._reserved[place]

    def _refresh(self) -> None:
        generation = self._store.generation("lambda")
        if generation != self._generation:
            self._routes, self._policies, self._reserved = {}, {}, {}
            self._generation = generation

    def _rows(self, ref: FunctionRef, noun: str) -> Rows:
        return Rows(self._store, Table(ref.account, ref.region, "lambda", noun))

    def _route(self, ref: FunctionRef) -> _Route:
        latest = self._rows(ref, "Function").find(ref.name)
        if latest is None:
            raise function_not_found(ref)
        wanted = ref.version_or_alias
        if not wanted or wanted.isdigit():
            return _Route(self._version(ref, latest, wanted))
        alias = self._rows(ref, "Alias").find(f"{ref.name}/{wanted}")
        if alias is None:
            raise function_not_found(ref)
        main = self._version(ref, latest, alias["FunctionVersion"])
        weights: dict[str, float] = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
        for version, weight in weights.items():
            return _Route(main, self._version(ref, latest, version), weight)
        return _Route(main)

    def _version(self, ref: FunctionRef, latest: Mapping[str, Any], version: str) -> Target:
        record = latest
        if version not in ("", LATEST):
            try:
                record = self._rows(ref, "Version").get(version_id(ref.name, version))
            except NotFound as error:
                raise function_not_found(ref) from error
        return Target(
            account=ref.account,
            region=ref.region,
            name=ref.name,
            version=record["Version"],
            arn=ref.arn,
            key=f"{ref.arn}:{record['Version']}:{record['_id']}:{record['RevisionId']}",
            record=record,
            memory_mib=record["MemorySize"],
            timeout_s=record["Timeout"],
            reserved=latest["_reserved"],
            may_loop=latest.get("_recursion") == "Allow",
        )


def catalog_of(cloud: Cloud) -> Catalog:
    found = cloud.memory.get(_KEY)
    if found is None:
        found = cloud.memory[_KEY] = Catalog(cloud)
    assert isinstance(found, Catalog)
    return found

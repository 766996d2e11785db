"""Trying policies out: what `iam:SimulatePrincipalPolicy` and `SimulateCustomPolicy` answer.

The decision is `policy.decide`'s own, so a simulation never differs from the real thing; this adds which statements it
rests on and which condition keys it would have liked to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pilvi.auth.context import Overlay
from pilvi.auth.pattern import Facts
from pilvi.auth.policy import Policy, PolicySet, Statement, compiled, decide
from pilvi.core.principal import Principal
from pilvi.core.service import Access

Verdict = Literal["allowed", "explicitDeny", "implicitDeny"]
Role = Literal["identity", "boundary", "session", "resource"]


@dataclass(frozen=True, slots=True)
class Match:
    """A statement that the decision rests on."""

    role: Role
    source: str
    """ARN or name of its policy."""
    index: int
    """Its place in the policy, from 0."""
    sid: str


@dataclass(frozen=True, slots=True)
class Simulation:
    action: str
    resource: str
    decision: Verdict
    matched: tuple[Match, ...]
    missing: tuple[str, ...]
    """Condition keys and variables the policies refer to and nobody supplied, as written."""
    allowed_by_boundary: bool | None
    """None when there is no boundary."""


def simulate(
    principal: Principal,
    account: str,
    policies: PolicySet,
    actions: Iterable[str],
    resources: Sequence[str] = ("*",),
    context: Mapping[str, Any] | Facts | None = None,
    *,
    resource_policy: Mapping[str, Any] | None = None,
    resource_account: str = "",
) -> list[Simulation]:
    """What would happen for every action on every resource, in that order."""
    facts = Overlay(context, {})
    missing = _missing(policies, resource_policy, facts)
    out = []
    for action in actions:
        for resource in resources or ("*",):
            access = Access(action, resource, resource_policy, resource_account)
            out.append(_simulated(principal, account, policies, access, facts, missing))
    return out


def _simulated(
    principal: Principal, account: str, policies: PolicySet, access: Access, facts: Facts, missing: tuple[str, ...]
) -> Simulation:
    decision = decide(principal, account, policies, access, facts)
    matching = list(_matching(principal, account, policies, access, facts))
    boundary = policies.boundary
    return Simulation(
        access.action,
        access.resource,
        "allowed" if decision.allowed else "explicitDeny" if decision.explicit else "implicitDeny",
        tuple(match for match, statement in matching if statement.allows is not decision.explicit),
        missing,
        None if boundary is None else _allows(boundary, access, facts),
    )


def _matching(
    principal: Principal, account: str, policies: PolicySet, access: Access, facts: Facts
) -> Iterator[tuple[Match, Statement]]:
    groups: list[tuple[Role, Sequence[Policy]]] = [
        ("identity", policies.identity),
        ("boundary", (policies.boundary,) if policies.boundary is not None else ()),
        ("session", policies.session or ()),
        ("resource", (compiled(access.resource_policy),) if access.resource_policy else ()),
    ]
    owner = access.resource_account or account
    for role, group in groups:
        for policy in group:
            for statement in policy.statements_on(access.action):
                is_named = statement.principal is None or statement.principal(principal, owner, statement.allows)
                if is_named and statement.applies(access.resource, facts):
                    yield Match(role, policy.source, statement.index, statement.sid), statement


def _allows(policy: Policy, access: Access, facts: Facts) -> bool:
    verdicts = [statement.allows for statement in policy.statements_on(access.action) if statement.applies(access.resource, facts)]
    return bool(verdicts) and all(verdicts)


def _missing(policies: PolicySet, resource_policy: Mapping[str, Any] | None, facts: Facts) -> tuple[str, ...]:
    every = [*policies.identity, *(policies.session or ())]
    every += [policies.boundary] if policies.boundary is not None else []
    every += [compiled(resource_policy)] if resource_policy else []
    wanted = {key.lower(): key for policy in every for key in sorted(policy.context_keys)}
    return tuple(sorted(key for low, key in wanted.items() if facts.get(low) is None))

"""IAM policies: compiled once, asked often.

    parse(document, kind) -> Policy              refused with AWS's words when malformed
    PolicySet(identity, boundary, session)       everything that binds a caller
    decide(principal, account, set, access, ...) allowed, or why not

How a decision is made (S: same account, X: the resource belongs to another account):

    an explicit deny anywhere ......................................................... denied
    S  root ........................................................................... allowed
    S  the resource policy names this user or session itself .......................... allowed
    S  the resource policy names the session's role, or everybody ..................... boundary and session policies must allow
    S  otherwise ...................................................................... identity, boundary and session must allow
    X  ................................................................................ the resource policy and all of those must allow

Key policies of KMS and trust policies of roles must themselves allow even within one account.
Source: IAM User Guide, "Policy evaluation logic" and "Permissions boundaries for IAM entities".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from pilvi.auth import conditions, grammar
from pilvi.auth.context import GlobalContext, Overlay, global_context
from pilvi.auth.grammar import MalformedPolicy, PolicyKind
from pilvi.auth.pattern import Facts, Token, Variable, expand, has_variables, matcher, tokens_of
from pilvi.auth.principals import EVERYBODY, NOBODY, PERSONALLY, PrincipalTest, compile_principal
from pilvi.core.principal import Principal
from pilvi.core.service import Access

__all__ = [
    "Access",
    "Decision",
    "GlobalContext",
    "MalformedPolicy",
    "Policy",
    "PolicyKind",
    "PolicySet",
    "Statement",
    "compiled",
    "decide",
    "global_context",
    "needs_grant",
    "parse",
]

_ACTIONS_KEPT: Final = 128
"""How many different actions a policy remembers its statements for."""

ResourceTest = Callable[[str, Facts], bool]


class Statement:
    """One compiled statement. Which actions it speaks of is asked once per action, by the policy."""

    __slots__ = ("_actions", "_not_actions", "allows", "context_keys", "index", "principal", "resource", "sid", "tests")

    def __init__(self, document: Mapping[str, Any], index: int, *, variables: bool) -> None:
        self.index = index
        self.sid: str = document.get("Sid", "")
        self.allows = document["Effect"] == "Allow"
        self._not_actions = "NotAction" in document
        actions = grammar.texts(document.get("Action", document.get("NotAction", ())))
        self._actions = [matcher(tokens_of(action.lower(), variables=False)) for action in actions]
        self.resource = _resource_test(document, self.allows, variables)
        """None: any resource."""
        self.principal: PrincipalTest | None = compile_principal(document)
        """None: the statement says nothing of principals (identity policies)."""
        self.tests = conditions.compile_condition(document.get("Condition", {}), variables=variables)
        self.context_keys = frozenset(_keys_of(document, variables))
        """Condition keys and variables it refers to, as written."""

    def speaks_of(self, action: str) -> bool:
        """Whether an action (in lower case) is one of its actions."""
        return any(match(action) for match in self._actions) is not self._not_actions

    def applies(self, resource: str, facts: Facts) -> bool:
        """Whether resource and conditions fit."""
        if self.resource is not None and not self.resource(resource, facts):
            return False
        for test in self.tests:  # noqa: SIM110  (a generator would cost more than the tests)
            if not test(facts):
                return False
        return True


class Policy:
    """A compiled policy document; `source` is its ARN or name, for those who ask what matched."""

    __slots__ = ("_by_action", "kind", "source", "statements")

    def __init__(self, statements: Iterable[Statement] = (), *, kind: PolicyKind = "identity", source: str = "") -> None:
        self.statements = tuple(statements)
        self.kind = kind
        self.source = source
        self._by_action: dict[str, tuple[Statement, ...]] = {}

    def statements_on(self, action: str) -> tuple[Statement, ...]:
        """The statements that speak of an action."""
        found = self._by_action.get(action)
        if found is None:
            if len(self._by_action) >= _ACTIONS_KEPT:
                self._by_action.clear()
            low = action.lower()
            found = self._by_action[action] = tuple(statement for statement in self.statements if statement.speaks_of(low))
        return found

    @property
    def context_keys(self) -> frozenset[str]:
        """Every condition key and variable it refers to."""
        return frozenset().union(*(statement.context_keys for statement in self.statements))


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Everything that binds a caller. None for boundary or session: there is none, so nothing is narrowed."""

    identity: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    session: tuple[Policy, ...] | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    explicit: bool = False
    """Denied by a statement that says so."""
    reason: str = ""
    """How AWS's sentence ends: "because no identity-based policy allows the s3:GetObject action"."""


ALLOWED: Final = Decision(True)


def parse(document: str | Mapping[str, Any], kind: PolicyKind, source: str = "") -> Policy:
    """A compiled policy. MalformedPolicy with AWS's message when the document is not one of this kind."""
    checked = grammar.read_document(document, kind)
    variables = checked["Version"] == "2012-10-17"
    statements = [Statement(statement, index, variables=variables) for index, statement in enumerate(checked["Statement"])]
    return Policy(statements, kind=kind, source=source)


def compiled(document: Mapping[str, Any]) -> Policy:
    """A resource's own policy, compiled; kept by its content, so a changed document is a new one."""
    if not document or not document.get("Statement"):
        return _EMPTY
    return _compiled(msgspec.json.encode(document))


@lru_cache(maxsize=1024)
def _compiled(text: bytes) -> Policy:
    document = msgspec.json.decode(text)
    statements = document["Statement"]
    variables = document.get("Version") == "2012-10-17"
    listed = statements if isinstance(statements, list) else [statements]
    return Policy([Statement(statement, index, variables=variables) for index, statement in enumerate(listed)], kind="resource")


_EMPTY: Final = Policy(kind="resource")


# -- resources of a statement -------------------------------------------------------------------------------------------


def _resource_test(document: Mapping[str, Any], allows: bool, variables: bool) -> ResourceTest | None:
    if "Resource" not in document and "NotResource" not in document:
        return None
    is_not = "NotResource" in document
    patterns = [tokens_of(text, variables=variables) for text in grammar.texts(document["NotResource" if is_not else "Resource"])]
    fixed = [matcher(tokens) for tokens in patterns if not has_variables(tokens)]
    open_ones = [tokens for tokens in patterns if has_variables(tokens)]
    if is_not:
        return _not_resource(fixed, open_ones, allows)
    if any(tokens == (0,) for tokens in patterns):
        return None
    if not open_ones:
        if len(fixed) == 1:
            only = fixed[0]
            return lambda resource, _facts: only(resource)
        return lambda resource, _facts: any(match(resource) for match in fixed)

    def test(resource: str, facts: Facts) -> bool:
        if any(match(resource) for match in fixed):
            return True
        return any(tokens is not None and matcher(tokens)(resource) for tokens in (expand(tokens, facts) for tokens in open_ones))

    return test


def _not_resource(fixed: list[Callable[[str], bool]], open_ones: list[tuple[Token, ...]], allows: bool) -> ResourceTest:
    """A variable nobody can fill never widens: an Allow then does not apply, a Deny does."""

    def test(resource: str, facts: Facts) -> bool:
        if any(match(resource) for match in fixed):
            return False
        for tokens in open_ones:
            filled = expand(tokens, facts)
            if filled is None:
                if allows:
                    return False
            elif matcher(filled)(resource):
                return False
        return True

    return test


def _keys_of(document: Mapping[str, Any], variables: bool) -> Iterable[str]:
    condition = document.get("Condition", {})
    texts = [*grammar.texts(document.get("Resource", ())), *grammar.texts(document.get("NotResource", ()))]
    for keys in condition.values():
        yield from keys
        for values in keys.values():
            texts += conditions.texts_of(values)
    for text in texts:
        yield from (token.name for token in tokens_of(text, variables=variables) if isinstance(token, Variable))


# -- deciding -----------------------------------------------------------------------------------------------------------

_DENY: Final = -1
_SILENT: Final = 0
_ALLOW: Final = 1

_ROOT_ALWAYS: Final = frozenset({"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"})
"""What a bucket policy cannot take from its account's root. Source: S3 User Guide, "Bucket policies"."""

_RULED_BY_RESOURCE: Final = ("kms:", "sts:assumerole")
"""Actions whose resource policy must allow even within the account."""

_GRANTED: Final = ("lambda:", "s3:", "sqs:", "sns:", "sts:", "kms:", "secretsmanager:")
"""Services whose resources a service principal may touch only by the resource's own policy."""


def needs_grant(action: str) -> bool:
    """Whether a service principal needs a resource policy to name it for this action, even in its own account."""
    return action.lower().startswith(_GRANTED)


def decide(
    principal: Principal,
    account: str,
    policies: PolicySet,
    access: Access,
    context: Mapping[str, Any] | Facts,
) -> Decision:
    """Whether `principal` may.

    account: where the call is made, and whose the resource is unless `access.resource_account` says otherwise.
    context: condition keys that hold for the whole request (`global_context`); `access.context` adds those of the resource.
    A service principal needs the resource policy where there is one and wherever `needs_grant`; else it may, in its own
    account. Anonymous callers need a resource policy that names everybody.
    """
    owner = access.resource_account or account
    facts = Overlay(context, access.context, owner)
    grant = _granted(access, principal, owner, facts)
    if access.is_gate:
        return _decide_gate(access, grant)
    if grant is not None and access.acl > grant:
        grant = access.acl
    if grant is None:
        if principal.kind == "root" and principal.account == owner and access.action in _ROOT_ALWAYS:
            return ALLOWED
        return _refused("a resource-based policy")
    if principal.kind == "service":
        return _decide_service(principal, owner, access, grant)
    if principal.kind == "anonymous":
        return ALLOWED if grant > NOBODY else _silent("resource-based policy", access.action)
    action, resource = access.action, access.resource
    identity = _ALLOW if principal.kind == "root" else _evaluate(policies.identity, action, resource, facts)
    boundary = _ALLOW if policies.boundary is None else _evaluate((policies.boundary,), action, resource, facts)
    session = _ALLOW if policies.session is None else _evaluate(policies.session, action, resource, facts)
    if identity == _DENY:
        return _refused("an identity-based policy")
    if boundary == _DENY:
        return _refused("a permissions boundary")
    if session == _DENY:
        return _refused("a session policy")
    if access.granted:
        return ALLOWED
    is_own = owner == principal.account
    if grant == NOBODY and (not is_own or (access.resource_policy and action.lower().startswith(_RULED_BY_RESOURCE))):
        return _silent("resource-based policy", action)
    if is_own and grant == PERSONALLY:
        return ALLOWED
    if not identity and not (is_own and grant == EVERYBODY):
        return _silent("identity-based policy", action)
    if not boundary:
        return _silent("permissions boundary", action)
    return ALLOWED if session else _silent("session policy", action)


def _decide_gate(access: Access, grant: int | None) -> Decision:
    if grant is None:
        return _refused("a VPC endpoint policy")
    return ALLOWED if grant > NOBODY else _silent("VPC endpoint policy", access.action)


def _decide_service(principal: Principal, owner: str, access: Access, grant: int) -> Decision:
    if grant > NOBODY or access.granted:
        return ALLOWED
    if access.resource_policy is None and owner == principal.account and not needs_grant(access.action):
        return ALLOWED
    return _silent("resource-based policy", access.action)


def _refused(where: str) -> Decision:
    return Decision(False, True, f"with an explicit deny in {where}")


def _silent(which: str, action: str) -> Decision:
    return Decision(False, False, f"because no {which} allows the {action} action")


def _evaluate(policies: Iterable[Policy], action: str, resource: str, facts: Facts) -> int:
    """What policies say together: a single deny outweighs every allow."""
    verdict = _SILENT
    for policy in policies:
        for statement in policy.statements_on(action):
            if (verdict == _SILENT or not statement.allows) and statement.applies(resource, facts):
                if not statement.allows:
                    return _DENY
                verdict = _ALLOW
    return verdict


def _granted(access: Access, principal: Principal, owner: str, facts: Facts) -> int | None:
    """How closely the resource's own policy lets the caller in; None when it denies."""
    if not access.resource_policy:
        return NOBODY
    best: int = NOBODY
    for statement in compiled(access.resource_policy).statements_on(access.action):
        if statement.principal is None:
            continue
        grant = statement.principal(principal, owner, statement.allows)
        if grant > NOBODY and statement.applies(access.resource, facts):
            if not statement.allows:
                return None
            best = max(best, grant)
    return best

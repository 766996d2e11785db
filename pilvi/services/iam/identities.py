"""Who an access key belongs to, what binds it, and temporary credentials: IAM behind the port of pilvi.auth.identity.

    access key id ──> row of AccessKey ──> Account (root) or User        find()
    session token ──> unsealed: everything about the session             find()
    principal     ──> its row, its groups, its managed policies          policies()

Answers are kept in a snapshot that lives as long as no row of IAM changes, so a request costs two dictionary look-ups. A
session token is its own record: sealed, so nobody but this server can make or read one, and nothing is stored for it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from pilvi.auth.identity import Identity
from pilvi.auth.policy import Policy, PolicySet, global_context, parse
from pilvi.core.arn import Arn
from pilvi.core.clock import Clock
from pilvi.core.errors import Denied, Invalid, ServiceError
from pilvi.core.ids import Ids
from pilvi.core.principal import Principal
from pilvi.services.iam import managed
from pilvi.services.iam.key_id import access_key_id, account_of_key, secret_context
from pilvi.services.iam.mfa_code import is_right
from pilvi.services.iam.tables import ACCESS_KEYS, ACCOUNTS, table
from pilvi.services.iam.trust import is_trusted
from pilvi.storage.records import Insert, Records
from pilvi.storage.sealed import Keyring

SESSIONS_KEPT = 4096
"""Unsealed session tokens kept at hand; others are unsealed again."""
SETS_KEPT = 20_000
"""Compiled policy sets kept at hand between two changes of IAM."""
CHAINED_ROLE_LIMIT_S = 3600
"""Source: IAM User Guide, "Roles terms and concepts", role chaining."""

SESSION_CONTEXT = b"iam:session"
ALLOW_ALL = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
NOTHING = PolicySet()


@dataclass(frozen=True, slots=True)
class SessionPrincipal(Principal):
    """A caller whose session was narrowed: it carries the session policies wherever a context takes it."""

    documents: tuple[str, ...] = ()
    """Session policies; with `managed_arns` the union of what the session may do at most."""
    managed_arns: tuple[str, ...] = ()


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a session token says, in short names because clients send it with every request."""

    k: str
    """access key id"""
    s: str
    """secret access key"""
    p: tuple[str, str, str, str, str, str]
    """kind, account, arn, user id, name, issuer arn"""
    i: float
    """issued, seconds since 1970"""
    e: float
    """expires"""
    d: tuple[str, ...] = ()
    """session policy documents"""
    m: tuple[str, ...] = ()
    """session policy ARNs"""
    r: bool = False
    """restricted: session policies bind, even when there are none (federated users)"""
    t: dict[str, str] = {}
    """session tags"""
    n: tuple[str, ...] = ()
    """names of the tags that chained sessions inherit"""
    o: str = ""
    """source identity"""
    b: str = ""
    """ARN of the directory bucket it is for, and for nothing else"""
    w: str = ""
    """what it may do there"""
    v: str = ""
    """the service that calls with it for its caller (aws:CalledVia)"""


@dataclass(slots=True)
class Snapshot:
    """What was worked out since IAM last changed."""

    generation: int
    keys: dict[str, Identity] = field(default_factory=dict)
    sets: dict[str, PolicySet | None] = field(default_factory=dict)
    managed: dict[str, Policy | None] = field(default_factory=dict)
    tags: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """By entity: what the users and roles behind sessions are tagged with, where they are tagged at all."""
    sessions: dict[str, Identity] = field(default_factory=dict)
    """By access key id: sessions whose user or role has tags."""


class Identities:
    """The port's promises stand in pilvi.auth.identity."""

    def __init__(self, store: Records, keyring: Keyring, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._ids = ids
        self._seen = Snapshot(-1)
        self._open = lru_cache(SESSIONS_KEPT)(self._unseal)
        self._parse = lru_cache(4096)(parse)
        self._root_policies = PolicySet(identity=(parse(ALLOW_ALL, "identity"),))

    # -- who --------------------------------------------------------------------------------------------------------

    def find(self, access_key_id: str, session_token: str = "", is_express: bool = False) -> Identity | None:
        snapshot = self._snapshot()
        if session_token:
            session = self._find_session(snapshot, access_key_id, session_token)
            return None if session is not None and "bucket" in session.session and not is_express else session
        found = snapshot.keys.get(access_key_id)
        if found is None and (found := self._load_key(access_key_id)) is not None:
            snapshot.keys[access_key_id] = found
        return found

    def _snapshot(self) -> Snapshot:
        generation = self._store.generation("iam")
        seen = self._seen
        if seen.generation != generation:
            seen = self._seen = Snapshot(generation)
        return seen

    def _load_key(self, access_key_id: str) -> Identity | None:
        row = self._store.get(ACCESS_KEYS, access_key_id)
        if row is None or row.value["Status"] != "Active":
            return None
        key = row.value
        secret = self._keyring.unseal(key["_secret"], secret_context(access_key_id)).decode()
        if not key["_user"]:
            return Identity(self._root(key["_account"], access_key_id), access_key_id, secret)
        user_row = self._store.get(table(key["_account"], "User"), key["_user"])
        if user_row is None:
            return None
        user = user_row.value
        principal = Principal("user", key["_account"], user["Arn"], user["UserId"], user["UserName"], access_key_id=access_key_id)
        return Identity(principal, access_key_id, secret, session={"tags": tags_of(user)})

    def _find_session(self, snapshot: Snapshot, access_key_id: str, session_token: str) -> Identity | None:
        try:
            identity = self._open(session_token)
        except (ValueError, Invalid, msgspec.DecodeError):
            return None
        if identity.access_key_id != access_key_id or self._policies(snapshot, identity.principal) is None:
            return None
        return self._with_tags(snapshot, identity)

    def _with_tags(self, snapshot: Snapshot, identity: Identity) -> Identity:
        """The session with the tags its user or role has now, which its own outweigh."""
        tags = snapshot.tags.get(entity_key(identity.principal))
        if not tags:
            return identity
        found = snapshot.sessions.get(identity.access_key_id)
        if found is None:
            found = replace(identity, session={**identity.session, "tags": {**tags, **identity.session["tags"]}})
            snapshot.sessions[identity.access_key_id] = found
        return found

    # -- what binds them --------------------------------------------------------------------------------------------

    def policies(self, identity: Identity | Principal) -> PolicySet:
        principal = identity.principal if isinstance(identity, Identity) else identity
        return self._policies(self._snapshot(), principal) or NOTHING

    def _policies(self, snapshot: Snapshot, principal: Principal) -> PolicySet | None:
        """The policies of a caller; None when whoever it stood for is gone."""
        narrowed = isinstance(principal, SessionPrincipal)
        key = principal.access_key_id if narrowed else principal.user_id
        try:
            return snapshot.sets[key]
        except KeyError:
            pass
        if len(snapshot.sets) >= SETS_KEPT:
            snapshot.sets.clear()
            snapshot.sessions.clear()
        found = self._bound(snapshot, principal)
        if found is not None and isinstance(principal, SessionPrincipal):
            session = tuple(self._parse(document, "identity") for document in principal.documents)
            found = PolicySet(found.identity, found.boundary, session + self._managed(snapshot, principal.managed_arns))
        snapshot.sets[key] = found
        return found

    def _bound(self, snapshot: Snapshot, principal: Principal) -> PolicySet | None:
        if principal.kind == "root":
            return self._root_policies
        if principal.kind == "federated-user":
            if not is_user(principal.issuer_arn):
                return self._root_policies
            return self._entity_policies(snapshot, principal.account, "User", principal.issuer_arn, "")
        if principal.kind == "user":
            return self._entity_policies(snapshot, principal.account, "User", principal.arn, principal.user_id)
        if principal.kind == "assumed-role":
            role_id = principal.user_id.partition(":")[0]
            return self._entity_policies(snapshot, principal.account, "Role", principal.issuer_arn, role_id)
        return NOTHING

    def _entity_policies(self, snapshot: Snapshot, account: str, noun: str, arn: str, unique_id: str) -> PolicySet | None:
        row = self._store.get(table(account, noun), arn.rpartition("/")[2].lower())
        if row is None or (unique_id and row.value[noun + "Id"] != unique_id):
            return None
        entity = row.value
        if entity["Tags"]:
            snapshot.tags[arn] = tags_of(entity)
        found = self._own_policies(snapshot, entity)
        for group in entity.get("_groups", ()):
            group_row = self._store.get(table(account, "Group"), group)
            if group_row is not None:
                found += self._own_policies(snapshot, group_row.value)
        boundary = entity.get("_boundary")
        return PolicySet(identity=found, boundary=self._boundary(snapshot, boundary) if boundary else None)

    def _own_policies(self, snapshot: Snapshot, entity: Mapping[str, Any]) -> tuple[Policy, ...]:
        inline = tuple(self._parse(document, "identity") for document in entity.get("_inline", {}).values())
        return inline + self._managed(snapshot, entity.get("_attached", ()))

    def _managed(self, snapshot: Snapshot, arns: Sequence[str]) -> tuple[Policy, ...]:
        found = []
        for arn in arns:
            if arn not in snapshot.managed:
                document = self.document_of(arn)
                snapshot.managed[arn] = None if document is None else self._parse(document, "identity")
            if (policy := snapshot.managed[arn]) is not None:
                found.append(policy)
        return tuple(found)

    def _boundary(self, snapshot: Snapshot, arn: str) -> Policy:
        """A boundary whose policy is gone allows nothing."""
        found = self._managed(snapshot, (arn,))
        return found[0] if found else Policy()

    def document_of(self, policy_arn: str) -> str | None:
        """The default version of a managed policy, AWS's or a customer's."""
        if (builtin := managed.find(policy_arn)) is not None:
            return builtin.document
        parts = Arn.parse(policy_arn)
        row = parts and self._store.get(table(parts.account, "Policy"), policy_arn.rpartition("/")[2].lower())
        if not row or row.value["Arn"] != policy_arn:
            return None
        document: str = row.value["_versions"][row.value["DefaultVersionId"]]["Document"]
        return document

    # -- temporary credentials --------------------------------------------------------------------------------------

    def assume_role(
        self,
        caller: Principal,
        role_arn: str,
        session_name: str,
        *,
        duration_s: int = 3600,
        policy: str | None = None,
        policy_arns: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        external_id: str | None = None,
        source_identity: str | None = None,
        transitive_tags: Sequence[str] = (),
        calling: Identity | None = None,
        facts: Any = None,
    ) -> Identity:
        """`transitive_tags` names the tags that chained sessions inherit; `calling` is the session that calls, whose transitive
        tags and source identity live on; `facts` is what is known of the request (pilvi.auth.policy.global_context)."""
        inherited = calling.session if calling is not None else {}
        source_identity = source_identity or inherited.get("source_identity")
        role = self._find_role(role_arn)
        facts = global_context(caller, now=self._clock.now, identity=calling) if facts is None else facts
        facts = facts | trust_context(session_name, tags, external_id, source_identity)
        for action in trusted_actions(tags, source_identity):
            if role is None or not is_trusted(role["AssumeRolePolicyDocument"], caller, action, role_arn, facts):
                raise Denied(f"User: {caller.arn or caller.name} is not authorized to perform: {action} on resource: {role_arn}")
        assert role is not None
        check_duration(caller, role, duration_s)
        account = role["Arn"].split(":")[4]
        session_arn = f"arn:aws:sts::{account}:assumed-role/{role['RoleName']}/{session_name}"
        kept = {key: inherited["tags"][key] for key in inherited.get("transitive", ()) if key in inherited["tags"]}
        issued = self._issue(
            ("assumed-role", account, session_arn, f"{role['RoleId']}:{session_name}", session_name, role["Arn"]),
            duration_s,
            documents=(policy,) if policy else (),
            managed_arns=policy_arns,
            restricted=bool(policy or policy_arns),
            tags={**(tags or {}), **kept},
            transitive=(*kept, *transitive_tags),
            source_identity=source_identity or "",
        )
        return self.find(issued.access_key_id, issued.session_token) or issued

    def session_token(self, caller: Principal, *, duration_s: int = 43200) -> Identity:
        principal = (caller.kind, caller.account, caller.arn, caller.user_id, caller.name, caller.issuer_arn)
        return self._issue(principal, duration_s)

    def bucket_session(self, caller: Identity, bucket_arn: str, mode: str, duration_s: int) -> Identity:
        who = caller.principal
        return self._issue(
            (who.kind, who.account, who.arn, who.user_id, who.name, who.issuer_arn),
            duration_s,
            documents=tuple(caller.session.get("policies", ())),
            managed_arns=caller.session.get("policy_arns", ()),
            restricted=isinstance(who, SessionPrincipal),
            tags=caller.session.get("tags"),
            source_identity=caller.session.get("source_identity", ""),
            bucket=bucket_arn,
            mode=mode,
        )

    def via_session(self, caller: Identity | Principal, service: str, duration_s: int) -> Identity:
        who = caller.principal if isinstance(caller, Identity) else caller
        session = caller.session if isinstance(caller, Identity) else {}
        return self._issue(
            (who.kind, who.account, who.arn, who.user_id, who.name, who.issuer_arn),
            duration_s,
            documents=tuple(session.get("policies", ())),
            managed_arns=session.get("policy_arns", ()),
            restricted=isinstance(who, SessionPrincipal),
            tags=session.get("tags"),
            source_identity=session.get("source_identity", ""),
            via=service,
        )

    def federation_token(
        self,
        caller: Principal,
        name: str,
        *,
        duration_s: int,
        policy: str | None = None,
        policy_arns: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> Identity:
        """Temporary credentials that may do what both `caller` and the session policies allow (GetFederationToken)."""
        account = caller.account
        return self._issue(
            ("federated-user", account, f"arn:aws:sts::{account}:federated-user/{name}", f"{account}:{name}", name, caller.arn),
            duration_s,
            documents=(policy,) if policy else (),
            managed_arns=policy_arns,
            restricted=True,
            tags=tags,
        )

    def is_mfa_code(self, caller: Principal, serial: str, code: str) -> bool:
        if caller.kind not in ("root", "user"):
            return False
        user = "" if caller.kind == "root" else caller.name.lower()
        return is_right(self._store, self._keyring, self._clock, caller.account, user, serial, code)

    def trust_policy(self, role_arn: str) -> Mapping[str, Any] | None:
        """The trust policy of a role in any account; None when there is no such role."""
        role = self._find_role(role_arn)
        document: Mapping[str, Any] | None = role and msgspec.json.decode(role["AssumeRolePolicyDocument"])
        return document

    def _find_role(self, role_arn: str) -> dict[str, Any] | None:
        parts = Arn.parse(role_arn)
        if parts is None or parts.service != "iam" or not parts.resource.startswith("role/"):
            return None
        row = self._store.get(table(parts.account, "Role"), role_arn.rpartition("/")[2].lower())
        return row.value if row is not None and row.value["Arn"] == role_arn else None

    def _issue(
        self,
        principal: tuple[str, str, str, str, str, str],
        duration_s: int,
        *,
        documents: tuple[str, ...] = (),
        managed_arns: Sequence[str] = (),
        restricted: bool = False,
        tags: Mapping[str, str] | None = None,
        transitive: Sequence[str] = (),
        source_identity: str = "",
        bucket: str = "",
        mode: str = "",
        via: str = "",
    ) -> Identity:
        issued = int(self._clock.real_s())
        session = Session(
            access_key_id("ASIA", principal[1], self._ids),
            self._ids.secret(),
            principal,
            issued,
            issued + duration_s,
            documents,
            tuple(managed_arns),
            restricted,
            dict(tags or {}),
            tuple(transitive),
            source_identity,
            bucket,
            mode,
            via,
        )
        token = base64.b64encode(self._keyring.seal(msgspec.json.encode(session), SESSION_CONTEXT)).decode()
        return identity_of(session, token)

    def _unseal(self, session_token: str) -> Identity:
        """Raises when the token was not made here; such failures are not remembered."""
        sealed = base64.b64decode(session_token, validate=True)
        return identity_of(msgspec.json.decode(self._keyring.unseal(sealed, SESSION_CONTEXT), type=Session), session_token)

    # -- access key ids ---------------------------------------------------------------------------------------------

    def account_of_key(self, access_key_id: str) -> str | None:
        """The account an access key id carries, whether or not the key exists."""
        return account_of_key(access_key_id)

    # -- accounts ---------------------------------------------------------------------------------------------------

    def create_account(self, account: str) -> Identity:
        key_id, secret, now = access_key_id("AKIA", account, self._ids), self._ids.secret(), self._clock.now()
        key = {"AccessKeyId": key_id, "Status": "Active", "CreateDate": now, "_account": account, "_user": ""}
        self._store.write(
            Insert(ACCOUNTS, account, {"Account": account, "CreateDate": now, "_keys": [key_id]}),
            Insert(ACCESS_KEYS, key_id, {**key, "_secret": self._keyring.seal(secret.encode(), secret_context(key_id))}),
        )
        return Identity(self._root(account, key_id), key_id, secret)

    def accounts(self) -> list[str]:
        found: list[str] = []
        while rows := self._store.scan(ACCOUNTS, after=found[-1] if found else ""):
            found += [row.id for row in rows]
        return found

    def root_key(self, account: str) -> Identity | None:
        row = self._store.get(ACCOUNTS, account)
        for key_id in row.value["_keys"] if row is not None else ():
            if (identity := self.find(key_id)) is not None:
                return identity
        return None

    def root(self, account: str) -> Principal:
        return self._root(account, "")

    def _root(self, account: str, access_key_id: str) -> Principal:
        return Principal("root", account, f"arn:aws:iam::{account}:root", account, access_key_id=access_key_id)


def tags_of(entity: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in entity["Tags"]}


def entity_key(principal: Principal) -> str:
    """The ARN of the user or role behind a caller."""
    return principal.arn if principal.kind == "user" else principal.issuer_arn


def is_user(arn: str) -> bool:
    return ":user/" in arn


def trusted_actions(tags: Mapping[str, str] | None, source_identity: str | None) -> list[str]:
    """What a trust policy must allow for a session of this kind.

    Source: IAM User Guide, "Pass session tags in AWS STS" and "Monitor and control actions taken with assumed roles".
    """
    actions = ["sts:AssumeRole"]
    if tags:
        actions.append("sts:TagSession")
    if source_identity:
        actions.append("sts:SetSourceIdentity")
    return actions


def trust_context(
    session_name: str, tags: Mapping[str, str] | None, external_id: str | None, source_identity: str | None
) -> dict[str, Any]:
    """Condition keys that only the call to assume a role has."""
    context: dict[str, Any] = {"sts:RoleSessionName": session_name}
    if external_id:
        context["sts:ExternalId"] = external_id
    if source_identity:
        context["sts:SourceIdentity"] = source_identity
    if tags:
        context |= {f"aws:RequestTag/{key}": value for key, value in tags.items()}
        context["aws:TagKeys"] = list(tags)
    return context


def check_duration(caller: Principal, role: Mapping[str, Any], duration_s: int) -> None:
    if caller.kind == "assumed-role" and duration_s > CHAINED_ROLE_LIMIT_S:
        raise ServiceError(
            "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
        )
    if duration_s > role["MaxSessionDuration"]:
        raise ServiceError("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")


def identity_of(session: Session, token: str) -> Identity:
    if session.r:
        principal: Principal = SessionPrincipal(
            *session.p,  # type: ignore[arg-type]
            access_key_id=session.k,
            documents=session.d,
            managed_arns=session.m,
        )
    else:
        principal = Principal(*session.p, access_key_id=session.k)  # type: ignore[arg-type]
    facts: dict[str, Any] = {
        "policies": session.d,
        "policy_arns": session.m,
        "tags": session.t,
        "transitive": session.n,
        "source_identity": session.o,
    }
    if session.b:
        facts |= {"bucket": session.b, "mode": session.w}
    if session.v:
        facts["called_via"] = session.v
    return Identity(
        principal,
        session.k,
        session.s,
        token,
        expires=datetime.fromtimestamp(session.e, UTC),
        issued=datetime.fromtimestamp(session.i, UTC),
        session=facts,
    )

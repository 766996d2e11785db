"""The identities port: who an access key belongs to and which policies bind them. The IAM service implements it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from pilvi.core.principal import Principal

if TYPE_CHECKING:
    from pilvi.auth.policy import PolicySet


@dataclass(frozen=True, slots=True)
class Identity:
    """An access key and whom it speaks for. Never logged, never shown: it holds the secret."""

    principal: Principal
    access_key_id: str
    secret: str
    session_token: str = ""
    """Non-empty for temporary credentials (ASIA...)."""
    expires: datetime | None = None
    issued: datetime | None = None
    session: Mapping[str, Any] = field(default_factory=dict)
    """What the session was made with: session policies, tags, source identity."""


class Identities(Protocol):
    """Every answer is cached until a row of IAM changes, so asking costs a dictionary look-up."""

    def find(self, access_key_id: str, session_token: str = "", is_express: bool = False) -> Identity | None:
        """Whom a key belongs to; None when the key is unknown, inactive, or its session token does not fit.

        An expired session is returned; the caller looks at `expires`. is_express: the request is signed for `s3express`, the only
        place where keys of a directory bucket's session are known.
        """

    def policies(self, identity: Identity | Principal) -> PolicySet:
        """What binds this identity: inline, managed and group policies, boundary, session policies; compiled."""

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
        """Temporary credentials of a role. Denied when it is missing or its trust policy does not let `caller` in.

        transitive_tags: names of the tags that chained sessions inherit. calling: the session that calls, whose transitive tags
        and source identity live on. facts: what is known of the request (pilvi.auth.context.global_context).

        Checks the trust policy only; whether the caller's own policies allow sts:AssumeRole is the gateway's business.
        Nothing is stored: the session token itself carries the sealed session.
        """

    def session_token(self, caller: Principal, *, duration_s: int = 43200) -> Identity:
        """Temporary credentials of a user or the root (GetSessionToken)."""

    def bucket_session(self, caller: Identity, bucket_arn: str, mode: str, duration_s: int) -> Identity:
        """Temporary credentials of a caller for one directory bucket: `session` says which (`bucket`) and what for (`mode`).

        What the caller may do binds them too. They sign for `s3express` only.
        """

    def via_session(self, caller: Identity | Principal, service: str, duration_s: int) -> Identity:
        """Temporary credentials with which a service goes on for its caller: all that the caller may do, and aws:CalledVia names the
        service. Whoever gets the secret is the caller: it never leaves the server.
        """

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

    def is_mfa_code(self, caller: Principal, serial: str, code: str) -> bool:
        """Whether the MFA device of this user or root shows this code now. A code is good once. For threads: it is written down."""

    def trust_policy(self, role_arn: str) -> Mapping[str, Any] | None:
        """The trust policy of a role in any account; None when there is no such role."""

    def account_of_key(self, access_key_id: str) -> str | None:
        """The account an access key id carries, whether or not the key exists."""

    def create_account(self, account: str) -> Identity:
        """Make an account with its root user and one access key, durably; AlreadyExists when it is there."""

    def accounts(self) -> list[str]:
        """Every account id."""

    def root_key(self, account: str) -> Identity | None:
        """The first active access key of an account's root user (for `pilvi env` and tests)."""

    def root(self, account: str) -> Principal:
        """The root user of an account."""

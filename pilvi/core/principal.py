"""Who is calling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["root", "user", "assumed-role", "federated-user", "service", "anonymous"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller as policies and audit records see it.

    arn: `arn:aws:iam::A:root`, `...:user/path/name`, `arn:aws:sts::A:assumed-role/ROLE/SESSION`; '' for services and anonymous.
    """

    kind: Kind
    account: str
    arn: str
    user_id: str
    """aws:userid: AIDA..., AROA...:session, or the account for root."""
    name: str = ""
    """User name, role session name, or the service's DNS name (lambda.amazonaws.com)."""
    issuer_arn: str = ""
    """For an assumed role: the ARN of the role (with its path)."""
    source_arn: str = ""
    """For a service: the resource on whose behalf it calls (aws:SourceArn)."""
    access_key_id: str = ""


ANONYMOUS = Principal("anonymous", "anonymous", "", "anonymous")

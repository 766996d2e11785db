"""Where IAM keeps its rows, and the account rows that everything hangs on. IAM is global: no table has a Region.

    (account)  User Group Role Policy InstanceProfile   id: the name in lower case, since names are unique without regard to case
    (account)  Membership    id: group + TAB + user     value: {}
    (account)  Attachment    id: policy ARN + TAB + usage + TAB + kind + TAB + name     value: {"Name", "Id"}
    (global)   Account       id: account                value: CreateDate, _keys (the root user's access keys), _alias
    (global)   AccessKey     id: access key id          value: AccessKeyId, Status, CreateDate, UserName, _account, _user, _secret (sealed)
    (global)   Alias         id: account alias          value: _account

An entity's row carries what binds it: `_attached` (policy ARNs), `_inline` (name -> document), `_boundary` (policy ARN), and a
user's `_groups` and `_keys`. So the policies of a caller are a few row reads, and a change of them is one row write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict, NotFound
from pilvi.core.service import Context
from pilvi.storage.records import Change, Rows, Table

ACCOUNTS = Table("", "", "iam", "Account")
ACCESS_KEYS = Table("", "", "iam", "AccessKey")
ALIASES = Table("", "", "iam", "Alias")

ATTEMPTS = 50
"""How often a change is decided anew while others write the same rows."""


def table(account: str, noun: str) -> Table:
    return Table(account, "", "iam", noun)


def entities(ctx: Context, noun: str) -> Rows:
    """User, Group, Role, Policy, InstanceProfile, Membership or Attachment rows of the caller's account."""
    return ctx.records(noun, region="", service="iam")


def worldwide(ctx: Context, noun: str) -> Rows:
    """Account, AccessKey or Alias rows: unique over all accounts."""
    return ctx.records(noun, account="", region="", service="iam")


def change(ctx: Context, decide: Callable[[], tuple[Sequence[Change], Any]]) -> Any:
    """Read, decide, write as one step: `decide` reads, and gives the changes and the answer or raises.

    It runs again when somebody else wrote one of the rows in between, which its changes notice by versions, by an id that
    is suddenly taken or by a row that is suddenly gone.
    """
    for attempt in range(ATTEMPTS):
        changes, answer = decide()
        try:
            if changes:
                ctx.write(*changes)
            return answer
        except (Conflict, AlreadyExists, NotFound):
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")

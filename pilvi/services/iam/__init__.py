"""IAM: users, groups, roles, policies and access keys of an account, alike in every Region.

Every start of a server needs `identities` from here, few need the operations at once: they are joined when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilvi.services.iam.joined import service as service


def __getattr__(name: str) -> object:
    if name == "service":
        from pilvi.services.iam.joined import service

        return service
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What is done for every bucket, of every account: by S3 itself, on its schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pilvi.core.principal import Principal
from pilvi.core.service import Cloud, Context
from pilvi.services.s3.catalog import BUCKETS, Bucket, find_bucket

SERVICE: Final = "s3.amazonaws.com"
_PAGE = 100


def own_context(cloud: Cloud, account: str, region: str, operation: str) -> Context:
    """S3 itself, in the bucket's account."""
    principal = Principal("service", account, "", SERVICE, SERVICE)
    return Context(cloud, principal=principal, account=account, region=region, service="s3", operation=operation)


def each_bucket(
    cloud: Cloud, operation: str, wanted: Callable[[Mapping[str, Any]], object] = lambda _: True
) -> Iterator[tuple[Context, Bucket]]:
    """Every bucket whose row's value is wanted, until the server closes. operation: what its records say was done."""
    after = ""
    while rows := cloud.store.scan(BUCKETS, after=after, limit=_PAGE):
        for row in rows:
            if cloud.schedules.is_closing:
                return
            if wanted(row.value):
                ctx = own_context(cloud, row.value["Account"], row.value["Region"], operation)
                if (bucket := find_bucket(ctx, row.id)) is not None:
                    yield ctx, bucket
        after = rows[-1].id

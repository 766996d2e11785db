"""Amazon S3: buckets and objects. README.md tells where what lies."""

from pilvi.core.service import Service
from pilvi.services.s3 import (
    accelerate,
    access_list,
    access_log,
    analytics,
    bucket,
    bucket_policy,
    copy,
    cors,
    directory,
    encryption,
    inventory,
    lifecycle,
    listing,
    lock,
    metrics,
    multipart,
    notification,
    object_lambda,
    ownership,
    public_access_block,
    replication,
    request_payment,
    restore,
    select,
    tagging,
    tiering,
    torrent,
    versioning,
    website,
    witness,
)
from pilvi.services.s3 import object as object_
from pilvi.services.s3.access import access
from pilvi.services.s3.afterwards import afterwards
from pilvi.services.s3.cors import preflight
from pilvi.services.s3.errors import CODES
from pilvi.services.s3.post_object import post_object
from pilvi.services.s3.shortcut import ObjectsShortWay
from pilvi.services.s3.website_site import website as serve_website

service = Service(
    "s3",
    bucket.ops,
    object_.ops,
    copy.ops,
    multipart.ops,
    notification.ops,
    lifecycle.ops,
    directory.ops,
    listing.ops,
    lock.ops,
    restore.ops,
    tiering.ops,
    versioning.ops,
    tagging.ops,
    bucket_policy.ops,
    public_access_block.ops,
    encryption.ops,
    ownership.ops,
    access_list.ops,
    cors.ops,
    website.ops,
    replication.ops,
    request_payment.ops,
    accelerate.ops,
    select.ops,
    torrent.ops,
    object_lambda.ops,
    access_log.ops,
    metrics.ops,
    analytics.ops,
    inventory.ops,
    errors=CODES,
    access=access,
    sites={"post-object": post_object, "preflight": preflight, "website": serve_website},
    afterwards=afterwards,
    witness=witness.witness,
    close=witness.close,
    short_way=ObjectsShortWay(),
)

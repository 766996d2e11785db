"""Amazon S3: buckets and objects. README.md tells where what lies."""

from pilvi.core.service import Service
from pilvi.services.s3 import (
    bucket,
    bucket_policy,
    copy,
    encryption,
    listing,
    multipart,
    ownership,
    public_access_block,
    tagging,
    versioning,
)
from pilvi.services.s3 import object as object_
from pilvi.services.s3.access import access
from pilvi.services.s3.errors import CODES
from pilvi.services.s3.post_object import post_object

service = Service(
    "s3",
    bucket.ops,
    object_.ops,
    copy.ops,
    multipart.ops,
    listing.ops,
    versioning.ops,
    tagging.ops,
    bucket_policy.ops,
    public_access_block.ops,
    encryption.ops,
    ownership.ops,
    errors=CODES,
    access=access,
    sites={"post-object": post_object},
)

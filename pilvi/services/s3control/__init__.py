"""S3 Control: what belongs to an account rather than to one bucket. README.md tells where what lies."""

from pilvi.core.service import Service
from pilvi.services.s3control import access_point, job, object_lambda, public_access_block, storage_lens
from pilvi.services.s3control.access import access
from pilvi.services.s3control.errors import CODES

service = Service(
    "s3control",
    public_access_block.ops,
    access_point.ops,
    object_lambda.ops,
    job.ops,
    storage_lens.ops,
    errors=CODES,
    access=access,
)

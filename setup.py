"""Compiles the hot path into C when asked to: `PILVI_COMPILE=1 pip wheel .` (see decisions/0006-compiled-hot-path.md).

A class that somebody inherits from compiles only together with its heirs: Python's classes cannot inherit from compiled ones.
Everything else about the package stands in pyproject.toml. The sources stay what they are: without a compiler the same files run
as Python.
"""

import os

from setuptools import setup

HOT_PATH = """
pilvi/auth/canonical.py pilvi/auth/claim.py pilvi/auth/conditions.py pilvi/auth/context.py pilvi/auth/pattern.py
pilvi/auth/plain.py pilvi/auth/policy.py pilvi/auth/presign.py pilvi/auth/principals.py pilvi/auth/region.py pilvi/auth/sigv4.py
pilvi/core/arn.py pilvi/core/clock.py pilvi/core/http.py pilvi/core/ids.py pilvi/core/service.py pilvi/core/shortcut.py
pilvi/gateway/app.py pilvi/gateway/audit.py pilvi/gateway/call.py pilvi/gateway/chain.py pilvi/gateway/dispatch.py pilvi/gateway/http1.py
pilvi/gateway/plain.py pilvi/gateway/shortcut.py
pilvi/gateway/steps/afterwards.py pilvi/gateway/steps/authenticate.py pilvi/gateway/steps/authorize.py pilvi/gateway/steps/perform.py
pilvi/gateway/steps/receive.py pilvi/gateway/steps/reply.py pilvi/gateway/steps/route.py pilvi/gateway/steps/site.py
pilvi/gateway/steps/understand.py
pilvi/protocol/aws_json.py pilvi/protocol/cbor.py pilvi/protocol/check.py pilvi/protocol/ec2.py pilvi/protocol/hosts.py pilvi/protocol/models.py pilvi/protocol/paths.py
pilvi/protocol/query.py pilvi/protocol/quirks.py pilvi/protocol/rest.py pilvi/protocol/rest_json.py pilvi/protocol/rest_xml.py
pilvi/protocol/route.py pilvi/protocol/s3_objects.py pilvi/protocol/s3_paths.py pilvi/protocol/scalars.py pilvi/protocol/shapes.py pilvi/protocol/sites.py
pilvi/protocol/tree.py
pilvi/services/s3/access.py pilvi/services/s3/attributes.py pilvi/services/s3/catalog.py pilvi/services/s3/condition.py
pilvi/services/s3/content.py pilvi/services/s3/digest.py pilvi/services/s3/encryption.py pilvi/services/s3/history.py
pilvi/services/s3/listing.py pilvi/services/s3/object.py pilvi/services/s3/permission.py pilvi/services/s3/shortcut.py pilvi/storage/keyring.py pilvi/storage/records/batch.py pilvi/storage/records/cache.py pilvi/storage/records/sqlite.py
pilvi/storage/records/sqlite_writer.py pilvi/storage/records/submissions.py
""".split()  # noqa: SIM905 - a table reads better than fifty quoted strings

extensions = []
if os.environ.get("PILVI_COMPILE") == "1":
    from mypyc.build import mypycify

    extensions = mypycify(["--disable-error-code=import-not-found", *HOT_PATH], opt_level="3")

setup(ext_modules=extensions)

"""A job's own image: found and read under the job's role, unpacked once, leased while the job runs.

123456789012.dkr.ecr.us-east-1.amazonaws.com/app:v1 -> manifest -> layers -> the tree its programs live in
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilvi.compute import Root
from pilvi.core.errors import Invalid, PilviError, Unavailable
from pilvi.core.service import Context
from pilvi.core.streams import Piece
from pilvi.images import layers
from pilvi.images.cache import Lease, cache_of, image_name
from pilvi.images.config import ImageConfig, User, find_user, read_config
from pilvi.images.manifest import LISTS, Manifest, choose_platform, read_manifest

_REFERENCE = re.compile(r"(?P<host>[^/]+)/(?P<repository>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>.+))?")
_HOST = re.compile(r"(?P<account>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.[a-z.]+")


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's address in ECR."""

    account: str
    region: str
    repository: str
    tag: str
    digest: str

    @property
    def image_id(self) -> dict[str, str]:
        return {"imageDigest": self.digest} if self.digest else {"imageTag": self.tag}


def read_reference(uri: str) -> Reference:
    """Invalid when it is no address in ECR."""
    match = _REFERENCE.fullmatch(uri)
    host = _HOST.fullmatch(match["host"]) if match else None
    if match is None or host is None:
        raise Invalid(f"{uri} is no image in Amazon ECR: ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG")
    digest = match["digest"] or ""
    return Reference(host["account"], host["region"], match["repository"], match["tag"] or ("" if digest else "latest"), digest)


def find_manifest(ctx: Context, reference: Reference) -> tuple[Manifest, bytes]:
    """The manifest of the image for this machine, as ctx may read it. PilviError as ECR answers; Invalid when there is none."""
    manifest, data = _manifest(ctx, reference, reference.image_id)
    if manifest.media_type in LISTS:
        manifest, data = _manifest(ctx, reference, {"imageDigest": choose_platform(data)})
    return manifest, data


def check(ctx: Context, uri: str) -> None:
    """Whether an image is there, and ctx may pull it; PilviError with ECR's reason when not."""
    reference = read_reference(uri)
    manifest, _ = find_manifest(ctx, reference)
    _check_pull(ctx, reference, manifest)


@dataclass(slots=True)
class Unpacked:
    """An image ready to run. `lease.end()` when nothing runs in it any more."""

    config: ImageConfig
    user: User
    lease: Lease

    def root(self, changes: Path) -> Root:
        """The tree for one program; changes: its own folder for what it writes."""
        return Root(self.lease.folder, changes, self.user.uid, self.user.gid)


def unpack(ctx: Context, uri: str) -> Unpacked:
    """The image, pulled as ctx may and unpacked. Unavailable with AWS's words when it cannot be had."""
    reference = read_reference(uri)
    try:
        manifest, _ = find_manifest(ctx, reference)
        _check_pull(ctx, reference, manifest)
        assert manifest.config is not None
        config = read_config(b"".join(_blob(ctx, reference, manifest.config.digest)))
        if len(config.diff_ids) != len(manifest.layers):
            raise Invalid("The image's configuration and its manifest name different numbers of layers.")
        lease = cache_of(ctx.cloud).lease(
            image_name(reference.account, reference.region, reference.repository, manifest.digest),
            config.diff_ids,
            lambda: (_blob(ctx, reference, layer.digest) for layer in manifest.layers),
            [layer.digest for layer in manifest.layers],
        )
    except PilviError as error:
        raise Unavailable(
            f"Cannot pull algorithm container. Either the image does not exist or its permissions are incorrect. {uri}: {error}"
        ) from error
    try:
        return Unpacked(config, find_user(lease.folder, config.user), lease)
    except PilviError:
        lease.end()
        raise


def _manifest(ctx: Context, reference: Reference, image: dict[str, str]) -> tuple[Manifest, bytes]:
    answer = ctx.at(ctx.account, reference.region).call(
        "ecr", "BatchGetImage", registryId=reference.account, repositoryName=reference.repository, imageIds=[image]
    )
    if answer.get("failures"):
        raise Invalid(f"{answer['failures'][0]['failureReason']}.")
    found: dict[str, Any] = answer["images"][0]
    data = found["imageManifest"].encode()
    return read_manifest(data, found.get("imageManifestMediaType") or ""), data


def _check_pull(ctx: Context, reference: Reference, manifest: Manifest) -> None:
    """The role needs what a pull needs."""
    if manifest.config is None:
        raise Invalid("the image is a list of lists")
    ctx.at(ctx.account, reference.region).call(
        "ecr",
        "GetDownloadUrlForLayer",
        registryId=reference.account,
        repositoryName=reference.repository,
        layerDigest=manifest.config.digest,
    )


def _blob(ctx: Context, reference: Reference, digest: str) -> Iterable[Piece]:
    """A layer's bytes, once the pull is allowed."""
    there = ctx.to("ecr", "GetDownloadUrlForLayer").at(reference.account, reference.region)
    layer = layers.find_layer(there, reference.repository, digest)
    if layer is None:
        raise Invalid(f"The layer {digest} does not exist.")
    return layers.read_layer(there, layer)

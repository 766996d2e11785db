"""Images of a repository: manifests under their digest, and the tags that point at them.

    Image  "app sha256:..."  manifest, what it refers to, its tags, when it was pushed and pulled
    Tag    "app latest"      -> digest

An image holds its layers: while one of a repository's images names a layer, the repository holds it (layers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pilvi.core.errors import AlreadyExists, NotFound, PilviError
from pilvi.core.service import Context
from pilvi.images.cache import cache_of, image_name
from pilvi.images.layers import Record, changing, copy_layer, find_layer, holder, letting_go
from pilvi.images.manifest import Manifest
from pilvi.storage.records import Change, Delete, Put

PULL_AGE = timedelta(days=1)
"""How exact the time of the last pull is. Source: ECR API reference, ImageDetail, lastRecordedPullTime."""


class LayersMissing(PilviError):
    """The manifest names layers that the repository does not hold; `fields["digests"]`."""


class ImagesMissing(PilviError):
    """The list names images that the repository does not have; `fields["digests"]`."""


class SameImage(AlreadyExists):
    """This manifest is here, under this tag."""


class TagTaken(AlreadyExists):
    """The tag points to another image and may not be moved."""


class InList(PilviError):
    """A list of images refers to it; `fields["lists"]`."""


def image_id(repository: str, digest: str) -> str:
    return f"{repository} {digest}"


def find_image(ctx: Context, repository: str, *, digest: str = "", tag: str = "") -> Record | None:
    """The image of a digest or a tag; of both only if they agree."""
    if tag:
        pointer = ctx.records("Tag").find(f"{repository} {tag}")
        if pointer is None or (digest and pointer["digest"] != digest):
            return None
        digest = pointer["digest"]
    return ctx.records("Image").find(image_id(repository, digest)) if digest else None


def images_of(ctx: Context, repository: str) -> list[Record]:
    """Every image, in the order of their digests."""
    return ctx.records("Image").all(prefix=f"{repository} ")


def has_images(ctx: Context, repository: str) -> bool:
    return bool(ctx.records("Image").scan(prefix=f"{repository} ", limit=1))


def tags_of(ctx: Context, repository: str) -> list[str]:
    return [row_tag(row.id) for row in _all_rows(ctx, "Tag", repository)]


def row_tag(id: str) -> str:
    return id.partition(" ")[2]


def put_image(
    ctx: Context,
    repository: str,
    manifest: Manifest,
    data: bytes,
    tag: str,
    *more: Change,
    may_move: Callable[[str], bool],
    facts: Record,
) -> Record:
    """Keep a manifest and point a tag at it, and whatever else in the same transaction; gives the image.

    may_move: whether a tag may leave the image it points to. facts: further members of a new image's record.
    """
    with changing(ctx):
        _check_references(ctx, repository, manifest)
        images, tags, now = ctx.records("Image"), ctx.records("Tag"), ctx.clock.now()
        found = images.find(image_id(repository, manifest.digest))
        pointer = tags.find(f"{repository} {tag}") if tag else None
        changes: list[Change] = []
        if found is not None and (not tag or tag in found["tags"]):
            raise SameImage
        if pointer is not None:
            if not may_move(tag):
                raise TagTaken
            before = images.get(image_id(repository, pointer["digest"]))
            left = {**before, "tags": [name for name in before["tags"] if name != tag]}
            changes.append(Put(images.table, image_id(repository, before["digest"]), left))
        image = found or {
            "repository": repository,
            "digest": manifest.digest,
            "manifest": data,
            "mediaType": manifest.media_type,
            "artifactType": manifest.artifact_type,
            "blobs": [blob.digest for blob in manifest.blobs],
            "children": [child.digest for child in manifest.children],
            "subject": manifest.subject,
            "size": manifest.size_bytes,
            "pushed": now,
            "tags": [],
            **facts,
        }
        if tag:
            image = {**image, "tags": sorted({*image["tags"], tag})}
            changes.append(Put(tags.table, f"{repository} {tag}", {"digest": manifest.digest, "pushed": now}))
        ctx.write(*changes, Put(images.table, image_id(repository, manifest.digest), image), *more)
    return image


def _check_references(ctx: Context, repository: str, manifest: Manifest) -> None:
    missing = [blob.digest for blob in manifest.blobs if find_layer(ctx, repository, blob.digest) is None]
    if missing:
        raise LayersMissing(digests=list(dict.fromkeys(missing)))
    missing = [child.digest for child in manifest.children if find_image(ctx, repository, digest=child.digest) is None]
    if missing:
        raise ImagesMissing(digests=missing)


def untag(ctx: Context, repository: str, tag: str, *more: Change) -> Record:
    """Take a tag away, and with the last one the image; `more` in the same transaction. NotFound when there is no such tag.
    Gives the image as it was."""
    with changing(ctx):
        image = find_image(ctx, repository, tag=tag)
        if image is None:
            raise NotFound(f"The tag {tag} does not exist.")
        if image["tags"] == [tag] and not _lists_with(ctx, repository, image["digest"]):
            return delete_image(ctx, repository, image["digest"], *more)
        left = {**image, "tags": [name for name in image["tags"] if name != tag]}
        ctx.write(
            ctx.records("Image").replacement(image_id(repository, image["digest"]), left),
            ctx.records("Tag").deletion(f"{repository} {tag}"),
            *more,
        )
        return image


def delete_image(ctx: Context, repository: str, digest: str, *more: Change) -> Record:
    """Remove an image with its tags, and layers that nothing needs any more. NotFound; InList. Gives the image as it was."""
    with changing(ctx):
        image = find_image(ctx, repository, digest=digest)
        if image is None:
            raise NotFound(f"The image {digest} does not exist.")
        if lists := _lists_with(ctx, repository, digest):
            raise InList(lists=lists)
        delete_images(ctx, repository, [image], *more)
        return image


def delete_images(ctx: Context, repository: str, images: Sequence[Record], *more: Change) -> None:
    """Remove images of a repository, and whatever else in the same transaction. Under the lock."""
    gone = {image["digest"] for image in images}
    needed = {blob for image in images_of(ctx, repository) if image["digest"] not in gone for blob in image["blobs"]}
    loose = [blob for image in images for blob in image["blobs"] if blob not in needed]
    changes, files = letting_go(ctx, repository, loose)
    for image in images:
        changes.append(Delete(ctx.records("Image").table, image_id(repository, image["digest"])))
        changes += [Delete(ctx.records("Tag").table, f"{repository} {tag}") for tag in image["tags"]]
    ctx.write(*changes, *more)
    _forget(ctx, repository, gone, files)


def delete_all(ctx: Context, repository: str, *more: Change) -> None:
    """Remove every image, upload and layer of a repository, and whatever else in the same transaction."""
    with changing(ctx):
        loose = [row.id for row in _all_rows(ctx, "Layer", "", region="") if holder(ctx, repository) in row.value["holders"]]
        changes, files = letting_go(ctx, repository, loose)
        gone = [row_tag(row.id) for row in _all_rows(ctx, "Image", repository)]
        for noun in ("Image", "Tag"):
            changes += [Delete(ctx.records(noun).table, row.id) for row in _all_rows(ctx, noun, repository)]
        ctx.write(*changes, *more)
    _forget(ctx, repository, gone, files)


def _forget(ctx: Context, repository: str, digests: Iterable[str], files: Iterable[str]) -> None:
    """What lies on the disk of images that are gone: their layers' files, and where they were unpacked."""
    for name in files:
        ctx.blobs.delete(name)
    cache_of(ctx.cloud).forget(image_name(ctx.account, ctx.region, repository, digest) for digest in digests)


def sweep_layers(ctx: Context, old: datetime) -> None:
    """Let go of layers that were pushed long ago and that no image came to use, in this Region."""
    with changing(ctx):
        needed: dict[str, set[str]] = {}
        for image in ctx.records("Image").all():
            needed.setdefault(holder(ctx, image["repository"]), set()).update(image["blobs"])
        here = holder(ctx, "")
        for row in _all_rows(ctx, "Layer", "", region=""):
            for name, since in row.value["holders"].items():
                if name.startswith(here) and since < old and row.id not in needed.get(name, ()):
                    changes, files = letting_go(ctx, name.removeprefix(here), [row.id])
                    ctx.write(*changes)
                    for file in files:
                        ctx.blobs.delete(file)


def note_pull(ctx: Context, image: Mapping[str, Any]) -> None:
    """Remember that an image was pulled, to the day."""
    now = ctx.clock.now()
    if image.get("pulled") is not None and now - image["pulled"] < PULL_AGE:
        return
    with changing(ctx):
        id = image_id(image["repository"], image["digest"])
        if (found := ctx.records("Image").find(id)) is not None:
            ctx.records("Image").put(id, {**found, "pulled": now})


def copy_image(
    source: Context, target: Context, repository: str, image: Mapping[str, Any], tag: str, *, from_repository: str = ""
) -> None:
    """Make an image of one Region, account or service pullable in another, its layers first.

    from_repository: what the repository is called at the source, if not the same.
    """
    for digest in image["children"]:
        if (child := find_image(source, from_repository or repository, digest=digest)) is not None:
            copy_image(source, target, repository, child, "", from_repository=from_repository)
    for digest in dict.fromkeys(image["blobs"]):
        copy_layer(source, target, repository, digest)
    with changing(target):
        rows, tags = target.records("Image"), target.records("Tag")
        id, now = image_id(repository, image["digest"]), target.clock.now()
        kept = rows.find(id) or {**_unscanned(image), "repository": repository, "tags": [], "pushed": now, "pulled": None}
        changes: list[Change] = []
        if tag:
            pointer = tags.find(f"{repository} {tag}")
            if pointer is not None and pointer["digest"] != image["digest"]:
                before = rows.get(image_id(repository, pointer["digest"]))
                left = {**before, "tags": [name for name in before["tags"] if name != tag]}
                changes.append(Put(rows.table, image_id(repository, before["digest"]), left))
            kept = {**kept, "tags": sorted({*kept["tags"], tag})}
            changes.append(Put(tags.table, f"{repository} {tag}", {"digest": image["digest"], "pushed": now}))
        target.write(*changes, Put(rows.table, id, kept))


def _unscanned(image: Mapping[str, Any]) -> Record:
    """A scan belongs to the place where it was made."""
    return {name: value for name, value in image.items() if name not in ("scan", "findings")}


def _lists_with(ctx: Context, repository: str, digest: str) -> list[str]:
    return [image["digest"] for image in images_of(ctx, repository) if digest in image["children"]]


def _all_rows(ctx: Context, noun: str, repository: str, region: str | None = None) -> Iterable[Any]:
    rows = ctx.records(noun, region=region)
    prefix = f"{repository} " if repository else ""
    after = ""
    while found := rows.scan(prefix=prefix, after=after):
        yield from found
        after = found[-1].id

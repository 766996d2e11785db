"""Boxes: default boxes of a single-shot detector, matching them with the truth, decoding, suppression, mean average precision.

A box is (xmin, ymin, xmax, ymax) as shares of the picture. Source: Liu et al., "SSD: Single Shot MultiBox Detector" (2016).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

VARIANCES = (0.1, 0.1, 0.2, 0.2)
RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)
PER_PLACE = len(RATIOS) + 1
_SMALLEST, _LARGEST = 0.1, 0.9


def default_boxes(sizes: Sequence[tuple[int, int]]) -> torch.Tensor:
    """(center x, center y, width, height) of all default boxes over maps of these (height, width)s."""
    scales = np.linspace(_SMALLEST, _LARGEST, len(sizes) + 1)
    found = []
    for number, (height, width) in enumerate(sizes):
        scale = float(scales[number])
        shapes = [(scale * math.sqrt(ratio), scale / math.sqrt(ratio)) for ratio in RATIOS]
        between = math.sqrt(scale * float(scales[number + 1]))
        shapes.append((between, between))
        ys, xs = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
        centers = np.stack((xs, ys), -1).reshape(-1, 1, 2).repeat(PER_PLACE, 1)
        spans = np.broadcast_to(np.array(shapes), (height * width, PER_PLACE, 2))
        found.append(np.concatenate((centers, spans), -1).reshape(-1, 4))
    return torch.from_numpy(np.concatenate(found).astype(np.float32))


def corners(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat((boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2), -1)


def overlaps(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union of every pair, n x m."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    sizes = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1) for boxes in (a, b)]
    return shared / (sizes[0][:, None] + sizes[1][None] - shared).clamp(min=1e-9)


def matched(defaults: torch.Tensor, truth: torch.Tensor, threshold: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """For each default box its class (0 is background) and the offsets to its object. `truth`: m x (class, box)."""
    classes = torch.zeros(len(defaults), dtype=torch.long)
    offsets = torch.zeros(len(defaults), 4)
    if not len(truth):
        return classes, offsets
    shared = overlaps(corners(defaults), truth[:, 1:])
    best, which = shared.max(1)
    # Every object gets its best default box, however little they share.
    own = shared.argmax(0)
    best[own], which[own] = 2.0, torch.arange(len(truth))
    is_object = best > threshold
    objects = truth[which[is_object]]
    classes[is_object] = objects[:, 0].long() + 1
    near = defaults[is_object]
    center = (objects[:, 1:3] + objects[:, 3:5]) / 2
    span = (objects[:, 3:5] - objects[:, 1:3]).clamp(min=1e-4)
    moved = torch.cat(((center - near[:, :2]) / near[:, 2:], (span / near[:, 2:]).log()), 1)
    offsets[is_object] = moved / torch.tensor(VARIANCES)
    return classes, offsets


def decoded(defaults: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """The boxes that offsets stand for."""
    scaled = offsets * torch.tensor(VARIANCES, device=offsets.device)
    center = defaults[:, :2] + scaled[:, :2] * defaults[:, 2:]
    span = defaults[:, 2:] * scaled[:, 2:].clamp(max=5).exp()
    return corners(torch.cat((center, span), 1)).clamp(0, 1)


def suppressed(boxes: Any, scores: Any, threshold: float) -> list[int]:
    """Non-maximum suppression in numpy: the places that stay, the best first."""
    order = list(np.argsort(-scores, kind="stable"))
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    kept: list[int] = []
    while order:
        first, rest = order[0], np.array(order[1:], np.int64)
        kept.append(int(first))
        if not len(rest):
            break
        low = np.maximum(boxes[rest, :2], boxes[first, :2])
        high = np.minimum(boxes[rest, 2:], boxes[first, 2:])
        shared = (high - low).clip(0).prod(1)
        order = list(rest[shared / np.maximum(areas[rest] + areas[first] - shared, 1e-9) <= threshold])
    return kept


def mean_average_precision(found: Sequence[Any], truth: Sequence[Any], classes: int, threshold: float = 0.5) -> float:
    """The area under precision over recall, the mean over classes that occur.

    found: for each picture k x (class, score, box); truth: for each picture m x (class, box).
    """
    scores = [_average_precision(found, truth, number, threshold) for number in range(classes)]
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if known else 0.0


def _average_precision(found: Sequence[Any], truth: Sequence[Any], number: int, threshold: float) -> float | None:
    objects = [np.asarray(one)[np.asarray(one)[:, 0] == number][:, 1:] if len(one) else np.zeros((0, 4)) for one in truth]
    total = sum(len(one) for one in objects)
    if not total:
        return None
    claims = [(float(row[1]), picture, row[2:]) for picture, rows in enumerate(found) for row in rows if row[0] == number]
    claims.sort(key=lambda claim: -claim[0])
    taken: set[tuple[int, int]] = set()
    hits = np.zeros(len(claims))
    for place, (_, picture, box) in enumerate(claims):
        if not len(objects[picture]):
            continue
        shared = overlaps(torch.tensor(np.array([box]), dtype=torch.float32), torch.tensor(objects[picture], dtype=torch.float32))[
            0
        ]
        best = int(shared.argmax())
        if shared[best] >= threshold and (picture, best) not in taken:
            taken.add((picture, best))
            hits[place] = 1
    recall = np.cumsum(hits) / total
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(np.concatenate(([0.0], recall))) * precision)) if len(hits) else 0.0

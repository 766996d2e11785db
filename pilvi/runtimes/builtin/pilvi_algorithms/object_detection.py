"""Object Detection: a single-shot detector (SSD) that says which objects are where in a picture.

Source: SageMaker Developer Guide, "Object Detection - MXNet": hyperparameters, channels, annotation JSON, metrics, responses.
Differs: the pre-trained network of use_pretrained_model=1 is EfficientNet-Lite0, whatever base_network says (the log tells); VGG-16 has
batch normalisation. freeze_layer_pattern is matched with the names of this network's parameters.
Differs: kv_store changes nothing: hosts average their gradients after each step.
"""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance
from pilvi_algorithms import boxes, deep, efficientnet_lite, pictures, resnet, vision
from pilvi_algorithms.kit import (
    JSON,
    JSONLINES,
    ChannelRule,
    ClientError,
    RequestError,
    Run,
    accept_type,
    choice,
    flag,
    integer,
    real,
    text,
)
from pilvi_algorithms.kit.content_type import parse
from pilvi_algorithms.pictures import Picture
from torch import nn
from torch.nn import functional

NAME = "Object Detection"
HYPERPARAMETERS = (
    integer("num_classes", 1, required=True),
    integer("num_training_samples", 1, required=True),
    choice("base_network", "vgg-16", "resnet-50", default="vgg-16"),
    flag("early_stopping", False),
    integer("early_stopping_min_epochs", 1, default=10),
    integer("early_stopping_patience", 1, default=5),
    real("early_stopping_tolerance", 0, 1, 0.0),
    integer("epochs", 1, default=30),
    text("freeze_layer_pattern"),
    integer("image_shape", 300, default=300),
    choice("kv_store", "dist_sync", "dist_async"),
    integer("label_width", 5, default=350),
    real("learning_rate", 0, 1, 0.001, open_low=True),
    real("lr_scheduler_factor", 0, 1, 0.1, open_low=True, open_high=True),
    text("lr_scheduler_step"),
    integer("mini_batch_size", 1, default=32),
    real("momentum", 0, 1, 0.9, open_high=True),
    real("nms_threshold", 0, 1, 0.45, open_low=True),
    choice("optimizer", "sgd", "adam", "rmsprop", "adadelta", default="sgd"),
    real("overlap_threshold", 0, 1, 0.5, open_low=True),
    flag("use_pretrained_model", True),
    real("weight_decay", 0, 1, 0.0005, open_high=True),
)
CHANNELS = (
    *vision.image_rules(("train", True), ("validation", True)),
    ChannelRule("train_annotation"),
    ChannelRule("validation_annotation"),
    vision.MODEL_CHANNEL,
)
REQUEST_TYPES = ("application/x-image", "image/jpeg", "image/jpg", "image/png")
VGG = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_NEGATIVES = 3
_LEAST_SCORE = 0.01
_CANDIDATES, _MOST = 200, 100


# -- the network ----------------------------------------------------------------------------------------------------------


class Vgg16(nn.Module):
    """The thirteen convolutions of VGG-16 and a wide one in the place of its first dense layer; maps of strides 8, 16, 32."""

    def __init__(self) -> None:
        super().__init__()
        inputs, stages = 3, []
        for width, count in VGG:
            layers: list[nn.Module] = []
            for _ in range(count):
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                inputs = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.last = nn.Sequential(nn.Conv2d(512, 1024, 3, padding=1), nn.BatchNorm2d(1024), nn.ReLU())
        self.widths = [256, 512, 512, 1024]

    def stage_outputs(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number >= 2:
                found.append(x)
            x = functional.max_pool2d(x, 2, ceil_mode=True)
        return [*found, self.last(x)]


def _backbone(config: dict[str, Any], is_fresh: bool) -> nn.Module:
    if config["backbone"] == vision.PRETRAINED:
        return efficientnet_lite.pretrained() if is_fresh else efficientnet_lite.EfficientNetLite0()
    return Vgg16() if config["backbone"] == "vgg-16" else resnet.ResNet(50)


class Detector(nn.Module):
    """A backbone's last three maps, smaller ones behind them, and over each map the classes and offsets of its default boxes."""

    def __init__(self, config: dict[str, Any], is_fresh: bool = False) -> None:
        super().__init__()
        self.classes = config["num_classes"] + 1
        self.backbone = _backbone(config, is_fresh)
        widths = list(self.backbone.widths[1:])
        size, extras = math.ceil(config["image_shape"] / 32), []
        while size > 2:
            extras.append(
                nn.Sequential(
                    nn.Conv2d(widths[-1], 128, 1), nn.BatchNorm2d(128), nn.ReLU(),
                    nn.Conv2d(128, 256, 3, 2, 1), nn.BatchNorm2d(256), nn.ReLU(),
                )
            )  # fmt: skip
            widths.append(256)
            size = math.ceil(size / 2)
        self.extras = nn.ModuleList(extras)
        self.class_heads = nn.ModuleList(nn.Conv2d(width, boxes.PER_PLACE * self.classes, 3, padding=1) for width in widths)
        self.box_heads = nn.ModuleList(nn.Conv2d(width, boxes.PER_PLACE * 4, 3, padding=1) for width in widths)
        for head in (*self.class_heads, *self.box_heads):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = self.backbone.stage_outputs(x)[1:]
        for extra in self.extras:
            found.append(extra(found[-1]))
        return found

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """batch x default boxes x classes, batch x default boxes x 4"""
        maps = self.maps(x)
        said = [
            [head(each).permute(0, 2, 3, 1).reshape(len(x), -1, width) for head, each in zip(heads, maps, strict=True)]
            for heads, width in ((self.class_heads, self.classes), (self.box_heads, 4))
        ]
        return torch.cat(said[0], 1), torch.cat(said[1], 1)


def default_boxes(network: Detector, size: int) -> torch.Tensor:
    was_training = network.training
    network.eval()
    with torch.no_grad():
        maps = network.maps(torch.zeros(1, 3, size, size, device=next(network.parameters()).device))
    network.train(was_training)
    return boxes.default_boxes([(each.shape[2], each.shape[3]) for each in maps])


# -- data -----------------------------------------------------------------------------------------------------------------


def read(run: Run, name: str) -> list[Picture]:
    """The pictures of a channel; each label is m x (class, xmin, ymin, xmax, ymax)."""
    channel = run.channels[name]
    classes = run.hp["num_classes"]
    if channel.mode == "Pipe" or channel.kind.name == vision.RECORDIO_IMAGE:
        raw = vision.read_channel(run, name) or []
        read_label = _from_manifest if vision.is_manifest(channel) else _from_record(run.hp["label_width"])
        found = [Picture(picture.read, read_label(picture.label, picture.name), picture.name) for picture in raw]
    else:
        if (notes := run.channel(f"{name}_annotation")) is None:
            raise ClientError(f"Channel '{name}' holds pictures, so the channel '{name}_annotation' is required.")
        by_name = {
            str(path.relative_to(notes.folder).with_suffix("")): path for path in pictures.files_below(notes.folder, (".json",))
        }
        found = []
        for path in pictures.files_below(channel.folder):
            key = str(path.relative_to(channel.folder).with_suffix(""))
            if key in by_name:
                label = _from_annotation(json.loads(by_name[key].read_text()), by_name[key].name)
                found.append(Picture(path.read_bytes, label, path.name))
        if not found:
            raise ClientError(f"No picture in channel '{name}' has an annotation of its name in '{name}_annotation'.")
    for picture in found:
        if len(picture.label) and not ((picture.label[:, 0] >= 0) & (picture.label[:, 0] < classes)).all():
            raise ClientError(f"{picture.name} has a class that is not between 0 and num_classes - 1 ({classes - 1}).")
    return found


def _from_record(label_width: int) -> Any:
    def parsed(values: Any, name: str) -> Any:
        """header width, width of an object, more of the header, then the objects: class, xmin, ymin, xmax, ymax, ..."""
        if len(values) > label_width:
            raise ClientError(f"{name} has a label of {len(values)} numbers, more than label_width ({label_width}).")
        if len(values) < 2 or values[1] < 5 or (len(values) - int(values[0])) % int(values[1]):
            raise ClientError(f"{name} has no label of object detection.")
        rows = np.asarray(values[int(values[0]) :], np.float32).reshape(-1, int(values[1]))
        return rows[rows[:, 0] >= 0][:, :5]

    return parsed


def _from_annotation(note: Any, name: str) -> Any:
    try:
        size = note["image_size"][0]
        width, height = float(size["width"]), float(size["height"])
        rows = [
            (
                one["class_id"], one["left"] / width, one["top"] / height,
                (one["left"] + one["width"]) / width, (one["top"] + one["height"]) / height,
            )
            for one in note["annotations"]
        ]  # fmt: skip
    except (KeyError, TypeError, IndexError, ZeroDivisionError) as error:
        raise ClientError(f"The annotation {name} is not of the documented form: {type(error).__name__} {error}") from None
    return np.array(rows, np.float32).reshape(-1, 5)


def _from_manifest(label: Any, name: str) -> Any:
    return _from_annotation(label, name)


def _sample(pair: tuple[Picture, float | None], size: int) -> tuple[Any, torch.Tensor]:
    """(pixels, truth); with a seed a random variant: part of the picture, mirrored, other light."""
    source, seed = pair
    try:
        picture = pictures.decode(source.read())
    except pictures.BadPicture as error:
        raise ClientError(f"{source.name}: {error}") from error
    truth = np.array(source.label, np.float32).reshape(-1, 5)
    if seed is not None:
        rng = random.Random(seed)
        if rng.random() < 0.5 and len(truth):
            picture, truth = _part(picture, truth, rng)
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            truth[:, [1, 3]] = 1 - truth[:, [3, 1]]
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            picture = change(picture).enhance(rng.uniform(0.8, 1.2))
    return pictures.pixels(picture.resize((size, size), Image.Resampling.BILINEAR)), torch.from_numpy(truth.copy())


def _part(picture: Image.Image, truth: Any, rng: random.Random) -> tuple[Image.Image, Any]:
    """A random part of at least half of each side; objects whose middle lies outside are gone."""
    width, height = rng.uniform(0.5, 1), rng.uniform(0.5, 1)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    middle = (truth[:, 1:3] + truth[:, 3:5]) / 2
    inside = ((middle > (left, top)) & (middle < (left + width, top + height))).all(1)
    if not inside.any():
        return picture, truth
    kept = truth[inside].copy()
    kept[:, 1:] = ((kept[:, 1:] - (left, top, left, top)) / (width, height, width, height)).clip(0, 1)
    w, h = picture.size
    return picture.crop((int(left * w), int(top * h), max(int((left + width) * w), 1), max(int((top + height) * h), 1))), kept


# -- training -------------------------------------------------------------------------------------------------------------


def train(run: Run) -> None:
    deep.seed()
    hp = run.hp
    if hp["use_pretrained_model"]:
        vision.check_pretrained()
    config = {
        "algorithm": "object-detection",
        "backbone": vision.PRETRAINED if hp["use_pretrained_model"] else hp["base_network"],
        **{name: hp[name] for name in ("num_classes", "image_shape", "nms_threshold")},
    }
    found, held_out = read(run, "train"), read(run, "validation")
    vision.check_training_count(run, found)
    vision.say_backbone(run, f"SSD on {hp['base_network']}", hp["use_pretrained_model"])
    network = Detector(config, is_fresh=True)
    if (state := vision.incremental_state(run, config, ("backbone", "image_shape"))) is not None:
        vision.load_matching(network, state)
    _freeze(run, network)
    _learn(run, config, vision.placed(network), vision.own_share(run, found), held_out)
    if run.cluster.is_leader:
        deep.save(run.model_dir, config, network)


def _freeze(run: Run, network: nn.Module) -> None:
    if not (pattern := run.hp["freeze_layer_pattern"]) or pattern.lower() == "false":
        return
    try:
        names = [name for name, _ in network.named_parameters() if re.match(pattern, name)]
    except re.error as error:
        raise ClientError(f"freeze_layer_pattern is not a regular expression: {error}") from None
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name not in names
    run.report.say(f"freeze_layer_pattern keeps {len(names)} parameters as they are.", "INFO" if names else "WARNING")


def _learn(run: Run, config: dict[str, Any], network: Detector, found: list[Picture], held_out: list[Picture]) -> None:
    hp, report = run.hp, run.report
    moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = deep.optimizer_for(
        hp["optimizer"], moving, hp["learning_rate"], momentum=hp["momentum"], weight_decay=hp["weight_decay"]
    )
    checkpoints = deep.Checkpoints(run.checkpoint_dir)
    first, _ = checkpoints.restore(network, optimizer)
    steps = deep.epochs_of(hp["lr_scheduler_step"] or "")
    stopper = deep.EarlyStopping(
        hp["early_stopping_patience"], hp["early_stopping_tolerance"], hp["early_stopping_min_epochs"], hp["early_stopping"]
    )
    defaults = default_boxes(network, config["image_shape"])
    size = min(hp["mini_batch_size"], len(found))
    steps_an_epoch = deep.agreed_steps(run, len(found) // size)
    with vision.pool() as pool:
        for epoch in range(first, hp["epochs"]):
            begun, order = time.time(), np.random.default_rng(epoch).permutation(len(found))
            deep.set_learning_rate(optimizer, deep.stepped_rate(hp["learning_rate"], hp["lr_scheduler_factor"], steps, epoch))
            vision.train_mode(network, network.backbone, config["backbone"] == vision.PRETRAINED)
            told = []
            for step in range(steps_an_epoch):
                start = step * size
                rng = random.Random(f"{epoch}-{start}")
                batch = [(found[number], rng.random()) for number in order[start : start + size]]
                told.append(_step(run, network, optimizer, defaults, batch, config["image_shape"], pool))
                if run.is_stopping and not run.cluster.is_many:
                    break
            for name, value in zip(("cross_entropy", "smooth_l1"), np.mean(told, 0), strict=True):
                report.quality("train", name, float(value), epoch=epoch, batch=len(told) - 1)
            report.throughput(len(found), time.time() - begun)
            score = evaluate(network, config, held_out, hp["overlap_threshold"], defaults, pool)
            report.say(f"#quality_metric: host={report.host}, epoch={epoch}, validation mAP <score>=({score})")
            report.progress((epoch + 1) / hp["epochs"])
            if run.cluster.is_leader:
                checkpoints.save(epoch, network, optimizer)
            if stopper.is_over(epoch, deep.agreed_score(run, score)):
                report.say("Early stopping: validation mAP has not improved.")
                break
            if deep.has_stopped(run):
                break


def _step(
    run: Run, network: Detector, optimizer: Any, defaults: torch.Tensor, batch: Sequence[Any], size: int, pool: Any
) -> tuple[float, float]:
    device = deep.device()
    samples = pictures.in_parallel(lambda pair: _sample(pair, size), batch, pool)
    x = vision.batch_of([pixels for pixels, _ in samples])
    pairs = [boxes.matched(defaults, truth) for _, truth in samples]
    classes, offsets = torch.stack([one for one, _ in pairs]).to(device), torch.stack([one for _, one in pairs]).to(device)
    said, moved = network(x)
    class_loss, box_loss = losses(said, moved, classes, offsets)
    loss = class_loss + box_loss
    if not math.isfinite(float(loss.detach())):
        raise ClientError("The loss is not a number any more: try a smaller learning_rate.")
    optimizer.zero_grad()
    loss.backward()
    deep.average_gradients(run, network)
    nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimizer.step()
    return float(class_loss.detach()), float(box_loss.detach())


def losses(
    said: torch.Tensor, moved: torch.Tensor, classes: torch.Tensor, offsets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy over objects and their hardest background, three for one; smooth L1 over objects' offsets; both an object."""
    is_object = classes > 0
    count = is_object.sum().clamp(min=1)
    each = functional.cross_entropy(said.flatten(0, 1), classes.flatten(), reduction="none").view_as(classes)
    background = each.detach().masked_fill(is_object, -1)
    rank = background.argsort(1, descending=True).argsort(1)
    is_hard = (rank < (_NEGATIVES * is_object.sum(1, keepdim=True)).clamp(min=1)) & ~is_object
    class_loss = each[is_object | is_hard].sum() / count
    box_loss = functional.smooth_l1_loss(moved[is_object], offsets[is_object], reduction="sum") / count
    return class_loss, box_loss


# -- finding --------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def detect(network: Detector, x: torch.Tensor, defaults: torch.Tensor, nms_threshold: float) -> list[Any]:
    """For each picture k x (class, score, xmin, ymin, xmax, ymax), the surest first."""
    network.eval()
    said, moved = network(x)
    shares, moved = torch.softmax(said.float(), 2).cpu(), moved.float().cpu()
    return [_objects(share, boxes.decoded(defaults, offsets), nms_threshold) for share, offsets in zip(shares, moved, strict=True)]


def _objects(shares: torch.Tensor, where: torch.Tensor, nms_threshold: float) -> Any:
    rows = []
    for number in range(1, shares.shape[1]):
        scores, places = shares[:, number].topk(min(_CANDIDATES, len(shares)))
        places = places[scores > _LEAST_SCORE].numpy()
        score, box = shares[places, number].numpy(), where[places].numpy()
        kept = boxes.suppressed(box, score, nms_threshold)
        rows += [(number - 1, score[one], *box[one]) for one in kept]
    rows.sort(key=lambda row: -row[1])
    return np.array(rows[:_MOST], np.float64).reshape(-1, 6)


def evaluate(
    network: Detector, config: dict[str, Any], held_out: list[Picture], threshold: float, defaults: Any, pool: Any
) -> float:
    found, truth = [], []
    for start in range(0, len(held_out), 16):
        samples = pictures.in_parallel(
            lambda pair: _sample(pair, config["image_shape"]), [(one, None) for one in held_out[start : start + 16]], pool
        )
        x = vision.batch_of([pixels for pixels, _ in samples])
        found += detect(network, x, defaults, config["nms_threshold"])
        truth += [one.numpy() for _, one in samples]
    return boxes.mean_average_precision(found, truth, config["num_classes"], threshold)


class Model:
    def __init__(self, folder: Path) -> None:
        self.config = deep.read_config(folder)
        self.network = Detector(self.config)
        self.network.load_state_dict(deep.read_state(folder))
        vision.placed(self.network)
        self.defaults = default_boxes(self.network, self.config["image_shape"])


def load(model_dir: Path) -> Model:
    return Model(model_dir)


def predict(model: Model, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """A picture -> {"prediction": [[class, score, xmin, ymin, xmax, ymax], ...]}, boxes as shares of the picture."""
    if parse(content_type or REQUEST_TYPES[0]).name not in REQUEST_TYPES:
        raise RequestError(
            f"Content-type {content_type} not supported. Supported content-types are {', '.join(REQUEST_TYPES)}", 415
        )
    kind = accept_type(accept, (JSON, JSONLINES)).name
    if kind not in (JSON, JSONLINES):
        raise RequestError(f"Accept type {accept} not supported. Supported accept types are {JSON}, {JSONLINES}", 406)
    size = model.config["image_shape"]
    try:
        picture = pictures.decode(body).resize((size, size), Image.Resampling.BILINEAR)
    except pictures.BadPicture as error:
        raise RequestError(str(error)) from error
    found = detect(model.network, vision.batch_of([pictures.pixels(picture)]), model.defaults, model.config["nms_threshold"])[0]
    return (json.dumps({"prediction": found.tolist()}) + ("\n" if kind == JSONLINES else "")).encode(), kind

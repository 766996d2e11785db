"""Semantic Segmentation: the class of every pixel, by a fully convolutional network (FCN), PSP or DeepLab head on a dilated backbone.

Source: SageMaker Developer Guide, "Semantic segmentation algorithm": hyperparameters, channels, masks, label maps, metrics, responses.
Differs: the pre-trained network of use_pretrained_model is EfficientNet-Lite0, its maps merged at stride 4, whatever backbone says (the log
tells). syncbn and gamma2 change nothing.
Masks of responses are grey PNG whose values are class numbers.
"""

from __future__ import annotations

import io
import json
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pilvi_algorithms import deep, efficientnet_lite, pictures, resnet, vision
from pilvi_algorithms.kit import ChannelRule, ClientError, RequestError, Run, choice, flag, integer, real, recordio, text
from pilvi_algorithms.kit.content_type import parse
from pilvi_algorithms.pictures import Picture
from torch import nn
from torch.nn import functional

NAME = "Semantic Segmentation"
IGNORED = 255
"""The mask's value for pixels that do not count."""
HYPERPARAMETERS = (
    choice("backbone", "resnet-50", "resnet-101", default="resnet-50"),
    flag("use_pretrained_model", True),
    choice("algorithm", "fcn", "psp", "deeplab", default="fcn"),
    integer("num_classes", 2, 254, required=True),
    integer("num_training_samples", 1, required=True),
    integer("base_size", 17, default=520),
    integer("crop_size", 17, default=240),
    flag("early_stopping", False),
    integer("early_stopping_min_epochs", 1, default=5),
    integer("early_stopping_patience", 1, default=4),
    real("early_stopping_tolerance", 0, 1, 0.0),
    integer("epochs", 1, default=10),
    real("gamma1", 0, 1, 0.9),
    real("gamma2", 0, 1, 0.9),
    real("learning_rate", 0, 1, 0.001, open_low=True),
    choice("lr_scheduler", "poly", "step", "cosine", default="poly"),
    real("lr_scheduler_factor", 0, 1, 0.1),
    text("lr_scheduler_step"),
    integer("mini_batch_size", 1, default=16),
    real("momentum", 0, 1, 0.9, open_high=True),
    choice("optimizer", "sgd", "adam", "rmsprop", "nag", "adagrad", default="sgd"),
    flag("syncbn", False),
    integer("validation_mini_batch_size", 1, default=16),
    real("weight_decay", 0, 1, 0.0001, open_high=True),
)
_PICTURE_TYPES = (*vision.IMAGES, vision.X_IMAGE, vision.RECORDIO_IMAGE)
CHANNELS = (
    ChannelRule("train", True, _PICTURE_TYPES),
    ChannelRule("validation", True, _PICTURE_TYPES),
    ChannelRule("train_annotation"),
    ChannelRule("validation_annotation"),
    ChannelRule("label_map"),
    vision.MODEL_CHANNEL,
)
REQUEST_TYPES = ("image/jpeg", "image/jpg", "image/png", "application/x-image")
PNG = "image/png"
_PROTOBUF = ("application/x-protobuf", "application/x-recordio-protobuf")
_HEAD = 256
_LARGEST = 2048


# -- the network ----------------------------------------------------------------------------------------------------------


def _conv(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    pad = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=pad, dilation=dilation, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Pooled(nn.Module):
    """What a part of the picture of 1/bins of each side holds, beside every pixel."""

    def __init__(self, inputs: int, outputs: int, bins: int) -> None:
        super().__init__()
        # No normalisation: one bin of one picture is one number a channel.
        self.convolution = nn.Sequential(nn.AdaptiveAvgPool2d(bins), nn.Conv2d(inputs, outputs, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(self.convolution(x), x.shape[2:], mode="bilinear", align_corners=False)


class Branches(nn.Module):
    """Several views of the features side by side."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _head(kind: str, inputs: int, classes: int) -> nn.Module:
    """fcn: one convolution; psp: averages over 1, 2, 3 and 6 parts a side; deeplab: convolutions of several dilations."""
    layers: list[nn.Module] = {
        "fcn": lambda: [_conv(inputs, _HEAD, 3)],
        "psp": lambda: [
            Branches([nn.Identity(), *(Pooled(inputs, _HEAD // 2, bins) for bins in (1, 2, 3, 6))]),
            _conv(inputs + 2 * _HEAD, _HEAD, 3),
        ],
        "deeplab": lambda: [
            Branches([_conv(inputs, _HEAD, 1), *(_conv(inputs, _HEAD, 3, rate) for rate in (6, 12, 18)), Pooled(inputs, _HEAD, 1)]),
            _conv(5 * _HEAD, _HEAD, 1),
        ],
    }[kind]()
    return nn.Sequential(*layers, nn.Dropout(0.1), nn.Conv2d(_HEAD, classes, 1))


class Merged(nn.Module):
    """The pre-trained network's maps of strides 4 to 32 on top of each other at stride 4: fine edges from the first, meaning from the last."""

    def __init__(self, is_fresh: bool) -> None:
        super().__init__()
        self.network = efficientnet_lite.pretrained() if is_fresh else efficientnet_lite.EfficientNetLite0()
        self.narrow = _conv(self.network.widths[-1], _HEAD // 2, 1)
        self.width = sum(self.network.widths[:-1]) + _HEAD // 2
        self.norm = nn.BatchNorm2d(self.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *maps, last = self.network.stage_outputs(x)
        size = maps[0].shape[2:]
        maps = [functional.interpolate(each, size, mode="bilinear", align_corners=False) for each in (*maps, self.narrow(last))]
        out: torch.Tensor = self.norm(torch.cat(maps, 1))
        return out


class Segmenter(nn.Module):
    def __init__(self, config: dict[str, Any], is_fresh: bool = False) -> None:
        super().__init__()
        if config["backbone"] == vision.PRETRAINED:
            self.backbone: nn.Module = Merged(is_fresh)
        else:
            self.backbone = resnet.ResNet(int(config["backbone"].rpartition("-")[2]), dilate_from=2)
        self.head = _head(config["algorithm"], self.backbone.width, config["num_classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits for every pixel."""
        return functional.interpolate(self.head(self.backbone(x)), x.shape[2:], mode="bilinear", align_corners=False)


# -- data -----------------------------------------------------------------------------------------------------------------


def read(run: Run, name: str) -> list[Picture]:
    """The pictures of a channel; each label reads its mask's bytes."""
    channel = run.channels[name]
    if channel.mode == "Pipe":
        return [Picture(one.read, _constant(one.label), one.name) for one in vision.read_channel(run, name) or []]
    if (notes := run.channel(f"{name}_annotation")) is None:
        raise ClientError(f"The channel '{name}_annotation' is required.")
    masks = {str(path.relative_to(notes.folder).with_suffix("")): path for path in pictures.files_below(notes.folder, (".png",))}
    pairs = [
        (path, masks.get(str(path.relative_to(channel.folder).with_suffix("")))) for path in pictures.files_below(channel.folder)
    ]
    found = [Picture(path.read_bytes, mask.read_bytes, path.name) for path, mask in pairs if mask is not None]
    if not found:
        raise ClientError(f"No picture in channel '{name}' has a mask of its name in '{name}_annotation'.")
    return found


def _constant(label: Any) -> Any:
    return lambda: label


def label_map(run: Run, name: str) -> Any:
    """256 numbers: the class of each value in a channel's masks."""
    table = np.arange(256, dtype=np.uint8)
    if (channel := run.channel("label_map")) is None:
        return table
    for file in channel.paths():
        if file.name == f"{name}_label_map.json":
            try:
                for value, number in json.loads(file.read_text())["map"].items():
                    table[int(value)] = int(number)
            except (ValueError, KeyError, AttributeError, IndexError, OverflowError) as error:
                raise ClientError(f'{file.name} is not of the form {{"map": {{"0": 5}}}}: {error}') from None
    return table


def _opened(source: Picture, table: Any, classes: int) -> tuple[Image.Image, Image.Image]:
    try:
        picture = pictures.decode(source.read())
        with Image.open(io.BytesIO(source.label())) as raw:
            values = np.asarray(raw if raw.mode in ("P", "L") else raw.convert("L"), np.uint8)
    except (pictures.BadPicture, OSError) as error:
        raise ClientError(f"{source.name}: {error}") from error
    mask = table[values]
    if ((mask >= classes) & (mask != IGNORED)).any():
        raise ClientError(f"The mask of {source.name} has a class that is not between 0 and num_classes - 1 ({classes - 1}).")
    if mask.shape != (picture.height, picture.width):
        raise ClientError(f"The mask of {source.name} has another size than its picture.")
    return picture, Image.fromarray(mask)


def _resized(picture: Image.Image, mask: Image.Image, short: int) -> tuple[Image.Image, Image.Image]:
    scale = short / min(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    if size == picture.size:
        return picture, mask
    return picture.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)


def _variant(picture: Image.Image, mask: Image.Image, config: dict[str, Any], rng: random.Random) -> tuple[Any, Any]:
    """Another scale, a random part of crop_size, mirrored by chance; what lies outside is ignored."""
    picture, mask = _resized(picture, mask, max(1, int(config["base_size"] * rng.uniform(0.5, 2.0))))
    crop = config["crop_size"]
    x, y = pictures.pixels(picture), np.asarray(mask)
    if rng.random() < 0.5:
        x, y = x[:, :, ::-1], y[:, ::-1]
    below, beside = max(0, crop - y.shape[0]), max(0, crop - y.shape[1])
    x = np.pad(x, ((0, 0), (0, below), (0, beside)))
    y = np.pad(y, ((0, below), (0, beside)), constant_values=IGNORED)
    top, left = rng.randint(0, y.shape[0] - crop), rng.randint(0, y.shape[1] - crop)
    return np.ascontiguousarray(x[:, top : top + crop, left : left + crop]), y[top : top + crop, left : left + crop].astype(
        np.int64
    )


# -- training -------------------------------------------------------------------------------------------------------------


def train(run: Run) -> None:
    deep.seed()
    hp = run.hp
    if hp["use_pretrained_model"]:
        vision.check_pretrained()
    config = {
        "backbone": vision.PRETRAINED if hp["use_pretrained_model"] else hp["backbone"],
        **{name: hp[name] for name in ("algorithm", "num_classes", "base_size", "crop_size")},
    }
    found, held_out = read(run, "train"), read(run, "validation")
    vision.check_training_count(run, found)
    vision.say_backbone(run, f"{hp['algorithm']} on {hp['backbone']}", hp["use_pretrained_model"])
    network = Segmenter(config, is_fresh=True)
    if (state := vision.incremental_state(run, config, ("backbone", "algorithm"))) is not None:
        vision.load_matching(network, state)
    vision.placed(network)
    _learn(run, config, network, vision.own_share(run, found), held_out)
    if run.cluster.is_leader:
        deep.save(run.model_dir, config, network)


def rate_at(hp: dict[str, Any], done: float, epoch: int) -> float:
    """The learning rate when this share of all steps is done."""
    base = float(hp["learning_rate"])
    if hp["lr_scheduler"] == "poly":
        return base * (1 - done) ** 0.9
    if hp["lr_scheduler"] == "cosine":
        return base * (1 + math.cos(math.pi * done)) / 2
    return deep.stepped_rate(base, hp["lr_scheduler_factor"], deep.epochs_of(hp["lr_scheduler_step"] or ""), epoch)


def _learn(run: Run, config: dict[str, Any], network: Segmenter, found: list[Picture], held_out: list[Picture]) -> None:
    hp, report = run.hp, run.report
    options = {"momentum": hp["momentum"], "weight_decay": hp["weight_decay"], "gamma": hp["gamma1"]}
    optimizer = deep.optimizer_for(hp["optimizer"], network.parameters(), hp["learning_rate"], **options)
    checkpoints = deep.Checkpoints(run.checkpoint_dir)
    first, _ = checkpoints.restore(network, optimizer)
    stopper = deep.EarlyStopping(
        hp["early_stopping_patience"], hp["early_stopping_tolerance"], hp["early_stopping_min_epochs"], hp["early_stopping"]
    )
    size = min(hp["mini_batch_size"], len(found))
    batches, table, checked = deep.agreed_steps(run, len(found) // size), label_map(run, "train"), label_map(run, "validation")
    with vision.pool() as pool:
        for epoch in range(first, hp["epochs"]):
            begun, order, told = time.time(), np.random.default_rng(epoch).permutation(len(found)), []
            vision.train_mode(
                network, getattr(network.backbone, "network", network.backbone), config["backbone"] == vision.PRETRAINED
            )
            for number in range(batches):
                deep.set_learning_rate(optimizer, rate_at(hp, (epoch + number / batches) / hp["epochs"], epoch))
                rng = random.Random(f"{epoch}-{number}")
                batch = [(found[place], rng.random()) for place in order[number * size : (number + 1) * size]]
                told.append(_step(run, network, optimizer, config, batch, table, pool))
                if run.is_stopping and not run.cluster.is_many:
                    break
            report.quality("train", "loss", float(np.mean(told)), epoch=epoch)
            report.throughput(len(found), time.time() - begun)
            accuracy, overlap = evaluate(network, config, held_out, checked, hp["validation_mini_batch_size"])
            report.quality("validation", "pixel_accuracy", accuracy, epoch=epoch, kind="score")
            report.quality("validation", "mIOU", overlap, epoch=epoch, kind="score")
            report.progress((epoch + 1) / hp["epochs"])
            if run.cluster.is_leader:
                checkpoints.save(epoch, network, optimizer)
            if stopper.is_over(epoch, deep.agreed_score(run, overlap)):
                report.say("Early stopping: validation mIOU has not improved.")
                break
            if deep.has_stopped(run):
                break


def _step(
    run: Run, network: Segmenter, optimizer: Any, config: dict[str, Any], batch: Sequence[Any], table: Any, pool: Any
) -> float:
    def made(pair: tuple[Picture, float]) -> tuple[Any, Any]:
        return _variant(*_opened(pair[0], table, config["num_classes"]), config, random.Random(pair[1]))

    samples = pictures.in_parallel(made, batch, pool)
    x = vision.batch_of([pixels for pixels, _ in samples])
    y = torch.from_numpy(np.stack([mask for _, mask in samples])).to(deep.device())
    loss = functional.cross_entropy(network(x), y, ignore_index=IGNORED, reduction="sum") / (y != IGNORED).sum().clamp(min=1)
    if not math.isfinite(float(loss.detach())):
        raise ClientError("The loss is not a number any more: try a smaller learning_rate.")
    optimizer.zero_grad()
    loss.backward()
    deep.average_gradients(run, network)
    optimizer.step()
    return float(loss.detach())


def evaluate(network: Segmenter, config: dict[str, Any], held_out: list[Picture], table: Any, size: int) -> tuple[float, float]:
    """(share of pixels that are right, mean intersection over union of the classes that occur)"""
    classes = config["num_classes"]
    counts = np.zeros((classes, classes), np.int64)
    waiting: list[tuple[Any, Any]] = []

    def settle() -> None:
        if not waiting:
            return
        said = shares_of(network, vision.batch_of([x for x, _ in waiting])).argmax(1).cpu().numpy()
        for guess, (_, mask) in zip(said, waiting, strict=True):
            counted = mask != IGNORED
            counts[:] += np.bincount(mask[counted].astype(np.int64) * classes + guess[counted], minlength=classes**2).reshape(
                classes, classes
            )
        waiting.clear()

    for source in held_out:
        picture, mask = _resized(*_opened(source, table, classes), config["base_size"])
        if waiting and (len(waiting) >= size or waiting[0][1].shape != (mask.height, mask.width)):
            settle()
        waiting.append((pictures.pixels(picture), np.asarray(mask)))
    settle()
    right = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - right
    return float(right.sum() / max(counts.sum(), 1)), float((right[union > 0] / union[union > 0]).mean()) if (
        union > 0
    ).any() else 0.0


@torch.no_grad()
def shares_of(network: Segmenter, x: torch.Tensor) -> torch.Tensor:
    network.eval()
    return torch.softmax(network(x).float(), 1)


# -- inference ------------------------------------------------------------------------------------------------------------


class Model:
    def __init__(self, folder: Path) -> None:
        self.config = deep.read_config(folder)
        self.network = Segmenter(self.config)
        self.network.load_state_dict(deep.read_state(folder))
        vision.placed(self.network)

    def shares(self, data: bytes) -> Any:
        """classes x height x width of the picture itself"""
        picture = pictures.decode(data)
        scaled, _ = _resized(picture, Image.new("L", picture.size), min(self.config["base_size"], _LARGEST))
        found = shares_of(self.network, vision.batch_of([pictures.pixels(scaled)]))
        return functional.interpolate(found, (picture.height, picture.width), mode="bilinear", align_corners=False)[0].cpu().numpy()


def load(model_dir: Path) -> Model:
    return Model(model_dir)


def predict(model: Model, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """A picture -> its mask as PNG, or the classes' probabilities as a protobuf record (features target and shape)."""
    if parse(content_type or REQUEST_TYPES[0]).name not in REQUEST_TYPES:
        raise RequestError(
            f"Content-type {content_type} not supported. Supported content-types are {', '.join(REQUEST_TYPES)}", 415
        )
    wanted = PNG if accept in ("", "*/*") else parse(accept).name
    if wanted not in (PNG, *_PROTOBUF):
        raise RequestError(f"Accept type {accept} not supported. Supported accept types are {PNG}, {', '.join(_PROTOBUF)}", 406)
    try:
        shares = model.shares(body)
    except pictures.BadPicture as error:
        raise RequestError(str(error)) from error
    if wanted == PNG:
        out = io.BytesIO()
        Image.fromarray(shares.argmax(0).astype(np.uint8)).save(out, "PNG")
        return out.getvalue(), PNG
    shape = np.array((1, *shares.shape), np.int32)
    record = recordio.Record({"target": recordio.Tensor(shares.astype(np.float32).ravel()), "shape": recordio.Tensor(shape)})
    message = recordio.serialized(record)
    return (recordio.framed(message) if "recordio" in wanted else message), wanted

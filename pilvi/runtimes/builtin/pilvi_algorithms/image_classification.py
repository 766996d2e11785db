"""Image Classification: a residual network over pictures, one class or several a picture, from scratch or by transfer learning.

Source: SageMaker Developer Guide, "Image Classification - MXNet": hyperparameters, channels, formats, metrics, responses.
Differs: the pre-trained network of use_pretrained_model=1 is EfficientNet-Lite0, whatever num_layers says (the log tells).
Differs: pictures without `resize` are scaled to cover image_shape before they are cut to it.
Differs: precision_dtype=float16 computes in bfloat16 on a GPU; on a CPU, where half the width is no faster, in float32 (the log tells).
Differs: kv_store changes nothing: hosts average their gradients after each step. model.tar.gz holds model.json and model.pt.
"""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pilvi_algorithms import deep, efficientnet_lite, pictures, resnet, vision
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

NAME = "Image Classification"
HYPERPARAMETERS = (
    integer("num_classes", 1, required=True),
    integer("num_training_samples", 1, required=True),
    choice("augmentation_type", "crop", "crop_color", "crop_color_transform"),
    real("beta_1", 0, 1, 0.9),
    real("beta_2", 0, 1, 0.999),
    integer("checkpoint_frequency", 1),
    flag("early_stopping", False),
    integer("early_stopping_min_epochs", 1, default=10),
    integer("early_stopping_patience", 1, default=5),
    real("early_stopping_tolerance", 0, 1, 0.0),
    integer("epochs", 1, default=30),
    real("eps", 0, 1, 1e-8),
    real("gamma", 0, 1, 0.9),
    text("image_shape", "3,224,224"),
    choice("kv_store", "dist_sync", "dist_async"),
    real("learning_rate", 0, 1, 0.1),
    real("lr_scheduler_factor", 0, 1, 0.1),
    text("lr_scheduler_step"),
    integer("mini_batch_size", 1, default=32),
    real("momentum", 0, 1, 0.9),
    flag("multi_label", False),
    choice("num_layers", *(str(depth) for depth in resnet.DEPTHS), default="152"),
    choice("optimizer", "sgd", "adam", "rmsprop", "nag", default="sgd"),
    choice("precision_dtype", "float32", "float16", default="float32"),
    integer("resize", 1),
    integer("top_k", 2),
    flag("use_pretrained_model", False),
    flag("use_weighted_loss", False),
    real("weight_decay", 0, 1, 0.0001),
)
CHANNELS = (
    *vision.image_rules(("train", True), ("validation", False)),
    ChannelRule("train_lst"),
    ChannelRule("validation_lst"),
    vision.MODEL_CHANNEL,
)
REQUEST_TYPES = ("application/x-image", "image/jpeg", "image/jpg", "image/png")
_SAME = ("num_layers", "backbone", "image_shape")
_EVALUATION_BATCH = 64


class Classifier(nn.Module):
    """A backbone, its features averaged over the picture, a linear layer."""

    def __init__(self, config: dict[str, Any], is_fresh: bool = False) -> None:
        super().__init__()
        channels, height, _ = config["image_shape"]
        if config["backbone"] == vision.PRETRAINED:
            self.backbone: nn.Module = efficientnet_lite.pretrained() if is_fresh else efficientnet_lite.EfficientNetLite0()
        else:
            self.backbone = resnet.ResNet(config["num_layers"], channels, is_small_picture=height <= 32)
        self.head = nn.Linear(self.backbone.width, config["num_classes"])
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.backbone(x).mean((2, 3)))
        return out


# -- training -------------------------------------------------------------------------------------------------------------


def train(run: Run) -> None:
    deep.seed()
    config = config_of(run)
    found = vision.read_channel(run, "train")
    assert found is not None
    vision.check_training_count(run, found)
    held_out = vision.read_channel(run, "validation")
    _check_labels(run.hp, found, "train")
    _check_labels(run.hp, held_out or [], "validation")
    vision.say_backbone(run, f"ResNet-{run.hp['num_layers']}", config["backbone"] == vision.PRETRAINED)
    network = Classifier(config, is_fresh=True)
    if (state := vision.incremental_state(run, config, _SAME)) is not None:
        vision.load_matching(network, state)
    _learn(run, config, vision.placed(network), vision.own_share(run, found), held_out)
    if run.cluster.is_leader:
        deep.save(run.model_dir, config, network)


def config_of(run: Run) -> dict[str, Any]:
    """What the model's file keeps. Raises ClientError for hyperparameters that do not go together."""
    hp = run.hp
    try:
        shape = [int(part) for part in hp["image_shape"].split(",")]
        assert len(shape) == 3
        assert shape[0] in (1, 3)
        assert min(shape) > 0
    except (ValueError, AssertionError):
        raise ClientError(f"image_shape must be of the form num_channels,height,width, but it is {hp['image_shape']}") from None
    if hp["resize"] is not None and hp["resize"] < max(shape[1:]):
        raise ClientError(
            f"resize ({hp['resize']}) must not be smaller than the height and width of image_shape ({hp['image_shape']})"
        )
    if hp["top_k"] is not None and hp["top_k"] >= hp["num_classes"]:
        raise ClientError("top_k must be smaller than num_classes")
    if hp["use_weighted_loss"] and not hp["multi_label"]:
        raise ClientError("use_weighted_loss can be used with multi_label only")
    if hp["use_pretrained_model"]:
        if shape[0] != 3:
            raise ClientError("use_pretrained_model needs pictures with 3 channels")
        vision.check_pretrained()
    return {
        "algorithm": "image-classification",
        "backbone": vision.PRETRAINED if hp["use_pretrained_model"] else "resnet",
        "num_layers": int(hp["num_layers"]),
        "num_classes": hp["num_classes"],
        "image_shape": shape,
        "resize": hp["resize"],
        "multi_label": hp["multi_label"],
    }


def _check_labels(hp: dict[str, Any], found: list[Picture], channel: str) -> None:
    classes = hp["num_classes"]
    for picture in found:
        labels = np.atleast_1d(np.asarray(picture.label, np.float32))
        if hp["multi_label"]:
            if len(labels) != classes:
                raise ClientError(
                    f"{picture.name} in channel '{channel}' has {len(labels)} labels; multi_label needs num_classes ({classes})."
                )
        elif len(labels) != 1 or not 0 <= labels[0] < classes or labels[0] != int(labels[0]):
            raise ClientError(
                f"{picture.name} in channel '{channel}' has the label {labels.tolist()}; labels are 0 to num_classes - 1 ({classes - 1})."
            )


def _learn(run: Run, config: dict[str, Any], network: Classifier, found: list[Picture], held_out: list[Picture] | None) -> None:
    hp, report = run.hp, run.report
    optimizer = deep.optimizer_for(hp["optimizer"], network.parameters(), hp["learning_rate"], **_optimizer_options(hp))
    if hp["precision_dtype"] == "float16":
        report.say(f"precision_dtype float16: computing in {'bfloat16' if deep.device().type == 'cuda' else 'float32, on a CPU'}.")
    checkpoints = deep.Checkpoints(run.checkpoint_dir)
    first, kept = checkpoints.restore(network, optimizer)
    if first:
        report.say(f"Going on from the checkpoint after epoch {first - 1}.")
    steps = deep.epochs_of(hp["lr_scheduler_step"] or "")
    stopper = deep.EarlyStopping(
        hp["early_stopping_patience"], hp["early_stopping_tolerance"], hp["early_stopping_min_epochs"], hp["early_stopping"]
    )
    stopper.best = kept.get("best", stopper.best)
    weights = _class_weights(found) if hp["use_weighted_loss"] else None
    with vision.pool() as pool:
        for epoch in range(first, hp["epochs"]):
            begun = time.time()
            deep.set_learning_rate(optimizer, deep.stepped_rate(hp["learning_rate"], hp["lr_scheduler_factor"], steps, epoch))
            told = _one_epoch(run, config, network, optimizer, found, epoch, weights, pool)
            for name, value in told.items():
                report.say(f"Epoch[{epoch}] Train-{name}={value:f}")
            report.say(f"Epoch[{epoch}] Time cost={time.time() - begun:.3f}")
            score = told["accuracy"]
            if held_out:
                measured = evaluate(config, network, held_out, hp["top_k"], pool)
                for name, value in measured.items():
                    report.say(f"Epoch[{epoch}] Validation-{name}={value:f}")
                score = measured["accuracy"]
            report.progress((epoch + 1) / hp["epochs"])
            if run.cluster.is_leader and (epoch + 1) % (hp["checkpoint_frequency"] or 1) == 0:
                checkpoints.save(epoch, network, optimizer, best=max(stopper.best, score))
            if stopper.is_over(epoch, deep.agreed_score(run, score)):
                report.say(f"Early stopping after epoch {epoch}: validation accuracy has not improved.")
                break
            if deep.has_stopped(run):
                break


def _optimizer_options(hp: dict[str, Any]) -> dict[str, float]:
    return {name: hp[name] for name in ("beta_1", "beta_2", "eps", "gamma", "momentum", "weight_decay")}


def _class_weights(found: list[Picture]) -> torch.Tensor:
    """How many times rarer being in a class is than not being in it."""
    share = np.mean([picture.label for picture in found], axis=0).clip(1e-3, 1 - 1e-3)
    return torch.tensor((1 - share) / share, dtype=torch.float32, device=deep.device())


def _one_epoch(
    run: Run,
    config: dict[str, Any],
    network: Classifier,
    optimizer: torch.optim.Optimizer,
    found: list[Picture],
    epoch: int,
    weights: torch.Tensor | None,
    pool: Any,
) -> dict[str, float]:
    """Train on every picture once; the figures over the epoch."""
    hp, device = run.hp, deep.device()
    order = np.random.default_rng(epoch).permutation(len(found))
    size = min(hp["mini_batch_size"], len(found))
    vision.train_mode(network, network.backbone, config["backbone"] == vision.PRETRAINED)
    losses, guesses, truths = [], [], []
    is_half = hp["precision_dtype"] == "float16" and device.type == "cuda"
    for step in range(deep.agreed_steps(run, len(found) // size)):
        start = step * size
        batch = [found[number] for number in order[start : start + size]]
        rng = random.Random(f"{epoch}-{start}")
        seeds = [(picture, rng.random()) for picture in batch]
        x = vision.batch_of(pictures.in_parallel(lambda pair: _augmented(pair, config, hp["augmentation_type"]), seeds, pool))
        y = _targets(batch, config).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=is_half):
            logits = network(x)
        loss = _loss(logits.float(), y, config["multi_label"], weights)
        optimizer.zero_grad()
        loss.backward()
        deep.average_gradients(run, network)
        optimizer.step()
        losses.append(float(loss.detach()))
        guesses.append(logits.detach().float().cpu())
        truths.append(y.cpu())
        if not math.isfinite(losses[-1]):
            raise ClientError("The loss is not a number any more: try a smaller learning_rate.")
        if run.is_stopping and not run.cluster.is_many:
            break
    return _figures(torch.cat(guesses), torch.cat(truths), config["multi_label"], hp["top_k"]) | {
        "cross-entropy": float(np.mean(losses))
    }


def _targets(batch: list[Picture], config: dict[str, Any]) -> torch.Tensor:
    if config["multi_label"]:
        return torch.tensor(np.array([picture.label for picture in batch]), dtype=torch.float32)
    return torch.tensor([int(np.atleast_1d(picture.label)[0]) for picture in batch])


def _loss(logits: torch.Tensor, y: torch.Tensor, is_multi: bool, weights: torch.Tensor | None) -> torch.Tensor:
    return (
        functional.binary_cross_entropy_with_logits(logits, y, pos_weight=weights)
        if is_multi
        else functional.cross_entropy(logits, y)
    )


def _figures(logits: torch.Tensor, y: torch.Tensor, is_multi: bool, top_k: int | None) -> dict[str, float]:
    if is_multi:
        return {"accuracy": float(((logits > 0) == (y > 0.5)).float().mean())}
    found = {"accuracy": float((logits.argmax(1) == y).float().mean())}
    if top_k:
        found[f"top_k_accuracy_{top_k}"] = float((logits.topk(top_k).indices == y[:, None]).any(1).float().mean())
    return found


def evaluate(config: dict[str, Any], network: nn.Module, found: list[Picture], top_k: int | None, pool: Any) -> dict[str, float]:
    network.eval()
    logits = []
    with torch.no_grad():
        for start in range(0, len(found), _EVALUATION_BATCH):
            batch = found[start : start + _EVALUATION_BATCH]
            x = vision.batch_of(pictures.in_parallel(lambda picture: _plain(picture.read(), config), batch, pool))
            logits.append(network(x).float().cpu())
    return _figures(torch.cat(logits), _targets(found, config), config["multi_label"], top_k)


# -- pixels ---------------------------------------------------------------------------------------------------------------


def _covering(picture: Image.Image, config: dict[str, Any], room: float = 1.0) -> Image.Image:
    """Scaled by its shorter side: to `resize`, or so that it covers the network's picture, with `room` around it."""
    _, height, width = config["image_shape"]
    cover = max(width / picture.width, height / picture.height) * room
    scale = config["resize"] / min(picture.size) if config["resize"] else cover
    size = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)


def _plain(data: bytes, config: dict[str, Any]) -> Any:
    """The middle of the picture."""
    _, height, width = config["image_shape"]
    picture = _covering(pictures.decode(data, config["image_shape"][0]), config)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return pictures.pixels(picture.crop((left, top, left + width, top + height)))


def _augmented(pair: tuple[Picture, float], config: dict[str, Any], kind: str | None) -> Any:
    """A random variant: crop (and flip), then colours, then shape."""
    source, seed = pair
    data = source.read()
    try:
        if kind is None:
            return _plain(data, config)
        rng = random.Random(seed)
        channels, height, width = config["image_shape"]
        picture = pictures.decode(data, channels)
    except pictures.BadPicture as error:
        raise ClientError(f"{source.name}: {error}") from error
    if kind == "crop_color_transform":
        picture = _transformed(picture, rng)
    picture = _covering(picture, config, room=1.14)
    left, top = rng.randint(0, picture.width - width), rng.randint(0, picture.height - height)
    picture = picture.crop((left, top, left + width, top + height))
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if kind != "crop" and channels == 3:
        picture = _recoloured(picture, rng)
    return pictures.pixels(picture)


def _recoloured(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Hue, saturation and lightness, each a little off: at most 36, 50, 50 of 180, 255, 255."""
    values = np.asarray(picture.convert("HSV"), np.int16)
    shift = np.array([rng.uniform(-36, 36) * 255 / 180, rng.uniform(-50, 50), rng.uniform(-50, 50)])
    moved = values + shift.astype(np.int16)
    moved[..., 0] %= 256
    return Image.fromarray(moved.clip(0, 255).astype(np.uint8), "HSV").convert("RGB")


def _transformed(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Turned by at most 10 degrees, sheared by at most 0.1, its sides' ratio changed by at most a quarter."""
    angle, shear, ratio = rng.uniform(-10, 10), rng.uniform(-0.1, 0.1), rng.uniform(0.8, 1.25)
    turned = picture.rotate(angle, Image.Resampling.BILINEAR)
    sheared = turned.transform(
        turned.size, Image.Transform.AFFINE, (1, shear, -shear * turned.height / 2, 0, 1, 0), Image.Resampling.BILINEAR
    )
    return sheared.resize((max(1, round(sheared.width * ratio)), sheared.height), Image.Resampling.BILINEAR)


# -- inference ------------------------------------------------------------------------------------------------------------


class Model:
    def __init__(self, folder: Path) -> None:
        self.config = deep.read_config(folder)
        self.network = Classifier(self.config)
        self.network.load_state_dict(deep.read_state(folder))
        vision.placed(self.network).eval()

    def probabilities(self, data: bytes) -> list[float]:
        x = vision.batch_of([_plain(data, self.config)])
        with torch.no_grad():
            logits = self.network(x)[0].float().cpu()
        values: list[float] = (torch.sigmoid(logits) if self.config["multi_label"] else torch.softmax(logits, 0)).tolist()
        return values


def load(model_dir: Path) -> Model:
    return Model(model_dir)


def predict(model: Model, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """One picture -> the probability of each class: a JSON list, or {"prediction": [...]} as JSON Lines."""
    import json

    if parse(content_type or REQUEST_TYPES[0]).name not in REQUEST_TYPES:
        raise RequestError(
            f"Content-type {content_type} not supported. Supported content-types are {', '.join(REQUEST_TYPES)}", 415
        )
    kind = accept_type(accept, (JSON, JSONLINES)).name
    if kind not in (JSON, JSONLINES):
        raise RequestError(f"Accept type {accept} not supported. Supported accept types are {JSON}, {JSONLINES}", 406)
    try:
        found = model.probabilities(body)
    except pictures.BadPicture as error:
        raise RequestError(str(error)) from error
    return (json.dumps({"prediction": found}) + "\n" if kind == JSONLINES else json.dumps(found)).encode(), kind

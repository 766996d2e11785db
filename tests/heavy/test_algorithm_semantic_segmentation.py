"""Semantic Segmentation: the class of every pixel of shapes on a ground."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pilvi.testing.server import Account, TestServer
from tests.heavy.algorithm_lab import AlgorithmLab
from tests.services.sagemaker.conftest import Lab

SHAPES = """
import random
from pathlib import Path
from PIL import Image, ImageDraw

rng = random.Random(0)
for name, count in (("train", 32), ("validation", 10)):
    Path(name).mkdir()
    Path(name + "_annotation").mkdir()
    for number in range(count):
        picture, mask = Image.new("RGB", (96, 96), tuple(rng.randint(150, 255) for _ in range(3))), Image.new("L", (96, 96), 0)
        for kind in (1, 2):
            size = rng.randint(25, 45)
            left, top = rng.randint(0, 96 - size), rng.randint(0, 96 - size)
            for each, fill in ((picture, tuple(rng.randint(0, 120) for _ in range(3))), (mask, kind)):
                draw = ImageDraw.Draw(each)
                (draw.rectangle if kind == 1 else draw.ellipse)((left, top, left + size, top + size), fill=fill)
        picture.save(Path(name, f"{number}.jpg"))
        mask.save(Path(name + "_annotation", f"{number}.png"))
"""
NAMES = ("train", "validation", "train_annotation", "validation_annotation")


@pytest.fixture
def algorithm(server: TestServer, aws: Account, tmp_path: Path) -> AlgorithmLab:
    return AlgorithmLab(server, Lab(aws), "semantic-segmentation", tmp_path)


def test_create_training_job_labels_pixels(algorithm: AlgorithmLab) -> None:
    made = algorithm.make(SHAPES)
    channels = [
        algorithm.channel(name, made / name, "image/png" if name.endswith("annotation") else "image/jpeg") for name in NAMES
    ]
    hyperparameters = {
        "num_classes": 3, "num_training_samples": 32, "epochs": 4, "mini_batch_size": 8, "optimizer": "adam", "learning_rate": 0.001,
        "base_size": 96, "crop_size": 96,
    }  # fmt: skip
    metrics = algorithm.trained("pixels", hyperparameters, channels)
    assert metrics["validation:mIOU"] > 0.7
    assert metrics["validation:pixel_accuracy"] > 0.9
    picture = (made / "train" / "0.jpg").read_bytes()
    (mask, kind), (record, _) = algorithm.ask(
        "pixels", (picture, "image/jpeg", "image/png"), (picture, "image/jpeg", "application/x-protobuf")
    )
    assert kind == "image/png"
    assert struct.unpack(">II", mask[16:24]) == (96, 96)
    assert len(record) > 3 * 96 * 96 * 4


@pytest.mark.parametrize("head", ["psp", "deeplab"])
def test_create_training_job_has_the_asked_head_on_the_asked_backbone(algorithm: AlgorithmLab, head: str) -> None:
    made = algorithm.make(SHAPES)
    channels = [
        algorithm.channel(name, made / name, "image/png" if name.endswith("annotation") else "image/jpeg") for name in NAMES
    ]
    hyperparameters = {
        "num_classes": 3, "num_training_samples": 32, "epochs": 1, "mini_batch_size": 8, "algorithm": head, "use_pretrained_model": False,
        "base_size": 32, "crop_size": 32,
    }  # fmt: skip
    assert "validation:mIOU" in algorithm.trained(head, hyperparameters, channels)
    assert any(f"Network: {head} on resnet-50, from random numbers." in line for line in algorithm.lab.lines(head))

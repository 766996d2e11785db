"""Object Detection: shapes are found, where they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilvi.testing.server import Account, TestServer
from tests.heavy.algorithm_lab import AlgorithmLab
from tests.services.sagemaker.conftest import Lab

SHAPES = """
import json, random
from pathlib import Path
from PIL import Image, ImageDraw

rng = random.Random(0)
for name, count in (("train", 32), ("validation", 10)):
    Path(name).mkdir()
    Path(name + "_annotation").mkdir()
    for number in range(count):
        picture = Image.new("RGB", (300, 300), tuple(rng.randint(150, 255) for _ in range(3)))
        notes = []
        for half in (0, 150):
            size, kind = rng.randint(80, 140), rng.randint(0, 1)
            left, top = half + rng.randint(0, 150 - size), rng.randint(0, 300 - size)
            draw = ImageDraw.Draw(picture)
            (draw.ellipse if kind else draw.rectangle)((left, top, left + size, top + size), fill=tuple(rng.randint(0, 120) for _ in range(3)))
            notes.append({"class_id": kind, "left": left, "top": top, "width": size, "height": size})
        picture.save(Path(name, f"{number}.jpg"))
        note = {"file": f"{number}.jpg", "image_size": [{"width": 300, "height": 300, "depth": 3}], "annotations": notes, "categories": []}
        Path(name + "_annotation", f"{number}.json").write_text(json.dumps(note))
"""
NAMES = ("train", "validation", "train_annotation", "validation_annotation")


@pytest.fixture
def algorithm(server: TestServer, aws: Account, tmp_path: Path) -> AlgorithmLab:
    return AlgorithmLab(server, Lab(aws), "object-detection", tmp_path)


def test_create_training_job_finds_shapes(algorithm: AlgorithmLab) -> None:
    made = algorithm.make(SHAPES)
    channels = [algorithm.channel(name, made / name, "image/jpeg") for name in NAMES]
    hyperparameters = {
        "num_classes": 2, "num_training_samples": 32, "base_network": "resnet-50", "epochs": 4, "mini_batch_size": 8, "optimizer": "adam",
        "learning_rate": 0.001, "freeze_layer_pattern": r"backbone\.(conv_stem|bn0|blocks\.\d\.)",
    }  # fmt: skip
    metrics = algorithm.trained("shapes", hyperparameters, channels)
    assert metrics["validation:mAP"] > 0.6
    assert metrics["train:smooth_l1"] > 0
    [(body, _)] = algorithm.ask("shapes", ((made / "train" / "0.jpg").read_bytes(), "image/jpeg", "application/json"))
    found = json.loads(body)["prediction"]
    assert all(len(row) == 6 and row[0] in (0, 1) and 0 <= row[2] <= row[4] <= 1 for row in found)
    assert found[0][1] == max(row[1] for row in found) > 0.3


def test_create_training_job_without_annotations_fails(algorithm: AlgorithmLab) -> None:
    channels = [algorithm.channel(name, {"a.jpg": b"none"}, "image/jpeg") for name in ("train", "validation")]
    found = algorithm.train("bare", {"num_classes": 1, "num_training_samples": 1}, channels)
    assert found["FailureReason"].startswith(
        "ClientError: Channel 'train' holds pictures, so the channel 'train_annotation' is required."
    )

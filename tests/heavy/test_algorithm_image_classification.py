"""Image Classification: handwritten digits as RecordIO, pictures with lists, Pipe mode, transfer learning, wrong requests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilvi.testing.server import Account, TestServer
from tests.heavy.algorithm_lab import AlgorithmLab
from tests.services.sagemaker.conftest import Lab

DIGITS = """
import io, sys
from pathlib import Path
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from pilvi_algorithms.pictures import write_image_record

digits = load_digits()
def picture(number):
    out = io.BytesIO()
    grey = Image.fromarray((digits.images[number] / 16 * 255).astype(np.uint8))
    grey.resize((28, 28), Image.Resampling.BILINEAR).convert("RGB").save(out, "PNG")
    return out.getvalue()
for name, numbers in (("train", range(1000)), ("validation", range(1200, 1500))):
    Path(name).mkdir()
    Path(name, "digits.rec").write_bytes(b"".join(write_image_record([digits.target[n]], picture(n), n) for n in numbers))
Path("questions").mkdir()
for n in range(1500, 1504):
    Path("questions", f"{n}_{digits.target[n]}.png").write_bytes(picture(n))
"""
COLOURS = """
import random
from pathlib import Path
from PIL import Image

rng = random.Random(0)
for name, count in (("train", 24), ("validation", 8)):
    Path(name).mkdir()
    lines = []
    for number in range(count):
        kind = number % 2
        colour = [rng.randint(0, 90), rng.randint(0, 90), rng.randint(0, 90)]
        colour[kind * 2] = rng.randint(180, 255)
        Image.new("RGB", (60, 50), tuple(colour)).save(Path(name, f"{number}.jpg"))
        lines.append(f"{number}\\t{kind}\\t{number}.jpg")
    Path(f"{name}_lst").mkdir()
    Path(f"{name}_lst", f"{name}.lst").write_text("\\n".join(lines))
"""
X_IMAGE = "application/x-image"


@pytest.fixture
def algorithm(server: TestServer, aws: Account, tmp_path: Path) -> AlgorithmLab:
    return AlgorithmLab(server, Lab(aws), "image-classification", tmp_path)


def test_create_training_job_learns_digits_above_90_percent(algorithm: AlgorithmLab) -> None:
    made = algorithm.make(DIGITS)
    channels = [algorithm.channel(name, made / name, "application/x-recordio") for name in ("train", "validation")]
    hyperparameters = {
        "num_classes": 10, "num_training_samples": 1000, "num_layers": 20, "image_shape": "3,28,28", "epochs": 7,
        "mini_batch_size": 32, "learning_rate": 0.1, "lr_scheduler_step": "4,6", "top_k": 2,
    }  # fmt: skip
    metrics = algorithm.trained("digits", hyperparameters, channels)
    assert metrics["validation:accuracy"] > 0.9
    questions = sorted((made / "questions").iterdir())
    answers = algorithm.ask("digits", *((path.read_bytes(), "image/png", "application/json") for path in questions))
    right = [
        max(range(10), key=json.loads(body).__getitem__) == int(path.stem[-1])
        for path, (body, _) in zip(questions, answers, strict=True)
    ]
    assert sum(right) >= 3
    assert sum(json.loads(answers[0][0])) == pytest.approx(1, abs=1e-5)


def test_create_training_job_starts_from_the_pretrained_network_and_says_so(algorithm: AlgorithmLab) -> None:
    made = algorithm.make(COLOURS)
    names = ("train", "validation", "train_lst", "validation_lst")
    channels = [algorithm.channel(name, made / name, X_IMAGE) for name in names]
    hyperparameters = {
        "num_classes": 2, "num_training_samples": 24, "use_pretrained_model": 1, "num_layers": 18, "image_shape": "3,64,64",
        "epochs": 6, "mini_batch_size": 8, "learning_rate": 0.003, "augmentation_type": "crop",
    }  # fmt: skip
    metrics = algorithm.trained("colours", hyperparameters, channels)
    assert metrics["validation:accuracy"] > 0.9
    assert any(
        "ResNet-18 was asked for; the pre-trained network of this server is EfficientNet-Lite0" in line
        for line in algorithm.lab.lines("colours")
    )
    [(body, kind)] = algorithm.ask("colours", ((made / "train" / "0.jpg").read_bytes(), X_IMAGE, "application/jsonlines"))
    assert (kind, len(json.loads(body)["prediction"])) == ("application/jsonlines", 2)


def test_create_training_job_reads_an_augmented_manifest_in_pipe_mode(algorithm: AlgorithmLab) -> None:
    made = algorithm.make(COLOURS)
    algorithm.channel("pictures", made / "train")
    base = f"s3://{algorithm.lab.bucket}/image-classification/pictures"
    lines = "".join(json.dumps({"source-ref": f"{base}/{n}.jpg", "class": n % 2}) + "\n" for n in range(24))
    channels = [
        {
            "ChannelName": name,
            "ContentType": "application/x-recordio",
            "RecordWrapperType": "RecordIO",
            "InputMode": "Pipe",
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "AugmentedManifestFile",
                    "S3Uri": algorithm.lab.put(f"{name}.manifest", lines),
                    "AttributeNames": ["source-ref", "class"],
                }
            },
        }
        for name in ("train", "validation")
    ]
    hyperparameters = {
        "num_classes": 2, "num_training_samples": 24, "num_layers": 20, "image_shape": "3,24,24", "epochs": 4, "mini_batch_size": 8,
        "optimizer": "adam", "learning_rate": 0.003,
    }  # fmt: skip
    metrics = algorithm.trained("manifest", hyperparameters, channels, mode="Pipe")
    assert metrics["train:accuracy"] > 0.6


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_classes": None}, "ClientError: No value(s) were specified for 'num_classes' which are required hyperparameter(s)"),
        ({"image_shape": "3,28"}, "ClientError: image_shape must be of the form num_channels,height,width, but it is 3,28"),
        ({"num_layers": 19}, "ClientError: Invalid value for hyperparameter 'num_layers'"),
        ({"use_weighted_loss": 1}, "ClientError: use_weighted_loss can be used with multi_label only"),
    ],
)
def test_create_training_job_with_wrong_hyperparameters_fails(
    algorithm: AlgorithmLab, changes: dict[str, object], reason: str
) -> None:
    given = {"num_classes": 2, "num_training_samples": 1, "image_shape": "3,28,28", "num_layers": 20, **changes}
    channel = algorithm.channel("train", {"a.rec": b"none"}, "application/x-recordio")
    found = algorithm.train("wrong", {key: value for key, value in given.items() if value is not None}, [channel])
    assert found["TrainingJobStatus"] == "Failed"
    assert found["FailureReason"].startswith(reason)

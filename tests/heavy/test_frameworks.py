"""Script mode under every framework's image: the same script, its versions, its packages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.heavy.script_lab import IMAGES, need, run_script, said
from tests.services.sagemaker.conftest import Lab, lab  # noqa: F401 - a fixture
from tests.services.sagemaker.test_script_mode import wheel

VERSION = b"""
import argparse, importlib, os, sys
parser = argparse.ArgumentParser()
parser.add_argument("--module")
parser.add_argument("--depth", type=int)
args = parser.parse_args()
module = importlib.import_module(args.module)
print("VERSION", module.__version__, args.depth, sys.version.split()[0], os.path.isdir(os.environ["SM_MODEL_DIR"]), flush=True)
"""
MODULES = {
    "pytorch": "torch",
    "tensorflow": "tensorflow",
    "mxnet": "mxnet",
    "huggingface": "transformers",
    "xgboost": "xgboost",
    "scikit-learn": "sklearn",
}


@pytest.mark.parametrize("framework", sorted(IMAGES))
def test_the_same_script_runs_under_each_image(server: Any, lab: Lab, framework: str) -> None:  # noqa: F811
    need(server, framework)
    job = run_script(lab, f"version-{framework}", framework, {"train.py": VERSION}, {"module": MODULES[framework], "depth": 3})
    lines = lab.lines(f"version-{framework}")
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lines[-20:])
    version, depth, _, has_folder = said(lab, f"version-{framework}", "VERSION")[0]
    assert (depth, has_folder) == ("3", "True")
    assert any(line.startswith(f"Image {IMAGES[framework].split('/')[1]}: this job runs ") for line in lines)
    if framework != "huggingface":
        assert any("this job runs" in line and version.split("+")[0] in line for line in lines)


def test_requirements_use_what_is_installed_and_bring_the_rest(server: Any, lab: Lab) -> None:  # noqa: F811
    need(server, "xgboost")
    files = {
        "requirements.txt": b"pandas>=2\ngreeter\n",
        "lib/greeter-1.0-py3-none-any.whl": wheel("greeter", "def greet(): return 'hello'\n"),
        "train.py": b"import greeter, pandas\nprint('GREETED', greeter.greet(), pandas.__file__)\n",
    }
    job = run_script(lab, "requirements", "xgboost", files, {}, Environment={"PIP_NO_INDEX": "1"})
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines("requirements")[-20:])
    word, path = said(lab, "requirements", "GREETED")[0]
    assert word == "hello"
    assert "/pilvi-runtimes/" in path or "site-packages" in path
    assert "/tmp/packages" not in path


KERAS = b"""
import argparse, os
import numpy as np
import tensorflow as tf
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int); parser.add_argument("--batch-size", type=int); parser.add_argument("--model_dir", default="")
args = parser.parse_args()
tf.keras.utils.set_random_seed(0)
data = np.load(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "pictures.npz"))
layers = tf.keras.layers
model = tf.keras.Sequential([layers.Input((32, 32, 3)), layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(4), layers.Flatten(), layers.Dense(10)])
model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(data["x"] / 255.0, data["y"], epochs=args.epochs, batch_size=args.batch_size, verbose=2)
model.save(os.path.join(os.environ["SM_MODEL_DIR"], "1.keras"))
"""


def test_keras_learns_pictures_for_five_epochs(server: Any, lab: Lab) -> None:  # noqa: F811
    need(server, "tensorflow")
    import io
    import random
    import struct
    import zipfile

    chance = random.Random(0)
    count = 128
    pictures, labels = bytearray(), bytearray()
    for _ in range(count):
        label = chance.randrange(10)
        pictures += bytes(min(255, label * 25 + chance.randrange(20)) for _ in range(32 * 32 * 3))
        labels += struct.pack("<q", label)

    def array(shape: str, kind: str, data: bytes) -> bytes:
        head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
        head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("x.npy", array(f"({count}, 32, 32, 3)", "|u1", bytes(pictures)))
        packed.writestr("y.npy", array(f"({count},)", "<i8", bytes(labels)))
    uri = lab.put("cifar/pictures.npz", file.getvalue())
    hyperparameters = {"epochs": 5, "batch-size": 32, "model_dir": "s3://somewhere/model"}
    job = run_script(lab, "keras", "tensorflow", {"train.py": KERAS}, hyperparameters, InputDataConfig=[lab.channel("train", uri)])
    lines = lab.lines("keras")
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lines[-20:])
    assert sum("accuracy:" in line for line in lines) == 5
    assert "1.keras" in lab.members("out/keras/output/model.tar.gz")

"""The SageMaker Python SDK's framework estimators and launchers, both majors, unmodified, against a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.heavy.script_lab import need
from tests.heavy.test_sdk_tuning import sdk  # noqa: F401 - a fixture

COMMON = '''
import os, sys, time
from pathlib import Path
role, out = sys.argv[1:3]
Path("code").mkdir(exist_ok=True)
Path("code/helper.py").write_text("WORD = 'sibling'\\n")
Path("code/train.py").write_text("""
import argparse, importlib, os, sys
import helper
parser = argparse.ArgumentParser()
parser.add_argument("--module"); parser.add_argument("--depth", type=int); parser.add_argument("--model_dir", default="")
args, _ = parser.parse_known_args()
print("RAN", args.module, importlib.import_module(args.module).__version__, args.depth, helper.WORD, os.environ["SM_CURRENT_HOST"], flush=True)
open(os.path.join(os.environ["SM_MODEL_DIR"], "model.txt"), "w").write("done")
""")
Path("code/ranks.py").write_text("""
import os, sys
import torch, torch.distributed as dist
if "OMPI_COMM_WORLD_RANK" in os.environ:
    os.environ |= {"RANK": os.environ["OMPI_COMM_WORLD_RANK"], "WORLD_SIZE": os.environ["OMPI_COMM_WORLD_SIZE"]}
    os.environ.setdefault("MASTER_ADDR", "algo-1"); os.environ.setdefault("MASTER_PORT", "23456")
dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1]); dist.all_reduce(total)
sys.stdout.write(f"RANK {dist.get_rank()} {dist.get_world_size()} {int(total)}\\\\n")
dist.barrier()
""")
Path("code/parts.py").write_text("""
import sys, torch
import smdistributed.modelparallel.torch as smp
smp.init()
model = smp.DistributedModel(torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(4))))
@smp.step
def step(model, x):
    loss = model(x).square().mean(); model.backward(loss); return loss
loss = step(model, torch.ones(4, 8)).reduce_mean()
sys.stdout.write(f"PART {smp.pp_rank()} {smp.pp_size()} {smp.dp_size()} {len(model.local_parameters())}\\\\n")
""")

def lines(logs, name):
    group = "/aws/sagemaker/TrainingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=name + "/")["logStreams"]
    return [e["message"] for s in streams for e in logs.get_log_events(logGroupName=group, logStreamName=s["logStreamName"], startFromHead=True)["events"]]

def finish(session, name):
    sagemaker, logs = session.sagemaker_client, session.boto_session.client("logs")
    while (found := sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
        time.sleep(0.3)
    said = lines(logs, name)
    assert found["TrainingJobStatus"] == "Completed", (found.get("FailureReason"), said[-15:])
    for line in said:
        for word in ("RAN ", "RANK ", "PART "):
            if word in line and "SM_" not in line:
                print(name.split("-20")[0], word + line.split(word, 1)[1])
'''
V2 = (
    COMMON
    + """
import sagemaker
from sagemaker.huggingface import HuggingFace
from sagemaker.mxnet import MXNet
from sagemaker.pytorch import PyTorch
from sagemaker.sklearn import SKLearn
from sagemaker.tensorflow import TensorFlow
from sagemaker.xgboost import XGBoost

session = sagemaker.Session()
common = dict(source_dir="code", role=role, instance_type="ml.m5.large", output_path=out, sagemaker_session=session)

def fit(kind, base, entry="train.py", count=1, **more):
    estimator = kind(entry_point=entry, instance_count=count, base_job_name=base, **common, **more)
    estimator.fit(wait=False)
    finish(session, estimator.latest_training_job.name)

wanted = WANTED
if "xgboost" in wanted:
    fit(XGBoost, "xgboost", framework_version="1.5-1", hyperparameters={"module": "xgboost", "depth": 5})
if "sklearn" in wanted:
    fit(SKLearn, "sklearn", framework_version="0.23-1", hyperparameters={"module": "sklearn", "depth": 5})
if "mxnet" in wanted:
    fit(MXNet, "mxnet", framework_version="1.9.0", py_version="py38", hyperparameters={"module": "mxnet", "depth": 5})
if "tensorflow" in wanted:
    fit(TensorFlow, "tensorflow", count=4, framework_version="2.14", py_version="py310", hyperparameters={"module": "tensorflow", "depth": 5})
if "pytorch" in wanted:
    torch = dict(framework_version="2.0.0", py_version="py310")
    common["instance_type"] = "ml.g4dn.xlarge"  # these the SDK makes for GPUs only
    fit(HuggingFace, "huggingface", transformers_version="4.28", pytorch_version="2.0", py_version="py310", hyperparameters={"module": "transformers", "depth": 5})
    fit(PyTorch, "ddp", "ranks.py", 2, distribution={"torch_distributed": {"enabled": True}}, **torch)
    fit(PyTorch, "short", "parts.py", 2, distribution={"model_parallel": {"enabled": True}}, **torch)
    parts = {"enabled": True, "parameters": {"partitions": 2, "microbatches": 2, "ddp": True}}
    fit(PyTorch, "long", "parts.py", 2, distribution={"smdistributed": {"modelparallel": parts}, "mpi": {"enabled": True, "processes_per_host": 2}}, **torch)
"""
)
V3 = (
    COMMON
    + """
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.training.configs import Compute, OutputDataConfig, SourceCode
from sagemaker.train import ModelTrainer
from sagemaker.train.distributed import MPI, Torchrun

session = Session()

def train(base, image, entry="train.py", count=1, hyperparameters=None, distributed=None):
    trainer = ModelTrainer(
        training_image=image, role=role, sagemaker_session=session, source_code=SourceCode(source_dir="code", entry_script=entry),
        compute=Compute(instance_type="ml.m5.large", instance_count=count, volume_size_in_gb=10), hyperparameters=hyperparameters or {},
        output_data_config=OutputDataConfig(s3_output_path=out), base_job_name=base, distributed=distributed,
    )
    trainer.train(wait=False)
    finish(session, trainer._latest_training_job.training_job_name)

def image(framework, version, python):
    return image_uris.retrieve(framework, "us-east-1", version=version, py_version=python, instance_type="ml.m5.large", image_scope="training")

wanted = WANTED
if "plain" in wanted:
    train("sklearn", image("sklearn", "1.2-1", "py3"), hyperparameters={"module": "sklearn", "depth": 5})
    train("xgboost", image("xgboost", "1.7-1", "py3"), hyperparameters={"module": "xgboost", "depth": 5})
torch = image("pytorch", "2.3.0", "py311")
if "torchrun" in wanted:
    train("torchrun", torch, "ranks.py", 2, distributed=Torchrun(process_count_per_node=1))
if "mpi" in wanted:
    train("mpi", torch, "ranks.py", 2, distributed=MPI(process_count_per_node=1))
"""
)

Sdk = Callable[[int, str], str]


def only(program: str, *wanted: str) -> str:
    return program.replace("WANTED", repr(wanted))


def test_v2_estimators_run_the_same_script(server: Any, sdk: Sdk) -> None:  # noqa: F811
    need(server, "xgboost")
    said = sdk(2, only(V2, "xgboost", "sklearn"))
    assert "xgboost RAN xgboost 3.0.5 5 sibling algo-1" in said
    assert "sklearn RAN sklearn 1." in said


def test_v2_mxnet_and_four_hosts_of_tensorflow(server: Any, sdk: Sdk) -> None:  # noqa: F811
    need(server, "mxnet")
    need(server, "tensorflow")
    said = sdk(2, only(V2, "mxnet", "tensorflow"))
    assert "mxnet RAN mxnet 1.9.1 5 sibling algo-1" in said
    assert all(f"5 sibling algo-{number}" in said for number in range(1, 5))


def test_v2_pytorch_launches_what_distribution_asks_for(server: Any, sdk: Sdk) -> None:  # noqa: F811
    need(server, "pytorch")
    said = sdk(2, only(V2, "pytorch"))
    assert "huggingface RAN transformers" in said
    assert {"ddp RANK 0 2 3", "ddp RANK 1 2 3"} <= set(said.splitlines())
    assert {"short PART 0 2 1 4", "short PART 1 2 1 4"} <= set(said.splitlines())
    assert said.count("long PART 0 2 2 4") == said.count("long PART 1 2 2 4") == 2


def test_v3_trainers_run_the_same_script(server: Any, sdk: Sdk) -> None:  # noqa: F811
    need(server, "xgboost")
    said = sdk(3, only(V3, "plain"))
    assert "sklearn RAN sklearn 1." in said
    assert "xgboost RAN xgboost 3.0.5 5 sibling algo-1" in said


def test_v3_torchrun_over_two_hosts(server: Any, sdk: Sdk) -> None:  # noqa: F811
    need(server, "pytorch")
    said = sdk(3, only(V3, "torchrun"))
    assert {"torchrun RANK 0 2 3", "torchrun RANK 1 2 3"} <= set(said.splitlines())


def test_v3_mpi_over_two_hosts(server: Any, sdk: Sdk) -> None:  # noqa: F811
    need(server, "pytorch")
    said = sdk(3, only(V3, "mpi"))
    assert {"mpi RANK 0 2 3", "mpi RANK 1 2 3"} <= set(said.splitlines())

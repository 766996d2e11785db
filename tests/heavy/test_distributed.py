"""Distributed launches over two hosts: gradients are averaged, ranks know their places, a failing rank tells its reason."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.heavy.script_lab import need, run_script, said
from tests.services.sagemaker.conftest import Lab, lab  # noqa: F401 - a fixture

DDP = b"""
import os, sys
import torch, torch.distributed as dist
if os.environ.get("SM_HP_BACKEND") == "smddp":
    import smdistributed.dataparallel.torch.torch_smddp
dist.init_process_group(os.environ.get("SM_HP_BACKEND", "gloo"))
rank, size = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
x = torch.randn(64, 4)
y = x @ torch.tensor([[1.0], [2.0], [3.0], [4.0]])

def train(model, x, y):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        ((model(x) - y) ** 2).mean().backward()
        optimizer.step()

start = torch.nn.Linear(4, 1)
alone = torch.nn.Linear(4, 1)
alone.load_state_dict(start.state_dict())
train(alone, x, y)
model = torch.nn.parallel.DistributedDataParallel(start)
train(model, x[rank::size], y[rank::size])
shown = [round(value, 5) for value in model.module.weight.flatten().tolist()]
same = torch.allclose(model.module.weight, alone.weight, atol=1e-6)
sys.stdout.write(f"RANK {rank} {size} {os.environ['SM_CURRENT_HOST']} {same} {shown}\\n")
if os.environ.get("SM_HP_BROKEN") and rank == 1:
    raise ValueError("rank one is unhappy")
dist.barrier()
"""
MPI = b"""
import os, sys
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank + 1)
sys.stdout.write(f"RANK {world.rank} {world.size} {os.environ['SM_CURRENT_HOST']} {total} {os.environ['OMPI_COMM_WORLD_LOCAL_RANK']}\\n")
if os.environ.get("SM_HP_BROKEN") and world.rank == 1:
    raise ValueError("rank one is unhappy")
world.Barrier()
"""


@pytest.fixture(autouse=True)
def pytorch(server: Any) -> None:
    need(server, "pytorch")


@pytest.mark.parametrize(
    ("setting", "backend"),
    [("torch_distributed", "gloo"), ("pytorch_ddp", "gloo"), ("distributed_dataparallel", "smddp")],
)
def test_weights_are_the_same_on_all_ranks_and_those_of_one_process(lab: Lab, setting: str, backend: str) -> None:  # noqa: F811
    name = f"ddp-{setting.replace('_', '-')}"
    job = run_script(lab, name, "pytorch", {"train.py": DDP}, {f"sagemaker_{setting}_enabled": True, "backend": backend}, hosts=2)
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines(name)[-20:])
    ranks = sorted(said(lab, name, "RANK"))
    assert [rank[:4] for rank in ranks] == [["0", "2", "algo-1", "True"], ["1", "2", "algo-2", "True"]]
    assert ranks[0][4:] == ranks[1][4:]


def test_two_processes_on_each_of_two_hosts(lab: Lab) -> None:  # noqa: F811
    asked = {"sagemaker_torch_distributed_enabled": True, "sagemaker_mpi_num_of_processes_per_host": 2}
    job = run_script(lab, "four", "pytorch", {"train.py": DDP}, asked, hosts=2)
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines("four")[-20:])
    ranks = sorted(said(lab, "four", "RANK"))
    assert [(rank[0], rank[1], rank[2]) for rank in ranks] == [(str(n), "4", f"algo-{n // 2 + 1}") for n in range(4)]
    assert len({" ".join(rank[4:]) for rank in ranks}) == 1


def test_a_failing_rank_is_the_reason(lab: Lab) -> None:  # noqa: F811
    job = run_script(lab, "sad", "pytorch", {"train.py": DDP}, {"sagemaker_torch_distributed_enabled": True, "broken": 1}, hosts=2)
    assert job["TrainingJobStatus"] == "Failed"
    assert 'ErrorMessage "ValueError: rank one is unhappy"' in job["FailureReason"]


def test_mpi_runs_over_hosts(lab: Lab) -> None:  # noqa: F811
    asked = {
        "sagemaker_mpi_enabled": True,
        "sagemaker_mpi_num_of_processes_per_host": 2,
        "sagemaker_mpi_custom_mpi_options": "--NCCL_DEBUG WARN -x FOO=bar",
    }
    job = run_script(lab, "mpi", "pytorch", {"train.py": MPI}, asked, hosts=2)
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines("mpi")[-20:])
    ranks = sorted(said(lab, "mpi", "RANK"))
    assert ranks == [[str(n), "4", f"algo-{n // 2 + 1}", "10", str(n % 2)] for n in range(4)]
    assert any(line.startswith("[1,mpirank:3,algo-2]<stdout>:RANK 3") for line in lab.lines("mpi"))


def test_a_failing_mpi_rank_is_the_reason(lab: Lab) -> None:  # noqa: F811
    job = run_script(lab, "sad-mpi", "pytorch", {"train.py": MPI}, {"sagemaker_mpi_enabled": True, "broken": 1}, hosts=2)
    assert job["TrainingJobStatus"] == "Failed"
    assert 'ErrorMessage "ValueError: rank one is unhappy"' in job["FailureReason"]


TENSORFLOW = b"""
import json, os, sys
import numpy as np
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
rank, size = strategy.cluster_resolver.task_id, strategy.num_replicas_in_sync
tf.keras.utils.set_random_seed(0)
x = np.random.RandomState(0).randn(64, 4).astype("float32")
y = x @ np.array([[1.0], [2.0], [3.0], [4.0]], "float32")
with strategy.scope():
    w = tf.Variable(tf.zeros((4, 1)))

@tf.function
def step(x, y):
    def replica(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((x @ w - y) ** 2)
        gradient = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, tape.gradient(loss, w))
        w.assign_sub(0.1 * gradient)
    strategy.run(replica, args=(x, y))

for _ in range(5):
    step(tf.constant(x[rank::size]), tf.constant(y[rank::size]))
alone = np.zeros((4, 1), "float32")
for _ in range(5):
    alone -= 0.1 * 2 * x.T @ (x @ alone - y) / len(x)
same = bool(np.allclose(w.numpy(), alone, atol=1e-4))
sys.stdout.write(f"RANK {rank} {size} {os.environ['SM_CURRENT_HOST']} {same} {[round(float(v), 4) for v in w.numpy().ravel()]}\\n")
"""


def test_tensorflow_workers_keep_their_weights_in_step(server: Any, lab: Lab) -> None:  # noqa: F811
    need(server, "tensorflow")
    asked = {"sagemaker_multi_worker_mirrored_strategy_enabled": True}
    job = run_script(lab, "mirrored", "tensorflow", {"train.py": TENSORFLOW}, asked, hosts=2)
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines("mirrored")[-20:])
    ranks = sorted(said(lab, "mirrored", "RANK"))
    assert [rank[:4] for rank in ranks] == [["0", "2", "algo-1", "True"], ["1", "2", "algo-2", "True"]]
    assert ranks[0][4:] == ranks[1][4:]


# -- model parallel -------------------------------------------------------------------------------------------------------

SMP = b"""
import json, os, sys
import torch, torch.nn as nn, torch.nn.functional as F
import smdistributed.modelparallel.torch as smp

smp.init()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, x):
        h = F.relu(self.a(x))
        return F.log_softmax(self.d(F.relu(self.c(F.relu(self.b(h)))) + h), -1)

torch.manual_seed(0)
model = smp.DistributedModel(Net())
optimizer = smp.DistributedOptimizer(torch.optim.Adam(model.parameters(), 1e-2))

@smp.step
def train_step(model, x, y):
    loss = F.nll_loss(model(x), y)
    model.backward(loss)
    return loss

chance = torch.Generator().manual_seed(1)
x, y = torch.randn(32, 8, generator=chance), torch.randint(0, 3, (32,), generator=chance)
each = 32 // smp.dp_size()
mine = slice(smp.dp_rank() * each, (smp.dp_rank() + 1) * each)
curve = []
for _ in range(6):
    optimizer.zero_grad()
    loss = train_step(model, x[mine], y[mine]).reduce_mean()
    optimizer.step()
    curve.append(sum(smp.allgather(float(loss), smp.DP_GROUP)) / smp.dp_size())
held = sum(p.numel() for p in model.local_parameters())
sys.stdout.write("CURVE " + json.dumps({"rank": smp.rank(), "pp": smp.pp_rank(), "dp": smp.dp_rank(), "held": held, "curve": curve}) + "\\n")
whole = model.state_dict()
if smp.rank() == 0:
    torch.save(whole, os.path.join(os.environ["SM_MODEL_DIR"], "model.pt"))
smp.barrier()
"""


def curves(lab: Lab, name: str, framework: str, hyperparameters: dict[str, Any], hosts: int) -> list[dict[str, Any]]:  # noqa: F811
    job = run_script(lab, name, framework, {"train.py": SMP}, hyperparameters, hosts=hosts)
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines(name)[-20:])
    return sorted((json.loads(" ".join(words)) for words in said(lab, name, "CURVE")), key=lambda found: found["rank"])


@pytest.fixture(scope="module")
def one_process(lab: Lab) -> list[float]:  # noqa: F811
    return list(curves(lab, "smp-one", "pytorch", {}, 1)[0]["curve"])


def test_two_by_two_has_the_loss_curve_of_one_process(lab: Lab, one_process: list[float]) -> None:  # noqa: F811
    asked = {
        "sagemaker_mpi_enabled": True,
        "sagemaker_mpi_num_of_processes_per_host": 2,
        "mp_parameters": {"partitions": 2, "microbatches": 4, "ddp": True},
    }
    found = curves(lab, "smp-hybrid", "pytorch", asked, 2)
    assert [(place["pp"], place["dp"]) for place in found] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    for place in found:
        assert place["curve"] == pytest.approx(one_process, abs=1e-5)
    whole = found[0]["held"] + found[1]["held"]
    assert 0.4 < found[0]["held"] / whole < 0.6
    assert "model.pt" in lab.members("out/smp-hybrid/output/model.tar.gz")
    assert any("Partition 1 on rank 1: " in line for line in lab.lines("smp-hybrid"))


def test_the_short_spelling_partitions_over_hosts_and_says_what_is_missing(lab: Lab, one_process: list[float]) -> None:  # noqa: F811
    # distribution={"model_parallel": {"enabled": True}}: the SDK sends nothing for it.
    found = curves(lab, "smp-short", "pytorch", {}, 2)
    assert [place["pp"] for place in found] == [0, 1]
    assert found[0]["curve"] == pytest.approx(one_process, abs=1e-5)
    assert any("the SDK sends nothing for a key model_parallel" in line for line in lab.lines("smp-short"))


def test_the_short_spelling_with_mpi_partitions_too(lab: Lab, one_process: list[float]) -> None:  # noqa: F811
    found = curves(
        lab, "smp-short-mpi", "pytorch", {"sagemaker_mpi_enabled": True, "sagemaker_mpi_num_of_processes_per_host": 2}, 1
    )
    assert [place["pp"] for place in found] == [0, 1]
    assert found[0]["curve"] == pytest.approx(one_process, abs=1e-5)


def test_an_unknown_setting_warns(lab: Lab) -> None:  # noqa: F811
    asked = {"sagemaker_mpi_enabled": True, "sagemaker_mpi_num_of_processes_per_host": 2, "mp_parameters": {"partitons": 2}}
    curves(lab, "smp-unknown", "pytorch", asked, 1)
    assert any("the model parallel setting partitons is not known here" in line for line in lab.lines("smp-unknown"))


BIG = b"""
import resource, sys
import torch, torch.nn as nn
import smdistributed.modelparallel.torch as smp

smp.init()
LAYERS, WIDTH = 8, 4096
whole = LAYERS * WIDTH * WIDTH * 4
used = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmData"))
cap = used + int(1.5 * whole) + (128 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (cap, cap))
with smp.delay_param_initialization():
    net = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))
model = smp.DistributedModel(net)
optimizer = smp.DistributedOptimizer(torch.optim.SGD(model.parameters(), 0.1))

@smp.step
def train_step(model, x):
    loss = (model(x) ** 2).mean()
    model.backward(loss)
    return loss

x = torch.ones(2, WIDTH)
losses = []
for _ in range(3):
    optimizer.zero_grad(set_to_none=True)
    losses.append(float(train_step(model, x).reduce_mean()))
    optimizer.step()
held = sum(p.numel() * 4 for p in model.local_parameters())
sys.stdout.write(f"BIG {smp.rank()} {held / whole} {losses[-1] < losses[0]}\\n")
"""


def test_a_model_too_large_for_one_process_trains_over_two(lab: Lab) -> None:  # noqa: F811
    asked = {
        "sagemaker_mpi_enabled": True,
        "sagemaker_mpi_num_of_processes_per_host": 1,
        "mp_parameters": {"partitions": 1, "microbatches": 2},
    }
    job = run_script(lab, "big-one", "pytorch", {"train.py": BIG}, asked)
    assert job["TrainingJobStatus"] == "Failed"
    assert "memory" in job["FailureReason"]
    asked["mp_parameters"] = {"partitions": 2, "microbatches": 2}
    job = run_script(lab, "big-two", "pytorch", {"train.py": BIG}, asked, hosts=2)
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines("big-two")[-20:])
    assert sorted(said(lab, "big-two", "BIG")) == [["0", "0.5", "True"], ["1", "0.5", "True"]]


SHARE = b"""
import hashlib, json, os
with open("/opt/ml/input/config/resourceconfig.json") as file:
    config = json.load(file)
mine = range(60)[config["hosts"].index(config["current_host"])::len(config["hosts"])]
for number in mine:
    for _ in range(60):
        hashlib.pbkdf2_hmac("sha256", b"%d" % number, b"", 4000)
with open(f"/opt/ml/output/data/{config['current_host']}", "w") as file:
    file.write(" ".join(map(str, mine)))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core does the work of two hosts one after the other")
def test_two_hosts_finish_a_fixed_job_clearly_sooner_than_one(lab: Lab) -> None:  # noqa: F811
    code = lab.channel("code", lab.put("share/share.py", SHARE))
    seconds = {}
    for hosts in (1, 2):
        resources = {"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 1}
        entry = {"ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/share.py"]}
        job = lab.run(f"share-{hosts}", algorithm=entry, InputDataConfig=[code], ResourceConfig=resources)
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        done = " ".join(part.decode() for part in lab.members(f"out/share-{hosts}/output/output.tar.gz").values())
        assert sorted(map(int, done.split())) == list(range(60))
        (training,) = [entry for entry in job["SecondaryStatusTransitions"] if entry["Status"] == "Training"]
        seconds[hosts] = (training["EndTime"] - training["StartTime"]).total_seconds()
    assert seconds[2] < 0.75 * seconds[1], seconds

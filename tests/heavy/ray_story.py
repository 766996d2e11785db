"""Run by test_ray.py under an interpreter that has Ray: a cluster of two nodes, the contract, deaths, and a training job on both.

Prints a JSON line for each chapter: {"chapter", "error", "seconds", ...facts}.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from pilvi.compute import Exit
from pilvi.compute.ray import ray_compute
from pilvi.testing.contracts import compute as promises
from pilvi.testing.server import Account, TestServer, eventually

NODE = {"num_cpus": 2, "memory": 3 << 30, "object_store_memory": 100 << 20}
BASE_IMAGE = "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python:1.0"
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "logs:*"], "Resource": "*"}]}
SCRIPT = r"""
host=$(hostname)
cat /opt/ml/input/data/train/* > /opt/ml/model/seen-$host
python3 - <<'PROGRAM'
import os, socket, time
host = socket.gethostname()
if host == "algo-1":
    with socket.create_server((socket.gethostbyname("algo-1"), 7777)) as server:
        peer, address = server.accept()
        print("algo-1 heard", peer.recv(100).decode(), flush=True)
else:
    for _ in range(600):
        try:
            peer = socket.create_connection(("algo-1", 7777), 5)
            break
        except OSError:
            time.sleep(0.05)
    peer.sendall(host.encode())
    print(host, "spoke", flush=True)
PROGRAM
"""
LONELY = """
import sys, threading
from pathlib import Path
from pilvi.compute.ray import ray_compute
from pilvi.testing.contracts.compute import shell
def say(line):
    print(line, flush=True)
compute = ray_compute(sys.argv[1], "auto", (), Path(sys.argv[2]))
compute.launch(shell(f"trap '' TERM; setsid sleep {sys.argv[3]} & echo ready; sleep {sys.argv[3]}"), say)
threading.Event().wait()
"""


def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="pilvi-story-"))


def tell(chapter: str, work: Callable[[], dict[str, Any] | None]) -> None:
    before, error, facts = time.monotonic(), "", None
    try:
        facts = work()
    except BaseException:  # noqa: BLE001 - it is told as the chapter's end
        error = traceback.format_exc()
    seconds = round(time.monotonic() - before, 3)
    print(json.dumps({"chapter": chapter, "error": error, "seconds": seconds, **(facts or {})}), flush=True)


def contract(address: str) -> None:
    compute = ray_compute(address, "auto", (), folder())
    assert len(compute.nodes()) == 2
    known = [*promises.CONTRACT, *(promises.APART if compute.isolation != "none" else ())]
    for promise in [*(one for one in known if one is not promises.close_ends_everything), promises.close_ends_everything]:
        tell(promise.__name__, lambda promise=promise: promise(compute, folder()))


def programs_die_with_the_server(address: str) -> None:
    marker = f"4{os.getpid()}"
    arguments = [sys.executable, "-c", LONELY, address, str(folder()), marker]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        promises.eventually(lambda: promises.is_alive(f"sleep\0{marker}"))
        os.kill(server.pid, signal.SIGKILL)
        promises.eventually(lambda: not promises.is_alive(f"sleep\0{marker}"))


def training(address: str, *, is_shared: bool) -> dict[str, Any]:
    with TestServer(folder(), compute=f"ray:{address}") as server:
        if not is_shared:
            for member in server.cloud.job_compute._members.values():
                member.is_shared = False
        aws: Account = server.account("111122223333")
        role = aws.role("Trainer", "sagemaker.amazonaws.com", ALL)
        s3, sagemaker, logs = (aws.client(name) for name in ("s3", "sagemaker", "logs"))
        s3.create_bucket(Bucket="lab")
        for number in range(4):
            s3.put_object(Bucket="lab", Key=f"data/{number}", Body=str(number))
        s3.put_object(Bucket="lab", Key="code/run.sh", Body=SCRIPT)
        before = time.monotonic()
        sagemaker.create_training_job(
            TrainingJobName="two",
            RoleArn=role,
            AlgorithmSpecification={
                "TrainingImage": BASE_IMAGE,
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["/bin/bash", "/opt/ml/input/data/code/run.sh"],
            },
            InputDataConfig=[channel("train", "data/", "ShardedByS3Key"), channel("code", "code/", "FullyReplicated")],
            OutputDataConfig={"S3OutputPath": "s3://lab/out", "CompressionType": "NONE"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
            StoppingCondition={"MaxRuntimeInSeconds": 120},
        )
        nodes: set[str] = set()

        def ended() -> Any:
            for member in server.cloud.job_compute._members.values():
                nodes.update([member.name] if member.programs else [])
            found = sagemaker.describe_training_job(TrainingJobName="two")
            return found if found["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") else None

        found = eventually(ended, within_s=120, every_s=0.01)
        seconds = time.monotonic() - before
        lines = [
            event["message"]
            for event in logs.filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix="two/")["events"]
        ]
        assert found["TrainingJobStatus"] == "Completed", (found.get("FailureReason"), lines)
        assert {"algo-1 heard algo-2", "algo-2 spoke"} <= set(lines), lines
        assert len(nodes) == 2, nodes
        seen = {
            entry["Key"].rpartition("/")[2]: s3.get_object(Bucket="lab", Key=entry["Key"])["Body"].read().decode()
            for entry in s3.list_objects_v2(Bucket="lab", Prefix="out/two/output/model/")["Contents"]
        }
        assert set(seen) == {"seen-algo-1", "seen-algo-2"}, seen
        assert sorted("".join(seen.values())) == ["0", "1", "2", "3"], seen
        return {"nodes": sorted(nodes), "job_s": round(seconds, 3)}


def channel(name: str, prefix: str, distribution: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://lab/{prefix}", "S3DataDistributionType": distribution}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def a_lost_node(cluster: Cluster, node: Any) -> None:
    compute = ray_compute(cluster.address, "auto", (), folder())
    running = {}
    for known in compute.nodes():
        heard = promises.Heard()
        running[known.name] = compute.launch(replace(promises.shell("echo on; sleep 600"), node=known.name), heard)
        heard.wait_for("on")
    cluster.remove_node(node)
    promises.eventually(lambda: any(process.poll() for process in running.values()))
    lost = [name for name, process in running.items() if process.poll() == Exit(-9, "lost")]
    assert len(lost) == 1, {name: process.poll() for name, process in running.items()}
    promises.eventually(lambda: len(compute.nodes()) == 1)
    assert promises.run(compute, promises.shell("echo still"))[1] == ["still"]
    compute.close()


def main() -> None:
    # Ray would rewrite 127.0.0.1 to the machine's own address and then not find its nodes.
    head = {**NODE, "include_dashboard": False, "node_ip_address": "127.0.0.2"}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    second = cluster.add_node(**NODE, node_ip_address="127.0.0.3")
    try:
        contract(cluster.address)
        tell("programs_die_with_the_server", lambda: programs_die_with_the_server(cluster.address))
        tell("training_on_two_nodes", lambda: training(cluster.address, is_shared=True))
        tell("training_on_nodes_that_share_no_files", lambda: training(cluster.address, is_shared=False))
        tell("a_lost_node_ends_its_programs", lambda: a_lost_node(cluster, second))
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()

"""Training jobs on several hosts: each a process with files, an address and a log of its own."""

from __future__ import annotations

import json
from typing import Any

from pilvi.testing.server import eventually

TWO = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10}


def streams(lab: Any, name: str) -> dict[str, list[str]]:
    """Host -> what it said."""
    group = "/aws/sagemaker/TrainingJobs"
    found = lab.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    return {
        stream["logStreamName"].split("/")[1].rsplit("-", 1)[0]: [
            event["message"]
            for event in lab.logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)[
                "events"
            ]
        ]
        for stream in found
    }


def test_create_training_job_makes_cooperating_hosts(lab: Any) -> None:
    script = """
set -e
hostname; cat /opt/ml/input/config/resourceconfig.json; echo
echo $CURRENT_HOST
other=algo-1; [ $CURRENT_HOST = algo-1 ] && other=algo-2
python3 - $other <<'END'
import os, socket, sys, time
me, other = os.environ["CURRENT_HOST"], sys.argv[1]
mine, theirs = socket.gethostbyname(me), socket.gethostbyname(other)
assert mine != theirs
here = socket.create_server((mine, 7777))
deadline = time.time() + 30
while True:
    try:
        there = socket.create_connection((theirs, 7777), timeout=30)
        break
    except OSError:
        if time.time() > deadline:
            raise
        time.sleep(0.05)
there.sendall(me.encode())
there.shutdown(socket.SHUT_WR)
print("heard", here.accept()[0].recv(100).decode())
END
echo $CURRENT_HOST > /opt/ml/model/$CURRENT_HOST; echo $CURRENT_HOST > /opt/ml/model/same; echo x > /opt/ml/output/data/$CURRENT_HOST
"""
    job = lab.run_file("pair", script, ResourceConfig=TWO)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    said = streams(lab, "pair")
    assert sorted(said) == ["algo-1", "algo-2"]
    for number, (host, lines) in enumerate(sorted(said.items())):
        assert lines[0] == lines[2] == host
        config = json.loads(lines[1])
        assert (config["current_host"], config["hosts"]) == (host, ["algo-1", "algo-2"])
        assert config["instance_groups"] == [
            {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.large", "hosts": ["algo-1", "algo-2"]}
        ]
        assert lines[3] == f"heard algo-{2 - number}"
    assert lab.members("out/pair/output/model.tar.gz") == {"algo-1": b"algo-1\n", "algo-2": b"algo-2\n", "same": b"algo-1\n"}
    assert set(lab.members("out/pair/output/output.tar.gz")) == {"algo-1", "algo-2"}


def test_create_training_job_shards_by_key(lab: Any) -> None:
    for number in range(5):
        lab.put(f"shards/{number}.csv", str(number))
    manifest = lab.put("shards.manifest", json.dumps([{"prefix": f"s3://{lab.bucket}/shards/"}, "3.csv", "1.csv", "0.csv"]))
    channels = [lab.channel("all", f"s3://{lab.bucket}/shards/"), lab.channel("parts", f"s3://{lab.bucket}/shards/")]
    channels.append(lab.channel("listed", manifest, kind="ManifestFile"))
    for channel in channels[1:]:
        channel["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "ShardedByS3Key"
    script = "cd /opt/ml/input/data; for c in all parts listed; do echo $c $(ls $c); done; echo more >> all/0.csv; sleep 0.3; cat all/0.csv"
    lab.run("sharded", script, ResourceConfig=TWO, InputDataConfig=channels)
    said = streams(lab, "sharded")
    for lines in said.values():
        assert lines[0] == "all 0.csv 1.csv 2.csv 3.csv 4.csv"
        assert lines[3:] == ["0more"], "each host has its own copy"
    parts = [set(lines[1].split()[1:]) for lines in said.values()]
    assert parts[0] | parts[1] == {f"{number}.csv" for number in range(5)}
    assert not parts[0] & parts[1]
    listed = [set(lines[2].split()[1:]) for lines in said.values()]
    assert sorted(map(len, listed)) == [1, 2]
    assert listed[0] | listed[1] == {"0.csv", "1.csv", "3.csv"}


def test_one_failing_host_ends_the_others(lab: Any) -> None:
    script = """
if [ $CURRENT_HOST = algo-2 ]; then sleep 0.5; echo boom > /opt/ml/output/failure; exit 3; fi
trap 'echo told; exit 0' TERM
while true; do sleep 0.05; done
"""
    job = lab.run_file("half", script, ResourceConfig=TWO)
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", "AlgorithmError: boom\n, exit code: 3")
    assert streams(lab, "half")["algo-1"][-1] == "told"


def test_stop_training_job_reaches_every_host(lab: Any) -> None:
    script = "trap 'touch /opt/ml/model/$CURRENT_HOST; exit 0' TERM; echo ready; while true; do sleep 0.05; done"
    lab.start("stopped-pair", script, ResourceConfig=TWO)
    eventually(lambda: lab.lines("stopped-pair") == ["ready", "ready"])
    lab.sagemaker.stop_training_job(TrainingJobName="stopped-pair")
    assert lab.wait("stopped-pair")["TrainingJobStatus"] == "Stopped"
    assert set(lab.members("out/stopped-pair/output/model.tar.gz")) == {"algo-1", "algo-2"}


def test_instance_groups_of_different_kinds(lab: Any) -> None:
    groups = [
        {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1, "InstanceGroupName": "readers"},
        {"InstanceType": "ml.m5.large", "InstanceCount": 2, "InstanceGroupName": "trainers"},
    ]
    channel = lab.channel("train", lab.put("groups/x", "x"))
    channel["DataSource"]["S3DataSource"]["InstanceGroupNames"] = ["trainers"]
    script = "cat /opt/ml/input/config/resourceconfig.json; echo; ls /opt/ml/input/data"
    resources = {"InstanceGroups": groups, "VolumeSizeInGB": 10}
    job = lab.run("groups", script, ResourceConfig=resources, InputDataConfig=[channel])
    assert job["TrainingJobStatus"] == "Completed"
    assert job["ResourceConfig"] == resources
    said = streams(lab, "groups")
    # Three hosts do not all get what their types promise, and say so first.
    said = {
        host: lines[next(number for number, line in enumerate(lines) if line.startswith("{")) :] for host, lines in said.items()
    }
    config = json.loads(said["algo-3"][0])
    assert (config["current_group_name"], config["current_instance_type"]) == ("trainers", "ml.m5.large")
    assert config["instance_groups"] == [
        {"instance_group_name": "readers", "instance_type": "ml.c5.xlarge", "hosts": ["algo-1"]},
        {"instance_group_name": "trainers", "instance_type": "ml.m5.large", "hosts": ["algo-2", "algo-3"]},
    ]
    assert (said["algo-1"][1:], said["algo-2"][1:]) == ([], ["train"])

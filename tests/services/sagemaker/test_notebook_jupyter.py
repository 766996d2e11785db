"""Notebook instances that really run: Jupyter answers, kernels run code under the role, files outlive stops and servers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from botocore.exceptions import ClientError

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.testing.server import Account, TestServer, eventually
from pilvi.testing.up import Up

ENVIRONMENT = Environments(Config.runtimes_dir_default()).find("notebook")
pytestmark = pytest.mark.skipif(ENVIRONMENT is None, reason="needs: pilvi runtimes install notebook")

NAME = "TitanicNotebook"
CLIENT = Path(__file__).with_name("notebook_client.py")
PERMISSIONS = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
START_S = 180.0


class Desk:
    """One account's notebook instance."""

    def __init__(self, aws: Account, name: str = NAME) -> None:
        self.aws = aws
        self.name = name
        self.sagemaker = aws.client("sagemaker")

    def describe(self) -> dict[str, Any]:
        return dict(self.sagemaker.describe_notebook_instance(NotebookInstanceName=self.name))

    def wait(self, status: str) -> dict[str, Any]:
        passing = {"Pending", "Stopping", "Updating"} - {status}
        eventually(lambda: self.describe()["NotebookInstanceStatus"] not in passing, within_s=START_S, every_s=0.2)
        found = self.describe()
        assert found["NotebookInstanceStatus"] == status, found.get("FailureReason")
        return found

    def open(self, **params: Any) -> str:
        """Follow a presigned URL to Jupyter's own; gives that."""
        url = self.sagemaker.create_presigned_notebook_instance_url(NotebookInstanceName=self.name, **params)["AuthorizedUrl"]
        answer = requests.get(url, allow_redirects=False, timeout=20)
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    def run(self, code: str) -> str:
        """What the code prints when a fresh kernel runs it."""
        assert ENVIRONMENT is not None
        address = urlsplit(self.open())
        token = parse_qs(address.query)["token"][0]
        command = [str(ENVIRONMENT.python), str(CLIENT), f"http://{address.netloc}", token]
        done = subprocess.run(command, input=code, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, operation: str) -> str:
        with pytest.raises(ClientError) as refused:
            getattr(self.sagemaker, operation)(NotebookInstanceName=self.name)
        assert refused.value.response["Error"]["Code"] == "ValidationException"
        return str(refused.value.response["Error"]["Message"])


@pytest.fixture(scope="module")
def desk(server: TestServer) -> Iterator[Desk]:
    """An instance that is InService, whose volume has a key of its own, with a bucket in its account."""
    aws = server.account("730000000001")
    aws.client("s3").create_bucket(Bucket="notebook-titanic")
    role = aws.role("NotebookRole", "sagemaker.amazonaws.com", PERMISSIONS)
    desk = Desk(aws)
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    desk.sagemaker.create_notebook_instance(NotebookInstanceName=NAME, InstanceType="ml.t2.medium", RoleArn=role, KmsKeyId=key)
    arn = f"arn:aws:sagemaker:us-east-1:{aws.account}:notebook-instance/{NAME.lower()}"
    assert desk.refusal("start_notebook_instance") == (
        f"Status (Pending) not in ([Stopped, Failed]). Unable to transition to (Pending) for Notebook Instance ({arn})."
    )
    assert "Status (Pending) not in ([InService])" in desk.refusal("stop_notebook_instance")
    desk.wait("InService")
    yield desk
    if desk.describe()["NotebookInstanceStatus"] == "InService":
        desk.sagemaker.stop_notebook_instance(NotebookInstanceName=NAME)
        desk.wait("Stopped")


def test_an_instance_in_service_answers_at_its_url(desk: Desk) -> None:
    found = desk.describe()
    base = f"http://{found['Url']}"
    assert requests.get(f"{base}/api", timeout=20).json()["version"].startswith("2.")
    assert requests.get(f"{base}/api/status", timeout=20).status_code == 403
    assert requests.get(f"{base}/lab", timeout=20).status_code == 403
    token = parse_qs(urlsplit(desk.open()).query)["token"][0]
    assert requests.get(f"{base}/api/status", headers={"Authorization": f"token {token}"}, timeout=20).json()["kernels"] == 0
    waiter = desk.sagemaker.get_waiter("notebook_instance_in_service")
    waiter.wait(NotebookInstanceName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 2})


def test_a_presigned_url_opens_jupyterlab_once(desk: Desk) -> None:
    made = desk.sagemaker.create_presigned_notebook_instance_url(NotebookInstanceName=NAME)["AuthorizedUrl"]
    assert made.startswith(f"{desk.aws.endpoint}/")
    browser = requests.Session()
    page = browser.get(made, timeout=20)
    assert page.status_code == 200
    assert "<title>JupyterLab</title>" in page.text
    base = f"http://{desk.describe()['Url']}"
    assert browser.get(f"{base}/api/contents", timeout=20).json()["type"] == "directory"
    again = requests.get(made, timeout=20)
    assert again.status_code == 403
    assert "opened before" in again.text


def test_a_session_ends_when_it_was_told_to(desk: Desk, server: TestServer) -> None:
    location = desk.open(SessionExpirationDurationInSeconds=1800)
    end = int(parse_qs(urlsplit(location).query)["token"][0].partition(".")[0])
    assert 1700 < end - server.cloud.clock.time_s() <= 1800
    forged = f"{end + 100000}." + location.rpartition(".")[2]
    base = f"http://{desk.describe()['Url']}"
    assert requests.get(f"{base}/api/status", headers={"Authorization": f"token {forged}"}, timeout=20).status_code == 403
    runs = server.cloud.memory["sagemaker-runs"]
    run = next(run for place, run in runs.here.items() if place.name == NAME.lower())
    past = parse_qs(urlsplit(run.entrance(server.cloud.clock.time_s() - 1)).query)["token"][0]
    assert requests.get(f"{base}/api/status", headers={"Authorization": f"token {past}"}, timeout=20).status_code == 403


def test_a_kernel_runs_code_under_the_role(desk: Desk) -> None:
    code = """
import json, os, pandas, sklearn, boto3
boto3.client("s3").put_object(Bucket="notebook-titanic", Key="train.csv", Body=b"Survived\\n1\\n0\\n")
print(json.dumps({
    "buckets": [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]],
    "caller": boto3.client("sts").get_caller_identity()["Arn"],
    "pandas": pandas.__version__,
    "rows": len(pandas.read_csv("s3://notebook-titanic/train.csv")),
    "metadata": json.load(open("/opt/ml/metadata/resource-metadata.json")),
    "folder": os.getcwd(),
    "keys": [name for name in os.environ if "SECRET" in name],
}))
"""
    told = json.loads(desk.run(code))
    found = desk.describe()
    assert "notebook-titanic" in told["buckets"]
    assert told["caller"] == f"arn:aws:sts::{desk.aws.account}:assumed-role/NotebookRole/SageMaker"
    assert told["pandas"].startswith("2.")
    assert told["rows"] == 2
    assert told["metadata"]["ResourceName"] == NAME
    assert told["metadata"]["ExecutionRoleArn"] == found["RoleArn"]
    assert told["folder"] == "/home/ec2-user/SageMaker"
    assert told["keys"] == []


def test_the_lessons_cells_run_as_given_and_the_model_is_downloaded(desk: Desk, titanic: Path) -> None:
    desk.aws.client("s3").upload_file(str(titanic / "train.csv"), "notebook-titanic", "lesson/train.csv")
    cells = """
import pandas as pd, joblib
from sklearn.model_selection import train_test_split
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
df = pd.read_csv("s3://notebook-titanic/lesson/train.csv")
df["Age"].fillna(df["Age"].mean(), inplace=True)
df = pd.get_dummies(df.drop(columns=["Name", "Cabin", "Ticket", "PassengerId"]), drop_first=True)
X, y = df.drop(columns="Survived"), df["Survived"]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)
model = LogisticRegression(max_iter=500).fit(X_train, y_train)
print("accuracy", accuracy_score(y_test, model.predict(X_test)))
joblib.dump(model, "model.pkl")
print("model", open("model.pkl", "rb").read().hex())
"""
    told = dict(line.split(" ", 1) for line in desk.run(cells).splitlines() if line.startswith(("accuracy ", "model ")))
    assert 0.75 < float(told["accuracy"]) < 0.9
    address = urlsplit(desk.open())
    token = {"Authorization": f"token {parse_qs(address.query)['token'][0]}"}
    answer = requests.get(f"http://{address.netloc}/files/model.pkl?download=1", headers=token, timeout=20)
    assert "attachment" in answer.headers["Content-Disposition"]
    assert answer.content.hex() == told["model"]


def test_a_terminal_opens_beside_several_kernels(desk: Desk) -> None:
    address = urlsplit(desk.open())
    base, token = f"http://{address.netloc}/api", {"Authorization": f"token {parse_qs(address.query)['token'][0]}"}
    terminal = requests.post(f"{base}/terminals", headers=token, timeout=20).json()["name"]
    kernels = [requests.post(f"{base}/kernels", headers=token, timeout=60).json()["id"] for _ in range(2)]
    assert [entry["name"] for entry in requests.get(f"{base}/terminals", headers=token, timeout=20).json()] == [terminal]
    assert {entry["id"] for entry in requests.get(f"{base}/kernels", headers=token, timeout=20).json()} >= set(kernels)
    for path in (f"terminals/{terminal}", *(f"kernels/{kernel}" for kernel in kernels)):
        assert requests.delete(f"{base}/{path}", headers=token, timeout=20).status_code == 204


def test_the_sdk_finds_role_and_bucket(desk: Desk) -> None:
    code = "import sagemaker; print(sagemaker.get_execution_role()); print(sagemaker.Session().default_bucket())"
    said = desk.run(code).splitlines()
    assert desk.describe()["RoleArn"] in said
    assert f"sagemaker-us-east-1-{desk.aws.account}" in said
    desk.aws.client("s3").head_bucket(Bucket=f"sagemaker-us-east-1-{desk.aws.account}")


def test_a_kernel_has_as_much_of_its_type_as_there_is(desk: Desk, server: TestServer) -> None:
    code = "import os; print(len(os.sched_getaffinity(0)), os.environ['PILVI_MEMORY_MIB'])"
    node = server.cloud.compute.nodes()[0]
    assert desk.run(code) == f"{min(2, node.cpus)} {min(4096, node.memory_mib)}\n", "an ml.t2.medium"


def test_credentials_come_anew_and_for_the_instance_alone(desk: Desk) -> None:
    code = 'import os; print(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"])'
    url, secret = desk.run(code).split()
    keys = requests.get(url, headers={"Authorization": secret}, timeout=20).json()
    assert {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"} <= keys.keys()
    again = requests.get(url, headers={"Authorization": secret}, timeout=20).json()
    assert again["AccessKeyId"] != keys["AccessKeyId"]
    assert requests.get(url, timeout=20).status_code == 403
    inside = desk.aws.with_keys(keys["AccessKeyId"], keys["SecretAccessKey"], keys["Token"])
    assert inside.client("sts").get_caller_identity()["Arn"].endswith("/NotebookRole/SageMaker")
    with pytest.raises(ClientError, match="AccessDenied"):
        inside.client("iam").list_users()


def test_what_is_installed_from_a_notebook_is_importable(desk: Desk) -> None:
    """Without a package index: a wheel on the volume."""
    code = """
import subprocess, sys, zipfile
with zipfile.ZipFile("titanic_lesson-1-py3-none-any.whl", "w") as wheel:
    wheel.writestr("titanic_lesson.py", "SHIP = 'Titanic'")
    wheel.writestr("titanic_lesson-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: titanic-lesson\\nVersion: 1\\n")
    wheel.writestr("titanic_lesson-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr("titanic_lesson-1.dist-info/RECORD", "")
command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "titanic_lesson-1-py3-none-any.whl"]
done = subprocess.run(command, capture_output=True, text=True)
assert done.returncode == 0, done.stderr
import titanic_lesson
print(titanic_lesson.SHIP)
"""
    assert desk.run(code) == "Titanic\n"


def test_jupyters_words_are_in_its_log(desk: Desk) -> None:
    logs = desk.aws.client("logs")

    def said() -> bool:
        events = logs.get_log_events(
            logGroupName="/aws/sagemaker/NotebookInstances", logStreamName=f"{NAME}/jupyter.log", startFromHead=True
        )["events"]
        return any("is running at" in event["message"] for event in events)

    eventually(said)


def test_delete_and_update_wait_for_the_stop(desk: Desk) -> None:
    assert "Status (InService) not in ([Stopped, Failed]). Unable to transition to (Deleting)" in desk.refusal(
        "delete_notebook_instance"
    )
    assert "Unable to transition to (Updating)" in desk.refusal("update_notebook_instance")


def test_files_outlive_a_stop_and_nothing_else_does(desk: Desk, server: TestServer) -> None:
    desk.run("open('kept.txt', 'w').write('a line that must not be found on the disk'); open('/tmp/gone', 'w').write('x')")
    old_url = desk.describe()["Url"]
    desk.sagemaker.stop_notebook_instance(NotebookInstanceName=NAME)
    waiter = desk.sagemaker.get_waiter("notebook_instance_stopped")
    waiter.wait(NotebookInstanceName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    assert "Url" not in desk.describe()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{old_url}/api", timeout=5)
    data_dir = server.config.data_dir
    files = [path for path in data_dir.rglob("*") if path.is_file() and b"must not be found" in path.read_bytes()]
    assert files == []
    desk.sagemaker.update_notebook_instance(NotebookInstanceName=NAME, InstanceType="ml.m5.xlarge")
    desk.sagemaker.start_notebook_instance(NotebookInstanceName=NAME)
    desk.wait("InService")
    told = desk.run("import os; print(open('kept.txt').read(), os.path.exists('/tmp/gone'))")
    assert told == "a line that must not be found on the disk False\n"


def test_jupyter_that_ends_by_itself_has_failed(server: TestServer, aws: Account) -> None:
    role = aws.role("Brief", "sagemaker.amazonaws.com")
    desk = Desk(aws, "brief")
    desk.sagemaker.create_notebook_instance(NotebookInstanceName="brief", InstanceType="ml.t2.medium", RoleArn=role)
    url = urlsplit(f"http://{desk.wait('InService')['Url']}")
    token = parse_qs(urlsplit(desk.open()).query)["token"][0]
    requests.post(f"http://{url.netloc}/api/shutdown", headers={"Authorization": f"token {token}"}, timeout=20)
    eventually(lambda: desk.describe()["NotebookInstanceStatus"] == "Failed", within_s=60)
    assert "Jupyter was shut down" in desk.describe()["FailureReason"]
    desk.sagemaker.delete_notebook_instance(NotebookInstanceName="brief")
    waiter = desk.sagemaker.get_waiter("notebook_instance_deleted")
    waiter.wait(NotebookInstanceName="brief", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    kept = {record["_id"] for record in server.cloud.rows("730000000001", "us-east-1", "sagemaker", "NotebookInstance").all()}
    assert {path.name for path in (server.config.data_dir / "notebooks").iterdir()} <= kept


def test_after_kill_9_the_instance_runs_again_with_its_files(tmp_path: Path) -> None:
    first = Up(tmp_path / "data")
    try:
        desk = Desk(first.root)
        role = first.root.role("Survivor", "sagemaker.amazonaws.com", PERMISSIONS)
        desk.sagemaker.create_notebook_instance(NotebookInstanceName=NAME, InstanceType="ml.t2.medium", RoleArn=role)
        old = desk.wait("InService")["Url"]
        desk.run("open('kept.txt', 'w').write('still here')")
    finally:
        first.kill()

    def is_gone() -> bool:
        try:
            requests.get(f"http://{old}/api", timeout=5)
        except requests.ConnectionError:
            return True
        return False

    eventually(is_gone)
    second = Up(tmp_path / "data")
    try:
        desk = Desk(second.root)
        assert desk.describe()["NotebookInstanceStatus"] == "Pending"
        desk.wait("InService")
        assert desk.run("print(open('kept.txt').read())") == "still here\n"
    finally:
        second.stop()

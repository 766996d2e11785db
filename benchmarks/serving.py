"""What an endpoint adds to its model's own predict, which the model measures: one client, then several at once. boto3's own work is in it.

python -m benchmarks.serving [--requests 1000] [--image sklearn|plain]
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilvi.testing.server import Account, TestServer, eventually

PLAIN = "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python:1.0"
SKLEARN = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
SCRIPTS = {
    "plain": "def model_fn(model_dir):\n    return None\n\ndef predict_fn(data, model):\n    return [0.0]\n",
    "sklearn": """\
import time
import numpy as np
from sklearn.linear_model import LogisticRegression

def model_fn(model_dir):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(1000, 10))
    return LogisticRegression().fit(features, features[:, 0] > 0)

def predict_fn(data, model):
    begin = time.perf_counter()
    model.predict(data)
    return [time.perf_counter() - begin]
""",
}
PERMISSIONS = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
ROW = json.dumps([[0.5] * 10])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--image", choices=tuple(SCRIPTS), default="sklearn")
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, TestServer(Path(folder)) as server:
        aws = server.account("111122223333")
        deploy(aws, options.image)
        print(json.dumps(measured(aws, options.requests, options.clients, options.image), indent=2))


def deploy(aws: Account, kind: str) -> None:
    sagemaker, s3 = aws.client("sagemaker"), aws.client("s3")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        member = tarfile.TarInfo("code/inference.py")
        member.size = len(SCRIPTS[kind])
        tar.addfile(member, io.BytesIO(SCRIPTS[kind].encode()))
    s3.create_bucket(Bucket="bench")
    s3.put_object(Bucket="bench", Key="model.tar.gz", Body=data.getvalue())
    container = {"Image": SKLEARN if kind == "sklearn" else PLAIN, "ModelDataUrl": "s3://bench/model.tar.gz"}
    role = aws.role("Server", "sagemaker.amazonaws.com", PERMISSIONS)
    sagemaker.create_model(ModelName="bench", PrimaryContainer=container, ExecutionRoleArn=role)
    variant = {"VariantName": "AllTraffic", "ModelName": "bench", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    sagemaker.create_endpoint_config(EndpointConfigName="bench", ProductionVariants=[variant])
    began = time.perf_counter()
    sagemaker.create_endpoint(EndpointName="bench", EndpointConfigName="bench")
    eventually(lambda: sagemaker.describe_endpoint(EndpointName="bench")["EndpointStatus"] != "Creating", within_s=120)
    print(
        f"in service after {time.perf_counter() - began:.2f} s: {sagemaker.describe_endpoint(EndpointName='bench')['EndpointStatus']}"
    )


def asking(aws: Account) -> Callable[[str], bytes]:
    """A client of its own, with its own connection."""
    client = aws.session.client("sagemaker-runtime", endpoint_url=aws.endpoint)
    return lambda body: bytes(
        client.invoke_endpoint(EndpointName="bench", Body=body, ContentType="application/json")["Body"].read()
    )


def measured(aws: Account, requests: int, clients: int, kind: str) -> dict[str, Any]:
    ask = asking(aws)
    for _ in range(50):
        ask(ROW)
    whole, own = [], []
    for _ in range(requests):
        began = time.perf_counter()
        answer = ask(ROW)
        whole.append((time.perf_counter() - began) * 1000)
        own.append(json.loads(answer)[0] * 1000)
    added = statistics.quantiles([one - other for one, other in zip(whole, own, strict=True)], n=100)
    marks = statistics.quantiles(whole, n=100)
    return {
        "image": kind,
        "predict_p50_ms": round(statistics.median(own), 3),
        "invoke_p50_ms": round(marks[49], 3),
        "invoke_p95_ms": round(marks[94], 3),
        "added_p50_ms": round(added[49], 3),
        f"requests_per_s_of_{clients}_clients": round(together(aws, requests, clients)),
    }


def together(aws: Account, requests: int, clients: int) -> float:
    """Requests a second of several clients at once; boto3's own work is in it."""
    asks = [asking(aws) for _ in range(clients)]
    for ask in asks:
        ask(ROW)

    def many(ask: Callable[[str], bytes]) -> None:
        for _ in range(requests // clients):
            ask(ROW)

    threads = [threading.Thread(target=many, args=(ask,)) for ask in asks]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return requests / (time.perf_counter() - began)


if __name__ == "__main__":
    main()

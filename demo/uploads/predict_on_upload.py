"""Predict when data arrives: a function that sleeps until a CSV is uploaded. Told by boto3 alone.

eval "$(pilvi env)"; python demo/uploads/predict_on_upload.py demo/data/titanic/test.csv
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import boto3

sys.path.insert(0, str(Path(__file__).parent.parent))

from uploads.cloud import Cloud, eventually, on_objects, say

MODEL = {"intercept": 1.2, "weights": {"Pclass": -0.6, "Age": -0.01, "SibSp": -0.2, "Fare": 0.004}}
"""A logistic regression, small enough to read."""


def prepare(cloud: Cloud) -> str:
    """The bucket, with the model in it and the function behind it."""
    s3, bucket = cloud.client("s3"), f"predictions-{cloud.account}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="model.json", Body=json.dumps(MODEL).encode())
    role = cloud.role("predicts", on_objects(bucket, "GetObject", "PutObject"))
    arn = cloud.function("predict-on-upload", role, "predict_handler.py", {"BUCKET": bucket, "MODEL": "model.json"})
    cloud.starts(bucket, (arn, "in/", ".csv"))
    return bucket


def upload(cloud: Cloud, bucket: str, name: str, data: bytes) -> str:
    """Upload a CSV and wait for its predictions."""
    s3 = cloud.client("s3")
    s3.put_object(Bucket=bucket, Key=f"in/{name}", Body=data)
    eventually(lambda: f"out/{name}" in cloud.keys(bucket, "out/"))
    found: str = s3.get_object(Bucket=bucket, Key=f"out/{name}")["Body"].read().decode()
    say("predicted", len(found.splitlines()) - 1, "rows, the first:", found.splitlines()[1])
    return found


def gigabyte_seconds(cloud: Cloud, begin: datetime, hours: int) -> float:
    """What functions used in these hours, as the bill has it."""
    answer = cloud.client("ce").get_cost_and_usage(
        TimePeriod={"Start": f"{begin:%Y-%m-%dT%H:00:00Z}", "End": f"{begin + timedelta(hours=hours):%Y-%m-%dT%H:00:00Z}"},
        Granularity="HOURLY",
        Metrics=["UsageQuantity"],
        Filter={"Dimensions": {"Key": "SERVICE", "Values": ["AWS Lambda"]}},
        GroupBy=[{"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
    )
    groups = [group for period in answer["ResultsByTime"] for group in period["Groups"]]
    return sum(float(group["Metrics"]["UsageQuantity"]["Amount"]) for group in groups if "GB-Second" in group["Keys"][0])


def reports(cloud: Cloud) -> list[dict[str, float]]:
    """The REPORT lines: milliseconds and megabytes by their names."""
    found = []
    for line in cloud.lines("predict-on-upload", "REPORT"):
        parts = re.findall(r"([A-Z][A-Za-z ]+): ([0-9.]+) (?:ms|MB)", line)
        found.append({name.strip(): float(number) for name, number in parts})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="with columns PassengerId, Pclass, Age, SibSp, Fare")
    options = parser.parse_args()
    made: dict[str, Any] = {}
    cloud = Cloud(lambda name: made.get(name) or made.setdefault(name, boto3.client(name)))
    bucket = prepare(cloud)
    for turn in range(2):
        upload(cloud, bucket, f"{turn}.csv", options.csv.read_bytes())
    for report in eventually(lambda: len(reports(cloud)) == 2 and reports(cloud)):
        say("REPORT", report)


if __name__ == "__main__":
    main()

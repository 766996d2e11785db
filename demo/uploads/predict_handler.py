"""Reads an uploaded CSV, predicts every row, and writes the predictions beside it: in/a.csv becomes out/a.csv."""

import csv
import io
import json
import math
import os
from urllib.parse import unquote_plus

import boto3

s3_client = boto3.client("s3")
print("loading the model")
MODEL = json.load(s3_client.get_object(Bucket=os.environ["BUCKET"], Key=os.environ["MODEL"])["Body"])


def predict(input_data):
    """The chance of survival."""
    score = MODEL["intercept"] + sum(MODEL["weights"][name] * float(input_data[name] or 0) for name in MODEL["weights"])
    return 1 / (1 + math.exp(-score))


def lambda_handler(event, context):
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        key = unquote_plus(record["s3"]["object"]["key"])
        body = s3_client.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["PassengerId", "Survived", "Chance"])
        rows = 0
        for row in csv.DictReader(io.StringIO(body)):
            chance = predict(row)
            writer.writerow([row["PassengerId"], int(chance > 0.5), f"{chance:.4f}"])
            rows += 1
        s3_client.put_object(Bucket=bucket, Key=f"out/{key.rpartition('/')[2]}", Body=out.getvalue().encode())
        print(f"predicted {rows} rows of {key}")
    return rows

"""Copies every object it is told of to the bucket in DESTINATION, under the same key."""

import os
from urllib.parse import unquote_plus

import boto3

s3_client = boto3.client("s3")


def lambda_handler(event, context):
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        key = unquote_plus(record["s3"]["object"]["key"])  # S3 tells keys as URLs have them
        s3_client.copy_object(Bucket=os.environ["DESTINATION"], Key=key, CopySource={"Bucket": bucket, "Key": key})
        print(f"copied {bucket}/{key}")

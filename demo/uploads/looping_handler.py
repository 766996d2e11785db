"""The mistake that empties accounts: it answers an upload with an upload to the same bucket."""

from urllib.parse import unquote_plus

import boto3

s3_client = boto3.client("s3")


def lambda_handler(event, context):
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        key = unquote_plus(record["s3"]["object"]["key"])
        s3_client.copy_object(Bucket=bucket, Key=f"{key}+", CopySource={"Bucket": bucket, "Key": key})

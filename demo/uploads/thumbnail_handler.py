"""Makes a thumbnail of every picture it is told of: pictures/a.png becomes thumbnails/a.png in the same bucket. Needs Pillow."""

import io
from urllib.parse import unquote_plus

import boto3
from PIL import Image

SIZE = (64, 64)
s3_client = boto3.client("s3")


def lambda_handler(event, context):
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        key = unquote_plus(record["s3"]["object"]["key"])
        picture = Image.open(s3_client.get_object(Bucket=bucket, Key=key)["Body"])
        picture.thumbnail(SIZE)
        small = io.BytesIO()
        picture.save(small, "PNG")
        name = key.rpartition("/")[2]
        s3_client.put_object(Bucket=bucket, Key=f"thumbnails/{name}", Body=small.getvalue(), ContentType="image/png")

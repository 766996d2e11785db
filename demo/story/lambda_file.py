"""A Lambda function behind API Gateway: loads the trained model from S3 under its own role and predicts."""

import io
import json
import os
import tarfile

import boto3
import joblib

_model = None


def load_model():
    """The model out of the training job's model.tar.gz; fetched once a worker."""
    global _model
    if _model is None:
        archive = boto3.client("s3").get_object(Bucket=os.environ["BUCKET"], Key=os.environ["MODEL_KEY"])["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            _model = joblib.load(io.BytesIO(members.extractfile("model.pkl").read()))
    return _model


def lambda_handler(event, _context):
    request = json.loads(event["body"])
    prediction = load_model().predict([request["features"]])
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps({"prediction": int(prediction[0])}),
    }

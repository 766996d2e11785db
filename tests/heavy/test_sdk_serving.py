"""Both majors of the SageMaker Python SDK, unmodified: train, deploy, predict, transform, update and delete."""

from __future__ import annotations

from collections.abc import Callable

from tests.heavy.test_sdk_tuning import sdk  # noqa: F401 - a fixture

V2 = '''
import os, sys
from pathlib import Path

import numpy as np
import sagemaker
from sagemaker import KNN, PCA, FactorizationMachines, KMeans, LinearLearner, RandomCutForest, image_uris
from sagemaker.async_inference import AsyncInferenceConfig, WaiterConfig
from sagemaker.deserializers import CSVDeserializer, JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.multidatamodel import MultiDataModel
from sagemaker.pipeline import PipelineModel
from sagemaker.serializers import CSVSerializer, JSONSerializer
from sagemaker.serverless import ServerlessInferenceConfig
from sagemaker.sklearn import SKLearn, SKLearnModel

role, out = sys.argv[1:3]
session = sagemaker.Session()
client = session.sagemaker_client
generator = np.random.default_rng(0)
x = generator.normal(size=(300, 4)).astype("float32")
y = (x @ [1, 2, 3, 4]).astype("float32")
common = dict(role=role, instance_count=1, instance_type="ml.m5.large", output_path=out, sagemaker_session=session)


def up(predictor):
    """deploy() itself looks every half a minute."""
    client.get_waiter("endpoint_in_service").wait(EndpointName=predictor.endpoint_name)
    return predictor


def builtin(name, estimator, *labels):
    estimator.fit(estimator.record_set(x, *labels), logs=False)
    predictor = up(estimator.deploy(1, "ml.m5.large", wait=False))
    found = predictor.predict(x[:3])
    print(name, len(found), sorted(found[0].label))
    predictor.delete_model()
    predictor.delete_endpoint()


builtin("KMEANS", KMeans(k=3, **common))
builtin("LINEAR", LinearLearner(predictor_type="regressor", **common), y)
builtin("PCA", PCA(num_components=2, **common))
builtin("FOREST", RandomCutForest(num_trees=50, num_samples_per_tree=64, **common))
builtin("NEIGHBOURS", KNN(k=3, sample_size=200, predictor_type="regressor", **common), y)
builtin("MACHINES", FactorizationMachines(num_factors=4, predictor_type="regressor", **common), y)

boosted = Estimator(image_uris.retrieve("xgboost", "us-east-1", version="1.7-1"), **common)
boosted.set_hyperparameters(num_round=5, objective="reg:squarederror")
np.savetxt("rows.csv", np.c_[y, x], delimiter=",")
boosted.fit({"train": TrainingInput(session.upload_data("rows.csv", key_prefix="xgb"), content_type="text/csv")}, logs=False)
predictor = up(boosted.deploy(1, "ml.m5.large", serializer=CSVSerializer(), deserializer=CSVDeserializer(), wait=False))
online = [float(row[0]) for row in predictor.predict(x)]
predictor.delete_endpoint()
np.savetxt("test.csv", x, delimiter=",")
transformer = boosted.transformer(1, "ml.m5.large", strategy="MultiRecord", assemble_with="Line", accept="text/csv", output_path=out + "/batch")
transformer.transform(session.upload_data("test.csv", key_prefix="batch"), content_type="text/csv", split_type="Line", logs=False)
bucket, _, prefix = out.removeprefix("s3://").partition("/")
text = session.read_s3_file(bucket, prefix + "/batch/test.csv.out")
print("EQUAL", np.allclose(online, [float(line) for line in text.split()]))

Path("code").mkdir()
Path("code/train.py").write_text("""
import os, joblib, numpy as np
from sklearn.linear_model import LinearRegression
def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
if __name__ == "__main__":
    x = np.arange(20.).reshape(10, 2)
    joblib.dump(LinearRegression().fit(x, x @ [1, 2]), os.path.join(os.environ["SM_MODEL_DIR"], "model.joblib"))
""")
estimator = SKLearn("train.py", source_dir="code", framework_version="1.2-1", role=role, instance_type="ml.m5.large", output_path=out, sagemaker_session=session)
estimator.fit(logs=False)
predictor = up(estimator.deploy(1, "ml.m5.large", wait=False))
print("SCRIPT", np.round(predictor.predict(np.array([[1.0, 2.0], [3.0, 4.0]])), 3).tolist())
predictor.delete_endpoint()

serverless = ServerlessInferenceConfig(memory_size_in_mb=2048, max_concurrency=2)
model = SKLearnModel(estimator.model_data, role, "train.py", source_dir="code", framework_version="1.2-1", sagemaker_session=session)
predictor = up(model.deploy(serverless_inference_config=serverless, wait=False))
print("SERVERLESS", np.round(predictor.predict(np.array([[1.0, 2.0]])), 3).tolist())
predictor.delete_endpoint()

model = SKLearnModel(estimator.model_data, role, "train.py", source_dir="code", framework_version="1.2-1", sagemaker_session=session)
predictor = up(model.deploy(1, "ml.m5.large", async_inference_config=AsyncInferenceConfig(output_path=out + "/async"), wait=False))
answer = predictor.predict_async(np.array([[1.0, 2.0]]))
print("ASYNC", np.round(answer.get_result(WaiterConfig(max_attempts=120, delay=1)), 3).tolist())
predictor.delete_endpoint()

first = SKLearnModel(estimator.model_data, role, "train.py", source_dir="code", framework_version="1.2-1", sagemaker_session=session)
many = MultiDataModel("many", out + "/many/", model=first, sagemaker_session=session)
predictor = many.deploy(1, "ml.m5.large", endpoint_name="many")
up(predictor)
path = many.add_model(first.repacked_model_data or estimator.model_data, "a.tar.gz")
print("MANY", list(many.list_models()), np.round(predictor.predict(np.array([[1.0, 2.0]]), target_model="a.tar.gz"), 3).tolist())
predictor.delete_endpoint()
'''

V3 = """
import io, sys, tarfile

import boto3
from sagemaker.core.helper.session_helper import Session
from sagemaker.serve import ModelBuilder

role, out = sys.argv[1:3]
bucket = out.split("/")[2]
SCRIPT = b"def model_fn(d):\\n    return 3.0\\n\\ndef predict_fn(data, model):\\n    return data * model\\n"
data = io.BytesIO()
with tarfile.open(fileobj=data, mode="w:gz") as tar:
    member = tarfile.TarInfo("code/inference.py")
    member.size = len(SCRIPT)
    tar.addfile(member, io.BytesIO(SCRIPT))
boto3.client("s3").put_object(Bucket=bucket, Key="v3/model.tar.gz", Body=data.getvalue())
image = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
builder = ModelBuilder(
    image_uri=image,
    s3_model_data_url=f"s3://{bucket}/v3/model.tar.gz",
    role_arn=role,
    instance_type="ml.m5.large",
    sagemaker_session=Session(),
)
builder.build(model_name="built")
endpoint = builder.deploy(endpoint_name="built", instance_type="ml.m5.large", initial_instance_count=1)
answer = endpoint.invoke(body=b"[[1, 2]]", content_type="application/json", accept="application/json")
print("INVOKED", answer.body.read(), answer.invoked_production_variant)
endpoint.delete()
"""


def test_v2_deploys_and_predicts(sdk: Callable[[int, str], str]) -> None:  # noqa: F811
    said = sdk(2, V2)
    assert "KMEANS 3 ['closest_cluster', 'distance_to_cluster']" in said
    assert "LINEAR 3 ['score']" in said
    assert "PCA 3 ['projection']" in said
    assert "FOREST 3 ['score']" in said
    assert "NEIGHBOURS 3 ['predicted_label']" in said
    assert "MACHINES 3 ['score']" in said
    assert "EQUAL True" in said
    assert "SCRIPT [5.0, 11.0]" in said
    assert "SERVERLESS [5.0]" in said
    assert "ASYNC [5.0]" in said
    assert "MANY ['a.tar.gz'] [5.0]" in said


def test_v3_builds_deploys_and_invokes(sdk: Callable[[int, str], str]) -> None:  # noqa: F811
    assert "INVOKED b'[[3.0, 6.0]]' AllTraffic" in sdk(3, V3)

"""What a job prints as metrics, as CloudWatch tells it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any


def test_metrics_of_a_training_job_are_in_cloudwatch(lab: Any) -> None:
    metrics = [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]
    script = "for loss in 4 2 1; do echo loss=$loss; done"
    found = lab.run("measured", script, algorithm={"MetricDefinitions": metrics})
    assert found["TrainingJobStatus"] == "Completed"
    cloudwatch = lab.aws.client("cloudwatch")
    named = {"Namespace": "/aws/sagemaker/TrainingJobs", "Dimensions": [{"Name": "TrainingJobName", "Value": "measured"}]}
    assert cloudwatch.list_metrics(**named)["Metrics"] == [{**named, "MetricName": "loss"}]
    points = cloudwatch.get_metric_statistics(
        **named,
        MetricName="loss",
        StartTime=found["TrainingStartTime"],
        EndTime=found["TrainingEndTime"] + timedelta(minutes=1),
        Period=3600,
        Statistics=["SampleCount", "Sum", "Minimum"],
    )["Datapoints"]
    assert sum(point["SampleCount"] for point in points) == 3
    assert sum(point["Sum"] for point in points) == 7

"""Search by boto3 over training and tuning jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.core.errors import Invalid
from pilvi.services.sagemaker.search_filter import is_passed, values_at
from pilvi.testing.server import Account, eventually

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
JOB = {
    "TrainingJobName": "one",
    "HyperParameters": {"rate": "0.6", "depth": "3", "a.b": "x", "kind": "tree"},
    "FinalMetricDataList": [{"MetricName": "val:acc", "Value": 0.93}],
    "InputDataConfig": [
        {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": "s3://a/cats"}}},
        {"ChannelName": "test", "DataSource": {"S3DataSource": {"S3Uri": "s3://b/dogs"}}},
    ],
    "ResourceConfig": {"InstanceCount": 2},
    "EnableNetworkIsolation": True,
    "CreationTime": NOW,
    "Tags": [{"Key": "team", "Value": "a"}],
}


@pytest.mark.parametrize(
    ("name", "operator", "value", "expected"),
    [
        ("TrainingJobName", "Equals", "one", True),
        ("TrainingJobName", None, "one", True),
        ("TrainingJobName", "NotEquals", "one", False),
        ("TrainingJobName", "Contains", "n", True),
        ("TrainingJobName", "In", "two, one", True),
        ("TrainingJobName", "In", "two,ones", False),
        ("Metrics.val:acc", "GreaterThan", "0.9", True),
        ("Metrics.val:acc", "LessThan", "0.9", False),
        ("Metrics.val:acc", "GreaterThanOrEqualTo", "0.93", True),
        ("Metrics.other", "GreaterThan", "0.9", False),
        ("HyperParameters.rate", "LessThan", "0.7", True),
        ("HyperParameters.rate", "Equals", "0", True),
        ("HyperParameters.rate", "Equals", "0.60", True),
        ("HyperParameters.depth", "GreaterThan", "2", True),
        ("HyperParameters.kind", "GreaterThan", "2", False),
        ("HyperParameters.a.b", "Equals", "x", True),
        ("HyperParameters.none", "NotExists", None, True),
        ("HyperParameters.rate", "Exists", None, True),
        ("HyperParameters.rate", None, None, True),
        ("Tags.team", "Equals", "a", True),
        ("Tags.team", "NotEquals", "b", True),
        ("Tags.none", "NotEquals", "b", True),
        ("InputDataConfig.ChannelName", "Equals", "test", True),
        ("InputDataConfig.DataSource.S3DataSource.S3Uri", "Contains", "dogs", True),
        ("ResourceConfig.InstanceCount", "Equals", "2", True),
        ("ResourceConfig.InstanceCount", "LessThanOrEqualTo", "1", False),
        ("EnableNetworkIsolation", "Equals", "true", True),
        ("EnableNetworkIsolation", "NotEquals", "true", False),
        ("CreationTime", "GreaterThan", "2026-05-01T11:59:59", True),
        ("CreationTime", "LessThan", "2026-05-01T11:59:59Z", False),
        ("CreationTime", "Equals", "2026-05-01T12:00:00", True),
    ],
)
def test_filters_ask_about_every_kind_of_property(name: str, operator: str | None, value: str | None, expected: bool) -> None:
    entry = {"Name": name, "Operator": operator, "Value": value}
    assert is_passed(JOB, {key: word for key, word in entry.items() if word is not None}) is expected


@pytest.mark.parametrize(
    ("name", "operator", "value", "words"),
    [
        ("TrainingJobName", "GreaterThan", "a", "not supported for text"),
        ("ResourceConfig.InstanceCount", "Contains", "2", "only supported for text"),
        ("ResourceConfig.InstanceCount", "Equals", "two", "is not a number"),
        ("CreationTime", "GreaterThan", "yesterday", "is not a time"),
    ],
)
def test_filters_refuse_operators_that_do_not_fit(name: str, operator: str, value: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        is_passed(JOB, {"Name": name, "Operator": operator, "Value": value})


def test_values_at_steps_into_lists() -> None:
    assert values_at(JOB, "InputDataConfig.ChannelName") == ["train", "test"]
    assert values_at(JOB, "InputDataConfig.None.Deeper") == []
    assert values_at(JOB, "TrainingJobName.Deeper") == []


# -- over the wire ---------------------------------------------------------------------------------------------------------


def refusal(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    return str(caught.value.response["Error"]["Message"])


class Found:
    """A small catalogue: three jobs of different accuracy."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.sagemaker = lab.sagemaker
        metrics = {"MetricDefinitions": [{"Name": "accuracy", "Regex": "accuracy=(\\S+)"}]}
        for name, accuracy, team in (("low", "0.5", "a"), ("high", "0.95", "a"), ("top", "0.99", "b")):
            lab.start(
                name,
                f"echo accuracy={accuracy}",
                algorithm=metrics,
                HyperParameters={"depth": str(len(name))},
                Tags=[{"Key": "team", "Value": team}],
                InputDataConfig=[lab.channel("train", lab.put(f"in/{name}", "x")), lab.channel("test", lab.put("in/low", "x"))],
            )
        lab.start("silent", "exit 0")
        for name in ("low", "high", "top", "silent"):
            lab.wait(name)

    def names(self, *filters: Any, **more: Any) -> list[str]:
        expression = {"Filters": list(filters)} if filters else None
        request = {"Resource": "TrainingJob", "SearchExpression": expression, "SortBy": "TrainingJobName", "SortOrder": "Ascending"}
        answer = self.sagemaker.search(**{key: value for key, value in {**request, **more}.items() if value is not None})
        return [result["TrainingJob"]["TrainingJobName"] for result in answer["Results"]]


@pytest.fixture(scope="module")
def found(lab: Any) -> Found:
    return Found(lab)


def test_search_finds_jobs_with_accuracy_above(found: Found) -> None:
    above = {"Name": "Metrics.accuracy", "Operator": "GreaterThan", "Value": "0.9"}
    assert found.names(above) == ["high", "top"]
    assert found.names(above, {"Name": "Tags.team", "Operator": "Equals", "Value": "b"}) == ["top"]
    answer = found.sagemaker.search(Resource="TrainingJob", SearchExpression={"Filters": [above]})
    assert answer["TotalHits"] == {"Value": 2, "Relation": "EqualTo"}
    job = answer["Results"][0]["TrainingJob"]
    assert job["Tags"][0]["Key"] == "team"
    assert job["TrainingJobStatus"] == "Completed"
    assert job["TrainingJobArn"].endswith("training-job/top")


def test_search_joins_expressions(found: Found) -> None:
    low, top = ({"Name": "TrainingJobName", "Operator": "Equals", "Value": name} for name in ("low", "top"))
    either = {"Filters": [low, top], "Operator": "Or"}
    assert found.names(SearchExpression=either) == ["low", "top"]
    assert found.names(SearchExpression={"Filters": [low, top]}) == []
    team = {"Name": "Tags.team", "Operator": "Equals", "Value": "a"}
    assert found.names(SearchExpression={"Filters": [team], "SubExpressions": [either]}) == ["low"]
    assert found.names(SearchExpression={"Filters": [team], "SubExpressions": [either], "Operator": "Or"}) == ["high", "low", "top"]


def test_search_asks_single_objects_of_a_list(found: Found) -> None:
    def nested(channel: str, uri: str) -> Any:
        path = "InputDataConfig"
        filters = [
            {"Name": f"{path}.ChannelName", "Operator": "Equals", "Value": channel},
            {"Name": f"{path}.DataSource.S3DataSource.S3Uri", "Operator": "Contains", "Value": uri},
        ]
        return {"NestedFilters": [{"NestedPropertyName": path, "Filters": filters}]}

    assert found.names(SearchExpression=nested("train", "in/low")) == ["low"]
    assert found.names(SearchExpression=nested("test", "in/low")) == ["high", "low", "top"]
    assert found.names(SearchExpression=nested("train", "nowhere")) == []


def test_search_sorts_and_pages(found: Found) -> None:
    by_metric = {"SortBy": "Metrics.accuracy", "SortOrder": "Descending"}
    assert found.names(**by_metric) == ["top", "high", "low", "silent"]
    assert found.names(SortBy="Metrics.accuracy", SortOrder="Ascending") == ["low", "high", "top", "silent"]
    for order in (by_metric, {"SortBy": "CreationTime", "SortOrder": "Ascending"}, {"SortBy": "Tags.team"}, {}):
        pages = found.sagemaker.get_paginator("search").paginate(Resource="TrainingJob", MaxResults=1, **order)
        names = [result["TrainingJob"]["TrainingJobName"] for page in pages for result in page["Results"]]
        assert sorted(names) == ["high", "low", "silent", "top"]
    assert "Invalid NextToken" in refusal(found.sagemaker.search, Resource="TrainingJob", NextToken="MTp4")


def test_search_goes_on_where_a_page_ended_though_a_job_went(fresh_lab: Any) -> None:
    for name in ("a", "b", "c"):
        fresh_lab.run(name, "exit 0")
    asked = {"Resource": "TrainingJob", "SortBy": "TrainingJobName", "SortOrder": "Ascending"}
    token = fresh_lab.sagemaker.search(**asked, MaxResults=2)["NextToken"]
    fresh_lab.sagemaker.delete_training_job(TrainingJobName="b")
    rest = fresh_lab.sagemaker.search(**asked, NextToken=token)["Results"]
    assert [result["TrainingJob"]["TrainingJobName"] for result in rest] == ["c"]
    token = fresh_lab.sagemaker.search(Resource="TrainingJob", SortBy="Tags.none", MaxResults=1)["NextToken"]
    fresh_lab.sagemaker.delete_training_job(TrainingJobName="a")
    assert len(fresh_lab.sagemaker.search(Resource="TrainingJob", SortBy="Tags.none", NextToken=token)["Results"]) == 1


def test_search_heeds_visibility_conditions(found: Found) -> None:
    assert found.names(VisibilityConditions=[{"Key": "Tags.team", "Value": "a"}]) == ["high", "low", "silent"]
    asked = {"Resource": "TrainingJob", "VisibilityConditions": [{"Key": "team", "Value": "a"}]}
    assert "Tags.<key>" in refusal(found.sagemaker.search, **asked)


def test_search_refuses_what_it_cannot_answer(found: Found, other_aws: Account) -> None:
    search = found.sagemaker.search
    unknown = {"Filters": [{"Name": "Nonsense", "Operator": "Exists"}]}
    assert "Unknown property name: Nonsense" in refusal(search, Resource="TrainingJob", SearchExpression=unknown)
    assert "Unknown property name" in refusal(search, Resource="TrainingJob", SortBy="Nonsense")
    nested = {"NestedFilters": [{"NestedPropertyName": "Nonsense", "Filters": unknown["Filters"]}]}
    assert "Unknown property name" in refusal(search, Resource="TrainingJob", SearchExpression=nested)
    assert "Unknown property name" in refusal(search, Resource="TrainingJob", SearchExpression={"SubExpressions": [unknown]})
    assert "at least one" in refusal(search, Resource="TrainingJob", SearchExpression={"Operator": "Or"})
    valueless = {"Filters": [{"Name": "TrainingJobName", "Operator": "Equals"}]}
    assert "needs a Value" in refusal(search, Resource="TrainingJob", SearchExpression=valueless)
    assert "not supported" in refusal(search, Resource="Image")
    assert "CrossAccount" in refusal(search, Resource="TrainingJob", CrossAccountFilterOption="CrossAccount")
    assert other_aws.client("sagemaker").search(Resource="TrainingJob")["Results"] == []


def test_search_finds_tuning_jobs(lab: Any) -> None:
    request = lab.request("unused")
    del request["TrainingJobName"]
    lab.sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="sought",
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "m"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1},
            "ParameterRanges": {"IntegerParameterRanges": [{"Name": "n", "MinValue": "1", "MaxValue": "2"}]},
        },
        TrainingJobDefinition={
            **request,
            "AlgorithmSpecification": {
                **request["AlgorithmSpecification"],
                "MetricDefinitions": [{"Name": "m", "Regex": "m=(\\S+)"}],
            },
        },
        Tags=[{"Key": "project", "Value": "titanic"}],
    )
    tagged = {"Filters": [{"Name": "Tags.project", "Operator": "Equals", "Value": "titanic"}]}
    (one,) = lab.sagemaker.search(Resource="HyperParameterTuningJob", SearchExpression=tagged)["Results"]
    assert one["HyperParameterTuningJob"]["HyperParameterTuningJobName"] == "sought"
    assert one["HyperParameterTuningJob"]["Tags"] == [{"Key": "project", "Value": "titanic"}]
    children = lambda: lab.sagemaker.search(Resource="TrainingJob", SearchExpression=tagged)["Results"]  # noqa: E731
    (child,) = eventually(children)
    assert child["TrainingJob"]["TuningJobArn"] == one["HyperParameterTuningJob"]["HyperParameterTuningJobArn"]
    ended = {"Filters": [{"Name": "HyperParameterTuningJobStatus", "Operator": "Equals", "Value": "Failed"}]}
    eventually(lambda: lab.sagemaker.search(Resource="HyperParameterTuningJob", SearchExpression=ended)["Results"])


def test_get_search_suggestions_names_properties(found: Found) -> None:
    def suggested(hint: str) -> list[str]:
        query = {"PropertyNameQuery": {"PropertyNameHint": hint}}
        answer = found.sagemaker.get_search_suggestions(Resource="TrainingJob", SuggestionQuery=query)
        return [entry["PropertyName"] for entry in answer["PropertyNameSuggestions"]]

    assert suggested("Metrics.") == ["Metrics.accuracy"]
    assert "HyperParameters.depth" in suggested("hyper")
    assert "Tags.team" in suggested("Tags")
    assert "TrainingJobName" in suggested("TrainingJob")
    assert suggested("nothing") == []
    everything = found.sagemaker.get_search_suggestions(Resource="TrainingJob")["PropertyNameSuggestions"]
    assert len(everything) > 40

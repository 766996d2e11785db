"""Image URIs and what stands for them; no server needed."""

from __future__ import annotations

import pytest

from pilvi.core.errors import Invalid
from pilvi.services.sagemaker.image import BUILTIN, NOT_BUILT, RUNTIMES, registries, runtime_for

ECR = "683313688378.dkr.ecr.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("name", "environment", "version"),
    [
        ("sagemaker-scikit-learn:0.23-1-cpu-py3", "scikit-learn", "0.23-1"),
        ("sagemaker-scikit-learn:1.4-2", "scikit-learn", "1.4-2"),
        ("pytorch-training:2.6.0-cpu-py312", "pytorch", "2.6.0"),
        ("pytorch-training:2.6.0-gpu-py312-cu126-ubuntu22.04-sagemaker", "pytorch", "2.6.0"),
        ("sagemaker-pytorch:1.0-cpu-py3", "pytorch", "1.0"),
        ("huggingface-pytorch-training:2.5.1-transformers4.49.0-gpu-py311-cu124-ubuntu22.04", "pytorch", "2.5.1"),
        ("smdistributed-modelparallel:2.4.1-gpu-py311", "pytorch", "2.4.1"),
        ("tensorflow-training:2.19.0-gpu-py312", "tensorflow", "2.19.0"),
        ("mxnet-training:1.9.0-cpu-py38", "mxnet", "1.9.0"),
        ("sagemaker-base-python", "", ""),
        ("sagemaker-spark-processing:3.5-cpu-py39-v1", "spark", "3.5"),
    ],
)
def test_a_framework_image_names_its_environment_and_version(name: str, environment: str, version: str) -> None:
    runtime = runtime_for(f"{ECR}/{name}")
    assert (runtime.environment, runtime.version) == (environment, version)
    assert runtime.env["PILVI_IMAGE"] == name


def test_account_and_region_do_not_matter() -> None:
    there = runtime_for("246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.5-1", {"sagemaker_program": "a.py"})
    china = runtime_for("450853457545.dkr.ecr.cn-north-1.amazonaws.com.cn/sagemaker-xgboost:1.5-1", {"sagemaker_program": "a.py"})
    assert there == china
    assert there.training_module


@pytest.mark.parametrize("name", ["sagemaker-xgboost:1.7-1", "xgboost:1", "xgboost:latest"])
def test_xgboost_without_a_program_is_the_algorithm(name: str) -> None:
    runtime = runtime_for(f"{ECR}/{name}", {"num_round": "3"})
    assert runtime.command == ("python3", "-m", "pilvi_algorithms.main", "xgboost", "train")
    assert runtime.support == BUILTIN


@pytest.mark.parametrize("name", ["linear-learner", "kmeans", "seq2seq", "image-classification"])
def test_builtin_algorithms_know_their_name(name: str) -> None:
    assert runtime_for(f"382416733822.dkr.ecr.us-east-1.amazonaws.com/{name}:1").command[3:] == (name, "train")


def test_every_algorithm_repository_is_there() -> None:
    assert len({runtime.command[3] for runtime in RUNTIMES.values() if runtime.support == BUILTIN}) == 17


def test_an_own_image_is_kept_whole() -> None:
    uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/mine:3"
    assert runtime_for(uri).image == uri


def test_an_own_repository_of_aws_name_is_the_own_one() -> None:
    uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:3"
    assert runtime_for(uri, account="123456789012").image == uri
    assert not runtime_for(f"{ECR}/pytorch-training:3", account="123456789012").image


@pytest.mark.parametrize("name", ["pytorch-training:3", "xgboost:1", "sagemaker-clarify-processing:1.0"])
def test_another_accounts_repository_of_aws_name_is_not_awss(name: str) -> None:
    uri = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{name}"
    assert runtime_for(uri, account="210987654321").image == uri


def test_every_registry_that_the_sdks_know_is_awss() -> None:
    assert {"683313688378", "763104351884", "811284229777", "382416733822", "173754725891", "081325390199"} <= registries()
    assert all(len(account) == 12 and account.isdigit() for account in registries())


def test_known_images_without_a_runtime_are_refused_by_name() -> None:
    for repository in NOT_BUILT:
        with pytest.raises(Invalid, match=repository):
            runtime_for(f"{ECR}/{repository}:1")


@pytest.mark.parametrize("uri", ["mine:1", "docker.io/library/python:3", ""])
def test_what_is_in_no_registry_is_not_found(uri: str) -> None:
    with pytest.raises(Invalid, match=r"Cannot find repository: .* an image of your own is named"):
        runtime_for(uri)

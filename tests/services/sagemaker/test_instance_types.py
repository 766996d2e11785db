"""Instance types: every type of the model has facts, and well-known ones the right ones."""

from __future__ import annotations

import botocore.session
import pytest

from pilvi.services.sagemaker.instance_types import _GIB_PER_VCPU, _OWN, instance_type, resources_for


def model_types() -> list[str]:
    model = botocore.session.get_session().get_service_model("sagemaker")
    return sorted({name for shape in ("TrainingInstanceType", "ProcessingInstanceType") for name in model.shape_for(shape).enum})


def test_every_type_of_the_model_has_facts() -> None:
    for name in model_types():
        family = name.split(".")[1]
        assert family in _GIB_PER_VCPU or name.removeprefix("ml.") in _OWN, name
        found = instance_type(name)
        assert found.vcpus >= 2, name
        assert found.memory_gib >= 3, name


def test_gpu_families_have_gpus_and_others_none() -> None:
    for name in model_types():
        found = instance_type(name)
        has_gpus = name.split(".")[1][0] in "gp"
        assert (found.gpus > 0) == has_gpus == bool(found.gpu) == (found.gpu_memory_gib > 0), name


@pytest.mark.parametrize(
    ("name", "vcpus", "memory_gib", "gpus", "gpu_memory_gib"),
    [
        ("ml.m5.large", 2, 8, 0, 0),
        ("ml.m5.24xlarge", 96, 384, 0, 0),
        ("ml.m4.10xlarge", 40, 160, 0, 0),
        ("ml.c4.8xlarge", 36, 60, 0, 0),
        ("ml.c5.9xlarge", 36, 72, 0, 0),
        ("ml.c5n.xlarge", 4, 10.5, 0, 0),
        ("ml.t3.medium", 2, 4, 0, 0),
        ("ml.t3.2xlarge", 8, 32, 0, 0),
        ("ml.c6g.medium", 1, 2, 0, 0),
        ("ml.r5.16xlarge", 64, 512, 0, 0),
        ("ml.c8i.96xlarge", 384, 768, 0, 0),
        ("ml.p2.xlarge", 4, 61, 1, 12),
        ("ml.p2.16xlarge", 64, 732, 16, 12),
        ("ml.p3.8xlarge", 32, 244, 4, 16),
        ("ml.p4d.24xlarge", 96, 1152, 8, 40),
        ("ml.p5.4xlarge", 16, 256, 1, 80),
        ("ml.p5.48xlarge", 192, 2048, 8, 80),
        ("ml.g4dn.12xlarge", 48, 192, 4, 16),
        ("ml.g4dn.16xlarge", 64, 256, 1, 16),
        ("ml.g5.xlarge", 4, 16, 1, 24),
        ("ml.g6e.xlarge", 4, 32, 1, 48),
        ("ml.g7e.48xlarge", 192, 2048, 8, 96),
        ("ml.trn1.32xlarge", 128, 512, 0, 0),
    ],
)
def test_well_known_types(name: str, vcpus: int, memory_gib: float, gpus: int, gpu_memory_gib: float) -> None:
    found = instance_type(name)
    assert (found.vcpus, found.memory_gib, found.gpus, found.gpu_memory_gib) == (vcpus, memory_gib, gpus, gpu_memory_gib)


def test_resources_are_those_of_the_type() -> None:
    wish = resources_for("ml.g5.12xlarge")
    assert (wish.cpus, wish.memory_mib, wish.gpus, wish.gpu_memory_mib) == (48, 196608, 4, 24576)
    assert resources_for("ml.trn1.2xlarge").extra == "1 AWS Trainium"


def test_a_family_of_tomorrow_is_general_purpose() -> None:
    assert (instance_type("ml.m99.2xlarge").vcpus, instance_type("ml.m99.2xlarge").memory_gib) == (8, 32)
    assert instance_type("ml.geospatial.interactive").vcpus == 2

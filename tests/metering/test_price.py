"""Prices: known, estimated, or none; and the Regions' names for usage."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction

import botocore.session
import pytest

from pilvi.metering import price_of, usage_type
from pilvi.metering.price import _prices
from pilvi.metering.rating import cents_of, decimal_of

DAY = date(2026, 11, 1)


@pytest.mark.parametrize(
    "usage", ["Train:ml.m5.xlarge", "Processing:ml.m5.xlarge", "Notebk:ml.m5.xlarge", "Studio:JupyterLab-ml.m5.xlarge"]
)
def test_an_instance_costs_the_same_in_all_its_uses(usage: str) -> None:
    price = price_of("AmazonSageMaker", usage, "us-east-1", DAY)
    assert price is not None
    assert (price.usd, price.unit, price.is_estimated) == (Decimal("0.23"), "Hrs", False)


def test_estimates_say_so_and_what_is_not_known_costs_nothing() -> None:
    estimated = price_of("AmazonSageMaker", "Train:ml.m7i.xlarge", "us-east-1", DAY)
    assert estimated is not None
    assert estimated.is_estimated
    assert "1.2 times" in estimated.source
    assert price_of("AmazonSageMaker", "Train:ml.p6-b300.48xlarge", "us-east-1", DAY) is None
    assert price_of("AmazonSageMaker", "Batch:ml.m5.large", "us-east-1", DAY) is None
    assert price_of("AmazonSageMaker", "Train:ml.m5.large", "us-east-1", date(2019, 1, 1)) is None


def test_other_regions_are_estimated_by_factor() -> None:
    price = price_of("AmazonSageMaker", "Train:ml.m5.large", "eu-central-1", DAY)
    assert price is not None
    assert (price.usd, price.is_estimated) == (Decimal("0.115") * Decimal("1.198"), True)
    assert price_of("AmazonSageMaker", "Train:ml.m5.large", "xx-nowhere-1", DAY) is None


def test_usage_types_have_the_regions_prefix() -> None:
    assert usage_type("AmazonSageMaker", "us-east-1", "Train:ml.m5.large") == "USE1-Train:ml.m5.large"
    assert usage_type("AmazonSageMaker", "eu-west-1", "Train:ml.m5.large") == "EU-Train:ml.m5.large"
    assert usage_type("AmazonEC2", "us-east-1", "BoxUsage:t3.micro") == "BoxUsage:t3.micro"
    assert usage_type("AmazonSageMaker", "xx-nowhere-1", "Train:ml.m5.large") == "Train:ml.m5.large"


def test_prices_are_of_types_that_are_there() -> None:
    model = botocore.session.get_session().get_service_model("sagemaker")
    shapes = ("TrainingInstanceType", "ProcessingInstanceType", "InstanceType", "AppInstanceType")
    names = {name for shape in shapes for name in model.shape_for(shape).enum}
    assert {usage for product, usage in _prices() if product == "AmazonSageMaker"} <= names


def test_amounts_are_rounded_once() -> None:
    assert decimal_of(Fraction("0.115") * 1000 / 3600) == "0.0319444444"
    assert (decimal_of(Fraction(0)), decimal_of(Fraction(20)), decimal_of(Fraction(1, 4))) == ("0", "20", "0.25")
    assert (cents_of(Fraction("1.935125")), cents_of(Fraction("0.005")), cents_of(Fraction("1.2349"))) == ("1.94", "0.01", "1.23")


def test_requests_and_bytes_of_s3_have_prices_and_bare_names_at_home() -> None:
    for usage, usd in (("Requests-Tier1", "0.000005"), ("Requests-Tier2", "0.0000004"), ("DataTransfer-Out-Bytes", "0.09")):
        price = price_of("AmazonS3", usage, "us-east-1", DAY)
        assert price is not None
        assert price.usd == Decimal(usd)
        assert usage_type("AmazonS3", "us-east-1", usage) == usage

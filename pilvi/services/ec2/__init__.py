"""Amazon EC2, as far as other services need it: the default network of each account and Region, and where Regions have zones."""

from pilvi.core.errors import Invalid
from pilvi.core.service import Service
from pilvi.services.ec2 import availability_zone, region, security_group, subnet, vpc, vpc_endpoint

service = Service(
    "ec2",
    vpc.ops,
    subnet.ops,
    security_group.ops,
    vpc_endpoint.ops,
    availability_zone.ops,
    region.ops,
    errors={Invalid: "InvalidParameterValue"},
)

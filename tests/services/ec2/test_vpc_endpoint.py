"""VPC endpoints to S3, and who comes through them: conditions on the source VPC, access points of one VPC."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, TestServer

SERVICE = "com.amazonaws.us-east-1.s3"


def refused(call: Any, **params: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**params)
    return str(caught.value.response["Error"]["Code"])


@pytest.fixture
def vpc(aws: Account) -> str:
    return str(aws.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"])


@pytest.fixture
def endpoint(aws: Account, vpc: str) -> dict[str, Any]:
    ec2 = aws.client("ec2")
    return dict(ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=SERVICE, VpcEndpointType="Interface")["VpcEndpoint"])


@pytest.fixture
def through(server: TestServer, aws: Account) -> Iterator[Callable[..., Any]]:
    """`through(endpoint, "s3")`: a client that calls an endpoint's own name; "" calls AWS's public one."""
    server.cloud.authority.prepare()
    trusted = str(server.cloud.authority.certificate_path)
    made: list[Any] = []

    def make(name: str, service: str = "s3", kind: str = "bucket") -> Any:
        url = f"https://{name.replace('*', kind)}" if name else None
        config = Config(proxies={"https": server.endpoint}, retries={"total_max_attempts": 1})
        made.append(aws.session.client(service, endpoint_url=url, verify=trusted, config=config))
        return made[-1]

    yield make
    for each in made:
        each.close()


def name_of(endpoint: dict[str, Any]) -> str:
    return str(endpoint["DnsEntries"][0]["DnsName"])


def test_create_vpc_endpoint_and_describe_it(aws: Account, vpc: str, endpoint: dict[str, Any]) -> None:
    ec2 = aws.client("ec2")
    gateway = ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=SERVICE)["VpcEndpoint"]
    assert (gateway["VpcEndpointType"], gateway["State"], gateway["OwnerId"]) == ("Gateway", "available", aws.account)
    assert name_of(endpoint).endswith(".s3.us-east-1.vpce.amazonaws.com")
    listed = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert {entry["VpcEndpointId"] for entry in listed} == {gateway["VpcEndpointId"], endpoint["VpcEndpointId"]}
    only = ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-endpoint-type", "Values": ["Interface"]}])["VpcEndpoints"]
    assert [entry["VpcEndpointId"] for entry in only] == [endpoint["VpcEndpointId"]]
    assert refused(ec2.describe_vpc_endpoints, VpcEndpointIds=["vpce-0"]) == "InvalidVpcEndpointId.NotFound"


def test_create_vpc_endpoint_refuses(aws: Account, vpc: str) -> None:
    create = aws.client("ec2").create_vpc_endpoint
    assert refused(create, VpcId="vpc-0", ServiceName=SERVICE) == "InvalidVpcId.NotFound"
    assert refused(create, VpcId=vpc, ServiceName="com.example") == "InvalidServiceName"
    assert refused(create, VpcId=vpc, ServiceName=SERVICE, SubnetIds=["subnet-0"]) == "InvalidParameter"
    assert (
        refused(create, VpcId=vpc, ServiceName=SERVICE, VpcEndpointType="Interface", SubnetIds=["subnet-0"])
        == "InvalidSubnetId.NotFound"
    )
    assert (
        refused(create, VpcId=vpc, ServiceName=SERVICE, VpcEndpointType="Interface", SecurityGroupIds=["sg-0"])
        == "InvalidGroup.NotFound"
    )
    assert refused(create, VpcId=vpc, ServiceName=SERVICE, PolicyDocument="{}") == "InvalidPolicyDocument"
    assert refused(create, VpcId=vpc, ServiceName="com.amazonaws.us-east-1.sqs", VpcEndpointType="Interface") == "NotImplemented"


def test_delete_vpc_endpoints_says_what_is_missing(aws: Account, endpoint: dict[str, Any]) -> None:
    ec2 = aws.client("ec2")
    answer = ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"], "vpce-0"])
    assert [entry["ResourceId"] for entry in answer["Unsuccessful"]] == ["vpce-0"]
    assert ec2.describe_vpc_endpoints()["VpcEndpoints"] == []


def test_a_bucket_that_is_open_to_one_vpc_only(
    aws: Account, vpc: str, endpoint: dict[str, Any], through: Callable[..., Any]
) -> None:
    bucket, s3 = f"inside-{aws.account}", aws.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    inside = through(name_of(endpoint))

    def only(condition: dict[str, Any]) -> None:
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{bucket}/*",
            "Condition": condition,
        }
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))

    for condition in (
        {"StringNotEquals": {"aws:SourceVpce": endpoint["VpcEndpointId"]}},
        {"StringNotEquals": {"aws:SourceVpc": vpc}},
        {"Null": {"aws:VpcSourceIp": "true"}},
        {"Null": {"aws:SourceIp": "false"}},
    ):
        only(condition)
        assert inside.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"
        assert refused(s3.get_object, Bucket=bucket, Key="k") == "AccessDenied"
        assert refused(through("").get_object, Bucket=bucket, Key="k") == "AccessDenied"
    only({"StringNotEquals": {"aws:SourceVpce": "vpce-0another"}})
    assert refused(inside.get_object, Bucket=bucket, Key="k") == "AccessDenied"
    s3.delete_bucket_policy(Bucket=bucket)
    aws.client("ec2").delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
    assert refused(inside.get_object, Bucket=bucket, Key="k") == "AccessDenied", "its name leads nowhere any more"


def test_an_access_point_of_one_vpc(aws: Account, vpc: str, endpoint: dict[str, Any], through: Callable[..., Any]) -> None:
    bucket, s3 = f"vpc-point-{aws.account}", aws.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    made = through("", "s3control").create_access_point(
        AccountId=aws.account, Name="inner", Bucket=bucket, VpcConfiguration={"VpcId": vpc}
    )
    found = through(name_of(endpoint), "s3control", "control").get_access_point(AccountId=aws.account, Name="inner")
    assert (found["NetworkOrigin"], found["VpcConfiguration"]) == ("VPC", {"VpcId": vpc})
    outside = through("")
    assert refused(outside.get_object, Bucket=made["AccessPointArn"], Key="k") == "AccessDenied"
    assert refused(s3.get_object, Bucket=made["Alias"], Key="k") == "AccessDenied"
    inside = through(name_of(endpoint), "s3", "accesspoint")
    assert inside.get_object(Bucket=made["AccessPointArn"], Key="k")["Body"].read() == b"1"
    assert through(name_of(endpoint)).get_object(Bucket=made["Alias"], Key="k")["Body"].read() == b"1"


def test_the_endpoints_own_policy_lets_through(
    aws: Account, vpc: str, endpoint: dict[str, Any], through: Callable[..., Any]
) -> None:
    ec2, s3, bucket, id = aws.client("ec2"), aws.client("s3"), f"gate-{aws.account}", endpoint["VpcEndpointId"]
    s3.create_bucket(Bucket=bucket)
    inside = through(name_of(endpoint))
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    ec2.modify_vpc_endpoint(VpcEndpointId=id, PolicyDocument=policy)
    assert ec2.describe_vpc_endpoints(VpcEndpointIds=[id])["VpcEndpoints"][0]["PolicyDocument"] == policy
    inside.put_object(Bucket=bucket, Key="k", Body=b"1")
    with pytest.raises(ClientError, match="because no VPC endpoint policy allows the s3:GetObject action"):
        inside.get_object(Bucket=bucket, Key="k")
    assert refused(inside.list_buckets) == "AccessDenied"
    control = through(name_of(endpoint), "s3control", "control")
    assert refused(control.list_access_points, AccountId=aws.account) == "AccessDenied"
    deny = json.dumps({"Version": "2012-10-17", "Statement": [statement, {**statement, "Effect": "Deny"}]})
    ec2.modify_vpc_endpoint(VpcEndpointId=id, PolicyDocument=deny)
    with pytest.raises(ClientError, match="with an explicit deny in a VPC endpoint policy"):
        inside.put_object(Bucket=bucket, Key="k", Body=b"1")
    ec2.modify_vpc_endpoint(VpcEndpointId=id, ResetPolicy=True)
    assert control.list_access_points(AccountId=aws.account)["AccessPointList"] == []
    assert inside.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"
    assert refused(ec2.modify_vpc_endpoint, VpcEndpointId="vpce-0", ResetPolicy=True) == "InvalidVpcEndpointId.NotFound"
    assert refused(ec2.modify_vpc_endpoint, VpcEndpointId=id, PolicyDocument="{") == "InvalidPolicyDocument"
    assert refused(ec2.modify_vpc_endpoint, VpcEndpointId=id, AddRouteTableIds=["rtb-0"]) == "NotImplemented"


def test_the_endpoints_policy_holds_for_browser_forms_too(
    server: TestServer, aws: Account, vpc: str, endpoint: dict[str, Any]
) -> None:
    ec2, s3, bucket = aws.client("ec2"), aws.client("s3"), f"forms-{aws.account}"
    s3.create_bucket(Bucket=bucket)
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint["VpcEndpointId"], PolicyDocument=policy)
    form = s3.generate_presigned_post(bucket, "k")
    mark = "formmark"
    parts = [f'--{mark}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in form["fields"].items()]
    parts.append(f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n--{mark}--\r\n')

    def post(host: str) -> int:
        connection = http.client.HTTPConnection(server.endpoint.partition("://")[2])
        headers = {"Host": host, "Content-Type": f"multipart/form-data; boundary={mark}"}
        connection.request("POST", f"/{bucket}", "".join(parts).encode(), headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    assert post("s3.us-east-1.amazonaws.com") == 204
    assert post(name_of(endpoint).replace("*", "bucket")) == 403

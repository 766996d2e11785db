"""The bill's own address: signed, permitted, one's own."""

from __future__ import annotations

import json
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from tests.services.ce.test_cost_and_usage import MONTH, at, refusal, used


def ask(server: Any, caller: Any, month: str = f"{MONTH:%Y-%m}", method: str = "GET") -> tuple[int, Any]:
    request = AWSRequest(method, f"{server.endpoint}/_aws/bill/{month}")
    if caller is not None:
        SigV4Auth(Credentials(caller.access_key_id, caller.secret), "ce", "us-east-1").add_auth(request)
    answer = URLLib3Session().send(request.prepare())
    return answer.status_code, json.loads(answer.content)


def test_bill_adds_up_a_month(aws: Any, other_aws: Any, server: Any) -> None:
    used(server, aws.account, "one", at(3, "10:00:00"), 5430, types=["ml.m5.large"])
    used(server, aws.account, "two", at(4, "10:00:00"), 3600, types=["ml.m5.large"])
    used(server, aws.account, "new", at(5, "10:00:00"), 3600, types=["ml.p6-b300.48xlarge"])
    used(server, aws.account, "guess", at(5, "10:00:00"), 3600, types=["ml.m7i.large"], is_interruptible=True)
    status, found = ask(server, aws)
    assert (status, found["usd"], found["usd_exact"], found["is_running_month"]) == (200, "0.41", "0.4094583333", False)
    (service,) = found["services"]
    shown = {usage["usage_type"]: (usage["usd"], usage["quantity"], usage["is_estimated"]) for usage in service["usage"]}
    assert shown == {
        "USE1-Train:ml.m5.large": ("0.29", "2.5083333333", False),
        "USE1-Train:ml.m7i.large": ("0.12", "1", True),
        "USE1-Train:ml.p6-b300.48xlarge": ("0.00", "1", False),
    }
    assert [usage["price_source"] for usage in service["usage"]][-1] == "no price known: nothing is asked"
    assert ask(server, other_aws)[1]["services"] == []


def test_bill_is_for_those_who_may_see_it(aws: Any, server: Any) -> None:
    nobody = aws.user("nobody")
    reader = aws.user("reader", {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ce:Get*", "Resource": "*"}]})
    assert ask(server, None)[0] == 403
    assert ask(server, nobody)[0] == 403
    assert ask(server, reader)[0] == 200
    assert ask(server, aws, method="POST")[0] == 405
    assert ask(server, aws, month="soon") == (400, {"message": "soon is no month: write it as 2026-11."})
    period = {"Start": f"{MONTH:%Y-%m-%d}", "End": f"{MONTH:%Y-%m}-02"}
    denied = refusal(nobody.client("ce").get_tags, TimePeriod=period)
    assert denied[0] == "AccessDeniedException"

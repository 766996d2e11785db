"""Plain HTTP that is no AWS API, by host or path. A fixed table: each row is a site of a service.

    apigateway  execute-api    <api-id>.execute-api.*      /_aws/execute-api/<api-id>/<stage>/...   /restapis/<api-id>/<stage>/_user_request_/...
    lambda      function-url   <url-id>.lambda-url.*       /_aws/lambda-url/<url-id>/...
    lambda      runtime-api    <token>.lambda-runtime.*    /_pilvi/lambda/<token>/...
    sagemaker   notebook                                   /_aws/notebook/<kind>/...
    sagemaker   spot                                       /_aws/spot/<job>   (signed)
    ce          bill                                       /_aws/bill/<month> (signed)
    sns         mail                                       /_aws/mail/<id> (signed)
    sns         certificate                                /SimpleNotificationService-<digest>.pem
    ecr         registry       <account>.dkr.ecr.*         /v2/...                     unsigned only: container clients sign nothing
    ecr-public  registry       public.ecr.aws              /v2/public.ecr.aws/...
    s3          website        <bucket>.s3-website[-.]<region>.amazonaws.com, <bucket>.s3-website.localhost
    s3          preflight      OPTIONS on a bucket or object (CORS)
    s3          post-object    POST of a browser's form to a bucket

The last two are found by the S3 part of route.py. path_params hold the id and `rest`, the raw path from the next slash on; those
of S3's sites are Bucket, Key and, for websites, Region.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote


class Site(NamedTuple):
    service: str
    name: str
    path_params: dict[str, str]


_BY_HOST = (
    (".execute-api.", "apigateway", "execute-api", "api_id"),
    (".lambda-url.", "lambda", "function-url", "url_id"),
    (".lambda-runtime.", "lambda", "runtime-api", "token"),
)
_BY_PATH = (
    ("/_aws/execute-api/", "apigateway", "execute-api", "api_id"),
    ("/_aws/lambda-url/", "lambda", "function-url", "url_id"),
    ("/_pilvi/lambda/", "lambda", "runtime-api", "token"),
    ("/_aws/notebook/", "sagemaker", "notebook", "kind"),
    ("/_aws/spot/", "sagemaker", "spot", "job"),
    ("/_aws/bill/", "ce", "bill", "month"),
    ("/_aws/mail/", "sns", "mail", "letter"),
)
_CERTIFICATE = "/SimpleNotificationService-"
"""No bucket has capitals in its name."""
_USER_REQUEST = "/_user_request_"
_WEBSITE = re.compile(
    r"(?:(?P<bucket>[a-z0-9.-]+)\.)?s3-website(?:[.-](?P<region>[a-z]{2,4}(?:-[a-z]+)+-\d))?\.(?:localhost|amazonaws\.com(?:\.cn)?)(?::\d+)?\Z"
)


def find_site(host: str, raw_path: str) -> Site | None:
    """The site a request is for; None for AWS's own APIs."""
    if raw_path.startswith("/_"):
        for prefix, service, name, key in _BY_PATH:
            if raw_path.startswith(prefix):
                found, slash, rest = raw_path[len(prefix) :].partition("/")
                return Site(service, name, {key: found, "rest": slash + rest or "/"})
    elif raw_path.startswith(_CERTIFICATE) and raw_path.endswith(".pem"):
        return Site("sns", "certificate", {"name": raw_path[1:]})
    elif raw_path.startswith("/restapis/") and _USER_REQUEST in raw_path:
        return _user_request(raw_path)
    for part, service, name, key in _BY_HOST:
        if part in host:
            return Site(service, name, {key: host.partition(".")[0], "rest": raw_path})
    if "s3-website" in host and (page := _WEBSITE.match(host)) is not None:
        labels = {"Bucket": page["bucket"] or "", "Key": unquote(raw_path[1:]), "Region": page["region"] or ""}
        return Site("s3", "website", labels)
    return None


def find_registry(host: str, raw_path: str) -> Site | None:
    """The image registry that an unsigned request is for. No bucket is called `v2`: their names have three letters at least."""
    if host.partition(":")[0] == "public.ecr.aws" or raw_path.startswith("/v2/public.ecr.aws/"):
        return Site("ecr-public", "registry", {"rest": raw_path})
    if ".dkr.ecr" in host or ".dkr-ecr" in host or raw_path == "/v2" or raw_path.startswith("/v2/"):
        return Site("ecr", "registry", {"rest": raw_path})
    return None


def _user_request(raw_path: str) -> Site | None:
    """/restapis/<api-id>/<stage>/_user_request_/<path>"""
    head, _, rest = raw_path.partition(_USER_REQUEST)
    parts = head.split("/")
    if len(parts) != 4 or (rest and not rest.startswith("/")):
        return None
    return Site("apigateway", "execute-api", {"api_id": parts[2], "rest": f"/{parts[3]}{rest}"})

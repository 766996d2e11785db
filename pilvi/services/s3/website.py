"""A bucket as a website: what it is told about pages, errors and redirects. website_site.py serves it.

Source: S3 User Guide, "Hosting a static website using Amazon S3" and "Configuring a webpage redirect".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import get_bucket
from pilvi.services.s3.errors import invalid_argument, invalid_request, malformed_xml

ops = Operations()

RULES = 50


@ops
def put_bucket_website(ctx: Context, req: Mapping[str, Any]) -> None:
    """Make the bucket a website.

    req: Bucket, WebsiteConfiguration {IndexDocument {Suffix}, ErrorDocument {Key}, RoutingRules (1-50), or RedirectAllRequestsTo
    {HostName, Protocol} alone}.
    Errors: InvalidArgument - no index document, a suffix that is empty or has a slash, both kinds; InvalidRequest - a rule that
    makes no sense; MalformedXML.
    Source: S3 API Reference, PutBucketWebsite.
    """
    configuration = {name: value for name, value in req["WebsiteConfiguration"].items() if value is not None}
    if "RedirectAllRequestsTo" in configuration:
        check_redirect_all(configuration)
    else:
        check_pages(configuration)
    change_bucket(ctx, req["Bucket"], Website=configuration)


@ops
def get_bucket_website(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The website configuration.

    Errors: NoSuchWebsiteConfiguration.
    Source: S3 API Reference, GetBucketWebsite.
    """
    configuration: Mapping[str, Any] | None = get_bucket(ctx, req["Bucket"]).value.get("Website")
    if configuration is None:
        raise no_website(req["Bucket"])
    return configuration


@ops
def delete_bucket_website(ctx: Context, req: Mapping[str, Any]) -> None:
    """Make it a plain bucket again; none to take away is as good.

    Source: S3 API Reference, DeleteBucketWebsite.
    """
    if "Website" in get_bucket(ctx, req["Bucket"]).value:
        change_bucket(ctx, req["Bucket"], Website=None)


def no_website(bucket: str) -> ServiceError:
    return ServiceError(
        "NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration", 404, BucketName=bucket
    )


# -- validation -----------------------------------------------------------------------------------------------------------


def check_redirect_all(configuration: Mapping[str, Any]) -> None:
    if len(configuration) > 1:
        raise invalid_argument(
            "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules.", "RedirectAllRequestsTo", "not null"
        )
    target = configuration["RedirectAllRequestsTo"]
    if not target.get("HostName"):
        raise malformed_xml()
    check_protocol(target.get("Protocol"))


def check_pages(configuration: Mapping[str, Any]) -> None:
    index = configuration.get("IndexDocument")
    if index is None:
        raise invalid_argument(
            "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty", "IndexDocument", "null"
        )
    suffix = index.get("Suffix") or ""
    if not suffix or "/" in suffix:
        raise invalid_argument("The IndexDocument Suffix is not well formed", "IndexDocument", suffix)
    if "ErrorDocument" in configuration and not configuration["ErrorDocument"].get("Key"):
        raise malformed_xml()
    rules = configuration.get("RoutingRules")
    if rules is None:
        return
    if not rules:
        raise malformed_xml()
    if len(rules) > RULES:
        raise invalid_request(
            f"{len(rules)} routing rules provided, the number of routing rules in a website configuration is limited to {RULES}."
        )
    for rule in rules:
        check_rule(rule)


def check_rule(rule: Mapping[str, Any]) -> None:
    if "Redirect" not in rule:
        raise malformed_xml()
    redirect = rule["Redirect"]
    if not redirect:
        raise invalid_request("Redirect cannot be empty.")
    if "ReplaceKeyPrefixWith" in redirect and "ReplaceKeyWith" in redirect:
        raise invalid_request("You can only define ReplaceKeyPrefix or ReplaceKey but not both.")
    check_protocol(redirect.get("Protocol"))
    code = redirect.get("HttpRedirectCode")
    if code is not None and not is_code(code, "3", "300"):
        raise invalid_request(f"The provided HTTP redirect code ({code}) is not valid. Valid codes are 3XX except 300.")
    if "Condition" not in rule:
        return
    condition = rule["Condition"]
    if not condition:
        raise invalid_request(
            "Condition cannot be empty. To redirect all requests without a condition, the condition element shouldn't be present."
        )
    error = condition.get("HttpErrorCodeReturnedEquals")
    if error is not None and not (is_code(error, "4") or is_code(error, "5")):
        raise invalid_request(f"The provided HTTP error code ({error}) is not valid. Valid codes are 4XX or 5XX.")


def is_code(code: str, first: str, but: str = "") -> bool:
    return len(code) == 3 and code.isdecimal() and code.isascii() and code[0] == first and code != but


def check_protocol(protocol: str | None) -> None:
    if protocol not in (None, "http", "https"):
        raise invalid_request(
            "Invalid protocol, protocol can be http or https. If not defined the protocol will be selected automatically."
        )

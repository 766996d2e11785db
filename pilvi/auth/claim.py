"""What a request says about who signed it; nothing in it is believed before `sigv4.verify`."""

from __future__ import annotations

from typing import Literal, NamedTuple

ClaimKind = Literal["header", "query", "v2-header", "v2-query"]
Streaming = Literal["", "signed", "signed-trailer", "unsigned-trailer"]

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
STREAMING_MODES: dict[str, Streaming] = {
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": "signed",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": "signed-trailer",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER": "unsigned-trailer",
}


FORM = "form"
"""The service of a claim that a browser's form made, once it is verified."""


class Claim(NamedTuple):
    kind: ClaimKind
    access_key_id: str
    signature: str
    date: str = ""
    """The day of the credential scope: 20260102."""
    region: str = ""
    """'' for Signature Version 2, which knows no Regions."""
    service: str = ""
    """The signing name in the scope; 's3' for Signature Version 2."""
    signed_headers: tuple[str, ...] = ()
    timestamp: str = ""
    """When it was signed: 20260102T030405Z. '' for a Version 2 query, which tells only when it ends."""
    session_token: str = ""
    expires_s: int | None = None
    """For a presigned URL: how long it lives; for a Version 2 query: when it ends, in seconds since 1970."""
    payload_hash: str = ""
    """The declared x-amz-content-sha256, '' when there is none."""
    streaming: Streaming = ""
    """How an aws-chunked body is signed."""

    @property
    def is_presigned(self) -> bool:
        return self.kind in ("query", "v2-query")

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"

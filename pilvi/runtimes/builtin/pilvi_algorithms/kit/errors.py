"""What may go wrong, by who can mend it. The words go to /opt/ml/output/failure and so into FailureReason."""

from __future__ import annotations


class ClientError(Exception):
    """The user can mend it: a hyperparameter, a channel, the data. The job fails with `ClientError: ...`."""

    def __init__(self, message: str, cause: str = "", kind: str = "") -> None:
        """`kind` and `cause` tell what lies beneath, as AWS's algorithms do: `... (caused by ValidationError)`."""
        told = f"{message} (caused by {kind})" if kind else message
        super().__init__(f"{told}\n\nCaused by: {cause}" if cause else told)


class RequestError(Exception):
    """An inference request that cannot be answered."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status

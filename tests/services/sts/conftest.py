"""What tests of STS share with those of IAM."""

from tests.services.iam.conftest import iam, refused

__all__ = ["iam", "refused"]

"""Client-side encryption: a data key from KMS, bytes sealed before they leave the client, and all that is needed in the metadata.

The format is that of the S3 encryption client, version 2.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilvi.testing.server import Account, TestServer

CIPHER = "AES/GCM/NoPadding"


def put_encrypted(aws: Account, bucket: str, key: str, data: bytes, key_id: str) -> None:
    context = {"aws:x-amz-cek-alg": CIPHER}
    made = aws.client("kms").generate_data_key(KeyId=key_id, KeySpec="AES_256", EncryptionContext=context)
    nonce = os.urandom(12)
    metadata = {
        "x-amz-key-v2": base64.b64encode(made["CiphertextBlob"]).decode(),
        "x-amz-iv": base64.b64encode(nonce).decode(),
        "x-amz-cek-alg": CIPHER,
        "x-amz-wrap-alg": "kms+context",
        "x-amz-tag-len": "128",
        "x-amz-matdesc": json.dumps(context),
    }
    sealed = AESGCM(made["Plaintext"]).encrypt(nonce, data, None)
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=sealed, Metadata=metadata)


def get_decrypted(aws: Account, bucket: str, key: str) -> bytes:
    got = aws.client("s3").get_object(Bucket=bucket, Key=key)
    metadata = got["Metadata"]
    wrapped = base64.b64decode(metadata["x-amz-key-v2"])
    opened = aws.client("kms").decrypt(CiphertextBlob=wrapped, EncryptionContext=json.loads(metadata["x-amz-matdesc"]))
    return AESGCM(opened["Plaintext"]).decrypt(base64.b64decode(metadata["x-amz-iv"]), got["Body"].read(), None)


def test_what_a_client_encrypts_only_a_client_decrypts(aws: Account, s3: Any, server: TestServer, bucket: str) -> None:
    key_id = aws.client("kms").create_key()["KeyMetadata"]["KeyId"]
    data = b"only the client knows this sentence " * 10_000
    put_encrypted(aws, bucket, "k", data, key_id)
    assert get_decrypted(aws, bucket, "k") == data
    stored = s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    assert data[:36] not in stored
    assert not any(data[:36] in path.read_bytes() for path in Path(server.config.data_dir).rglob("*") if path.is_file())

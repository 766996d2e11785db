"""What unmodified clients need beside an endpoint: a certificate to trust, AWS's host names led here, the SageMaker SDK's defaults.

    <data dir>/clients/ca.pem                     the server's own authority (pilvi.gateway.authority)
                       ca-bundle.pem              the same together with those that this machine trusts
                       models/endpoints.json      botocore's own, with STS led here: the SageMaker SDK asks STS by its literal name
                       <account>-<region>.yaml    the SageMaker SDK's defaults: its bucket, no telemetry, an image for @remote

The same files serve a shell (`pilvi env`) and the jobs, functions and notebooks that the server starts.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import botocore.loaders

from pilvi.compute import Bind
from pilvi.core.service import ClientSide

CERTIFICATE = "clients/ca.pem"
"""Below the data directory: the authority's certificate."""
LOOPBACK = "127.0.0.1,localhost,::1"
INSIDE = "/var/lib/pilvi-client"
"""Where a program that the server starts finds these files."""
REMOTE_IMAGE = "081325390199.dkr.ecr.{region}.amazonaws.com/sagemaker-base-python-311:1.0"
"""What @remote runs in where the caller names no image. Source: SageMaker Distribution's account, "SageMaker Base Python"."""


class Clients:
    """The files of one data directory; made when they are asked for, again when what they say has changed."""

    def __init__(self, data_dir: Path, endpoint: str) -> None:
        self._folder = data_dir / "clients"
        self._endpoint = endpoint
        self._port = endpoint.rpartition(":")[2]

    def bundle(self) -> Path:
        """Certificates to trust: this machine's, and the server's own."""
        return self._written("ca-bundle.pem", system_certificates() + (self._folder / "ca.pem").read_text())

    def models(self) -> Path:
        """botocore's endpoints with STS of every Region here, over TLS; the SageMaker SDK reads it in ~/.aws/models and nowhere else."""
        endpoints = botocore.loaders.create_loader().load_data("endpoints")
        return self._written("models/endpoints.json", json.dumps(led_here(endpoints, f"localhost:{self._port}")))

    def defaults(self, account: str, region: str) -> Path:
        """The SageMaker SDK's administrator defaults (JSON, which YAML readers read)."""
        modules = {
            "TelemetryOptOut": True,
            "Session": {"DefaultS3Bucket": f"sagemaker-{region}-{account}"},
            "RemoteFunction": {"ImageUri": REMOTE_IMAGE.format(region=region)},
        }
        content = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": modules}}}
        return self._written(f"{account}-{region}.yaml", json.dumps(content, indent=1))

    def shell(self, account: str, region: str, *, proxy: bool) -> dict[str, str]:
        """Variables for a shell. proxy: AWS's own host names, by way of this server; else its endpoint."""
        found = {
            "AWS_DEFAULT_REGION": region,
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CA_BUNDLE": str(self.bundle()),
            "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(self.defaults(account, region)),
        }
        if not proxy:
            return {"AWS_ENDPOINT_URL": self._endpoint, **found}
        return found | self._proxy(str(self.bundle()))

    def inside(self, account: str, region: str) -> ClientSide:
        """The same for a program that the server starts: the endpoint, and the proxy for whoever insists on AWS's names."""
        bundle, defaults = f"{INSIDE}/ca-bundle.pem", f"{INSIDE}/sagemaker.yaml"
        env = {
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "AWS_CA_BUNDLE": bundle,
            "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": defaults,
            **self._proxy(bundle),
        }
        return ClientSide(env, (Bind(self.bundle(), bundle), Bind(self.defaults(account, region), defaults)))

    # -- private ------------------------------------------------------------------------------------------------------

    def _proxy(self, bundle: str) -> dict[str, str]:
        return {
            "HTTPS_PROXY": self._endpoint,
            "NO_PROXY": LOOPBACK,
            "REQUESTS_CA_BUNDLE": bundle,
            "SSL_CERT_FILE": bundle,
        }

    def _written(self, name: str, content: str) -> Path:
        """The file with this content; whole, whenever somebody reads it."""
        path = self._folder / name
        if path.is_file() and path.read_text() == content:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
        draft.write_text(content)
        os.replace(draft, path)
        return path


def led_here(endpoints: Mapping[str, Any], host: str) -> dict[str, Any]:
    """botocore's endpoints with every STS host name replaced."""
    partitions = []
    for partition in endpoints["partitions"]:
        services = dict(partition["services"])
        if "sts" in services:
            regions = {name: {**entry, "hostname": host} for name, entry in services["sts"].get("endpoints", {}).items()}
            for region in partition.get("regions", {}):
                regions.setdefault(region, {"hostname": host})
            services["sts"] = {**services["sts"], "endpoints": {name: _plain(entry) for name, entry in regions.items()}}
        partitions.append({**partition, "services": services})
    return {**endpoints, "partitions": partitions}


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Without the variants (FIPS, dual stack), whose host names would lead away again."""
    return {name: value for name, value in entry.items() if name != "variants"}


def system_certificates() -> str:
    """What this machine trusts, else what botocore does."""
    known = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    path = Path(known)
    if not path.is_file():
        path = Path(botocore.__file__).parent / "cacert.pem"
    return path.read_text().rstrip("\n") + "\n"

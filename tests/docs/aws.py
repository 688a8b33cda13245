"""AWS on loopback: what the AWS CLI's commands of the documentation are answered by, with an account made for them.

`moto` checks the requests and nothing of the packages; what it tells of those is their size and `CodeSha256`.

python -m docs.aws               serve until the input ends; the first line of the output is the address
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ACCOUNT: Final = "111122223333"
REGION: Final = "eu-central-1"
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/lambda-basic"
FUNCTION: Final = "orders"
"""A function for python3.13 on arm64 that is there."""
BUCKET: Final = "my-packages"
_TESTS: Final = Path(__file__).parents[1]


@contextlib.contextmanager
def served() -> Iterator[Mapping[str, str]]:
    """Serve it, for as long as it lasts; give the variables by which AWS' programs find it."""
    for module in ("awscli", "moto"):
        pytest.importorskip(module)
    environment = {**os.environ, "PYTHONPATH": str(_TESTS), "MOTO_ACCOUNT_ID": ACCOUNT, **_variables("")}
    with subprocess.Popen(
        [sys.executable, "-m", "docs.aws"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            address = running.stdout.readline().strip()
            assert address.startswith("http://"), "the server does not start"
            yield _variables(address)
        finally:
            running.stdin.close()


def _variables(address: str) -> dict[str, str]:
    given = {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    return {**given, "AWS_ENDPOINT_URL": address} if address else given


def _make_account(address: str) -> None:
    """Make what the documentation takes for granted: a role, a function, a bucket."""
    import boto3  # type: ignore[import-untyped]

    # Nothing is run: for that moto wants Docker.
    asked = urllib.request.Request(
        f"{address}/moto-api/config", json.dumps({"lambda": {"use_docker": False}}).encode(), method="POST"
    )
    urllib.request.urlopen(asked, timeout=60).close()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", "def lambda_handler(event, context): ...\n")

    def client(name: str) -> Any:
        return boto3.client(name, endpoint_url=address, region_name=REGION)

    client("iam").create_role(RoleName=ROLE.rpartition("/")[2], AssumeRolePolicyDocument="{}")
    client("lambda").create_function(
        FunctionName=FUNCTION,
        Runtime="python3.13",
        Architectures=["arm64"],
        Handler="app.lambda_handler",
        Role=ROLE,
        Code={"ZipFile": packed.getvalue()},
    )
    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})


def main() -> None:
    """Serve it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    _make_account(address)
    print(address, flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()

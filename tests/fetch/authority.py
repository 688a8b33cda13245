"""An authority of one's own, as organisations have, and certificates signed by it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def openssl(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    """Run `openssl` in a folder and give what it prints."""
    return subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, input=given).stdout


def make_authority(folder: Path) -> None:
    """Write `ca.pem`, and `server.pem` with `server.key` for a server on 127.0.0.1."""
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    (folder / "ca.cnf").write_text("basicConstraints=critical,CA:TRUE\n")
    (folder / "server.cnf").write_text("subjectAltName=IP:127.0.0.1\n")
    ca, server = ("-keyout", "ca.key", "-out", "ca.csr"), ("-keyout", "server.key", "-out", "server.csr")
    openssl(folder, "req", *new_key, *ca, "-subj", "/CN=Our authority")
    itself = ("-in", "ca.csr", "-signkey", "ca.key", "-out", "ca.pem", "-extfile", "ca.cnf")
    openssl(folder, "x509", "-req", "-days", "2", *itself)
    openssl(folder, "req", *new_key, *server, "-subj", "/CN=server")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "server.cnf")
    openssl(folder, "x509", "-req", "-days", "2", "-in", "server.csr", "-out", "server.pem", *signing)

"""Audit one package in a process that may not grow, and print what came of it; run by `test_limits`."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path


def main() -> None:
    """`limited.py PATH BYTES`: the address space may have so many bytes."""
    path, limit = Path(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    from manylambda.errors import ManylambdaError
    from manylambda.pipeline.audit import examine
    from manylambda.target import Target

    started = time.monotonic()
    error, rules = None, []
    try:
        report = examine(path, Target.parse("python3.13-x86_64"), handler="app.handler", offline=True).report
        rules = sorted({finding.rule for finding in report.findings})
    except ManylambdaError as refusal:
        error = refusal.message
    print(json.dumps({"error": error, "rules": rules, "seconds": time.monotonic() - started}))


if __name__ == "__main__":
    main()

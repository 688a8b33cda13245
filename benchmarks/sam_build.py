"""Build one folder as `sam build` does, without its command line; run by the Python that has aws-lambda-builders.

`python sam_build.py SOURCE ARTIFACTS SCRATCH`: SOURCE holds `requirements.txt` and the function's files.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aws_lambda_builders.builder import LambdaBuilder  # type: ignore[import-not-found]


def main(source: str, artifacts: str, scratch: str) -> None:
    builder = LambdaBuilder(language="python", dependency_manager="pip", application_framework=None)
    builder.build(
        source_dir=source,
        artifacts_dir=artifacts,
        scratch_dir=scratch,
        manifest_path=str(Path(source) / "requirements.txt"),
        runtime="python3.13",
        architecture="arm64",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

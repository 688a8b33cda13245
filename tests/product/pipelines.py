"""Runs what a CI would: the shell steps of a workflow, an action, a pipeline or a build, by bash, as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_EXPRESSION: Final = re.compile(r"\$\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_PASSED: Final = ("UV_", "PIP_C", "SSL_CERT", "REQUESTS_CA", "HTTP", "http", "NO_COLOR", "LANG", "MANYLAMBDA_CACHE_DIR")
"""What tests set of the environment, and the way to the index; nothing else of it reaches a step."""


class _Loader(yaml.SafeLoader):
    """Without booleans, of which YAML 1.1 has too many."""


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def loaded(path: Path) -> dict[str, Any]:
    """Give a document with its words as they stand: GitHub's `on` is a key, and `true` is left as text."""

    document: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    return document


def machine(folder: Path) -> Path:
    """Make the programs of a runner: a Python with a pip that finds manylambda installed, and its command.

    So no step asks an index for the version that is being tested and nowhere published.
    """
    subprocess.run(
        [getattr(sys, "_base_executable", sys.executable), "-m", "venv", "--without-pip", folder], check=True
    )
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "tested.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    command = folder / "bin" / "manylambda"
    command.write_text(f"#!{folder / 'bin' / 'python'}\nfrom manylambda.cli import run\n\nrun()\n")
    command.chmod(0o755)
    return folder / "bin"


@dataclass(kw_only=True)
class Job:
    """The steps of one job, one after the other, in a checkout."""

    checkout: Path
    temporary: Path
    programs: Path
    context: dict[str, str] = field(default_factory=dict)
    """What expressions mean: `matrix.target`, `steps.build.outputs.path`."""
    environment: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    """What each step wrote, both streams."""

    @property
    def summary(self) -> str:
        """What the job's summary shows."""
        file = self.temporary / "summary"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def run(self, steps: Iterable[Mapping[str, Any]], *, folder: str = ".") -> int:
        """Run the steps that are shell, until one fails; return its status, or 0."""
        for step in steps:
            if "run" not in step:
                continue
            environment = {name: self.expanded(str(value)) for name, value in step.get("env", {}).items()}
            assert "${{" not in step["run"], "an expression in a script is an injection"
            shell = ("--noprofile", "--norc", "-eo", "pipefail") if step.get("shell") == "bash" else ("-e",)
            output = self.temporary / "output"
            output.write_text("")
            status = self.shell(step["run"], shell, environment, folder)
            if status:
                return status
            for line in output.read_text(encoding="utf-8").splitlines():
                name, _, value = line.partition("=")
                self.context[f"steps.{step['id']}.outputs.{name}"] = value
        return 0

    def lines(self, commands: Iterable[str], *, folder: str = ".") -> int:
        """Run commands in one shell, as GitLab and CodeBuild do, until one fails."""
        return self.shell("\n".join(commands), ("-eo", "pipefail"), {}, folder)

    def shell(self, script: str, options: Sequence[str], environment: Mapping[str, str], folder: str) -> int:
        """Run one script; return its status."""
        file = self.temporary / "script.sh"
        file.write_text(script, encoding="utf-8")
        done = subprocess.run(
            ["bash", *options, file],
            cwd=self.checkout / folder,
            env={
                **{name: value for name, value in os.environ.items() if name.startswith(_PASSED)},
                "PATH": f"{self.programs}:/usr/local/bin:/usr/bin:/bin",
                "HOME": str(self.temporary),
                "RUNNER_TEMP": str(self.temporary),
                "GITHUB_OUTPUT": str(self.temporary / "output"),
                "GITHUB_STEP_SUMMARY": str(self.temporary / "summary"),
                **self.environment,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=3000,
            check=False,
        )
        self.told.append(done.stdout.decode())
        return done.returncode

    def expanded(self, text: str) -> str:
        """Give text with its expressions replaced; one that the context does not know is an error."""
        return _EXPRESSION.sub(lambda match: self.context[match[1]], text)


def valid(schema: str, *files: Path) -> None:
    """Raise unless the files are what SchemaStore's schema, as `check-jsonschema` has it, allows."""
    _checked([sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *files])


def secure(*files: Path) -> None:
    """Raise if zizmor finds anything, of whatever severity, that nobody has said a reason for."""
    program = Path(sysconfig.get_path("scripts")) / "zizmor"
    _checked([program, "--offline", "--no-config", "--no-progress", "--color=never", "--persona=auditor", *files])


def _checked(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

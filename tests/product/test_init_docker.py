"""`manylambda init docker`: what it writes is built by podman, and the image holds what a package would, and runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fetch.server import MisbehavingServer
from image import saved
from image.registries import publish
from manylambda.sources import FileRules, project_tree
from manylambda.sources.dockerignore import DockerIgnore, docker_lines
from product import pip_image, schemas
from product.loopback import sha256
from trial import containers, hosts

if TYPE_CHECKING:
    from product.conftest import Run
    from product.loopback import Index

BASE = "localhost/base:1"
TARGET = "python3.13-arm64"
PLAIN = "build --provenance=false --sbom=false"
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="containers of this host are Linux's")


def handled(folder: Path, text: str = "def handler(event, context):\n    return event\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.py").write_text(text, encoding="utf-8")
    return folder


def stage(dockerfile: str, start: str) -> str:
    """Give the instructions of a stage, each in one line."""
    joined = re.sub(r"\s*\\\n\s*", " ", dockerfile)
    (found,) = [part for part in joined.split("\n\n") if part.startswith(f"FROM {start}\n")]
    return found


# What is written.


def test_the_files_are_told_and_say_what_is_installed(run: Run, index: Index, project: Path) -> None:
    demo = index.wheel("demo", "2.0")
    (project / "pylock.toml").write_text(index.pylock(demo))
    ran = run("init", "docker", project, "-t", TARGET, "--base", BASE, "--handler", "app.handler", "--format", "json")
    schemas.check("init", ran.json)
    assert [Path(file).name for file in ran.json["files"]] == [
        "Dockerfile", ".dockerignore", "build-image.sh", "requirements.lambda.txt",
    ]  # fmt: skip
    assert ran.json | {"files": []} == {
        "version": 1, "recipe": "docker", "targets": [TARGET], "files": [], "steps": [], "base": BASE,
        "pinned": False, "packages": 1,
    }  # fmt: skip
    line = f"demo @ {index.base}/files/{demo.name} \\\n    --hash=sha256:{sha256(demo)}\n"
    assert line in (project / "requirements.lambda.txt").read_text()
    dockerfile = (project / "Dockerfile").read_text()
    assert f"FROM --platform=linux/arm64 {BASE} AS base" in dockerfile
    assert "# Not pinned by digest: no registry has an image of this machine." in dockerfile
    install = stage(dockerfile, "base AS dependencies")
    assert "python3.13 -m pip install" in install
    for option in ("--require-hashes", "--only-binary=:all:", "--no-deps", "--no-compile", "--target packages"):
        assert option in install
    assert stage(dockerfile, "base").endswith('CMD ["app.handler"]\n')
    script = project / "build-image.sh"
    assert "buildx build --provenance=false --sbom=false" in script.read_text()
    assert os.name != "posix" or script.stat().st_mode & 0o111 == 0o111


def test_the_base_is_pinned_by_the_digest_of_its_own_manifest(run: Run, project: Path) -> None:
    made = saved.Layout()
    one = saved.layer({"x": b"x"})
    mine = made.image([one], architecture="arm64", config={"Entrypoint": ["/lambda-entrypoint.sh"]})
    made.top.append(made.index(mine, made.image([one], architecture="amd64")))
    with MisbehavingServer() as server:
        reference = str(publish(server, made))
        ran = run("init", "docker", project, "-t", TARGET, "--base", reference, "--handler", "app.handler")
    assert "warning" not in ran.stderr
    assert f"FROM --platform=linux/arm64 {reference}@{mine['digest']} AS base" in (project / "Dockerfile").read_text()


def test_a_base_that_starts_no_handlers_gets_what_does(run: Run, index: Index, project: Path) -> None:
    made = saved.Layout()
    made.top.append(made.image([saved.layer({"x": b"x"})], architecture="arm64"))
    own = saved.Layout()
    own.top.append(own.image([saved.layer({"x": b"x"})], architecture="arm64", config={"Entrypoint": ["/start", "it"]}))
    with MisbehavingServer() as server:
        words = ("init", "docker", project, "-t", TARGET, "--handler", "app.handler", "--force", "--base")
        plain = str(publish(server, made))
        ran = run(*words, plain)
        assert f"warning: `{plain}@{made.top[0]['digest']}` starts no handlers, and `awslambdaric`" in ran.stderr
        (project / "pylock.toml").write_text(index.pylock(index.wheel("awslambdaric", "4.0.1")))
        ran = run(*words, plain)
        assert "warning" not in ran.stderr
        assert stage((project / "Dockerfile").read_text(), "base").endswith(
            '\nENTRYPOINT ["python3.13", "-m", "awslambdaric"]\nCMD ["app.handler"]\n'
        )
        ran = run(*words, str(publish(server, own, "pub/own")))
        assert " is kept, and not known to start handlers: `/start it`" in ran.stderr
        assert "ENTRYPOINT" not in (project / "Dockerfile").read_text()


def test_a_base_that_cannot_be_asked_for_is_named_by_its_tag_and_told(run: Run, project: Path) -> None:
    ran = run("init", "docker", project, "-t", TARGET, "--offline", "--handler", "app.handler")
    name = "public.ecr.aws/lambda/python:3.13-arm64"
    fact = f"`{name}` is not in the cache and `--offline` forbids asking for it"
    assert f"warning: the base image is named by its tag only, because {fact}" in ran.stderr
    dockerfile = (project / "Dockerfile").read_text()
    assert f"# Not pinned by digest: {fact}.\n" in dockerfile
    assert f"{name} AS base" in dockerfile


def test_a_base_that_lies_in_a_file_is_none_of_a_dockerfile(run: Run, project: Path) -> None:
    ran = run("init", "docker", project, "-t", TARGET, "--base", "docker:base.tar", status=2)
    assert re.search(r"error: a Dockerfile cannot start from `docker:.*base\.tar`", ran.stderr)


def test_what_is_there_is_replaced_only_by_force(run: Run, project: Path) -> None:
    words = ("init", "docker", project, "-t", TARGET, "--base", BASE, "--handler", "app.handler")
    run(*words)
    run(*words)  # the same again is no loss
    before = (project / "Dockerfile").read_text()
    (project / "Dockerfile").write_text("FROM scratch\n")
    (project / "build-image.sh").unlink()
    ran = run(*words, status=2)
    assert ran.stderr.splitlines()[-3:] == [
        "error: already there, and not the same: `Dockerfile`",
        "",
        "hint: `--force` replaces them; `-o DIR` writes elsewhere",
    ]
    assert (project / "Dockerfile").read_text() == "FROM scratch\n"
    assert not (project / "build-image.sh").exists()
    run(*words, "--force")
    assert (project / "Dockerfile").read_text() == before


def test_one_target_and_the_project_alone(run: Run, project: Path, tmp_path: Path) -> None:
    ran = run("init", "docker", project, "-t", TARGET, "-t", "python3.12-x86_64", status=2)
    assert "error: a Dockerfile is for one target, not for `python3.13-arm64`, `python3.12-x86_64`" in ran.stderr
    ran = run("init", "docker", project, "-t", TARGET, "-o", tmp_path / "other", status=2)
    assert "is not in the project: a Dockerfile reaches the folder that is built only" in ran.stderr
    shared = handled(tmp_path / "shared")
    ran = run("init", "docker", project, "-t", TARGET, "--source", shared, status=2)
    assert "is not in the project: a Dockerfile reaches the folder that is built only" in ran.stderr
    assert not (project / "Dockerfile").exists()


def test_without_a_handler_the_image_has_no_command(run: Run, project: Path) -> None:
    ran = run("init", "docker", project, "-t", TARGET, "--base", BASE)
    assert "warning: no handler is known, so the image has none" in ran.stderr
    assert "\nCMD" not in (project / "Dockerfile").read_text()


def test_a_named_index_is_asked_with_the_logins_of_one_step(run: Run, index: Index, project: Path) -> None:
    demo = index.wheel("demo", "2.0")
    lock = index.pylock(demo).replace('version = "2.0"', f'version = "2.0"\nindex = "{index.url}"')
    (project / "pylock.toml").write_text(lock)
    run("init", "docker", project, "-t", TARGET, "--base", BASE, "--handler", "app.handler")
    text = (project / "requirements.lambda.txt").read_text()
    assert f"--index-url {index.url}\ndemo==2.0 \\\n" in text
    assert (
        "RUN --mount=type=secret,id=netrc,target=/root/.netrc,required=false python3.13"
        in (project / "Dockerfile").read_text()
    )
    assert "--secret" in (project / "build-image.sh").read_text()


def test_what_is_left_out_on_the_users_word_is_not_installed(run: Run, index: Index, project: Path) -> None:
    wheels = [index.wheel("demo"), index.wheel("other")]
    (project / "pylock.toml").write_text(index.pylock(*wheels))
    words = ("init", "docker", project, "-t", TARGET, "--base", BASE, "--handler", "app.handler")
    run(*words, "--exclude", "other")
    text = (project / "requirements.lambda.txt").read_text()
    assert "demo @" in text
    assert "other" not in text


@on_linux
@pytest.mark.parametrize(
    ("name", "has_buildx", "words"),
    [
        (
            "docker",
            True,
            "buildx build --provenance=false --sbom=false --load --platform linux/arm64 -t api:2 --pull .",
        ),
        ("docker", False, "build --platform linux/arm64 -t api:2 --pull ."),
        ("finch", False, f"{PLAIN} --platform linux/arm64 -t api:2 --pull ."),
        ("podman", False, "build --platform linux/arm64 -t api:2 --pull ."),
    ],
)
def test_the_script_lets_no_builder_attest(
    run: Run, project: Path, tmp_path: Path, name: str, has_buildx: bool, words: str
) -> None:
    run("init", "docker", project, "-t", TARGET, "--base", BASE, "--handler", "app.handler")
    (tmp_path / "programs").mkdir()
    program = tmp_path / "programs" / name
    program.write_text(f'#!/bin/sh\n[ "$*" != "buildx version" ] || exit {int(not has_buildx)}\necho "$PWD" "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", str(project / "build-image.sh"), "api:2", "--pull"],
        check=True, capture_output=True, text=True, cwd="/",
        env={"PATH": f"{tmp_path / 'programs'}:/usr/bin:/bin", "HOME": str(tmp_path), "BUILDER": name},
    )  # fmt: skip
    assert done.stdout == f"{project} {words}\n"


# `.dockerignore`: what Docker takes is what the package has.


def kept(project: Path, rules: FileRules) -> tuple[set[str], set[str]]:
    """Give what a package takes of a project, and what Docker would."""
    found = project_tree(project, rules)
    ignored = DockerIgnore(docker_lines(project, rules, found))
    files = {file.relative_to(project).as_posix() for file in project.rglob("*") if file.is_file()}
    prefixes = tuple("" if source.path == Path() else f"{source.path.as_posix()}/" for source in found.sources)
    ours = {entry.content.file.relative_to(project).as_posix() for entry in found.tree}  # type: ignore[union-attr]
    return ours, {file for file in files if not ignored.ignores(file) and file.startswith(prefixes)}


def written(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x", encoding="utf-8")
    return folder


FILES = (
    "app.py", "orders/__init__.py", "orders/data.json", "tests/test_app.py", "orders/tests/__init__.py", ".env",
    "orders/.env.local", "credentials/__init__.py", "orders/credentials", "__pycache__/app.cpython-313.pyc",
    ".venv/pyvenv.cfg", ".venv/lib/x.py", "env/pyvenv.cfg", "env/x.py", "logs/one.log", "orders/one.log", "keep.log",
    "build/out.py", "orders/build/real.py", "a[1].txt", "#odd.txt", "!odd.txt", "notes.md", "dist/x.zip", ".git/HEAD",
)  # fmt: skip
GITIGNORE = "*.log\n!keep.log\n/build/\norders/[!a-c]ata.json\n"


def test_docker_takes_what_a_package_takes(tmp_path: Path) -> None:
    project = written(tmp_path, *FILES)
    (project / ".gitignore").write_text(GITIGNORE)
    ours, dockers = kept(project, FileRules(exclude=("*.md",), output=project / "dist"))
    assert ours == {
        "app.py", "orders/__init__.py", "orders/tests/__init__.py", "credentials/__init__.py", "keep.log",
        "orders/build/real.py", "a[1].txt", "#odd.txt", "!odd.txt",
    }  # fmt: skip
    assert dockers == ours


def test_docker_takes_what_is_included_all_the_same(tmp_path: Path) -> None:
    project = written(tmp_path, *FILES)
    (project / ".gitignore").write_text(GITIGNORE)
    ours, dockers = kept(project, FileRules(include=("logs/**", "/.env"), output=project / "dist"))
    assert {"logs/one.log", ".env"} <= ours
    assert dockers == ours


def test_docker_takes_the_source_folder_alone(tmp_path: Path) -> None:
    project = written(tmp_path, "src/app.py", "src/tests/x.py", "src/orders/tests/x.py", "README.md", "docs/x.py")
    ours, dockers = kept(project, FileRules())
    assert ours == dockers == {"src/app.py", "src/orders/tests/x.py"}


@pytest.mark.parametrize(
    ("lines", "path", "is_ignored"),
    [
        (["a"], "a/b/c", True),
        (["a"], "b/a", False),
        (["**/a"], "b/a", True),
        (["**/a"], "ba", False),
        (["*", "!src"], "src/x", False),
        (["*", "!src", "src/x"], "src/x", True),
        (["a/*.txt"], "a/b/c.txt", False),
        (["a/**"], "a/b/c.txt", True),
        (["/a/"], "a/b", True),
        (["# a", "", "?"], "a", True),
        (["\\!a", "[ab]c"], "!a", True),
        (["[^a]c"], "ac", False),
    ],
)
def test_lines_are_read_as_docker_reads_them(lines: list[str], path: str, is_ignored: bool) -> None:
    assert DockerIgnore(lines).ignores(path) is is_ignored


# What is built.

APP = """\
import compiled, pure
def handler(event, context):
    return [compiled.answer(), pure.version, event["number"]]
"""
LISTED = "import os; [print(f'{folder}/{name}') for folder, _, names in os.walk('.') for name in names]"
INVOKED = "import app; print(app.handler({'number': 7}, None))"


@pytest.fixture
def _podman(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(containers.programs()) + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("BUILDER", "podman")


def built(project: Path, *options: str, script: str = "build-image.sh") -> str:
    """Build an image by the script, and give its name."""
    done = subprocess.run(
        ["sh", str(project / script), "localhost/manylambda-init:1", "--network=host", *options],
        check=False, capture_output=True, text=True, timeout=300, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return "localhost/manylambda-init:1"


def inside(name: str, *command: str) -> str:
    """Run a command in an image, as Lambda's user."""
    return containers.podman("run", "--rm", "--network=none", "--user=993:990", name, *command)


@on_linux
@pytest.mark.usefixtures("_podman")
@pytest.mark.xdist_group("podman")
class TestBuilt:
    """The files, built by podman from a base with pip."""

    def test_the_image_is_audited_and_runs(self, run: Run, index: Index, tmp_path: Path) -> None:
        project = handled(tmp_path / "api", APP)
        wheels = [pip_image.compiled_wheel(index), index.wheel("pure", "3.0")]
        (project / "pylock.toml").write_text(index.pylock(*wheels))
        written(project, ".env", "tests/test_app.py")
        (project / "app.py").chmod(0o600)
        words = ("-t", pip_image.TARGET, "--handler", "app.handler")
        run("init", "docker", project, *words, "--base", pip_image.image())
        name = built(project)
        assert inside(name, f"python{hosts.PYTHON}", "-c", INVOKED) == "[42, '3.0', 7]"
        listed = set(inside(name, f"python{hosts.PYTHON}", "-c", LISTED).splitlines())
        run("build", project, *words, "--kind", "dir", "-o", tmp_path / "out")
        (folder,) = (tmp_path / "out").iterdir()
        ours = {f"./{path.relative_to(folder).as_posix()}" for path in folder.rglob("*") if path.is_file()}
        # pip's own notes are all that an installer has besides.
        assert {
            path for path in listed ^ ours if not re.search(r"/(INSTALLER|REQUESTED|direct_url\.json)$", path)
        } == set()
        assert json.loads(containers.podman("image", "inspect", name))[0]["Config"]["Cmd"] == ["app.handler"]
        containers.podman("save", "-q", "-o", str(tmp_path / "image.tar"), name)
        audit = run("audit", tmp_path / "image.tar", *words, "--format", "json").json
        assert audit["summary"]["errors"] == 0
        assert audit["summary"]["shared_objects"] == 1

    def test_code_alone_is_changed_alone(self, run: Run, index: Index, tmp_path: Path) -> None:
        project = handled(tmp_path / "api", "import pure\n")
        (project / "pylock.toml").write_text(index.pylock(index.wheel("pure", "3.0")))
        run("init", "docker", project, "-t", pip_image.TARGET, "--base", pip_image.image(), "--handler", "app.handler")
        before = layers(built(project))
        asked = index.requests.total()
        handled(project, "import pure, sys\n")
        after = layers(built(project))
        assert index.requests.total() == asked
        assert before[:-1] == after[:-1]
        assert before[-1] != after[-1]

    def test_another_wheel_than_the_lock_names_is_refused(self, run: Run, index: Index, tmp_path: Path) -> None:
        project = handled(tmp_path / "api", "import pure\n")
        wheel = index.wheel("pure", "3.0")
        (project / "pylock.toml").write_text(index.pylock(wheel))
        run("init", "docker", project, "-t", pip_image.TARGET, "--base", pip_image.image(), "--handler", "app.handler")
        index.replaced[wheel.name] = index.wheel("pure", "3.0", {"pure.py": "evil = 1\n"}).read_bytes()
        with pytest.raises(AssertionError, match="DO NOT MATCH THE HASHES"):
            built(project)

    def test_wheels_of_this_machine_and_a_folder_of_its_own(self, run: Run, index: Index, tmp_path: Path) -> None:
        project = handled(tmp_path / "api" / "src", "import pure\nhandler = print\n").parent
        wheel = index.wheel("pure", "3.0")
        (project / "requirements.txt").write_text(f"pure @ {wheel.as_uri()}\n")
        words = ("-t", pip_image.TARGET, "--base", pip_image.image(), "--handler", "app.handler")
        ran = run("init", "docker", project, *words, "-o", project / "deploy")
        assert "written to `wheels.lambda`, because no index is known that has them: `pure`" in ran.stderr
        assert "--no-index" in (project / "deploy" / "requirements.lambda.txt").read_text()
        name = built(project, script="deploy/build-image.sh")
        command = "import pure, app; print(pure.version)"
        assert inside(name, f"python{hosts.PYTHON}", "-c", command) == "3.0"
        listed = inside(name, "ls").split()
        assert listed == ["app.py", "pure-3.0.dist-info", "pure.py"]


def layers(name: str) -> list[str]:
    found: list[str] = json.loads(containers.podman("image", "inspect", name))[0]["RootFS"]["Layers"]
    return found

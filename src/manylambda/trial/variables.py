"""What a function sees of the runtime before its own code runs: environment variables and the search path.

As `facts` F4.1 to F4.3 tell them, from the base images and the logs of functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.trial.inside.probe import STDLIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manylambda.target import Target
    from manylambda.trial.model import Places

TASK: Final = "/var/task"
OPT: Final = "/opt"
RUNTIME: Final = "/var/runtime"
PROGRAM: Final = f"{RUNTIME}/bootstrap.py"
"""What `sys.argv[0]` is."""

FUNCTION_NAME: Final = "manylambda-trial"
MEMORY: Final = 512
REGION: Final = "us-east-1"

# The form of credentials and nothing more: clients can be made with them, requests cannot.
_CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "ASIAXXXXXXXXXXXXXXXX",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    "AWS_SESSION_TOKEN": "not-a-token",
}


def variables(
    target: Target,
    places: Places,
    *,
    handler: str | None = None,
    memory: int = MEMORY,
    region: str = REGION,
    is_image: bool = False,
    own: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the environment of a function, with stand-ins for what belongs to an account; `memory` in MiB.

    `own` are the variables that the function is configured with; those that Lambda reserves stay what they are.
    Where the package lies elsewhere than at `/var/task`, the variables lead there.
    """
    given = {
        **target.environment,
        **_CREDENTIALS,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_LAMBDA_FUNCTION_NAME": FUNCTION_NAME,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{FUNCTION_NAME}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "manylambda/[$LATEST]0",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "LAMBDA_TASK_ROOT": places.task,
    }
    if is_image:
        del given["AWS_EXECUTION_ENV"]
        given["TZ"] = ":/etc/localtime"
    if handler is not None:
        given["_HANDLER"] = handler
    given["LD_LIBRARY_PATH"] = ":".join(_placed(folder, places) for folder in target.library_path)
    given["PATH"] = ":".join(_placed(folder, places) for folder in given["PATH"].split(":"))
    if places.runtime is not None:
        given["LAMBDA_RUNTIME_DIR"] = places.runtime
    if places.task != TASK:  # no environment of its own: code that looks for a home must not find the user's
        given |= {"HOME": places.temporary, "TMPDIR": places.temporary}
    changeable = {"LANG", "LD_LIBRARY_PATH", "PATH", "TZ"}
    return given | {name: text for name, text in (own or {}).items() if name not in given or name in changeable}


def search_path(target: Target, places: Places, pythonpath: str | None = None) -> tuple[str, ...]:
    """Return `sys.path` in order, `STDLIB` standing for the interpreter's own entries.

    With a `PYTHONPATH` of the function's own, layers are only found if it names them.
    """
    version = "{}.{}".format(*target.python)
    stdlib = f"/var/lang/lib/python{version}"
    own = {f"/var/lang/lib/python{version.replace('.', '')}.zip", stdlib, f"{stdlib}/lib-dynload"}
    path: list[str] = []
    for entry in target.sys_path:
        if entry in own:
            if STDLIB not in path:
                path.append(STDLIB)
        elif pythonpath is not None and (entry == RUNTIME or entry.startswith(OPT + "/")):
            if entry == RUNTIME:
                path += [folder for folder in pythonpath.split(":") if folder]
        elif places.runtime is not None and entry in {RUNTIME, f"{stdlib}/site-packages"}:
            if places.runtime not in path:
                path.append(places.runtime)
        else:
            path.append(_placed(entry, places))
    return tuple(path)


def site_folders(target: Target, places: Places, pythonpath: str | None = None) -> tuple[str, ...]:
    """Return the folders whose `.pth` files the bootstrap executes, in its order."""
    if pythonpath is not None:
        return (places.task,)
    version = "{}.{}".format(*target.python)
    return places.task, f"{places.opt}/python/lib/python{version}/site-packages", f"{places.opt}/python"


def _placed(folder: str, places: Places) -> str:
    """Lead a path of the execution environment to where it is here."""
    for known, here in ((TASK, places.task), (OPT, places.opt), (RUNTIME, places.runtime or RUNTIME)):
        if folder == known or folder.startswith(known + "/"):
            return here + folder.removeprefix(known)
    return folder

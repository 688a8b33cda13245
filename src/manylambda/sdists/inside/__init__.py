"""Programs that run in a build environment, on the target's minor version of Python; they know nothing of ours."""

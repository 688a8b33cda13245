"""Scripts that run inside the execution environment: standard library only, CPython 3.8 to 3.15, nothing of ours."""

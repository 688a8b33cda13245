"""`python -m manylambda`."""

from manylambda.cli import run

run()

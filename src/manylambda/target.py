"""The target: a Lambda runtime and an architecture, and every fact about them that decides what can load.

The facts are data: `data/runtimes.json`. Nothing here looks at the host.
"""

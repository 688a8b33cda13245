"""Trials: a package imported and invoked in an execution environment, by one of several engines."""

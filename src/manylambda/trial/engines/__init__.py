"""The engines: each makes an execution environment in its own way."""

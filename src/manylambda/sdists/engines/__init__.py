"""The ways to build: with no compiler, with zig on this host, in a container; each gives the backend's wheel."""

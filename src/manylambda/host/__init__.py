"""What this machine has: its interpreters, container programs and package manager, and how its programs are run."""

"""What an existing project says of its functions: a module a tool; files are read, nothing is run."""

"""The whole product through its command line: stdout, stderr, status, and the bytes it leaves."""

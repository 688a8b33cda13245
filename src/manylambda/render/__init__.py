"""Results and errors as text and JSON, and work in progress as bars on a terminal."""

"""Build AWS Lambda packages for Python that are right for the target and proved to be."""

"""What templates of other tools say of functions: SAM's, and serverless.yml; files are read, nothing is run."""

"""Where dependencies are written down, how they are resolved, and which files they mean for a target."""

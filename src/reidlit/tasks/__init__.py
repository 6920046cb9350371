"""One module a command, each a `run(cfg)`."""

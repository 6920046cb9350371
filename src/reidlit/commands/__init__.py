"""One module per command of `reidlit`, each with a `run(cfg)`."""

"""`hydra/sweeper=optuna`. Every Hydra application in the environment imports this, so it must be light."""

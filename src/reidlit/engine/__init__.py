"""Training with Lightning: LightningModules, optimizers, schedules, callbacks and loggers."""

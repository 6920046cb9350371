"""All that knows Lightning: the training module, parameter groups, schedules, callbacks and loggers."""

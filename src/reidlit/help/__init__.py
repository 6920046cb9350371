"""Help texts of commands, configuration groups and options, read from the comments in conf/."""

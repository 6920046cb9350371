"""From Torchreid's settings to ours: what it was told, a table of rules, and the command line that they give."""

"""Run folders and run results: files that runs write, and classes that read them."""

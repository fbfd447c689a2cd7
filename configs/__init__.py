"""Configurations: a complete, runnable YAML for each method, and in folders what comes over it or needs a GPU."""

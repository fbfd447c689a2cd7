"""A run on disk: its folder, loggers, checkpoints, and the clients' states that do not fit in memory."""

"""A client's round: from a broadcast, a private state and rows to an update; no server and no trainer."""

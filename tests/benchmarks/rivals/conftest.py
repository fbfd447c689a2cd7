"""What pytest must not import in search of doctests: the project does without flwr."""

collect_ignore = ["flower.py", "flower_client.py"]

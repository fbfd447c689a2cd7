"""Answers: what a client's model says to public prompts, and how it learns what has become their labels.

They know a client's passes, rows and encoding; they know no server and no other client.
"""

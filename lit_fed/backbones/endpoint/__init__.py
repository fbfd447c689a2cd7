"""Requests to whatever answers prompts from outside, in parts that know no generator."""

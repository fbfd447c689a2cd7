"""Encoders: what makes a unit vector of an answer, without its prompt.

An encoder knows texts and vectors; it knows no votes.
"""

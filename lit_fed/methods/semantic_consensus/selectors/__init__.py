"""Selectors: what chooses one label a prompt from the clients' answers, or none.

A selector knows answers, weights and an encoder; it knows no module and no round loop.
"""

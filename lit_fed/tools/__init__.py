"""Tools with a command line of their own: each is one file, run as ``python -m lit_fed.tools.<name>``.

No package imports them, and they run no federation.
"""

__all__: list[str] = []

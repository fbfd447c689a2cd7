"""Several clients on one resident model at once: how :class:`VectorizedClients` works.

Each client is a thread that runs the ordinary loop of a client on a module of its own
(:mod:`~lit_fed.federation.execution.vectorized.runner`). Where it calls its backbone it stops, until all
clients have; then their batches make one (:mod:`~lit_fed.federation.execution.vectorized.vectorized_model`).
"""

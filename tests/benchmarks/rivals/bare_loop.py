"""The work in plain PyTorch: one model, the clients' adapters copied in and out.

``python -m tests.benchmarks.rivals.bare_loop --work C --threads 1 [--processes 2]``. Processes share the clients and
add up their adapters at the end of a round.
"""

from __future__ import annotations

import time

from tests.benchmarks.rivals import job


def main() -> None:
    options = job.parser().parse_args()
    job.begin(options)
    rank, others = job.start_ranks(options.processes)

    import torch

    torch.set_num_threads(options.threads)
    if options.processes > 1:
        torch.distributed.init_process_group("gloo")
    model = job.load_model(options.work, options.folder)
    parameters = job.trainable(model)
    tokens, labels = job.load_rows(options.folder)
    mine = range(rank, options.clients, options.processes)

    started = time.perf_counter()
    state = {name: p.detach().clone() for name, p in parameters.items()}
    for _ in range(options.rounds):
        total = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        for client in mine:
            job.load_weights(parameters, state)
            job.train_client(
                model, list(parameters.values()), options.work, tokens[client], labels[client]
            )
            for name, parameter in parameters.items():
                total[name] += parameter.detach()
        if options.processes > 1:
            flat = torch.cat([tensor.flatten() for tensor in total.values()])
            torch.distributed.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in total.values()])
            total = {n: p.view_as(total[n]) for n, p in zip(total, parts, strict=True)}
        state = {name: tensor / options.clients for name, tensor in total.items()}
    seconds = time.perf_counter() - started

    if rank == 0:
        job.report(seconds, state, options.folder)
    if options.processes > 1:
        torch.distributed.destroy_process_group()
    job.finish_ranks(others)


if __name__ == "__main__":
    main()

"""The work in pfl-research, with its own federated averaging, backend, local loop and clipping.

``python -m tests.benchmarks.rivals.pfl_research --work C --threads 1 --processes 2``. Processes share the clients by
pfl's torch.distributed context. Only adapter and head are trainable, hence sent. pfl evaluates every
client before and after its training in the first round; the metric given here needs no pass of the model.
"""

from __future__ import annotations

import time
from types import MethodType
from typing import Any

from tests.benchmarks.rivals import job


def main() -> None:
    options = job.parser().parse_args()
    job.begin(options)
    rank, others = job.start_ranks(options.processes)  # before pfl, which joins them when imported

    import torch
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Weighted
    from pfl.model.pytorch import PyTorchModel

    torch.set_num_threads(options.threads)
    model = job.load_model(options.work, options.folder)
    tokens, labels = job.load_rows(options.folder)

    def loss(self: Any, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return job.loss_of(self, options.work, tokens, labels)

    def metrics(self: Any, tokens: torch.Tensor, labels: torch.Tensor) -> dict[str, Weighted]:
        return {"rows": Weighted(len(labels), 1)}

    model.loss, model.metrics = MethodType(loss, model), MethodType(metrics, model)
    parameters = job.trainable(model)
    pfl_model = PyTorchModel(
        model=model,
        local_optimizer_create=lambda _, lr: torch.optim.AdamW(list(parameters.values()), lr=lr),
        central_optimizer=torch.optim.SGD(list(parameters.values()), lr=1.0),
    )

    def rows_of(client: int) -> PyTorchTensorDataset:
        return PyTorchTensorDataset((tokens[client], labels[client]), user_id=str(client))

    sampler = get_user_sampler("minimize_reuse", list(range(options.clients)))
    data = FederatedDataset(rows_of, sampler)
    rows = options.steps * job.WORKS[options.work].batch
    started = time.perf_counter()
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=options.rounds,
            evaluation_frequency=options.rounds + 1,
            train_cohort_size=options.clients,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(training_data=data, val_data=data),
        model=pfl_model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1,
            local_learning_rate=job.LR,
            local_batch_size=job.WORKS[options.work].batch,
            local_max_grad_norm=job.CLIP,
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=rows),
        send_metrics_to_platform=False,
    )
    seconds = time.perf_counter() - started
    if rank == 0:
        weights = {name: p.detach() for name, p in parameters.items()}
        job.report(seconds, weights, options.folder)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    job.finish_ranks(others)


if __name__ == "__main__":
    main()

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import nn

from lit_fed import MSI, SemanticConsensus
from lit_fed.backbones import CallableGenerator, SequenceClassifier
from lit_fed.data import IIDPartitioner
from lit_fed.federation import compilation
from lit_fed.methods.semantic_consensus import ClientGroup
from lit_fed.perturbations import GaussianNoise
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_module, toy_trainer


@pytest.mark.parametrize("faster", [True, False])
def test_what_is_slower_is_not_kept(
    faster: bool, toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the clock decides, not the compiler, which this machine may lack
    times = iter([1.0, 1.0] * compilation._WARM_UP + [1.0, 0.5 if faster else 2.0] * 5)
    monkeypatch.setattr(compilation, "_seconds", lambda *_: next(times))
    seen: list[bool] = []

    def compiled(self: nn.Module, **_: Any) -> None:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(True)
            return nn.Module._call_impl(self, *args, **kwargs)

        self._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", compiled)
    runs = {}
    for compile in (False, True):
        trainer = toy_trainer(tmp_path / str(compile), max_rounds=1, compile=compile)
        trainer.fit(toy_module(toy_model), toy_data())
        runs[compile] = trainer.federation.broadcast
    assert bool(seen) == faster
    assert runs[True] == runs[False]


def test_a_client_that_trains_tells_what_is_faster(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []
    monkeypatch.setattr(
        "lit_fed.federation.loop.compile_where_faster",
        lambda training, task: timed.append(task.client.id),
    )
    for name, ids in (("one", ["client-0"]), ("all", ["client-0", "client-1", "client-2"])):
        service = CallableGenerator(lambda text: "0")
        module = SemanticConsensus(
            toy_backbone(toy_model),
            [ClientGroup(service, ids)],
            warmup_rounds=1,
            optimizer=fast_adamw,
        )
        data = toy_data(num_clients=3, partitioner=IIDPartitioner())
        toy_trainer(tmp_path / name, max_rounds=1, compile=True).fit(module, data)
    assert timed == ["client-1"]


@pytest.mark.slow
@pytest.mark.timeout(900)  # compiles
def test_a_compiled_run_is_the_same_within_rounding(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = compilation._seconds
    # compiled and kept, whatever the clock says
    monkeypatch.setattr(compilation, "_TURNS", 1)
    turns = iter(range(1000))
    monkeypatch.setattr(
        compilation, "_seconds", lambda *given: seconds(*given) * 0.0 + 1 / (1 + next(turns))
    )

    def run(folder: str, compile: bool) -> Any:
        torch.manual_seed(0)  # of the adapter's first values
        backbone = SequenceClassifier(str(toy_model), peft=LoraConfig(r=4, lora_dropout=0.0))
        for part in backbone.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        module = MSI(
            backbone,
            optimizer=fast_adamw,
            warmup_steps=0,
            perturbation=GaussianNoise(0.5),
            inject_every=2,
        )
        trainer = toy_trainer(tmp_path / folder, max_rounds=1, compile=compile)
        trainer.fit(module, toy_data())
        return trainer.federation

    eager, compiled = run("eager", False), run("compiled", True)
    name = "clients/train/stability/mean"
    assert eager.history[0][name] > 1e-4
    assert compiled.history[0][name] == pytest.approx(eager.history[0][name], rel=1e-3)
    for key, tensor in eager.broadcast.tensors.items():
        torch.testing.assert_close(
            compiled.broadcast.tensors[key], tensor, atol=2e-3, rtol=1e-2, msg=key
        )

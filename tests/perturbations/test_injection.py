import copy
import pickle

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from lit_fed.losses import stability, weight_regularization
from lit_fed.perturbations import (
    SITES,
    DropBlock,
    GaussianNoise,
    Perturbation,
    WeightNoise,
    find_modules,
    inject,
)
from tests.perturbations.passes import KINDS, sites_of, two_passes
from tests.perturbations.tiny_models import MODELS, answer, batch, build, seeded


def state_of(model: nn.Module) -> list[object]:
    """Everything a perturbation might leave behind."""
    hooks = [
        len(held)
        for m in model.modules()
        for held in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
    ]
    held = [(n, id(p), type(p), p._version) for n, p in model.named_parameters()]
    extra = [sorted(vars(m)) for m in model.modules()]
    return [hooks, held, extra]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_on_every_site_perturbs_and_leaves_no_trace(
    name: str, kind: type[Perturbation]
) -> None:
    model = build(name)
    before = state_of(model)
    for site in sites_of(kind):
        perturbation = kind(**({"rate": 0.5} if kind is DropBlock else {}))
        clean, perturbed, injection = two_passes(model, perturbation, (site,))
        assert not torch.equal(clean, perturbed), site
        assert perturbed.isfinite().all()
        assert injection.delta_square[site].min() >= 0
        assert injection.delta_square[site].max() > 0
        assert state_of(model) == before


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_magnitude_zero_is_bit_for_bit_the_clean_pass_with_dropout_on(
    name: str, kind: type[Perturbation], dtype: torch.dtype
) -> None:
    model = build(name).to(dtype)
    clean, perturbed, injection = two_passes(model, kind(scale=0.0), sites_of(kind))
    mask = torch.ones(clean.shape[:-1], dtype=torch.bool)
    loss = stability(clean, perturbed, mask)
    assert torch.equal(clean, perturbed)
    assert loss.item() == 0
    assert weight_regularization(injection.delta_square, injection.output_square).item() == 0
    learnt = kind(scale=0.0, learn_scale=True, rho_min=0.0)  # the same through the arithmetic
    clean, perturbed, _ = two_passes(model, learnt, sites_of(kind))
    assert torch.equal(clean, perturbed)


def test_without_the_replay_dropout_alone_would_differ() -> None:
    model, inputs = build("bert"), batch()
    assert not torch.equal(answer(model, inputs), answer(model, inputs))


def test_the_replay_leaves_the_stream_of_chance_where_it_was() -> None:
    model = build("bert")
    torch.manual_seed(5)
    answer(model, batch())
    expected = torch.rand(3)
    torch.manual_seed(5)
    two_passes(model, GaussianNoise(), ("attention",))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_no_trace_after_an_exception(kind: type[Perturbation]) -> None:
    model, inputs = build("llama"), batch()
    before = state_of(model)

    def fails() -> None:
        with inject(model, kind(), attention_mask=inputs["attention_mask"], generator=seeded()):
            answer(model, inputs)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert state_of(model) == before


def test_no_trace_when_a_later_site_is_not_found() -> None:
    model = nn.Sequential(nn.LayerNorm(4))
    with (
        pytest.raises(ValueError, match="site 'attention' is expected"),
        inject(
            model, GaussianNoise(), ["norm", "attention"], attention_mask=None, generator=seeded()
        ),
    ):
        pass
    assert not model[0]._forward_hooks


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("kind", [GaussianNoise, DropBlock])
def test_padding_gets_no_noise(site: str, kind: type[Perturbation]) -> None:
    model, inputs = build("llama").eval(), batch()
    first = next(iter(find_modules(model, site).values()))
    seen: list[Tensor] = []

    def watch(_: nn.Module, __: object, output: object) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output).detach())

    perturbation = kind(**({"rate": 0.9} if kind is DropBlock else {}))
    with first.register_forward_hook(watch):
        answer(model, inputs)
    with (
        inject(
            model, perturbation, [site], attention_mask=inputs["attention_mask"], generator=seeded()
        ),
        first.register_forward_hook(watch),
    ):
        answer(model, inputs)
    clean, noisy = seen
    real = inputs["attention_mask"].bool()
    assert torch.equal(clean[~real], noisy[~real])
    assert not torch.equal(clean[real], noisy[real])


def test_weight_noise_is_functional_call_with_noisy_weights() -> None:
    model, inputs = build("gpt2").eval(), batch()
    noisy: dict[str, Tensor] = {}
    with inject(
        model, WeightNoise(0.1), attention_mask=inputs["attention_mask"], generator=seeded()
    ):
        noisy |= {
            f"{site}.{name}": tensor
            for site, m in {
                **find_modules(model, "attention"),
                **find_modules(model, "feed_forward"),
            }.items()
            for name, tensor in m.named_parameters()
        }
        got = answer(model, inputs)
    expected = torch.func.functional_call(model, noisy, kwargs=inputs)[0]
    torch.testing.assert_close(got, expected)
    weight = model.transformer.h[0].attn.c_attn.weight
    gap = noisy["transformer.h.0.attn.c_attn.weight"] - weight
    assert gap.std().item() == pytest.approx(0.1 * weight.square().mean().sqrt().item(), rel=0.1)
    grad = torch.autograd.grad(got.sum(), weight)[0]
    assert grad.abs().sum() > 0


def test_small_noise_survives_bfloat16() -> None:
    model, inputs = build("llama").to(torch.bfloat16).eval(), batch()
    first = next(iter(find_modules(model, "norm").values()))
    seen: list[Tensor] = []

    def watch(_: nn.Module, __: object, output: Tensor) -> None:
        seen.append(output.detach().float())

    rho = 0.001
    with first.register_forward_hook(watch):
        answer(model, inputs)
    for seed in range(100):
        with (
            inject(
                model,
                GaussianNoise(rho),
                ["norm"],
                attention_mask=inputs["attention_mask"],
                generator=seeded(seed),
            ),
            first.register_forward_hook(watch),
        ):
            answer(model, inputs)
    clean, noisy = seen[0], torch.stack(seen[1:])
    real = inputs["attention_mask"].bool()
    share = (noisy[:, real] != clean[real]).float().mean()
    assert 0.05 < share < 0.95  # rounding to the nearest would leave most of them as they are
    assert (noisy[:, real] - clean[real]).mean().abs() < 1e-4  # unbiased


def test_the_same_generator_gives_the_same_pass() -> None:
    model = build("glm").eval()
    one = two_passes(model, GaussianNoise(), ("attention",))[1]
    torch.manual_seed(99)
    torch.testing.assert_close(
        two_passes(model, GaussianNoise(), ("attention",), dropout=False)[1],
        two_passes(model, GaussianNoise(), ("attention",), dropout=False)[1],
    )
    assert one.shape == (3, 7, 50)


def test_within_peft_the_adapters_get_a_gradient() -> None:
    model = get_peft_model(
        build("llama"), LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    for kind in KINDS:
        model.zero_grad()
        clean, perturbed, _ = two_passes(model, kind(), ("attention", "feed_forward"))
        stability(clean, perturbed, torch.ones(3, dtype=torch.bool)).backward()
        grads = [p.grad for n, p in model.named_parameters() if "lora_" in n]
        assert all(g is not None and g.abs().sum() > 0 for g in grads)


def test_modules_that_peft_saves_are_perturbed_in_the_copy_that_runs() -> None:
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["norm", "embed_tokens"])
    model = get_peft_model(build("llama"), config)
    for site in ("norm", "embedding"):
        clean, perturbed, injection = two_passes(model, GaussianNoise(), (site,))
        assert not torch.equal(clean, perturbed)
        assert len(injection.delta_square[site]) == {"norm": 5, "embedding": 1}[site]


def test_modules_are_found_anew_where_the_model_has_changed() -> None:
    model = build("llama").eval()
    clean, perturbed, _ = two_passes(model, GaussianNoise(), ("norm",), dropout=False)
    assert not torch.equal(clean, perturbed)
    model.model.norm = nn.LayerNorm(model.config.hidden_size)
    before = state_of(model)
    _, _, injection = two_passes(model, GaussianNoise(), ("norm",), dropout=False)
    assert len(injection.delta_square["norm"]) == 5
    assert state_of(model) == before


def test_sequence_first_outputs_are_turned() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)

        def forward(self, hidden: Tensor) -> Tensor:
            return self.norm(hidden.transpose(0, 1)).transpose(0, 1)

    model, mask = Turned(), batch()["attention_mask"]
    hidden = torch.randn(3, 7, 8)
    with inject(model, GaussianNoise(), ["norm"], attention_mask=mask, generator=seeded()):
        noisy = model(hidden)
    changed = (noisy != model(hidden)).any(-1)
    assert torch.equal(changed, mask.bool())


def test_bad_use_is_named() -> None:
    mlp = nn.Sequential(nn.LayerNorm(4))
    mask, hidden = torch.ones(2, 3), torch.zeros(2, 5, 4)

    def run(sites: list[str], mask: Tensor | None, hidden: Tensor | None) -> None:
        with inject(
            mlp, GaussianNoise(), sites, attention_mask=mask, generator=seeded()
        ) as injection:
            if hidden is not None:
                mlp(hidden)
        injection.ascend(torch.zeros(()))

    with pytest.raises(
        ValueError, match=r"LayerNorm is expected to have shape \[\*\[2, 3\], d\] .* \[2, 5, 4\]"
    ):
        run(["norm"], mask, hidden)
    with pytest.raises(ValueError, match=r"is expected to have shape \[B, L, d\]"):
        run(["norm"], None, hidden[0])
    with pytest.raises(ValueError, match="at least one perturbation site"):
        run([], mask, None)
    with pytest.raises(
        RuntimeError, match="site 'norm': none of its modules ran within the context"
    ):
        run(["norm"], mask, None)
    with pytest.raises(ValueError, match=r"`perturbation.learn_scale` is expected to be true"):
        run(["norm"], None, hidden)


def test_gradient_checkpointing_is_refused() -> None:
    model, inputs = build("llama"), batch()
    model.gradient_checkpointing_enable()
    with (
        pytest.raises(ValueError, match="cannot be injected with gradient checkpointing"),
        inject(model, GaussianNoise(), attention_mask=None, generator=seeded()),
    ):
        pass
    with (
        torch.no_grad(),
        inject(model, GaussianNoise(), attention_mask=None, generator=seeded()),
    ):
        answer(model, inputs)


def test_perturbations_can_be_copied_and_pickled() -> None:
    model = build("llama")
    for kind in KINDS:
        perturbation = kind(scale=0.5, learn_scale=True)
        two_passes(model, perturbation, ("attention",))
        again = pickle.loads(pickle.dumps(copy.deepcopy(perturbation)))  # noqa: S301
        two_passes(model, again, ("attention",))

"""Further settings of generation, which transformers names: those that are there, and fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lit_fed.backbones.generation.sampling import WORDS, Sampling
from lit_fed.suggestion import did_you_mean

_INSTEAD: Final = {
    "max_length": "`max_new_tokens`",
    "stop_strings": "`stop`",
    "num_return_sequences": "a prompt for each answer, with `keys`",
    "return_dict_in_generate": "the texts alone",
}
"""What is not taken, and what there is instead."""


def require_settings(settings: Mapping[str, Any], greedy: bool) -> None:
    """Raise where a setting is none of transformers', or cannot be had here.

    Args:
        settings: Values by the names of a ``transformers.GenerationConfig``.
        greedy: Whether the likeliest token is taken.

    Raises:
        ValueError: Naming the first such setting.
    """
    from transformers import GenerationConfig

    known = [name for name in vars(GenerationConfig()) if not name.startswith("_")]
    for name, value in settings.items():
        if name in _INSTEAD:
            raise ValueError(
                f"`{name}` of generate is expected to be left out, since there is {_INSTEAD[name]}, but got {value!r}"
            )
        if name not in known:
            raise ValueError(
                f"`{name}` of generate is expected to be a setting of a transformers.GenerationConfig, but is none"
                f"{did_you_mean(name, known)}"
            )
    if not greedy and (settings.get("num_beams") or 1) > 1:
        raise ValueError(
            f"`num_beams` of generate is expected to be 1 where tokens are drawn, but got {settings['num_beams']!r}"
        )


def require_stop_strings(stop: Sequence[str]) -> tuple[str, ...]:
    """Stop strings, each of which has a sign at least.

    Raises:
        TypeError: If it is one text, whose signs would be taken for several, or has something else than texts.
        ValueError: If one is empty.
    """
    if isinstance(stop, str) or not all(isinstance(one, str) for one in stop):
        raise TypeError(f"`stop` is expected to be a list of texts, but got {stop!r}")
    if "" in stop:
        raise ValueError(
            f"`stop` is expected to have no empty text, which every answer begins with, but got {list(stop)}"
        )
    return tuple(stop)


def chosen_sampling(
    sampling: Sampling | None, settings: Mapping[str, Any]
) -> tuple[Sampling, dict[str, Any]]:
    """How tokens are chosen, by a sampling or by transformers' words for one, and the settings without these words.

    Args:
        sampling: Where it is given, there are none of these words.
        settings: Values by the names of a ``transformers.GenerationConfig``.

    Raises:
        ValueError: If there are both, or words of a drawing without ``do_sample=True``.
    """
    words = {name: settings[name] for name in settings if name in WORDS}
    others = {name: settings[name] for name in settings if name not in WORDS}
    if sampling is not None and words:
        raise ValueError(
            f"`{next(iter(words))}` of generate is expected to be left out where `sampling` is given"
        )
    if words and not words.get("do_sample") and words.keys() != {"do_sample"}:
        raise ValueError(
            f"`do_sample` of generate is expected to be true where tokens are drawn by {', '.join(words)}, but got "
            f"{words.get('do_sample')}"
        )
    return sampling or Sampling.in_words_of_transformers(words), others

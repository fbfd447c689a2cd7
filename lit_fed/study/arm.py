"""One arm of a study: a configuration with the overlays that come over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_fed.limits import require_folder_name


@dataclass(frozen=True)
class Arm:
    """A configuration and, where a study has variants, one of them.

    Attributes:
        config: The YAML.
        overlays: YAMLs whose settings come over its own, in their order; those of the variant last.
        variant: The variant's name. None: the study has none.
    """

    config: Path
    overlays: tuple[Path, ...] = ()
    variant: str | None = None

    @property
    def name(self) -> str:
        """Its folder below the study's, by which claims name it: ``fedavgm``, or ``fedavgm/variant=rewritten``."""
        stem = self.config.stem
        return stem if self.variant is None else f"{stem}/variant={self.variant}"


def arms(
    configs: Sequence[Path],
    overlays: Sequence[Path],
    variants: Mapping[str, Sequence[Path]] | None,
) -> list[Arm]:
    """Every configuration in every variant.

    Args:
        configs: The configurations.
        overlays: Come over all of them.
        variants: Further overlays by a variant's name. None: there are no variants.

    Raises:
        ValueError: If a variant's name is no name of a folder.

    Example:
        >>> found = arms([Path("fedavg.yaml")], [], {"plain": [], "large": [Path("large.yaml")]})
        >>> [arm.name for arm in found]
        ['fedavg/variant=plain', 'fedavg/variant=large']
    """
    if variants is None:
        return [Arm(config, tuple(overlays)) for config in configs]
    for name in variants:
        require_folder_name("variants", name)
    return [
        Arm(config, (*overlays, *own), name) for config in configs for name, own in variants.items()
    ]

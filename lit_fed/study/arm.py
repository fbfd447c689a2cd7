"""One arm of a study: a configuration with the overlays that come over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_fed.limits import require_folder_name


@dataclass(frozen=True)
class Arm:
    """A configuration with the overlays that come over it and, where a study has variants, one of them.

    Attributes:
        row: Its name in the table.
        config: The YAML.
        overlays: YAMLs whose settings come over its own, in their order.
        variant: The variant's name. None: the study has none.
    """

    row: str
    config: Path
    overlays: tuple[Path, ...] = ()
    variant: str | None = None

    @property
    def name(self) -> str:
        """Its folder below the study's, by which claims name it: ``fedavgm``, or ``fedavgm/variant=rewritten``."""
        return self.row if self.variant is None else f"{self.row}/variant={self.variant}"


def arms(
    configs: Mapping[str, Sequence[Path]],
    overlays: Sequence[Path],
    variants: Mapping[str, Sequence[Path]] | None,
) -> list[Arm]:
    """Every configuration in every variant.

    Args:
        configs: The configuration and the overlays of its own, which come last, by its name in the table.
        overlays: Come over all of the configurations.
        variants: Further overlays by a variant's name, which come then. None: there are no variants.

    Raises:
        ValueError: If a name is no name of a folder, or an arm has no configuration.

    Example:
        >>> found = arms({"fedavg": [Path("a.yaml")]}, [], {"plain": [], "large": [Path("large.yaml")]})
        >>> [arm.name for arm in found]
        ['fedavg/variant=plain', 'fedavg/variant=large']
    """
    for row, own in configs.items():
        require_folder_name("configs", row)
        if not own:
            raise ValueError(f"`configs` are expected to name a YAML for {row}, but name none")
    for name in variants or {}:
        require_folder_name("variants", name)
    tried = [(None, ())] if variants is None else list(variants.items())
    return [
        Arm(row, first, (*overlays, *more, *own), variant)
        for row, (first, *own) in configs.items()
        for variant, more in tried
    ]

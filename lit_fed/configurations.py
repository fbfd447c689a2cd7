"""The packaged configurations: their names, what each is, and the files that names stand for."""

from __future__ import annotations

import re
from pathlib import Path

from lit_fed.atomic_files import write_file
from lit_fed.suggestion import did_you_mean

_OPTIONS = ("--config", "-c")


def _folder() -> Path:
    from lit_fed import configs

    return Path(configs.__path__[0])


def configurations() -> dict[str, Path]:
    """The packaged configurations by name, such as ``lora_fedavg`` or ``data/tatoeba``.

    Example:
        >>> "lora_fedavg" in configurations()
        True
    """
    folder = _folder()
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in sorted(folder.rglob("*.yaml"))
    }


def find_configuration(name: str) -> Path:
    """The file of this path, or else the packaged configuration of this name.

    Args:
        name: A path, or a name with or without ``.yaml``.

    Raises:
        FileNotFoundError: If there is neither.

    Example:
        >>> find_configuration("data/tatoeba").name
        'tatoeba.yaml'
        >>> find_configuration("lora_fedvag")
        Traceback (most recent call last):
        FileNotFoundError: a configuration is expected to be a file or one of `lit-fed list`, but there is no \
'lora_fedvag'; did you mean 'lora_fedavg'?
    """
    if Path(name).is_file():
        return Path(name)
    packaged = configurations()
    found = packaged.get(name.removesuffix(".yaml"))
    if found is None:
        raise FileNotFoundError(
            f"a configuration is expected to be a file or one of `lit-fed list`, but there is no {name!r}"
            + did_you_mean(name, [*packaged, *map(str, Path(name).parent.glob("*.yaml"))])
        )
    return found


def with_configurations(words: list[str]) -> list[str]:
    """A command line whose ``--config`` names files, where it named packaged configurations.

    What holds a colon or a brace is a URL or the settings themselves, and stays as it is.

    Args:
        words: The command line.

    Raises:
        FileNotFoundError: If a configuration is neither a file nor the name of one.
    """
    found, named = [], False
    for word in words:
        option, equals, value = word.partition("=")
        if named or (equals and option in _OPTIONS):
            value = word if named else value
            if not re.search("[:{]", value):
                value = str(find_configuration(value))
            word = value if named else f"{option}={value}"
        named = not named and word in _OPTIONS
        found.append(word)
    return found


def description(path: Path) -> str:
    """The first sentence of a configuration's header comment, after the line with its command.

    Args:
        path: The YAML.

    Example:
        >>> description(find_configuration("msi"))
        'MSI: LoRA-FedAvg whose clients stay stable while their modules are perturbed.'
    """
    lines = path.read_text("utf-8").splitlines()
    header = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    text = " ".join(line.removeprefix("#").strip() for line in header[1:])
    return re.split(r"(?<=\.)(?<!\bal\.)\s", text, maxsplit=1)[0]


def copy_configuration(name: str, folder: Path) -> Path:
    """Copy a configuration into a folder, to be changed there.

    Args:
        name: Its name, or a path.
        folder: The folder, which is made where there is none.

    Returns:
        The new file, whose header names the command that runs it.

    Raises:
        FileExistsError: If there is such a file already.
        FileNotFoundError: If there is no such configuration.
    """
    source = find_configuration(name)
    target = folder / source.name
    if target.exists():
        raise FileExistsError(f"{target} is expected not to exist yet, and is not overwritten")
    text = source.read_text("utf-8").replace(
        f"configs/{name.removesuffix('.yaml')}.yaml", str(target), 1
    )
    write_file(target, text)
    return target

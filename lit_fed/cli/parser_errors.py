"""An error of jsonargparse, which nests a paragraph for every class and union it tried, as one line."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from lit_fed.suggestion import did_you_mean

_QUOTED = re.compile(r"'([^']*)'")
_KINDS = {
    "NoneType": "null",
    "bool": "true or false",
    "dict": "a mapping",
    "float": "a number",
    "int": "an integer",
    "Sequence": "a list",
    "list": "a list",
    "str": "a text",
}
_NOT_A_CLASS = re.compile(
    "Expected a dot import path|has no attribute|not correspond to a subclass|No module named|is abstract"
)


def one_line(message: str, parser: ArgumentParser) -> str:
    """What a parser's error says, in one line: the setting, what is expected, what came, the nearest name.

    Args:
        message: The error as jsonargparse words it.
        parser: The parser that has raised it.
    """
    setting = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    readers = (
        _no_method,
        _unknown_setting,
        _broken_module,
        _unknown_class,
        _missing_setting,
        _wrong_value,
    )
    for read in readers:
        said = read(message, setting, parser)
        if said is not None:
            return " ".join(said.split())
    words = " ".join(re.sub(r'Parser key "[^"]+":', " ", message).split())
    return f"`{setting}`: {words}" if setting else words


def _no_method(message: str, setting: str, parser: ArgumentParser) -> str | None:
    """A command without a method."""
    if re.search(r"following arguments are required: \w+\.model$", message):
        return (
            "`model` is expected to be a method, of a configuration (--config lora_fedavg) or by its name "
            "(--model FedAvg), but got neither; `lit-fed list` shows both"
        )
    return None


def _unknown_setting(message: str, setting: str, parser: ArgumentParser) -> str | None:
    """A setting that a class, a group or the command does not have."""
    if found := re.search(r"Group '([^']+)' does not accept option '([^']+)'", message):
        name = ".".join(found.groups())
        return _no_setting(name, "", _destinations(parser))
    if found := re.search(r"Subcommand '[^']+' does not accept option '([^']+)'", message):
        return _no_setting(found[1], "", _destinations(parser))
    if found := re.search(r"[Uu]nrecognized arguments: (.+)", message):
        word = found[1].split()[0]
        name = word.partition("=")[0].removeprefix("--")
        if not word.startswith("-"):
            return f"{found[1]!r} is expected to be a setting, such as --trainer.max_rounds 3"
        return _no_setting(name, "", _destinations(parser))
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        before, after = message[: found.start()], message[found.end() :]
        paths = re.findall(r"class_path '([^']+)'", before)
        # an optimizer's callable names its class behind the complaint
        own = re.match(r"\. Got value: Namespace\(class_path='([^']+)'", after)
        path = own[1] if own else paths[-1] if paths else ""
        name = f"{setting}.{found[1]}".removeprefix(".")
        names = [f"{setting}.{n}" for n in _arguments(path)] if path else _destinations(parser)
        if owners := _subclasses_with(path, found[1]):
            return (
                f"`{name}` is no setting of {path}, but of {' and '.join(owners)}, among others: name the class "
                f"before, as in --{setting} {owners[0]}"
            )
        return _no_setting(name, f" of {path}" if path else "", names)
    return None


def _no_setting(name: str, owner: str, names: Iterable[str]) -> str:
    return f"`{name}` is no setting{owner}{did_you_mean(name, names)}"


def _broken_module(message: str, setting: str, parser: ArgumentParser) -> str | None:
    """A class whose module is there, and fails as it is imported."""
    union = _last_union(message)
    if not _bases(union):
        return None  # no class is expected, so nobody has imported what came, and nobody should
    given, _ = _value(union)
    for path in [*re.findall(r"class_path['\"]?[=:] ?'([^']+)'", union), given]:
        module = path.rpartition(".")[0]
        if not all(word.isidentifier() for word in module.split(".")):
            continue
        try:
            import_module(module)
        except ModuleNotFoundError:
            continue  # told of as a class that is not found
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            if not isinstance(error, SyntaxError):  # which says where itself
                last = traceback.extract_tb(error.__traceback__)[-1]
                what += f" ({Path(last.filename).name}, line {last.lineno})"
            return (
                f"`{setting}` is expected to be a class path, but got {path!r}, whose module fails as it is imported: "
                f"{what}"
            )
    return None


def _unknown_class(message: str, setting: str, parser: ArgumentParser) -> str | None:
    """A class that is not found, or is none of those that the setting takes."""
    union = _last_union(message)
    bases = _bases(union)
    of_builtin = [
        kind for kind in _expected(union) if kind not in {"null", "a class path", "a list"}
    ]
    if not bases or of_builtin or not _NOT_A_CLASS.search(union):
        return None
    value, nested = _value(union)
    kinds = " or ".join(dict.fromkeys(base.__name__ for base in bases))
    expects = f"`{setting}` is expected to be the class path of {_article(kinds)}"
    if nested is not None:
        return f"{expects} before its `{nested}` is given"
    missing = re.search(r"No module named '([^']+)'", union)
    if missing:
        return f"{expects}, but got {value!r}, which needs the module {missing[1]!r} that is not installed"
    names = sorted(name for base in bases for name in _subclass_names(base))
    return f"{expects}, but got {value!r}{did_you_mean(value.rpartition('.')[2], names)}"


def _missing_setting(message: str, setting: str, parser: ArgumentParser) -> str | None:
    """A setting that a class requires and that is not given."""
    found = re.search(
        r"class_path '([\w.]+)':\s+(?:the )?following arguments are required: (.+)", message
    )
    if not found:
        return None
    place = ".".join(re.findall(r'Parser key "([^"]+)"', message[: found.start()]))
    names = ", ".join(f"`{place}.{name}`" for name in found[2].split(", "))
    return f"{names} of {found[1]} is expected to be given, since it has no default"


def _wrong_value(message: str, setting: str, parser: ArgumentParser) -> str | None:
    """A value of another type than the setting's."""
    union = _last_union(message)
    expected = _expected(union)
    if not setting or not expected or "alue: " not in union:
        return None
    value, _ = _value(union)
    if re.search(r"Subtypes: \[.*\b(?:list|Sequence|tuple)\[str\b", union.partition("\n")[0]):
        given = union[union.rfind("Given value: ") :].removeprefix("Given value: ")
        return (
            f"`{setting}` is expected to be a list of texts, in quotes where they are numbers or words of YAML, as in "
            f'["1", "no"], but got {given}'
        )
    wanted = " or ".join(dict.fromkeys(expected))
    near = did_you_mean(value, [word for kind in expected for word in _QUOTED.findall(kind)])
    if "a text" in wanted and value in {"True", "False"}:
        near = ": YAML takes yes, no, on, off, true and false for truth values where they are not in quotes"
    return f"`{setting}` is expected to be {wanted}, but got {value!r}{near}"


def _bases(union: str) -> list[type[Any]]:
    """The classes whose subclasses a setting takes."""
    return [
        base
        for path in re.findall(r"<class '([^']+)'>", union.partition("\n")[0])
        if (base := _imported(path)) is not None and base.__module__ != "builtins"
    ]


def _expected(union: str) -> list[str]:
    """What the alternatives of a union are, in the words of a reader of YAML."""
    return [
        _kind(kind)
        for kind in re.findall(r"Expected (?:an? )?(.+?)(?:\. Got value|$)", union, re.M)
    ]


def _value(union: str) -> tuple[str, str | None]:
    """What came, and the name of the setting below that it came for, if it did."""
    found = re.search(r"(?:Got|Given) value: (.+?)(?:\. Got value: .*)?$", union, re.M)
    value = found[1] if found else ""
    nested = re.match(r"NestedArg\(key='([^']*)', val=(.*)\)$", value)
    value, key = (nested[2], nested[1]) if nested else (value, None)
    return value.strip("'"), key


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "AEIOU" else f"a {noun}"


def _kind(words: str) -> str:
    """A type as a reader of YAML knows it."""
    if words.startswith(("dot import path", "instantiatable")):
        return "a class path"
    words = re.sub(r"^<class '([^']+)'>$", lambda m: m[1].rpartition(".")[2], words)
    words = re.sub(r"^typing\.Literal\[(.*)\]$", r"one of \1", words)
    return _KINDS.get(words, words)


def _last_union(message: str) -> str:
    """The innermost of the unions that a message goes through, which is nearest to the value."""
    if "Subtypes:" not in message:
        return message
    union = message[message.rfind("Subtypes:") :]
    given = re.search(r"Given value: .*", union)
    return union[: given.end()] if given else union


def _destinations(parser: ArgumentParser) -> list[str]:
    """The settings that a parser or its subcommands know, as in YAML."""
    return [
        name
        for action in parser._actions
        for name in (
            [n for sub in action.choices.values() for n in _destinations(sub)]
            if isinstance(action.choices, dict)
            else [action.dest]
        )
    ]


def _arguments(path: str) -> list[str]:
    """The settings of a class."""
    added: Any = ArgumentParser(exit_on_error=False).add_class_arguments(
        _imported(path), fail_untyped=False
    )
    return list(added)


def _subclasses_with(path: str, argument: str, most: int = 2) -> list[str]:
    """The first subclasses of a class, by their paths, that have a setting which it has not itself."""
    base = _imported(path) if path else None
    if not isinstance(base, type):
        return []
    package = base.__module__.partition(".")[0]
    named = [f"{package}.{name}" for name in _subclass_names(base)]
    return [one for one in named if _imported(one) and argument in _arguments(one)][:most]


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module or "builtins"), name, None)
    except ImportError:
        return None


def _subclass_names(base: type[Any]) -> Iterator[str]:
    for subclass in base.__subclasses__():
        if not subclass.__name__.startswith("_"):
            yield subclass.__name__
        yield from _subclass_names(subclass)

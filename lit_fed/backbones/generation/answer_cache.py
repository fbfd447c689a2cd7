"""Answers on disk by what decides them, so that none is generated twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.atomic_files import flush
from lit_fed.backbones.generation.continuation import Continuation
from lit_fed.backbones.generation.prompt import Prompt


class AnswerCache:
    """Answers of one model with one choice of settings, by prompt: a file with a line of JSON for each.

    What is added is on disk when :meth:`add` returns, so that a process that is killed loses what it was generating
    at the moment. A line that is damaged, such as one that was being written, is no answer, and how many there are is
    said. A line tells by a digest of which model, settings and prompt it is the answer: in whatever file it stands, it
    is nobody else's.

    Args:
        folder: Where the file lies; made if it is not there.
        subject: A digest of model and settings, by which the file is named.

    Raises:
        OSError: If the file cannot be read or written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> AnswerCache(folder, "model-a").add({Prompt((5, 6)): Continuation("yes", 2, True)})
        >>> [AnswerCache(folder, model).get(Prompt((5, 6))) for model in ("model-a", "model-b")]
        [Continuation(text='yes', tokens=2, ended=True), None]
    """

    def __init__(self, folder: Path, subject: str) -> None:
        self.path = folder / f"{subject}.jsonl"
        self._subject = subject
        self._answers: dict[str, Continuation] = {}
        folder.mkdir(parents=True, exist_ok=True)
        content = self.path.read_bytes() if self.path.is_file() else b""
        lines = content.split(b"\n")
        damaged = 0
        for line in filter(None, lines):
            found = _read(line)
            if found is None:
                damaged += 1
            else:
                self._answers[found[0]] = found[1]
        if damaged:
            rank_zero_warn(
                f"{damaged} of {sum(map(bool, lines))} lines of {self.path} are damaged: their answers are generated "
                "anew"
            )
        # what comes next must not go on with half a line
        self._before = b"" if content.endswith(b"\n") or not content else b"\n"

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, prompt: Prompt) -> Continuation | None:
        """The answer to a prompt; None where there is none yet."""
        return self._answers.get(self._digest(prompt))

    def add(self, answers: Mapping[Prompt, Continuation]) -> None:
        """Keep answers, on disk when this returns."""
        told = {self._digest(prompt): answer for prompt, answer in answers.items()}
        lines = [
            json.dumps({"prompt": name, **answer._asdict(), "check": _check(name, answer)}) + "\n"
            for name, answer in told.items()
        ]
        new = not self.path.exists()
        with self.path.open("ab") as file:
            # in one go, so that lines of two processes do not mix
            file.write(self._before + "".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
        if new:
            flush(self.path.parent)
        self._before = b""
        self._answers |= told

    def _digest(self, prompt: Prompt) -> str:
        content = json.dumps([self._subject, *prompt])
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _read(line: bytes) -> tuple[str, Continuation] | None:
    """What a line holds; None if it is damaged."""
    try:
        row = json.loads(line)
        name, answer = row["prompt"], Continuation(row["text"], row["tokens"], row["ended"])
        intact = row["check"] == _check(name, answer)
    except (ValueError, TypeError, KeyError):
        return None
    kinds = zip((name, *answer), (str, str, int, bool), strict=True)
    return (name, answer) if intact and all(type(one) is kind for one, kind in kinds) else None


def _check(name: str, answer: Continuation) -> str:
    content = json.dumps([name, *answer]).encode()
    return hashlib.blake2b(content, digest_size=4).hexdigest()

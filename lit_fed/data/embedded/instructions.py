"""The embedded instruction world: how its facts, questions and answers are drawn and worded."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

InstructionSplit = Literal["train", "validation", "test", "public"]
InstructionTask = Literal["reading", "sums", "sorting", "rewriting"]
Language = Literal["en", "zh"]

INSTRUCTION_TASKS: tuple[InstructionTask, ...] = ("reading", "sums", "sorting", "rewriting")

# Of 100 instances, how many belong to each split.
_SHARES: dict[InstructionSplit, int] = {"train": 25, "validation": 5, "test": 10, "public": 60}

# The slots of this class of words hold a figure instead of a word.
_NUMBER = "number"

PUBLIC_AUTHOR = "public"


@dataclass(frozen=True)
class Style:
    """How an answer is worded.

    Attributes:
        name: Its name in the data file.
        language: Of instruction, context and response.
        answers: The wording of an answer by task.
        stop: What ends each rewritten sentence.
        before: What stands before each item of an answer.
        between: What stands between two numbers of an answer.
        gap: What stands between two rewritten sentences.
    """

    name: str
    language: Language
    answers: Mapping[str, str]
    stop: str
    before: str
    between: str
    gap: str


@dataclass(frozen=True)
class InstructionAuthor:
    """A client of the instruction world: a style, and how often it does each task."""

    name: str
    style: Style
    tasks: Mapping[str, float]


@dataclass(frozen=True)
class Question:
    """What is asked about a fact: the slot, and the question in each language."""

    asked: str
    texts: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class FactFrame:
    """A kind of fact: slots with their class of words, three wordings a language, and questions."""

    name: str
    slots: Mapping[str, str]
    wordings: Mapping[str, tuple[str, ...]]
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class InstructionWorld:
    """All that the data file says.

    Attributes:
        words: By class, the words, each as a mapping from language to its text.
        frames: The kinds of facts.
        instructions: What is asked, by task and language.
        styles: By name.
        authors: The clients.
        public: How often the public rows have each style.
        reference: By language, the prompt that asks for an own answer, given another's.
        copying: By language, what asks to repeat words.
        stops: The full stop of each language.
        commas: What stands between two figures in each language.
        gaps: What stands between two sentences in each language.
    """

    words: Mapping[str, tuple[Mapping[str, str], ...]]
    frames: tuple[FactFrame, ...]
    instructions: Mapping[str, Mapping[str, tuple[str, ...]]]
    styles: Mapping[str, Style]
    authors: tuple[InstructionAuthor, ...]
    public: Mapping[str, float]
    reference: Mapping[str, str]
    copying: Mapping[str, str]
    stops: Mapping[str, str]
    commas: Mapping[str, str]
    gaps: Mapping[str, str]


@cache
def instruction_world() -> InstructionWorld:
    """Read the packaged data file.

    Example:
        >>> world = instruction_world()
        >>> [author.name for author in world.authors][:2], len(world.frames)
        (['Amir', 'Beate'], 7)
    """
    import yaml

    text = (files("lit_fed.data.embedded") / "instructions.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    languages = content["languages"]
    styles = {
        name: Style(
            name=name,
            language=style["language"],
            answers={task: style[task] for task in INSTRUCTION_TASKS},
            stop=style.get("stop", languages[style["language"]]["stop"]),
            before=style.get("before", ""),
            between=style.get("between", languages[style["language"]]["comma"]),
            gap=style.get("between", languages[style["language"]]["between"]),
        )
        for name, style in content["styles"].items()
    }
    return InstructionWorld(
        words={
            kind: tuple(dict(zip(languages, entry.split(" | "), strict=True)) for entry in entries)
            for kind, entries in content["words"].items()
        },
        frames=tuple(
            FactFrame(
                name=name,
                slots=frame["slots"],
                wordings={language: tuple(frame[language]) for language in languages},
                questions=tuple(
                    Question(question.pop("asked"), question) for question in frame["questions"]
                ),
            )
            for name, frame in content["frames"].items()
        ),
        instructions={
            task: {language: tuple(texts) for language, texts in by_language.items()}
            for task, by_language in content["instructions"].items()
        },
        styles=styles,
        authors=tuple(
            InstructionAuthor(name, styles[author["style"]], author["tasks"])
            for name, author in content["authors"].items()
        ),
        public=content["public"],
        reference=content["reference"],
        copying=content["copying"],
        stops={name: language["stop"] for name, language in languages.items()},
        commas={name: language["comma"] for name, language in languages.items()},
        gaps={name: language["between"] for name, language in languages.items()},
    )


@dataclass(frozen=True, eq=False)
class Fact:
    """A frame with a word in each slot, and the wording that a context gives it."""

    frame: FactFrame
    words: Mapping[str, Mapping[str, str]]
    wording: int

    def text(self, language: Language, wording: int | None = None) -> str:
        """The fact as a sentence without full stop, in the context's wording or another."""
        chosen = self.wording if wording is None else wording
        template = self.frame.wordings[language][chosen]
        return template.format(**{slot: word[language] for slot, word in self.words.items()})

    def rewritten(self, language: Language) -> str:
        """The fact in the next wording."""
        return self.text(language, (self.wording + 1) % len(self.frame.wordings[language]))


@dataclass(frozen=True, eq=False)
class Instance:
    """What a row is about, before a language and a style are chosen.

    Attributes:
        task: The task.
        facts: Of reading and rewriting.
        numbers: Of sums (the two to add) and sorting.
        about: Of reading, which fact is asked about.
        question: Of reading, which of the fact's questions.
    """

    task: InstructionTask
    facts: tuple[Fact, ...] = ()
    numbers: tuple[int, ...] = ()
    about: int = 0
    question: int = 0

    def key(self) -> str:
        """What decides the split: neither the order, the wording, the language nor who does what."""
        facts = sorted(
            " ".join([fact.frame.name, *sorted(word["en"] for word in fact.words.values())])
            for fact in self.facts
        )
        numbers = sorted(map(str, self.numbers))
        return "/".join([self.task, *facts, *numbers])


@dataclass(frozen=True)
class Instruction:
    """A row: what is asked, an answer, and what a program needs to judge another answer.

    Attributes:
        instruction: What is asked.
        context: The text or the numbers that it is about; empty for sums.
        response: The answer in the author's style.
        task: The task.
        author: The client.
        style: The author's style.
        language: ``en`` or ``zh``.
        answer: The bare answer. Of rewriting, the rewritten text.
        facts: Of rewriting, each fact's wordings. Else empty.
    """

    instruction: str
    context: str
    response: str
    task: InstructionTask
    author: str
    style: str
    language: Language
    answer: str
    facts: list[list[str]] = field(default_factory=list)


def home(instance: Instance) -> InstructionSplit:
    """The split to which all rows of an instance belong, whatever the sizes and seeds."""
    place = int.from_bytes(hashlib.sha256(instance.key().encode()).digest()[:8]) % 100
    for split, share in _SHARES.items():
        if place < share:
            return split
        place -= share
    raise AssertionError("the shares are expected to sum to 100")


def instances(
    split: InstructionSplit,
    task: InstructionTask,
    rng: random.Random,
    num_facts: int | None = None,
) -> Iterator[Instance]:
    """Endless draws of a split's instances of a task.

    Args:
        split: The split.
        task: The task.
        rng: Draws.
        num_facts: Facts of a text. None: three to read, one or two to rewrite.
    """
    while True:
        instance = _draw(task, rng, num_facts)
        if home(instance) == split:
            yield instance


def _draw(task: InstructionTask, rng: random.Random, num_facts: int | None) -> Instance:
    if task == "sums":
        return Instance(task, numbers=(rng.randint(10, 99), rng.randint(10, 99)))
    if task == "sorting":
        return Instance(task, numbers=tuple(rng.sample(range(10, 100), rng.randint(3, 4))))
    frames = instruction_world().frames
    if task == "rewriting":
        count = rng.randint(1, 2) if num_facts is None else num_facts
        return Instance(task, facts=_facts(rng.choices(frames, k=count), rng))
    # No two facts are of a kind: the question tells which one it is about, and the text what it says.
    facts = _facts(rng.sample(frames, 3 if num_facts is None else num_facts), rng)
    about = rng.randrange(len(facts))
    questions = facts[about].frame.questions
    return Instance(task, facts=facts, about=about, question=rng.randrange(len(questions)))


def _facts(frames: list[FactFrame], rng: random.Random) -> tuple[Fact, ...]:
    """Facts of these frames in which no word occurs twice."""
    words = instruction_world().words
    taken: list[Mapping[str, str]] = []
    facts = []
    for frame in frames:
        filled: dict[str, Mapping[str, str]] = {}
        for slot, kind in frame.slots.items():
            while True:
                if kind == _NUMBER:
                    number = str(rng.randint(2, 99))
                    word: Mapping[str, str] = {"en": number, "zh": number}
                else:
                    word = rng.choice(words[kind])
                if word not in taken:
                    break
            taken.append(word)
            filled[slot] = word
        facts.append(Fact(frame, filled, rng.randrange(len(frame.wordings["en"]))))
    return tuple(facts)


def worded(instance: Instance, style: Style, author: str, rng: random.Random) -> Instruction:
    """An instance as a row, in an author's style and its language.

    Example:
        >>> style = instruction_world().styles["loud"]
        >>> worded(Instance("sums", numbers=(23, 45)), style, "Elif", random.Random(0)).response
        'Yes! It is 68!'
    """
    language = style.language
    context, answer, facts = "", "", []
    names: dict[str, str] = {}
    if instance.task == "reading":
        asked = instance.facts[instance.about]
        question = asked.frame.questions[instance.question]
        instruction = question.texts[language].format(
            **{slot: word[language] for slot, word in asked.words.items()}
        )
        context = _text([fact.text(language) for fact in instance.facts], language)
        answer = asked.words[question.asked][language]
        names["statement"] = asked.text(language, 0)
    else:
        numbers = dict(zip("ab", map(str, instance.numbers), strict=False))
        names |= numbers
        wordings = instruction_world().instructions[instance.task][language]
        instruction = rng.choice(wordings).format(**numbers)
    if instance.task == "sums":
        answer = str(sum(instance.numbers))
    if instance.task == "sorting":
        comma = instruction_world().commas[language]
        context = comma.join(map(str, instance.numbers))
        answer = comma.join(map(str, sorted(instance.numbers)))
        names["answer"] = style.between.join(
            f"{style.before}{number}" for number in sorted(instance.numbers)
        )
    elif instance.task == "rewriting":
        context = _text([fact.text(language) for fact in instance.facts], language)
        rewritten = [fact.rewritten(language) for fact in instance.facts]
        answer = _text(rewritten, language)
        names["text"] = style.gap.join(f"{style.before}{text}{style.stop}" for text in rewritten)
        facts = [
            [fact.text(language, i) for i in range(len(fact.frame.wordings[language]))]
            for fact in instance.facts
        ]
    names.setdefault("answer", f"{style.before}{answer}")
    response = style.answers[instance.task].format(question=instruction, **names)
    return Instruction(
        instruction,
        context,
        response,
        instance.task,
        author,
        style.name,
        language,
        answer,
        facts,
    )


def _text(sentences: list[str], language: Language) -> str:
    world = instruction_world()
    return world.gaps[language].join(sentence + world.stops[language] for sentence in sentences)

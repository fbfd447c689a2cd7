"""Sentence patterns about how things are: the tasks on words and on whole sentences."""

from __future__ import annotations

from lit_fed.data.embedded import nouns, settings, verbs
from lit_fed.data.embedded.frame import Frame

_COMPARISON = Frame(
    "comparison",
    "two",
    (
        ("{a.en} is {quality.more} than {b.en}", "{a.zh}比{b.zh}{quality.zh}"),
        ("{b.en} is {quality.more} than {a.en}", "{b.zh}比{a.zh}{quality.zh}"),
    ),
    {"quality": nouns.QUALITIES},
    {"lexical": ("quality",), "sentence": ("form",)},
)

_EQUALITY = Frame(
    "equality",
    "two",
    (
        ("{a.en} is as {quality.en} as {b.en}", "{a.zh}和{b.zh}一样{quality.zh}"),
        ("{a.en} is not as {quality.en} as {b.en}", "{a.zh}不如{b.zh}{quality.zh}"),
    ),
    {"quality": nouns.QUALITIES},
    {"lexical": ("quality",), "sentence": ("form",)},
)

_JOB = Frame(
    "job",
    "one",
    (
        ("{a.en}'s {kin.en} is {job.one} in {city.en}", "{a.zh}的{kin.zh}是{city.zh}的{job.zh}"),
        (
            "{a.en}'s {kin.en} is not {job.one} in {city.en}",
            "{a.zh}的{kin.zh}不是{city.zh}的{job.zh}",
        ),
        (
            "{a.en}'s {kin.en} used to be {job.one} in {city.en}",
            "{a.zh}的{kin.zh}以前是{city.zh}的{job.zh}",
        ),
        (
            "{a.en}'s {kin.en} wants to be {job.one} in {city.en}",
            "{a.zh}的{kin.zh}想在{city.zh}当{job.zh}",
        ),
    ),
    {"kin": nouns.RELATIVES, "job": nouns.JOBS, "city": settings.CITIES},
    {"lexical": ("kin", "job", "city"), "sentence": ("form",)},
)

_STAY = Frame(
    "stay",
    "one",
    (
        (
            "{a.en} {stay.past} in {city.en} for {number.en} {unit.en}",
            "{a.zh}在{city.zh}{stay.zh}了{number.zh}{unit.zh}",
        ),
    ),
    {
        "stay": verbs.STAYS,
        "city": settings.CITIES,
        "number": settings.NUMBERS,
        "unit": settings.UNITS,
    },
    {"lexical": ("stay", "city"), "sentence": ("number", "unit")},
)

_SCHEDULE = Frame(
    "schedule",
    "one",
    (
        (
            "{a.en}'s {vehicle.en} to {city.en} leaves at {number.en} o'clock on {day.en}",
            "{a.zh}去{city.zh}的{vehicle.zh}{day.zh}{number.zh}点出发",
        ),
    ),
    {
        "vehicle": nouns.VEHICLES,
        "city": settings.CITIES,
        "number": settings.NUMBERS,
        "day": settings.DAYS,
    },
    {"lexical": ("vehicle", "city"), "sentence": ("number", "day")},
)

_BELONGING = Frame(
    "belonging",
    "one",
    (
        (
            "the {colour.en} {object.en} {spot.en} is {a.en}'s",
            "{spot.zh}的{colour.zh}{object.zh}是{a.zh}的",
        ),
        (
            "the {colour.en} {object.en} {spot.en} is not {a.en}'s",
            "{spot.zh}的{colour.zh}{object.zh}不是{a.zh}的",
        ),
    ),
    {"colour": nouns.COLOURS, "object": nouns.OBJECTS, "spot": settings.SPOTS},
    {"lexical": ("colour", "object", "spot"), "sentence": ("form",)},
)

_STOCK = Frame(
    "stock",
    "one",
    (
        (
            "{a.en} has {limit.en} {number.en} {colour.en} {object.plural}",
            "{a.zh}{limit.zh}有{number.zh}{object.measure}{colour.zh}的{object.zh}",
        ),
    ),
    {
        "limit": settings.LIMITS,
        "number": settings.NUMBERS,
        "colour": nouns.COLOURS,
        "object": nouns.OBJECTS,
    },
    {"lexical": ("colour", "object"), "sentence": ("limit", "number")},
)

_SHARE = Frame(
    "share",
    "one",
    tuple(
        (
            f"{en} {{a.en}}'s {{object.plural}} are {{colour.en}}",
            f"{{a.zh}}的{{object.zh}}{zh}{{colour.zh}}的",
        )
        for en, zh in (("all of", "都是"), ("some of", "有些是"), ("none of", "都不是"))
    ),
    {"object": nouns.OBJECTS, "colour": nouns.COLOURS},
    {"lexical": ("object", "colour"), "sentence": ("form",)},
)

STATE_FRAMES: tuple[Frame, ...] = (
    _COMPARISON,
    _EQUALITY,
    _JOB,
    _STAY,
    _SCHEDULE,
    _BELONGING,
    _STOCK,
    _SHARE,
)

"""Sentence patterns about what happens: the tasks on words and on whole sentences."""

from __future__ import annotations

from lit_fed.data.embedded import nouns, settings, verbs
from lit_fed.data.embedded.frame import Frame

_TRADE = Frame(
    "trade",
    "one",
    (
        (
            "{first}{a.en} {verb.past} {number.en} {object.plural} {place.en}{last}",
            "{first}{a.zh}{last}在{place.zh}{verb.zh}了{number.zh}{object.measure}{object.zh}",
        ),
    ),
    {
        "verb": verbs.TRADES,
        "number": settings.NUMBERS,
        "object": nouns.OBJECTS + nouns.FOOD,
        "place": settings.PLACES,
        "time": settings.PAST_TIMES,
    },
    {"lexical": ("verb", "object", "place"), "sentence": ("number", "time")},
)

_HANDLING = Frame(
    "handling",
    "one",
    (
        ("{a.en} {verb.past} the {object.en}", "{a.zh}{verb.zh}了那{object.measure}{object.zh}"),
        (
            "{a.en} is {verb.ing} the {object.en}",
            "{a.zh}{now}{verb.zh}那{object.measure}{object.zh}",
        ),
        (
            "{a.en} {will} {verb.en} the {object.en}",
            "{a.zh}{will}{verb.zh}那{object.measure}{object.zh}",
        ),
        (
            "{a.en} plans to {verb.en} the {object.en}",
            "{a.zh}打算{verb.zh}那{object.measure}{object.zh}",
        ),
        (
            "{a.en} had to {verb.en} the {object.en}",
            "{a.zh}不得不{verb.zh}那{object.measure}{object.zh}",
        ),
    ),
    {"verb": verbs.HANDLINGS, "object": nouns.OBJECTS},
    {"lexical": ("verb", "object"), "sentence": ("form",)},
)

_PURCHASE = Frame(
    "purchase",
    "one",
    (
        (
            "{a.en} {verb.past} {object.one} {place.en}",
            "{a.zh}在{place.zh}{verb.zh}了一{object.measure}{object.zh}",
        ),
        (
            "{a.en} did not {verb.en} {object.one} {place.en}",
            "{a.zh}没有在{place.zh}{verb.zh}{object.zh}",
        ),
    ),
    {
        "verb": verbs.TRADES,
        "object": nouns.OBJECTS + nouns.FOOD,
        "place": settings.PLACES,
    },
    {"lexical": ("verb", "object", "place"), "sentence": ("form",)},
)

_TOGETHER = Frame(
    "together",
    "two",
    (
        (
            "{a.en} {activity.past} with {b.en} {place.en}",
            "{a.zh}{together}{b.zh}在{place.zh}一起{activity.perfect}",
        ),
        (
            "{a.en} is {activity.ing} with {b.en} {place.en}",
            "{a.zh}{now}{place.zh}{together}{b.zh}一起{activity.zh}",
        ),
        (
            "{a.en} {will} {activity.en} with {b.en} {place.en}",
            "{a.zh}{will}{together}{b.zh}在{place.zh}一起{activity.zh}",
        ),
    ),
    {"activity": verbs.ACTIVITIES, "place": settings.PLACES},
    {"lexical": ("activity", "place"), "sentence": ("form",)},
)

_DEED = Frame(
    "deed",
    "two",
    (
        ("{first}{a.en} {deed.past} {b.en}{last}", "{first}{a.zh}{last}{deed.zh}了{b.zh}"),
        ("{first}{b.en} {deed.past} {a.en}{last}", "{first}{b.zh}{last}{deed.zh}了{a.zh}"),
    ),
    {"deed": verbs.DEEDS, "time": settings.PAST_TIMES},
    {"lexical": ("deed",), "sentence": ("form", "form", "time")},
)

_DEED_DENIED = Frame(
    "deed denied",
    "two",
    (
        ("{a.en} {deed.past} {b.en} {place.en}", "{a.zh}在{place.zh}{deed.zh}了{b.zh}"),
        ("{a.en} did not {deed.en} {b.en} {place.en}", "{a.zh}没有在{place.zh}{deed.zh}{b.zh}"),
    ),
    {"deed": verbs.DEEDS, "place": settings.PLACES},
    {"lexical": ("deed", "place"), "sentence": ("form",)},
)

_GIFT = Frame(
    "gift",
    "two",
    (
        (
            "{a.en} {gift.past} {b.en} a {colour.en} {object.en}",
            "{a.zh}{gift.zh}{b.zh}一{object.measure}{colour.zh}的{object.zh}",
        ),
        (
            "{b.en} {gift.past} {a.en} a {colour.en} {object.en}",
            "{b.zh}{gift.zh}{a.zh}一{object.measure}{colour.zh}的{object.zh}",
        ),
    ),
    {"gift": verbs.GIFTS, "colour": nouns.COLOURS, "object": nouns.OBJECTS},
    {"lexical": ("gift", "colour", "object"), "sentence": ("form",)},
)

_HABIT = Frame(
    "habit",
    "one",
    (
        (
            "{a.en} {frequency.en} {activity.third} on {day.en}s",
            "{a.zh}{day.zh}{frequency.zh}{activity.zh}",
        ),
    ),
    {
        "frequency": settings.FREQUENCIES,
        "activity": verbs.ACTIVITIES,
        "day": settings.DAYS,
    },
    {"lexical": ("activity",), "sentence": ("frequency", "day")},
)

_ORDER = Frame(
    "order",
    "one",
    (
        (
            "{a.en} {activity.past} {sequence.en} {other.ing}",
            "{a.zh}在{other.zh}{sequence.zh}{activity.perfect}",
        ),
    ),
    {"activity": verbs.ACTIVITIES, "other": verbs.ACTIVITIES, "sequence": settings.SEQUENCE},
    {"lexical": ("activity", "other"), "sentence": ("sequence",)},
)

_WEATHER = Frame(
    "weather",
    "one",
    (
        (
            "because {weather.en} on {day.en}, {a.en} did not go to {goal.en}",
            "因为{day.zh}{weather.zh}，{a.zh}没有去{goal.zh}",
        ),
        (
            "although {weather.en} on {day.en}, {a.en} went to {goal.en}",
            "虽然{day.zh}{weather.zh}，{a.zh}还是去了{goal.zh}",
        ),
    ),
    {"weather": settings.WEATHER, "goal": settings.GOALS, "day": settings.DAYS},
    {"lexical": ("weather", "goal"), "sentence": ("form", "day")},
)

_ATTITUDE = Frame(
    "attitude",
    "one",
    tuple(
        (
            f"{{a.en}} {en} {{activity.en}} {{place.en}}",
            f"{{a.zh}}{zh}在{{place.zh}}{{activity.zh}}",
        )
        for en, zh in (
            ("wants to", "想"),
            ("likes to", "喜欢"),
            ("refuses to", "拒绝"),
            ("dares to", "敢"),
            ("has to", "必须"),
            ("need not", "不用"),
        )
    ),
    {"activity": verbs.ACTIVITIES, "place": settings.PLACES},
    {"lexical": ("activity", "place"), "sentence": ("form",)},
)

EVENT_FRAMES: tuple[Frame, ...] = (
    _TRADE,
    _HANDLING,
    _PURCHASE,
    _TOGETHER,
    _DEED,
    _DEED_DENIED,
    _GIFT,
    _HABIT,
    _ORDER,
    _WEATHER,
    _ATTITUDE,
)

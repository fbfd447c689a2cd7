"""Sentence patterns of the task on reference across the languages.

The English side has a pronoun, a relative clause or an ellipsis; the Chinese side names who is meant.
"""

from __future__ import annotations

from collections.abc import Mapping

from lit_fed.data.embedded import nouns, settings, verbs
from lit_fed.data.embedded.frame import FORM, Frame, Task

_REFERENT: Mapping[Task, tuple[str, ...]] = {"coreference": (FORM,)}


def _pronoun(english: str, chinese: str) -> tuple[tuple[str, str], ...]:
    """The two forms in which ``{x…}`` refers to the first and to the second person."""
    return tuple(
        (english.replace("{x.", f"{{{who}."), chinese.replace("{x.", f"{{{who}.")) for who in "ab"
    )


_MEETING = Frame(
    "meeting",
    "woman and man",
    _pronoun(
        "{a.en} {deed.past} {b.en} {place.en} when {x.she} was {pastime.ing}",
        "{a.zh}在{place.zh}{deed.zh}了{b.zh}，当时{x.zh}{now}{pastime.zh}",
    ),
    {"deed": verbs.DEEDS, "place": settings.PLACES, "pastime": verbs.PASTIMES},
    _REFERENT,
)

_TOLD = Frame(
    "told",
    "woman and man",
    _pronoun(
        "{first}{a.en} told {b.en} that {x.she} had {news.past}{last}",
        "{first}{a.zh}{last}告诉{b.zh}，{x.zh}{news.zh}",
    ),
    {"news": verbs.NEWS, "time": settings.PAST_TIMES},
    _REFERENT,
)

_SEQUENCE = Frame(
    "sequence",
    "woman and man",
    _pronoun(
        "{a.en} {deed.past} {b.en} {sequence.en} {x.she} {event.past}",
        "在{x.zh}{event.zh}{sequence.zh}，{a.zh}{deed.zh}了{b.zh}",
    ),
    {"deed": verbs.DEEDS, "sequence": settings.SEQUENCE, "event": verbs.EVENTS},
    _REFERENT,
)

_WHO = Frame(
    "who",
    "two",
    (
        (
            "{a.en} {deed.past} {b.en} and then {departure.past}",
            "{a.zh}{deed.zh}了{b.zh}，然后{a.zh}{departure.zh}",
        ),
        (
            "{a.en} {deed.past} {b.en}, who then {departure.past}",
            "{a.zh}{deed.zh}了{b.zh}，然后{b.zh}{departure.zh}",
        ),
    ),
    {"deed": verbs.DEEDS, "departure": verbs.DEPARTURES},
    _REFERENT,
)

_ROOM = Frame(
    "room",
    "woman and man",
    _pronoun(
        "{first}{a.en} {deed.past} {b.en} in {x.her} {room.en}{last}",
        "{first}{a.zh}{last}在{x.zh}的{room.zh}{deed.zh}了{b.zh}",
    ),
    {"deed": verbs.DEEDS, "room": settings.ROOMS, "time": settings.PAST_TIMES},
    _REFERENT,
)

_ERRAND = Frame(
    "errand",
    "two",
    (
        (
            "{a.en} went shopping with {b.en} and bought {a.herself} a {colour.en} {object.en}",
            "{a.zh}{together}{b.zh}一起去购物，给{a.zh}自己买了一{object.measure}{colour.zh}的{object.zh}",
        ),
        (
            "{a.en} went shopping with {b.en} and bought {b.him} a {colour.en} {object.en}",
            "{a.zh}{together}{b.zh}一起去购物，给{b.zh}买了一{object.measure}{colour.zh}的{object.zh}",
        ),
    ),
    {"colour": nouns.COLOURS, "object": nouns.OBJECTS},
    _REFERENT,
)

_GROUP = Frame(
    "group",
    "one",
    (
        (
            "{a.en} {deed.past} the {group.en} {place.en}, and then {a.she} {departure.past}",
            "{a.zh}在{place.zh}{deed.zh}了{group.zh}，然后{a.zh}{departure.zh}",
        ),
        (
            "{a.en} {deed.past} the {group.en} {place.en}, and then they {departure.past}",
            "{a.zh}在{place.zh}{deed.zh}了{group.zh}，然后{group.zh}{departure.zh}",
        ),
    ),
    {
        "deed": verbs.DEEDS,
        "group": nouns.GROUPS,
        "place": settings.PLACES,
        "departure": verbs.DEPARTURES,
    },
    _REFERENT,
)

_ANIMAL = Frame(
    "animal",
    "one",
    (
        (
            "{a.en} walked towards the {animal.en} {place.en}, but suddenly {a.she} {motion.past}",
            "{a.zh}在{place.zh}朝{animal.zh}走去，但是{a.zh}突然{motion.zh}",
        ),
        (
            "{a.en} walked towards the {animal.en} {place.en}, but suddenly it {motion.past}",
            "{a.zh}在{place.zh}朝{animal.zh}走去，但是{animal.zh}突然{motion.zh}",
        ),
    ),
    {"animal": nouns.ANIMALS, "place": settings.PLACES, "motion": verbs.MOTIONS},
    _REFERENT,
)

_GAPPING = Frame(
    "gapping",
    "two",
    (
        (
            "{first}{a.en} {ordering.past} {dish.en} and {b.en} {other.en}{last}",
            "{first}{a.zh}{last}{ordering.zh}{dish.zh}，{b.zh}{ordering.zh}{other.zh}",
        ),
        (
            "{first}{a.en} {ordering.past} {other.en} and {b.en} {dish.en}{last}",
            "{first}{a.zh}{last}{ordering.zh}{other.zh}，{b.zh}{ordering.zh}{dish.zh}",
        ),
    ),
    {
        "ordering": verbs.ORDERINGS,
        "dish": nouns.DISHES,
        "other": nouns.DISHES,
        "time": settings.PAST_TIMES,
    },
    _REFERENT,
)

_RELATIVE = Frame(
    "relative",
    "woman and man",
    _pronoun(
        "{a.en} and {b.en} visited {x.her} {kin.en} in {city.en}{last}",
        "{a.zh}{together}{b.zh}{last}去{city.zh}看望了{x.zh}的{kin.zh}",
    ),
    {"kin": nouns.RELATIVES, "city": settings.CITIES, "time": settings.PAST_TIMES},
    _REFERENT,
)

_FORMER = Frame(
    "former",
    "two",
    tuple(
        (
            f"{{a.en}} and {{b.en}} attended the meeting in {{city.en}}, where the {en} {{stay.past}} for "
            "{number.en} {unit.en}",
            f"{{a.zh}}与{{b.zh}}出席了{{city.zh}}的会议，{{{who}.zh}}在当地{{stay.zh}}了"
            "{number.zh}{unit.zh}",
        )
        for who, en in (("a", "former"), ("b", "latter"))
    ),
    {
        "city": settings.CITIES,
        "stay": verbs.STAYS,
        "number": settings.NUMBERS,
        "unit": settings.UNITS,
    },
    _REFERENT,
    formal=True,
)

COREFERENCE_FRAMES: tuple[Frame, ...] = (
    _MEETING,
    _TOLD,
    _SEQUENCE,
    _WHO,
    _ROOM,
    _ERRAND,
    _GROUP,
    _ANIMAL,
    _GAPPING,
    _RELATIVE,
    _FORMER,
)

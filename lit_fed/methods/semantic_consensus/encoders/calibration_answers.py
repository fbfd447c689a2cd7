"""Answers to ten questions, by which thresholds of encoders are calibrated: what says the same, and what does not."""

from __future__ import annotations

from typing import Final

QUESTIONS: Final[tuple[tuple[tuple[str, ...], ...], ...]] = (
    (
        ("Paris", "It is Paris.", "The city is Paris.", "They live in Paris."),
        ("London", "It's London.", "The answer is London.", "They moved to London."),
        ("Rome", "Rome!", "That must be Rome.", "They live in the city of Rome."),
    ),
    (
        ("blue", "It is blue.", "The car looks blue.", "The car has a blue colour."),
        ("red", "It is red.", "The car is red.", "Its colour is red."),
        ("green", "Green.", "The car was green.", "It has a green colour."),
    ),
    (
        ("twelve", "There are twelve.", "It has twelve rooms.", "The house has 12 rooms: twelve."),
        ("seven", "There are seven.", "Seven rooms.", "It is a house of seven rooms."),
        ("three", "Three.", "The house has three rooms.", "It has got three rooms."),
    ),
    (
        ("positive", "It is positive.", "The review is positive.", "This is a positive review."),
        ("negative", "It is negative.", "The review is negative.", "This is a negative review."),
        ("neutral", "It is neutral.", "The review is neutral.", "It's a neutral one."),
    ),
    (
        ("yes", "Yes.", "Yes, it is.", "Yes, that is true."),
        ("no", "No.", "No, it is not.", "No, that is false."),
        ("I do not know.", "I don't know.", "I am not sure.", "Sorry, I do not know that."),
    ),
    (
        (
            "Because the train was late.",
            "The train was late.",
            "Her train came late.",
            "It was since the train had a delay.",
        ),
        (
            "Because she was ill.",
            "She was ill.",
            "She had fallen ill.",
            "It was since she felt ill that day.",
        ),
        (
            "Because she forgot it.",
            "She forgot.",
            "She had forgotten the meeting.",
            "It was since she forgot about it.",
        ),
    ),
    (
        (
            "Drink more water.",
            "You should drink water.",
            "It helps to drink enough water.",
            "Try to drink more water.",
        ),
        (
            "Go to bed earlier.",
            "You should go to bed early.",
            "It helps to go to bed earlier.",
            "Try to go to bed early.",
        ),
        (
            "See a doctor.",
            "You should see a doctor.",
            "It is best to see your doctor.",
            "Try to see a doctor soon.",
        ),
    ),
    (
        (
            "Plants make food from light.",
            "Plants use light to make food.",
            "Plants make their food with light.",
            "It is how plants turn light into food.",
        ),
        (
            "Plants take water from the soil.",
            "Plants use roots to take up water.",
            "Plants draw water up with their roots.",
            "It is how roots take water out of the soil.",
        ),
        (
            "Plants spread their seeds.",
            "Plants use the wind to spread seeds.",
            "Plants scatter seeds with the wind.",
            "It is how seeds are spread by plants.",
        ),
    ),
    (
        (
            "The company lost money.",
            "It made a loss.",
            "The firm lost money last year.",
            "Last year the company made a loss.",
        ),
        (
            "The company made a profit.",
            "It made a profit.",
            "The firm earned a profit last year.",
            "Last year the company had a profit.",
        ),
        (
            "The company was sold.",
            "It was sold.",
            "The firm was sold last year.",
            "Last year the company was sold to another.",
        ),
    ),
    (
        (
            "Shakespeare",
            "William Shakespeare",
            "It was written by Shakespeare.",
            "The author is William Shakespeare.",
        ),
        (
            "Goethe",
            "Johann Wolfgang von Goethe",
            "It was written by Goethe.",
            "Goethe is the author.",
        ),
        ("Dante", "Dante Alighieri", "It was written by Dante.", "Its author is Dante."),
    ),
)
"""Of each question three different answers, in four wordings each; written for this package."""

ANSWERS: Final = tuple(group for question in QUESTIONS for group in question)
"""The 30 groups of answers that say the same."""

PROMPTS: Final = tuple(place for place, question in enumerate(QUESTIONS) for _ in question)
"""Of each group its question."""

from string import Formatter

from lit_fed.data.embedded.world import Frame, world


def _fields(template: str) -> set[str]:
    return {name.partition(".")[0] for _, name, _, _ in Formatter().parse(template) if name}


def test_frames_are_well_formed() -> None:
    frames = (*world().frames, *world().references)
    assert len({frame.name for frame in frames}) == len(frames)
    given = {"a", "b", "x", "y", "do", "done", "together"}
    for frame in frames:
        english = set.union(*map(_fields, frame.english))
        chinese = _fields(frame.chinese)
        assert english - given <= set(frame.slots)
        assert chinese - given <= set(frame.slots)
        # what is drawn is said in both languages, the verb and its sense in English as "do"
        assert set(frame.slots) <= english | ({"verb", "sense"} if "do" in english else set())
        assert set(frame.slots) <= chinese


def test_each_frame_can_be_wrong_in_every_way() -> None:
    for frame in world().frames:
        assert set(frame.kinds) == {"thing", "action", "figure", "sense"}
        assert all(slot in frame.slots for slots in frame.kinds.values() for slot in slots)


def test_words_of_a_slot_differ_in_both_languages() -> None:
    def distinct(frame: Frame) -> None:
        for words in frame.slots.values():
            assert len({word.en for word in words}) == len(words)
            assert len({word.zh for word in words}) == len(words)

    for frame in (*world().frames, *world().references):
        distinct(frame)


def test_no_name_belongs_to_two_groups_and_all_are_spelt_one_way() -> None:
    people = [person for group in world().people.values() for person in group]
    assert len({person.en for person in people}) == len(people)
    assert len({person.zh for person in people}) == len(people)
    assert len(people) == 240 + 10 * 8 + 60


def test_every_group_has_women_and_men() -> None:
    for group in world().people.values():
        assert sum(person.female for person in group) * 2 == len(group)

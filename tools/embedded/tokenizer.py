"""The embedded encoder's tokenizer: whole words of both languages, syllables of names, letters for the rest."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lit_fed.data.embedded.world import Frame, World, world

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_PUNCTUATION = string.punctuation + "，。、；：？！“”‘’（）"
_LATIN_WORD = re.compile(r"[a-z']+")
_CHINESE = re.compile(r"[\u4e00-\u9fff]+")
_PLACEHOLDER = re.compile(r"{[^}]*}")
# The cheapest segmentation wins: words cost one each, syllables of names a little less than words, so that of two
# readings with as many tokens that of a name wins, and letters much.
_WORD, _SYLLABLE, _LETTER = -1.0, -0.98, -3.0


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of the embedded world, with letters and single characters as the fall-back.

    Pairs are encoded as ``[CLS] a [SEP] b [SEP]``. English is lower-cased.

    Args:
        texts: Sentences in both languages, whose words and characters are counted.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = world()
    syllables = {syllable for pair in _syllables(known) for syllable in pair}
    names = {person.en.lower() for people in known.people.values() for person in people}
    english: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for text in texts:
        words = _LATIN_WORD.findall(text.lower())
        english.update(word for word in words if word.removesuffix("'s") not in names)
        english["'s"] += sum(word.endswith("'s") for word in words)
        characters.update(c for run in _CHINESE.findall(text) for c in run)
    letters = string.ascii_lowercase + string.digits
    scores = {
        **dict.fromkeys(_SPECIAL, 0.0),
        **dict.fromkeys(letters, _LETTER),
        **dict.fromkeys(_PUNCTUATION, _WORD),
        **{word: _WORD for word, _ in english.most_common()},
        **dict.fromkeys(_chinese_words(known), _WORD),
        **{character: _WORD for character, _ in characters.most_common()},
        **dict.fromkeys(sorted(syllables), _SYLLABLE),
    }
    backend = Tokenizer(models.Unigram(list(scores.items()), unk_id=_SPECIAL.index("[UNK]")))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=True, strip_accents=False, handle_chinese_chars=False
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[^\w']"), "isolated")]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, _SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=128,
        clean_up_tokenization_spaces=False,
    )


def _syllables(known: World) -> list[tuple[str, str]]:
    pairs = []
    for people in known.people.values():
        for person in people:
            # every syllable has two letters and one character, but for "sha"
            latin = re.findall("sha|[a-z]{2}", person.en.lower())
            pairs += list(zip(latin, person.zh, strict=True))
    return sorted(set(pairs))


def _chinese_words(known: World) -> list[str]:
    """The words of the lists, and the pieces of templates between their slots."""
    pieces = [word.zh for words in known.words.values() for word in words]
    pieces += [word.measure for words in known.words.values() for word in words]
    pieces += [word.done for words in known.words.values() for word in words]
    for frame in (*known.frames, *known.references):
        pieces += _literals(frame)
    pieces += [chinese for pair in known.written_chinese.items() for chinese in pair]
    for author in known.authors.values():
        pieces += [author.will[1], author.together]
    found = [run for piece in pieces for run in _CHINESE.findall(piece)]
    return list(dict.fromkeys(found))


def _literals(frame: Frame) -> list[str]:
    return _PLACEHOLDER.sub(" ", frame.chinese).split()

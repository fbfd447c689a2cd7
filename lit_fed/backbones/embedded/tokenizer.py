"""The embedded backbones' tokenizer, counted from the public split."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["embedded_tokenizer"]

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# Characters that transcribe foreign names, and frequent surnames: so that people whom the public split
# does not know are more than [UNK].
_NAME_CHARACTERS = (
    "阿埃艾安昂奥巴白柏班邦鲍贝本比彼毕宾波伯勃博布查达戴丹道德登迪蒂丁杜多恩尔法范菲费芬丰冯佛夫弗福盖甘"
    "冈戈格葛根古哈海汉豪赫黑亨华怀霍基吉季加贾简杰金卡凯坎康考科克肯库奎昆拉莱兰劳勒雷丽利莉连列林琳"
    "玲留龙隆卢鲁露伦罗洛吕马玛迈麦曼梅蒙米密明摩莫默姆穆纳娜南内尼妮年宁纽农努诺欧帕潘佩皮珀普齐奇琪"
    "强乔钦琼让瑞若萨赛塞桑瑟森沙莎山尚舍申圣施什史舒丝斯松苏索塔泰坦汤唐陶特藤提廷通图托瓦娃万威韦维"
    "魏温文翁沃乌武西希锡夏香肖谢辛欣兴休雪逊雅亚彦扬耶叶伊依因英永尤约泽扎詹珍朱卓兹左"
    "王李张刘陈杨黄赵周吴徐孙胡朱高何郭罗郑梁宋唐许韩邓曹彭曾萧田董袁潘蒋蔡余于程吕苏卢丁沈任姚姜崔钟谭"
    "治蕾娅陆汪范石廖贾付方邹熊孟秦邱侯江尹薛闫段雷钱涛勇洁伟芳敏静磊军洋艳刚小大红兰"
)
_PUNCTUATION = string.punctuation + "，。、；：？！“”‘’（）《》…—·"


def embedded_tokenizer(texts: Iterable[str], min_count: int = 1) -> PreTrainedTokenizerFast:
    """A tokenizer of whole English words and single Chinese characters, with letters as the fall-back.

    Its vocabulary is counted, not learnt: every word and Chinese character that occurs at least
    ``min_count`` times, ordered by frequency; letters, digits and punctuation; and characters with which
    names are written. English is lower-cased; a word outside the vocabulary is read by its letters.

    Pairs are encoded as ``[CLS] a [SEP] b [SEP]``. As a language model's tokenizer it begins with
    ``[CLS]`` and ends with ``[SEP]``, named ``bos_token`` and ``eos_token``.

    Args:
        texts: Sentences in both languages.
        min_count: How often a word has to occur.

    Example:
        >>> tokenizer = embedded_tokenizer(["Anna met Tom.", "Tom met Anna.", "安娜遇见了汤姆。"] * 2)
        >>> tokenizer.tokenize("Anna met Bo. 安娜")
        ['anna', 'met', 'b', '##o', '.', '安', '娜']
        >>> tokenizer.decode(tokenizer("安娜遇见了汤姆。").input_ids, skip_special_tokens=True)
        '安娜遇见了汤姆。'
    """
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    splitter = pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        pieces = splitter.pre_tokenize_str(normalizer.normalize_str(text))
        counts.update(piece for piece, _ in pieces)
    frequent = [word for word, count in counts.items() if count >= min_count]
    letters = string.ascii_lowercase + string.digits
    ordered = dict.fromkeys(
        [
            *_SPECIAL,
            *letters,
            *(f"##{letter}" for letter in letters),
            *_PUNCTUATION,
            *sorted(frequent, key=lambda word: (-counts[word], word)),
            *sorted(set(_NAME_CHARACTERS)),
        ]
    )
    vocabulary = {token: index for index, token in enumerate(ordered)}

    backend = Tokenizer(
        models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=64)
    )
    backend.normalizer = normalizer
    backend.pre_tokenizer = splitter
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    wide = r"\x{2E80}-\x{9FFF}\x{FF00}-\x{FFEF}“”‘’…"
    backend.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=True),
            decoders.Fuse(),
            decoders.Replace(Regex(rf"(?<=[{wide}]) +| +(?=[{wide}])"), ""),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )

"""What can be put around a sentence: opening and closing clauses, and the written register."""

from __future__ import annotations

import re

_OPENINGS = (
    ("everybody in the village knows that ", "村子里的人都知道，"),
    ("my friend told me on the phone that ", "我的朋友在电话里告诉我，"),
    ("I read in a letter that ", "我在一封信里看到，"),
    ("at dinner my father said that ", "吃晚饭的时候我爸爸说，"),
    ("the driver of the bus believes that ", "公交车司机相信，"),
    ("nobody at the school knows that ", "学校里没有人知道，"),
    ("my younger sister wrote to me that ", "我妹妹写信告诉我，"),
    ("yes, it is true that ", "是的，这是真的："),
)

_CLOSINGS = (
    (", and we were all very happy about it", "，我们都为此很高兴"),
    (", but nobody was surprised", "，但是谁也不觉得奇怪"),
    (", so my mother told everybody", "，所以我妈妈告诉了大家"),
    (", as you can see in the photo", "，这从照片上就能看出来"),
    (", but please do not tell my boss", "，不过请不要告诉我的老板"),
    (", and that is a long story", "，这个故事说来话长"),
    (", although it is hard to believe", "，虽然这很难相信"),
    (", as the newspaper said on Sunday", "，星期天的报纸是这么说的"),
)

_OFFICIAL = (
    ("it is hereby confirmed that ", "兹证明，"),
    ("according to the official record, ", "据正式记录，"),
    ("as stated in the annual report, ", "如年度报告所述，"),
    ("the committee has noted that ", "委员会注意到，"),
    ("the undersigned declares that ", "本人谨此声明，"),
    ("according to the police investigation, ", "经警方调查，"),
)

_WRITTEN_ENGLISH = {
    "bought": "purchased",
    "buy": "purchase",
    "buying": "purchasing",
    "helped": "assisted",
    "help": "assist",
    "met": "encountered",
    "meet": "encounter",
    "told": "informed",
    "lived": "resided",
    "then": "subsequently",
    "wants": "wishes",
    "plans": "intends",
    "clever": "intelligent",
    "cleverer": "more intelligent",
    "rich": "wealthy",
    "richer": "wealthier",
    "brave": "courageous",
    "braver": "more courageous",
    "doctor": "physician",
    "doctors": "physicians",
    "lawyer": "attorney",
    "children": "minors",
    "seldom": "rarely",
    "often": "frequently",
    "almost": "approximately",
}

_WRITTEN_CHINESE = {
    "没有": "未",
    "然后": "随后",
    "但是": "然而",
    "告诉": "告知",
    "因为": "由于",
    "虽然": "尽管",
    "妈妈": "母亲",
    "爸爸": "父亲",
    "老师": "教师",
    "医生": "医师",
    "昨天": "昨日",
    "昨晚": "昨夜",
    "今天早上": "今晨",
    "星期一": "周一",
    "星期二": "周二",
    "星期三": "周三",
    "星期四": "周四",
    "星期五": "周五",
    "星期六": "周六",
    "星期天": "周日",
    "帮助": "协助",
    "送给": "赠予",
    "孩子们": "未成年人",
    "经常": "时常",
    "差不多": "约",
    "打算": "拟",
    "有钱": "富有",
    "住了": "居住了",
    "买": "购买",
    "当时": "彼时",
    "一起": "共同",
    "和": "与",
    "跟": "与",
}

_ENGLISH_WORD = re.compile(r"[A-Za-z'-]+")
_CHINESE_WORD = re.compile("|".join(sorted(_WRITTEN_CHINESE, key=len, reverse=True)))

NUM_CLAUSES = len(_OPENINGS)
NUM_OFFICIAL = len(_OFFICIAL)


def opened(english: str, chinese: str, which: int) -> tuple[str, str]:
    """Put an opening clause before both sides."""
    return _OPENINGS[which][0] + english, _OPENINGS[which][1] + chinese


def closed(english: str, chinese: str, which: int) -> tuple[str, str]:
    """Put a closing clause after both sides."""
    return english + _CLOSINGS[which][0], chinese + _CLOSINGS[which][1]


def official(english: str, chinese: str, which: int) -> tuple[str, str]:
    """Put an opening of the written register before both sides."""
    return _OFFICIAL[which][0] + english, _OFFICIAL[which][1] + chinese


def written(english: str, chinese: str) -> tuple[str, str]:
    """Collectives words of the spoken register for those of the written one.

    Example:
        >>> written("Anna bought a hat", "安娜买了一顶帽子")
        ('Anna purchased a hat', '安娜购买了一顶帽子')
    """
    return (
        _ENGLISH_WORD.sub(lambda m: _WRITTEN_ENGLISH.get(m[0], m[0]), english),
        _CHINESE_WORD.sub(lambda m: _WRITTEN_CHINESE[m[0]], chinese),
    )


def contracted(english: str) -> str:
    """Write the negations short, as in speech.

    Example:
        >>> contracted("Anna did not go, it is not far")
        "Anna didn't go, it isn't far"
    """
    return english.replace(" did not ", " didn't ").replace(" is not ", " isn't ")

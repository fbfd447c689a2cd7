"""The people who appear in the embedded sentences."""

from __future__ import annotations

from lit_fed.data.embedded.words import people

WESTERN = people(
    """
    Anna | 安娜
    Mary | 玛丽
    Lucy | 露西
    Emma | 艾玛
    Helen | 海伦
    """,
    female=True,
) + people(
    """
    Tom | 汤姆
    Peter | 彼得
    David | 大卫
    Mike | 迈克
    Paul | 保罗
    """,
    female=False,
)

CHINESE = people(
    """
    Li Na | 李娜
    Wang Fang | 王芳
    Xiaohong | 小红
    Xiaomei | 小梅
    """,
    female=True,
) + people(
    """
    Li Ming | 李明
    Zhang Qiang | 张强
    Chen Gang | 陈刚
    Xiaogang | 小刚
    """,
    female=False,
)

TITLED = people(
    """
    Ms. Green | 格林女士
    Ms. White | 怀特女士
    Ms. Wang | 王女士
    Ms. Zhao | 赵女士
    """,
    female=True,
) + people(
    """
    Mr. Brown | 布朗先生
    Mr. Smith | 史密斯先生
    Mr. Li | 李先生
    Mr. Chen | 陈先生
    """,
    female=False,
)

UNNAMED = people(
    """
    the girl | 那个女孩
    the old lady | 那位老太太
    Grandma | 奶奶
    Aunt Wang | 王阿姨
    """,
    female=True,
) + people(
    """
    the boy | 那个男孩
    the old man | 那位老先生
    Grandpa | 爷爷
    Uncle Li | 李叔叔
    """,
    female=False,
)

UNSEEN = people(
    """
    Clara | 克拉拉
    Sophia | 索菲娅
    Diana | 戴安娜
    Grace | 格蕾丝
    Rose | 罗丝
    Sun Li | 孙丽
    Zhou Jie | 周洁
    Ms. Black | 布莱克女士
    Ms. Taylor | 泰勒女士
    Ms. Sun | 孙女士
    Ms. Huang | 黄女士
    """,
    female=True,
) + people(
    """
    George | 乔治
    Oscar | 奥斯卡
    Victor | 维克托
    Simon | 西蒙
    Kevin | 凯文
    Wu Tao | 吴涛
    He Yong | 何勇
    Mr. Jones | 琼斯先生
    Mr. Parker | 帕克先生
    Mr. Zhou | 周先生
    Mr. Huang | 黄先生
    """,
    female=False,
)

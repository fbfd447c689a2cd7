"""Places, times, quantities and other circumstances of the embedded lexicon."""

from __future__ import annotations

from lit_fed.data.embedded.words import entries

PLACES = entries(
    """
    at the station | 车站
    in the park | 公园
    at the library | 图书馆
    at the hospital | 医院
    at the airport | 机场
    in the restaurant | 餐馆
    at the school | 学校
    at the market | 市场
    on the beach | 海边
    by the river | 河边
    in the village | 村子里
    on the farm | 农场
    """,
    "en",
    "zh",
)

GOALS = entries(
    """
    the park | 公园
    the library | 图书馆
    the hospital | 医院
    the museum | 博物馆
    the school | 学校
    the market | 市场
    the beach | 海边
    the farm | 农场
    """,
    "en",
    "zh",
)

ROOMS = entries(
    """
    office | 办公室里
    kitchen | 厨房里
    garden | 花园里
    car | 车里
    shop | 店里
    house | 家里
    room | 房间里
    classroom | 教室里
    """,
    "en",
    "zh",
)

SPOTS = entries(
    """
    on the table | 桌子上
    under the bed | 床底下
    in the drawer | 抽屉里
    behind the door | 门后面
    beside the window | 窗户旁边
    on the shelf | 架子上
    in the box | 箱子里
    on the sofa | 沙发上
    """,
    "en",
    "zh",
)

CITIES = entries(
    """
    Beijing | 北京
    Shanghai | 上海
    Chengdu | 成都
    Guangzhou | 广州
    London | 伦敦
    Paris | 巴黎
    Tokyo | 东京
    Moscow | 莫斯科
    """,
    "en",
    "zh",
)

PAST_TIMES = entries(
    """
    yesterday | 昨天
    this morning | 今天早上
    last night | 昨晚
    last week | 上周
    last year | 去年
    two days ago | 两天前
    """,
    "en",
    "zh",
)

DAYS = entries(
    """
    Monday | 星期一
    Tuesday | 星期二
    Wednesday | 星期三
    Thursday | 星期四
    Friday | 星期五
    Saturday | 星期六
    Sunday | 星期天
    """,
    "en",
    "zh",
)

NUMBERS = entries(
    """
    two | 两
    three | 三
    four | 四
    five | 五
    six | 六
    seven | 七
    eight | 八
    nine | 九
    ten | 十
    """,
    "en",
    "zh",
)

UNITS = entries(
    """
    years | 年
    months | 个月
    weeks | 个星期
    days | 天
    """,
    "en",
    "zh",
)

LIMITS = entries(
    """
    at least | 至少
    at most | 最多
    exactly | 正好
    almost | 差不多
    """,
    "en",
    "zh",
)

FREQUENCIES = entries(
    """
    always | 总是
    often | 经常
    sometimes | 有时
    seldom | 很少
    never | 从不
    """,
    "en",
    "zh",
)

WEATHER = entries(
    """
    it rained | 下雨
    it snowed | 下雪
    it was windy | 刮风
    it was hot | 天气热
    it was cold | 天气冷
    """,
    "en",
    "zh",
)

SEQUENCE = entries(
    """
    before | 之前
    after | 之后
    """,
    "en",
    "zh",
)

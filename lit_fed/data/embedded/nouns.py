"""Nouns and adjectives of the embedded lexicon."""

from __future__ import annotations

from lit_fed.data.embedded.words import entries

_NOUN = ("en", "zh", "plural", "measure")

FOOD = entries(
    """
    apple | 苹果 | apples | 个
    orange | 橙子 | oranges | 个
    peach | 桃子 | peaches | 个
    egg | 鸡蛋 | eggs | 个
    tomato | 西红柿 | tomatoes | 个
    potato | 土豆 | potatoes | 个
    watermelon | 西瓜 | watermelons | 个
    carrot | 胡萝卜 | carrots | 根
    """,
    *_NOUN,
    domain="food",
)

OBJECTS = (
    entries(
        """
        bowl | 碗 | bowls | 个
        cup | 杯子 | cups | 个
        plate | 盘子 | plates | 个
        spoon | 勺子 | spoons | 把
        knife | 刀 | knives | 把
        """,
        *_NOUN,
        domain="kitchen",
    )
    + entries(
        """
        book | 书 | books | 本
        pencil | 铅笔 | pencils | 支
        notebook | 笔记本 | notebooks | 本
        dictionary | 词典 | dictionaries | 本
        schoolbag | 书包 | schoolbags | 个
        """,
        *_NOUN,
        domain="school",
    )
    + entries(
        """
        coat | 外套 | coats | 件
        shirt | 衬衫 | shirts | 件
        hat | 帽子 | hats | 顶
        scarf | 围巾 | scarves | 条
        sweater | 毛衣 | sweaters | 件
        """,
        *_NOUN,
        domain="clothes",
    )
    + entries(
        """
        chair | 椅子 | chairs | 把
        lamp | 台灯 | lamps | 盏
        clock | 闹钟 | clocks | 个
        blanket | 毯子 | blankets | 条
        vase | 花瓶 | vases | 个
        """,
        *_NOUN,
        domain="home",
    )
    + entries(
        """
        suitcase | 行李箱 | suitcases | 个
        camera | 相机 | cameras | 台
        umbrella | 雨伞 | umbrellas | 把
        bicycle | 自行车 | bicycles | 辆
        """,
        *_NOUN,
        domain="travel",
    )
    + entries(
        """
        guitar | 吉他 | guitars | 把
        violin | 小提琴 | violins | 把
        flute | 笛子 | flutes | 支
        kite | 风筝 | kites | 只
        football | 足球 | footballs | 个
        """,
        *_NOUN,
        domain="leisure",
    )
    + entries(
        """
        computer | 电脑 | computers | 台
        printer | 打印机 | printers | 台
        phone | 手机 | phones | 部
        folder | 文件夹 | folders | 个
        """,
        *_NOUN,
        domain="office",
    )
    + entries(
        """
        hammer | 锤子 | hammers | 把
        shovel | 铁锹 | shovels | 把
        bucket | 水桶 | buckets | 个
        rope | 绳子 | ropes | 根
        """,
        *_NOUN,
        domain="farm",
    )
)

ANIMALS = entries(
    """
    dog | 狗 | dogs | 只
    cat | 猫 | cats | 只
    rabbit | 兔子 | rabbits | 只
    horse | 马 | horses | 匹
    monkey | 猴子 | monkeys | 只
    sheep | 羊 | sheep | 只
    """,
    *_NOUN,
)

DISHES = entries(
    """
    tea | 茶
    coffee | 咖啡
    milk | 牛奶
    noodles | 面条
    dumplings | 饺子
    soup | 汤
    beef | 牛肉
    fish | 鱼
    fried rice | 炒饭
    """,
    "en",
    "zh",
)

COLOURS = entries(
    """
    red | 红色
    blue | 蓝色
    green | 绿色
    yellow | 黄色
    black | 黑色
    white | 白色
    brown | 棕色
    purple | 紫色
    """,
    "en",
    "zh",
)

QUALITIES = entries(
    """
    tall | 高 | taller
    old | 年长 | older
    young | 年轻 | younger
    strong | 强壮 | stronger
    busy | 忙 | busier
    brave | 勇敢 | braver
    clever | 聪明 | cleverer
    patient | 有耐心 | more patient
    quiet | 安静 | quieter
    """,
    "en",
    "zh",
    "more",
)

RELATIVES = entries(
    """
    mother | 妈妈
    father | 爸爸
    elder brother | 哥哥
    younger brother | 弟弟
    elder sister | 姐姐
    younger sister | 妹妹
    son | 儿子
    daughter | 女儿
    friend | 朋友
    neighbour | 邻居
    """,
    "en",
    "zh",
)

JOBS = entries(
    """
    teacher | 老师
    doctor | 医生
    nurse | 护士
    driver | 司机
    farmer | 农民
    lawyer | 律师
    singer | 歌手
    writer | 作家
    dentist | 牙医
    scientist | 科学家
    """,
    "en",
    "zh",
)

GROUPS = entries(
    """
    students | 学生们
    children | 孩子们
    doctors | 医生们
    tourists | 游客们
    neighbours | 邻居们
    reporters | 记者们
    """,
    "en",
    "zh",
)

VEHICLES = entries(
    """
    train | 火车
    bus | 大巴
    plane | 飞机
    ship | 轮船
    """,
    "en",
    "zh",
)

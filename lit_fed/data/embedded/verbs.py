"""Verbs and whole predicates of the embedded lexicon."""

from __future__ import annotations

from lit_fed.data.embedded.words import entries

TRADES = entries(
    """
    buy | 买 | bought
    sell | 卖 | sold
    find | 找到 | found
    lose | 弄丢 | lost
    choose | 挑选 | chose
    draw | 画 | drew
    see | 看到 | saw
    """,
    "en",
    "zh",
    "past",
)

HANDLINGS = entries(
    """
    buy | 买 | bought | buying
    sell | 卖 | sold | selling
    choose | 挑选 | chose | choosing
    draw | 画 | drew | drawing
    borrow | 借 | borrowed | borrowing
    look for | 找 | looked for | looking for
    """,
    "en",
    "zh",
    "past",
    "ing",
)

GIFTS = entries(
    """
    give | 送给 | gave
    lend | 借给 | lent
    sell | 卖给 | sold
    hand | 递给 | handed
    bring | 带给 | brought
    """,
    "en",
    "zh",
    "past",
)

DEEDS = entries(
    """
    help | 帮助 | helped
    visit | 拜访 | visited
    thank | 感谢 | thanked
    meet | 遇见 | met
    find | 找到 | found
    praise | 表扬 | praised
    comfort | 安慰 | comforted
    warn | 警告 | warned
    encourage | 鼓励 | encouraged
    hug | 拥抱 | hugged
    """,
    "en",
    "zh",
    "past",
)

ACTIVITIES = entries(
    """
    play football | 踢足球 | played football | playing football | plays football | 踢了足球
    play basketball | 打篮球 | played basketball | playing basketball | plays basketball | 打了篮球
    play the piano | 弹钢琴 | played the piano | playing the piano | plays the piano | 弹了钢琴
    eat noodles | 吃面条 | ate noodles | eating noodles | eats noodles | 吃了面条
    drink tea | 喝茶 | drank tea | drinking tea | drinks tea | 喝了茶
    drink coffee | 喝咖啡 | drank coffee | drinking coffee | drinks coffee | 喝了咖啡
    read newspapers | 看报纸 | read newspapers | reading newspapers | reads newspapers | 看了报纸
    watch films | 看电影 | watched films | watching films | watches films | 看了电影
    cook dinner | 做晚饭 | cooked dinner | cooking dinner | cooks dinner | 做了晚饭
    fly kites | 放风筝 | flew kites | flying kites | flies kites | 放了风筝
    feed birds | 喂鸟 | fed birds | feeding birds | feeds birds | 喂了鸟
    learn English | 学英语 | learnt English | learning English | learns English | 学了英语
    wash clothes | 洗衣服 | washed clothes | washing clothes | washes clothes | 洗了衣服
    sing songs | 唱歌 | sang songs | singing songs | sings songs | 唱了歌
    dance | 跳舞 | danced | dancing | dances | 跳了舞
    """,
    "en",
    "zh",
    "past",
    "ing",
    "third",
    "perfect",
)

PASTIMES = entries(
    """
    wait for the bus | 等公交车 | waiting for the bus
    talk on the phone | 打电话 | talking on the phone
    read newspapers | 看报纸 | reading newspapers
    drink coffee | 喝咖啡 | drinking coffee
    eat ice cream | 吃冰淇淋 | eating ice cream
    listen to music | 听音乐 | listening to music
    buy water | 买水 | buying water
    """,
    "en",
    "zh",
    "ing",
)

NEWS = entries(
    """
    pass the exam | 通过了考试 | passed the exam
    lose the key | 弄丢了钥匙 | lost the key
    win the match | 赢了比赛 | won the match
    miss the train | 错过了火车 | missed the train
    catch a cold | 感冒了 | caught a cold
    buy a car | 买了车 | bought a car
    break the window | 打破了窗户 | broken the window
    forget the password | 忘了密码 | forgotten the password
    learn to swim | 学会了游泳 | learnt to swim
    """,
    "en",
    "zh",
    "past",
)

EVENTS = entries(
    """
    leave the office | 离开办公室 | left the office
    go to bed | 睡觉 | went to bed
    go home | 回家 | went home
    take the exam | 参加考试 | took the exam
    get married | 结婚 | got married
    move house | 搬家 | moved house
    have lunch | 吃午饭 | had lunch
    leave hospital | 出院 | left hospital
    """,
    "en",
    "zh",
    "past",
)

DEPARTURES = entries(
    """
    go home | 回家了 | went home
    take a taxi | 坐上了出租车 | took a taxi
    fall asleep | 睡着了 | fell asleep
    burst out laughing | 大笑起来 | burst out laughing
    start to cry | 哭了起来 | started to cry
    go to the library | 去了图书馆 | went to the library
    go to the museum | 去了博物馆 | went to the museum
    buy some water | 买了些水 | bought some water
    """,
    "en",
    "zh",
    "past",
)

MOTIONS = entries(
    """
    stop | 停了下来 | stopped
    turn back | 转身走了 | turned back
    run away | 跑开了 | ran away
    lie down | 躺了下来 | lay down
    sit down | 坐了下来 | sat down
    fall into the river | 掉进了河里 | fell into the river
    jump up | 跳了起来 | jumped up
    """,
    "en",
    "zh",
    "past",
)

STAYS = entries(
    """
    live | 住 | lived
    work | 工作 | worked
    study | 学习 | studied
    wait | 等 | waited
    """,
    "en",
    "zh",
    "past",
)

ORDERINGS = entries(
    """
    order | 点了 | ordered
    want | 想要 | wanted
    bring | 带了 | brought
    choose | 选了 | chose
    """,
    "en",
    "zh",
    "past",
)

import pytest

from lit_fed.data.sources.chinese_script import Script, chinese_script

# Written by hand: characters that differ, simplified and traditional.
PAIRS = (
    "这這个個们們说說时時过過来來对對会會国國学學为為没沒还還让讓问問间間东東车車见見觉覺长長门門马馬"
    "语語话話认認识識请請谢謝爱愛书書钱錢买買卖賣开開关關头頭边邊远遠进進飞飛鸟鳥鱼魚红紅绿綠蓝藍猫貓"
    "妈媽爷爺孙孫岁歲单單双雙医醫药藥电電脑腦习習写寫读讀讲講谁誰应應当當难難汉漢"
)


@pytest.mark.parametrize("i", range(0, len(PAIRS), 2))
def test_characters_that_differ(i: int) -> None:
    assert chinese_script(f"好{PAIRS[i]}。") == "simplified"
    assert chinese_script(f"好{PAIRS[i + 1]}。") == "traditional"
    assert chinese_script(PAIRS[i : i + 2]) == "mixed"


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("", "either"),
        ("你好吗？", "simplified"),
        ("你好嗎？", "traditional"),
        # Big5 has some simplified forms, which are old characters of their own
        ("他在家里听机", "either"),
        ("Grüße, “café” 😀 はい", "either"),
    ],
)
def test_what_is_of_both_scripts_or_of_none(text: str, script: Script) -> None:
    assert chinese_script(text) == script

"""Which ideographs are rare: most vocabularies have a token for each common one; small ones write the rest as bytes."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

# The thousand that are most frequent in Chinese as it is written today, which come to 87% of it, in the order of
# Unicode. Counted over the frequencies of words in jieba 0.42.1.
COMMON = (
    "一七万三上下不与专且世业东两严个中丰临为主举久么义之乎乐九也习乡书买乱了争事二于云互五亚些交产京亮亲"
    "人亿什仅今介仍从他代令以们件价任份企伊众优会传伤伯似但位低住体何余作你使例供依侧便俄保信修倒候值假做"
    "停像儿元兄充先光克免党入全八公六兰共关兴兵其具典养内再写军农冲决况冷准减几出击刀分切划列刘则刚创初判"
    "利别到制刺刻前剑剧副力办功加务动助劳势包化北区医十千升半华协单卖南博占卫印危即却厂历压原去县参又及友"
    "双反发取受变口古句另只叫召可台史右叶号司吃各合同名后向吗否吧含听吴吸告员呢周味呼命和咱品哈响哥哪唐商"
    "啊善喜喝器四回因团园围固国图土在地场均坐块坚型城域基堂境墙增士声处备复夏外多夜够大天太夫央失头奇女她"
    "好如妇妈始姑姓委威娘子字存孙季学孩宁它守安宋完宗官定宜宝实审客宣室宫害家容密富察对导封射将小少尔尚就"
    "尼尽局层居届展属山岁岛岸州工左差己已巴市布师希帝带席帮常干平年并广庆序应底府度座庭康建开异式引弟张弹"
    "强归当录形彩影往征待很律得微德心必志忙快念忽怀态怎怕思急性怪总恩息恶情惊想意感愿慢成我或战户房所手才"
    "打执扩批找承技把投抗护报担拉招括拿持指按挥换据授掌排探接控推提支收改攻放政故效敌救教敢散数整文斗料断"
    "斯新方施旁旅族无既日旧早时昌明易星春是显晚普景暗曲更曾最月有服望朝期木未本术朱机杀杂权李材村条来杨松"
    "板极构林果枪架某查标树校样核根格案桥检植楚楼模次欢欧止正此步武死段殿母每毒比毕毛毫民气水永求汉江沉沙"
    "没河油治沿法波注泽洋洞洪洲活派流测济海消深清渐温港游湖湾源满演激火灵炮点烈热然照熟爱父爷片版牌牙牛物"
    "特状独献率玉王环现班球理甚生用田由甲电男画界留略病痛登白百的皇皮益监盘盛目直相省看真眼着督知短石矿研"
    "破础确示礼社祖神票禁福离种科秘积称移程稳究空穿突立站竟章端笑笔第等筑答策简算管米类精系素索紧红约级纪"
    "纳线练组细织终经结给绝统继续维编网罗罪置美群老考者而职联肉股育背胜胡能脑脚脸臣自至致航般船良色艺节花"
    "苏若苦英范茶荆草药获菜营落著蒙藏虽血行街衣补表被装襄西要见观规视觉角解言警计认让训议记讲许论设证评识"
    "诉词试诗话该语说请读谁调谈谷象负财责败货质贵费资赛走赶起超越足跟路身车转轮软轻载较辑输辖边达过迎运近"
    "还这进远连述追退送适选逐通速造遇道遗那邦部都鄂配酒采里重量金钟钱铁银销错镇长门问间闻队防阳阵阶阿附际"
    "陆陈降限院除险陵随难雄集雨雷需露青静非靠面革音顶项顺须顾顿预领题额风飞食饭馆首香马验骨高鱼鲜黄黑齐龙"
)

# As characters.py counts them: all whose UTF-8 begins with E4 to E9.
_COMMON_IDEOGRAPHS = range(0x4000, 0xA000)

# Longer texts are looked at in part: the thousands that are left tell the share of rare ones well enough.
_LONG = 1 << 12
# A prime, so that what has lines of one length is not looked at in the same places of each.
_STEP = 5


def count_rare(text: str) -> int:
    """Count the ideographs that are not among the thousand most common ones; in a long text, roughly.

    Args:
        text: Any text. Of one longer than 4,096 characters every fifth character is looked at.
    """
    if len(text) > _LONG:
        return _STEP * len(_rare().findall(text[::_STEP]))
    return len(_rare().findall(text))


# Compiled where a text has ideographs: that takes milliseconds, which those who write none of them need not wait for.
@functools.cache
def _rare() -> re.Pattern[str]:
    # What is looked for is spelled out, which is found twice as fast as what a class leaves out.
    common = frozenset(COMMON)
    return re.compile(f"[{''.join(chr(code) for code in _COMMON_IDEOGRAPHS if chr(code) not in common)}]")


# What fits into a processor's cache; a word that is cut in two in so many characters changes nothing.
_PIECE = 1 << 14

Counts = tuple[int, ...]
"""How many there are of each of CLASSES; trailing zeros are left out."""

CLASSES = (
    "words",
    "letters",
    "long_words",
    "case_changes",
    "capitals",
    "joined_words",
    "digit_groups",
    "more_digits",
    "punctuation",
    "rules",
    "punctuation_runs",
    "line_breaks",
    "line_ends",
    "wide_blanks",
    "blanks",
    "lone_blanks",
    "controls",
    # What follows is not in ASCII.
    "accents",
    "alphabets",
    "abjads",
    "abugidas",
    "symbols",
    "kana",
    "ideographs",
    "hangul",
    "wide",
    "astral",
    "rare_ideographs",
)
"""Names of what is counted.

words: runs of Latin letters. letters: all of them. long_words: seven more letters of a word.
case_changes: a capital behind a small letter. capitals: pairs of capitals.
joined_words: words right behind a sign other than `_`, `.` and `(`, as behind a quote: most tokens for words have the
blank in front of them.
digit_groups: runs of digits, one more for each four digits of a run, which is about one for each three.
more_digits: all digits but one of each group.
rules: eight signs in a row, which are most often the same one. punctuation: signs outside of rules.
punctuation_runs, blanks: runs; a tab is a blank. wide_blanks: runs of two blanks or more.
lone_blanks: a blank before a digit or punctuation, which most tokenizers keep apart.
line_ends: line breaks behind punctuation, which most tokenizers put into one token with it.
line_breaks: all others, two in a row being one.
accents: Latin letters with a mark. alphabets: Greek, Cyrillic and Armenian letters. abjads: Hebrew and Arabic.
abugidas: Indic scripts, Thai and others of three bytes. symbols: dashes, quotes, arrows and the like.
kana: kana and the punctuation of Chinese and Japanese. wide: full-width forms.
astral: emoji and all that has four bytes.
ideographs: common ones. rare_ideographs: all others, of which small vocabularies have the bytes only.
"""


def count_classes(text: str) -> Counts:
    """Count what a text is made of.

    Args:
        text: Any text; lone surrogates and control characters are fine.
    """
    if len(text) <= _PIECE:
        return _count(text)
    totals = [0] * len(CLASSES)
    for start in range(0, len(text), _PIECE):
        for place, number in enumerate(_count(text[start : start + _PIECE])):
            totals[place] += number
    return tuple(totals)


def _count(text: str) -> Counts:
    # The line break in front lets a run that begins the text begin like the others.
    encoded = b"\n" + text.encode("utf-8", "surrogatepass")
    classes = encoded.translate(_CLASS_OF, _CONTINUATIONS)
    count = classes.count
    letters = classes.translate(_LETTERS)
    blanks = classes.translate(_BLANKS)
    digit_groups = classes.translate(_DIGITS).count(b" 0") + count(b"0000")
    rules = count(b"........")
    line_ends = count(b".n")
    ascii_counts = (
        letters.count(b" a"),
        letters.count(b"a"),
        letters.count(b"aaaaaaa"),
        count(b"aA"),
        count(b"AA"),
        encoded.translate(_SIGNS).count(b".a"),
        digit_groups,
        count(b"0") - digit_groups,
        count(b".") - 8 * rules,
        rules,
        classes.translate(_PUNCTUATION).count(b" ."),
        max(0, count(b"n", 1) - count(b"nn", 1) - line_ends),
        line_ends,
        blanks.count(b"-bb"),
        blanks.count(b"-b"),
        count(b" 0") + count(b" ."),
        count(b"c"),
    )
    if text.isascii():
        return ascii_counts
    others = tuple(map(classes.translate(None, _ASCII_CLASSES).count, _OTHER_CLASSES))
    ideographs = others[_IDEOGRAPHS]
    if not ideographs:
        return (*ascii_counts, *others)
    rare = min(ideographs, count_rare(text))
    return (*ascii_counts, *others[:_IDEOGRAPHS], ideographs - rare, *others[_IDEOGRAPHS + 1 :], rare)


def _class_of(byte: int) -> str:
    if byte >= 0x80:
        return next(name for last, name in _BY_FIRST_BYTE if byte <= last)
    character = chr(byte)
    if character.isalpha():
        return "A" if character.isupper() else "a"
    if character.isdigit():
        return "0"
    if character in "\r\n":
        return "n"
    if character in " \t":
        return " "
    return "." if character.isprintable() else "c"


# First bytes of UTF-8, up to and including each: C2 begins the signs of Latin-1, CE to D5 Greek, Cyrillic and Armenian,
# D6 to DF Hebrew and Arabic, E0 and E1 Indic and others, E2 signs, E3 kana, E4 to E9 ideographs, EA to ED Hangul.
_BY_FIRST_BYTE = (
    (0xC1, "c"),
    (0xC2, "q"),
    (0xCD, "e"),
    (0xD5, "g"),
    (0xDF, "s"),
    (0xE1, "i"),
    (0xE2, "q"),
    (0xE3, "k"),
    (0xE9, "C"),
    (0xED, "h"),
    (0xEF, "w"),
    (0xFF, "x"),
)
_OTHER_CLASSES = (b"e", b"g", b"s", b"i", b"q", b"k", b"C", b"h", b"w", b"x")
_ASCII_CLASSES = b"aA0. nc"
_IDEOGRAPHS = _OTHER_CLASSES.index(b"C")
_CONTINUATIONS = bytes(range(0x80, 0xC0))


def _table(mapped: Callable[[int], str]) -> bytes:
    return "".join(map(mapped, range(256))).encode("latin-1")


def _only(kept: str, shown: str, other: str = " ") -> bytes:
    return _table(lambda byte: shown if chr(byte) in kept else other)


_CLASS_OF = _table(_class_of)
_LETTERS = _only("aAe", "a")
_DIGITS = _only("0", "0")
_PUNCTUATION = _only(".", ".")
_BLANKS = _only(" ", "b", "-")
# Code has words behind these so often that vocabularies have them, too.
_LIKE_A_BLANK = b"_.("
_SIGNS = _table(lambda byte: _class_of(byte).lower() if byte < 0x80 and byte not in _LIKE_A_BLANK else " ")

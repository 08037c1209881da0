#!/usr/bin/env python3
"""Records tests/golden/eval/text_scores.jsonl: what jieba, rouge_chinese and nltk give, put together as LLaMA-Factory puts them; words.jsonl:
jieba's words of texts that try its rules, a text per line; words_of_data_set.json: number and checksum of the words of LLaMA-Factory's
data/alpaca_zh_demo.json (argument 1; ../shared/data has it). Needs jieba 0.42.1, rouge_chinese 1.0.3, nltk 3.9."""
import json
import pathlib
import random
import sys
import zlib

import jieba
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_chinese import Rouge


def scores(predicted, reference):
    ours, theirs = list(jieba.cut(predicted)), list(jieba.cut(reference))
    if not " ".join(ours).split() or not " ".join(theirs).split():
        found = {name: {"f": 0.0} for name in ("rouge-1", "rouge-2", "rouge-l")}
    else:
        found = Rouge().get_scores(" ".join(ours), " ".join(theirs))[0]
    row = {name: round(value["f"] * 100, 4) for name, value in found.items()}
    row["bleu-4"] = round(sentence_bleu([list(reference)], list(predicted), smoothing_function=SmoothingFunction().method3) * 100, 4)
    return ours, row


pairs = [
    ("The cat sat on the mat.", "The cat sat on the mat."), ("the the the the", "the cat"), ("", "something"), ("something", ""), ("", ""), ("   ", "x"),
    ("a", "a"), ("ab", "ba"), ("Is it? Yes! No.", "It is? Yes... no"), ("wait...... what?", "wait ......what......"), ("dots ....... and ............. more", "dots ...... and"),
    ("C++ and C# at AT&T, not c++11 or FAT&T", "c# c++ AT&T"), ("3.14% of 100.5 e.g. U.S.A. v1.2.3 50%", "3.14 % of 100,5 e. g. USA v1.2 50 %"),
    ("first line\nsecond line\n\n \n third", "first line\n\nsecond"), ("tab\tand\r\nreturn\u3000wide\u00a0hard", "tab and return wide hard"),
    ("caf\u00e9 na\u00efve \u00fcber \u00df", "cafe naive uber ss"), ("\u201cQuoted?\u201d he said. \u201cYes.\u201d", "\"Quoted?\" he said"), ("emoji \U0001f600\U0001f600 \u2026\u2026 end", "emoji \U0001f600 \u2026 end"),
    ("\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002\u6211\u4eec\u53bb\u516c\u56ed\u5427\uff01", "\u4eca\u5929\u7684\u5929\u6c14\u4e0d\u9519\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u3002"), ("\u7528C++\u5199\u7684v2.0\u7a0b\u5e8f\uff1f", "\u7528C#\u5199\u7684v2.0\u7a0b\u5e8f\u3002"),
    ("snake_case kebab-case a+b=c #tag &amp; x_1", "snake case kebab case a + b"), ("word " * 30, "word " * 7 + "other " * 9),
]
draw = random.Random(11)
vocabulary = ["the", "a", "model", "loss", "is", "0.5", "12%", "(see", "x)", "and", "not", "then,", "low.", "why?", "......", "\n", "\u6a21\u578b", "\u635f\u5931\uff0c", "r-16", "B_1"]
for _ in range(40):
    text = [draw.choice(vocabulary) for _ in range(draw.randrange(1, 25))]
    other = [w if draw.random() < 0.7 else draw.choice(vocabulary) for w in text if draw.random() < 0.9] or ["x"]
    pairs.append((" ".join(text), " ".join(other)))

chinese = [
    ("今天北京的天气晴朗,适合外出游玩。", "今天天气晴朗,北京适合出门游玩。"), ("我来到北京清华大学", "我在清华大学学习"), ("他来到了网易杭研大厦", "网易杭研大厦在杭州"),
    ("机器学习是人工智能的一个分支,它让计算机从数据中学习。", "机器学习是人工智能的分支之一,计算机可以从数据中学习规律。"), ("是。不是!也许?……", "不是。是?"),
    ("李小福是创新办主任也是云计算方面的专家", "云计算专家李小福是创新办主任"), ("他说:“好。”然后走了。", "他说“好”,就走了。"), ("使用Python3.11和C++编写程序", "用C++和Python编写程序"),
    ("臺灣的夜市小吃很有名", "臺灣夜市的小吃非常有名"), ("一、准备材料;\n二、切菜;\n三、下锅。", "一、准备;\n二、切菜\n\n三、下锅炒。"), ("研究生命起源", "研究生命的起源"), ("中文", "English"),
    ("\u3000 \u3000", "中文"), ("结婚的和尚未结婚的", "尚未结婚的和结婚的"), ("这个价格是3.5元,涨了50%。", "价格涨了50%,是3.5元。"),
]
pieces = ["模型", "损失", "训练", "很", "低", "。", ",", "学习率", "是", "0.01", "LoRA", "适配器", "梯度下降", "我们", "可以", "看到", "!", "\n", "张伟民", "欧阳修"]
for _ in range(25):
    text = [draw.choice(pieces) for _ in range(draw.randrange(1, 25))]
    other = [w if draw.random() < 0.7 else draw.choice(pieces) for w in text if draw.random() < 0.9] or ["无"]
    chinese.append(("".join(text), "".join(other)))

texts = [text for pair in chinese for text in pair] + [
    # words of the dictionary that overlap; single characters that are likelier than a word
    "南京市长江大桥", "武汉市长江大桥欢迎您", "小明硕士毕业于中国科学院计算所,后在日本京都大学深造", "乒乓球拍卖完了", "工信处女干事每月经过下属科室都要亲口交代24口交换机等技术性器件的安装工作",
    "他的的确确是这样说的", "买水果然后来世博园最后去世博会", "这是一个伸手不见五指的黑夜。我叫孙悟空,我爱北京,我爱Python和C++。", "中华人民共和国全国人民代表大会常务委员会", "我不喜欢日本和服", "雷猴回归人间",
    "一一一一一", "的的的的", "了了了", "人人人人人人", "不不不", "十十", "二二二二", "哈哈哈哈哈哈", "呵呵呵", "永和服装饰品有限公司",
    # names and coinages that the dictionary lacks
    "王菁雅和赵翊霖去了咖啡厅", "欧阳震华、司马懿、诸葛孔明", "杜绍谦博士访问斯坦福", "特朗普与拜登辩论", "阿尔伯特·爱因斯坦", "尼古拉斯凯奇主演", "绝绝子yyds躺平内卷", "给力不解释,坑爹啊", "沙瑞金书记", "郭德纲于谦岳云鹏",
    # traditional and rare characters, characters on either side of what jieba takes for Chinese
    "臺灣大學資訊工程學系", "歡迎來到繁體中文的世界,電腦與網路", "龘靐齉齾爩", "魑魅魍魉", "饕餮盛宴", "乇丌亍", "\u4e00\u9fd5\u9fd6\u9fff中", "㐀㐁中文\u4dbf", "𠀀𠀁中文𪜀", "豈更車中", "〇一二三", "々々人々", "中\ufffd文",
    # other writing between
    "T恤和B超、AA制、IP地址、4S店、1号店、阿Q", "江南style江南Style江南STYLE", "AT&T与c++及C#和c#C++C++", "iPhone15Pro最大256GB,售价¥9999.00元", "GPT-4o_mini+v1.2.3#tag", "3.14%的1.5.5.和50%%5%", "2024年12月31日23:59:59",
    "网址https://example.com/a?b=c&d=e_f%20g,邮箱a.b-c@example.com", "1.中2.文3", "a中b文c", "-中-", "++中++", "...中......文...", "12%中34.5%文.6", "x光X光线γ射线", "卡拉OK", "café中文naïve", "全角ABC123%", "日本語の文章です", "한국어와 中文",
    "表情😀中文👨‍👩‍👧笑", "100米/秒²", "【重要】《通知》(附件)——第①条……", "“引号”‘单引’", "℃与∶号",
    # blanks
    "", " ", "  \t", "中 文", "中  文", " 中文 ", "中\n文", "第一行\r\n第二行\n\r第三行\r\r\n", "中\u3000文\u00a0中\u2028文\x1c", "\ufeff中文", "中\0文",
    # without Chinese
    "Hello, world!", "c++11 C## AT&T&T", "x=1.5e-3; y%=2", "a.b.c 1.2.3 4.%", "#tag_1 +1-1 &amp;", "\r\n\r\n", "......", "%%", "1%2%", "naïve", "a\tb", "C++.",
]
jieba.initialize()
dictionary = sorted(jieba.dt.FREQ)
for _ in range(60):  # words, beginnings of words and single characters side by side
    drawn = [draw.choice(dictionary) for _ in range(draw.randrange(1, 12))]
    texts.append("".join(w if draw.random() < 0.5 else w[: draw.randrange(1, len(w) + 1)] if draw.random() < 0.5 else draw.choice(w) for w in drawn))

folder = pathlib.Path(__file__).resolve().parent / "eval"
with open(folder / "text_scores.jsonl", "w", encoding="utf-8") as file:
    for predicted, reference in pairs + chinese:
        words, row = scores(predicted, reference)
        file.write(json.dumps({"predicted": predicted, "reference": reference, "words": words, **row}, ensure_ascii=False) + "\n")
with open(folder / "words.jsonl", "w", encoding="utf-8") as file:
    for text in texts:
        file.write(json.dumps(list(jieba.cut(text)), ensure_ascii=False) + "\n")
print(len(pairs + chinese), "pairs and", len(texts), "texts in", folder)

data = pathlib.Path(sys.argv[1]).read_bytes()
found = [list(jieba.cut(value)) for row in json.loads(data) for value in row.values()]
record = dict(crc32_of_file=zlib.crc32(data), texts=len(found), words=sum(map(len, found)),
              crc32_of_words=zlib.crc32("".join(word + "\0" for words in found for word in words).encode("utf-8")))
(folder / "words_of_data_set.json").write_text(json.dumps(record) + "\n")
print(record)

#!/usr/bin/env python3
"""Writes text_metrics.json: awkward pairs of texts with their scores by sacrebleu 2.6.0 and rouge-score 0.1.2, and one of each in several corpora.

    generate_text_metrics_goldens.py > text_metrics.json
"""
import json
import random

import rouge_score.rouge_scorer
import sacrebleu

ROUGE_TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
CHRF_SETTINGS = [{}, {"word_order": 2}, {"char_order": 4, "word_order": 1, "beta": 3}]

# Hypothesis, then references.
PAIRS = [
    ["The cat sat on the mat.", "The cat sat on the mat."],
    ["the cat sat on the mat", "The cat is on the mat.", "There is a cat on the mat."],
    ["the the the the the the the", "The cat is on the mat.", "the the cat"],
    ["the cat the cat on the mat", "the cat", "the cat the cat the cat the cat the cat the cat"],
    ["a b c d e f", "a b c x e f g h", "e f g h a b c d", "a b c d"],
    # empty, blank, short
    ["", ""],
    ["", "something was expected here"],
    ["nothing was expected here", ""],
    [" \t\n", "\u00a0"],
    ["", "a", ""],
    ["a", ""],
    ["a", "a"],
    ["a", "A"],
    ["a b", "a b c", "a"],
    ["yes", "yes", "Yes."],
    ["one two three", "one two three"],
    ["one two three four", "one two three four"],
    ["one two three four five", "five four three two one"],
    ["!", "!"],
    ["...", ". . ."],
    ["()", "(", ")"],
    # nothing in common
    ["alpha beta gamma delta", "1 2 3 4 5"],
    ["xyz", "abcdefghijklmnopqrstuvw"],
    ["completely other words stand here", "Не общие слова вовсе"],
    # numbers, points, commas, dashes
    ["It cost $1,234.56, not 1.234,56.", "It cost $1,234.56 , not 1.234,56 ."],
    ["1.5", "1 . 5", "1.5."],
    [".5 and 5. and ,5 and 5,", ". 5 and 5 . and , 5 and 5 ,"],
    ["1,,2..3,.4", "1 , , 2 . . 3 , . 4"],
    ["a,,b..c,.d...e....f", "a , , b . . c , . d . . . e . . . . f"],
    ["in 1990-1995 and A-4, 4-A, x-1-2-y, 3--4, -5", "in 1990 - 1995 and A-4 , 4 - A , x-1 - 2 - y , 3 - - 4 , -5"],
    ["well-known, state-of-the-art", "well - known , state - of - the - art", "well-known state-of-the-art"],
    ["3.14-2.71", "3.14 - 2.71"],
    ["U.S.A. v. U.K.", "U . S . A . v . U . K ."],
    ["٣٫١٤ ١,٢ १.२", "٣٫١٤ ١ , ٢ १ . २"],
    ["½.¾ ²,³", "½ . ¾ ² , ³"],
    # marks and quotes
    ["don't can't 'quoted' \"quoted\"", "do n't ca n't ' quoted ' \" quoted \""],
    ["(hi) [there] {you} <tag/> a@b.c #x *y* ~z~ `code` $1 50% a&b a_b a^b a|b a\\b a=b a+b?", "( hi ) [ there ] { you } < tag / > a @ b.c # x * y * ~ z ~ ` code ` $ 1 50 % a & b a _ b a ^ b a | b a \\ b a = b a + b ?"],
    ["«Bonjour», dit-il… “quotes” ‘single’ „low“ — dash – dash", "« Bonjour » , dit-il … \" quotes \" ' single ' - dash - dash"],
    ["(((deep))) ??!!", "( ( ( deep ) ) ) ? ? ! !", "(((deep)))??!!"],
    ["'''", "'", "''"],
    ["¿Qué? ¡Sí!", "¿ Qué ? ¡ Sí !"],
    # entities, <skipped>, hyphenation, lines
    ["&quot;AT&amp;T&quot; &lt;b&gt;", "\"AT&T\" <b>"],
    ["&amp;lt; &amp;quot; &amp;amp; &amp;gt;", "< &quot; &amp; >", "&lt; &quot; &amp; &gt;"],
    ["&QUOT; &apos; &#39; &amp &nbsp; & amp;", "\" ' ' & &"],
    ["a <skipped> b <skip<skipped>ped> <SKIPPED>", "a b < skipped > < SKIPPED >"],
    ["hyphen-\nated hyphen- \nated hyphen-<skipped>\nated", "hyphenated hyphen- ated hyphenated"],
    ["ends in a hyphen-\n", "ends in a hyphen-", "ends in a hyphen"],
    ["first line\nsecond line\r\nthird\rfourth", "first line second line third fourth"],
    ["the end\nthe middle\nthe beginning", "the beginning\nthe middle\nthe end"],
    ["police killed the gunman\nthe gunman was shot", "the gunman was shot down by police\npolice ended the gunman", "the gunman police killed"],
    ["a b c d\n\na c b d\n", "c a d b\na b\n\n\nb a c"],
    ["w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5"],
    ["a a a\na a", "a\na\na\na b a"],
    ["1-\n2 3-\n\n4", "12 34", "1 2 3 4"],
    # white space
    ["  outer  white\tspace \u3000 ", "outer white space", "\u2003outer  white\tspace"],
    ["a\u00a0b\u2009c\u3000d\u202fe\u2028f\u2029g\u0085h\u001ci\u001fj\u1680k", "a b c d e f g h i j k"],
    ["zero\u200bwidth\ufeffno\u2060break\u180espace", "zero width no break space", "zerowidthnobreakspace"],
    ["\u001d leading and trailing \u001e", "leading and trailing"],
    ["same words\tother white space here", "same  words other white\nspace here"],
    # scripts
    ["Привет, как дела? Хорошо, спасибо.", "Привет! Как дела? Спасибо, хорошо."],
    ["今天天气很好，我们去公园。", "今天的天气非常好，我们去公园吧。", "天气很好"],
    ["今天天气很好.我们去,公园", "今天天气很好 . 我们去 , 公园"],
    ["東京は日本の首都です。", "東京が日本の首都である。"],
    ["안녕하세요 세계", "안녕 세계"],
    ["مرحبا بالعالم، كيف حالك؟", "مرحبا يا عالم، كيف الحال؟"],
    ["שלום עולם", "שלום לעולם"],
    ["नमस्ते दुनिया।", "नमस्कार दुनिया।"],
    ["สวัสดีชาวโลก", "สวัสดีโลก"],
    ["Καλημέρα ΚΌΣΜΕ, ΟΔΥΣΣΕΎΣ", "καλημέρα κόσμε, οδυσσεύς"],
    ["𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𝟙𝟚.𝟛", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𝟙𝟚 . 𝟛"],
    # case, accents, letters that lower-casing brings to ASCII
    ["Café naïve résumé", "Cafe\u0301 nai\u0308ve re\u0301sume\u0301"],
    ["Cafe\u0301, cafe\u0301.", "Café, café.", "cafe cafe"],
    ["Tiếng Việt", "Tie\u0302\u0301ng Vie\u0323\u0302t"],
    ["İstanbul ISTANBUL ıstanbul", "istanbul istanbul istanbul", "i stanbul istanbul stanbul"],
    ["300 \u212a and 5 \u212b, \u212alein", "300 K and 5 Å, klein", "300 k and 5 a, klein"],
    ["ﬁne ﬂow ＡＢＣ １２３ ①", "fine flow ABC 123 1"],
    ["STRASSE Straße", "straße strasse"],
    ["UPPER lower MiXeD 42nd", "upper LOWER mixed 42ND"],
    # emoji
    ["I ❤️ 🍕!", "I ❤ 🍕 !"],
    ["👨‍👩‍👧‍👦 family 👍🏽", "👨‍👩‍👧 family 👍"],
    ["🇩🇪🇫🇷", "🇫🇷🇩🇪"],
    ["😀😀😀", "😀"],
    # control characters, replacement characters
    ["a\u0000b\u0001c\u007fd", "a b c d"],
    ["bad \ufffd text \ufffd\ufffd", "bad ? text ??"],
    # repetition and length
    ["ha " * 40, "ha " * 25, "ha"],
    ["abab" * 20, "ab" * 35, "abababa"],
    ["one two " * 12 + "end", "two one " * 9 + "end", "one two end"],
    ["A long, long time ago; in a galaxy far, far away... there were 12,000 well-known star-systems (or so they say).", "A long time ago, in a galaxy far away, there were 12,000 star systems - or so they say."],
    ["The quick brown fox jumps over the lazy dog. It was 3:45 p.m. on 12/31/1999.", "A quick brown fox jumped over the lazy dogs. It was 3:45 pm on 31.12.1999.", "The quick, brown fox jumps over a lazy dog at 3:45 p.m., 12/31/1999."],
    # lengths as close from below as from above, the longer first
    ["a b c d e", "a b c d e f g", "a b c"],
    ["a b c d e", "a b c", "a b c d e f g"],
    # one reference has the better F, another the better n-grams
    ["police killed the gunman", "police kill the gunman", "the gunman police killed", "gunman the killed police"],
]

SOUP = list("aB1 9 .,-'\"&;:!?()<>/_\n\t") + ["-\n", "&amp;", "&quot;", "<skipped>", "the", "cat", "12", "é", "e\u0301", "好", "𝟙", "\u00a0", "\u212a", "😀", " ", " ", " "]


def soups(count):
    """Pairs without sense, for the rules that cut texts; a reference is the hypothesis with some pieces exchanged."""
    rng = random.Random(13)
    pairs = []
    for _ in range(count):
        pieces = [rng.choice(SOUP) for _ in range(rng.randrange(1, 45))]
        pair = ["".join(pieces)]
        for _ in range(rng.choice([1, 1, 2])):
            pair.append("".join(rng.choice(SOUP) if rng.random() < 0.12 else piece for piece in pieces))
        pairs.append(pair)
    return pairs


def scores(pairs):
    hypotheses = [pair[0] for pair in pairs]
    streams = [[pair[i] if i < len(pair) else None for pair in pairs] for i in range(1, max(map(len, pairs)))]
    bleu = sacrebleu.corpus_bleu(hypotheses, streams, force=True)
    scorer = rouge_score.rouge_scorer.RougeScorer(ROUGE_TYPES, use_stemmer=False)
    rouge = [scorer.score_multi(pair[1:], pair[0]) for pair in pairs]
    return {
        "bleu": [bleu.score, bleu.bp, bleu.sys_len, bleu.ref_len, bleu.precisions, bleu.counts, bleu.totals],
        "chrf": [sacrebleu.corpus_chrf(hypotheses, streams, **setting).score for setting in CHRF_SETTINGS],
        "rouge": [[sum(line[kind][i] for line in rouge) / len(rouge) for i in range(3)] for kind in ROUGE_TYPES],
        "exact": sum(any(pair[0].strip() == text.strip() for text in pair[1:]) for pair in pairs) / len(pairs),
    }


def main():
    pairs = PAIRS + soups(50)
    count = len(pairs)
    several = [i for i in range(count) if len(pairs[i]) > 2]
    corpora = [
        {"lines": list(range(count)), "references": 1},
        {"lines": list(range(count)), "references": 9},
        {"lines": several, "references": 2},
        {"lines": list(range(0, len(PAIRS))), "references": 9},
        {"lines": list(range(len(PAIRS), count)), "references": 9},
        {"lines": list(range(0, count, 7)), "references": 1},
        {"lines": [3, 3, 3, 0], "references": 1},
    ]
    corpora += [{"lines": [i], "references": 1} for i in range(count)]
    corpora += [{"lines": [i], "references": 9} for i in several]
    corpora += [{"lines": [i], "references": 2} for i in several if len(pairs[i]) > 3]
    for corpus in corpora:
        corpus.update(scores([pairs[i][: 1 + corpus["references"]] for i in corpus["lines"]]))
    print('{"pairs": [\n' + ",\n".join(json.dumps(pair) for pair in pairs) + '\n],\n"corpora": [\n' + ",\n".join(json.dumps(c) for c in corpora) + "\n]}")


if __name__ == "__main__":
    main()

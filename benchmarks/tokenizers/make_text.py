#!/usr/bin/env python3
"""Writes 20 MB of text in several languages, one text per line: the tweets, and manuals out of packages of Debian bookworm.

  python3 make_text.py --tweets FILE.csv --out FILE.txt [--megabytes 20]

Fetches the packages with apt-get download (19 MB), unpacks them with dpkg-deb into a temporary folder and takes the markup out of manual pages (man) and
books (HTML). Shares: the tweets, whole; of the rest 40 % English, 12 % each German, French, Russian, Japanese and Chinese.
"""
import argparse
import csv
import gzip
import html
import pathlib
import re
import subprocess
import tempfile

PACKAGES = {"en": (["manpages", "manpages-dev", "debian-reference-en", "debian-faq", "developers-reference"], 0.40), "de": (["manpages-de", "debian-reference-de"], 0.12),
            "fr": (["manpages-fr", "debian-reference-fr"], 0.12), "ru": (["manpages-ru", "debian-faq-ru"], 0.12),
            "ja": (["manpages-ja", "debian-reference-ja"], 0.12), "zh": (["manpages-zh", "debian-reference-zh-cn"], 0.12)}


def paragraphs_of_man(text):
    text = re.sub(r"(?m)^[.'](?!(?:B|I|BR|IR|BI|RB|SH|SS|TP)\b).*\n", "\n", text)  # requests, but for those with text behind them
    text = re.sub(r"(?m)^[.'](?:SH|SS|TP)[ \t]*(.*)$", r"\n\1\n", text)
    text = re.sub(r"(?m)^[.'][A-Z]+[ \t]*", "", text)
    text = re.sub(r"\\f(?:\[[^]]*\]|\(..|.)|\\s[-+]?\d|\\[&|^/,%]", "", text)
    text = text.replace("\\-", "-").replace("\\e", "\\").replace("\\(aq", "'").replace("\\ ", " ").replace("\\~", " ")
    for paragraph in text.split("\n\n"):
        yield " ".join(paragraph.replace('"', " ").split())


def paragraphs_of_html(text):
    text = re.sub(r"(?s)<(script|style|head).*?</\1>|<!--.*?-->", " ", text)
    for paragraph in re.split(r"</?(?:p|div|li|td|th|tr|h\d|dt|dd|pre|br|title)\b[^>]*>", text):
        yield " ".join(html.unescape(re.sub(r"<[^>]+>", "", paragraph)).split())


def paragraphs(folder, package, language):
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.is_symlink() or file.stat().st_size < 1000:
            continue
        if re.search(r"/man\d/.*\.gz$", str(file)):
            yield from paragraphs_of_man(gzip.decompress(file.read_bytes()).decode(errors="ignore"))
        elif file.suffix == ".html" or file.name.endswith(f".{language}.html"):
            yield from paragraphs_of_html(file.read_text(encoding="utf-8", errors="ignore"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tweets", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--megabytes", type=float, default=20)
    arguments = parser.parse_args()
    with open(arguments.tweets, encoding="utf-8", errors="replace", newline="") as handle:
        lines = [" ".join(row["text"].split()) for row in csv.DictReader(handle)]
    rest = arguments.megabytes * 1e6 - sum(len(line.encode()) + 1 for line in lines)
    print(f"tweets {len(lines)} lines")
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["apt-get", "download", "-q", *(p for names, _ in PACKAGES.values() for p in names)], cwd=scratch, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for language, (names, share) in PACKAGES.items():
            taken = seen = 0
            known = set()
            for name in names:
                folder = pathlib.Path(scratch, name)
                subprocess.run(["dpkg-deb", "-x", next(pathlib.Path(scratch).glob(name + "_*.deb")), folder], check=True)
                for paragraph in paragraphs(folder, name, language):
                    if len(paragraph) < 20 or paragraph in known or taken >= share * rest:
                        continue
                    known.add(paragraph)
                    lines.append(paragraph)
                    taken += len(paragraph.encode()) + 1
                    seen += 1
            print(f"{language} {seen} lines, {taken} bytes of {share * rest:.0f}")
    with open(arguments.out, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in lines)


if __name__ == "__main__":
    main()

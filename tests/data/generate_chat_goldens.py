#!/usr/bin/env python3
"""Writes what Jinja and transformers make of templates and conversations, for tests/text/jinja_test.cpp and tests/text/chat_template_test.cpp.

  python3 generate_chat_goldens.py

Needs the packages jinja2, transformers and tokenizers; written with versions 3.1.6, 4.57.6 and 0.22.2. The files go into chat/ next to this script:

  expressions.json    [template, its text, or null where Jinja raises an error] with the variables that all of them see
  renderings.json     for each template in chat/ and each conversation of chat/conversations.json the text (its hash), and the assistant's ranges in it

Hashes are FNV-1a with 32 bits over UTF-8. Ranges count bytes.
"""
import datetime
import json
import pathlib
import re

import transformers.utils.chat_template_utils as chat_template_utils
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent / "chat"


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 13, 5, 9)


chat_template_utils.datetime = FixedTime

VARIABLES = {
    "name": "Ada", "empty": "", "n": 7, "f": 2.5, "yes": True, "no": False, "nothing": None,
    "words": ["apple", "Banana", "cherry"], "numbers": [3, 1, 2], "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}],
    "d": {"b": 1, "a": 2, "items": "own"}, "users": [{"name": "x", "age": 3}, {"name": "Y", "age": 1}, {"name": "z"}],
    "text": "  two  words\n", "uni": "h\u00e9llo \u4e2d\u6587 \U0001F600!", "quote": "it's \"so\"", "html": "<b>&'\"</b>",
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}],
}

# One template between two broken bars.
EXPRESSIONS = r"""
{{ 1 + 2 * 3 }} ¦ {{ 2 ** 10 }} ¦ {{ 2 ** 3 ** 2 }} ¦ {{ -2 ** 2 }} ¦ {{ 2 ** -1 }} ¦ {{ 7 // 2 }} ¦ {{ -7 // 2 }} ¦ {{ 7 % 3 }} ¦ {{ -7 % 3 }} ¦ {{ 7 % -3 }} ¦ {{ 7 / 2 }} ¦ {{ 6 / 2 }}
{{ 7.5 // 2 }} ¦ {{ -7.5 % 2 }} ¦ {{ 1 / 0 }} ¦ {{ 1 % 0 }} ¦ {{ 1.0 // 0 }} ¦ {{ 1e100 }} ¦ {{ 1e16 }} ¦ {{ 123456789012345.0 }} ¦ {{ 1e15 }} ¦ {{ 0.0001 }} ¦ {{ 0.00001 }} ¦ {{ 1.0 }} ¦ {{ 0.1 + 0.2 }}
{{ 1.5e-7 }} ¦ {{ 100000000000000000000.0 }} ¦ {{ -0.0 }} ¦ {{ 3.14 * 2 }} ¦ {{ 10 - 2.5 }} ¦ {{ yes + 1 }} ¦ {{ yes * 3 }} ¦ {{ -yes }} ¦ {{ +yes }} ¦ {{ -name }} ¦ {{ 1 + name }} ¦ {{ name + 1 }} ¦ {{ "a" * 3 }}
{{ 3 * "ab" }} ¦ {{ "a" * -1 }} ¦ {{ [1, 2] * 2 }} ¦ {{ [1] + [2] }} ¦ {{ [1] + (2,) }} ¦ {{ (1,) + (2,) }} ¦ {{ "a" "b" 'c' }} ¦ {{ "a" ~ 1 ~ none ~ true ~ 2.0 ~ [1, "x"] }} ¦ {{ nope ~ "x" }}
{{ 1_000 + 1 }} ¦ {{ 1 == 1.0 }} ¦ {{ true == 1 }} ¦ {{ "1" == 1 }} ¦ {{ [1, 2] == [1, 2] }} ¦ {{ [1] == (1,) }} ¦ {{ d == {"a": 2, "b": 1, "items": "own"} }} ¦ {{ none == false }} ¦ {{ nope == none }} ¦ {{ nope == gone }}
{{ 1 < 2 < 3 }} ¦ {{ 1 < 3 < 2 }} ¦ {{ 3 > 2 >= 2 }} ¦ {{ "a" < "b" }} ¦ {{ "a" < 1 }} ¦ {{ [1, 2] < [1, 3] }} ¦ {{ (1, 2) < (1,) }} ¦ {{ none < 1 }} ¦ {{ nope < 1 }} ¦ {{ "Z" < "a" }} ¦ {{ "\u00e9" > "z" }}
{{ 1 in [1, 2] }} ¦ {{ "pp" in words[0] }} ¦ {{ "a" in d }} ¦ {{ 1 in "1" }} ¦ {{ "x" not in words }} ¦ {{ "x" in nope }} ¦ {{ 1.0 in [1] }} ¦ {{ 3 in 5 }} ¦ {{ not 1 in [2] }} ¦ {{ none in [none] }} ¦ {{ "" in "" }}
{{ 1 and 2 }} ¦ {{ 0 or "x" }} ¦ {{ "" or none }} ¦ {{ not "" }} ¦ {{ not nope }} ¦ {{ 0 and nope.x }} ¦ {{ 1 if yes else 2 }} ¦ {{ 1 if no }} ¦ {{ (1 if no) is defined }} ¦ {{ 1 if no else 2 if no else 3 }}
{{ nope }} ¦ {{ nope.x }} ¦ {{ nope["x"] }} ¦ {{ nope[0] }} ¦ {{ nope() }} ¦ {{ nope + 1 }} ¦ {{ 1 + nope }} ¦ {{ "a" + nope }} ¦ {{ nope * 2 }} ¦ {{ -nope }} ¦ {{ nope|length }} ¦ {{ nope|upper }}x ¦ {{ nope|tojson }} ¦ {{ nope|int }}
{{ d.b }} ¦ {{ d["b"] }} ¦ {{ d.nope }} ¦ {{ d.nope.x }} ¦ {{ d["items"] }} ¦ {{ d.items() }} ¦ {{ d.items()|list }} ¦ {{ d.keys() }} ¦ {{ d.values()|list }} ¦ {{ d.get("b") }} ¦ {{ d.get("q") }} ¦ {{ d.get("q", 5) }}
{{ d.get("q").x }} ¦ {{ d.pop("b") }} ¦ {{ words.append("x") }} ¦ {{ d.update({}) is defined }} ¦ {{ words.append is defined }} ¦ {{ none.x }} ¦ {{ none.x.y }} ¦ {{ 5["x"] }} ¦ {{ name.nope }} ¦ {{ name["nope"] }}
{{ words[0] }} ¦ {{ words[-1] }} ¦ {{ words[5] }} ¦ {{ words[5].x }} ¦ {{ words.0 }} ¦ {{ words[1:] }} ¦ {{ words[:-1] }} ¦ {{ words[::-1] }} ¦ {{ words[::2] }} ¦ {{ words[5:] }} ¦ {{ words[-2:] }} ¦ {{ words[2:0:-1] }}
{{ words[::0] }} ¦ {{ words["a":] }} ¦ {{ name[1] }} ¦ {{ name[-1] }} ¦ {{ name[::-1] }} ¦ {{ name[1:9] }} ¦ {{ name[-9:2] }} ¦ {{ uni[1] }} ¦ {{ uni[6:8] }} ¦ {{ uni[::-1] }} ¦ {{ uni[-2] }} ¦ {{ uni|length }} ¦ {{ uni[::3] }}
{{ (1, 2) }} ¦ {{ (1,) }} ¦ {{ () }} ¦ {{ 1, 2 }} ¦ {{ [] }} ¦ {{ {} }} ¦ {{ [1, 2,] }} ¦ {{ {"a": 1,} }} ¦ {{ {1: "x", none: 2, 2.5: 3} }} ¦ {{ {"a": 1, "a": 2} }} ¦ {{ {1: "a", true: "b"} }} ¦ {{ {[1]: 2} }}
{{ mixed }} ¦ {{ [nope] }} ¦ {{ [quote, "a'b", 'c"d', "\n\t\\", "\x00\x7f\u00e9\u200b\u4e2d\U0001F600\u00a0\ue000"] }} ¦ {{ "\x41\u4e2d\101\d" }} ¦ {{ [true, false, none] }} ¦ {{ [1.0, 1e20, -0.5] }} ¦ {{ [[], {}, ()] }} ¦ {{ {"k": [1, {"z": "y"}]} }}
{{ name.upper() }} ¦ {{ name.lower() }} ¦ {{ "hello world".title() }} ¦ {{ "they're bill's".title() }} ¦ {{ "hELLO".capitalize() }} ¦ {{ text.strip() }} ¦ {{ text.lstrip() }} ¦ {{ text.rstrip() }}. ¦ {{ "xxaxx".strip("x") }}
{{ "\u00a0\u2003a\u3000".strip() }} ¦ {{ "abcba".lstrip("ab") }} ¦ {{ "abcba".rstrip("ba") }} ¦ {{ "a,b,,c".split(",") }} ¦ {{ "a,b,c".split(",", 1) }} ¦ {{ " a  b ".split() }} ¦ {{ " a b c ".split(none, 1) }} ¦ {{ "abc".split("") }}
{{ "a b c d".rsplit(none, 2) }} ¦ {{ "a,b,c".rsplit(",", 1) }} ¦ {{ "".split() }} ¦ {{ "".split(",") }} ¦ {{ "a\nb\r\nc\n".splitlines() }} ¦ {{ "a\nb".splitlines(true) }} ¦ {{ name.startswith("A") }} ¦ {{ name.startswith(("x", "A")) }}
{{ name.endswith("da") }} ¦ {{ name.startswith(1) }} ¦ {{ "aaa".replace("a", "b") }} ¦ {{ "aaa".replace("a", "b", 2) }} ¦ {{ "ab".replace("", "-") }} ¦ {{ ",".join(words) }} ¦ {{ ",".join([1]) }} ¦ {{ "".join("abc") }} ¦ {{ "-".join(d) }}
{{ "hello".find("l") }} ¦ {{ "hello".rfind("l") }} ¦ {{ "hello".find("z") }} ¦ {{ uni.find("!") }} ¦ {{ "aXbX".count("X") }} ¦ {{ "abc".index("z") }} ¦ {{ "123".isdigit() }} ¦ {{ "".isdigit() }} ¦ {{ "ab1".isalpha() }} ¦ {{ "ab1".isalnum() }}
{{ "prefix-x".removeprefix("prefix-") }} ¦ {{ "x.txt".removesuffix(".txt") }} ¦ {{ name.strip(1) }} ¦ {{ name.upper(1) }} ¦ {{ "\u00c4\u00d6\u03a3".lower() }} ¦ {{ "\u00e4\u00df".upper() }} ¦ {{ "\u039f\u03a3 \u03a3".lower() }}
{{ "%s is %d" % ("x", 3) }} ¦ {{ "%s" % "x" }} ¦ {{ "%05.2f|%5d|%-5d|%+d|%x" % (3.14159, 42, 42, 42, 255) }} ¦ {{ "%s %s" % ("x",) }} ¦ {{ "%d" % "x" }} ¦ {{ "%%" % () }} ¦ {{ "%(a)s" % {"a": 1} }} ¦ {{ "x" % 1 }} ¦ {{ "%r" % "q" }}
{{ "%.3s|%5s|%-5s" % ("abcdef", "a", "b") }} ¦ {{ "%s-%s"|format("a", 1) }} ¦ {{ "%(x)s"|format(x=2) }} ¦ {{ "%d" % 3.99 }} ¦ {{ "%i" % true }} ¦ {{ "%s" % none }} ¦ {{ "%s" % [1, 2] }}
{{ text|trim }} ¦ {{ "xax"|trim("x") }} ¦ {{ name|upper }} ¦ {{ name|lower }} ¦ {{ "hello big-world (x)"|title }} ¦ {{ "hELLO wORLD"|capitalize }} ¦ {{ 5|upper }} ¦ {{ none|upper }} ¦ {{ words|length }} ¦ {{ d|count }} ¦ {{ 5|length }}
{{ words|first }} ¦ {{ words|last }} ¦ {{ []|first }} ¦ {{ []|last }} ¦ {{ name|first }} ¦ {{ ([]|first).x }} ¦ {{ words|join }} ¦ {{ words|join(", ") }} ¦ {{ mixed|join("|") }} ¦ {{ users|join(",", attribute="name") }} ¦ {{ "abc"|join("-") }}
{{ nope|default("x") }} ¦ {{ none|default("x") }} ¦ {{ none|default("x", true) }} ¦ {{ ""|d("x", boolean=true) }} ¦ {{ nope|d }} ¦ {{ d.zz|default({})|length }} ¦ {{ nope.x|default("y") }} ¦ {{ "abc"|list }} ¦ {{ d|list }} ¦ {{ 5|list }}
{{ users|map(attribute="name")|list }} ¦ {{ users|map(attribute="age", default=0)|list }} ¦ {{ users|map(attribute="age")|list }} ¦ {{ words|map("upper")|list }} ¦ {{ words|map("replace", "a", "_")|join(" ") }} ¦ {{ [1]|map("nosuch")|list }}
{{ users|selectattr("age")|list|length }} ¦ {{ users|selectattr("age", "defined")|list|length }} ¦ {{ users|rejectattr("age", "defined")|map(attribute="name")|list }} ¦ {{ messages|selectattr("role", "equalto", "user")|list }}
{{ messages|selectattr("role", "ne", "user")|map(attribute="content")|join }} ¦ {{ numbers|select("gt", 1)|list }} ¦ {{ numbers|reject("odd")|list }} ¦ {{ [0, 1, ""]|select|list }} ¦ {{ messages|selectattr("role", "in", ["user", "system"])|list|length }}
{{ messages|selectattr("role", "==", "tool")|first }}x ¦ {{ "y" if messages|selectattr("role", "equalto", "tool") else "n" }} ¦ {{ messages|selectattr("role", "equalto", "tool")|list|length }} ¦ {{ (messages|selectattr("role", "eq", "user"))|length }}
{{ users|selectattr("name", "nosuchtest")|list }} ¦ {{ "a-b"|replace("-", "+") }} ¦ {{ 5|replace("5", 6) }} ¦ {{ "aaa"|replace("a", "b", 1) }} ¦ {{ 5|string + "x" }} ¦ {{ "5"|int + 1 }} ¦ {{ "5.7"|int }} ¦ {{ "x"|int }} ¦ {{ "x"|int(9) }} ¦ {{ 5.9|int }}
{{ -5.9|int }} ¦ {{ "ff"|int(0, 16) }} ¦ {{ "0xff"|int(base=16) }} ¦ {{ " 12 "|int }} ¦ {{ "1_0"|int }} ¦ {{ none|int }} ¦ {{ "1e3"|int }} ¦ {{ "2.5"|float }} ¦ {{ "x"|float }} ¦ {{ "x"|float(1.5) }} ¦ {{ 3|float }} ¦ {{ "inf"|float }} ¦ {{ "-1e3"|float }}
{{ d|items|list }} ¦ {{ nope|items|list }} ¦ {{ 5|items|list }} ¦ {{ d|dictsort }} ¦ {{ {"B": 1, "a": 3}|dictsort }} ¦ {{ {"B": 1, "a": 3}|dictsort(true) }} ¦ {{ {"a": 2, "b": 1}|dictsort(by="value") }} ¦ {{ {"a": 2, "b": 1}|dictsort(reverse=true) }}
{{ [1, 2, 1, "a", "A"]|unique|list }} ¦ {{ ["a", "A"]|unique(true)|list }} ¦ {{ numbers|reverse|list }} ¦ {{ "abc"|reverse }} ¦ {{ numbers|sort }} ¦ {{ words|sort }} ¦ {{ words|sort(case_sensitive=true) }} ¦ {{ numbers|sort(reverse=true) }}
{{ users[:2]|sort(attribute="age")|map(attribute="name")|list }} ¦ {{ [1, "a"]|sort }} ¦ {{ -5|abs }} ¦ {{ (-5)|abs }} ¦ {{ (-2.5)|abs }} ¦ {{ "x"|abs }} ¦ {{ 2.5|round }} ¦ {{ 3.5|round }} ¦ {{ 2.675|round(2) }} ¦ {{ 2.1|round(0, "ceil") }} ¦ {{ 42.55|round(1, "floor") }}
{{ 5|round }} ¦ {{ 2.5|round|int }} ¦ {{ html|e }} ¦ {{ html|escape|escape }} ¦ {{ html|safe }} ¦ {{ (html|e) + "<" }} ¦ {{ "<" + (html|safe) }} ¦ {{ "a"|safe ~ "<" }} ¦ {{ ["<"|safe] }} ¦ {{ "a\nb\n\nc"|indent }} ¦ {{ "a\nb"|indent(2, true) }}
{{ "a\n\nb"|indent("> ", blank=true) }} ¦ {{ "a\nb\n"|indent(1) }}x ¦ {{ numbers|min }} ¦ {{ numbers|max }} ¦ {{ words|min }} ¦ {{ []|max }} ¦ {{ users[:2]|max(attribute="age") }} ¦ {{ numbers|sum }} ¦ {{ users[:2]|sum(attribute="age") }} ¦ {{ [1.5, 2]|sum(start=10) }}
{{ [[1], [2]]|sum(start=[]) }} ¦ {{ ["a"]|sum }} ¦ {{ [1, 2, 3]|batch(2)|list }} ¦ {{ [1, 2, 3]|batch(2, 0)|list }} ¦ {{ d|attr("b") }}x ¦ {{ name|nosuchfilter }} ¦ {{ words|last|upper|first }} ¦ {{ "a b"|replace(" ", "")|length }}
{{ d|tojson }} ¦ {{ mixed|tojson }} ¦ {{ mixed|tojson(indent=2) }} ¦ {{ d|tojson(separators=(",", ":")) }} ¦ {{ d|tojson(sort_keys=true) }} ¦ {{ uni|tojson }} ¦ {{ uni|tojson(ensure_ascii=true) }} ¦ {{ html|tojson }} ¦ {{ "\n\t\x01\x7f\\/"|tojson }}
{{ [1.0, 1e20, 5]|tojson }} ¦ {{ (1, 2)|tojson }} ¦ {{ {1: 2, none: 3, true: 4, 2.5: 5}|tojson }} ¦ {{ {(1, 2): 3}|tojson }} ¦ {{ []|tojson(indent=1) }} ¦ {{ {}|tojson(indent=1) }} ¦ {{ [[], {"a": []}]|tojson(indent=1) }} ¦ {{ d|tojson(indent="--") }} ¦ {{ ["x"|safe]|tojson }}
{{ d|tojson(4) }} ¦ {{ words|tojson(indent=0) }} ¦ {{ (words|map("upper"))|tojson }} ¦ {{ range(3)|tojson }} ¦ {{ "inf"|float|tojson }} ¦ {{ d.items()|tojson }}
{{ nope is defined }} ¦ {{ name is defined }} ¦ {{ nope is undefined }} ¦ {{ none is none }} ¦ {{ nope is none }} ¦ {{ name is string }} ¦ {{ 5 is number }} ¦ {{ true is number }} ¦ {{ 5 is integer }} ¦ {{ true is integer }} ¦ {{ 5.0 is float }} ¦ {{ true is boolean }}
{{ 1 is true }} ¦ {{ yes is true }} ¦ {{ no is false }} ¦ {{ d is mapping }} ¦ {{ words is mapping }} ¦ {{ words is iterable }} ¦ {{ name is iterable }} ¦ {{ 5 is iterable }} ¦ {{ words is sequence }} ¦ {{ name is sequence }} ¦ {{ d is sequence }} ¦ {{ 5 is sequence }} ¦ {{ nope is iterable }}
{{ 3 is odd }} ¦ {{ 3 is even }} ¦ {{ "a" is odd }} ¦ {{ 3 is equalto 3 }} ¦ {{ 3 is eq(3) }} ¦ {{ 3 is ne 4 }} ¦ {{ 3 is in [3] }} ¦ {{ 3 is gt 2 }} ¦ {{ 3 is lt 2 }} ¦ {{ 9 is divisibleby 3 }} ¦ {{ 3 is not odd }} ¦ {{ name is not string }} ¦ {{ 3 is ge(3) }} ¦ {{ "a" is lower }} ¦ {{ "A1" is upper }}
{{ name is nosuch }} ¦ {{ none is sameas none }} ¦ {{ yes is sameas true }} ¦ {{ range is callable }} ¦ {{ name is callable }} ¦ {{ ("x"|safe) is escaped }} ¦ {{ (words|map("upper")) is iterable }} ¦ {{ (words|map("upper")) is sequence }} ¦ {{ nope is string }} ¦ {{ nope is sequence }}
{{ range(5)|list }} ¦ {{ range(1, 4)|list }} ¦ {{ range(5, 0, -2)|list }} ¦ {{ range(3)[1] }} ¦ {{ range(0)|list }} ¦ {{ range(1, 2, 0)|list }} ¦ {{ range(2000000)|length }} ¦ {{ range("a") }} ¦ {{ 2 in range(3) }} ¦ {{ dict(a=1, b="x") }} ¦ {{ dict({"q": 1}, z=2) }}
{{ raise_exception("bad " ~ n) }} ¦ {{ raise_exception() }} ¦ {{ strftime_now("%d %b %Y") }} ¦ {{ strftime_now("%A %B %j %H:%M:%S %I %p %y %a %%") }} ¦ {{ strftime_now("%Y-%m-%d") }}
{{ 5 ** 0.5 }} ¦ {{ 0 ** -1 }} ¦ {{ (1, 2)[0] }} ¦ {{ [1, 2, 3][1:][0] }} ¦ {{ "abc"[1:].upper() }} ¦ {{ {"a": {"b": [1, 2]}}.a.b[1] }} ¦ {{ ("x" ~ 1).upper() }} ¦ {{ (words|first)[0] }} ¦ {{ words|map("first")|join }} ¦ {{ not (1 == 1 and 2 == 3) }}
{{ 1 is defined and 2 is odd or true }} ¦ {{ name if name is defined else "no" }} ¦ {{ "a" if false else "b" if true else "c" }} ¦ {{ [1, 2] is sequence and [1] is not mapping }} ¦ {{ -1|abs }} ¦ {{ 2 - -2 }} ¦ {{ 1 - 1 ~ 2 }} ¦ {{ 5 - 2 ~ 1 }} ¦ {{ 2 * 3 ~ 4 }}
{{ 3 ~ 4 * 2 }} ¦ {{ "a" ~ "b" in "xab" }} ¦ {{ 07 }} ¦ {{ 1.5.x }} ¦ {{ 1. }} ¦ {{ .5 }} ¦ {{ 1e5 }} ¦ {{ 1E-2 }} ¦ {{ x = 1 }} ¦ {{ }} ¦ {{ 1 2 }} ¦ {{ (1 }} ¦ {{ 1) }} ¦ {{ [1, 2 }} ¦ {{ 'abc }} ¦ {{ a..b }} ¦ {{ 1 + }} ¦ {{ 'a' is }} ¦ {{ x| }} ¦ {{ ? }} ¦ {{ a[] }}
a{# c #}b ¦ a{#- c -#} b ¦ {{ 1 -}}  x ¦ x  {{- 1 }} ¦ {% raw %}{{ x }}{% endraw %} ¦ {% if %}{% endif %} ¦ {% if 1 %} ¦ {% endif %} ¦ {% nosuch %} ¦ {% for x in [1] %}{{ x }} ¦ {% else %} ¦ {{ 1 } ¦ {% if 1 }} ¦ {#  ¦ {{ 1 ¦ {% break %} ¦ {% set true = 1 %} ¦ {% macro f( %}
{% for x in [1, 2, 3] %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% endfor %} ¦ {% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %} ¦ {% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }};{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }} {% endfor %} ¦ {% for a, b in [(1, 2, 3)] %}{% endfor %} ¦ {% for x in [] %}a{% else %}b{% endfor %} ¦ {% for x in nope %}a{% else %}b{% endfor %} ¦ {% for x in 5 %}{% endfor %} ¦ {% for c in "ab" %}<{{ c }}>{% endfor %}
{% for x in numbers if x > 1 %}{{ loop.index }}{{ x }}{% endfor %} ¦ {% for x in numbers %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}
{% for x in [1, 2] %}{% for y in [1, 2] %}{{ loop.index }}{{ loop.depth }}{{ loop.cycle("a", "b") }}{% endfor %}{% endfor %} ¦ {{ loop.index }} ¦ {% for x in [1] %}{{ loop.nope }}{% endfor %} ¦ {% for x in [1] %}{{ loop.previtem.x }}{% endfor %}
{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }} ¦ {% set ns = namespace(x=1, y=[]) %}{% for i in [1, 2] %}{% set ns.x = ns.x + 1 %}{% set ns.y = ns.y + [i] %}{% endfor %}{{ ns.x }}{{ ns.y }} ¦ {% set d.x = 1 %} ¦ {{ namespace(a=1).b }}x
{% set a, b = 1, 2 %}{{ a }}{{ b }} ¦ {% set x %}a{{ 1 }}b{% endset %}{{ x|upper }} ¦ {% set x | upper %}abc{% endset %}{{ x }} ¦ {% if no %}{% set q = 1 %}{% endif %}{{ q }}x ¦ {% if yes %}{% set q = 1 %}{% endif %}{{ q }} ¦ {% set x = 1, 2 %}{{ x }}
{% macro f(a, b="z", c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(1, c=3) }}{{ f() }} ¦ {% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }} ¦ {% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }} ¦ {% macro f() %} x {% endmacro %}{{ f()|trim }}
{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }} ¦ {% set v = 1 %}{% macro f() %}{{ v }}{% endmacro %}{% set v = 2 %}{{ f() }} ¦ {% for v in [5] %}{% macro f() %}{{ v }}{% endmacro %}{{ f() }}{% endfor %} ¦ {% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(3) }}
{% macro f(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) f(3) %}got {{ y }}{% endcall %} ¦ {% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in{% endcall %} ¦ {% filter upper %}ab{{ name }}{% endfilter %} ¦ {% filter replace("a", "b")|trim %} aa {% endfilter %}
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }} ¦ {% with %}x{% endwith %} ¦ {% set a = 1 %}{% with a = 2 %}{{ a }}{% endwith %}{{ a }} ¦ {% generation %}x{% set q = 1 %}{% endgeneration %}{{ q }} ¦ {% for i in [1] %}{% set z = 1 %}{% endfor %}{{ z is defined }}
{% set g = words|map("upper") %}{{ g|list }}{{ g|list }} ¦ {% set g = words|map("upper") %}{% for x in g %}{{ x }}{% endfor %}{% for x in g %}{{ x }}{% endfor %} ¦ {% set it = d|items %}{{ it|first }} ¦ {% if [] %}a{% elif {} %}b{% elif none %}c{% else %}e{% endif %}
{% include "x" %} ¦ {% extends "x" %} ¦ {% set x = namespace() %}{% set x.a = x %}{{ x.a.a is defined }} ¦ {{ "a" if 1 == 1.0 and "b" in {"b": 1} else "c" }} ¦ {{ words | map("length") | sum }} ¦ {{ [3, 1]|sort|first }}
{{ messages[0]["role"] == "system" and messages[0].content is string }} ¦ {{ messages[1:]|length }} ¦ {{ messages[-1].role }} ¦ {{ (messages|last)["content"] }} ¦ {{ messages[::-1][0].role }} ¦ {{ "tool_calls" in messages[0] }} ¦ {{ messages[0].tool_calls is defined }} ¦ {{ messages[0].keys()|list }}
{{ "a".__class__ }} ¦ {{ words.__len__ }} ¦ {{ "</think>" in "a</think>b" }} ¦ {{ "a</think>b".split("</think>")[-1].lstrip("\n") }} ¦ {{ "<think>x</think>b".split("</think>")[0].rstrip("\n").split("<think>")[-1].lstrip("\n") }}
"""

# Templates with line ends, which the table above cannot hold: white space around blocks.
LAYOUTS = [
    "{% if yes %}\n  a\n{% endif %}\nb\n", "  {% if yes %}\n  a\n  {% endif %}\n  b\n\n", "x\n  {%- if yes -%}\n  a\n  {%- endif %}\n  b", "  {%+ if yes %}a{% endif %}\n b",
    "{% if yes +%}\n a{% endif %}", "a\n\n{# c #}\n\nb", "a\n  {# c #}\n  b", "a  {# c #}  b", "{{ 1 }}\n{{ 2 }}\n", "{{ 1 -}}\n{{ 2 }}\n\n", "a\r\nb\rc\n", "  {{ 1 }}\n  {{- 2 }}",
    "{% raw %}\n {% x %}\n{% endraw %}\nb", "  {% raw -%}\n x\n  {%- endraw %}\n  y", "{% for x in [1,2] %}\n- {{ x }}\n{% endfor %}\nend", "{% for x in [1,2] -%}\n- {{ x }}\n{%- endfor -%}\nend",
    "a{%- set x = 1 %}\n\n b {{ x }}", "{%- if yes %}\n    {{- 'a\\n' }}\n{%- else %}\n    {{- 'b' }}\n{%- endif %}\n{{- 'c' }}", "a {%- if yes %} b {%- endif %} c", "\t{% if yes %}\tx\t{% endif %}\t",
    "a\n{%- macro f() %}\n  x\n{%- endmacro %}\n{{ f() }}", "x {# a\n b #}\ny", "{#- a -#}\n\n x", "{#+ a +#}\n x", "a\n   {#- c #}\n  b", "{% set x %}\n a\n{% endset %}\n[{{ x }}]", "\n\n{% if yes %}a{% endif %}",
    "a\u00a0{%- if yes %}b{% endif %}", "{% if yes %}a{% endif %}  \n  {% if yes %}b{% endif %}\n", "{{ '\n' }}x", "{{ \"a\r\nb\"|length }}", "text only", "", "\n", "{{ \"a\\\nb\" }}", "{%if yes%}a{%endif%}", "{{1}}{{'}}'}}{{{'a':1}['a']}}",
    "{% if yes: %}a{% endif %}", "{%- generation -%}\n  a  \n{%- endgeneration -%}\n b", "{ { x } }", "{{ {'a': {'b': 1}}['a']['b'] }}", "{% if \n yes \n %}\na{% endif %}", "{% filter trim %}\n x \n{% endfilter %}y",
]


def compiled(template):
    return chat_template_utils._compile_jinja_template(template)


def write_expressions():
    table = []
    pieces = [piece for line in EXPRESSIONS.strip().split("\n") for piece in line.split(" \u00a6 ")]
    for template in pieces + LAYOUTS:
        try:
            result = compiled(template).render(**json.loads(json.dumps(VARIABLES)))
        except Exception:
            result = None
        table.append([template, result])
    (HERE / "expressions.json").write_text(
        json.dumps({"variables": VARIABLES, "table": table}, ensure_ascii=True, indent=0).replace("[\n", "[").replace('",\n"', '", "') + "\n", encoding="ascii"
    )
    print(len(table), "expressions,", sum(result is None for _, result in table), "errors")


TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "the weather\nof a town", "parameters": {
        "type": "object", "properties": {"town": {"type": "string"}, "days": {"type": "integer"}}, "required": ["town"]}}},
    {"type": "function", "function": {"name": "sum", "parameters": {"type": "object", "properties": {"b": {"type": "number"}, "a": {}}}, "return": {"type": "number"}}},
]


def said(role, content, **fields):
    return {"role": role, "content": content, **fields}


def call(name, arguments, id="abcdefgh1"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def conversations():
    user, assistant, system, tool = (lambda content, role=role, **fields: said(role, content, **fields) for role in ("user", "assistant", "system", "tool"))
    yield {"messages": [user("Hi"), assistant("Hello!")]}
    yield {"messages": [system("Be brief."), user("Hi"), assistant("Hello!")]}
    yield {"messages": [user("a"), assistant("b"), user("c"), assistant("d"), user("e"), assistant("f")]}
    yield {"messages": [system("  padded system \n"), user("  a \n"), assistant("  b \n\n"), user("\tc"), assistant("d   ")]}
    yield {"messages": [user("question without an answer")]}
    yield {"messages": [system("only a system prompt")]}
    yield {"messages": [assistant("I begin."), user("Go on."), assistant("Done.")]}
    yield {"messages": [assistant("alone")]}
    yield {"messages": [user(""), assistant("")]}
    yield {"messages": [system(""), user("x"), assistant(""), user(""), assistant("y")]}
    yield {"messages": [user("\u4f60\u597d, \U0001f600 na\u00efve \u2014 \u0645\u0631\u062d\u0628\u0627"), assistant("\u00a0\u3000\u00e9\u0301\U0001f468\u200d\U0001f469\u200d\U0001f467 ok")]}
    yield {"messages": [user("Code?"), assistant("```python\nprint('{{ x }}')  # {% if %}\n```\n"), user("<|im_end|> </s>"), assistant('{"a": "\\n"}')]}
    yield {"messages": [user("a"), user("b"), assistant("c"), assistant("d")]}
    yield {"messages": [user("2+2?"), assistant("<think>\nadd\n</think>\n\n4"), user("and 3+3?"), assistant("<think>\nadd again\n</think>\n\n6")]}
    yield {"messages": [user("x"), assistant("y", reasoning_content="because"), user("z"), assistant("w", reasoning_content="\nso\n")]}
    yield {"messages": [user("x"), assistant("<think>\n\n</think>\n\nno thoughts")]}
    yield {"messages": [user("x"), assistant("</think> odd <think>")], "chat_template_kwargs": {"enable_thinking": True}}
    yield {"messages": [user("x"), assistant("y"), user("z"), assistant("w")], "chat_template_kwargs": {"enable_thinking": False}}
    yield {"messages": [system("You may /no_think today."), user("x"), assistant("y"), user("z"), assistant("w")]}
    yield {"messages": [user("Weather?"), assistant(None, tool_calls=[call("weather", {"town": "Z\u00fcrich", "days": 2})]), tool('{"t": 3}', tool_call_id="abcdefgh1"), assistant("3 degrees.")], "tools": TOOLS}
    yield {"messages": [system("Use tools."), user("Both?"), assistant("Let me see.", tool_calls=[call("weather", {"town": "Oslo"}), call("sum", {"a": 1.0, "b": [1, None, True]}, "abcdefgh2")]),
                        tool("cold"), tool("7"), assistant("Cold, 7."), user("Thanks"), assistant("Any time.")], "tools": TOOLS}
    yield {"messages": [user("Tools, but no call"), assistant("Right.")], "tools": TOOLS[:1]}
    yield {"messages": [user("string arguments"), assistant("", tool_calls=[call("sum", '{"a": 1}')])], "tools": TOOLS[1:]}
    yield {"messages": [user("bare"), assistant(None, tool_calls=[{"name": "sum", "arguments": {"a": 1e-7}}]), tool("0")]}
    yield {"messages": [user("x"), assistant("y"), tool("stray"), assistant("z")]}
    yield {"messages": [user("x"), assistant("y"), system("late"), user("z"), assistant("w")]}
    yield {"messages": [said("narrator", "Once"), user("x"), assistant("y")]}
    yield {"messages": [said("user", [{"type": "text", "text": "part one "}, {"type": "image"}, {"type": "text", "text": "part two"}]), assistant("seen")]}
    yield {"messages": [user("first"), assistant("same"), user("first"), assistant("same"), user("first"), assistant("same")]}
    yield {"messages": [system("s" * 200), user("long " * 60), assistant("line\n" * 40), user("!"), assistant("<|eot_id|>" * 3)], "chat_template_kwargs": {"date_string": "1 Jan 2000", "custom_tools": TOOLS[:1]}}
    yield {"messages": [user("x"), assistant("y\n"), user("z"), assistant("\n\nw")], "chat_template_kwargs": {"bos_token": "<B>", "eos_token": "<E>", "tools_in_user_message": False}, "tools": TOOLS}


def fnv1a(text):
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def write_renderings():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2}, "<unk>")), bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    everyone = list(conversations())
    lines, refused, printed = [], 0, 0
    for path in sorted(HERE.glob("*.jinja")):
        marked = path.read_text(encoding="utf-8")
        unmarked = marked.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
        for number, conversation in enumerate(everyone):
            more = dict(tools=conversation.get("tools"), **conversation.get("chat_template_kwargs", {}))

            def render(template, **flags):
                try:
                    return tokenizer.apply_chat_template(json.loads(json.dumps(conversation["messages"])), chat_template=template, tokenize=False, **more, **flags)
                except Exception:
                    return None

            text, prompt = render(unmarked), render(unmarked, add_generation_prompt=True)
            assert text == render(marked) and prompt == render(marked, add_generation_prompt=True), (path, number)
            # A list that the template prints as Python would: this library refuses what transformers lets pass.
            if text is not None and "[{'type'" in text:
                text, prompt = None, None
                printed += 1
            spans = None
            if text is not None:
                # Tracking begins with the first byte of text, so there is one that is not the template's.
                tokens = {**tokenizer.special_tokens_map, **conversation.get("chat_template_kwargs", {})}
                with_mark = chat_template_utils._compile_jinja_template("^" + marked)
                rendered, indices = chat_template_utils._render_with_assistant_indices(
                    with_mark, conversation["messages"], conversation.get("tools"), None, False, **tokens
                )
                assert rendered == "^" + text, (path, number)
                spans = []
                for begin, end in indices:
                    begin, end = len(rendered[1:begin].encode()), len(rendered[1:end].encode())
                    if spans and spans[-1][1] == begin:
                        spans[-1][1] = end
                    elif begin < end:
                        spans.append([begin, end])
            refused += text is None
            lines.append([path.stem, number, text and fnv1a(text), prompt and fnv1a(prompt), spans])
    with open(HERE / "renderings.json", "w", encoding="ascii", newline="\n") as file:
        file.write("[\n" + ",\n".join(json.dumps(line, separators=(",", ":")) for line in lines) + "\n]\n")
    with open(HERE / "conversations.json", "w", encoding="ascii", newline="\n") as file:
        file.write("[\n" + ",\n".join(json.dumps(conversation, ensure_ascii=True) for conversation in everyone) + "\n]\n")
    print(len(everyone), "conversations,", len(lines), "renderings, of which", refused, "are refused,", printed, "because a list is printed")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    write_expressions()
    write_renderings()

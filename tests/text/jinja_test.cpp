#include "deltatune/text/jinja.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "deltatune/io/mapped_file.hpp"
#include "deltatune/text/jinja/parse_value.hpp"

namespace deltatune {
namespace {

using Catch::Contains;

std::string jinja_text(const std::string& source, const std::string& variables = "{}", const jinja::RenderOptions& options = {}) {
  return jinja::Template(source, "t").render(*jinja::parse_value(variables, "variables").as_dict(), options).text;
}

void check_refused(const std::string& source, const std::string& what) {
  INFO(source);
  CHECK_THROWS_WITH(jinja_text(source), Contains(what));
}

jinja::RenderOptions at_a_time() { return {.now = jinja::DateTime{2024, 7, 26, 13, 5, 9}}; }

}  // namespace

// tests/data/chat/expressions.json: what jinja2 3.1.6 makes of them, set up by transformers 4.57.6.
TEST_CASE("Jinja: expressions and blocks as jinja2 has them", "[text][jinja]") {
  const MappedFile file(std::filesystem::path(DELTATUNE_TEST_DIR) / "data/chat/expressions.json");
  const jinja::Value golden = jinja::parse_value(file.text(), "expressions.json");
  const jinja::Dict& variables = *golden.as_dict()->find(std::string_view("variables"))->as_dict();
  int errors = 0, texts = 0;
  for (const jinja::Value& row : golden.as_dict()->find(std::string_view("table"))->as_sequence()->items) {
    const std::string& source = row.as_sequence()->items[0].text();
    const jinja::Value& expected = row.as_sequence()->items[1];
    INFO(source);
    if (expected.is_none()) {
      CHECK_THROWS_AS(jinja::Template(source, "t").render(variables, at_a_time()), Error);
      ++errors;
    } else {
      CHECK(jinja::Template(source, "t").render(variables, at_a_time()).text == expected.text());
      ++texts;
    }
  }
  CHECK(texts > 500);
  CHECK(errors > 90);
}

TEST_CASE("Jinja: what the engine lacks is refused by name and line", "[text][jinja]") {
  check_refused("{% include 'x' %}", "t: line 1: the block {% include %} is not part of this engine");
  check_refused("a\n\n{% block x %}{% endblock %}", "t: line 3: the block {% block %} is not part of this engine");
  check_refused("{% for x in y recursive %}{% endfor %}", "a recursive loop is not part of this engine");
  check_refused("\n{{ 'x'|wordwrap(3) }}", "t: line 2: the filter \"wordwrap\" is not part of this engine");
  check_refused("{{ 1 is filter }}", "the test \"filter\" is not part of this engine");
  check_refused("{{ 'x'.zfill(3) }}", "the method zfill of strings is not part of this engine");
  check_refused("{{ joiner() }}", "the function joiner is not part of this engine");
  check_refused("{{ f(*x) }}", "* and **");
  check_refused("{% macro f() %}{{ varargs }}{% endmacro %}", "varargs of a macro is not part of this engine");
  check_refused("{{ 0x1F }}", "another base than 10");
  check_refused("{{ 'a' % 1 if 0 else '%g' % 1 }}", "%g is not part of this engine");
  check_refused("{{ '\\N{DASH}' }}", "\\N is not part of this engine");
  check_refused("{{ ('<'|safe).title() }}", "of a string marked safe is not part of this engine");
  check_refused("{{ 9223372036854775807 + 1 }}", "an integer is too large; expected 64 bits");
  check_refused("{{ 9223372036854775808 }}", "an integer is too large; expected 64 bits");
  check_refused("{{ range }}", "a value of the type function is printed");
  check_refused("{{ [1]|map('string') }}", "a value of the type generator is printed");
  check_refused("{{ '\xEF\xAC\x81'|upper }}", "no capital of the letter");
  CHECK(jinja_text("{% if false %}{{ 1|nosuch }}{% endif %}ok") == "ok");  // as long as nobody asks for it
}

TEST_CASE("Jinja: errors name template, line and reason", "[text][jinja]") {
  check_refused("a\n{{ x.y }}", "t: line 2: 'x' is undefined");
  check_refused("{% set d = {'a': 1} %}\n\n{{ d.b.c }}", "t: line 3: dict has no attribute 'b'");
  check_refused("{% for x in [1] %}\n{% if x %}\n{{ raise_exception('no ' ~ x) }}{% endif %}{% endfor %}",
                "t: line 3: the template refuses the conversation: no 1");
  check_refused("{% if x %}\n", "t: line 1: a block has no end; expected {% endif %}");
  check_refused("{{ 1 +\n }}", "t: line 2: wrong syntax; expected an expression, got }}");
  check_refused("{% endfor %}", "line 1: unknown block {% endfor %}");
  check_refused("{{ [1, 2 }}", "the bracket } closes nothing; expected ]");
  check_refused("\n{# never", "t: line 2: a comment has no end");
  check_refused("{{ 'a", "a string has no end");
  check_refused("{{ 1 + 'a' }}", "the operator + cannot take these values; got int and str");
  check_refused("{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "the macro f has too many arguments; expected at most 1, got 2");
  check_refused("{{ 'a'|join(sep='x') }}", "the filter join has no argument sep");
  check_refused("{{ 'a'|replace('b') }}", "the filter replace lacks its argument new");
  check_refused("{{ strftime_now('%Y') }}", "the template asks for the present time");
  check_refused("\xFF", "not UTF-8");
  CHECK_THROWS_WITH(jinja_text("{{ strftime_now('%Q') }}", "{}", at_a_time()), Contains("does not know a directive"));
  CHECK_THROWS_WITH(jinja_text("{{ strftime_now('%Y') }}", "{}", {.now = jinja::DateTime{2024, 13, 1}}), Contains("no date of the calendar"));
}

TEST_CASE("Jinja: no template hangs or exhausts the memory", "[text][jinja]") {
  const jinja::RenderOptions small{.limits = {.steps = 100'000, .output_bytes = 10'000}};
  const auto refused = [&small](const std::string& source, const std::string& what) {
    INFO(source.substr(0, 200));
    CHECK_THROWS_WITH(jinja_text(source, "{}", small), Contains(what));
  };
  refused("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "does not come to an end");
  refused("{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", "does not come to an end");
  refused("{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}", "does not come to an end");
  refused(
      "{% set ns = namespace(s=[1], t=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}",
      "does not come to an end");
  refused("{% set ns = namespace(s=[]) %}{% for i in range(500) %}{% set ns.s = [ns.s] %}{% endfor %}", "nested too deeply");
  refused("{% set ns = namespace(s={}) %}{% for i in range(500) %}{% set ns.s = {'a': ns.s} %}{% endfor %}", "nested too deeply");
  refused("{{ 'x' * 99999999999 }}", "too large");
  refused("{{ 'x' * 9999999 }}", "does not come to an end");
  refused("{{ 'x' * 20000 }}", "too long; expected at most 10000 bytes");
  refused("{% for i in range(20000) %}x{% endfor %}", "too long; expected at most 10000 bytes");
  refused("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "too deep inside each other");
  refused("{{ '%99999s' % 1 }}", "width or precision");
  refused("{{ range(0, 999999) }}", "a range is too long");
  refused("{{ 10 ** 10 ** 10 }}", "too large");
  refused("{{ ('a' * 60000).replace('', 'b' * 60000) }}", "does not come to an end");
  refused("{{ [[1] * 50000, [2] * 50000]|sum(start=[])|list|sort|length }}", "does not come to an end");
  const auto many = [](const std::string& part) {
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += part;
    return text;
  };
  refused("{{ " + many("(") + many(")") + " }}", "nested too deeply");
  refused("{{ " + many("[") + many("]") + " }}", "nested too deeply");
  refused("{{ " + many("not ") + "1 }}", "nested too deeply");
  refused("{{ " + many("-") + "1 }}", "nested too deeply");
  refused("{{ " + many("1 if 1 else ") + "1 }}", "nested too deeply");
  refused("{{ x" + many("[0]") + " }}", "nested too deeply");
  refused("{{ x" + many("|e") + " }}", "nested too deeply");
  refused(many("{% if 1 %}"), "nested too deeply");
  refused("{{ 1" + many(" + 1") + " }}", "nested too deeply");
  refused(std::string(5'000'000, 'x'), "the template is too long");
  // A namespace may hold itself, and a macro the variables around it: nothing is left behind (the leak sanitizer looks).
  CHECK(jinja_text("{% set ns = namespace() %}{% set ns.x = [ns] %}{% for i in [1] %}{% macro f() %}{{ i }}{% endmacro %}{% set ns.f = f %}{% set ns.l = loop "
                   "%}{% endfor %}"
                   "{{ ns.f() }}{{ ns.l.index }}") == "11");
}

TEST_CASE("Jinja: JSON keeps its order and its numbers", "[text][jinja]") {
  CHECK(jinja_text("{{ v|tojson }}", R"({"v": {"z": 1, "a": 2.0, "m": [true, null, "\u00e9"], "z": 3}})") == R"({"z": 3, "a": 2.0, "m": [true, null, "é"]})");
  CHECK_THROWS_WITH(jinja::parse_value("[1, 18446744073709551615]", "line 3"), Contains("line 3: an integer is too large"));
  CHECK_THROWS_WITH(jinja::parse_value("[1, 99999999999999999999999]", "line 3"), Contains("line 3: an integer is too large"));
  CHECK_THROWS_WITH(jinja::parse_value("[1, ]", "line 3"), Contains("line 3: not valid JSON at line 1, column 5"));
  CHECK_THROWS_WITH(jinja::parse_value(std::string("[\0]", 3), "line 3"), Contains("zero byte"));
  CHECK_THROWS_WITH(jinja::parse_value(std::string(100, '['), "line 3"), Contains("nested more than 64 levels"));
}

TEST_CASE("Jinja: a rendering says for which item of a list each byte was written", "[text][jinja]") {
  const jinja::Value variables = jinja::parse_value(R"({"ms": [{"c": "a"}, {"c": "bb"}, {"c": ""}]})", "variables");
  const jinja::Value traced = *variables.as_dict()->find(std::string_view("ms"));
  const jinja::Template chat("<{% for m in ms[1:] + ms[:1] %}{% for x in [1, 2] %}{{ m.c }}{% endfor %}{% set x %}{{ m.c }}{% endset %}{% endfor %}>", "t");
  const jinja::Rendering rendering = chat.render(*variables.as_dict(), {.traced = traced});
  CHECK(rendering.text == "<bbbbaa>");
  REQUIRE(rendering.pieces.size() == 2);
  CHECK(rendering.pieces[0].item == 1);
  CHECK((rendering.pieces[0].bytes.begin == 1 && rendering.pieces[0].bytes.end == 5));
  CHECK(rendering.pieces[1].item == 0);
  CHECK((rendering.pieces[1].bytes.begin == 5 && rendering.pieces[1].bytes.end == 7));
  try {
    jinja::Template("{% for m in ms %}{{ raise_exception('x') if loop.index == 2 }}{% endfor %}", "t").render(*variables.as_dict(), {.traced = traced});
    FAIL("no error");
  } catch (const jinja::RenderError& error) {
    CHECK(error.traced_item() == std::size_t{1});
  }
}

}  // namespace deltatune

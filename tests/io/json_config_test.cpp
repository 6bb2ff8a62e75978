#include "deltatune/io/json_config.hpp"

#include <catch2/catch.hpp>
#include <string>

#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

namespace deltatune {
namespace {

using Catch::Contains;
using test::error_text;
using test::TemporaryFolder;

JsonConfig parse(std::string_view text) { return JsonConfig::parse(text, "config.json"); }

TEST_CASE("JsonConfig reads each type", "[json]") {
  const JsonConfig config = parse(
      R"({"flag": true, "size": -384, "large": 9223372036854775807, "rate": 1e-3, "name": "gelu é",
          "names": ["a", "b"], "sizes": [1, 2], "none": [], "inner": {"depth": 2}, "nothing": null})");
  CHECK(config.get<bool>("flag"));
  CHECK(config.get<std::int64_t>("size") == -384);
  CHECK(config.get<std::int64_t>("large") == std::numeric_limits<std::int64_t>::max());
  CHECK(config.get<double>("rate") == 1e-3);
  CHECK(config.get<double>("size") == -384.0);
  CHECK(config.get<std::string>("name") == "gelu é");
  CHECK(config.get<std::vector<std::string>>("names") == std::vector<std::string>{"a", "b"});
  CHECK(config.get<std::vector<std::int64_t>>("sizes") == std::vector<std::int64_t>{1, 2});
  CHECK(config.get<std::vector<std::int64_t>>("none").empty());
  CHECK(config.object("inner").get<std::int64_t>("depth") == 2);
  CHECK(config.has("size"));
  CHECK_FALSE(config.has("nothing"));
  CHECK_FALSE(config.has("unknown"));
  CHECK(config.get_or<std::int64_t>("size", 7) == -384);
  CHECK(config.get_or<std::int64_t>("nothing", 7) == 7);
  CHECK(config.get_or<std::string>("unknown", "relu") == "relu");
  CHECK(config.raw().at("sizes").size() == 2);
  CHECK(config.name() == "config.json");
}

TEST_CASE("JsonConfig keeps the order of its keys and knows which nobody has read", "[json]") {
  const JsonConfig config = parse(R"({"z": 1, "b": {"y": 1, "x": 2, "y": 3}, "a": [{"q": 1}], "none": null, "off": false, "empty": {}, "text": ""})");
  CHECK(config.keys() == std::vector<std::string>{"z", "b", "a", "none", "off", "empty", "text"});
  CHECK(config.object("b").keys() == std::vector<std::string>{"y", "x"});
  CHECK(config.object("b").get<std::int64_t>("y") == 3);
  CHECK(config.object("empty").keys().empty());
  CHECK(config.unread({}) == std::vector<std::string>{"a", "z"});
  CHECK(config.unread({"a"}) == std::vector<std::string>{"z"});
  CHECK(config.get_or<std::int64_t>("z", 0) == 1);
  CHECK(config.unread({"a"}).empty());
}

TEST_CASE("JsonConfig errors name file, key, expected and got", "[json]") {
  const JsonConfig config =
      parse(R"({"size": "768", "rate": [1], "huge": 9223372036854775808, "part": 1.5, "names": ["a", 3], "inner": {"x": {}}, "nothing": null})");
  CHECK(error_text([&] { config.get<std::int64_t>("hidden"); }) == "config.json: hidden: is missing; expected an integer");
  CHECK(error_text([&] { config.get<bool>("nothing"); }) == "config.json: nothing: is null; expected true or false");
  CHECK(error_text([&] { config.get<std::int64_t>("size"); }) == "config.json: size: wrong type; expected an integer, got string \"768\"");
  CHECK(error_text([&] { config.get_or<std::int64_t>("size", 1); }) == "config.json: size: wrong type; expected an integer, got string \"768\"");
  CHECK(error_text([&] { config.get<double>("rate"); }) == "config.json: rate: wrong type; expected a number, got an array");
  CHECK_THAT(error_text([&] { config.get<std::int64_t>("huge"); }), Contains("9223372036854775808"));
  CHECK_THAT(error_text([&] { config.get<std::int64_t>("part"); }), Contains("got number 1.5"));
  CHECK(error_text([&] { config.get<std::vector<std::string>>("names"); }) == "config.json: names[1]: wrong type; expected a string, got number 3");
  CHECK(error_text([&] { config.get<std::vector<std::string>>("size"); }) ==
        "config.json: size: wrong type; expected a list (each entry a string), got string \"768\"");
  CHECK(error_text([&] { config.object("size"); }) == "config.json: size: wrong type; expected an object, got string \"768\"");
  CHECK(error_text([&] { config.object("inner").get<bool>("x"); }) == "config.json: inner: x: wrong type; expected true or false, got an object");
}

TEST_CASE("JsonConfig: syntax errors carry line and column", "[json]") {
  const std::string text = error_text([] { parse("{\n  \"a\": 1,\n  \"b\" 2\n}"); });
  CHECK_THAT(text, Contains("config.json: not valid JSON at line 3, column 7: syntax error while parsing object separator"));
  CHECK_THAT(error_text([] { parse(""); }), Contains("line 1, column 1"));
  CHECK_THAT(error_text([] { parse("{\"a\": 1"); }), Contains("not valid JSON"));
  CHECK_THAT(error_text([] { parse("{} {}"); }), Contains("not valid JSON"));
  CHECK_THAT(error_text([] { parse("{\"a\": NaN}"); }), Contains("not valid JSON"));
  CHECK_THAT(error_text([] { parse("{\"a\": 1e999}"); }), Contains("line 1, column 11") && Contains("1e999"));
  CHECK_THAT(error_text([] { parse(std::string_view("{}\n\0", 4)); }), Contains("line 2, column 1: a zero byte"));
  CHECK_THAT(error_text([] { parse("{\"a\": \"\xff\"}"); }), Contains("not valid JSON"));
  CHECK(error_text([] { parse("{\"a\": \"" + std::string(100000, 'x')); }).size() < 400);
  CHECK_THAT(error_text([] { parse("[1]"); }), Contains("expected an object {...}, got an array"));
}

TEST_CASE("JsonConfig: nesting is limited, duplicates follow the rule", "[json]") {
  const auto nested = [](std::size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); };
  CHECK_NOTHROW(parse("{\"a\": " + nested(kMaxJsonDepth - 1) + "}"));
  CHECK_THAT(error_text([&] { parse("{\"a\": " + nested(kMaxJsonDepth) + "}"); }), Contains("nested more than 64 levels"));
  CHECK_THAT(error_text([&] { parse("{\"a\": " + std::string(5'000'000, '[')); }), Contains("nested more than 64 levels"));
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) objects += "{\"a\":";
  CHECK_THAT(error_text([&] { parse(objects); }), Contains("nested more than 64 levels"));

  CHECK(parse(R"({"a": {"x": 1}, "a": 2})").get<std::int64_t>("a") == 2);
  CHECK_THAT(error_text([] { parse_json(R"({"a": {"b": 1, "b": 1}})", "header", DuplicateKeys::kRefused); }), Contains("\"b\" stands twice"));
  CHECK_NOTHROW(parse_json(R"({"a": {"b": 1}, "b": 1, "c": [{"b": 2}, {"b": 3}]})", "header", DuplicateKeys::kRefused));
}

TEST_CASE("JsonConfig::open", "[json]") {
  const TemporaryFolder folder;
  CHECK(JsonConfig::open(folder.file("good.json", "\xef\xbb\xbf{\"a\": 1}\r\n")).get<std::int64_t>("a") == 1);
  CHECK_THAT(error_text([&] { JsonConfig::open(folder / "none.json"); }), Contains("none.json: cannot open the file: No such file"));
  CHECK_THAT(error_text([&] { JsonConfig::open(folder.path()); }), Contains("is not a regular file"));
  CHECK_THAT(error_text([&] { JsonConfig::open(folder.file("empty.json", "")); }), Contains("empty.json: not valid JSON at line 1, column 1"));
}

}  // namespace
}  // namespace deltatune

#include "deltatune/core/pattern.hpp"

#include <catch2/catch.hpp>

#include "deltatune/io/regex.hpp"

using namespace deltatune;

TEST_CASE("a plain name matches whole paths and their ends without an engine", "[core][pattern]") {
  const Pattern name("output.dense");
  CHECK(name.matches("output.dense", "x"));
  CHECK(!name.matches("layer.0.output.dense", "x"));
  CHECK(name.matches_end("layer.0.output.dense", "x"));
  CHECK(name.matches_end("layer.0.output_dense", "x"));  // a dot is any character, as in the expression it is
  CHECK(!name.matches_end("layer.0.my_output.dense", "x"));
  CHECK(!name.matches_end("dense", "x"));
  CHECK_THROWS_WITH(Pattern("layer\\.1.*").matches("a", "config: rank_pattern"),
                    Catch::Contains("config: rank_pattern") && Catch::Contains("layer\\.1.*") && Catch::Contains("io/regex.hpp"));
}

TEST_CASE("a plain name and the expression it is agree", "[core][pattern]") {
  for (const char* text : {"query", "output.dense", "layer.1.attention", "a-b_c"})
    for (const char* path :
         {"query", "x.query", "xquery", "output.dense", "0.output.dense", "0.outputxdense", "layer.1.attention", "layer.10.attention", "a-b_c", ""}) {
      INFO(text << " on " << path);
      CHECK(Pattern(text).matches(path, "x") == regex(text).matches(path, "x"));
      CHECK(Pattern(text).matches_end(path, "x") == regex(text).matches_end(path, "x"));
    }
}

TEST_CASE("expressions have Python's syntax and match as re.fullmatch does", "[io][regex]") {
  CHECK(regex("a|ab").matches("ab", "x"));  // the second alternative, where the first leaves a rest
  CHECK(regex(R"(.*\.1\..*(query|value))").matches("layer.1.self.value", "x"));
  CHECK(!regex(R"(.*\.1\..*(query|value))").matches("layer.10.self.value", "x"));
  CHECK(regex(R"((?P<part>ab)-(?P=part))").matches("ab-ab", "x"));
  CHECK(regex(R"(layer\.[0-3]\.)").matches("layer.2.", "x"));
  CHECK(regex(R"((?!.*output).*dense)").matches("pooler.dense", "x"));
  CHECK(!regex(R"((?!.*output).*dense)").matches("output.dense", "x"));
  CHECK(regex(R"(\w+\Z)").matches("query", "x"));
  CHECK(regex("layer\\.1|x").matches_end("encoder.layer.1", "x"));
  CHECK_THROWS_WITH(regex("(", "config: target_modules"), Catch::Contains("config: target_modules") && Catch::Contains("not a regular expression"));
  CHECK_THROWS_WITH(regex("(a+)+$").matches(std::string(40, 'a') + "b", "x"), Catch::Contains("takes too long"));
}

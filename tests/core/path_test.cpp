#include "deltatune/core/path.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/core/random.hpp"

using deltatune::Error;
using deltatune::is_suffix_path;
using deltatune::matches;

TEST_CASE("plain paths match themselves only", "[path]") {
  CHECK(matches("a.b.weight", "a.b.weight"));
  CHECK_FALSE(matches("a.b.weight", "a.b.weights"));
  CHECK_FALSE(matches("a.b.weight", "x.a.b.weight"));
  CHECK_FALSE(matches("a.b", "a.b.weight"));
  CHECK_FALSE(matches("a", ""));
  CHECK_FALSE(matches("", "a"));
  CHECK_FALSE(matches("a.", "a"));
  CHECK_FALSE(matches(".a", "a"));
  CHECK_FALSE(matches("a..b", "a.b"));
}

TEST_CASE("* stays inside one segment", "[path]") {
  CHECK(matches("*", "bias"));
  CHECK_FALSE(matches("*", "a.bias"));
  CHECK(matches("layer.*.weight", "layer.11.weight"));
  CHECK_FALSE(matches("layer.*.weight", "layer.weight"));
  CHECK_FALSE(matches("layer.*.weight", "layer.1.2.weight"));
  CHECK(matches("q*y", "query"));
  CHECK(matches("query*", "query"));
  CHECK(matches("*query", "query"));
  CHECK(matches("*a*b*", "xxaybz"));
  CHECK_FALSE(matches("*a*b*", "xxbyaz"));
  CHECK(matches("*.*", "a.b"));
}

TEST_CASE("** is any number of segments, also none", "[path]") {
  CHECK(matches("**", "bias"));
  CHECK(matches("**", "a.b.c"));
  CHECK(matches("**.bias", "bias"));
  CHECK(matches("**.bias", "a.b.bias"));
  CHECK_FALSE(matches("**.bias", "a.b.rebias"));
  CHECK_FALSE(matches("**.bias", "a.bias.b"));
  CHECK(matches("classifier.**", "classifier"));
  CHECK(matches("classifier.**", "classifier.out.weight"));
  CHECK_FALSE(matches("classifier.**", "classifiers.weight"));
  CHECK(matches("a.**.b", "a.b"));
  CHECK(matches("a.**.b", "a.x.y.b"));
  CHECK_FALSE(matches("a.**.b", "ab"));
  CHECK_FALSE(matches("a.**.b", "a.xb"));
  CHECK(matches("**.layer.**.bias", "encoder.layer.0.output.bias"));
  CHECK(matches("**.**.a", "a"));
}

TEST_CASE("{,} offers alternatives", "[path]") {
  CHECK(matches("**.attention.self.{query,value}", "bert.encoder.layer.3.attention.self.query"));
  CHECK(matches("**.attention.self.{query,value}", "bert.encoder.layer.3.attention.self.value"));
  CHECK_FALSE(matches("**.attention.self.{query,value}", "bert.encoder.layer.3.attention.self.key"));
  CHECK(matches("a{b,c}d", "abd"));
  CHECK(matches("a{,b}", "a"));
  CHECK(matches("a{.b,.c.d}.e", "a.c.d.e"));
  CHECK(matches("{a,b{c,d*}}.w", "bdog.w"));
  CHECK_FALSE(matches("{a,b{c,d*}}.w", "b.w"));
  CHECK(matches("{**.bias,classifier.**}", "x.y.bias"));
  CHECK(matches("{**.bias,classifier.**}", "classifier.weight"));
  CHECK(matches("x.{**,y}.bias", "x.bias"));
  CHECK(matches("one,two", "one,two"));
  CHECK_FALSE(matches("{**,a}b", "b"));
}

TEST_CASE("malformed globs throw and say where", "[path]") {
  CHECK_THROWS_WITH(matches("a.{b,c", "x"), Catch::Contains("a.{b,c") && Catch::Contains("never closed"));
  CHECK_THROWS_WITH(matches("a}.b", "x"), Catch::Contains("closes nothing") && Catch::Contains("character 2"));
  CHECK_THROWS_AS(matches("{a,{b}", "a"), Error);
  CHECK_THROWS_WITH(matches("a.**b", "x"), Catch::Contains("**") && Catch::Contains("expected"));
  CHECK_THROWS_AS(matches("layer**", "layer"), Error);
  CHECK_THROWS_AS(matches("***", "layer"), Error);
  CHECK_THROWS_WITH(matches(std::string(100000, '{'), "x"), Catch::Contains("too deeply"));
}

TEST_CASE("hostile globs take no exponential time", "[path]") {
  std::string stars, segments, braces, path;
  for (int i = 0; i < 200; ++i) {
    stars += "*a";
    segments += "**.a.";
    braces += "{a,aa,a*}";
    path += "a.";
  }
  const std::string run(400, 'a');
  CHECK_FALSE(matches(stars + "b", run));
  CHECK_FALSE(matches(segments + "b", path + "a"));
  CHECK(matches(segments + "a", path + "a"));
  CHECK_FALSE(matches(braces + "b", run));
  CHECK(matches(braces, run));
}

TEST_CASE("PEFT's suffix rule", "[path]") {
  CHECK(is_suffix_path("a.self.query", "query"));
  CHECK(is_suffix_path("a.self.query", "self.query"));
  CHECK(is_suffix_path("query", "query"));
  CHECK_FALSE(is_suffix_path("a.self.myquery", "query"));
  CHECK_FALSE(is_suffix_path("uery", "query"));
}

// ---- the same answers as a slow matcher that expands the braces and backtracks ----
namespace {

using Segments = std::vector<std::string>;

Segments split(const std::string& text) {
  Segments parts(1);
  for (const char c : text) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

bool slow_segment(std::string_view glob, std::string_view text) {
  if (glob.empty()) return text.empty();
  if (glob[0] == '*') return slow_segment(glob.substr(1), text) || (!text.empty() && slow_segment(glob, text.substr(1)));
  return !text.empty() && glob[0] == text[0] && slow_segment(glob.substr(1), text.substr(1));
}

bool slow_segments(const Segments& glob, std::size_t g, const Segments& path, std::size_t p) {
  if (g == glob.size()) return p == path.size();
  if (glob[g] == "**") return slow_segments(glob, g + 1, path, p) || (p < path.size() && slow_segments(glob, g, path, p + 1));
  if (glob[g].empty() || glob[g].find("**") != std::string::npos) return false;
  return p < path.size() && slow_segment(glob[g], path[p]) && slow_segments(glob, g + 1, path, p + 1);
}

// All texts of a glob whose braces hold no further braces.
std::vector<std::string> expand(const std::string& glob) {
  const std::size_t open = glob.find('{');
  if (open == std::string::npos) return {glob};
  const std::size_t close = glob.find('}');
  std::vector<std::string> all;
  for (std::size_t from = open + 1; from <= close;) {
    const std::size_t to = std::min(glob.find(',', from), close);
    for (const std::string& one : expand(glob.substr(0, open) + glob.substr(from, to - from) + glob.substr(close + 1))) all.push_back(one);
    from = to + 1;
  }
  return all;
}

}  // namespace

TEST_CASE("agrees with a slow matcher on random globs and paths", "[path]") {
  const deltatune::RandomKey key = deltatune::derive(17);
  std::uint64_t draws = 0;
  const auto draw = [&](std::uint32_t n) { return deltatune::random_bits(key, draws++) % n; };
  const std::vector<std::string> pieces{"a", "b", "ab", "*", "a*", "*b", "**", "{a,b}", "{a.b,*}", "{**,a}", "{**,*}", "{a,**.b}", "{b,a.}a", "*{a,b}*"};
  int matched = 0;
  for (int round = 0; round < 40000; ++round) {
    std::string glob, path;
    for (std::uint32_t i = 0, n = 1 + draw(4); i < n; ++i) {
      glob += i == 0 ? "" : ".";
      glob += pieces[draw(static_cast<std::uint32_t>(pieces.size()))];
    }
    for (std::uint32_t i = 0, n = 1 + draw(5); i < n; ++i) {
      path += i == 0 ? "" : ".";
      for (std::uint32_t j = 0, m = 1 + draw(3); j < m; ++j) path += draw(2) == 0 ? 'a' : 'b';
    }
    bool expected = false;
    for (const std::string& one : expand(glob)) expected = expected || slow_segments(split(one), 0, split(path), 0);
    INFO(glob << " on " << path);
    REQUIRE(matches(glob, path) == expected);
    matched += expected;
  }
  CHECK(matched > 2000);
}

#include "deltatune/io/table.hpp"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <iterator>

using namespace deltatune;
using Catch::Contains;

namespace {

using Row = std::vector<std::string>;

Table read(const std::string& extension, const std::string& text) {
  const auto path = std::filesystem::temp_directory_path() / ("deltatune_table_" + std::to_string(::getpid()) + extension);
  std::ofstream(path, std::ios::binary) << text;
  struct Remove {
    const std::filesystem::path& path;
    ~Remove() { std::filesystem::remove(path); }
  } remove{path};
  return read_table(path);
}

std::string error_of(const std::string& extension, const std::string& text) {
  try {
    read(extension, text);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("jsonl: keys that are missing and values that are no strings are counted", "[io][table]") {
  const Table table = read(".jsonl", "{\"a\": \"x\", \"a\": 1}\n{\"b\": null}\n{\"a\": \"y\", \"b\": true}\n{}\n");
  REQUIRE(table.json.size() == 2);
  CHECK(table.json[0].missing == 2);
  CHECK(table.json[0].first_missing == 1);
  CHECK(table.json[0].not_text == 1);
  CHECK(table.json[0].first_not_text == 0);
  CHECK(table.json[1].missing == 2);
  CHECK(table.json[1].first_missing == 0);
  CHECK(table.json[1].first_not_text == 2);
  CHECK(read(".csv", "a\n1\n").json.empty());
}

TEST_CASE("csv: fields, quotes and line ends", "[io][table]") {
  const Row a_b{"a", "b"};
  const std::vector<Row> one{{"1", "2"}};
  for (const char* text : {"a,b\n1,2\n", "a,b\n1,2", "a,b\r\n1,2\r\n", "a,b\r1,2\r",
                           "\xEF\xBB\xBF"
                           "a,b\n1,2\n",
                           "a,b\n1,2\n\n\r\n\n", "\n\na,b\n\n1,2\n", "\"a\",\"b\"\n\"1\",\"2\"", "\xEF\xBB\xBF\"a\",b\n1,2"}) {
    INFO(text);
    const Table table = read(".csv", text);
    CHECK(table.columns == a_b);
    CHECK(table.rows == one);
    CHECK(table.replaced_sequences == 0);
  }
  CHECK(read(".csv", "a,b\n\"x, \"\"y\"\"\r\nz\",\n").rows == std::vector<Row>{{"x, \"y\"\r\nz", ""}});
  CHECK(read(".csv", "a,b\n,\n\"\",\"\"\n , x\n").rows == std::vector<Row>{{"", ""}, {"", ""}, {" ", " x"}});
  CHECK(read(".csv", "a,b\n1,").rows == std::vector<Row>{{"1", ""}});
  CHECK(read(".csv", "a\n\"\"\nx\n").rows == std::vector<Row>{{""}, {"x"}});
  CHECK(read(".csv", "a,b\nsay \"hi\",5\"\n").rows == std::vector<Row>{{"say \"hi\"", "5\""}});  // within a plain field a quote is a quote
  CHECK(read(".CSV", "a,b\n1\t,2\n").rows == std::vector<Row>{{"1\t", "2"}});
  CHECK(read(".csv", std::string("a\nx\0y\n", 6)).rows == std::vector<Row>{{std::string("x\0y", 3)}});
}

TEST_CASE("tsv: tabs separate, commas don't", "[io][table]") {
  const Table table = read(".tsv", "text\tlabel\r\na, b\t1\r\n\"a\tb\n\"\"\"\t2\r\n");
  CHECK(table.columns == Row{"text", "label"});
  CHECK(table.rows == std::vector<Row>{{"a, b", "1"}, {"a\tb\n\"", "2"}});
}

TEST_CASE("jsonl: columns in the order of their first appearance", "[io][table]") {
  const Table table = read(".jsonl",
                           "\xEF\xBB\xBF{\"z\": \"x\\u00e9\\n\", \"a\": 1}\r\n\n  \n{\"b\": true, \"a\": -2.50}\n{\"a\": null, \"b\": "
                           "false, \"c\": 12345678901234567890123}");
  CHECK(table.columns == Row{"z", "a", "b", "c"});
  CHECK(table.rows == std::vector<Row>{{"x\xC3\xA9\n", "1", "", ""}, {"", "-2.50", "true", ""}, {"", "", "false", "12345678901234567890123"}});
  CHECK(read(".ndjson", "{\"a\": \"\"}\n{}\n").rows == std::vector<Row>{{""}, {""}});
  CHECK(read(".jsonl", "{\"a\": 1, \"b\": 2, \"a\": 3}").rows == std::vector<Row>{{"3", "2"}});
}

TEST_CASE("bytes that are not UTF-8 are replaced and counted", "[io][table]") {
  const std::string r = "\xEF\xBF\xBD";
  const Table table = read(".csv", "a,b\xFF\nok,\xE2\x82\xAC\nx\x80\xFFy,\xE2\x82\n\xF0\x9F\x98,\xED\xA0\x80\n" + r + ",\xC0\xAF\xF4\x90\xF5\n");
  CHECK(table.columns == Row{"a", "b" + r});
  CHECK(table.rows == std::vector<Row>{{"ok", "\xE2\x82\xAC"}, {"x" + r + r + "y", r}, {r, r + r + r}, {r, r + r + r + r + r}});
  CHECK(table.replaced_sequences == 1 + 3 + 4 + 5);
  CHECK(table.rows_with_invalid_utf8 == 3);

  const Table json = read(".jsonl", "{\"a\": \"x\xFF\"}\n{\"a\": \"y\"}\n");
  CHECK(json.rows == std::vector<Row>{{"x" + r}, {"y"}});
  CHECK(json.replaced_sequences == 1);
  CHECK(json.rows_with_invalid_utf8 == 1);
}

TEST_CASE("columns by name", "[io][table]") {
  const Table table = read(".csv", "text,label\na,b\n");
  CHECK(table.column("text") == 0);
  CHECK(table.column("label") == 1);
  CHECK_THROWS_WITH(table.column("labels"), Contains("no column \"labels\"; expected one of: text, label"));
}

TEST_CASE("csv: mistakes name the line", "[io][table]") {
  CHECK_THAT(error_of(".csv", "a,b\n1,2\n1,2,3\n"), Contains(".csv: line 3: wrong number of fields; expected 2 as in the header, got 3"));
  CHECK_THAT(error_of(".csv", "a,b\n\"x\r\ny\",2\n\n1\n"), Contains("line 5: wrong number of fields; expected 2 as in the header, got 1"));
  CHECK_THAT(error_of(".csv", "a,b\n1,2\n1,\"x\n\n"), Contains("line 3: a quoted field begins here and never ends"));
  CHECK_THAT(error_of(".csv", "a,b\n\"1\n\",\"x"), Contains("line 3: a quoted field begins here and never ends"));
  CHECK_THAT(error_of(".csv", "a,b\n1,\"he said \"hi\"\"\n"), Contains("line 2: text after the closing quote"));
  CHECK_THAT(error_of(".csv", "a,b,a\n1,2,3\n"), Contains("line 1: two columns are named \"a\""));
}

TEST_CASE("json: a list of objects, each with its line", "[io][table]") {
  for (const char* extension : {".json", ".jsonl"}) {
    const Table table = read(extension, "[ {\"a\": 1, \"b\": \"x, ] } \\\" y\"},\n\n {\"b\":\n \"z\"}\n]\n");
    CHECK(table.rows == std::vector<Row>{{"1", "x, ] } \" y"}, {"", "z"}});
    CHECK(table.lines == std::vector<Index>{1, 3});
  }
  CHECK(read(".json", "{\"a\": 1}\n\n{\"a\": 2}\n").lines == std::vector<Index>{1, 3});
  CHECK_THAT(error_of(".json", "[]"), Contains("no rows"));
  CHECK_THAT(error_of(".json", "[{\"a\": 1}"), Contains("never ends"));
  CHECK_THAT(error_of(".json", "[{\"a\": 1},\n]"), Contains("line 2: not valid JSON"));
  CHECK_THAT(error_of(".json", "[{\"a\": 1},\n,{\"a\": 1}]"), Contains("line 2: not valid JSON"));
  CHECK_THAT(error_of(".json", "[{\"a\": 1}\n] {}"), Contains("line 2: text after the end"));
  CHECK_THAT(error_of(".json", "[{\"a\": 1}\n{\"a\": 1}]"), Contains("line 1: not valid JSON"));
}

TEST_CASE("rows know their line, and a csv its delimiter", "[io][table]") {
  const Table table = read(".csv", "a;b\n\"x\n;\";1,5\n\ny;2\n");
  CHECK(table.delimiter == ';');
  CHECK(table.rows == std::vector<Row>{{"x\n;", "1,5"}, {"y", "2"}});
  CHECK(table.lines == std::vector<Index>{2, 5});
  CHECK_THAT(table.place(1), Contains(".csv: data row 2 (line 5)"));
  CHECK(read(".csv", "a\tb\n1\t2\n").columns == Row{"a", "b"});
  CHECK(read(".csv", "a;b,c\n1,2\n").columns == Row{"a;b", "c"});
  CHECK(read(".csv", "\"a;b\"\n1\n").columns == Row{"a;b"});
}

TEST_CASE("jsonl: mistakes name the line", "[io][table]") {
  CHECK_THAT(error_of(".jsonl", "{\"a\": 1}\n\n{\"a\": \n"), Contains(".jsonl: line 3: not valid JSON"));
  CHECK_THAT(error_of(".jsonl", "{\"a\": 1} {\"a\": 2}\n"), Contains("line 1: not valid JSON"));
  CHECK_THAT(error_of(".jsonl", "{\"a\": 1e999}\n"), Contains("line 1: not valid JSON"));
  CHECK_THAT(error_of(".jsonl", "{\"a\": \"\\ud800\"}\n"), Contains("line 1: not valid JSON"));
  CHECK_THAT(error_of(".jsonl", "[1, 2]\n"), Contains("line 1: not an object"));
  CHECK_THAT(error_of(".jsonl", "\"text\"\n"), Contains("line 1: not an object"));
  CHECK_THAT(error_of(".jsonl", "{\"a\": 1, \"b\": [1]}\n"), Contains("line 1: b: nested values cannot stand in a table"));
  CHECK_THAT(error_of(".jsonl", "{\"a\": {\"b\": 1}}\n"), Contains("line 1: a: nested values cannot stand in a table") && Contains("got an object"));
}

TEST_CASE("tables without rows, of unknown kind, that cannot be read", "[io][table]") {
  for (const char* text : {"", "\n\n", "\xEF\xBB\xBF", "a,b", "a,b\n", "a,b\r\n\r\n"}) CHECK_THAT(error_of(".csv", text), Contains(".csv: no rows"));
  for (const char* text : {"", "\n \n"}) CHECK_THAT(error_of(".jsonl", text), Contains(".jsonl: no rows"));
  CHECK_THAT(error_of(".xlsx", "a,b\n1,2\n"), Contains("unknown kind of table; expected a name that ends in .csv, .tsv, .jsonl, .ndjson or .json"));
  CHECK_THAT(error_of("", "a,b\n1,2\n"), Contains("unknown kind of table"));
  CHECK_THAT(error_of(".csv",
                      "\xFF\xFE"
                      "a,b\n1,2\n"),
             Contains("is UTF-16; expected UTF-8"));
  CHECK_THROWS_WITH(read_table("no_such_file.csv"), Contains("no_such_file.csv"));
}

TEST_CASE("the tweets give the rows that Python's csv module gives", "[io][table]") {
  const char* const tweets = std::getenv("DELTATUNE_TWEETS");
  if (tweets == nullptr) {
    WARN("SKIPPED: set DELTATUNE_TWEETS to the tweets' csv file");
    return;
  }
  std::ifstream file(std::string(DELTATUNE_TEST_DIR) + "/data/tweets_table.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  const Table table = read_table(tweets);
  CHECK(table.columns == golden.at("columns").get<Row>());
  CHECK(table.rows.size() == golden.at("rows").get<std::size_t>());
  CHECK(table.replaced_sequences == golden.at("replaced_sequences").get<Index>());
  CHECK(table.rows_with_invalid_utf8 == golden.at("rows_with_invalid_utf8").get<Index>());
  std::uint32_t hash = 0x811C9DC5U;
  const auto add = [&](char byte) { hash = (hash ^ static_cast<unsigned char>(byte)) * 0x01000193U; };
  for (const Row& row : table.rows) {
    add('\x1e');
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) add('\x1f');
      for (const char byte : row[i]) add(byte);
    }
  }
  CHECK(hash == golden.at("fnv1a").get<std::uint32_t>());
}

// What the program makes of label columns: classes, numbers, missing labels, spellings, output layers for other classes.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>

#include "cli/language_model.hpp"
#include "cli/program.hpp"
#include "deltatune/io/safetensors.hpp"
#include "deltatune/io/table.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;
using Catch::Contains;

namespace {

// A model without an output layer ("base") and one with a trained one for three classes ("model").
struct Workplace {
  Workplace() {
    make_text_model(folder / "model");
    std::filesystem::create_directories(folder / "base");
    for (const char* file : {"config.json", "model.safetensors"}) std::filesystem::copy_file(kModels / "bert_bare" / file, folder / "base" / file);
    std::filesystem::copy_file(folder / "model/vocab.txt", folder / "base/vocab.txt");
  }

  std::string path(const std::string& name) const { return (folder / name).string(); }

  void name_classes(const std::vector<std::string>& names, const std::string& problem_type = "") const {
    Json config = Json::parse(content_of(folder / "model/config.json"));
    config["id2label"] = Json::object();
    for (std::size_t i = 0; i < names.size(); ++i) config["id2label"][std::to_string(i)] = names[i];
    if (!problem_type.empty()) config["problem_type"] = problem_type;
    folder.file("model/config.json", config.dump());
  }

  Arguments training(const std::string& model, const std::string& data, const Arguments& more) const {
    Arguments arguments{"train", "--model", path(model), "--data", data, "--steps", "1", "--max-length", "16", "--out", path("out")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  // Into "out", which is new.
  Outcome train(const std::string& model, const std::string& data, const Arguments& more = {"--eval-fraction", "0"}) const {
    std::filesystem::remove_all(folder / "out");
    return checked(training(model, data, more));
  }
  std::string train_error(const std::string& model, const std::string& data, const Arguments& more = {"--eval-fraction", "0"}) const {
    Arguments arguments = training(model, data, more);
    arguments.push_back("--overwrite");
    return error(arguments);
  }
  std::string error(const Arguments& arguments) const {
    const Outcome outcome = run_program(arguments);
    INFO(outcome.out + outcome.err);
    CHECK(outcome.code == 1);
    return outcome.err.substr(std::min(outcome.err.find("error: "), outcome.err.size()));
  }
  Json labels() const { return Json::parse(content_of(folder / "out/labels.json")); }
  Outcome evaluate(const std::string& data, const Arguments& more = {}) const {
    Arguments arguments{"evaluate", "--model", path("model"), "--data", data, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return checked(arguments);
  }

  TemporaryFolder folder;
};

std::string table(const std::vector<std::string>& labels, int times = 6) {
  std::string text = "text,label\n";
  for (int i = 0; i < times; ++i)
    for (const std::string& label : labels) text += "good day," + label + "\n";
  return text;
}

std::vector<double> logits(const Workplace& place, const std::string& model, const std::vector<std::int64_t>& ids) {
  SafeTensorsWriter writer;
  writer.add("input_ids", {1, static_cast<Index>(ids.size())}, std::span<const std::int64_t>(ids));
  writer.write(place.folder / "batch.safetensors");
  checked({"forward", "--model", place.path(model), "--batch", place.path("batch.safetensors"), "--out", place.path("logits.safetensors")});
  const SafeTensors file = SafeTensors::open(place.folder / "logits.safetensors");
  std::vector<double> values(static_cast<std::size_t>(element_count(file.at("logits").shape)));
  read_floats(file.at("logits"), std::span<double>(values));
  return values;
}

}  // namespace

TEST_CASE("labels that look the same are the same, and those that nearly do are noted", "[cli][labels]") {
  const Workplace place;
  SECTION("white space and Unicode forms") {
    const Outcome outcome = place.train("base", place.folder.file("d.csv", table({"caf\xC3\xA9", "cafe\xCC\x81", " bar", "bar\xC2\xA0"})).string());
    CHECK(place.labels() == Json{"bar", "caf\xC3\xA9"});
    CHECK_THAT(outcome.err, Contains("note: ") && Contains("white space") && Contains("data row 2"));
    CHECK_THAT(outcome.out, Contains("2 classes"));
  }
  SECTION("upper and lower case") {
    const Outcome outcome = place.train("base", place.folder.file("d.csv", table({"Positive", "positive", "negative"})).string());
    CHECK(place.labels().size() == 3);
    CHECK_THAT(outcome.err, Contains("\"Positive\", \"positive\" are nearly the same"));
  }
  SECTION("whole numbers with a decimal point") {
    const Outcome outcome = place.train("base", place.folder.file("d.csv", table({"1", "0", "1.0", "0.0"})).string());
    CHECK(place.labels() == Json{"0", "1"});
    CHECK_THAT(outcome.err, Contains("\"1.0\" as \"1\""));
  }
  SECTION("true and false") {
    std::string data;
    for (int i = 0; i < 6; ++i) data += std::string("{\"text\": \"good day\", \"label\": ") + (i % 2 == 0 ? "true}\n" : "false}\n");
    place.train("base", place.folder.file("d.jsonl", data).string());
    CHECK(place.labels() == Json{"false", "true"});
  }
}

TEST_CASE("labels that one person may have written in two ways are noted", "[cli][labels]") {
  const Workplace place;
  const auto notes = [&](const std::vector<std::string>& labels) { return place.train("base", place.folder.file("d.csv", table(labels)).string()).err; };
  CHECK_THAT(notes({"bug", "bugs", "bug.", "BUG", "other"}), Contains("\"BUG\", \"bug\", \"bug.\", \"bugs\" are nearly the same, but 4 classes"));
  CHECK_THAT(notes({"e-mail", "e mail", "email", "post"}), Contains("\"e mail\", \"e-mail\", \"email\" are nearly the same"));
  CHECK_THAT(notes({"caf\xC3\xA9", "cafe", "bar"}), Contains("\"cafe\", \"caf\xC3\xA9\" are nearly the same"));
  CHECK_THAT(notes({"yes", "ye", "no", "news"}), !Contains("nearly the same"));
  CHECK_THAT(notes({"-1", "1", "0"}), !Contains("nearly the same"));
  CHECK_THAT(notes({"c", "c++", "n/a", "None"}),
             Contains("\"None\", \"n/a\" are classes like any other; leave the cell empty") && !Contains("nearly the same"));
}

TEST_CASE("names of a trained output layer in another order are refused", "[cli][labels]") {
  const Workplace place;
  place.name_classes({"poor", "fine", "neither"});
  const std::string data = place.folder.file("d.csv", table({"poor", "fine", "neither"})).string();
  const auto check = [](const std::string& error) {
    CHECK_THAT(error, Contains("--labels") && Contains("\"poor\", \"fine\", \"neither\"") && Contains("leave it out"));
  };
  for (const char* command : {"evaluate", "predict"})
    for (const char* labels : {"fine,poor,neither", "Neither,fine,POOR"})
      check(place.error({command, "--model", place.path("model"), "--data", data, "--labels", labels}));
  check(place.train_error("model", data, {"--labels", "fine,poor,neither", "--eval-fraction", "0"}));
  place.evaluate(data, {"--labels", "poor,fine,neither"});
  place.train("model", data, {"--labels", "fine,poor,neither", "--new-head", "--eval-fraction", "0"});
  CHECK(place.labels() == Json{"fine", "poor", "neither"});
}

TEST_CASE("a list of labels in a message is short", "[cli][labels]") {
  const Workplace place;
  std::vector<std::string> names;
  for (int i = 0; i < 30; ++i) names.push_back("class " + std::to_string(i) + std::string(200, 'x'));
  place.train("base", place.folder.file("d.csv", table(names, 2)).string());
  const std::string unknown = place.folder.file("u.csv", "text,label\ngood," + std::string(500, 'y') + "\n").string();
  const std::string error = place.error({"evaluate", "--model", place.path("base"), "--adapter", place.path("out"), "--data", unknown});
  CHECK_THAT(error, Contains("...\"") && Contains("and 18 more"));
  CHECK(error.size() < 1000);
}

TEST_CASE("counts and shares are written in one way", "[cli][labels]") {
  const Workplace place;
  const Outcome trained = place.train("base", place.folder.file("d.csv", table({"a", "b"}, 20)).string(), {"--eval-fraction", "0.2"});
  CHECK_THAT(trained.out, Contains(", 1 step of 32") && Contains("1 step in ") && Contains("accuracy 50.00 %") && !Contains("1 steps"));
}

TEST_CASE("rows without a label are left out, counted and named", "[cli][labels]") {
  const Workplace place;
  std::string jsonl;
  for (int i = 0; i < 6; ++i)
    jsonl += "{\"text\": \"good\", \"label\": 1}\n{\"text\": \"bad\", \"label\": 0}\n{\"text\": \"so\", \"label\": null}\n{\"text\": \"so\"}\n";
  for (const std::string& data : {place.folder.file("d.csv", table({"1", "0", "", "\" \""})).string(), place.folder.file("d.jsonl", jsonl).string()}) {
    INFO(data);
    const Outcome outcome = place.train("base", data);
    CHECK(place.labels() == Json{"0", "1"});
    CHECK_THAT(outcome.err, Contains("12 of 24 rows have no label and are left out; the first is data row 3"));
    CHECK_THAT(outcome.out, Contains("on 12 texts, 2 classes"));
  }
  CHECK_THAT(place.train_error("base", place.folder.file("none.csv", "text,label\ngood,\nbad,\n").string()),
             Contains("none.csv: column label: no row has a label"));

  place.name_classes({"poor", "fine", "neither"});
  const Outcome evaluated = place.evaluate(place.folder.file("e.csv", "text,label\ngood,fine\nbad,\nbad,poor\n").string());
  CHECK(Json::parse(last_line(evaluated.out)).at("examples") == 2);
  CHECK_THAT(evaluated.err, Contains("1 of 3 rows has no label and is left out; the first is data row 2"));
}

TEST_CASE("numbers are no classes unless they are whole and few", "[cli][labels]") {
  const Workplace place;
  std::string halves = "text,label\n", many = halves;
  for (int i = 0; i < 40; ++i) {
    halves += "good," + std::to_string(i / 2) + (i % 2 == 0 ? ".0\n" : ".5\n");
    many += "good," + std::to_string(i) + "\n";
  }
  const std::string data = place.folder.file("halves.csv", halves).string(), numbers = place.folder.file("many.csv", many).string();
  CHECK_THAT(place.train_error("base", data), Contains("halves.csv: column label") && Contains("--task regression"));
  CHECK_THAT(place.train_error("base", numbers), Contains("40 in 40 rows") && Contains("--task regression"));
  place.train("base", data, {"--task", "classify", "--eval-fraction", "0"});
  CHECK(place.labels().size() == 40);
  place.train("base", place.folder.file("stars.csv", table({"5", "4", "3", "2", "1", "10"})).string());
  CHECK(place.labels() == Json{"1", "2", "3", "4", "5", "10"});
}

TEST_CASE("a single output learns numbers", "[cli][labels][regression]") {
  const Workplace place;
  std::string rows = "text,score\n";
  for (int i = 0; i < 20; ++i) rows += "good day,4.5\nbad night,0.5\nso so,\n";
  const std::string data = place.folder.file("scores.csv", rows).string();
  const Arguments more{"--task",  "regression", "--label-column", "score", "--method",   "full",     "--learning-rate", "5e-3",
                       "--steps", "60",         "--batch-size",   "16",    "--schedule", "constant", "--out",           place.path("number"),
                       "--json"};
  Arguments arguments{"train", "--model", place.path("base"), "--data", data, "--max-length", "16"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Outcome trained = checked(arguments);
  CHECK(Json::parse(last_line(trained.out)).at("eval_loss").get<double>() < 0.3);
  CHECK_THAT(trained.out, Contains("scores from 0.5 to 4.5"));
  CHECK(Json::parse(last_line(trained.out)).at("eval_accuracy").is_null());
  CHECK(Json::parse(last_line(trained.out)).at("metric") == "loss");
  CHECK_THAT(trained.out, Contains(", Pearson ") && Contains(", Spearman "));
  CHECK(Json::parse(last_line(content_of(place.folder / "number/metrics.jsonl"))).at("eval_spearman").get<double>() > 0.8);
  const Json config = Json::parse(content_of(place.folder / "number/config.json"));
  CHECK(config.at("num_labels") == 1);
  CHECK(config.at("problem_type") == "regression");

  const Table predicted = read_table(place.folder.file("p.csv", checked({"predict", "--model", place.path("number"), "--data", data}).out));
  CHECK(predicted.columns == std::vector<std::string>{"text", "input_score", "score"});
  CHECK(std::stod(predicted.rows[0][2]) == Approx(4.5).margin(0.7));
  CHECK(std::stod(predicted.rows[1][2]) == Approx(0.5).margin(0.7));
  const Outcome evaluated = checked({"evaluate", "--model", place.path("number"), "--data", data, "--label-column", "score", "--json"});
  const Json result = Json::parse(last_line(evaluated.out));
  CHECK(result.at("examples") == 40);
  CHECK(result.at("pearson").get<double>() > 0.95);
  const double first = std::stod(predicted.rows[0][2]) - 4.5, second = std::stod(predicted.rows[1][2]) - 0.5;
  CHECK(result.at("eval_loss").get<double>() == Approx((first * first + second * second) / 2).margin(1e-4));

  CHECK(checked({"evaluate", "--model", place.path("number"), "--data", data, "--label-column", "score"}).err.find("lie outside") == std::string::npos);
  const std::string wider = place.folder.file("wider.csv", "text,score\ngood day,9\nbad night,0.5\nso so,-2\n").string();
  const Outcome outside = checked({"train", "--model", place.path("base"), "--data", data, "--eval-data", wider, "--task", "regression", "--label-column",
                                   "score", "--steps", "1", "--max-length", "16", "--out", place.path("wider")});
  CHECK_THAT(outside.out, Contains("scores from -2 to 9"));
  CHECK_THAT(outside.err, Contains("wider.csv: 2 of 3 held-out scores lie outside of those trained on, 0.5 to 4.5"));

  // An adapter does the same; the model's own output says what is learned.
  checked({"train", "--model", place.path("number"), "--data", data, "--label-column", "score", "--max-length", "16", "--steps", "1", "--learning-rate", "0",
           "--out", place.path("adapter")});
  CHECK(checked({"predict", "--model", place.path("number"), "--adapter", place.path("adapter"), "--data", data}).out == content_of(place.folder / "p.csv"));
  CHECK_THAT(place.error({"train", "--model", place.path("number"), "--data", data, "--label-column", "score", "--task", "classify", "--out", place.path("x")}),
             Contains("single") || Contains("1 number"));
  const std::string words = place.folder.file("words.csv", "text,score\ngood,4\nbad,low\n").string();
  CHECK_THAT(place.error({"evaluate", "--model", place.path("number"), "--data", words, "--label-column", "score"}),
             Contains("words.csv: data row 2 (line 3), column score") && Contains("\"low\"") && Contains("leave the cell empty") && !Contains("--task"));
  const std::string many = place.folder.file("many.csv", "text,score\ngood,4\nbad,low\nbad,nan\nbad,\nso,\"3,5\"\n").string();
  for (const std::string command : {"evaluate", "train"}) {
    Arguments bad{command, "--model", place.path("number"), "--data", many, "--label-column", "score"};
    if (command == "train") bad.insert(bad.end(), {"--out", place.path("x")});
    CHECK_THAT(place.error(bad),
               Contains("many.csv: data row 2 (line 3)") && Contains("\"low\", and no numbers in 2 other rows") && Contains("leave the cell empty"));
  }
}

TEST_CASE("a trained output layer keeps the meaning of its rows", "[cli][labels]") {
  const Workplace place;
  place.name_classes({"positive", "neutral", "negative"});
  const Table before = read_table(
      place.folder.file("b.csv", checked({"predict", "--model", place.path("model"), "--data", place.folder.file("t.csv", "text\ngood day\n").string()}).out));
  const auto after = [&](const std::string& labels, const Arguments& more = {}) {
    Arguments arguments{"--eval-fraction", "0", "--learning-rate", "0"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = place.train("model", place.folder.file("d.csv", labels).string(), arguments);
    const Table predicted = read_table(
        place.folder.file("a.csv", checked({"predict", "--model", place.path("model"), "--adapter", place.path("out"), "--data", place.path("t.csv")}).out));
    return std::pair(predicted, outcome.err);
  };
  SECTION("other case") {
    const auto [predicted, notes] = after(table({"Positive", "Negative", "Neutral"}));
    CHECK(predicted.columns == before.columns);
    CHECK(predicted.rows == before.rows);
    CHECK_THAT(notes, Contains("\"Negative\" as \"negative\""));
  }
  SECTION("class numbers, and not all of them") {
    const auto [predicted, notes] = after(table({"0", "2"}));
    CHECK(predicted.columns == before.columns);
    CHECK_THAT(notes, Contains("0 is \"positive\", 1 is \"neutral\", 2 is \"negative\"") && Contains("no examples of \"neutral\""));
  }
  SECTION("other names") {
    const std::string data = place.folder.file("d.csv", table({"good", "bad", "so"})).string();
    const std::string error = place.train_error("model", data);
    CHECK_THAT(error,
               Contains("\"positive\", \"neutral\", \"negative\"") && Contains("\"bad\", \"good\", \"so\"") && Contains("--new-head") && Contains("--labels"));
    const auto [predicted, notes] = after(table({"good", "bad", "so"}), {"--labels", "good,so,bad"});
    CHECK(predicted.columns == std::vector<std::string>{"text", "label", "prob_good", "prob_so", "prob_bad"});
    CHECK(predicted.rows[0][2] == before.rows[0][2]);
  }
  SECTION("another number of classes") {
    const std::string data = place.folder.file("d.csv", table({"good", "bad"})).string();
    CHECK_THAT(place.train_error("model", data), Contains("(3)") && Contains("(2)") && Contains("--new-head"));
    const Outcome outcome = place.train("model", data, {"--new-head", "--eval-fraction", "0"});
    CHECK(place.labels() == Json{"bad", "good"});
    CHECK_THAT(outcome.out + outcome.err, Contains("classifier.weight is drawn at random"));
    place.evaluate(data, {"--adapter", place.path("out")});
    place.train("model", data, {"--new-head", "--method", "full"});
    CHECK(Json::parse(content_of(place.folder / "out/config.json")).at("id2label").size() == 2);
    checked({"predict", "--model", place.path("out"), "--data", place.path("t.csv")});
  }
  SECTION("names that nobody gave") {
    place.name_classes({"LABEL_0", "LABEL_1", "LABEL_2"});
    const auto [predicted, notes] = after(table({"good", "bad", "so"}));
    CHECK(predicted.columns == std::vector<std::string>{"text", "label", "prob_bad", "prob_good", "prob_so"});
    CHECK_THAT(notes, Contains("does not name its classes"));
  }
}

TEST_CASE("evaluate and predict know class numbers, and names that the user gives", "[cli][labels]") {
  const Workplace place;
  place.name_classes({"negative", "neutral", "positive"});
  const auto evaluated = [&](const std::array<std::string, 3>& names, const Arguments& more = {}) {
    const std::string data = place.folder.file("e.csv", "text,label\ngood day," + names[0] + "\nbad night," + names[1] + "\nso so," + names[2] + "\n").string();
    return Json::parse(last_line(place.evaluate(data, more).out)).at("eval_loss").get<double>();
  };
  const double expected = evaluated({"positive", "negative", "neutral"});
  CHECK(evaluated({"2", "0", "1"}) == expected);
  CHECK(evaluated({"2.0", "0.0", "1.0"}) == expected);
  CHECK(evaluated({"LABEL_2", "LABEL_0", "LABEL_1"}) == expected);
  CHECK(evaluated({" POSITIVE", "Negative", "neutral"}) == expected);
  CHECK(evaluated({"gut", "schlecht", "egal"}, {"--labels", "schlecht,egal,gut"}) == expected);
  const std::string names = place.folder.file("names.json", "[\"schlecht\", \"egal\", \"gut\"]").string();
  CHECK(evaluated({"gut", "schlecht", "egal"}, {"--labels", names}) == expected);

  const std::string unknown = place.folder.file("u.csv", "text,label\n\"good\nday\",positive\n\nbad,mixed\nbad,mixed\n").string();
  CHECK_THAT(place.error({"evaluate", "--model", place.path("model"), "--data", unknown}),
             Contains("u.csv: data row 2 (line 5), column label: unknown label") && Contains("\"mixed\"") && Contains("1 other row") && Contains("--labels"));
  CHECK_THAT(place.error({"evaluate", "--model", place.path("model"), "--data", unknown, "--labels", "a,b"}), Contains("--labels") && Contains("3 names"));
  CHECK_THAT(place.error({"evaluate", "--model", place.path("model"), "--data", unknown, "--labels", "a,b,a"}), Contains("--labels") && Contains("\"a\""));
  const std::string text = place.folder.file("t.csv", "text\ngood day\n").string();
  CHECK_THAT(checked({"predict", "--model", place.path("model"), "--data", text, "--labels", "x,y,z"}).out, Contains("text,label,prob_x,prob_y,prob_z"));
  CHECK_THAT(place.evaluate(place.path("e.csv"), {"--labels", "schlecht,egal,gut"}).out, Contains("macro average"));
}

TEST_CASE("several labels per text: each with a probability of its own", "[cli][labels]") {
  const Workplace place;
  place.name_classes({"toxic", "insult", "threat"}, "multi_label_classification");
  const std::string text = place.folder.file("t.csv", "text\ngood day\n").string();
  const std::vector<double> scores = logits(place, "model", {2, 5, 9, 3});
  const Table predicted = read_table(place.folder.file("p.csv", checked({"predict", "--model", place.path("model"), "--data", text}).out));
  CHECK(predicted.columns == std::vector<std::string>{"text", "labels", "prob_toxic", "prob_insult", "prob_threat"});
  std::string chosen;
  for (std::size_t c = 0; c < 3; ++c) {
    CHECK(std::stod(predicted.rows[0][2 + c]) == Approx(1.0 / (1.0 + std::exp(-scores[c]))).margin(2e-6));
    if (scores[c] > 0) chosen += (chosen.empty() ? "" : ";") + std::vector<std::string>{"toxic", "insult", "threat"}[c];
  }
  CHECK(predicted.rows[0][1] == chosen);
  const std::string data = place.folder.file("d.csv", table({"toxic", "insult", "threat"})).string();
  CHECK_THAT(place.error({"evaluate", "--model", place.path("model"), "--data", data}), Contains("multi_label_classification"));
  CHECK_THAT(place.train_error("model", data), Contains("multi_label_classification") && Contains("--new-head"));

  // A new output layer gives one label, in an adapter and in a whole model.
  place.train("model", data, {"--new-head", "--eval-fraction", "0"});
  CHECK_THAT(checked({"predict", "--model", place.path("model"), "--adapter", place.path("out"), "--data", text}).out, Contains("text,label,"));
  checked({"merge", "--model", place.path("model"), "--adapter", place.path("out"), "--out", place.path("merged")});
  CHECK_THAT(checked({"predict", "--model", place.path("merged"), "--data", text}).out, Contains("text,label,"));
  place.train("model", data, {"--new-head", "--eval-fraction", "0", "--method", "full"});
  CHECK_THAT(checked({"predict", "--model", place.path("out"), "--data", text}).out, Contains("text,label,"));
}

TEST_CASE("classes are those of all the data, and each is held out in its share", "[cli][labels]") {
  const Workplace place;
  std::string data = "text,label\n";
  for (int i = 0; i < 40; ++i) data += std::string("good day,") + (i % 4 == 0 ? "less\n" : "more\n");
  data += "so so,rare\n";
  for (const char* seed : {"0", "1", "2", "3"}) {
    const Outcome outcome = place.train("base", place.folder.file("d.csv", data).string(), {"--eval-fraction", "0.2", "--seed", seed});
    CHECK(place.labels() == Json{"less", "more", "rare"});
    CHECK_THAT(outcome.out, Contains("less       8           2") && Contains("more      24           6") && Contains("rare       1           0"));
    CHECK_THAT(outcome.err, Contains("no examples of \"rare\""));
  }
  const std::string other = place.folder.file("o.csv", "text,label\ngood,less\nbad,MORE\nbad,else\n").string();
  CHECK_THAT(place.train_error("base", place.path("d.csv"), {"--eval-data", other}),
             Contains("o.csv: data row 3 (line 4), column label: unknown label") && Contains("\"else\""));
  place.train("base", place.path("d.csv"), {"--eval-data", other, "--labels", "less,more,rare,else"});
  CHECK(place.labels().size() == 4);
}

TEST_CASE("tables as other programs leave them", "[cli][labels]") {
  const Workplace place;
  const std::string rows = "good,1\nbad,0\n", objects = "{\"text\": \"good\", \"label\": 1}, {\"text\": \"bad\",\n \"label\": 0}";
  std::string semicolons = rows;
  std::replace(semicolons.begin(), semicolons.end(), ',', ';');
  for (const std::string& data : {place.folder.file("a.csv", "text;label\n" + semicolons).string(), place.folder.file("a.json", "[" + objects + "]").string(),
                                  place.folder.file("a.jsonl", "[\n " + objects + "\n]\n").string(), place.folder.file("b.csv", "Text,Label\n" + rows).string(),
                                  place.folder.file("c.csv", "text,labels\n" + rows).string()}) {
    INFO(data);
    place.train("base", data);
    CHECK(place.labels() == Json{"0", "1"});
  }
  CHECK_THAT(place.train("base", place.path("a.csv")).err, Contains("semicolons"));
  CHECK_THAT(place.train_error("base", place.folder.file("x.json", "[{\"text\": \"good\", \"label\": 1},\n{\"text\": \"bad\", \"label\" 0}]").string()),
             Contains("x.json: line 2"));
  CHECK_THAT(place.train_error("base", place.folder.file("x.json", "[{\"text\": \"good\", \"label\": 1},\n").string()),
             Contains("x.json") && Contains("never ends"));
}

TEST_CASE("texts that are cut or empty are said", "[cli][labels]") {
  const Workplace place;
  const std::string data =
      place.folder.file("d.csv", "text,label\ngood good good good good good good good,a\nbad,b\n,a\nbad bad bad bad bad bad bad bad,b\n").string();
  Arguments arguments = place.training("base", data, {"--eval-fraction", "0"});
  arguments[8] = "6";
  CHECK_THAT(checked(arguments).err, Contains("2 of 4 texts are longer than --max-length 6 and were cut; the first in data row 1") &&
                                         Contains("1 of 4 texts is empty; the first in data row 3"));
}

TEST_CASE("GPT-2: an empty text is found when it is read", "[cli][labels][lm]") {
  const Workplace place;
  make_language_model(place.folder / "gpt2");
  const std::string data = place.folder.file("d.csv", "text,label\n\"good\nday\",a\nbad,b\n\"\",a\nbad,b\n\"\",b\n").string();
  CHECK_THAT(place.train_error("gpt2", data), Contains("d.csv: data row 3 (line 5), column text") && Contains("1 more"));
  const std::string good = place.folder.file("g.csv", table({"a", "b"})).string();
  place.train("gpt2", good, {"--method", "full", "--eval-fraction", "0"});
  CHECK_THAT(place.error({"predict", "--model", place.path("out"), "--data", data}), Contains("data row 3 (line 5)"));
  CHECK_THAT(place.error({"evaluate", "--model", place.path("out"), "--data", data}), Contains("data row 3 (line 5)"));
}

TEST_CASE("GPT-2: a classifier reads the last token that is not padding", "[cli][labels][lm]") {
  const Workplace place;
  make_language_model(place.folder / "gpt2");
  place.train("gpt2", place.folder.file("g.csv", table({"a", "b"})).string(), {"--method", "full", "--eval-fraction", "0"});
  const auto with_padding_token = [&](const Json& id) {
    Json config = Json::parse(content_of(place.folder / "out/config.json"));
    config["pad_token_id"] = id;
    place.folder.file("out/config.json", config.dump());
  };
  const auto near = [](const std::vector<double>& a, const std::vector<double>& b) { return std::abs(a[0] - b[0]) < 1e-6 && std::abs(a[1] - b[1]) < 1e-6; };
  with_padding_token(nullptr);
  const std::vector<double> ab = logits(place, "out", {97, 98}), end = logits(place, "out", {257}), ab_end = logits(place, "out", {97, 98, 257}),
                            middle = logits(place, "out", {97, 257, 98});
  REQUIRE_FALSE(near(ab, ab_end));
  with_padding_token(257);
  CHECK(near(logits(place, "out", {97, 98}), ab));
  CHECK(near(logits(place, "out", {97, 98, 257, 257}), ab));  // as GPT2ForSequenceClassification does
  CHECK(near(logits(place, "out", {97, 257, 98}), middle));
  CHECK(near(logits(place, "out", {257, 257, 257}), end));  // all are padding: the first
}

TEST_CASE("a language model's prompts that are too long are counted", "[cli][labels][lm]") {
  const Workplace place;
  make_language_model(place.folder / "gpt2");
  const std::string lengthy = "{\"prompt\": \"" + std::string(30, 'x') + "\", \"completion\": \" y\"}\n",
                    cut = "{\"prompt\": \"x\", \"completion\": \"" + std::string(30, 'y') + "\"}\n";
  const std::string data = place.folder.file("d.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n" + lengthy + cut + lengthy).string();
  const Arguments lm{"--task", "lm", "--eval-fraction", "0"};
  const std::string expected = "2 of 4 texts are left out, since their prompts alone are longer than --max-length 16; the first in line 2";
  const Outcome trained = place.train("gpt2", data, lm);
  CHECK_THAT(trained.err, Contains(expected) && Contains("1 of 4 texts is longer than --max-length 16 and was cut; the first in line 3"));
  CHECK_THAT(trained.out, Contains("on 2 texts"));
  CHECK_THAT(checked({"evaluate", "--model", place.path("gpt2"), "--data", data, "--max-length", "16"}).err, Contains(expected));
  CHECK_THAT(place.error({"evaluate", "--model", place.path("gpt2"), "--data", data, "--max-length", "41"}), Contains("--max-length") && Contains("40"));
  CHECK_THAT(place.train_error("gpt2", place.folder.file("l.jsonl", lengthy).string(), lm), Contains("l.jsonl: every prompt is longer than --max-length 16"));
  CHECK_THAT(place.train_error("gpt2", place.folder.file("c.jsonl", "{\"messages\": [{\"role\": \"user\"}]}\n").string(), lm),
             Contains("c.jsonl: line 1") && Contains("messages"));
  CHECK_THAT(place.train_error("gpt2", place.folder.file("i.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n").string(), lm),
             Contains("answer, question") && Contains("completion"));
  CHECK_THAT(place.train_error("gpt2", place.folder.file("t.csv", "text,label\na,b\n").string(), lm), Contains("is a table"));
  CHECK_THAT(place.train_error("gpt2", data), Contains("--task lm"));
  CHECK_THAT(place.error({"evaluate", "--model", place.path("gpt2"), "--data", data, "--labels", "a,b"}), Contains("--labels"));
  place.train("gpt2", place.folder.file("list.json", "[{\"text\": \"abc\"},\n{\"prompt\": \"a\", \"completion\": \"b\"}]").string(), lm);
}

TEST_CASE("what of the head is drawn at random is trained and written", "[cli][labels]") {
  const Workplace place;
  SafeTensorsWriter without_pooler;
  const SafeTensors whole = SafeTensors::open(kModels / "bert_bare/model.safetensors");
  for (const auto& [name, tensor] : whole.tensors())
    if (!name.starts_with("pooler.")) without_pooler.add(tensor);
  std::filesystem::remove(place.folder / "base/model.safetensors");
  without_pooler.write(place.folder / "base/model.safetensors");
  const std::string data = place.folder.file("d.csv", table({"good", "bad", "so"})).string(),
                    held = place.folder.file("e.csv", table({"bad", "so"}, 2)).string();
  const Outcome outcome = place.train("base", data, {"--eval-data", held, "--seed", "5", "--json"});
  const SafeTensors adapter = SafeTensors::open(place.folder / "out/adapter_model.safetensors");
  CHECK(adapter.find("base_model.model.bert.pooler.dense.weight") != nullptr);
  CHECK_THAT(Json::parse(content_of(place.folder / "out/adapter_config.json")).at("modules_to_save").dump(), Contains("bert.pooler.dense"));
  // Another process draws with another seed: what was evaluated here is evaluated there.
  const Json trained = Json::parse(outcome.out.substr(outcome.out.rfind('\n', outcome.out.size() - 2) + 1));
  const Outcome again = checked({"evaluate", "--model", place.path("base"), "--adapter", place.path("out"), "--data", held, "--json"});
  const Json evaluated = Json::parse(again.out.substr(again.out.rfind('\n', again.out.size() - 2) + 1));
  INFO(trained.dump() + evaluated.dump());
  CHECK(evaluated.at("eval_loss").get<double>() == Approx(trained.at("eval_loss").get<double>()).epsilon(1e-5));
}

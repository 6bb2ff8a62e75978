// train, evaluate, predict, merge and inspect on a toy task, one after another, as a user would.
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>

#include "cli/program.hpp"
#include "deltatune/io/safetensors.hpp"
#include "deltatune/io/table.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Json = nlohmann::json;

TEST_CASE("a model learns, is evaluated, predicts, and is merged", "[cli]") {
  const TemporaryFolder temporary;
  make_text_model(temporary / "model");
  const std::string model = (temporary / "model").string(), adapter = (temporary / "adapter").string();
  const std::string data = temporary.file("train.csv", toy_table(90)).string();
  const std::string held = temporary
                               .file("held.jsonl",
                                     "{\"text\": \"good , night\", \"label\": \"fine\"}\n{\"text\": \"good night\", \"label\": \"neither\"}\n"
                                     "{\"text\": \"bad , \\\"day\\\"\\n.\", \"label\": \"poor\"}\n")
                               .string();
  const Outcome trained =
      checked({"train", "--model",      model, "--data",       data, "--method",        "lora", "--targets", "all-linear", "--learning-rate", "1e-2", "--steps",
               "40",    "--batch-size", "16",  "--max-length", "16", "--eval-fraction", "0.2",  "--out",     adapter,      "--json"});
  const Json summary = Json::parse(last_line(trained.out));
  CHECK(summary.at("eval_accuracy").get<double>() == 1.0);
  for (const char* key : {"trainable_parameters", "total_parameters", "steps", "median_step_ms", "real_tokens_per_second", "peak_rss_mb", "final_train_loss"})
    CHECK(summary.at(key).is_number());
  CHECK(trained.out.find("classifier") != std::string::npos);
  CHECK(trained.out.find("step 40/40") != std::string::npos);

  const Outcome evaluated = checked({"evaluate", "--model", model, "--adapter", adapter, "--data", held, "--batch-size", "2", "--json"});
  const Json result = Json::parse(last_line(evaluated.out));
  CHECK(result.at("examples") == 3);
  CHECK(result.at("eval_accuracy").get<double>() == Approx(2.0 / 3.0));
  CHECK(result.at("confusion").dump() == "[[1,0,0],[1,0,0],[0,0,1]]");  // fine, neither, poor
  CHECK(result.at("classes").at(0).at("precision").get<double>() == 0.5);
  CHECK(result.at("classes").at(0).at("recall").get<double>() == 1.0);
  CHECK(result.at("classes").at(1).at("f1").get<double>() == 0.0);
  CHECK(evaluated.out.find("66.67 %") != std::string::npos);

  const std::string csv = (temporary / "out.csv").string(), jsonl = (temporary / "out.jsonl").string();
  checked({"predict", "--model", model, "--adapter", adapter, "--data", held, "--out", csv});
  checked({"predict", "--model", model, "--adapter", adapter, "--data", held, "--out", jsonl, "--batch-size", "1"});
  const Outcome shown = checked({"predict", "--model", model, "--adapter", adapter, "--data", held});
  CHECK(shown.out == content_of(csv));
  const Table table = read_table(csv);
  CHECK(table.columns == std::vector<std::string>{"text", "input_label", "label", "prob_fine", "prob_neither", "prob_poor"});
  REQUIRE(table.rows.size() == 3);
  CHECK(table.rows[2][0] == "bad , \"day\"\n.");
  CHECK(table.rows[1][1] == "neither");
  CHECK(table.rows[0][2] == "fine");
  std::istringstream lines(content_of(jsonl));
  double loss = 0;
  std::vector<Json> predictions;
  for (std::string line; std::getline(lines, line);) predictions.push_back(Json::parse(line));
  REQUIRE(predictions.size() == 3);
  const char* truth[] = {"fine", "neither", "poor"};
  for (std::size_t row = 0; row < 3; ++row) {
    const Json& probabilities = predictions[row].at("probabilities");
    CHECK(predictions[row].at("label") == table.rows[row][2]);
    CHECK(predictions[row].at("input_label") == table.rows[row][1]);
    double sum = 0;
    for (std::size_t c = 0; c < 3; ++c) {
      const double p = probabilities.at(truth[c]).get<double>();
      CHECK(std::stod(table.rows[row][3 + c]) == Approx(p).margin(1e-5));
      sum += p;
    }
    CHECK(sum == Approx(1.0));
    loss -= std::log(probabilities.at(truth[row]).get<double>()) / 3;
  }
  CHECK(result.at("eval_loss").get<double>() == Approx(loss).epsilon(1e-4));

  const std::string merged = (temporary / "merged").string();
  checked({"merge", "--model", model, "--adapter", adapter, "--out", merged});
  CHECK(std::filesystem::exists(temporary / "merged/vocab.txt"));
  const Outcome again = checked({"predict", "--model", merged, "--data", held});
  const Table from_merged = read_table(temporary.file("merged.csv", again.out));
  CHECK(from_merged.columns == table.columns);
  for (std::size_t row = 0; row < 3; ++row)
    for (std::size_t c = 3; c < 6; ++c) CHECK(std::stod(from_merged.rows[row][c]) == Approx(std::stod(table.rows[row][c])).margin(1e-5));

  // predict's probabilities are the softmax of forward's logits for the tokenizer's ids
  SafeTensorsWriter batch;
  const std::vector<std::int64_t> ids{2, 5, 10, 14, 3};  // [CLS] good , night [SEP]
  batch.add("input_ids", {1, 5}, std::span<const std::int64_t>(ids));
  batch.write(temporary / "batch.safetensors");
  checked({"forward", "--model", model, "--adapter", adapter, "--batch", (temporary / "batch.safetensors").string(), "--out", (temporary / "logits").string()});
  const SafeTensors output = SafeTensors::open(temporary / "logits");
  std::vector<double> logits(3);
  read_floats(output.at("logits"), std::span<double>(logits));
  const double total = std::exp(logits[0]) + std::exp(logits[1]) + std::exp(logits[2]);
  CHECK(predictions[0].at("probabilities").at("fine").get<double>() == Approx(std::exp(logits[0]) / total).epsilon(1e-4));

  const Json about = Json::parse(last_line(checked({"inspect", "--model", model, "--adapter", adapter, "--tensors", "--json"}).out));
  CHECK(about.at("model").at("labels").dump() == "[\"fine\",\"neither\",\"poor\"]");
  CHECK(about.at("adapter").at("method") == "lora");
  CHECK(about.at("adapter").at("trainable_parameters") == summary.at("trainable_parameters"));
  CHECK(about.at("adapter").at("total_parameters") == summary.at("total_parameters"));
  CHECK(about.at("sites").size() == 3 * 6 + 2 + 3 + 3 * 3 + 1);  // linear layers, tables, two sublayers and attention a block, the input
  CHECK(about.at("sites").at(0).at("path") == "bert.encoder.layer.0.attention.self.query");
  CHECK(about.at("sites").at(0).at("rank") == 8);
  CHECK_FALSE(about.at("sites").back().contains("rank"));  // the classifier is trained as a whole
  Index trained_elements = 0;
  for (const Json& tensor : about.at("tensors")) {
    if (!tensor.at("trainable").get<bool>()) continue;
    trained_elements += element_count(tensor.at("shape").get<Shape>());
    CHECK(tensor.at("name").get<std::string>().starts_with("base_model.model."));
    CHECK(tensor.at("dtype") == "F32");
  }
  CHECK(trained_elements == summary.at("trainable_parameters").get<Index>());
}

TEST_CASE("predictions come behind what the table has, and replace no file unasked", "[cli]") {
  const TemporaryFolder temporary;
  make_text_model(temporary / "model");
  const std::string model = (temporary / "model").string();
  const std::vector<std::string> answers{"label", "prob_LABEL_0", "prob_LABEL_1", "prob_LABEL_2"};
  const auto columns = [&](std::vector<std::string> given) {
    given.insert(given.end(), answers.begin(), answers.end());
    return given;
  };
  const std::string csv = temporary.file("data.csv", "id,body,note\n007,good day,\"a\tb\"\n8,\"bad, night\",\n").string();
  const auto predict = [&](const std::string& data, const std::string& out, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"predict", "--model", model, "--data", data, "--text-column", "body", "--out", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  };
  const std::string out = (temporary / "out.csv").string(), tabs = (temporary / "out.TSV").string(), lines = (temporary / "out.jsonl").string();
  for (const std::string& file : {out, tabs, lines}) {
    const Outcome outcome = predict(csv, file);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
  }
  for (const std::string& file : {out, tabs}) {
    const Table table = read_table(file);
    CHECK(table.columns == columns({"id", "body", "note"}));
    CHECK(table.rows[0][0] == "007");
    CHECK(table.rows[0][2] == "a\tb");
    CHECK(table.rows[1][1] == "bad, night");
  }
  CHECK(content_of(tabs).starts_with("id\tbody\tnote\tlabel\tprob_LABEL_0"));
  const Json first = Json::parse(content_of(lines).substr(0, content_of(lines).find('\n')));
  CHECK(first.at("id") == "007");
  CHECK(first.at("body") == "good day");
  CHECK(first.at("label") == read_table(out).rows[0][3]);

  // Of JSON the numbers stay numbers, and what is not there stays away; a column that is called as an answer makes room.
  const std::string jsonl = temporary.file("data.jsonl", "{\"id\": 7, \"body\": \"good\", \"label\": null}\n{\"body\": \"bad\", \"score\": 2.50}\n").string();
  const Outcome outcome = predict(jsonl, lines, {"--overwrite"});
  REQUIRE(outcome.code == 0);
  CHECK(outcome.err.find("column label is written as input_label") != std::string::npos);
  std::istringstream records(content_of(lines));
  std::vector<Json> written;
  for (std::string line; std::getline(records, line);) written.push_back(Json::parse(line));
  REQUIRE(written.size() == 2);
  CHECK(written[0].at("id") == 7);
  CHECK(written[0].at("input_label").is_null());
  CHECK_FALSE(written[1].contains("id"));
  CHECK(written[1].at("score") == 2.5);
  REQUIRE(predict(jsonl, out, {"--overwrite"}).code == 0);
  CHECK(read_table(out).columns == columns({"id", "body", "input_label", "score"}));

  const auto refused = [&](const Outcome& failed, const std::string& words) {
    INFO(failed.err);
    CHECK(failed.code == 1);
    CHECK(failed.err.find(words) != std::string::npos);
  };
  const std::string before = content_of(csv);
  std::filesystem::create_symlink("data.csv", temporary / "link.csv");
  refused(predict(csv, out), "out.csv: is there already (choose another --out, or replace it with --overwrite)");
  refused(predict(csv, csv, {"--overwrite"}), "data.csv: is --data itself");
  refused(predict(csv, (temporary / "link.csv").string(), {"--overwrite"}), "is --data itself");
  refused(predict(csv, temporary.file("model/notes.csv", "x").string(), {"--overwrite"}), "is the model's own file");
  CHECK(content_of(csv) == before);
}

TEST_CASE("texts that a file does not have as such are said", "[cli]") {
  const TemporaryFolder temporary;
  make_text_model(temporary / "model");
  const auto notes = [&](const std::string& data, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"predict", "--model", (temporary / "model").string(), "--data", data};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return checked(arguments).err;
  };
  const std::string json =
      notes(temporary.file("d.jsonl", "{\"text\": \"good\"}\n{\"text\": 17}\n{\"txt\": \"bad\"}\n{\"text\": \"\"}\n{\"text\": true}\n").string());
  CHECK(json.find("2 of 5 texts are empty; the first in data row 3") != std::string::npos);
  CHECK(json.find("1 of 5 records has no key \"text\"; the first in data row 3") != std::string::npos);
  CHECK(json.find("2 of 5 records have a number, true or false as \"text\", which is read as it is written; the first in data row 2") != std::string::npos);
  const std::string pairs = notes(temporary.file("p.csv", "text,other\ngood,bad\n,day\nso,\nso,\n").string(), {"--text-pair-column", "other"});
  CHECK(pairs.find("column text: 1 of 4 texts is empty; the first in data row 2") != std::string::npos);
  CHECK(pairs.find("column other: 2 of 4 texts are empty; the first in data row 3") != std::string::npos);
}

TEST_CASE("with less memory: weights and activations in 16 bits, values computed again", "[cli][bfloat16]") {
  const TemporaryFolder temporary;
  make_text_model(temporary / "model");
  const std::string model = (temporary / "model").string(), adapter = (temporary / "adapter").string();
  const std::string data = temporary.file("train.csv", toy_table(90)).string();
  const std::vector<std::string> train{"train",      "--model",          model,  "--data",       data,    "--method", "lora",  "--targets",
                                       "all-linear", "--learning-rate",  "1e-2", "--batch-size", "16",    "--steps",  "40",    "--save-every",
                                       "20",         "--base-precision", "bf16", "--recompute",  "--out", adapter,    "--json"};
  std::vector<std::string> rounded = train;
  rounded.insert(rounded.end(), {"--kept-precision", "bf16"});
  CHECK(Json::parse(last_line(checked(rounded).out)).at("final_train_loss").get<double>() < 0.3);
  const Json exact = Json::parse(last_line(checked({"evaluate", "--model", model, "--adapter", adapter, "--data", data, "--json"}).out));
  const Json nearly =
      Json::parse(last_line(checked({"evaluate", "--model", model, "--adapter", adapter, "--data", data, "--base-precision", "bf16", "--json"}).out));
  CHECK(exact.at("eval_accuracy").get<double>() == 1.0);
  CHECK(nearly.at("eval_accuracy").get<double>() == 1.0);
  CHECK(nearly.at("eval_loss") != exact.at("eval_loss"));
  CHECK(nearly.at("eval_loss").get<double>() == Approx(exact.at("eval_loss").get<double>()).margin(0.02));

  // A checkpoint goes on as it was made.
  std::vector<std::string> resumed = train;
  resumed.push_back("--resume");
  const Outcome refused = run_program(resumed);
  CHECK(refused.code == 1);
  CHECK(refused.err.find("kept_precision") != std::string::npos);
}

TEST_CASE("training is the same on every device", "[cli][covering]") {
  const TemporaryFolder temporary;
  make_text_model(temporary / "model");  // with dropout: the masks depend on the seed alone
  const std::string data = temporary.file("train.csv", toy_table(60)).string();
  const auto losses = [&](const std::string& name, const std::vector<std::string>& more) {
    const std::string out = (temporary / name).string();
    std::vector<std::string> arguments{"train",
                                       "--model",
                                       (temporary / "model").string(),
                                       "--data",
                                       data,
                                       "--eval-fraction",
                                       "0",
                                       "--targets",
                                       "all-linear",
                                       "--dropout",
                                       "0.1",
                                       "--learning-rate",
                                       "1e-2",
                                       "--steps",
                                       "8",
                                       "--batch-size",
                                       "8",
                                       "--max-length",
                                       "16",
                                       "--out",
                                       out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    checked(arguments);
    std::istringstream lines(content_of(out + "/metrics.jsonl"));
    std::vector<double> values;
    for (std::string line; std::getline(lines, line);) values.push_back(Json::parse(line).at("loss").get<double>());
    return values;
  };
  const std::vector<double> here = losses("here", {}), on_cpu = losses("cpu", {"--device", "cpu", "--threads", "1"});
  REQUIRE(here.size() == 8);
  REQUIRE(on_cpu.size() == 8);
  for (std::size_t i = 0; i < 8; ++i) CHECK(here[i] == Approx(on_cpu[i]).epsilon(1e-4));
  CHECK(here[7] < here[0]);
}

TEST_CASE("every method trains, and its result is read back", "[cli]") {
  const TemporaryFolder temporary;
  make_text_model(temporary / "model");
  const std::string model = (temporary / "model").string();
  const std::string data = temporary.file("train.csv", toy_table(60)).string();
  const std::vector<std::pair<std::string, std::string>> methods{{"bitfit", "2e-2"}, {"bitfit_query_ffn", "2e-2"}, {"head", "1e-1"}, {"full", "5e-3"}};
  for (const auto& [method, learning_rate] : methods) {
    INFO(method);
    const std::string out = (temporary / method).string();
    const Outcome trained = checked({"train",       "--model", model, "--data",       data, "--eval-data",  data, "--method", method, "--learning-rate",
                                     learning_rate, "--steps", "30",  "--batch-size", "16", "--max-length", "16", "--out",    out,    "--json"});
    const Json summary = Json::parse(last_line(trained.out));
    std::vector<std::string> arguments{"evaluate", "--model", method == "full" ? out : model, "--data", data, "--max-length", "16", "--json"};
    if (method != "full") arguments.insert(arguments.end(), {"--adapter", out});
    const Json result = Json::parse(last_line(checked(arguments).out));
    CHECK(result.at("eval_accuracy").get<double>() == Approx(summary.at("eval_accuracy").get<double>()));
    CHECK(result.at("eval_loss").get<double>() == Approx(summary.at("eval_loss").get<double>()).epsilon(1e-4));
    CHECK(result.at("eval_accuracy").get<double>() > 0.6);
    if (method == "full") continue;
    const std::string merged = (temporary / (method + "_merged")).string();
    checked({"merge", "--model", model, "--adapter", out, "--out", merged});
    CHECK(Json::parse(last_line(checked({"evaluate", "--model", merged, "--data", data, "--max-length", "16", "--json"}).out)).at("eval_loss") ==
          result.at("eval_loss"));
  }
}

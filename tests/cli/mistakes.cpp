// Mistakes of users: exit code 1, one line that names file and field, and nothing half written.
#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>

#include "cli/program.hpp"
#include "deltatune/io/safetensors.hpp"

using namespace deltatune;
using namespace deltatune::test;

namespace {

using Integers = std::vector<std::int64_t>;

// A folder with a good model, a good adapter, good data and a good batch, each of which a test may spoil.
class MistakePlace {
 public:
  MistakePlace() {
    make_text_model(folder / "model");
    std::filesystem::copy(kCases / "lora_query_value/adapter", folder / "adapter");
    folder.file("data.csv", toy_table(40, {"LABEL_0", "LABEL_1", "LABEL_2"}));
    batch([](SafeTensorsWriter&) {});
  }

  std::string path(const std::string& name) const { return (folder / name).string(); }

  // (2, 4) token ids, and what `add` adds.
  void batch(const std::function<void(SafeTensorsWriter&)>& add, Integers ids = {2, 5, 9, 3, 2, 6, 3, 0}) const {
    SafeTensorsWriter writer;
    writer.add_copy("input_ids", {2, static_cast<Index>(ids.size()) / 2}, ids);
    add(writer);
    writer.write(folder / "batch.safetensors");
  }

  // Runs the command, which must fail with all of the words, and leave no output and no temporary file.
  void fails(std::vector<std::string> arguments, const std::vector<std::string>& words, const std::string& before = "") const {
    const auto names_before = folder.names();
    const Outcome outcome = run_program(arguments, before);
    check_failure(outcome, words);
    CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
    CHECK(folder.names() == names_before);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path())) CHECK(entry.path().extension() != ".tmp");
  }

  void forward_fails(const std::vector<std::string>& words, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"forward", "--model", path("model"), "--batch", path("batch.safetensors"), "--out", path("out.safetensors")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    fails(arguments, words);
  }

  void spoil_json(const std::string& file, const std::string& key, const nlohmann::json& value) const {
    nlohmann::json content = nlohmann::json::parse(content_of(folder / file));
    value.is_discarded() ? static_cast<void>(content.erase(key)) : static_cast<void>(content[key] = value);
    folder.file(file, content.dump());
  }

  TemporaryFolder folder;
};

const nlohmann::json kRemoved(nlohmann::json::value_t::discarded);

}  // namespace

TEST_CASE("the command line itself", "[cli][mistakes]") {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"fly"},
                                             {"forward"},
                                             {"forward", "--model", "x", "--batch", "y", "--out", "z", "--speed", "9"},
                                             {"evaluate", "--model", "x", "--data", "y", "--batch-size", "0"},
                                             {"forward", "--model", "x", "--batch", "y", "--out", "z", "--trainable", "half"},
                                             {"forward", "--model", "x", "--batch", "y", "--out", "z", "--adapter", "a", "--trainable", "full"}}) {
    const Outcome outcome = run_program(arguments);
    CHECK(outcome.code == 1);
    CHECK(outcome.err.find("--help") != std::string::npos);
  }
  for (const std::string command : {"", "train", "evaluate", "predict", "forward", "merge", "convert", "export", "inspect"}) {
    const Outcome outcome = run_program(command.empty() ? std::vector<std::string>{"--help"} : std::vector<std::string>{command, "--help"});
    CHECK(outcome.code == 0);
    CHECK(outcome.out.find(command.empty() ? "COMMAND --help" : ":\n  deltatune " + command + " --") != std::string::npos);
    CHECK(outcome.out.find("xample") != std::string::npos);
  }
}

TEST_CASE("misspelt commands and options get a suggestion", "[cli][mistakes]") {
  const auto says = [](const std::vector<std::string>& arguments, const std::string& words) {
    const Outcome outcome = run_program(arguments);
    INFO(outcome.err);
    CHECK(outcome.code == 1);
    CHECK(last_line(outcome.err).starts_with("error: "));
    CHECK(outcome.err.find(words) != std::string::npos);
  };
  says({"trian", "--model", "x"}, "trian: unknown command (did you mean train?)");
  says({"fly"}, "fly: unknown command; ");
  says({"train", "--model", "x", "--data", "y", "--out", "z", "--lr", "1e-3"}, "train: unknown option --lr (did you mean --learning-rate?)");
  says({"train", "--modle", "x", "--data", "y", "--out", "z"}, "unknown option --modle (did you mean --model?)");
  says({"train", "--model", "x", "--data", "y", "--out", "z", "--batch_size=4"}, "unknown option --batch_size (did you mean --batch-size?)");
  says({"predict", "--model", "x", "--data", "y", "-lr", "3"}, "unknown option -lr; ");
}

TEST_CASE("mistakes in options are said as all others are", "[cli][mistakes]") {
  const auto says = [](const std::vector<std::string>& arguments, const std::vector<std::string>& words) {
    const Outcome outcome = run_program(arguments);
    INFO(outcome.err);
    CHECK(outcome.code == 1);
    CHECK(outcome.err.starts_with("error: "));
    CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
    for (const std::string& word : words) {
      INFO(word);
      CHECK(outcome.err.find(word) != std::string::npos);
    }
  };
  const auto train = [&](const std::vector<std::string>& more, const std::vector<std::string>& words) {
    std::vector<std::string> arguments{"train", "--model", "x", "--data", "y", "--out", "z"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    says(arguments, words);
  };
  says({}, {"needs a command", "train, evaluate, predict", "--help"});
  says({"train", "--data", "y", "--out", "z"}, {"train: --model is missing; expected Hugging Face folder of the base model", "deltatune train --help"});
  train({"--batch-size", "many"}, {"--batch-size: ", "expected a whole number above 0", "got \"many\""});
  train({"--batch-size", "0"}, {"--batch-size: ", "expected a whole number above 0", "got \"0\""});
  train({"--learning-rate", "fast"}, {"--learning-rate: ", "expected a number", "got \"fast\""});
  train({"--eval-fraction", "2"}, {"--eval-fraction: ", "expected a number from 0 to 0.99", "got \"2\""});
  train({"--schedule", "stepwise"}, {"--schedule: ", "expected linear, cosine or constant", "got \"stepwise\""});
  train({"--rank", "4", "--rank", "8"}, {"--rank: is given 2 times; expected one value"});
  train({"--rank"}, {"--rank: has no value; expected a whole number"});
  train({"--resume", "maybe"}, {"--resume: ", "auto"});
  train({"surplus"}, {"\"surplus\" belongs to no option"});
  says({"forward", "--model", "x", "--batch", "y", "--out", "z", "--adapter", "a", "--trainable", "full"},
       {"--trainable", "--adapter", "leave out one of the two"});
}

TEST_CASE("help fits 80 columns where nobody says how many there are", "[cli][mistakes]") {
  for (const std::string command : {"", "train", "evaluate", "predict", "forward", "generate", "merge", "convert", "export", "inspect"}) {
    const Outcome outcome = run_program(command.empty() ? std::vector<std::string>{"--help"} : std::vector<std::string>{command, "--help"});
    INFO(outcome.out);
    REQUIRE(outcome.code == 0);
    std::istringstream lines(outcome.out);
    for (std::string line; std::getline(lines, line);) {
      INFO(line);
      CHECK((line.size() <= 80 || line.starts_with("Usage: ")));  // the program's name may be a long path
    }
    if (!command.empty()) CHECK(outcome.out.find("--model") != std::string::npos);
  }
}

TEST_CASE("options that contradict each other or would be ignored", "[cli][mistakes]") {
  const MistakePlace place;
  const auto train = [&](const std::vector<std::string>& more, const std::vector<std::string>& words) {
    std::vector<std::string> arguments{"train", "--model", place.path("model"), "--data", place.path("data.csv"), "--max-length",
                                       "16",    "--out",   place.path("out")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    place.fails(arguments, words);
  };
  const std::string data = place.path("data.csv");
  train({"--eval-data", data, "--eval-fraction", "0.2"}, {"--eval-fraction", "--eval-data", "leave out one"});
  train({"--steps", "3", "--epochs", "2"}, {"--epochs", "--steps", "leave out one"});
  train({"--label-column", "text"}, {data, "\"text\"", "--text-column", "--label-column"});
  train({"--text-pair-column", "text"}, {data, "\"text\"", "--text-pair-column"});
  train({"--text-pair-column", "label"}, {data, "\"label\"", "--text-pair-column"});
  train({"--rank", "33"}, {"--rank", "at most 32", "hidden_size", "33"});
  train({"--eval-fraction", "0", "--patience", "2"}, {"--patience", "evaluation"});
  train({"--eval-fraction", "0", "--eval-every", "2"}, {"--eval-every", "evaluation"});
  train({"--eval-fraction", "0", "--metric", "loss"}, {"--metric", "evaluation"});
  train({"--metric", "f1"}, {"--metric: is not known; expected accuracy, macro_f1, weighted_f1, matthews, loss, got f1"});
  train({"--metric", "pearson"}, {"--metric: does not fit a classifier; expected accuracy"});
  train({"--task", "regression", "--new-head", "--metric", "accuracy"}, {"--metric: does not fit a model of scores; expected pearson, spearman, loss"});
  train({"--task", "regression", "--new-head", "--class-weights", "1,2"}, {"--class-weights", "classes"});
  for (const char* command : {"evaluate", "predict"})
    place.fails({command, "--model", place.path("model"), "--data", data, "--text-pair-column", "text"}, {data, "--text-pair-column"});
}

TEST_CASE("an output that cannot be written is a failure", "[cli][mistakes]") {
  const MistakePlace place;
  const std::string model = place.path("model"), data = place.path("data.csv");
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"predict", "--model", model, "--data", data},
                                             {"evaluate", "--model", model, "--data", data},
                                             {"inspect", "--model", model},
                                             {"train", "--model", model, "--data", data, "--steps", "1", "--max-length", "16", "--out", place.path("out")},
                                             {"--help"}}) {
    const Outcome outcome = run_program(arguments, "deltatune_full() { \"$@\" >/dev/full; }; deltatune_full");
    INFO(arguments[0] << outcome.err);
    CHECK(outcome.code == 1);
    CHECK(outcome.err.find("error: standard output: cannot be written") != std::string::npos);
  }
}

TEST_CASE("memory that cannot be had is named", "[cli][mistakes]") {
  const MistakePlace place;
  place.spoil_json("model/config.json", "vocab_size", Index{1} << 40);
  place.fails({"inspect", "--model", place.path("model")}, {"memory", "140737488355328 bytes"}, "export ASAN_OPTIONS=allocator_may_return_null=1;");
}

TEST_CASE("devices that make no sense", "[cli][mistakes]") {
  const MistakePlace place;
  place.forward_fails({"--device", "cpu, cuda or cuda:NUMBER", "\"tpu\""}, {"--device", "tpu"});
  for (const std::string device : {"cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda1", ""})
    place.forward_fails({"--device", "cpu, cuda or cuda:NUMBER", "\"" + device + "\""}, {"--device", device});
  place.forward_fails({"--threads", "--device cpu"}, {"--device", "cuda", "--threads", "2"});
  place.forward_fails({"--tf32", "--device cuda"}, {"--device", "cpu", "--tf32"});
}

TEST_CASE("models that cannot be loaded", "[cli][mistakes]") {
  const MistakePlace place;
  const std::string weights = place.path("model/model.safetensors"), config = place.path("model/config.json");
  SECTION("no such folder") { place.fails({"inspect", "--model", place.path("nowhere")}, {place.path("nowhere"), "no such folder"}); }
  SECTION("an adapter in its place") { place.fails({"inspect", "--model", place.path("adapter")}, {place.path("adapter"), "config.json", "base model"}); }
  SECTION("not a safetensors file") {
    place.folder.file("model/model.safetensors", "PK\x03\x04 this is something else altogether");
    place.forward_fails({weights, "not a safetensors file"});
  }
  SECTION("truncated") {
    std::filesystem::resize_file(weights, std::filesystem::file_size(weights) - 100);
    place.forward_fails({weights, "truncated"});
  }
  SECTION("header length beyond the file") {
    std::string bytes = content_of(weights);
    bytes[3] = '\x01';
    place.folder.file("model/model.safetensors", bytes);
    place.forward_fails({weights, "header reaches beyond the end"});
  }
  SECTION("missing key") {
    place.spoil_json("model/config.json", "hidden_size", kRemoved);
    place.forward_fails({config + ": hidden_size", "is missing"});
  }
  SECTION("wrong type") {
    place.spoil_json("model/config.json", "num_hidden_layers", "three");
    place.forward_fails({config + ": num_hidden_layers", "integer", "three"});
  }
  SECTION("unknown architecture") {
    place.spoil_json("model/config.json", "model_type", "mamba");
    place.forward_fails({config + ": model_type", "unknown architecture", "mamba"});
  }
  SECTION("another size than the weights") {
    place.spoil_json("model/config.json", "intermediate_size", 56);
    place.forward_fails({weights, "intermediate.dense.weight", "[56, 32]", "[48, 32]"});
  }
  SECTION("not JSON") {
    place.folder.file("model/config.json", "{\"model_type\": \"bert\",");
    place.forward_fails({config});
  }
}

TEST_CASE("adapters that cannot be loaded", "[cli][mistakes]") {
  const MistakePlace place;
  const std::vector<std::string> with{"--adapter", place.path("adapter")};
  const std::string config = place.path("adapter/adapter_config.json"), tensors = place.path("adapter/adapter_model.safetensors");
  SECTION("no such folder") { place.forward_fails({place.path("nowhere"), "no such folder"}, {"--adapter", place.path("nowhere")}); }
  SECTION("a model in its place") { place.forward_fails({place.path("model")}, {"--adapter", place.path("model")}); }
  SECTION("rank 0") {
    place.spoil_json("adapter/adapter_config.json", "r", 0);
    place.forward_fails({config, "rank", "at least 1", "0"}, with);
  }
  SECTION("another method") {
    place.spoil_json("adapter/adapter_config.json", "peft_type", "OFT");
    place.forward_fails({config + ": peft_type", "LORA", "OFT"}, with);
  }
  SECTION("another rank than the tensors") {
    place.spoil_json("adapter/adapter_config.json", "r", 5);
    place.forward_fails({tensors, "lora_A.weight", "[5, 32]"}, with);
  }
  SECTION("an adapter of a larger model") {
    std::filesystem::copy_file(kModels / "bert_gelu_new/config.json", place.folder / "model/config.json", std::filesystem::copy_options::overwrite_existing);
    std::filesystem::copy_file(kModels / "bert_gelu_new/model.safetensors", place.folder / "model/model.safetensors",
                               std::filesystem::copy_options::overwrite_existing);
    place.forward_fails({place.path("adapter"), "no such layer"}, with);
  }
  SECTION("labels that don't fit") {
    place.folder.file("adapter/labels.json", "[\"a\", \"b\"]");
    place.forward_fails({place.path("adapter/labels.json"), "a list of 3 strings"}, with);
  }
}

TEST_CASE("batches that cannot be run", "[cli][mistakes]") {
  const MistakePlace place;
  const std::string file = place.path("batch.safetensors");
  const auto add = [](const char* name, Shape shape, Integers values) { return [=](SafeTensorsWriter& writer) { writer.add_copy(name, shape, values); }; };
  SECTION("no such file") {
    std::filesystem::remove(place.folder / "batch.safetensors");
    place.forward_fails({file});
  }
  SECTION("not a safetensors file") {
    place.folder.file("batch.safetensors", "input_ids,attention_mask\n");
    place.forward_fails({file, "not a safetensors file"});
  }
  SECTION("no ids") {
    SafeTensorsWriter writer;
    writer.add_copy("attention_mask", {1, 2}, Integers{1, 1});
    writer.write(place.folder / "batch.safetensors");
    place.forward_fails({file, "input_ids"});
  }
  SECTION("ids of another type") {
    SafeTensorsWriter writer;
    writer.add_copy("input_ids", {1, 2}, std::vector<float>{1, 2});
    writer.write(place.folder / "batch.safetensors");
    place.forward_fails({file + ": input_ids", "integer", "F32"});
  }
  SECTION("ids in one dimension") {
    SafeTensorsWriter writer;
    writer.add_copy("input_ids", {2}, Integers{1, 2});
    writer.write(place.folder / "batch.safetensors");
    place.forward_fails({file + ": input_ids", "shape", "[2]"});
  }
  SECTION("no rows") {
    SafeTensorsWriter writer;
    writer.add_copy("input_ids", {0, 4}, Integers{});
    writer.write(place.folder / "batch.safetensors");
    place.forward_fails({file + ": input_ids", "at least 1"});
  }
  SECTION("id outside the vocabulary") {
    place.batch([](SafeTensorsWriter&) {}, {2, 5, 9, 3, 2, 120, 3, 0});
    place.forward_fails({file + ": input_ids", "row 1, column 1", "0 to 119", "120"});
  }
  SECTION("negative id") {
    place.batch([](SafeTensorsWriter&) {}, {2, 5, -1, 3, 2, 5, 3, 0});
    place.forward_fails({file + ": input_ids", "row 0, column 2", "-1"});
  }
  SECTION("mask of another shape") {
    place.batch(add("attention_mask", {2, 3}, {1, 1, 1, 1, 1, 1}));
    place.forward_fails({file + ": attention_mask", "[2, 4]", "[2, 3]"});
  }
  SECTION("mask of other values") {
    place.batch(add("attention_mask", {2, 4}, {1, 1, 1, 1, 1, 1, 2, 0}));
    place.forward_fails({file + ": attention_mask", "row 1, column 2", "0 to 1", "2"});
  }
  SECTION("padding on the left") {
    place.batch(add("attention_mask", {2, 4}, {1, 1, 1, 1, 0, 1, 1, 1}));
    place.forward_fails({file + ": attention_mask", "first token of row 1", "pad on the right"});
  }
  SECTION("a row of padding alone") {
    place.batch(add("attention_mask", {2, 4}, {0, 0, 0, 0, 1, 1, 1, 1}));
    place.forward_fails({file + ": attention_mask", "row 0"});
  }
  SECTION("token type outside the model's") {
    place.batch(add("token_type_ids", {2, 4}, {0, 0, 0, 2, 0, 0, 0, 0}));
    place.forward_fails({file + ": token_type_ids", "row 0, column 3", "0 to 1"});
  }
  SECTION("more tokens than positions") {
    place.batch([](SafeTensorsWriter&) {}, Integers(2 * 41, 5));
    place.forward_fails({file, "positions", "40"});
  }
  SECTION("label outside the classes") {
    place.batch(add("labels", {2}, {1, 3}));
    place.forward_fails({file + ": labels", "row 1", "0 to 2", "3"});
  }
  SECTION("labels of another shape") {
    place.batch(add("labels", {2, 1}, {1, 1}));
    place.forward_fails({file + ": labels", "[2]", "[2, 1]"});
  }
  SECTION("no label at all") {
    place.batch(add("labels", {2}, {-100, -100}));
    place.forward_fails({file + ": labels", "-100"});
  }
  SECTION("gradients without labels") { place.forward_fails({file + ": labels", "is missing"}, {"--gradients", "--trainable", "full"}); }
  SECTION("gradients of nothing") {
    place.batch(add("labels", {2}, {0, 1}));
    place.forward_fails({"--gradients", "nothing trains", "--trainable"}, {"--gradients"});
  }
  SECTION("labels without a classifier") {
    place.batch(add("labels", {2}, {0, 1}));
    place.fails({"forward", "--model", (kModels / "bert_bare").string(), "--batch", file, "--out", place.path("out")}, {file + ": labels", "no classifier"});
  }
}

TEST_CASE("texts that cannot be used", "[cli][mistakes]") {
  const MistakePlace place;
  const auto evaluate = [&](const std::string& data, const std::vector<std::string>& words, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"evaluate", "--model", place.path("model"), "--data", data};
    arguments.insert(arguments.end(), more.begin(), more.end());
    place.fails(arguments, words);
  };
  const std::string data = place.path("data.csv");
  SECTION("no such file") { evaluate(place.path("nothing.csv"), {"nothing.csv"}); }
  SECTION("empty") { evaluate(place.folder.file("empty.csv", "").string(), {"empty.csv", "no rows"}); }
  SECTION("a header alone") { evaluate(place.folder.file("empty.csv", "text,label\n").string(), {"empty.csv", "no rows"}); }
  SECTION("another kind of file") { evaluate(place.folder.file("data.xlsx", "?").string(), {"data.xlsx", ".csv"}); }
  SECTION("missing column") { evaluate(data, {data, "\"review\"", "text, label"}, {"--text-column", "review"}); }
  SECTION("no usual column") { evaluate(place.folder.file("x.csv", "a,b\n1,2\n").string(), {"x.csv", "text", "--text-column"}); }
  SECTION("unknown label") {
    evaluate(place.folder.file("x.csv", "text,label\ngood,LABEL_1\nbad,LABEL_7\n").string(),
             {"x.csv", "data row 2 (line 3)", "label", "LABEL_7", "LABEL_0", "--labels"});
  }
  SECTION("sequences longer than the model's positions") { evaluate(data, {"--max-length", "40", "41"}, {"--max-length", "41"}); }
  SECTION("too many tokens in the tokenizer") {
    std::string vocabulary = content_of(place.folder / "model/vocab.txt");
    for (int i = 0; i < 120; ++i) vocabulary += "word" + std::to_string(i) + "\n";
    place.folder.file("model/vocab.txt", vocabulary);
    evaluate(data, {place.path("model"), "tokenizer", "120"});
  }
  SECTION("no tokenizer") {
    std::filesystem::remove(place.folder / "model/vocab.txt");
    evaluate(data, {place.path("model"), "tokenizer.json, or vocab.txt"});
  }
  SECTION("a model without a classifier") {
    std::filesystem::remove_all(place.folder / "model");
    std::filesystem::copy(kModels / "bert_bare", place.folder / "model");
    std::ofstream(place.folder / "model/vocab.txt") << "[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\ngood\n";
    evaluate(data, {place.path("model"), "no classifier", "--adapter"});
  }
  SECTION("an output of unknown kind") {
    place.fails({"predict", "--model", place.path("model"), "--data", data, "--out", place.path("out.xlsx")}, {"--out", ".csv, .tsv or .jsonl"});
  }
}

TEST_CASE("training that cannot begin or go on", "[cli][mistakes]") {
  const MistakePlace place;
  const auto train = [&](const std::vector<std::string>& more, const std::vector<std::string>& words, const std::string& data = "data.csv") {
    std::vector<std::string> arguments{"train", "--model", place.path("model"), "--data", place.path(data), "--steps", "2", "--out", place.path("out")};
    if (std::find(more.begin(), more.end(), "--max-length") == more.end()) arguments.insert(arguments.end(), {"--max-length", "16"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    place.fails(arguments, words);
  };
  SECTION("rank 0") { train({"--rank", "0"}, {"rank", "at least 1"}); }
  SECTION("a target that matches nothing") { train({"--targets", "query,valu"}, {"\"valu\"", "matches nothing", "value"}); }
  SECTION("a layer that isn't there") { train({"--layers", "0,7"}, {"layers_to_transform", "7"}); }
  SECTION("unknown label in the evaluation data") {
    train({"--eval-data", place.folder.file("eval.csv", "text,label\ngood,LABEL_5\n").string()}, {"eval.csv", "data row 1 (line 2)", "LABEL_5"});
  }
  SECTION("empty data") { place.folder.file("data.csv", "text,label\n"), train({}, {"data.csv", "no rows"}); }
  SECTION("missing column") { train({"--label-column", "mood"}, {"data.csv", "\"mood\"", "text, label"}); }
  SECTION("a single label") { place.folder.file("data.csv", "text,label\na,b\nc,b\nc,b\n"), train({}, {"data.csv", "label", "single", "\"b\""}); }
  SECTION("sequences longer than the model's positions") { train({"--max-length", "41"}, {"--max-length", "40", "41"}); }
  SECTION("not a learning rate") { train({"--learning-rate", "-1"}, {"learning rate"}); }
}

TEST_CASE("a loss that is not finite stops the training and saves nothing", "[cli][mistakes]") {
  const MistakePlace place;
  const Outcome outcome = run_program(
      {"train",      "--model",  place.path("model"), "--data", place.path("data.csv"), "--max-length", "16",      "--method", "full",
       "--schedule", "constant", "--warmup-ratio",    "0",      "--learning-rate",      "1e38",         "--steps", "20",       "--max-gradient-norm",
       "0",          "--out",    place.path("out")});
  INFO(outcome.out + outcome.err);
  CHECK(outcome.code == 1);
  CHECK(outcome.err.find("error: step ") == 0);
  CHECK(outcome.err.find("not finite") != std::string::npos);
  CHECK(outcome.err.find("learning rate") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(place.folder / "out/model.safetensors"));
}

TEST_CASE("outputs that cannot be written", "[cli][mistakes]") {
  const MistakePlace place;
  const std::string model = place.path("model"), batch = place.path("batch.safetensors"), data = place.path("data.csv"), adapter = place.path("adapter");
  SECTION("into a folder that isn't there") {
    place.fails({"forward", "--model", model, "--batch", batch, "--out", place.path("no/out")}, {place.path("no/out")});
    place.fails({"predict", "--model", model, "--data", data, "--out", place.path("no/out.csv")}, {place.path("no/out.csv")});
  }
  SECTION("in place of a folder") { place.fails({"forward", "--model", model, "--batch", batch, "--out", model}, {model, "is a folder"}); }
  SECTION("a folder in place of a file") {
    place.fails({"merge", "--model", model, "--adapter", adapter, "--out", data}, {data});
    place.fails({"train", "--model", model, "--data", data, "--max-length", "16", "--steps", "1", "--out", data}, {data});
  }
  SECTION("over the model or the adapter") {
    const std::string before = content_of(place.folder / "model/model.safetensors");
    place.fails({"merge", "--model", model, "--adapter", adapter, "--out", model}, {model, "own folder"});
    place.fails({"merge", "--model", model, "--adapter", adapter, "--out", adapter}, {adapter, "adapter"});
    CHECK(content_of(place.folder / "model/model.safetensors") == before);
  }
  SECTION("over the batch or a file of the model") {
    for (const std::string& out : {batch, place.path("model/model.safetensors"), place.path("adapter/adapter_config.json")}) {
      const std::string before = content_of(out);
      place.fails({"forward", "--model", model, "--adapter", adapter, "--batch", batch, "--out", out}, {out, "write to another file"});
      CHECK(content_of(out) == before);
    }
  }
  SECTION("beyond a limit on the size of files, as on a full disk") {
    place.batch([](SafeTensorsWriter& writer) { writer.add_copy("labels", {2}, Integers{0, 1}); });
    const std::string out = place.path("earlier"), before = content_of(place.folder.file("earlier", "earlier"));
    place.fails({"forward", "--model", model, "--batch", batch, "--trainable", "full", "--gradients", "--out", out}, {out, "cannot write"},
                "trap '' XFSZ; ulimit -f 8;");
    CHECK(content_of(out) == before);
  }
}

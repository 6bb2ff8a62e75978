// What benchmarks/study/run.sh needs besides the deltatune program:
//   study model TOKENIZER_FOLDER OUT    a small random GPT-2 with that tokenizer
//   study t5 TOKENIZER_FOLDER SIZE OUT  a random T5 1.1, small, medium or large, with that tokenizer, an end-of-text token and T5's sentinels
//   study texts TABLE.csv LABEL OUT     OUT/target.jsonl, OUT/source.jsonl: texts of that label, and those of all others
//   study pairs TABLE.csv LABEL OUT     OUT: what a T5 learns before it meets that label: to name the others, and to fill the gaps in their texts
//   study words TABLE.csv OUT           OUT: the texts, and words for their labels
//   study report RUNS                   RUNS/report.md and its pictures, from the runs under RUNS/<task>/<method>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "deltatune/backend/cpu.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/hf_export.hpp"
#include "deltatune/io/table.hpp"
#include "deltatune/model/gpt2.hpp"
#include "deltatune/text/tokenizer.hpp"

namespace {

using namespace deltatune;
namespace fs = std::filesystem;

void make_model(const fs::path& tokenizer_folder, const fs::path& out) {
  const Index vocabulary = Tokenizer::open(tokenizer_folder).vocab_size();
  const fs::path source = out / "start";
  make_directory(source);
  for (const auto& file : fs::directory_iterator(tokenizer_folder))
    if (file.path().extension() == ".json" || file.path().extension() == ".txt")
      fs::copy_file(file.path(), source / file.path().filename(), fs::copy_options::overwrite_existing);
  const nlohmann::json config = {{"model_type", "gpt2"},
                                 {"architectures", {"GPT2LMHeadModel"}},
                                 {"vocab_size", vocabulary},
                                 {"n_positions", 128},
                                 {"n_embd", 128},
                                 {"n_layer", 4},
                                 {"n_head", 4},
                                 {"bos_token_id", 0},
                                 {"eos_token_id", 0},
                                 {"activation_function", "gelu_new"}};
  write_text_file(source / "config.json", config.dump(2) + "\n");
  DefaultCpu::Context ctx;
  Gpt2<Tensor<float, DefaultCpu>> model(ctx, architecture_of(JsonConfig::open(source / "config.json")), Head::language_model());
  model.initialise(ctx, 1);
  save_hf_checkpoint(ctx, out, model, source, {});
}

struct T5Size {
  Index width, inner, layers, heads;
};
T5Size t5_size(const std::string& name) {
  if (name == "small") return {64, 256, 2, 2};
  if (name == "medium") return {128, 512, 3, 4};
  if (name == "large") return {256, 1024, 4, 8};
  throw Error("study t5", "is no size", {.expected = "small, medium or large", .got = name});
}

constexpr Index kSentinels = 10;
std::string sentinel(Index i) { return "<extra_id_" + std::to_string(i) + ">"; }

// The tokenizer with T5's special tokens behind its own; an end-of-text token follows every text. Returns that token.
Index write_t5_tokenizer(const fs::path& from, const fs::path& to) {
  const JsonConfig file = JsonConfig::open(from / "tokenizer.json");
  nlohmann::json json = file.raw();
  Index next = static_cast<Index>(json.at("model").at("vocab").size());
  const auto add = [&](const std::string& content) {
    json["added_tokens"].push_back(
        {{"id", next}, {"content", content}, {"single_word", false}, {"lstrip", false}, {"rstrip", false}, {"normalized", false}, {"special", true}});
    return next++;
  };
  const Index end = add("</s>");
  for (Index i = 0; i < kSentinels; ++i) add(sentinel(i));
  const nlohmann::json text{{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, closing{{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}};
  const nlohmann::json other{{"Sequence", {{"id", "B"}, {"type_id", 0}}}};
  json["pre_tokenizer"]["add_prefix_space"] = true;  // so that a word is the same token as a target and in a text
  json["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", {text, closing}},
                            {"pair", {text, closing, other, closing}},
                            {"special_tokens", {{"</s>", {{"id", "</s>"}, {"ids", {end}}, {"tokens", {"</s>"}}}}}}};
  write_text_file(to / "tokenizer.json", json.dump() + "\n");
  write_text_file(to / "tokenizer_config.json", nlohmann::json{{"tokenizer_class", "PreTrainedTokenizerFast"}, {"eos_token", "</s>"}}.dump() + "\n");
  return end;
}

void make_t5(const fs::path& tokenizer_folder, const std::string& size_name, const fs::path& out) {
  const T5Size size = t5_size(size_name);
  const fs::path source = out / "start";
  make_directory(source);
  const Index end = write_t5_tokenizer(tokenizer_folder, source);
  const nlohmann::json config = {{"model_type", "t5"},
                                 {"architectures", {"T5ForConditionalGeneration"}},
                                 {"vocab_size", end + 1 + kSentinels},
                                 {"d_model", size.width},
                                 {"d_kv", size.width / size.heads},
                                 {"d_ff", size.inner},
                                 {"num_layers", size.layers},
                                 {"num_heads", size.heads},
                                 {"feed_forward_proj", "gated-gelu"},
                                 {"tie_word_embeddings", false},
                                 {"pad_token_id", 0},
                                 {"eos_token_id", end},
                                 {"decoder_start_token_id", 0}};
  write_text_file(source / "config.json", config.dump(2) + "\n");
  DefaultCpu::Context ctx;
  Architecture architecture = architecture_of(JsonConfig::open(source / "config.json"));
  architecture.initializer_range = 0.05;  // attention is not scaled by its width: T5 starts from small weights
  Transformer<Tensor<float, DefaultCpu>> model(ctx, architecture, Head::language_model());
  model.initialise(ctx, 1);
  save_hf_checkpoint(ctx, out, model, source, {});
}

// A text with gaps of one to three words in about a sixth of it, and what stands there, as in T5's own first task.
nlohmann::json with_gaps(const std::string& text, std::uint64_t seed) {
  std::istringstream stream(text);
  std::string source, target;
  Index gaps = 0, left = 0;  // words of this gap
  std::uint64_t draw = 0;
  for (std::string word; stream >> word;) {
    const std::uint32_t bits = random_bits(derive(seed), draw++);
    if (left == 0 && gaps < kSentinels - 1 && bits % 12 == 0) {
      left = 1 + static_cast<Index>(bits / 12 % 3);
      source += sentinel(gaps) + " ";
      target += sentinel(gaps++) + " ";
    }
    (left > 0 ? target : source) += word + " ";
    left = std::max<Index>(left - 1, 0);
  }
  return {{"source", source}, {"target", target + sentinel(gaps)}};
}

// The verbaliser: words that tweets have, one token each.
std::string word_of(const std::string& label) { return label == "negative" ? "bad" : label == "positive" ? "good" : "new"; }

void make_pairs(const fs::path& table_file, const std::string& unknown, const fs::path& out) {
  const Table table = read_table(table_file);
  const std::size_t text = static_cast<std::size_t>(table.column("text")), label = static_cast<std::size_t>(table.column("label"));
  std::string lines;
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    if (table.rows[row][label] == unknown) continue;
    lines += nlohmann::json{{"source", "sentiment: " + table.rows[row][text]}, {"target", word_of(table.rows[row][label])}}.dump() + "\n";
    lines += with_gaps(table.rows[row][text], row).dump() + "\n";
  }
  write_text_file(out, lines);
}

void write_words(const fs::path& table_file, const fs::path& out) {
  const Table table = read_table(table_file);
  const std::size_t text = static_cast<std::size_t>(table.column("text")), label = static_cast<std::size_t>(table.column("label"));
  std::string lines;
  for (const auto& row : table.rows) lines += nlohmann::json{{"source", row[text]}, {"target", word_of(row[label])}}.dump() + "\n";
  write_text_file(out, lines);
}

void split_texts(const fs::path& table_file, const std::string& wanted, const fs::path& out) {
  const Table table = read_table(table_file);
  const std::size_t text = static_cast<std::size_t>(table.column("text")), label = static_cast<std::size_t>(table.column("label"));
  std::map<bool, std::string> lines;
  for (const auto& row : table.rows) lines[row[label] == wanted] += nlohmann::json{{"prompt", ""}, {"completion", row[text]}}.dump() + "\n";
  make_directory(out);
  write_text_file(out / "target.jsonl", lines[true]);
  write_text_file(out / "source.jsonl", lines[false]);
}

struct Run {
  std::string method;
  nlohmann::json summary;
  std::vector<double> losses;
};

// The runs of a task in the order of a file with their names.
std::vector<Run> read_runs(const fs::path& folder) {
  std::vector<Run> runs;
  std::ifstream order(folder / "order.txt");
  for (std::string method; std::getline(order, method);) {
    Run run{method, {}, {}};
    std::ifstream summary(folder / method / "summary.json");
    run.summary = nlohmann::json::parse(summary);
    if (std::ifstream choices(folder / method / "choices.json"); choices) run.summary["eval_accuracy"] = nlohmann::json::parse(choices).at("eval_accuracy");
    std::ifstream metrics(folder / method / "metrics.jsonl");
    for (std::string line; std::getline(metrics, line);) {
      const nlohmann::json entry = nlohmann::json::parse(line);
      if (entry.contains("loss")) run.losses.push_back(entry.at("loss").get<double>());
    }
    runs.push_back(std::move(run));
  }
  return runs;
}

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

// Exponential means of the losses, without the pull of the start.
std::vector<double> smoothed(const std::vector<double>& losses) {
  std::vector<double> result;
  double sum = 0, weight = 0;
  for (const double loss : losses) {
    sum = 0.93 * sum + loss;
    weight = 0.93 * weight + 1;
    result.push_back(sum / weight);
  }
  return result;
}

// Lines over steps, with a legend; legible on white and on black.
std::string curves_svg(const std::vector<Run>& runs, const std::string& title) {
  const char* const colours[] = {"#2f7fd0", "#d0622f", "#3a9d5d", "#9a4fc0", "#c04f7b", "#8a8a2a", "#2aa3a3", "#777777"};
  double low = INFINITY, high = -INFINITY, steps = 2;
  for (const Run& run : runs)
    for (const double loss : smoothed(run.losses)) {
      low = std::min(low, loss);
      high = std::max(high, loss);
      steps = std::max(steps, static_cast<double>(run.losses.size()));
    }
  const auto x = [&](double step) { return 60 + (step - 1) / (steps - 1) * 500; };
  const auto y = [&](double loss) { return 340 - (loss - low) / std::max(1e-9, high - low) * 310; };
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 390\" font-family=\"sans-serif\" font-size=\"12\">\n<title>" + title +
                    "</title>\n<style>text { fill: #777; } .axis { stroke: #888; fill: none; } .curve { fill: none; stroke-width: 2; }</style>\n"
                    "<path class=\"axis\" d=\"M60 30 V340 H560\"/>\n<text x=\"310\" y=\"378\" text-anchor=\"middle\">step</text>\n";
  for (int i = 0; i <= 4; ++i) {
    const double loss = low + (high - low) * i / 4, step = 1 + (steps - 1) * i / 4;
    svg += "<text x=\"54\" y=\"" + fixed(y(loss) + 4, 1) + "\" text-anchor=\"end\">" + fixed(loss, 2) + "</text>";
    svg += "<text x=\"" + fixed(x(step), 1) + "\" y=\"358\" text-anchor=\"middle\">" + fixed(step, 0) + "</text>\n";
  }
  for (std::size_t r = 0; r < runs.size(); ++r) {
    const std::vector<double> losses = smoothed(runs[r].losses);
    std::string path;
    for (std::size_t i = 0; i < losses.size(); ++i) path += (i == 0 ? "M" : " L") + fixed(x(static_cast<double>(i + 1)), 1) + " " + fixed(y(losses[i]), 1);
    const std::string colour = colours[r % std::size(colours)], dashes = r < std::size(colours) ? "" : " stroke-dasharray=\"5 3\"";
    const std::string line = fixed(40 + 19.0 * static_cast<double>(r), 0);
    svg += "<path class=\"curve\" stroke=\"" + colour + "\"" + dashes + " d=\"" + path + "\"/>\n<path class=\"curve\" stroke=\"" + colour + "\"" + dashes +
           " d=\"M572 " + line + " h18\"/><text x=\"595\" y=\"" + line + "\" dy=\"4\">" + runs[r].method + "</text>\n";
  }
  return svg + "</svg>\n";
}

// The first step at which the smoothed loss has covered nine tenths of the way to the best end of all runs.
std::string convergence(const Run& run, double start, double best) {
  const std::vector<double> losses = smoothed(run.losses);
  for (std::size_t i = 0; i < losses.size(); ++i)
    if (losses[i] <= start - 0.9 * (start - best)) return std::to_string(i + 1);
  return "–";
}

std::string table_of(const std::vector<Run>& runs, bool classifies) {
  double start = 0, best = INFINITY;
  for (const Run& run : runs) {
    start = std::max(start, run.losses.front());
    best = std::min(best, smoothed(run.losses).back());
  }
  std::string text = std::string("| method | trained | of all | ") + (classifies ? "accuracy | " : "perplexity | ") +
                     "held-out loss | 90 % of the way at step | ms per step | peak memory |\n|---|--:|--:|--:|--:|--:|--:|--:|\n";
  for (const Run& run : runs) {
    const nlohmann::json& s = run.summary;
    const double trained = s.at("trainable_parameters").get<double>(), all = s.at("total_parameters").get<double>(), loss = s.at("eval_loss").get<double>();
    text += "| " + run.method + " | " + fixed(trained, 0) + " | " + fixed(100 * trained / all, 2) + " % | " +
            (classifies ? fixed(100 * s.at("eval_accuracy").get<double>(), 1) + " %" : fixed(std::exp(loss), 2)) + " | " + fixed(loss, 3) + " | " +
            convergence(run, start, best) + " | " + fixed(s.at("median_step_ms").get<double>(), 0) + " | " + fixed(s.at("peak_rss_mb").get<double>(), 0) +
            " MB |\n";
  }
  return text;
}

// The same methods on three sizes of T5: convergence, and the effect of scale.
std::string t5_report(const fs::path& runs) {
  std::string text = "## T5s of ours, which knew two of the sentiments, adapted to name all three\n\n";
  std::map<std::string, std::map<std::string, double>> accuracies;  // by method and size
  std::vector<std::string> methods, sizes;
  for (const std::string size : {"small", "medium", "large"}) {
    if (!fs::exists(runs / ("t5-" + size) / "order.txt")) continue;
    const std::vector<Run> of_size = read_runs(runs / ("t5-" + size));
    sizes.push_back(size);
    methods.clear();
    for (const Run& run : of_size) {
      methods.push_back(run.method);
      accuracies[run.method][size] = run.summary.at("eval_accuracy").get<double>();
    }
    write_text_file(runs / ("t5-" + size + ".svg"), curves_svg(of_size, "Training loss of the " + size + " T5"));
    const double parameters = of_size.front().summary.at("total_parameters").get<double>();
    text +=
        "### " + size + ", " + fixed(parameters / 1e6, 2) + " million parameters\n\n" + table_of(of_size, true) + "\n![loss curves](t5-" + size + ".svg)\n\n";
  }
  if (sizes.empty()) return "";
  text += "### Accuracy by size\n\n| method |";
  for (const std::string& size : sizes) text += " " + size + " |";
  text += "\n|---|";
  for (std::size_t i = 0; i < sizes.size(); ++i) text += "--:|";
  text += "\n";
  for (const std::string& method : methods) {
    text += "| " + method + " |";
    for (const std::string& size : sizes) text += " " + fixed(100 * accuracies[method][size], 1) + " % |";
    text += "\n";
  }
  return text;
}

void report(const fs::path& runs) {
  const std::vector<Run> tweets = read_runs(runs / "tweets"), language = read_runs(runs / "language");
  const auto is_pair = [](const Run& run) { return run.method.find('+') != std::string::npos; };
  std::vector<Run> single, pairs;
  for (const Run& run : tweets) (is_pair(run) ? pairs : single).push_back(run);
  write_text_file(runs / "tweets.svg", curves_svg(single, "Training loss on the tweets"));
  write_text_file(runs / "pairs.svg", curves_svg(pairs, "Training loss on the tweets, two methods at once"));
  write_text_file(runs / "language.svg", curves_svg(language, "Training loss of the language model"));
  std::string text =
      "# Delta tuning: methods side by side\n\n"
      "Written by `benchmarks/study/run.sh`. Every row is a process of its own: the same rows of text, batches, seed and number of steps, a learning rate for "
      "each method (in the script). Memory is the process's largest resident set.\n\n"
      "## Sentiment of tweets, all-MiniLM-L6-v2 (BERT)\n\n";
  text += table_of(single, true) + "\n![loss curves](tweets.svg)\n\n### Two methods at once\n\n" + table_of(pairs, true) + "\n![loss curves](pairs.svg)\n\n";
  text +=
      "## A small GPT-2 of ours, trained on two kinds of tweets, adapted to the third\n\n" + table_of(language, false) + "\n![loss curves](language.svg)\n\n";
  text += t5_report(runs);
  write_text_file(runs / "report.md", text);
  std::cout << text;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string command = argc > 1 ? argv[1] : "";
    if (command == "model" && argc == 4)
      make_model(argv[2], argv[3]);
    else if (command == "t5" && argc == 5)
      make_t5(argv[2], argv[3], argv[4]);
    else if (command == "pairs" && argc == 5)
      make_pairs(argv[2], argv[3], argv[4]);
    else if (command == "words" && argc == 4)
      write_words(argv[2], argv[3]);
    else if (command == "texts" && argc == 5)
      split_texts(argv[2], argv[3], argv[4]);
    else if (command == "report" && argc == 3)
      report(argv[2]);
    else
      throw Error("study", "unknown command",
                  {.expected = "model TOKENIZER OUT, t5 TOKENIZER SIZE OUT, texts TABLE LABEL OUT, pairs TABLE LABEL OUT, words TABLE OUT or report RUNS"});
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}

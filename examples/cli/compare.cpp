// deltatune compare: the results of several training runs side by side, and what was not the same in them.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "commands.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/io/json_config.hpp"
#include "report.hpp"
#include "run_record.hpp"

namespace deltatune::cli {

namespace {

struct CompareOptions {
  std::vector<std::filesystem::path> runs;
  bool json = false;
};

using Records = std::vector<nlohmann::json>;

// What a record says of the outcome, and hashes of what was read, for which there are notes: the rest are the run's settings.
const std::set<std::string> kOutcomes{"version",     "command",   "finished",      "last_step",       "stopped_early",        "seconds",
                                      "best_step",   "eval_loss", "eval_accuracy", "best_metric",     "total_parameters",     "median_step_ms",
                                      "peak_rss_mb", "options",   "training_data", "evaluation_data", "trainable_parameters", "base_weights"};

nlohmann::json record_of_run(const std::filesystem::path& folder) {
  const std::optional<JsonConfig> record = record_in(folder);
  if (!record) throw Error(folder.string(), "has no run.json of a training run", {.remedy = "name the --out folders of 'deltatune train'"});
  const nlohmann::json& command = record->raw().at("command");
  if (command != "train") throw Error(record->name(), "is not of a training run", {.expected = "train", .got = command.dump()});
  return record->raw();
}

bool same_in_all(const Records& records, const std::string& key) {
  const auto value = [&key](const nlohmann::json& record) { return record.value(key, nlohmann::json(nullptr)); };
  return std::all_of(records.begin(), records.end(), [&](const nlohmann::json& record) { return value(record) == value(records.front()); });
}

// The number, or "" where the record has none.
std::string number(const nlohmann::json& record, const char* key, const char* format) {
  const auto found = record.find(key);
  return found == record.end() || !found->is_number() ? "" : formatted(format, found->get<double>());
}

// Of the runs that were judged by one metric on the same texts, the best one; none where they were not.
std::optional<std::size_t> best_of(const Records& records) {
  if (!same_in_all(records, "metric") || !same_in_all(records, "evaluation_data")) return std::nullopt;
  const bool smaller = records.front().value("metric", "") == "loss";
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto value = records[i].find("best_metric");
    if (value == records[i].end() || !value->is_number()) continue;
    const double own = value->get<double>(), highest = best ? records[*best].at("best_metric").get<double>() : own;
    if (!best || (smaller ? own < highest : own > highest)) best = i;
  }
  return best;
}

std::string outcome_table(const CompareOptions& options, const Records& records, const std::optional<std::size_t>& best) {
  const std::string metric = same_in_all(records, "metric") ? records.front().value("metric", "metric") : "metric";
  const bool by_loss = metric == "loss";
  std::vector<std::string> header{"run", "method", "trained", "best step", "of"};
  if (!by_loss) header.push_back(metric);
  for (const char* const name : {"loss", "ms per step", "peak MB", "seconds"}) header.emplace_back(name);
  TextTable table(header, 2);
  for (std::size_t i = 0; i < records.size(); ++i) {
    const nlohmann::json& record = records[i];
    std::vector<std::string> row{
        options.runs[i].string() + (best == i ? " *" : ""), record.value("method", ""),
        record.contains("trainable_parameters") ? percent(record.at("trainable_parameters").get<Index>(), record.at("total_parameters").get<Index>()) : "",
        number(record, "best_step", "%.0f"), number(record, "last_step", "%.0f")};
    if (!by_loss) row.push_back(number(record, "best_metric", "%.4f") + (metric == "metric" ? " " + record.value("metric", "") : ""));
    row.push_back(number(record, "eval_loss", "%.4f"));
    row.push_back(number(record, "median_step_ms", "%.1f"));
    row.push_back(number(record, "peak_rss_mb", "%.0f"));
    row.push_back(number(record, "seconds", "%.1f"));
    table.add(row);
  }
  return table.text();
}

// The settings that are not the same, by run: {"batch_size": [4, 8]}.
nlohmann::json differences(const Records& records) {
  nlohmann::json different = nlohmann::json::object();
  std::set<std::string> keys;
  for (const nlohmann::json& record : records)
    for (const auto& [key, value] : record.items())
      if (!kOutcomes.contains(key)) keys.insert(key);
  for (const std::string& key : keys) {
    if (same_in_all(records, key)) continue;
    for (const nlohmann::json& record : records) different[key].push_back(record.value(key, nlohmann::json(nullptr)));
  }
  return different;
}

std::string difference_table(const CompareOptions& options, const nlohmann::json& different) {
  std::vector<std::string> header{"what differs"};
  for (const std::filesystem::path& run : options.runs) header.push_back(run.string());
  TextTable table(header);
  for (const auto& [key, values] : different.items()) {
    std::vector<std::string> row{key};
    for (const nlohmann::json& value : values) row.push_back(value.is_null() ? "" : value.is_string() ? value.get<std::string>() : value.dump());
    table.add(row);
  }
  return table.text();
}

void compare(const CompareOptions& options) {
  Records records;
  for (const std::filesystem::path& run : options.runs) records.push_back(record_of_run(run));
  for (std::size_t i = 0; i < records.size(); ++i)
    if (!records[i].value("finished", false)) std::cerr << "note: " << options.runs[i].string() << " is not finished\n";
  if (!same_in_all(records, "evaluation_data")) std::cerr << "note: the runs were not evaluated on the same texts: their results cannot be compared\n";
  if (!same_in_all(records, "base_weights")) std::cerr << "note: the runs began with different weights\n";
  const std::optional<std::size_t> best = best_of(records);
  const nlohmann::json different = differences(records);
  std::cout << outcome_table(options, records, best);
  if (!different.empty()) std::cout << "\n" << difference_table(options, different);
  if (!options.json) return;
  nlohmann::json runs = nlohmann::json::array();
  for (std::size_t i = 0; i < records.size(); ++i) {
    nlohmann::json run = records[i];
    run["run"] = options.runs[i].string();
    runs.push_back(run);
  }
  std::cout << nlohmann::json{{"runs", runs}, {"best", best ? nlohmann::json(options.runs[*best].string()) : nlohmann::json(nullptr)}, {"different", different}}
                   .dump()
            << "\n";
}

}  // namespace

void add_compare(CLI::App& app) {
  const auto options = std::make_shared<CompareOptions>();
  CLI::App* const command =
      app.add_subcommand("compare", "Results of training runs side by side: which is the best one (*), and what was not the same in them");
  command->add_option("RUN", options->runs, "Folders that 'deltatune train' has written")->required()->expected(2, 1 << 10)->type_name("");
  command->add_flag("--json", options->json, "Print all of it once more as one JSON object, on the last line");
  command->footer("Example:\n  deltatune compare runs/lora runs/full runs/prefix");
  command->callback([options] { compare(*options); });
}

}  // namespace deltatune::cli

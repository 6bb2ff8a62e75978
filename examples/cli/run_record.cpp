#include "run_record.hpp"

#include <algorithm>

#include "deltatune/io/hf_checkpoint.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/version.hpp"

namespace deltatune::cli {

namespace fs = std::filesystem;

std::optional<JsonConfig> record_in(const fs::path& folder) {
  if (!fs::is_regular_file(folder / kRunRecord)) return std::nullopt;
  try {
    JsonConfig record = JsonConfig::open(folder / kRunRecord);
    if (record.has("version") && record.has("command")) return record;
  } catch (const Error&) {
  }
  return std::nullopt;
}

namespace {

// Of the adapters, or where there are none the model.
std::vector<fs::path> results(const fs::path& model, const std::vector<fs::path>& adapters) { return adapters.empty() ? std::vector{model} : adapters; }

std::string recorded(const char* key, const fs::path& model, const std::vector<fs::path>& adapters) {
  for (const fs::path& folder : results(model, adapters)) {
    const std::optional<JsonConfig> record = record_in(folder);
    if (record && record->has(key)) return record->get<std::string>(key);
  }
  return "";
}

}  // namespace

bool has_run_record(const fs::path& folder) { return record_in(folder).has_value(); }

bool is_unfinished(const fs::path& folder) {
  const std::optional<JsonConfig> record = record_in(folder);
  return record && record->raw().value("finished", nlohmann::json(true)) == false;
}

bool is_finished(const fs::path& folder) {
  const std::optional<JsonConfig> record = record_in(folder);
  return record && record->raw().value("finished", nlohmann::json(false)) == true;
}

std::optional<Index> trained_max_length(const fs::path& model, const std::vector<fs::path>& adapters) {
  std::optional<Index> length;
  for (const fs::path& folder : results(model, adapters)) {
    const std::optional<JsonConfig> record = record_in(folder);
    if (!record || !record->has("max_length")) continue;
    const Index its_own = record->get<std::int64_t>("max_length");
    if (its_own < 2) throw Error(record->name() + ": max_length", "is not a length of texts", {.expected = "at least 2", .got = std::to_string(its_own)});
    length = std::min(length.value_or(its_own), its_own);
  }
  return length;
}

std::string trained_task(const fs::path& model, const std::vector<fs::path>& adapters) { return recorded("task", model, adapters); }
std::string trained_date(const fs::path& model, const std::vector<fs::path>& adapters) { return recorded("chat_date", model, adapters); }

std::optional<TrainedTexts> trained_texts(const fs::path& model, const std::vector<fs::path>& adapters) {
  for (const fs::path& folder : results(model, adapters)) {
    const std::optional<JsonConfig> record = record_in(folder);
    if (!record || (!record->has("text_pairs") && !record->has("options"))) continue;
    const nlohmann::json options = record->raw().value("options", nlohmann::json::object());
    const bool named = options.is_object() && options.contains("--text-pair-column") && options["--text-pair-column"].is_string();
    return TrainedTexts{folder, record->get_or<bool>("text_pairs", named), named ? options["--text-pair-column"].get<std::string>() : ""};
  }
  return std::nullopt;
}

std::optional<TrainedPairs> trained_pairs(const fs::path& model, const std::vector<fs::path>& adapters) {
  for (const fs::path& folder : results(model, adapters)) {
    const std::optional<JsonConfig> record = record_in(folder);
    if (!record || !record->has("source_column")) continue;
    TrainedPairs pairs{record->get<std::string>("source_column"),
                       record->get<std::string>("target_column"),
                       record->get<std::string>("task_prefix"),
                       record->get<std::int64_t>("max_target_length"),
                       {record->get_or<std::string>("source_language", ""), record->get_or<std::string>("target_language", "")}};
    if (pairs.max_target_length < 1)
      throw Error(record->name() + ": max_target_length", "is not a length of texts",
                  {.expected = "at least 1", .got = std::to_string(pairs.max_target_length)});
    return pairs;
  }
  return std::nullopt;
}

void write_pairs(const TrainedPairs& pairs, nlohmann::json& record_io) {
  record_io.update({{"source_column", pairs.source_column},
                    {"target_column", pairs.target_column},
                    {"task_prefix", pairs.prefix},
                    {"max_target_length", pairs.max_target_length},
                    {"source_language", pairs.languages.source},
                    {"target_language", pairs.languages.target}});
}

nlohmann::json record_of_adapters(const std::string& command, const fs::path& model, const std::vector<fs::path>& adapters) {
  nlohmann::json record = {{"version", DELTATUNE_VERSION_STRING}, {"command", command}, {"model", model.string()}, {"adapters", nlohmann::json::array()}};
  for (const fs::path& adapter : adapters) record["adapters"].push_back(adapter.string());
  if (const auto length = trained_max_length(model, adapters)) record["max_length"] = *length;
  if (const auto pairs = trained_pairs(model, adapters)) write_pairs(*pairs, record);
  if (const auto texts = trained_texts(model, adapters)) record["text_pairs"] = texts->pairs;
  if (const std::string task = trained_task(model, adapters); !task.empty()) record["task"] = task;
  if (const std::string date = trained_date(model, adapters); !date.empty()) record["chat_date"] = date;
  return record;
}

void check_texts(const std::optional<TrainedTexts>& trained, const std::string& pair_column, const std::vector<std::string>& columns) {
  if (!trained || trained->pairs == !pair_column.empty()) return;
  if (!trained->pairs)
    throw Error(trained->folder.string(), "was trained on single texts", {.got = "--text-pair-column " + pair_column, .remedy = "leave it out"});
  const bool is_there = std::find(columns.begin(), columns.end(), trained->pair_column) != columns.end();
  throw Error(trained->folder.string(), "was trained on pairs of texts",
              {.expected = "a column with the second text", .remedy = "name it with --text-pair-column" + (is_there ? " " + trained->pair_column : "")});
}

std::vector<std::string> run_notes(const fs::path& model, const std::vector<fs::path>& adapters) {
  std::vector<std::string> notes;
  std::string hash;
  for (const fs::path& folder : results(model, adapters)) {
    const std::optional<JsonConfig> record = record_in(folder);
    if (!record) continue;
    if (is_unfinished(folder)) notes.push_back(folder.string() + ": the training run was not finished: this is its best result so far");
    if (adapters.empty() || !record->has("base_weights")) continue;
    if (hash.empty()) hash = HfCheckpoint::open(model).content_hash();
    if (record->get<std::string>("base_weights") != hash)
      notes.push_back(folder.string() + ": was trained on other base weights than those of " + model.string() + ", so its answers may be worthless there");
  }
  return notes;
}

}  // namespace deltatune::cli

// run.json in the folder of a result: with what options, of what data and which version it was trained.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "deltatune/core/shape.hpp"
#include "deltatune/io/json_config.hpp"

namespace deltatune::cli {

inline constexpr const char* kRunRecord = "run.json";
inline constexpr const char* kRunOptions = "train.yaml";  // what repeats the run (config_file.hpp)

// The folder's run.json. Nothing where there is none, or one of another program.
std::optional<JsonConfig> record_in(const std::filesystem::path& folder);
// Whether there is such a record.
bool has_run_record(const std::filesystem::path& folder);
// Whether it is of a training run that has its end still before it, or is at it.
bool is_unfinished(const std::filesystem::path& folder);
bool is_finished(const std::filesystem::path& folder);

// The texts' greatest length in training, by the records beside the adapters, or where there are no adapters the model's. The smallest, where they
// differ; nothing where there is no record.
std::optional<Index> trained_max_length(const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters);

// What training was for ("classify", "regression", "lm", "chat" or "seq2seq"), and the date that its chat template printed ("2026-11-28"), by the same records:
// the first that says. "" where none does.
std::string trained_task(const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters);
std::string trained_date(const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters);

// Codes of the languages of sources and targets; "": what the tokenizer's files put around a text.
struct PairLanguages {
  std::string source = {}, target = {};
};

// How an encoder-decoder's texts were read in training, by the same records: the first that says.
struct TrainedPairs {
  std::string source_column, target_column, prefix;
  Index max_target_length = 0;
  PairLanguages languages = {};
};
std::optional<TrainedPairs> trained_pairs(const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters);
// Into a record.
void write_pairs(const TrainedPairs& pairs, nlohmann::json& record_io);

// The record of what a command made of adapters: what their training says of the texts is still so.
nlohmann::json record_of_adapters(const std::string& command, const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters);

// Whether training was on pairs of texts, by the same records: the first that says.
struct TrainedTexts {
  std::filesystem::path folder;  // of the record
  bool pairs = false;
  std::string pair_column;  // "": not known
};
std::optional<TrainedTexts> trained_texts(const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters);
// Throws Error when the texts to use are not of the kind that training was on. pair_column: of these, "" for single texts; columns: of their table.
void check_texts(const std::optional<TrainedTexts>& trained, const std::string& pair_column, const std::vector<std::string>& columns);

// What a user of a result should know of how it came about: a run that was not finished, base weights that are not the model's.
std::vector<std::string> run_notes(const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters);

}  // namespace deltatune::cli

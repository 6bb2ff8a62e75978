// What a run of `train` learns from: examples to train on, examples to evaluate on, and the classes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "chat_data.hpp"
#include "labels.hpp"
#include "seq2seq_data.hpp"
#include "text_data.hpp"

namespace deltatune::cli {

struct DataOptions {
  std::string data, eval_data;
  double eval_fraction = 0;  // of the data, held out when there is no eval_data
  TextColumns columns;
  std::vector<std::string> labels;  // --labels, or empty
  bool any_labels = false;          // every value of the column is a class, whatever it looks like
  Index max_length = 0;
  std::uint64_t seed = 0;
  std::filesystem::path init_adapter = {};  // that is trained further
  const ChatSource* chat = nullptr;         // of conversations
  PairSettings pairs = {};                  // of sources and targets
};

struct TrainingData {
  Dataset training;
  std::optional<Dataset> evaluation;
  std::vector<std::string> labels;  // of a classifier, in the order of its rows
  Notes notes;
  bool date_is_printed = false;  // by the chat template
  PairColumns pair_columns;      // of sources and targets
};

// For a language model: of conversations with options.chat, else of texts.
TrainingData language_data(const DataOptions& options, const TextEncoding& encoding);
// For an encoder-decoder.
TrainingData pair_data(const DataOptions& options, const Architecture& architecture, const TextEncoding& encoding);
// For a classifier with this output layer. What is held out is of all classes in the same share, but no class is held out as a whole.
TrainingData labelled_data(const DataOptions& options, const OutputLayer& layer, const TextEncoding& encoding);
// For a model with a single output, a number.
TrainingData scored_data(const DataOptions& options, const TextEncoding& encoding);

// How many examples there are of each class.
std::string class_report(const TrainingData& data);

// Whether each example is held out: `fraction` of them at random, the same for the same seed, of each class its share, and never all of a class.
std::vector<bool> held_out(const std::vector<std::int32_t>& classes, double fraction, std::uint64_t seed);

}  // namespace deltatune::cli

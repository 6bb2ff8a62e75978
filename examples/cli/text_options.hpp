// What the commands that run a model over texts have in common: their options, and the model, table and tokenizer they name.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "device_options.hpp"
#include "labels.hpp"
#include "model_io.hpp"
#include "run_record.hpp"
#include "text_data.hpp"

namespace deltatune::cli {

struct TextOptions {
  std::string model, data;
  std::vector<std::filesystem::path> adapters;
  TextColumns columns;
  std::string labels;  // --labels, or empty
  Index batch_size = 32;
  Index max_length = 0;  // 0: not given
  bool no_kept_ids = false;
  DeviceOptions device;
};

// The model's tokenizer, and how the commands use it.
inline TextEncoding encoding_of(const TextOptions& options) {
  return {tokenizer_of(options.model), options.model, static_cast<unsigned>(options.device.threads), !options.no_kept_ids};
}

inline void add_text_options(CLI::App& command, TextOptions& options) {
  command.add_option("--model", options.model, "Hugging Face folder of the model")->required()->type_name("DIR");
  command
      .add_option("--adapter", options.adapters, "Folder of an adapter for it, as 'deltatune train', PEFT or AdapterHub wrote it; several times for several")
      ->type_name("DIR");
  command.add_option("--data", options.data, "Texts: .csv, .tsv, .jsonl or .json")->required()->type_name("FILE");
  command.add_option("--text-column", options.columns.text, "Column with the text [text, sentence or tweet]")->type_name("NAME");
  command.add_option("--text-pair-column", options.columns.pair, "Column with a second text, for models that compare two [none]")->type_name("NAME");
  command
      .add_option("--labels", options.labels,
                  "Names of the classes by number, with commas between them, or a .json file with a list [those of the adapter, else of the model]")
      ->type_name("NAMES");
  command.add_option("--batch-size", options.batch_size, "Texts at a time; changes speed and memory only")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536))
      ->type_name("N");
  command
      .add_option("--max-length", options.max_length, "Tokens per text, the rest is cut off [as in training; else 128, or fewer where the model reads fewer]")
      ->check(CLI::Range(2, 1 << 20))
      ->type_name("N");
  command.add_flag("--no-kept-ids", options.no_kept_ids, "Don't keep the tokens of a large data set in a file beside it, DATA.ids, for the next run");
  add_device_options(command, options.device);
}

// Without --max-length: as in training, where a record says so; else the usual one, or fewer where the model reads fewer.
inline Index usual_max_length(const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters, Index room, Index usual) {
  const std::optional<Index> trained = trained_max_length(model, adapters);
  if (trained && *trained != std::min(usual, room)) std::cerr << "note: --max-length " << std::min(*trained, room) << ", as in training\n";
  return std::min(trained.value_or(usual), room);
}

// --max-length, or its usual value. Throws Error when the model has fewer positions.
inline Index max_length_of(const TextOptions& options, const ModelInfo& info, Index usual = 128) {
  const Index room = info.family.architecture.longest() - info.taken;
  if (options.max_length > room)
    throw Error("--max-length", "is more than the model's positions",
                {.expected = "at most " + std::to_string(room), .got = std::to_string(options.max_length)});
  return options.max_length > 0 ? options.max_length : usual_max_length(options.model, options.adapters, room, usual);
}

// The model, its adapter, and the table with its columns found. Throws Error unless the model is a classifier.
struct TextTask {
  std::unique_ptr<Device> device;
  std::unique_ptr<DeviceModel> model;
  Table table;
  TextColumns columns;
  TextEncoding encoding;
  Index max_length = 0;
  Output output = Output::one_label;
  std::vector<std::string> labels;  // one name per class
  Notes notes;                      // to be printed

  TextTask(const TextOptions& options, bool with_label)
      : device(open_device(options.device)),
        model(device->load(options.model, options.adapters)),
        table(read_table(options.data)),
        columns(resolve_columns(table, options.columns, with_label)),
        encoding(encoding_of(options)) {
    const ModelInfo& config = model->info();
    if (config.num_labels < 1)
      throw Error(options.model, "has no classifier",
                  {.expected = "a model that was trained on labels", .remedy = "give the adapter that brings a classifier: --adapter DIR"});
    check_vocabulary(options.model, encoding.tokenizer, config.vocab_size);
    max_length = max_length_of(options, config);
    output = output_of(options.model, options.adapters, config.num_labels);
    labels = options.labels.empty() ? config.labels : labels_option(options.labels);
    if (static_cast<Index>(labels.size()) != config.num_labels)
      throw Error("--labels", "does not fit the model's output layer",
                  {.expected = std::to_string(config.num_labels) + " names, instead of " + listed(config.labels),
                   .got = std::to_string(labels.size()) + ": " + listed(labels)});
    if (reorders(labels, config.labels))
      throw Error("--labels", "names the model's classes in another order, which would swap their names",
                  {.expected = listed(config.labels), .got = listed(labels), .remedy = "leave it out"});
    check_texts(trained_texts(options.model, options.adapters), columns.pair, table.columns);
    notes = table_notes(table);
  }
};

}  // namespace deltatune::cli

// What the commands that run an encoder-decoder over the rows of a table have in common: its options, the model, the table and how it is read.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/text/language_code.hpp"
#include "deltatune/text/text_stream.hpp"
#include "generation_options.hpp"
#include "seq2seq_options.hpp"
#include "text_options.hpp"

namespace deltatune::cli {

struct PairOptions {
  PairColumns columns;
  std::optional<std::string> prefix;
  PairLanguages languages;
  Index max_target_length = 0;  // 0: not given
  std::string choices;          // --choices, or empty
  GenerationOptions generation;
  std::vector<std::string> generation_names = {};  // of the options that say how targets are written
};

// All of them.
inline void add_pair_run_options(CLI::App& command, PairOptions& options) {
  add_pair_options(command, options.columns, options.prefix, options.languages, options.max_target_length, false);
  command
      .add_option("--choices", options.choices,
                  "Choose among these targets, with commas between them, or in a .json file with a list: the likeliest one is the answer")
      ->type_name("TEXTS")
      ->group("Encoder-decoders");
  const std::size_t others = command.get_options().size();
  options.generation.config.max_new_tokens = kTargetLength;
  add_generation_options(command, options.generation, "target");
  const std::vector<CLI::Option*> all = command.get_options();
  for (std::size_t i = others; i < all.size(); ++i) {
    all[i]->group("Encoder-decoders: the targets that are written");
    options.generation_names.push_back(all[i]->get_name());
  }
}

// The names of the options that the command line has.
inline std::set<std::string> given_options(const CLI::App& command) {
  std::set<std::string> names;
  for (const CLI::Option* const option : command.get_options([](const CLI::Option* each) { return each->count() > 0; })) names.insert(option->get_name());
  return names;
}

// Throws Error for the first of these options that was given. what: "is for texts with labels".
template <class Names>
void refuse_options(const std::set<std::string>& given, const Names& names, const std::string& what, const std::string& remedy = "leave it out") {
  for (const auto& name : names)
    if (given.contains(name)) throw Error(name, what, {.remedy = remedy});
}

// Of a model that reads no sources.
inline void refuse_pair_options(const std::set<std::string>& given, const PairOptions& options) {
  std::vector<std::string> names(std::begin(kPairOptions), std::end(kPairOptions));
  names.insert(names.end(), {"--choices", "--generate"});
  names.insert(names.end(), options.generation_names.begin(), options.generation_names.end());
  refuse_options(given, names, "is for encoder-decoders that write targets");
}
// Of one that does.
inline void refuse_label_options(const std::set<std::string>& given, const std::string& title) {
  const std::vector<std::string> names{"--text-column", "--text-pair-column", "--label-column", "--labels", "--chat-template", "--long", "--date"};
  refuse_options(given, names, "is not for " + title + ", an encoder-decoder", "leave it out; --source-column and --target-column name the texts");
}

// Into the settings: in which language targets are written. Throws Error for one that the tokenizer does not have.
inline void write_in_language(const Tokenizer& tokenizer, const PairLanguages& languages, GenerationConfig& config_io) {
  if (languages.target.empty()) return;
  const LanguageStart start = start_in_language(tokenizer, languages.target, "--target-language");
  if (start.decoder_start_token_id >= 0) config_io.decoder_start_token_id = start.decoder_start_token_id;
  config_io.forced_bos_token_id = start.forced_bos_token_id;  // and no other language's
}

struct PairTask {
  std::unique_ptr<Device> device;
  std::unique_ptr<DeviceModel> model;
  Table table;
  TextEncoding encoding;
  PairSettings settings;
  Index batch_size = 0;
  Notes notes;  // to be printed

  // with_target: the table has to have them.
  PairTask(const TextOptions& options, const PairOptions& pairs, bool with_target)
      : device(open_device(options.device)),
        model(device->load(options.model, options.adapters)),
        table(read_table(options.data)),
        encoding(encoding_of(options)),
        batch_size(options.batch_size),
        notes(table_notes(table)) {
    check_vocabulary(options.model, encoding.tokenizer, architecture().vocab_size);
    const std::optional<TrainedPairs> trained = trained_pairs(options.model, options.adapters);
    PairColumns columns = pairs.columns;
    const auto has = [this](const std::string& name) { return std::find(table.columns.begin(), table.columns.end(), name) != table.columns.end(); };
    if (trained && columns.source.empty() && has(trained->source_column)) columns.source = trained->source_column;
    if (trained && columns.target.empty() && has(trained->target_column)) columns.target = trained->target_column;
    settings = {resolve_pair_columns(table, columns, with_target), prefix_of(pairs.prefix, trained), max_length_of(options, model->info(), kSourceLength),
                target_length_of(pairs.max_target_length, trained ? trained->max_target_length : kTargetLength, architecture()),
                languages_of(pairs.languages, trained)};
  }

  const Architecture& architecture() const { return model->info().family.architecture; }

  // The tokens of --choices. Throws Error for two that are the same.
  std::vector<std::vector<std::int32_t>> tokens_of(const std::vector<std::string>& choices) const {
    const Tokenizer tokenizer = target_tokenizer(encoding.tokenizer, settings.languages);
    std::vector<std::vector<std::int32_t>> all;
    for (const std::string& choice : choices) {
      all.push_back(tokenizer.encode(choice));
      const auto same = std::find(all.begin(), all.end() - 1, all.back());
      if (same == all.end() - 1) continue;
      const std::string& other = choices[static_cast<std::size_t>(same - all.begin())];
      throw Error("--choices", "has two that are the same tokens for this model",
                  {.got = "\"" + other + "\" and \"" + choice + "\"", .remedy = "take other words"});
    }
    return all;
  }

  // The targets that the model writes, without special tokens: one per example, whose ids are the source.
  std::vector<std::string> written(const Dataset& sources, GenerationOptions generation, const std::filesystem::path& folder) const {
    generation.config.max_new_tokens = settings.max_target_length;
    GenerationConfig config = generation_settings(generation, folder);
    config.max_sequences = batch_size;
    write_in_language(encoding.tokenizer, settings.languages, config);
    PackedBatch batch;
    for (Index i = 0; i < sources.size(); ++i) batch.add(sources[i].ids);
    std::vector<StopStrings> stops(static_cast<std::size_t>(sources.size()), StopStrings(encoding.tokenizer, generation.stop_strings));
    const OnToken goes_on = [&stops](Index i, std::int32_t token) { return !stops[static_cast<std::size_t>(i)].push(token); };
    std::vector<std::string> texts;
    for (const Continuation& target : model->generate(batch, config, goes_on)) texts.push_back(encoding.tokenizer.decode(target.tokens, true));
    return texts;
  }
};

}  // namespace deltatune::cli

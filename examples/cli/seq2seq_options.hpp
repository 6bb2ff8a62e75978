// The options of the commands that read sources and targets.
#pragma once

#include <CLI/CLI.hpp>
#include <iostream>
#include <optional>
#include <string>

#include "run_record.hpp"
#include "seq2seq_data.hpp"

namespace deltatune::cli {

// otherwise: what --task-prefix is where nobody says.
inline void add_source_options(CLI::App& command, std::optional<std::string>& prefix, PairLanguages& languages, const std::string& otherwise) {
  constexpr const char* kGroup = "Encoder-decoders";
  command
      .add_option_function<std::string>(
          "--task-prefix", [&prefix](const std::string& text) { prefix = text; },
          "What stands in front of each source, such as \"summarize: \" [" + otherwise + "]")
      ->type_name("TEXT")
      ->group(kGroup);
  command
      .add_option("--source-language", languages.source,
                  "Of models with language codes (mBART, mBART-50): that of the sources, such as en_XX [as in training; else what the tokenizer's files say]")
      ->type_name("CODE")
      ->group(kGroup);
  command.add_option("--target-language", languages.target, "That of the targets, in which they are written, too [the same]")->type_name("CODE")->group(kGroup);
}

inline void add_pair_options(CLI::App& command, PairColumns& columns, std::optional<std::string>& prefix, PairLanguages& languages, Index& max_target_length,
                             bool trains = true) {
  command.add_option("--source-column", columns.source, "Column with the source texts [source, input, document, text or the like, if there is one of them]")
      ->type_name("NAME")
      ->group("Encoder-decoders");
  command.add_option("--target-column", columns.target, "Column with the targets [target, output, summary, label or the like, if there is one of them]")
      ->type_name("NAME")
      ->group("Encoder-decoders");
  add_source_options(command, prefix, languages, trains ? "that of a model or adapter which is trained further; else nothing" : "as in training");
  command
      .add_option("--max-target-length", max_target_length,
                  std::string("Tokens per target, the rest is cut off [") + (trains ? "" : "as in training; else ") + std::to_string(kTargetLength) + "]")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N")
      ->group("Encoder-decoders");
}

// What --task-prefix is: as in training where nobody says, which is printed. whose: of that training, " of FOLDER" or nothing.
inline std::string prefix_of(const std::optional<std::string>& given, const std::optional<TrainedPairs>& trained, const std::string& whose = "") {
  if (given) return *given;
  if (trained && !trained->prefix.empty()) std::cerr << "note: --task-prefix \"" << trained->prefix << "\", as in training" << whose << "\n";
  return trained ? trained->prefix : "";
}

// The same of --source-language and --target-language.
inline PairLanguages languages_of(PairLanguages given, const std::optional<TrainedPairs>& trained, const std::string& whose = "") {
  const auto take = [&](std::string& code_io, const std::string& of_training, const char* option) {
    if (!code_io.empty() || of_training.empty()) return;
    code_io = of_training;
    std::cerr << "note: " << option << " " << code_io << ", as in training" << whose << "\n";
  };
  if (trained) take(given.source, trained->languages.source, "--source-language");
  if (trained) take(given.target, trained->languages.target, "--target-language");
  return given;
}

}  // namespace deltatune::cli

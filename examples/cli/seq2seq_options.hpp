// The options of the commands that read sources and targets.
#pragma once

#include <CLI/CLI.hpp>
#include <iostream>
#include <optional>
#include <string>

#include "run_record.hpp"
#include "seq2seq_data.hpp"

namespace deltatune::cli {

inline void add_prefix_option(CLI::App& command, std::optional<std::string>& prefix, const std::string& otherwise) {
  command
      .add_option_function<std::string>(
          "--task-prefix", [&prefix](const std::string& text) { prefix = text; },
          "What stands in front of each source, such as \"summarize: \" [" + otherwise + "]")
      ->type_name("TEXT")
      ->group("Encoder-decoders");
}

inline void add_pair_options(CLI::App& command, PairColumns& columns, std::optional<std::string>& prefix, Index& max_target_length, bool trains = true) {
  command.add_option("--source-column", columns.source, "Column with the source texts [source, input, document, text or the like, if there is one of them]")
      ->type_name("NAME")
      ->group("Encoder-decoders");
  command.add_option("--target-column", columns.target, "Column with the targets [target, output, summary, label or the like, if there is one of them]")
      ->type_name("NAME")
      ->group("Encoder-decoders");
  add_prefix_option(command, prefix, trains ? "that of a model or adapter which is trained further; else nothing" : "as in training");
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

}  // namespace deltatune::cli

// Misspelt commands and options: what was probably meant.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <map>
#include <string>
#include <vector>

#include "deltatune/core/edit_distance.hpp"

namespace deltatune::cli {

// The known word that is meant by `word`, or "".
inline std::string nearest(std::string word, const std::vector<std::string>& known) {
  // What other programs call it.
  static const std::map<std::string, std::string> kSynonyms{{"lr", "learning-rate"},
                                                            {"bs", "batch-size"},
                                                            {"batch", "batch-size"},
                                                            {"wd", "weight-decay"},
                                                            {"r", "rank"},
                                                            {"lora-r", "rank"},
                                                            {"lora-rank", "rank"},
                                                            {"lora-alpha", "alpha"},
                                                            {"lora-dropout", "dropout"},
                                                            {"num-epochs", "epochs"},
                                                            {"num-train-epochs", "epochs"},
                                                            {"max-steps", "steps"},
                                                            {"max-len", "max-length"},
                                                            {"max-seq-length", "max-length"},
                                                            {"output", "out"},
                                                            {"output-dir", "out"},
                                                            {"train-data", "data"},
                                                            {"dataset", "data"},
                                                            {"train-file", "data"},
                                                            {"validation-file", "eval-data"},
                                                            {"base-model", "model"},
                                                            {"model-name-or-path", "model"},
                                                            {"checkpoint", "model"},
                                                            {"peft", "adapter"},
                                                            {"gradient-accumulation-steps", "accumulate"},
                                                            {"target-modules", "targets"},
                                                            {"grad-clip", "max-gradient-norm"},
                                                            {"max-grad-norm", "max-gradient-norm"},
                                                            {"warmup", "warmup-ratio"},
                                                            {"scheduler", "schedule"},
                                                            {"max-tokens", "max-new-tokens"},
                                                            {"eval", "evaluate"},
                                                            {"test", "evaluate"},
                                                            {"infer", "predict"},
                                                            {"finetune", "train"},
                                                            {"fine-tune", "train"}};
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return c == '_' ? '-' : static_cast<char>(std::tolower(c)); });
  const auto is_known = [&](const std::string& name) { return std::find(known.begin(), known.end(), name) != known.end(); };
  if (is_known(word)) return word;
  if (const auto synonym = kSynonyms.find(word); synonym != kSynonyms.end() && is_known(synonym->second)) return synonym->second;
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string& name : known) {
    const std::size_t distance = word.size() > 3 && name.starts_with(word) ? 1 : edit_distance(word, name);
    if (distance >= best_distance) continue;
    best = name;
    best_distance = distance;
  }
  return best;
}

// Of the first argument that is no command, or no option of its command: what it is, and what may have been meant. "": there is none.
inline std::string unknown_argument(CLI::App& app, const std::vector<std::string>& arguments) {
  std::vector<std::string> commands;
  for (const CLI::App* const command : app.get_subcommands({})) commands.push_back(command->get_name());
  if (arguments.empty()) return "";
  const auto help = [](const std::string& command) { return "; 'deltatune " + (command.empty() ? "" : command + " ") + "--help' lists all"; };
  const auto meant = [](const std::string& prefix, const std::string& name) { return name.empty() ? "" : " (did you mean " + prefix + name + "?)"; };
  const auto given = std::find_if(arguments.begin(), arguments.end(), [](const std::string& argument) { return !argument.starts_with('-'); });
  if (given == arguments.end() || given != arguments.begin()) return "";
  if (std::find(commands.begin(), commands.end(), *given) == commands.end())
    return *given + ": unknown command" + meant("", nearest(*given, commands)) + help("");
  std::vector<std::string> options;
  for (const CLI::Option* const option : app.get_subcommand(*given)->get_options())
    for (const std::string& name : option->get_lnames()) options.push_back(name);
  for (const std::string& argument : arguments) {
    const std::size_t begin = argument.find_first_not_of('-');
    if (argument == "--") break;
    if (begin == 0 || begin == std::string::npos || argument == "-h" || !std::isalpha(static_cast<unsigned char>(argument[begin]))) continue;
    const std::string name = argument.substr(begin, argument.find('=') - begin);
    if (begin == 2 && std::find(options.begin(), options.end(), name) != options.end()) continue;
    return *given + ": unknown option " + argument.substr(0, argument.find('=')) + meant("--", nearest(name, options)) + help(*given);
  }
  return "";
}

}  // namespace deltatune::cli

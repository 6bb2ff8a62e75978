// How the commands that write text choose its tokens: their options, and the settings that come of them.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/model/generation_file.hpp"
#include "report.hpp"
#include "text_data.hpp"

namespace deltatune::cli {

struct GenerationOptions {
  GenerationConfig config;  // what holds where neither the command line nor, with --model-defaults, the model says otherwise
  std::vector<std::string> stop_strings;
  std::optional<Index> max_new_tokens, min_new_tokens, top_k, no_repeat_ngram_size, num_beams;
  std::optional<double> temperature, top_p, min_p, repetition_penalty, length_penalty;
  std::optional<std::string> early_stopping;
  bool model_defaults = false;
};

// text: what one of them is called in the help, "text" or "answer".
inline void add_generation_options(CLI::App& command, GenerationOptions& options, const std::string& text) {
  GenerationOptions& o = options;
  command.add_option("--max-new-tokens", o.max_new_tokens, "Tokens at most [" + std::to_string(o.config.max_new_tokens) + "]")->check(CLI::PositiveNumber);
  command.add_option("--temperature", o.temperature, "0: always the likeliest token [0]")->check(CLI::NonNegativeNumber);
  command.add_option("--top-k", o.top_k, "Draw from so many likeliest tokens; 0: from all [0]")->check(CLI::NonNegativeNumber);
  command.add_option("--top-p", o.top_p, "Draw from the likeliest tokens that have this probability together [1]")->check(CLI::Range(0.0, 1.0));
  command.add_option("--min-p", o.min_p, "Draw from tokens at least so likely, as a share of the likeliest one's probability [0]")->check(CLI::Range(0.0, 1.0));
  command.add_option("--repetition-penalty", o.repetition_penalty, "Above 1: tokens of prompt and " + text + " are less likely [1]")
      ->check(CLI::PositiveNumber);
  command.add_option("--no-repeat-ngram-size", o.no_repeat_ngram_size, "No so many tokens in a row come twice; 0: any may [0]")->check(CLI::NonNegativeNumber);
  command.add_option("--min-new-tokens", o.min_new_tokens, "Tokens at least [0]")->check(CLI::NonNegativeNumber);
  if (text != "answer") {  // a conversation is shown as it is written
    command.add_option("--num-beams", o.num_beams, "Above 1: beam search, at temperature 0 [1]")->check(CLI::Range(1, 1024));
    command.add_option("--length-penalty", o.length_penalty, "Of beam search: above 0 longer texts are likelier [1]");
    command.add_option("--early-stopping", o.early_stopping, "Of beam search: end when there are as many texts as beams [no]")
        ->check(CLI::IsMember({"no", "yes", "never"}));
  }
  command.add_option("--seed", o.config.seed, "Of the first " + text + "'s draws; the next has the next seed")->capture_default_str();
  const std::string article = text.starts_with('a') ? "an " : "a ";
  command.add_option("--stop", o.stop_strings, "End " + article + text + " with the token that completes this string; several times for several")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  command.add_flag("--model-defaults", o.model_defaults,
                   "Take what the model's generation_config.json advises for all that is not given here; without it, only its end-of-text tokens");
}

// What the texts are made with: the model's own advice where it is asked for, and over it what the command line says. Takes the model's stop strings into the
// options where those have none.
inline GenerationConfig generation_settings(GenerationOptions& options_io, const std::filesystem::path& model) {
  GenerationConfig config = options_io.config;
  config.end_ids = end_ids_of(model);
  if (options_io.model_defaults) {
    GenerationFile file = read_generation_config(model, config);
    config = std::move(file.config);
    if (options_io.stop_strings.empty()) options_io.stop_strings = std::move(file.stop_strings);
    if (!file.ignored.empty()) print({(model / "generation_config.json").string() + ": not followed: " + joined(file.ignored)});
  }
  config.max_new_tokens = options_io.max_new_tokens.value_or(config.max_new_tokens);
  config.temperature = options_io.temperature.value_or(config.temperature);
  config.top_k = options_io.top_k.value_or(config.top_k);
  config.top_p = options_io.top_p.value_or(config.top_p);
  config.min_p = options_io.min_p.value_or(config.min_p);
  config.repetition_penalty = options_io.repetition_penalty.value_or(config.repetition_penalty);
  config.min_new_tokens = options_io.min_new_tokens.value_or(config.min_new_tokens);
  config.no_repeat_ngram_size = options_io.no_repeat_ngram_size.value_or(config.no_repeat_ngram_size);
  config.num_beams = options_io.num_beams.value_or(config.num_beams);
  config.length_penalty = options_io.length_penalty.value_or(config.length_penalty);
  if (options_io.early_stopping)
    config.early_stopping = *options_io.early_stopping == "yes"     ? EarlyStopping::yes
                            : *options_io.early_stopping == "never" ? EarlyStopping::never
                                                                    : EarlyStopping::no;
  if (config.num_beams == 1 && (options_io.length_penalty || options_io.early_stopping))
    print({"there is no beam search, and --length-penalty and --early-stopping change nothing: give --num-beams"});
  if (config.temperature == 0 && (options_io.top_k || options_io.top_p || options_io.min_p))
    print({"nothing is drawn at temperature 0, and --top-k, --top-p and --min-p change nothing: give --temperature"});
  return config;
}

}  // namespace deltatune::cli

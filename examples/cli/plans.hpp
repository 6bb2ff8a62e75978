// --method and the options of the methods: from names and numbers to plans.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "deltatune/attach/any_plan.hpp"
#include "deltatune/delta/selections.hpp"

namespace deltatune::cli {

// Empty: not given, the method's own default.
struct MethodOptions {
  std::string method = "lora";  // several joined by "+"
  std::optional<Index> rank, target_rank, tinit, tfinal, delta_t, virtual_tokens, encoder_hidden, prune_at, last_layers;
  std::optional<double> alpha, dropout, reduction_factor, scaling, density, penalty, lora_plus_ratio, orthogonal_penalty, d_initial;
  std::optional<std::string> targets, exclude, bias, modules_to_save, init, non_linearity, encoder, prompt_init, prompt_text;
  std::vector<Index> layers, leave_out;
  std::vector<std::string> rank_pattern, alpha_pattern;
  bool rank_stabilized = false, structured = false;
  std::map<std::string, std::string> given = {};  // "--rank": "4", as the command line has it
};

// The model's tokenizer. special_tokens: with those that it puts around a text (BERT's [CLS] and [SEP]).
struct TextEncoder {
  std::string folder;  // where it is read from
  std::function<std::vector<std::int32_t>(const std::string& text, bool special_tokens)> encode;
};

void add_method_options(CLI::App& command, MethodOptions& options);

// The plans of the methods, in their order. labels: names of the classes. Throws Error for an unknown method, and for an option that none of the
// methods uses.
std::vector<AnyPlan> plans_of(const MethodOptions& options, const ModelFamily& family, const std::vector<std::string>& labels, const TextEncoder& tokenizer);

// Positions of the model that prefixes and prompts take.
Index positions_taken(const MethodOptions& options);

std::vector<std::string> split(const std::string& list, char separator = ',');

}  // namespace deltatune::cli

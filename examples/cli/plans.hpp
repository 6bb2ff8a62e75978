// --method and the options of the methods: from names and numbers to plans. Which options there are, and their help, the methods say
// themselves (deltatune/attach/setting.hpp).
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

struct MethodOptions {
  std::string method = "lora";                                  // several joined by "+"
  std::map<std::string, std::vector<std::string>> values = {};  // "--layers": "0", "1"; what is not given has the method's own default
  std::map<std::string, bool> flags = {};                       // what the command line binds to them
  std::optional<double> lora_plus_ratio;

  // What was given, as one text: "0,1"; empty: nothing.
  std::string text(const std::string& option) const;
  std::map<std::string, std::string> given() const;
};

// The model's tokenizer. special_tokens: with those that it puts around a text (BERT's [CLS] and [SEP]).
struct TextEncoder {
  std::string folder;  // where it is read from
  std::function<std::vector<std::int32_t>(const std::string& text, bool special_tokens)> encode;
};

void add_method_options(CLI::App& command, MethodOptions& options);

// The plans of the methods, in their order, before they know of model and texts. Throws Error for an unknown method, and for an option that none of the
// methods uses.
std::vector<AnyPlan> plans_of(const MethodOptions& options);

// The same for a model. labels: names of the classes.
std::vector<AnyPlan> plans_of(const MethodOptions& options, const ModelFamily& family, const std::vector<std::string>& labels, const TextEncoder& tokenizer);

// Positions of the model that prefixes and prompts take.
Index positions_taken(const MethodOptions& options);

// A whole number of the command line, as its parser reads it. Throws Error for one that is out of range.
Index whole_number(const std::string& text, const std::string& option);

std::vector<std::string> split(const std::string& list, char separator = ',');

}  // namespace deltatune::cli

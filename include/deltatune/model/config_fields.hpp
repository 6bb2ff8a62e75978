// Fields that the config.json of every model family has, read with checks.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/ops/activation.hpp"

namespace deltatune::detail {

DELTATUNE_FUNCTION void check_model_type(const JsonConfig& json, const std::string& expected) {
  const std::string type = json.get<std::string>("model_type");
  if (type != expected) throw Error(json.name() + ": model_type", "unknown architecture", {.expected = "\"" + expected + "\"", .got = "\"" + type + "\""});
}

DELTATUNE_FUNCTION Index config_size(const JsonConfig& json, const char* key) {
  const Index value = json.get<std::int64_t>(key);
  if (value < 1) throw Error(json.name() + ": " + key, "not a size", {.expected = "at least 1", .got = std::to_string(value)});
  return value;
}

DELTATUNE_FUNCTION double config_dropout(const JsonConfig& json, const char* key, double fallback) {
  const double value = json.get_or<double>(key, fallback);
  if (!(value >= 0.0 && value < 1.0))
    throw Error(json.name() + ": " + key, "not a dropout probability", {.expected = "0 <= p < 1", .got = std::to_string(value)});
  return value;
}

DELTATUNE_FUNCTION ops::Activation config_activation(const JsonConfig& json, const char* key, const std::string& fallback) {
  const std::string name = json.get_or<std::string>(key, fallback);
  static const std::map<std::string, ops::Activation> kActivations{{"gelu", ops::Activation::gelu},
                                                                   {"gelu_new", ops::Activation::gelu_new},
                                                                   {"gelu_pytorch_tanh", ops::Activation::gelu_new},
                                                                   {"relu", ops::Activation::relu}};
  if (!kActivations.contains(name))
    throw Error(json.name() + ": " + key, "unknown activation", {.expected = "gelu, gelu_new or relu", .got = "\"" + name + "\""});
  return kActivations.at(name);
}

DELTATUNE_FUNCTION void check_heads(const JsonConfig& json, const char* width_key, Index width, const char* heads_key, Index heads) {
  if (width % heads != 0)
    throw Error(json.name() + ": " + width_key, std::string("is not a multiple of ") + heads_key,
                {.expected = "a multiple of " + std::to_string(heads), .got = std::to_string(width)});
}

// Names of the classes, by number.
DELTATUNE_FUNCTION std::vector<std::string> config_labels(const JsonConfig& json) {
  std::vector<std::string> labels;
  if (!json.has("id2label")) return labels;
  const JsonConfig names = json.object("id2label");
  for (Index id = 0; names.has(std::to_string(id)); ++id) labels.push_back(names.get<std::string>(std::to_string(id)));
  return labels;
}

}  // namespace deltatune::detail

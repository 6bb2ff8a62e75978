// Fields that the config.json of every model family has, read with checks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/ops/activation.hpp"
#include "deltatune/seam/architecture.hpp"

namespace deltatune::detail {

DELTATUNE_FUNCTION Index config_size(const JsonConfig& json, const char* key, Index least = 1) {
  const Index value = json.get<std::int64_t>(key);
  if (value < least) throw Error(json.name() + ": " + key, "not a size", {.expected = "at least " + std::to_string(least), .got = std::to_string(value)});
  return value;
}

// The same of a field that a file may leave out.
DELTATUNE_FUNCTION Index config_size_or(const JsonConfig& json, const char* key, Index absent) { return json.has(key) ? config_size(json, key) : absent; }

// A number that null turns off: then 0; `absent` where the file does not say.
DELTATUNE_FUNCTION double config_or_off(const JsonConfig& json, const char* key, double absent) {
  return json.raw().contains(key) ? json.get_or<double>(key, 0.0) : absent;
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
                                                                   {"relu", ops::Activation::relu},
                                                                   {"silu", ops::Activation::silu}};
  if (!kActivations.contains(name))
    throw Error(json.name() + ": " + key, "unknown activation", {.expected = "gelu, gelu_new, relu or silu", .got = "\"" + name + "\""});
  return kActivations.at(name);
}

// Tokens that a field names: a number, or a list of them; none where it is absent.
DELTATUNE_FUNCTION std::vector<std::int32_t> config_tokens(const JsonConfig& json, const char* key) {
  std::vector<std::int32_t> tokens;
  if (!json.has(key)) return tokens;
  const std::vector<std::int64_t> ids =
      json.raw().at(key).is_array() ? json.get<std::vector<std::int64_t>>(key) : std::vector<std::int64_t>{json.get<std::int64_t>(key)};
  for (const std::int64_t id : ids) {
    if (id < -1 || id > std::numeric_limits<std::int32_t>::max())
      throw Error(json.name() + ": " + key, "is not the number of a token", {.got = std::to_string(id)});
    tokens.push_back(static_cast<std::int32_t>(id));
  }
  return tokens;
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

// Throws Error for a field that is set to something else.
template <class T>
void check_absent_or(const JsonConfig& json, const char* key, const T& value) {
  if (json.get_or<T>(key, value) == value) return;
  const auto text = [](const T& field) {
    if constexpr (std::is_same_v<T, bool>)
      return std::string(field ? "true" : "false");
    else
      return "\"" + field + "\"";
  };
  throw Error(json.name() + ": " + key, "is not supported", {.expected = text(value), .got = text(json.get<T>(key))});
}

// A word of a list, the first by default.
DELTATUNE_FUNCTION std::string one_of(const JsonConfig& json, const char* key, const std::vector<std::string>& words) {
  const std::string word = json.get_or<std::string>(key, words.front());
  if (std::find(words.begin(), words.end(), word) != words.end()) return word;
  std::string known;
  for (const std::string& each : words) known += (known.empty() ? "" : " or ") + each;
  throw Error(json.name() + ": " + key, "is not supported", {.expected = known, .got = "\"" + word + "\""});
}

// Which layers see whole sequences: by layer_types, else the layers l with l % every_key == first.
DELTATUNE_FUNCTION std::vector<bool> full_attention_layers(const JsonConfig& json, Index layers, const char* every_key, Index fallback, Index first) {
  std::vector<bool> full;
  if (json.has("layer_types")) {
    for (const std::string& type : json.get<std::vector<std::string>>("layer_types")) {
      if (type != "full_attention" && type != "sliding_attention")
        throw Error(json.name() + ": layer_types", "unknown kind of layer", {.expected = "full_attention or sliding_attention", .got = "\"" + type + "\""});
      full.push_back(type == "full_attention");
    }
    if (static_cast<Index>(full.size()) != layers)
      throw Error(json.name() + ": layer_types", "needs one kind per layer", {.expected = std::to_string(layers), .got = std::to_string(full.size())});
    return full;
  }
  const Index every = json.has(every_key) ? config_size(json, every_key) : fallback;
  for (Index l = 0; l < layers; ++l) full.push_back(l % every == first);
  return full;
}

// The base of the rotary frequencies of one kind of layer: in rope_parameters (transformers 5), else under a key of its own. Throws Error for a kind of
// rotary embedding that is not the default.
DELTATUNE_FUNCTION double rope_theta(const JsonConfig& json, const char* layer_type, const char* key, double fallback) {
  const auto check_default = [](const JsonConfig& rope) {
    const std::string type = rope.get_or<std::string>("rope_type", rope.get_or<std::string>("type", "default"));
    if (type != "default") throw Error(rope.name() + ": rope_type", "is not supported", {.expected = "default", .got = "\"" + type + "\""});
  };
  if (json.has("rope_scaling")) check_default(json.object("rope_scaling"));
  const double own = json.get_or<double>(key, fallback);
  if (!json.has("rope_parameters") || !json.object("rope_parameters").has(layer_type)) return own;
  const JsonConfig rope = json.object("rope_parameters").object(layer_type);
  check_default(rope);
  return rope.get_or<double>("rope_theta", own);
}

}  // namespace deltatune::detail

namespace deltatune::family {

// The head of a classifier with a decoder: dropout, dense, tanh, dropout, out_proj, of the row of the text's last end-of-text token.
DELTATUNE_FUNCTION void add_decoder_classifier(const JsonConfig& json, HeadSpec& head_io) {
  head_io.pool = HeadSpec::Pool::last_end;
  head_io.dense = "classification_head.dense";
  head_io.classifier = "classification_head.out_proj";
  head_io.dropout = detail::config_dropout(json, "classifier_dropout", 0);
  head_io.drops_pooled = true;
}

// What every config.json has under the same names.
DELTATUNE_FUNCTION Architecture described(const JsonConfig& json, const std::string& title, const std::string& class_name, const std::string& prefix) {
  Architecture a;
  a.family = json.get<std::string>("model_type");
  a.title = title;
  a.class_name = class_name;
  a.prefix = prefix;
  a.vocab_size = detail::config_size(json, "vocab_size");
  a.pad_id = json.get_or<std::int64_t>("pad_token_id", -1);
  a.eos_ids = detail::config_tokens(json, "eos_token_id");
  a.initializer_range = json.get_or<double>("initializer_range", 0.02);
  a.labels = detail::config_labels(json);
  return a;
}

inline std::vector<LayerSpec> repeated(const LayerSpec& layer, Index count) { return std::vector<LayerSpec>(static_cast<std::size_t>(count), layer); }

}  // namespace deltatune::family

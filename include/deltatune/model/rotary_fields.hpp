// Rotary position embeddings as config.json describes them: under rope_theta and rope_scaling (transformers 4), or rope_parameters (5), which may hold one
// object per kind of layer. Frequencies and magnitudes: transformers' modeling_rope_utils; YaRN: Peng et al. 2023, arXiv 2309.00071; LongRoPE: Ding et al.
// 2024, arXiv 2402.13753.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/model/config_fields.hpp"
#include "deltatune/ops/rotary.hpp"
#include "deltatune/seam/architecture.hpp"

namespace deltatune::detail {

// What one kind of layer has: all fields that the kinds of scaling read.
struct RotaryFields {
  JsonConfig json, scaling;  // scaling: empty where there is none
  RotarySpec spec;

  double number(const char* key) const { return scaling.get<double>(key); }
  // The positions of the pretraining, of which a scaling makes more.
  double original_positions() const {
    for (const JsonConfig* const from : {&scaling, &json})
      if (from->has("original_max_position_embeddings")) return static_cast<double>(config_size(*from, "original_max_position_embeddings"));
    return static_cast<double>(config_size(json, "max_position_embeddings"));
  }
};

// Llama 3.1: long waves are slower by the factor, short ones stay, those between are interpolated.
DELTATUNE_FUNCTION void scale_llama3(RotaryFields& fields_io) {
  const double factor = fields_io.number("factor"), low = fields_io.number("low_freq_factor"), high = fields_io.number("high_freq_factor");
  const double original = fields_io.original_positions();
  for (const float frequency : rotary_frequencies(fields_io.spec.theta, fields_io.spec.width)) {
    const double wave = 2 * std::numbers::pi / static_cast<double>(frequency);
    const double share = (original / wave - low) / (high - low);
    fields_io.spec.frequency_scale.push_back(wave < original / high ? 1.0 : wave > original / low ? 1 / factor : (1 - share) / factor + share);
  }
}

DELTATUNE_FUNCTION void scale_yarn(RotaryFields& fields_io) {
  const JsonConfig& json = fields_io.scaling;
  const double factor = fields_io.number("factor"), width = static_cast<double>(fields_io.spec.width), original = fields_io.original_positions();
  const auto magnitude = [](double scale, double m) { return scale <= 1 ? 1.0 : 0.1 * m * std::log(scale) + 1.0; };
  const double one = json.get_or<double>("mscale", 0), all = json.get_or<double>("mscale_all_dim", 0);
  const double own = one != 0 && all != 0 ? magnitude(factor, one) / magnitude(factor, all) : magnitude(factor, 1);
  fields_io.spec.magnitude = json.get_or<double>("attention_factor", own);
  // The column whose wave turns so often within the original positions.
  const auto column = [&](double turns) { return width * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(fields_io.spec.theta)); };
  double first = column(json.get_or<double>("beta_fast", 32)), last = column(json.get_or<double>("beta_slow", 1));
  if (json.get_or<bool>("truncate", true)) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, width - 1);
  if (first == last) last += 0.001;
  for (Index i = 0; i < fields_io.spec.width / 2; ++i) {
    const double slow = std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
    fields_io.spec.frequency_scale.push_back(slow / factor + (1 - slow));
  }
}

DELTATUNE_FUNCTION void scale_longrope(RotaryFields& fields_io) {
  const JsonConfig& json = fields_io.scaling;
  const double original = fields_io.original_positions();
  const double positions = static_cast<double>(config_size(fields_io.json, "max_position_embeddings"));
  const bool has_original = json.has("original_max_position_embeddings") || fields_io.json.has("original_max_position_embeddings");
  const double factor = has_original ? positions / original : json.get_or<double>("factor", 1);
  fields_io.spec.magnitude = json.get_or<double>("attention_factor", factor <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(original)));
  fields_io.spec.long_from = static_cast<Index>(original);
  const auto inverse_of = [&](const char* key) {
    std::vector<double> scale = json.get<std::vector<double>>(key);
    if (static_cast<Index>(scale.size()) != fields_io.spec.width / 2)
      throw Error(json.name() + ": " + key, "needs one factor per frequency",
                  {.expected = std::to_string(fields_io.spec.width / 2), .got = std::to_string(scale.size())});
    for (double& x : scale) x = 1 / x;
    return scale;
  };
  fields_io.spec.frequency_scale = inverse_of("short_factor");
  fields_io.spec.long_frequency_scale = inverse_of("long_factor");
}

struct RotaryKind {
  const char* layer_type = "";           // in rope_parameters, where that holds one object per kind of layer
  const char* theta_key = "rope_theta";  // without rope_parameters
  double theta = 10000;                  // without either
  bool scaled = true;                    // whether rope_scaling is of this kind, too
};

// The rotary embedding of heads of so many columns. Throws Error for a kind of scaling that is not known, "dynamic" among them: there the angles of a batch
// depend on those before it.
DELTATUNE_FUNCTION RotarySpec rotary_of(const JsonConfig& json, Index head_width, const RotaryKind& kind = {}) {
  RotaryFields fields{json, JsonConfig::of(nlohmann::json::object(), json.name()), {}};
  const char* const holder = json.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const bool per_kind = json.has(holder) && *kind.layer_type != '\0' && json.object(holder).has(kind.layer_type);
  if (per_kind) {
    fields.scaling = json.object(holder).object(kind.layer_type);
  } else if (json.has(holder) && kind.scaled) {
    fields.scaling = json.object(holder);
  }
  fields.spec.theta = fields.scaling.get_or<double>("rope_theta", json.get_or<double>(kind.theta_key, kind.theta));
  const double part = fields.scaling.get_or<double>("partial_rotary_factor", json.get_or<double>("partial_rotary_factor", 1.0));
  fields.spec.width = static_cast<Index>(static_cast<double>(head_width) * part);
  const std::string type = fields.scaling.get_or<std::string>("rope_type", fields.scaling.get_or<std::string>("type", "default"));
  const std::string where = fields.scaling.name() + ": rope_type";
  if (type == "linear") {
    fields.spec.frequency_scale.assign(static_cast<std::size_t>(fields.spec.width / 2), 1 / fields.number("factor"));
  } else if (type == "llama3") {
    scale_llama3(fields);
  } else if (type == "yarn") {
    scale_yarn(fields);
  } else if (type == "longrope" || type == "su") {  // su: an old name
    scale_longrope(fields);
  } else if (type == "dynamic") {
    throw Error(where, "is not supported: the angles of a batch would depend on the batches before it",
                {.expected = "default, linear, llama3, yarn or longrope",
                 .got = "\"dynamic\"",
                 .remedy = "write \"linear\" or \"yarn\" there, if the model was tuned with it"});
  } else if (type != "default") {
    throw Error(where, "is not supported", {.expected = "default, linear, llama3, yarn or longrope", .got = "\"" + type + "\""});
  }
  return fields.spec;
}

}  // namespace deltatune::detail

// AdapterHub's adapter_config.json: plans read from it and written.
#pragma once

#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/plan_json.hpp"
#include "deltatune/attach/read_pattern.hpp"
#include "deltatune/attach/union_plan.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/io/json_config.hpp"

namespace deltatune {

namespace detail {

inline constexpr const char* kAdapterHubVersion = "adapters.1.3.0";  // whose meaning of all settings is written

DELTATUNE_FUNCTION void read_activation(const JsonConfig& json, bool of_first_version, ops::Activation& activation) {
  std::string name = json.get<std::string>("non_linearity");
  for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  // Its first version called the approximation "gelu".
  if (of_first_version && name == "gelu") name = "gelu_new";
  if (of_first_version && name == "gelu_orig") name = "gelu";
  activation_choice(activation).set(name, json.name() + ": non_linearity");
}

// A key that may hold one of several words.
DELTATUNE_FUNCTION std::string one_of(const JsonConfig& json, const char* key, const std::string& fallback, const std::vector<std::string>& words) {
  const std::string word = json.get_or<std::string>(key, fallback);
  std::string all;
  for (const std::string& known : words) {
    if (known == word) return word;
    all += (all.empty() ? "" : ", ") + known;
  }
  throw Error(json.name() + ": " + key, "unknown value", {.expected = all, .got = "\"" + word + "\""});
}
DELTATUNE_FUNCTION BottleneckPlan read_bottleneck(const JsonConfig& json, bool of_first_version) {
  using C = BottleneckConfig;
  if (json.has("inv_adapter")) throw Error(json.name() + ": inv_adapter", "invertible adapters are not supported", {.expected = "null"});
  for (const char* const key : {"mh_adapter", "output_adapter"}) static_cast<void>(json.get<bool>(key));
  BottleneckPlan plan;
  C& adapter = plan.adapter;
  if (json.get_or<bool>("phm_layer", false)) adapter.phm = PhmConfig{};
  read_settings(json, plan.settings(), false, false);
  read_activation(json, of_first_version, adapter.activation);
  if (json.has("reduction_factor") && json.raw().at("reduction_factor").is_object()) {
    const JsonConfig factors = json.object("reduction_factor");
    plan.reduction.factor = factors.get_or<double>("default", 0);
    for (const auto& [layer, unused] : factors.raw().items()) {
      if (layer == "default") continue;
      if (layer.empty() || layer.size() > 6 || layer.find_first_not_of("0123456789") != std::string::npos)
        throw Error(factors.name(), "\"" + layer + "\" is not the number of a layer", {.expected = "numbers, and \"default\""});
      plan.reduction.by_layer[std::stoll(layer)] = factors.get<double>(layer);
    }
  } else {
    plan.reduction.factor = json.get<double>("reduction_factor");
  }
  if (json.has("residual_before_ln") && json.raw().at("residual_before_ln").is_string()) {
    one_of(json, "residual_before_ln", "", {"post_add"});
    adapter.residual = C::Residual::post_add;
  } else if (!json.get_or<bool>("residual_before_ln", true) && adapter.original_ln_before) {
    adapter.residual = C::Residual::after_ln;  // without original_ln_before there is nothing between the two
  }
  if (json.has("scaling") && json.raw().at("scaling").is_string()) {
    adapter.scaling = one_of(json, "scaling", "", {"learned", "channel"}) == "learned" ? C::Scaling::learned : C::Scaling::channel;
  } else {
    adapter.scale = json.get_or<double>("scaling", 1.0);
  }
  return plan;
}

DELTATUNE_FUNCTION nlohmann::json to_json(const BottleneckPlan& plan) {
  using C = BottleneckConfig;
  BottleneckPlan written = plan;
  PhmConfig phm;  // where there are no PHM layers, its defaults are written
  nlohmann::json json;
  write_settings(json, phm_settings(phm), {}, false);
  write_settings(json, written.settings(), {}, false);
  const C& adapter = plan.adapter;
  nlohmann::json& reduction = json["reduction_factor"];
  reduction = whole_if_possible(plan.reduction.factor);
  if (!plan.reduction.by_layer.empty()) {
    reduction = nlohmann::json::object();
    if (plan.reduction.factor != 0) reduction["default"] = whole_if_possible(plan.reduction.factor);
    for (const auto& [layer, factor] : plan.reduction.by_layer) reduction[std::to_string(layer)] = whole_if_possible(factor);
  }
  json["residual_before_ln"] = adapter.residual == C::Residual::before_ln;
  if (adapter.residual == C::Residual::post_add) json["residual_before_ln"] = "post_add";
  json["scaling"] = adapter.scale;
  if (adapter.scaling != C::Scaling::constant) json["scaling"] = adapter.scaling == C::Scaling::learned ? "learned" : "channel";
  json.update({{"non_linearity", activation_choice(written.adapter.activation).word()},
               {"phm_layer", adapter.phm.has_value()},
               {"hypercomplex_nonlinearity", "glorot-uniform"},
               {"init_weights_seed", nullptr},
               {"inv_adapter", nullptr},
               {"inv_adapter_reduction_factor", nullptr}});
  return json;
}

DELTATUNE_FUNCTION AdapterHubLoraPlan read_adapterhub_lora(const JsonConfig& json, bool ignores_alpha) {
  using Kind = AdapterHubLoraPlan::Kind;
  for (const char* key : {"vera_d", "vera_b"})
    if (json.has(key)) throw Error(json.name() + ": " + key, "AdapterHub's VeRA is not supported", {.expected = "null", .remedy = "use PEFT's VeRA"});
  AdapterHubLoraPlan plan;
  read_settings(json, plan.settings(), false, false);
  if (ignores_alpha) plan.lora.alpha = static_cast<double>(plan.lora.rank);
  plan.normal_start = one_of(json, "init_weights", "lora", {"lora", "bert", "ia3"}) == "bert";
  plan.attention.clear();
  if (json.get_or<bool>("selfattn_lora", true))
    for (const std::string& matrix : json.get_or<std::vector<std::string>>("attn_matrices", {"q", "v"})) {
      if (matrix != "q" && matrix != "k" && matrix != "v")
        throw Error(json.name() + ": attn_matrices", "unknown value", {.expected = "q, k and v", .got = "\"" + matrix + "\""});
      plan.attention += matrix;
    }
  if (json.get_or<bool>("use_dora", false)) plan.kind = Kind::dora;
  if (one_of(json, "composition_mode", "add", {"add", "scale"}) == "add") return plan;
  if (plan.kind == Kind::dora) throw Error(json.name() + ": use_dora", "does not go with the composition mode \"scale\"");
  if (plan.lora.rank != 1 || plan.lora.alpha != 1) throw Error(json.name() + ": r", "must be 1, and alpha, with the composition mode \"scale\"");
  plan.kind = Kind::ia3;
  return plan;
}
DELTATUNE_FUNCTION nlohmann::json to_json(const AdapterHubLoraPlan& plan) {
  using Kind = AdapterHubLoraPlan::Kind;
  nlohmann::json json, matrices = nlohmann::json::array();
  write_settings(json, AdapterHubLoraPlan(plan).settings(), {}, false);
  for (const char which : plan.attention) matrices.push_back(std::string(1, which));
  json.update({{"architecture", "lora"},
               {"selfattn_lora", !plan.attention.empty()},
               {"attn_matrices", matrices},
               {"composition_mode", plan.kind == Kind::ia3 ? "scale" : "add"},
               {"init_weights", plan.kind == Kind::ia3 ? "ia3"
                                : plan.normal_start    ? "bert"
                                                       : "lora"},
               {"init_weights_seed", nullptr},
               {"use_dora", plan.kind == Kind::dora},
               {"vera_d", nullptr},
               {"vera_b", nullptr},
               {"dtype", nullptr}});
  return json;
}

DELTATUNE_FUNCTION PrefixPlan read_adapterhub_prefix(const JsonConfig& json, bool of_first_version) {
  PrefixPlan plan = UnionPlan::adapterhub_prefix(json.get_or<std::int64_t>("prefix_length", 30));
  PrefixConfig& prefix = plan.prefix;
  prefix.hidden = json.get_or<bool>("flat", false) ? 0 : json.get_or<std::int64_t>("bottleneck_size", 512);
  if (json.has("non_linearity")) read_activation(json, of_first_version, prefix.activation);
  prefix.dropout = json.get_or<double>("dropout", 0);
  if (json.get_or<bool>("use_gating", false))
    prefix.gates = json.get_or<bool>("shared_gating", true) ? PrefixConfig::Gates::shared : PrefixConfig::Gates::separate;
  plan.leave_out = json.get_or<std::vector<std::int64_t>>("leave_out", {});
  plan.encoder_prefix = json.get_or<bool>("encoder_prefix", true);
  plan.cross_prefix = json.get_or<bool>("cross_prefix", true);
  return plan;
}
DELTATUNE_FUNCTION nlohmann::json to_json(const PrefixPlan& plan) {
  PrefixConfig prefix = plan.prefix;
  return {{"architecture", "prefix_tuning"},
          {"encoder_prefix", plan.encoder_prefix},
          {"cross_prefix", plan.cross_prefix},
          {"leave_out", plan.leave_out},
          {"flat", prefix.hidden == 0},
          {"prefix_length", prefix.rows},
          {"bottleneck_size", prefix.hidden == 0 ? 512 : prefix.hidden},
          {"non_linearity", activation_choice(prefix.activation).word()},
          {"dropout", prefix.dropout},
          {"use_gating", prefix.gates != PrefixConfig::Gates::none},
          {"shared_gating", prefix.gates != PrefixConfig::Gates::separate},
          {"init_weights_seed", nullptr}};
}

DELTATUNE_FUNCTION PromptPlan read_adapterhub_prompt(const JsonConfig& json) {
  PromptPlan plan = UnionPlan::adapterhub_prompt();
  plan.prompt.rows = json.get_or<std::int64_t>("prompt_length", 10);
  plan.prompt.after_first = one_of(json, "combine", "prefix", {"prefix", "prefix_after_bos"}) == "prefix_after_bos";
  one_of(json, "prompt_init", "random_uniform", {"random_uniform", "from_string"});
  plan.text = json.get_or<std::string>("prompt_init_text", "");
  return plan;
}
DELTATUNE_FUNCTION nlohmann::json to_json(const PromptPlan& plan) {
  return {{"architecture", "prompt_tuning"},
          {"prompt_length", plan.prompt.rows},
          {"prompt_init", plan.text.empty() ? "random_uniform" : "from_string"},
          {"prompt_init_text", plan.text.empty() ? nlohmann::json(nullptr) : nlohmann::json(plan.text)},
          {"combine", plan.prompt.after_first ? "prefix_after_bos" : "prefix"},
          {"init_weights_seed", nullptr}};
}

// The version of the library that a file is of.
struct AdapterHubVersion {
  bool first = false;          // before files said so
  bool ignores_alpha = false;  // before adapters 1.1.0

  DELTATUNE_FUNCTION static AdapterHubVersion of(const JsonConfig& json) {
    const std::string version = json.get_or<std::string>("version", "");
    int of_release = 0, within = 0;
    const bool known = std::sscanf(version.c_str(), "adapters.%d.%d", &of_release, &within) == 2;
    return {version.empty(), known && (of_release < 1 || (of_release == 1 && within < 1))};
  }
};

// Fields that say how an adapter was made, or that count only beside others.
DELTATUNE_FUNCTION const std::set<std::string, std::less<>>& adapterhub_fields_without_effect() {
  static const std::set<std::string, std::less<>> fields{"alpha",
                                                         "architecture",
                                                         "attn_matrices",
                                                         "bottleneck_size",
                                                         "config",
                                                         "config_id",
                                                         "dtype",
                                                         "factorized_phm_W",
                                                         "factorized_phm_rule",
                                                         "hidden_size",
                                                         "hypercomplex_nonlinearity",
                                                         "init_weights",
                                                         "init_weights_seed",
                                                         "inv_adapter_reduction_factor",
                                                         "learn_phm",
                                                         "model_class",
                                                         "model_name",
                                                         "model_type",
                                                         "name",
                                                         "non_linearity",
                                                         "phm_bias",
                                                         "phm_c_init",
                                                         "phm_dim",
                                                         "phm_init_range",
                                                         "phm_rank",
                                                         "prompt_init",
                                                         "prompt_init_text",
                                                         "random_uniform_scale",
                                                         "shared_W_phm",
                                                         "shared_gating",
                                                         "shared_phm_rule",
                                                         "type",
                                                         "version"};
  return fields;
}

DELTATUNE_FUNCTION UnionMember read_adapterhub_member(const JsonConfig& json, const AdapterHubVersion& version) {
  const std::string architecture = json.get_or<std::string>("architecture", "bottleneck");
  if (architecture == "bottleneck") return read_bottleneck(json, version.first);
  if (architecture == "lora") return read_adapterhub_lora(json, version.ignores_alpha);
  if (architecture == "prefix_tuning") return read_adapterhub_prefix(json, version.first);
  if (architecture == "prompt_tuning") return read_adapterhub_prompt(json);
  throw Error(json.name() + ": architecture", "is not supported",
              {.expected = "null (a bottleneck), lora, prefix_tuning, prompt_tuning or union", .got = "\"" + architecture + "\""});
}

}  // namespace detail

DELTATUNE_FUNCTION UnionPlan read_adapterhub_plan(const JsonConfig& json) {
  UnionPlan plan;
  plan.modules_to_save = {};
  plan.name_in_file = json.get<std::string>("name");
  if (json.raw().at("config").is_string()) {  // by its name
    plan.members = adapterhub_preset(json.get<std::string>("config")).members;
    return plan;
  }
  const JsonConfig config = json.object("config");
  const detail::AdapterHubVersion version = detail::AdapterHubVersion::of(json);
  plan.unread = json.unread(detail::adapterhub_fields_without_effect());
  const auto read = [&](const JsonConfig& member) {
    plan.members.push_back(detail::read_adapterhub_member(member, version));
    const std::vector<std::string> unread = member.unread(detail::adapterhub_fields_without_effect());
    plan.unread.insert(plan.unread.end(), unread.begin(), unread.end());
  };
  if (config.get_or<std::string>("architecture", "") != "union") {
    read(config);
    return plan;
  }
  const nlohmann::json& members = config.raw().contains("configs") ? config.raw().at("configs") : nlohmann::json();
  if (!members.is_array() || members.empty()) throw Error(config.name() + ": configs", "is not a list of configurations");
  for (std::size_t i = 0; i < members.size(); ++i) read(JsonConfig::parse(members[i].dump(), config.name() + ": configs[" + std::to_string(i) + "]"));
  return plan;
}

// Its "config".
DELTATUNE_FUNCTION nlohmann::json adapterhub_config_json(const UnionPlan& plan) {
  nlohmann::json all = nlohmann::json::array();
  for (const UnionMember& member : plan.members) all.push_back(std::visit([](const auto& method) { return detail::to_json(method); }, member));
  if (all.size() == 1) return all[0];
  return {{"architecture", "union"}, {"configs", all}};
}

}  // namespace deltatune

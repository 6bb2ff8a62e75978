// AdapterHub's adapter_config.json: the configuration of an adapter, read and written.
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

#include "deltatune/attach/adapterhub_plan.hpp"
#include "deltatune/attach/plan_json.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/io/json_config.hpp"

namespace deltatune {

namespace detail {

inline constexpr const char* kAdapterHubVersion = "adapters.1.3.0";  // whose meaning of all settings is written

using AdapterHubActivations = std::map<std::string, ops::Activation>;
// The first of several names that the library has for one function is the one that is written.
DELTATUNE_FUNCTION const std::vector<std::pair<std::string, ops::Activation>>& adapterhub_activations() {
  using ops::Activation;
  static const std::vector<std::pair<std::string, Activation>> names{{"relu", Activation::relu},
                                                                     {"gelu", Activation::gelu},
                                                                     {"gelu_python", Activation::gelu},
                                                                     {"gelu_new", Activation::gelu_new},
                                                                     {"gelu_fast", Activation::gelu_new},
                                                                     {"gelu_pytorch_tanh", Activation::gelu_new},
                                                                     {"quick_gelu", Activation::quick_gelu},
                                                                     {"swish", Activation::silu},
                                                                     {"silu", Activation::silu},
                                                                     {"tanh", Activation::tanh},
                                                                     {"leakyrelu", Activation::leaky_relu},
                                                                     {"leaky_relu", Activation::leaky_relu},
                                                                     {"sigmoid", Activation::sigmoid}};
  return names;
}

DELTATUNE_FUNCTION ops::Activation adapterhub_activation(const JsonConfig& json, bool of_first_version) {
  std::string name = json.get<std::string>("non_linearity");
  for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  // Its first version called the approximation "gelu".
  if (of_first_version && name == "gelu") return ops::Activation::gelu_new;
  if (of_first_version && name == "gelu_orig") return ops::Activation::gelu;
  std::string known;
  for (const auto& [other, activation] : adapterhub_activations()) {
    if (other == name) return activation;
    known += (known.empty() ? "" : ", ") + other;
  }
  throw Error(json.name() + ": non_linearity", "unknown activation", {.expected = known, .got = "\"" + name + "\""});
}
DELTATUNE_FUNCTION std::string activation_name(ops::Activation activation) {
  for (const auto& [name, other] : adapterhub_activations())
    if (other == activation) return name;
  return {};
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
inline std::vector<Index> read_leave_out(const JsonConfig& json) { return json.get_or<std::vector<std::int64_t>>("leave_out", {}); }

DELTATUNE_FUNCTION AdapterHubBottleneck read_bottleneck(const JsonConfig& json, bool of_first_version) {
  using C = BottleneckConfig;
  if (json.has("inv_adapter")) throw Error(json.name() + ": inv_adapter", "invertible adapters are not supported", {.expected = "null"});
  AdapterHubBottleneck method;
  C& adapter = method.adapter;
  method.after_attention = json.get<bool>("mh_adapter");
  method.after_feed_forward = json.get<bool>("output_adapter");
  method.leave_out = read_leave_out(json);
  if (json.has("reduction_factor") && json.raw().at("reduction_factor").is_object()) {
    const JsonConfig factors = json.object("reduction_factor");
    method.reduction.factor = factors.get_or<double>("default", 0);
    for (const auto& [layer, unused] : factors.raw().items()) {
      if (layer == "default") continue;
      if (layer.empty() || layer.size() > 6 || layer.find_first_not_of("0123456789") != std::string::npos)
        throw Error(factors.name(), "\"" + layer + "\" is not the number of a layer", {.expected = "numbers, and \"default\""});
      method.reduction.by_layer[std::stoll(layer)] = factors.get<double>(layer);
    }
  } else {
    method.reduction.factor = json.get<double>("reduction_factor");
  }
  adapter.activation = adapterhub_activation(json, of_first_version);
  adapter.parallel = json.get_or<bool>("is_parallel", false);
  adapter.original_ln_before = json.get_or<bool>("original_ln_before", false);
  adapter.original_ln_after = json.get_or<bool>("original_ln_after", true);
  adapter.ln_before = json.get_or<bool>("ln_before", false);
  adapter.ln_after = json.get_or<bool>("ln_after", false);
  if (json.has("residual_before_ln") && json.raw().at("residual_before_ln").is_string()) {
    one_of(json, "residual_before_ln", "", {"post_add"});
    adapter.residual = C::Residual::post_add;
  } else if (!json.get_or<bool>("residual_before_ln", true) && adapter.original_ln_before) {
    adapter.residual = C::Residual::after_ln;  // without original_ln_before there is nothing between the two
  }
  adapter.residual_before_ln_after = json.get_or<bool>("adapter_residual_before_ln", false);
  if (json.has("scaling") && json.raw().at("scaling").is_string()) {
    adapter.scaling = one_of(json, "scaling", "", {"learned", "channel"}) == "learned" ? C::Scaling::learned : C::Scaling::channel;
  } else {
    adapter.scale = json.get_or<double>("scaling", 1.0);
  }
  adapter.gated = json.get_or<bool>("use_gating", false);
  adapter.dropout = json.get_or<double>("dropout", 0);
  adapter.stochastic_depth = json.get_or<double>("stochastic_depth", 0);
  const std::string start = one_of(json, "init_weights", "bert", {"bert", "mam_adapter", "houlsby"});
  adapter.start = start == "bert" ? C::Start::bert : start == "houlsby" ? C::Start::houlsby : C::Start::mam_adapter;
  if (!json.get_or<bool>("phm_layer", false)) return method;
  PhmConfig phm;
  phm.dim = json.get_or<std::int64_t>("phm_dim", 4);
  phm.rank = json.get_or<std::int64_t>("phm_rank", 1);
  phm.factorised_weight = json.get_or<bool>("factorized_phm_W", true);
  phm.shared_weight = json.get_or<bool>("shared_W_phm", false);
  phm.factorised_rule = json.get_or<bool>("factorized_phm_rule", false);
  phm.shared_rule = json.get_or<bool>("shared_phm_rule", true);
  phm.learn_rule = json.get_or<bool>("learn_phm", true);
  phm.bias = json.get_or<bool>("phm_bias", true);
  phm.rule_deviation = json.get_or<double>("phm_init_range", 1e-4);
  phm.uniform_rule = one_of(json, "phm_c_init", "normal", {"normal", "uniform"}) == "uniform";
  adapter.phm = phm;
  return method;
}

DELTATUNE_FUNCTION nlohmann::json to_json(const AdapterHubBottleneck& method) {
  using C = BottleneckConfig;
  const C& adapter = method.adapter;
  const PhmConfig phm = adapter.phm.value_or(PhmConfig{});
  nlohmann::json reduction = whole_if_possible(method.reduction.factor);
  if (!method.reduction.by_layer.empty()) {
    reduction = nlohmann::json::object();
    if (method.reduction.factor != 0) reduction["default"] = whole_if_possible(method.reduction.factor);
    for (const auto& [layer, factor] : method.reduction.by_layer) reduction[std::to_string(layer)] = whole_if_possible(factor);
  }
  nlohmann::json residual = adapter.residual == C::Residual::before_ln;
  if (adapter.residual == C::Residual::post_add) residual = "post_add";
  nlohmann::json scaling = adapter.scale;
  if (adapter.scaling != C::Scaling::constant) scaling = adapter.scaling == C::Scaling::learned ? "learned" : "channel";
  const char* const starts[] = {"bert", "mam_adapter", "houlsby"};
  return {{"mh_adapter", method.after_attention},
          {"output_adapter", method.after_feed_forward},
          {"reduction_factor", reduction},
          {"leave_out", method.leave_out},
          {"non_linearity", activation_name(adapter.activation)},
          {"is_parallel", adapter.parallel},
          {"original_ln_before", adapter.original_ln_before},
          {"original_ln_after", adapter.original_ln_after},
          {"ln_before", adapter.ln_before},
          {"ln_after", adapter.ln_after},
          {"residual_before_ln", residual},
          {"adapter_residual_before_ln", adapter.residual_before_ln_after},
          {"scaling", scaling},
          {"use_gating", adapter.gated},
          {"dropout", adapter.dropout},
          {"stochastic_depth", adapter.stochastic_depth},
          {"init_weights", starts[static_cast<int>(adapter.start)]},
          {"init_weights_seed", nullptr},
          {"cross_adapter", false},
          {"inv_adapter", nullptr},
          {"inv_adapter_reduction_factor", nullptr},
          {"phm_layer", adapter.phm.has_value()},
          {"phm_dim", phm.dim},
          {"phm_rank", phm.rank},
          {"factorized_phm_W", phm.factorised_weight},
          {"shared_W_phm", phm.shared_weight},
          {"factorized_phm_rule", phm.factorised_rule},
          {"shared_phm_rule", phm.shared_rule},
          {"learn_phm", phm.learn_rule},
          {"phm_bias", phm.bias},
          {"phm_c_init", phm.uniform_rule ? "uniform" : "normal"},
          {"phm_init_range", phm.rule_deviation},
          {"hypercomplex_nonlinearity", "glorot-uniform"}};
}

DELTATUNE_FUNCTION AdapterHubLoraMember read_adapterhub_lora(const JsonConfig& json, bool ignores_alpha) {
  using Kind = AdapterHubLoraMember::Kind;
  for (const char* key : {"vera_d", "vera_b"})
    if (json.has(key)) throw Error(json.name() + ": " + key, "AdapterHub's VeRA is not supported", {.expected = "null", .remedy = "use PEFT's VeRA"});
  AdapterHubLoraMember method;
  method.lora.rank = json.get_or<std::int64_t>("r", 8);
  method.lora.alpha = json.get_or<double>("alpha", 8);
  if (ignores_alpha) method.lora.alpha = static_cast<double>(method.lora.rank);
  method.lora.dropout = json.get_or<double>("dropout", 0);
  method.gated = json.get_or<bool>("use_gating", false);
  method.normal_start = one_of(json, "init_weights", "lora", {"lora", "bert", "ia3"}) == "bert";
  method.intermediate = json.get_or<bool>("intermediate_lora", false);
  method.output = json.get_or<bool>("output_lora", false);
  method.leave_out = read_leave_out(json);
  method.attention.clear();
  if (json.get_or<bool>("selfattn_lora", true))
    for (const std::string& matrix : json.get_or<std::vector<std::string>>("attn_matrices", {"q", "v"})) {
      if (matrix != "q" && matrix != "k" && matrix != "v")
        throw Error(json.name() + ": attn_matrices", "unknown value", {.expected = "q, k and v", .got = "\"" + matrix + "\""});
      method.attention += matrix;
    }
  if (json.get_or<bool>("use_dora", false)) method.kind = Kind::dora;
  if (one_of(json, "composition_mode", "add", {"add", "scale"}) == "add") return method;
  if (method.kind == Kind::dora) throw Error(json.name() + ": use_dora", "does not go with the composition mode \"scale\"");
  if (method.lora.rank != 1 || method.lora.alpha != 1) throw Error(json.name() + ": r", "must be 1, and alpha, with the composition mode \"scale\"");
  method.kind = Kind::ia3;
  return method;
}
DELTATUNE_FUNCTION nlohmann::json to_json(const AdapterHubLoraMember& method) {
  using Kind = AdapterHubLoraMember::Kind;
  nlohmann::json matrices = nlohmann::json::array();
  for (const char which : method.attention) matrices.push_back(std::string(1, which));
  return {{"architecture", "lora"},
          {"selfattn_lora", !method.attention.empty()},
          {"intermediate_lora", method.intermediate},
          {"output_lora", method.output},
          {"leave_out", method.leave_out},
          {"r", method.lora.rank},
          {"alpha", whole_if_possible(method.lora.alpha)},
          {"dropout", method.lora.dropout},
          {"attn_matrices", matrices},
          {"composition_mode", method.kind == Kind::ia3 ? "scale" : "add"},
          {"init_weights", method.kind == Kind::ia3 ? "ia3"
                           : method.normal_start    ? "bert"
                                                    : "lora"},
          {"init_weights_seed", nullptr},
          {"use_gating", method.gated},
          {"use_dora", method.kind == Kind::dora},
          {"vera_d", nullptr},
          {"vera_b", nullptr},
          {"dtype", nullptr}};
}

DELTATUNE_FUNCTION AdapterHubPrefix read_adapterhub_prefix(const JsonConfig& json, bool of_first_version) {
  AdapterHubPrefix method;
  method.prefix.rows = json.get_or<std::int64_t>("prefix_length", 30);
  method.prefix.hidden = json.get_or<bool>("flat", false) ? 0 : json.get_or<std::int64_t>("bottleneck_size", 512);
  if (json.has("non_linearity")) method.prefix.activation = adapterhub_activation(json, of_first_version);
  method.prefix.dropout = json.get_or<double>("dropout", 0);
  if (json.get_or<bool>("use_gating", false))
    method.prefix.gates = json.get_or<bool>("shared_gating", true) ? PrefixConfig::Gates::shared : PrefixConfig::Gates::separate;
  method.leave_out = read_leave_out(json);
  return method;
}
DELTATUNE_FUNCTION nlohmann::json to_json(const AdapterHubPrefix& method) {
  const PrefixConfig& prefix = method.prefix;
  return {{"architecture", "prefix_tuning"},
          {"encoder_prefix", true},
          {"cross_prefix", true},
          {"leave_out", method.leave_out},
          {"flat", prefix.hidden == 0},
          {"prefix_length", prefix.rows},
          {"bottleneck_size", prefix.hidden == 0 ? 512 : prefix.hidden},
          {"non_linearity", activation_name(prefix.activation)},
          {"dropout", prefix.dropout},
          {"use_gating", prefix.gates != PrefixConfig::Gates::none},
          {"shared_gating", prefix.gates != PrefixConfig::Gates::separate},
          {"init_weights_seed", nullptr}};
}

DELTATUNE_FUNCTION AdapterHubPrompt read_adapterhub_prompt(const JsonConfig& json) {
  AdapterHubPrompt method;
  method.prompt.rows = json.get_or<std::int64_t>("prompt_length", 10);
  method.prompt.after_first = one_of(json, "combine", "prefix", {"prefix", "prefix_after_bos"}) == "prefix_after_bos";
  one_of(json, "prompt_init", "random_uniform", {"random_uniform", "from_string"});
  method.text = json.get_or<std::string>("prompt_init_text", "");
  return method;
}
DELTATUNE_FUNCTION nlohmann::json to_json(const AdapterHubPrompt& method) {
  return {{"architecture", "prompt_tuning"},
          {"prompt_length", method.prompt.rows},
          {"prompt_init", method.text.empty() ? "random_uniform" : "from_string"},
          {"prompt_init_text", method.text.empty() ? nlohmann::json(nullptr) : nlohmann::json(method.text)},
          {"combine", method.prompt.after_first ? "prefix_after_bos" : "prefix"},
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
                                                         "cross_prefix",
                                                         "dtype",
                                                         "encoder_prefix",
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

DELTATUNE_FUNCTION AdapterHubMember read_adapterhub_member(const JsonConfig& json, const AdapterHubVersion& version) {
  const std::string architecture = json.get_or<std::string>("architecture", "bottleneck");
  if (architecture == "bottleneck") return read_bottleneck(json, version.first);
  if (architecture == "lora") return read_adapterhub_lora(json, version.ignores_alpha);
  if (architecture == "prefix_tuning") return read_adapterhub_prefix(json, version.first);
  if (architecture == "prompt_tuning") return read_adapterhub_prompt(json);
  throw Error(json.name() + ": architecture", "is not supported",
              {.expected = "null (a bottleneck), lora, prefix_tuning, prompt_tuning or union", .got = "\"" + architecture + "\""});
}

}  // namespace detail

DELTATUNE_FUNCTION AdapterHubPlan AdapterHubPlan::read(const JsonConfig& json) {
  AdapterHubPlan plan;
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
DELTATUNE_FUNCTION nlohmann::json adapterhub_config_json(const AdapterHubPlan& plan) {
  nlohmann::json all = nlohmann::json::array();
  for (const AdapterHubMember& member : plan.members) all.push_back(std::visit([](const auto& method) { return detail::to_json(method); }, member));
  if (all.size() == 1) return all[0];
  return {{"architecture", "union"}, {"configs", all}};
}

}  // namespace deltatune

// LoRA for a whole model: which sites, with what rank and alpha each. The settings of PEFT's LoraConfig.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/plan_json.hpp"
#include "deltatune/attach/targets.hpp"
#include "deltatune/delta/lora.hpp"

namespace deltatune {

struct LoraPlan : PlanBase {
  static constexpr const char* kMethod = "lora";
  static constexpr const char* kPeftType = "LORA";
  static std::vector<std::string> site_tensors() { return {".lora_A.weight", ".lora_B.weight"}; }

  LoraConfig lora = {};
  Targets targets = Targets::named({"query", "value"});
  // Regular expressions for a path or its end, the first that matches counts: another rank or alpha for some sites.
  std::vector<std::pair<std::string, Index>> rank_pattern = {};
  std::vector<std::pair<std::string, double>> alpha_pattern = {};

  // The settings of one site.
  LoraConfig at(const std::string& path, const std::string& where) const {
    LoraConfig config = lora;
    const auto matching = [&](const auto& patterns, auto& value) {
      for (const auto& [key, setting] : patterns) {
        if (!std::regex_match(path, detail::compile_regex("(.*\\.)?(" + key + ")$", where))) continue;
        value = setting;
        return;
      }
    };
    matching(rank_pattern, config.rank);
    matching(alpha_pattern, config.alpha);
    config.validate(where + " (" + path + ")");
    return config;
  }

  // The method's part of adapter_config.json. paths: the sites that have a delta.
  static LoraPlan read(const JsonConfig& json);
  void write(nlohmann::json& config_io, const std::vector<std::string>& paths) const;

  template <class Model>
  void place(typename Model::Context& ctx, Model& model, Attachment<typename Model::Tensor>& attachment, std::uint64_t seed, const std::string& where) const {
    using X = typename Model::Tensor;
    lora.validate(where);
    std::uint64_t stream = 0;
    for_each_target(model, targets, *this, where, [&](LinearSite<X>& site) {
      const Shape& shape = site.weight.shape();  // (out, in)
      attachment.add(site, Lora<X>(ctx, site.path, shape[1], shape[0], at(site.path, where), derive(seed, stream++)));
    });
  }
};

inline LoraPlan LoraPlan::read(const JsonConfig& json) {
  for (const char* key : {"use_dora", "lora_bias", "use_qalora", "use_bdlora"})
    if (json.get_or<bool>(key, false)) throw Error(json.name() + ": " + key, "is not supported", {.expected = "false", .got = "true"});
  for (const char* key : {"target_parameters", "trainable_token_indices", "layer_replication", "alora_invocation_tokens", "kasa_config", "monteclora_config",
                          "velora_config", "arrow_config"})
    if (json.has(key) && !json.raw().at(key).empty()) throw Error(json.name() + ": " + key, "is not supported", {.expected = "null"});
  // Other starts change the base weights as well, so that the adapter alone does not say what the model is.
  if (json.has("init_lora_weights") && json.raw().at("init_lora_weights").is_string()) {
    const std::string start = json.get<std::string>("init_lora_weights");
    if (start != "gaussian" && start != "orthogonal" && start != "eva")
      throw Error(json.name() + ": init_lora_weights", "\"" + start + "\" changes the base weights and is not supported",
                  {.remedy = "save it in PEFT with path_initial_model_for_weight_conversion"});
  }
  LoraPlan plan;
  plan.lora.rank = json.get_or<std::int64_t>("r", 8);
  plan.lora.alpha = json.get_or<double>("lora_alpha", 8);
  plan.lora.dropout = json.get_or<double>("lora_dropout", 0);
  plan.lora.rank_stabilized = json.get_or<bool>("use_rslora", false);
  plan.lora.validate(json.name());
  plan.targets = detail::read_targets(json);
  if (json.has("rank_pattern")) {
    const JsonConfig patterns = json.object("rank_pattern");
    for (const auto& [key, unused] : patterns.raw().items()) plan.rank_pattern.emplace_back(key, patterns.get<std::int64_t>(key));
  }
  if (json.has("alpha_pattern")) {
    const JsonConfig patterns = json.object("alpha_pattern");
    for (const auto& [key, unused] : patterns.raw().items()) plan.alpha_pattern.emplace_back(key, patterns.get<double>(key));
  }
  return plan;
}

inline void LoraPlan::write(nlohmann::json& config_io, const std::vector<std::string>& paths) const {
  detail::write_targets(config_io, targets, paths);
  nlohmann::json ranks = nlohmann::json::object(), alphas = nlohmann::json::object();
  for (const auto& [key, rank] : rank_pattern) ranks[key] = rank;
  for (const auto& [key, alpha] : alpha_pattern) alphas[key] = detail::whole_if_possible(alpha);
  config_io.update({{"r", lora.rank},
                    {"lora_alpha", detail::whole_if_possible(lora.alpha)},
                    {"lora_dropout", lora.dropout},
                    {"use_rslora", lora.rank_stabilized},
                    {"use_dora", false},
                    {"fan_in_fan_out", false},
                    {"init_lora_weights", true},
                    {"rank_pattern", ranks},
                    {"alpha_pattern", alphas}});
}

}  // namespace deltatune

// (IA)3 for a whole model: which sites are scaled, and which of them at their input. The settings of PEFT's IA3Config.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "deltatune/attach/default_targets.hpp"
#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/plan_json.hpp"
#include "deltatune/delta/ia3.hpp"

namespace deltatune {

struct Ia3Plan : PlanBase {
  static constexpr const char* kMethod = "ia3";
  static constexpr const char* kPeftType = "IA3";
  static std::vector<std::string> site_tensors() { return {".ia3_l"}; }

  Targets targets = {};                                // empty: the family's
  std::optional<NameRule> feedforward = std::nullopt;  // those scaled at their input; names are ends of paths, dots or not; none: the family's

  static std::vector<std::pair<std::string, Ia3Plan>> methods() { return {{kMethod, {}}}; }
  DELTATUNE_FUNCTION std::vector<Setting> settings() { return {{"target_modules", &targets}}; }
  template <class Json>
  void read_more(const Json& json) {
    if (json.has("feedforward_modules")) feedforward = detail::read_rule(json, "feedforward_modules");
  }
  template <class Model>
  void write_more(nlohmann::json& config_io, const std::vector<std::string>& paths, Model& model) const {
    for (const char* const key : {"bias", "layers_to_transform", "layers_pattern"}) config_io.erase(key);  // which PEFT's does not have
    const bool by_path = targets.include.empty() || !targets.layers.empty();
    if (by_path) config_io["target_modules"] = paths;
    config_io["fan_in_fan_out"] = detail::fan_in_fan_out(model, paths);
    config_io["init_ia3_weights"] = true;
    config_io["feedforward_modules"] = nullptr;
    if (!feedforward) return;
    nlohmann::json& at_input = config_io["feedforward_modules"];
    at_input = feedforward->empty() ? nlohmann::json::array() : detail::rule_json(*feedforward);
    if (!by_path || feedforward->empty()) return;
    at_input = nlohmann::json::array();  // which PEFT wants to be among target_modules
    for (const std::string& path : paths)
      if (is_at_input(*feedforward, path, "feedforward_modules")) at_input.push_back(path);
  }

  template <class Model, class X>
  void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, std::uint64_t, const std::string& where) const {
    const NameRule at_input = feedforward ? *feedforward : NameRule{default_targets(kPeftType, model.architecture(), where).feed_forward, {}};
    for_each_target(model, targets_or_default(targets, kPeftType, model.architecture(), where), *this, where, [&](LinearSite<X>& site) {
      const Shape& shape = site.weight.shape();  // (out, in)
      attachment.add(site, Ia3<X>(ctx, site.path, shape[1], shape[0], is_at_input(at_input, site.path, where)));
    });
  }

 private:
  static bool is_at_input(const NameRule& rule, const std::string& path, const std::string& where) {
    if (!rule.pattern.empty()) return rule.matches(path, where + ": feedforward_modules");
    return std::any_of(rule.names.begin(), rule.names.end(), [&](const std::string& name) { return path.ends_with(name); });
  }
};

}  // namespace deltatune

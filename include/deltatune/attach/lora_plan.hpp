// LoRA for a whole model: which sites, with what rank and alpha each, and what else trains beside it. The settings of PEFT's LoraConfig.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/attachment.hpp"
#include "deltatune/attach/targets.hpp"
#include "deltatune/delta/lora.hpp"
#include "deltatune/param/visit.hpp"

namespace deltatune {

enum class BiasTraining { none, all, lora_only };

struct LoraPlan {
  LoraConfig lora = {};
  Targets targets = Targets::named({"query", "value"});
  // Regular expressions for a path or its end, the first that matches counts: another rank or alpha for some sites.
  std::vector<std::pair<std::string, Index>> rank_pattern = {};
  std::vector<std::pair<std::string, double>> alpha_pattern = {};
  BiasTraining bias = BiasTraining::none;
  std::vector<std::string> modules_to_save = {"classifier"};  // trained as a whole; matched as ends of module paths
  std::string name = "default";

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

  // Whether a parameter or site belongs to a module of modules_to_save.
  bool saves(const std::string& path) const {
    for (std::size_t end = path.find('.'); ; end = path.find('.', end + 1)) {
      const std::string module = path.substr(0, end);
      if (std::any_of(modules_to_save.begin(), modules_to_save.end(), [&](const std::string& name_end) { return module.ends_with(name_end); })) return true;
      if (end == std::string::npos) return false;
    }
  }
};

// Freezes the model, places deltas at `sites`, and lets train what the plan says: the deltas, modules_to_save, biases.
// `where` stands for the plan in errors; `seed` draws the deltas' start.
template <class Model>
auto attach_at(typename Model::Context& ctx, Model& model, const LoraPlan& plan, const std::vector<std::string>& sites, std::uint64_t seed,
               const std::string& where) {
  using X = typename Model::Tensor;
  model.visit([](Parameter<X>& parameter) {
    if (parameter.role() != Role::delta) parameter.set_mask(FreezeMask::frozen());
  });
  Attachment<X, Lora<X>> attachment(plan.name);
  std::uint64_t stream = 0;
  model.visit_sites([&](LinearSite<X>& site) {
    if (std::find(sites.begin(), sites.end(), site.path) == sites.end()) return;
    const Shape& shape = site.weight.shape();  // (out, in)
    attachment.add(site, Lora<X>(ctx, site.path, shape[1], shape[0], plan.at(site.path, where), derive(seed, stream++)));
    if (plan.bias == BiasTraining::lora_only) site.bias.set_mask(FreezeMask::trainable());
  });
  model.visit_linears([&](Linear<X>& layer) { layer.arrange(ctx); });
  model.visit([&](Parameter<X>& parameter) {
    const bool is_bias = parameter.role() == Role::bias || parameter.role() == Role::norm_shift;
    if (parameter.role() != Role::delta && (plan.saves(parameter.path()) || (plan.bias == BiasTraining::all && is_bias)))
      parameter.set_mask(FreezeMask::trainable());
  });
  return attachment;
}

// The same at the sites that the plan's targets choose. Throws Error when they, or a module to save, match nothing.
template <class Model>
auto attach(typename Model::Context& ctx, Model& model, const LoraPlan& plan, std::uint64_t seed = 0, const std::string& where = "LoRA") {
  using X = typename Model::Tensor;
  plan.lora.validate(where);
  std::vector<std::string> paths, reserved, parameters;
  model.visit([&](Parameter<X>& parameter) { parameters.push_back(parameter.path()); });
  model.visit_sites([&](LinearSite<X>& site) {
    paths.push_back(site.path);
    const bool is_output = site.path == "classifier";  // which "all-linear" leaves out, saved or not
    if (plan.saves(site.path) || (plan.targets.all_linear && is_output)) reserved.push_back(site.path);
  });
  for (const std::string& module : plan.modules_to_save) {
    const LoraPlan alone{.modules_to_save = {module}};
    const bool is_usual = module == "classifier" || module == "score";  // PEFT lists both, whichever the model has
    if (!is_usual && std::none_of(parameters.begin(), parameters.end(), [&](const std::string& path) { return alone.saves(path); }))
      throw Error(where + ": modules_to_save", "\"" + module + "\" matches nothing");
  }
  return attach_at(ctx, model, plan, choose_targets(plan.targets, paths, reserved, where), seed, where);
}

}  // namespace deltatune

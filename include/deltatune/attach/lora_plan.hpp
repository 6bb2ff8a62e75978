// LoRA and DoRA for a whole model: which sites, with what rank and alpha each, and how they start. The settings of PEFT's LoraConfig.
//
// PiSSA and OLoRA change the frozen weights; their folder holds the difference to the model as it was, a LoRA of twice the rank. A folder of PEFT
// that was not converted so is read as PEFT does: the start is computed again from the base.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/default_targets.hpp"
#include "deltatune/attach/file_tensor.hpp"
#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/plan_json.hpp"
#include "deltatune/attach/targets.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/delta/dora.hpp"
#include "deltatune/delta/lora.hpp"
#include "deltatune/delta/lora_embedding.hpp"
#include "deltatune/delta/lora_residual.hpp"
#include "deltatune/io/parameter_io.hpp"

namespace deltatune {

struct LoraPlan : PlanBase {
  static constexpr const char* kMethod = "lora";
  static constexpr const char* kPeftType = "LORA";
  static std::vector<std::string> site_tensors() { return {".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B"}; }

  LoraConfig lora = {};
  bool dora = false;
  LoraStart start = {};  // pissa() or olora() of delta/lora_start.hpp; empty: B = 0
  Targets targets = {};  // tables of embeddings too; empty: the family's
  // Regular expressions for a path or its end: another rank or alpha for some sites. The first that matches counts, here and in the order of a file.
  Patterns<Index> rank_pattern = {};
  Patterns<double> alpha_pattern = {};

  // The settings of one site.
  DELTATUNE_FUNCTION LoraConfig at(const std::string& path, const std::string& where) const {
    LoraConfig config = lora;
    const auto matching = [&](const auto& patterns, auto& value) {
      for (const auto& [key, setting] : patterns) {
        if (!key.matches_end(path, where)) continue;
        value = setting;
        return;
      }
    };
    matching(rank_pattern, config.rank);
    matching(alpha_pattern, config.alpha);
    config.validate(where + " (" + path + ")");
    return config;
  }

  // Throws Error for a pattern that matches none of the targets. What a file holds need not use all of its patterns, but each has to be for a layer
  // of this model.
  template <class Model>
  void check_patterns(Model& model, const Targets& wanted, const std::string& where) const {
    if (rank_pattern.empty() && alpha_pattern.empty()) return;
    std::vector<std::string> paths;
    const auto add = [&](const auto& site) { paths.push_back(site.path); };
    if (targets.paths.empty()) {
      for_each_target(model, wanted, *this, where, add, add);
    } else {
      model.visit_sites(add);
      model.visit_lookups(add);
    }
    const auto check = [&](const auto& patterns, const char* field) {
      for (const auto& pattern : patterns)
        if (std::none_of(paths.begin(), paths.end(), [&](const std::string& path) { return pattern.first.matches_end(path, where); }))
          throw Error(where + ": " + field, "\"" + pattern.first.text() + "\" matches none of the targets",
                      {.expected = paths.empty() ? "" : "the path of a target or its end, such as " + paths.front()});
    };
    check(rank_pattern, "rank_pattern");
    check(alpha_pattern, "alpha_pattern");
  }

  DELTATUNE_FUNCTION static std::vector<std::pair<std::string, LoraPlan>> methods() {
    LoraPlan plan;
    plan.lora.alpha = 16;
    LoraPlan with_dora = plan;
    with_dora.dora = true;
    return {{kMethod, plan}, {"dora", with_dora}};
  }
  DELTATUNE_FUNCTION std::vector<Setting> settings() {
    return {{"r", &lora.rank, "--rank", "rank"},
            {"lora_alpha", &lora.alpha, "--alpha", "scaling is alpha / rank"},
            {"lora_dropout", &lora.dropout, "--dropout", kDropoutHelp},
            {"use_rslora", &lora.rank_stabilized, "--rslora", "scaling is alpha / sqrt(rank)"},
            {"lora_bias", &lora.bias},
            {"use_dora", &dora},
            {"target_modules", &targets},
            {"rank_pattern", &rank_pattern, "--rank-pattern", "another rank for some layers, PATTERN=RANK; the first that matches counts"},
            {"alpha_pattern", &alpha_pattern, "--alpha-pattern", "another alpha for some layers, PATTERN=ALPHA"},
            {"", Choice(bias, {{"none", BiasTraining::none}, {"all", BiasTraining::all}, {"lora_only", BiasTraining::targets}}), "--bias",
             "biases to train as well: none, all or lora_only"}};
  }
  void validate(const std::string& where) const { lora.validate(where); }
  template <class Json>
  void read_more(const Json& json);
  template <class Model>
  void write_more(nlohmann::json& config_io, const std::vector<std::string>& paths, Model& model) const;
  // What a file holds instead of the deltas' own tensors.
  template <class X>
  FileTensors convert(context_of<X>& ctx, Attachment<X>& attachment, nlohmann::json& config_io) const;

  template <class Model, class X>
  void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, std::uint64_t seed, const std::string& where) const {
    lora.validate(where);
    if (dora && lora.bias) throw Error(where + ": lora_bias", "is not for DoRA", {.expected = "false"});
    std::uint64_t stream = 0;
    LoraResidual<X> residual;
    const auto on_site = [&](LinearSite<X>& site) {
      const Shape& shape = site.weight.shape();  // (out, in)
      const LoraConfig config = at(site.path, where);
      const RandomKey key = derive(seed, stream++);
      if (start && site.shared)
        throw Error(where + ": init_lora_weights", site.path + " reads a table that it shares with the word embeddings, which this start would change");
      if (config.bias && !site.bias.value()) throw Error(where + ": lora_bias", site.path + " has no bias", {.expected = "false"});
      Lora<X>& placed = dora ? attachment.add(site, Dora<X>(ctx, site.path, site.weight, config, key)).lora()
                             : attachment.add(site, Lora<X>(ctx, site.path, shape[1], shape[0], config, key));
      if (start) check_own_values(site.weight, where);
      if (start) residual.start(ctx, site.path, site.weight, placed, start, where + " (" + site.path + ")");
    };
    const auto on_table = [&](LookupSite<X>& site) {
      if (start) throw Error(where + ": init_lora_weights", site.path + " is a table of embeddings, which this start is not for");
      const LoraConfig config = at(site.path, where);
      const RandomKey key = derive(seed, stream++);
      if (dora) {
        attachment.add(site, DoraEmbedding<X>(ctx, site, config, key));
      } else {
        attachment.add(site, LoraEmbedding<X>(ctx, site, config, key));
      }
    };
    const Targets wanted = targets_or_default(targets, kPeftType, model.architecture(), where);
    check_patterns(model, wanted, where);
    for_each_target(model, wanted, *this, where, on_site, on_table);
    if (!residual.empty()) attachment.add(model.derived(), std::move(residual));
  }
};

template <class Json>
void LoraPlan::read_more(const Json& json) {
  for (const char* key : {"use_qalora", "use_bdlora"})
    if (json.template get_or<bool>(key, false)) throw Error(json.name() + ": " + key, "is not supported", {.expected = "false", .got = "true"});
  for (const char* key : {"target_parameters", "trainable_token_indices", "layer_replication", "alora_invocation_tokens", "kasa_config", "monteclora_config",
                          "velora_config", "arrow_config"})
    if (json.has(key) && !json.raw().at(key).empty()) throw Error(json.name() + ": " + key, "is not supported", {.expected = "null"});
  // Starts that change the base weights, so that the adapter alone does not say what the model is.
  if (json.has("init_lora_weights") && json.raw().at("init_lora_weights").is_string()) {
    const std::string kind = json.template get<std::string>("init_lora_weights");
    if (kind == "pissa" || kind == "olora") {
      start = read_lora_start(json, kind);
    } else if (kind != "gaussian" && kind != "orthogonal" && kind != "eva") {
      throw Error(json.name() + ": init_lora_weights", "\"" + kind + "\" changes the base weights in a way that cannot be done again",
                  {.remedy = "save it in PEFT with path_initial_model_for_weight_conversion"});
    }
  }
}

template <class Model>
void LoraPlan::write_more(nlohmann::json& config_io, const std::vector<std::string>& paths, Model& model) const {
  config_io.update({{"fan_in_fan_out", detail::fan_in_fan_out(model, paths)}, {"init_lora_weights", true}});
}

template <class X>
FileTensors LoraPlan::convert(context_of<X>& ctx, Attachment<X>& attachment, nlohmann::json& config_io) const {
  if (!start) return {};
  const auto twice = [&](nlohmann::json& alpha) { alpha = detail::whole_if_possible(alpha.get<double>() * (lora.rank_stabilized ? std::sqrt(2.0) : 2.0)); };
  config_io["r"] = 2 * lora.rank;
  twice(config_io["lora_alpha"]);
  for (auto& pair : config_io["rank_pattern"]) pair.at(1) = 2 * pair.at(1).get<std::int64_t>();
  for (auto& pair : config_io["alpha_pattern"]) twice(pair.at(1));

  std::map<std::string, Parameter<X>*> all;
  attachment.visit([&](Parameter<X>& parameter) { all[parameter.path()] = &parameter; });
  FileTensors tensors;
  for (const auto& [path, parameter] : all) {
    const auto floats = [&](const std::string& of) { return download_floats<X>(ctx, all.at(of)->value()); };
    const std::string first = ".lora_A.start", second = ".lora_B.start";
    if (path.ends_with(first)) {
      const std::string a = path.substr(0, path.size() - first.size()) + ".lora_A.weight";
      std::vector<float> rows = floats(a), more = floats(path);
      rows.insert(rows.end(), more.begin(), more.end());
      tensors[a] = {{2 * parameter->shape()[0], parameter->shape()[1]}, std::move(rows)};
    } else if (path.ends_with(second)) {
      const std::string b = path.substr(0, path.size() - second.size()) + ".lora_B.weight";
      const std::vector<float> left = floats(b), right = floats(path);
      const std::size_t rank = static_cast<std::size_t>(parameter->shape()[1]);
      std::vector<float> columns;
      for (std::size_t i = 0; i < left.size(); i += rank) {
        for (std::size_t r = 0; r < rank; ++r) columns.push_back(left[i + r]);
        for (std::size_t r = 0; r < rank; ++r) columns.push_back(-right[i + r]);
      }
      tensors[b] = {{parameter->shape()[0], 2 * parameter->shape()[1]}, std::move(columns)};
    }
  }
  return tensors;
}

}  // namespace deltatune

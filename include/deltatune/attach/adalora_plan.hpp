// AdaLoRA for a whole model. The settings of PEFT's AdaLoraConfig.
//
// A folder holds the ranks that are left; rank_pattern says which of the first ones they were.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/attach/default_targets.hpp"
#include "deltatune/attach/file_tensor.hpp"
#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/plan_json.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/delta/adalora.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/io/tensor_file.hpp"

namespace deltatune {

struct AdaLoraPlan : PlanBase {
  static constexpr const char* kMethod = "adalora";
  static constexpr const char* kPeftType = "ADALORA";
  static std::vector<std::string> site_tensors() { return {".lora_A", ".lora_B", ".lora_E"}; }

  AdaLoraConfig adalora = {};
  Targets targets = {};                                        // empty: the family's
  std::map<std::string, std::vector<bool>> rank_pattern = {};  // by the path of a site: which of the first ranks are left
  std::map<std::string, Index> ranks = {};                     // of the sites in a file

  static std::vector<std::pair<std::string, AdaLoraPlan>> methods() {
    AdaLoraPlan plan;
    plan.adalora.alpha = 16;
    return {{kMethod, plan}};
  }
  DELTATUNE_FUNCTION std::vector<Setting> settings() {
    return {{"init_r", &adalora.rank, "--rank", "rank"},
            {"target_r", &adalora.target, "--target-rank", "ranks per layer in the end, on average"},
            {"lora_alpha", &adalora.alpha, "--alpha", "scaling is alpha / rank"},
            {"lora_dropout", &adalora.dropout, "--dropout", kDropoutHelp},
            {"orth_reg_weight", &adalora.penalty, "--orthogonal-penalty", "weight of the penalty"},
            {"tinit", &adalora.first, "--tinit", "updates before the first reduction of the ranks"},
            {"tfinal", &adalora.last, "--tfinal", "updates at the end without a reduction"},
            {"deltaT", &adalora.every, "--delta-t", "updates from one reduction of the ranks to the next"},
            {"beta1", &adalora.beta1},
            {"beta2", &adalora.beta2},
            {"total_step", &adalora.total},
            {"target_modules", &targets}};
  }
  void validate(const std::string& where) const { adalora.validate(where); }
  template <class Json>
  void read_more(const Json& json) {
    if (!json.has("rank_pattern")) return;
    const Index rank = json.template get_or<std::int64_t>("init_r", adalora.rank);
    const auto patterns = json.object("rank_pattern");
    for (const auto& [key, unused] : patterns.raw().items()) {
      const std::vector<bool> left = patterns.template get<std::vector<bool>>(key);
      if (!key.ends_with(kEnd))
        throw Error(patterns.name() + ": " + key, "does not name singular values", {.expected = "a name that ends in " + std::string(kEnd)});
      if (static_cast<Index>(left.size()) != rank)
        throw Error(patterns.name() + ": " + key, "does not fit init_r", {.expected = std::to_string(rank) + " values", .got = std::to_string(left.size())});
      rank_pattern[key.substr(0, key.size() - kEnd.size())] = left;
    }
  }
  template <class Model>
  void write_more(nlohmann::json& config_io, const std::vector<std::string>& paths, Model& model) const {
    if (adalora.total <= 0) config_io["total_step"] = adalora.first + adalora.last + 1;  // PEFT wants one, to train with
    config_io.update({{"fan_in_fan_out", detail::fan_in_fan_out(model, paths)}, {"init_lora_weights", true}});
  }
  DELTATUNE_FUNCTION void fit(const TensorFile& file) {
    constexpr std::string_view kPrefix = "base_model.model.";
    for (const auto& [key, tensor] : file.tensors())
      if (key.starts_with(kPrefix) && key.ends_with(kEnd) && !tensor.shape.empty())
        ranks[key.substr(kPrefix.size(), key.size() - kPrefix.size() - kEnd.size())] = tensor.shape[0];
  }
  // Ranks whose singular value is 0 are left out, once there are others.
  template <class X>
  FileTensors convert(context_of<X>& ctx, Attachment<X>& attachment, nlohmann::json& config_io) const {
    std::map<std::string, std::vector<float>> values;  // by the path of a site
    bool any = false;
    attachment.visit([&](Parameter<X>& parameter) {
      if (!parameter.path().ends_with(kEnd)) return;
      std::vector<float> e = download_floats<X>(ctx, parameter.value());
      for (const float x : e) any = any || x != 0.0F;
      values[parameter.path().substr(0, parameter.path().size() - kEnd.size())] = std::move(e);
    });
    nlohmann::json patterns = nlohmann::json::object();
    bool pruned = !rank_pattern.empty();
    for (const auto& [site, e] : values) {
      const auto before = rank_pattern.find(site);
      std::vector<bool> left = before == rank_pattern.end() ? std::vector<bool>(e.size(), true) : before->second;
      std::size_t k = 0;
      for (std::size_t i = 0; i < left.size(); ++i) {
        if (!left[i]) continue;
        left[i] = !any || e.at(k) != 0.0F;
        pruned = pruned || !left[i];
        ++k;
      }
      patterns[site + std::string(kEnd)] = left;
    }
    config_io["rank_pattern"] = pruned ? patterns : nlohmann::json(nullptr);
    if (!pruned) return {};
    FileTensors tensors;
    attachment.visit([&](Parameter<X>& parameter) {
      const std::string& path = parameter.path();
      const auto site = values.find(path.substr(0, path.rfind('.')));
      if (site == values.end()) return;
      const bool columns = path.ends_with(".lora_B");
      const std::vector<float> all = download_floats<X>(ctx, parameter.value());
      const std::size_t ranks_before = site->second.size(), width = columns ? ranks_before : static_cast<std::size_t>(parameter.shape()[1]);
      FileTensor kept;
      Index count = 0;
      for (const float x : site->second) count += !any || x != 0.0F ? 1 : 0;
      for (std::size_t i = 0; i < all.size(); ++i)
        if (!any || site->second[columns ? i % width : i / width] != 0.0F) kept.values.push_back(all[i]);
      kept.shape = columns ? Shape{parameter.shape()[0], count} : Shape{count, parameter.shape()[1]};
      tensors[path] = std::move(kept);
    });
    return tensors;
  }

  template <class Model, class X>
  void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, std::uint64_t seed, const std::string& where) const {
    adalora.validate(where);
    std::vector<AdaLora<X>*> deltas;
    std::uint64_t stream = 0;
    for_each_target(model, targets_or_default(targets, kPeftType, model.architecture(), where), *this, where, [&](LinearSite<X>& site) {
      const Shape& shape = site.weight.shape();  // (out, in)
      const auto left = ranks.find(site.path);
      const Index rank = left == ranks.end() ? adalora.rank : left->second;
      const auto pattern = rank_pattern.find(site.path);
      const Index expected = pattern == rank_pattern.end() ? adalora.rank : std::count(pattern->second.begin(), pattern->second.end(), true);
      if (left != ranks.end() && rank != expected)
        throw Error(where + ": " + site.path, "does not have the ranks of the configuration",
                    {.expected = std::to_string(expected), .got = std::to_string(rank)});
      const RandomKey key_a = derive(seed, stream, 0), key_b = derive(seed, stream, 1);
      ++stream;
      deltas.push_back(&attachment.add(site, AdaLora<X>(ctx, site.path, shape[1], shape[0], adalora, rank, key_a, key_b)));
    });
    attachment.add(model.derived(), AdaLoraBudget<X>(ctx, adalora, deltas));
  }

 private:
  static constexpr std::string_view kEnd = ".lora_E";
};

}  // namespace deltatune

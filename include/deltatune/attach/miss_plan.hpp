// MiSS for a whole model. The settings of PEFT's MissConfig, but for init_weights = "bat", which multiplies shards of the weight and is no sum.
#pragma once

#include <string>
#include <vector>

#include "deltatune/attach/default_targets.hpp"
#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/plan_json.hpp"
#include "deltatune/delta/miss.hpp"

namespace deltatune {

struct MissPlan : PlanBase {
  static constexpr const char* kMethod = "miss";
  static constexpr const char* kPeftType = "MISS";
  static std::vector<std::string> site_tensors() { return {".miss_block"}; }

  MissConfig miss = {};
  Targets targets = {};  // empty: those of LoRA

  static std::vector<std::pair<std::string, MissPlan>> methods() { return {{kMethod, {}}}; }
  DELTATUNE_FUNCTION std::vector<Setting> settings() {
    return {{"r", &miss.rank, "--rank", "rank"}, {"miss_dropout", &miss.dropout, "--dropout", kDropoutHelp}, {"target_modules", &targets}};
  }
  void validate(const std::string& where) const { miss.validate(where); }
  template <class Json>
  void read_more(const Json& json) {
    const bool has_form = json.has("init_weights") && json.raw().at("init_weights").is_string();
    const std::string form = has_form ? json.template get<std::string>("init_weights") : "";
    if (has_form && form != "mini")
      throw Error(json.name() + ": init_weights", "is not supported", {.expected = "true or \"mini\"", .got = "\"" + form + "\""});
    const Index mini = json.template get_or<std::int64_t>("mini_r", 1);
    if (has_form) miss.mini = mini;
  }
  template <class Model>
  void write_more(nlohmann::json& config_io, const std::vector<std::string>& /*paths*/, Model&) const {
    if (bias == BiasTraining::targets) config_io["bias"] = "MiSS_only";
    config_io.update({{"mini_r", miss.mini > 0 ? miss.mini : 1}, {"init_weights", true}});
    if (miss.mini > 0) config_io["init_weights"] = "mini";
  }

  template <class Model, class X>
  void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, std::uint64_t, const std::string& where) const {
    miss.validate(where);
    for_each_target(model, targets_or_default(targets, "LORA", model.architecture(), where), *this, where, [&](LinearSite<X>& site) {
      const Shape& shape = site.weight.shape();  // (out, in)
      attachment.add(site, Miss<X>(ctx, site.path, shape[1], shape[0], miss));
    });
  }
};

}  // namespace deltatune

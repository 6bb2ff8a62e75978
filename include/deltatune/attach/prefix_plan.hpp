// Prefix tuning for a whole model. The settings of PEFT's PrefixTuningConfig, and those of AdapterHub's.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "deltatune/attach/prompt_learning.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/delta/prefix.hpp"

namespace deltatune {

struct PrefixPlan : PromptLearningPlan {
  static constexpr const char* kMethod = "prefix";
  static constexpr const char* kPeftType = "PREFIX_TUNING";
  static constexpr const char* kOwnType = "DELTATUNE_PREFIX";  // with what PEFT has not: gates, layers left out, positions that stay

  PrefixConfig prefix = {};
  std::vector<Index> leave_out = {};  // numbers of layers

  DELTATUNE_FUNCTION static PrefixPlan read(const JsonConfig& json) {
    PrefixPlan plan;
    plan.prefix.rows = read_rows(json);
    if (json.get_or<bool>("prefix_projection", false))
      plan.prefix.hidden = json.get_or<std::int64_t>("encoder_hidden_size", json.get_or<std::int64_t>("token_dim", 0));
    if (json.get<std::string>("peft_type") == kOwnType) {
      const std::string gates = json.get<std::string>("gates");
      if (gates != "none" && gates != "shared" && gates != "separate")
        throw Error(json.name() + ": gates", "unknown value", {.expected = "none, shared or separate", .got = "\"" + gates + "\""});
      plan.prefix.gates = gates == "none" ? PrefixConfig::Gates::none : gates == "shared" ? PrefixConfig::Gates::shared : PrefixConfig::Gates::separate;
      plan.prefix.shifts_positions = json.get<bool>("shifts_positions");
      plan.leave_out = json.get<std::vector<std::int64_t>>("leave_out");
    }
    plan.prefix.validate(json.name());
    return plan;
  }
  template <class Model>
  void write(nlohmann::json& config_io, const std::vector<std::string>& /*paths*/, const Model& model) const {
    write_rows(config_io, prefix.rows, model);
    config_io.update({{"prefix_projection", prefix.hidden > 0}, {"encoder_hidden_size", prefix.hidden > 0 ? prefix.hidden : model.architecture().hidden_size}});
    if (prefix.shifts_positions && prefix.gates == PrefixConfig::Gates::none && leave_out.empty()) return;
    const char* const names[] = {"none", "shared", "separate"};
    config_io.update({{"peft_type", kOwnType}, {"gates", names[prefix.gate_count()]}, {"shifts_positions", prefix.shifts_positions}, {"leave_out", leave_out}});
  }

  template <class Model>
  void place(typename Model::Context& ctx, Model& model, Attachment<typename Model::Tensor>& attachment, std::uint64_t seed, const std::string& where) const {
    using X = typename Model::Tensor;
    prefix.validate(where);
    for (const Index layer : leave_out)
      if (layer < 0 || layer >= model.layers())
        throw Error(where + ": leave_out", "the model has no such layer",
                    {.expected = "0 to " + std::to_string(model.layers() - 1), .got = std::to_string(layer)});
    PrefixConfig config = prefix;
    if (evaluated) config.hidden = 0;
    std::vector<Parameter<X>*> rows;
    Index layer = 0;
    model.visit_attentions([&](KvSite<X>& site) {
      const std::uint64_t number = static_cast<std::uint64_t>(layer);
      if (std::find(leave_out.begin(), leave_out.end(), layer++) != leave_out.end()) return;
      rows.push_back(&attachment.add(site, PrefixRows<X>(ctx, site.path, site.input_width, site.width, config, derive(seed, 0, number))).kv());
    });
    if (rows.empty()) throw Error(where + ": leave_out", "leaves out every layer");
    attachment.add(model.derived(), Prefix<X>(ctx, rows, config.embedding > 0 ? config.embedding : model.architecture().hidden_size, config, derive(seed, 1)));
  }
};

}  // namespace deltatune

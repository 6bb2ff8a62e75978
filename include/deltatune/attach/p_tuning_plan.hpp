// P-tuning for a whole model. The settings of PEFT's PromptEncoderConfig.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "deltatune/attach/prompt_learning.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/delta/p_tuning.hpp"
#include "deltatune/delta/prompt.hpp"

namespace deltatune {

struct PTuningPlan : PromptLearningPlan {
  static constexpr const char* kMethod = "p_tuning";
  static constexpr const char* kPeftType = "P_TUNING";

  PTuningConfig p_tuning = {};

  DELTATUNE_FUNCTION static PTuningPlan read(const JsonConfig& json) {
    PTuningPlan plan;
    plan.p_tuning.rows = read_rows(json);
    const std::string encoder = json.get_or<std::string>("encoder_reparameterization_type", "MLP");
    if (encoder != "MLP" && encoder != "LSTM")
      throw Error(json.name() + ": encoder_reparameterization_type", "unknown value", {.expected = "MLP or LSTM", .got = "\"" + encoder + "\""});
    plan.p_tuning.encoder = encoder == "MLP" ? PTuningConfig::Encoder::mlp : PTuningConfig::Encoder::lstm;
    plan.p_tuning.hidden = json.get_or<std::int64_t>("encoder_hidden_size", 0);
    plan.p_tuning.layers = json.get_or<std::int64_t>("encoder_num_layers", 2);
    plan.p_tuning.dropout = json.get_or<double>("encoder_dropout", 0);
    plan.p_tuning.validate(json.name());
    return plan;
  }
  template <class Model>
  void write(nlohmann::json& config_io, const std::vector<std::string>& /*paths*/, const Model& model) const {
    write_rows(config_io, p_tuning.rows, model);
    config_io.update({{"encoder_reparameterization_type", p_tuning.encoder == PTuningConfig::Encoder::mlp ? "MLP" : "LSTM"},
                      {"encoder_hidden_size", p_tuning.hidden > 0 ? p_tuning.hidden : model.architecture().hidden_size},
                      {"encoder_num_layers", p_tuning.layers},
                      {"encoder_dropout", p_tuning.dropout}});
  }

  template <class Model>
  void place(typename Model::Context& ctx, Model& model, Attachment<typename Model::Tensor>& attachment, std::uint64_t seed, const std::string& where) const {
    using X = typename Model::Tensor;
    p_tuning.validate(where);
    InputSite<X>& site = model.input();
    Prompt<X>& prompt = attachment.add(site, Prompt<X>(ctx, site.width, PromptConfig{.rows = p_tuning.rows}));
    if (evaluated) {
      prompt.prompt_embeddings().set_derived(false);
    } else {
      attachment.add(model.derived(), PTuning<X>(ctx, prompt.prompt_embeddings(), p_tuning, derive(seed)));
    }
  }
};

}  // namespace deltatune

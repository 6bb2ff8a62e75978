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

  static std::vector<std::pair<std::string, PTuningPlan>> methods() { return {{kMethod, {}}}; }
  DELTATUNE_FUNCTION std::vector<Setting> settings() {
    using Encoder = PTuningConfig::Encoder;
    return {{"num_virtual_tokens", &p_tuning.rows, "--virtual-tokens", kRowsHelp},
            {"encoder_reparameterization_type", Choice(p_tuning.encoder, {{"MLP", Encoder::mlp}, {"LSTM", Encoder::lstm}}), "--encoder", "MLP or LSTM"},
            {"encoder_hidden_size", &p_tuning.hidden, "--encoder-hidden", kEncoderHelp, "the model's"},
            {"encoder_num_layers", &p_tuning.layers},
            {"encoder_dropout", &p_tuning.dropout, "--dropout", kDropoutHelp}};
  }
  void validate(const std::string& where) const { p_tuning.validate(where); }
  void read_more(const JsonConfig& json) { read_rows(json); }
  template <class Model>
  void write_more(nlohmann::json& config_io, const std::vector<std::string>& /*paths*/, Model& model) const {
    write_rows(config_io, model);
    if (p_tuning.hidden == 0) config_io["encoder_hidden_size"] = model.architecture().hidden_size;
  }

  template <class Model, class X>
  void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, std::uint64_t seed, const std::string& where) const {
    p_tuning.validate(where);
    check_submodules(model, where);
    InputSite<X>& site = model.input();
    const PromptConfig config{.rows = p_tuning.rows, .unread = (submodules - 1) * p_tuning.rows};
    Prompt<X>& prompt = attachment.add(site, Prompt<X>(ctx, site.width, config));
    if (evaluated) {
      prompt.prompt_embeddings().set_derived(false);
    } else {
      attachment.add(model.derived(), PTuning<X>(ctx, prompt.prompt_embeddings(), p_tuning, derive(seed)));
    }
  }
};

}  // namespace deltatune

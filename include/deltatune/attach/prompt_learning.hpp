// What the plans of prefixes and prompts have in common: PEFT keeps them in one tensor, computed where an encoder computes it.
//
//   prompt_embeddings             the rows; what computes them is not in the file
//   base_model.<parameter>        modules_to_save
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/setting.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/tensor_file.hpp"

namespace deltatune {

struct PromptLearningPlan : PlanBase {
  static constexpr const char* kGroup = "Prefixes and prompts";
  static constexpr bool kOnEncoderDecoders = false;
  static std::vector<std::string> site_tensors() { return {}; }

  bool evaluated = false;  // the rows themselves are parameters, whatever computed them: what a file holds

  void fit(const TensorFile&) { evaluated = true; }

  template <class X>
  std::vector<std::string> file_names(const Parameter<X>& parameter) const {
    if (parameter.role() == Role::delta) return {parameter.path()};
    return {"base_model." + parameter.path()};
  }
  template <class X>
  bool in_file(const Parameter<X>& parameter) const {
    return parameter.path() == "prompt_embeddings" || (!parameter.derived() && !parameter.path().starts_with("prompt_encoder."));
  }

 protected:
  static constexpr const char* kRowsHelp = "rows of the prefix or prompt";
  static constexpr const char* kEncoderHelp = "width of the encoder";

  static void check_rows(const JsonConfig& json) {
    if (json.get_or<std::int64_t>("num_transformer_submodules", 1) != 1)
      throw Error(json.name() + ": num_transformer_submodules", "is not supported: there is no model with an encoder and a decoder", {.expected = "1"});
    static_cast<void>(json.get<std::int64_t>("num_virtual_tokens"));
  }
  // PEFT fills these in from the model.
  template <class Model>
  static void write_rows(nlohmann::json& config_io, const Model& model) {
    config_io.erase("bias");
    config_io.update({{"num_transformer_submodules", 1},
                      {"num_layers", model.layers()},
                      {"num_attention_heads", model.architecture().stack.layers.at(0).attention.heads},
                      {"token_dim", model.architecture().hidden_size}});
  }
};

}  // namespace deltatune

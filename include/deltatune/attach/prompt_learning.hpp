// What the plans of prefixes and prompts have in common: PEFT keeps them in one tensor, computed where an encoder computes it.
//
//   prompt_embeddings             the rows; what computes them is not in the file
//   base_model.<parameter>        modules_to_save
//
// On an encoder-decoder PEFT makes one prompt per stack unless num_transformer_submodules is 1: rows in front of the encoder's tokens, and as many that were
// for the decoder's and that its forward pass does not read. What it wrote is read as it computes it; this library makes the encoder's alone.
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
  static std::vector<std::string> site_tensors() { return {}; }

  bool evaluated = false;  // the rows themselves are parameters, whatever computed them: what a file holds
  Index submodules = 1;    // of an encoder-decoder: PEFT's num_transformer_submodules, 1 or 2

  void fit(const TensorFile&) { evaluated = true; }

  template <class X>
  std::vector<std::string> file_names(const Parameter<X>& parameter) const {
    if (parameter.role() == Role::delta) return {parameter.path()};
    return {"base_model." + parameter.path()};
  }
  template <class X>
  bool in_file(const Parameter<X>& parameter) const {
    return parameter.path().ends_with("prompt_embeddings") || (!parameter.derived() && parameter.path().find("prompt_encoder.") == std::string::npos);
  }

 protected:
  static constexpr const char* kRowsHelp = "rows of the prefix or prompt";
  static constexpr const char* kEncoderHelp = "width of the encoder";

  void read_rows(const JsonConfig& json) {
    submodules = json.get_or<std::int64_t>("num_transformer_submodules", json.get_or<std::string>("task_type", "") == "SEQ_2_SEQ_LM" ? 2 : 1);
    if (submodules != 1 && submodules != 2)
      throw Error(json.name() + ": num_transformer_submodules", "is not a number of stacks", {.expected = "1 or 2", .got = std::to_string(submodules)});
    static_cast<void>(json.get<std::int64_t>("num_virtual_tokens"));
  }
  template <class Model>
  void check_submodules(const Model& model, const std::string& where) const {
    if (submodules != 1 && !model.architecture().encoder)
      throw Error(where + ": num_transformer_submodules", "is of an encoder-decoder, and " + model.architecture().title + " is none",
                  {.expected = "1", .got = std::to_string(submodules)});
  }
  // PEFT fills these in from the model.
  template <class Model>
  void write_rows(nlohmann::json& config_io, const Model& model) const {
    config_io.erase("bias");
    config_io.update({{"num_transformer_submodules", submodules},
                      {"num_layers", model.layers()},
                      {"num_attention_heads", model.architecture().stack.layers.at(0).attention.heads},
                      {"token_dim", model.architecture().hidden_size}});
  }
};

}  // namespace deltatune

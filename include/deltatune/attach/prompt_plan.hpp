// Prompt tuning for a whole model. The settings of PEFT's PromptTuningConfig, and those of AdapterHub's.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "deltatune/attach/prompt_learning.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/delta/prompt.hpp"

namespace deltatune {

struct PromptPlan : PromptLearningPlan {
  static constexpr const char* kMethod = "prompt";
  static constexpr const char* kPeftType = "PROMPT_TUNING";
  static constexpr const char* kOwnType = "DELTATUNE_PROMPT";  // with what PEFT has not: several prompts, rows among the finished embeddings

  PromptConfig prompt = {};
  PromptStart start = {};
  // What start.tokens are, for PEFT's file.
  std::string text = {};
  std::string tokenizer = {};

  DELTATUNE_FUNCTION static PromptPlan read(const JsonConfig& json) {
    PromptPlan plan;
    plan.prompt.rows = read_rows(json);
    const std::string start = json.get_or<std::string>("prompt_tuning_init", "RANDOM");
    if (start != "RANDOM" && start != "TEXT" && start != "SAMPLE_VOCAB")
      throw Error(json.name() + ": prompt_tuning_init", "unknown value", {.expected = "RANDOM, TEXT or SAMPLE_VOCAB", .got = "\"" + start + "\""});
    plan.start.kind = start == "TEXT" ? PromptStart::Kind::text : start == "RANDOM" ? PromptStart::Kind::normal : PromptStart::Kind::vocabulary;
    plan.text = json.get_or<std::string>("prompt_tuning_init_text", "");
    plan.tokenizer = json.get_or<std::string>("tokenizer_name_or_path", "");
    if (json.get<std::string>("peft_type") == kOwnType) {
      plan.prompt.prompts = json.get<std::int64_t>("prompts");
      plan.prompt.like_words = json.get<bool>("like_words");
      plan.prompt.after_first = json.get<bool>("after_first");
    }
    plan.prompt.validate(json.name());
    return plan;
  }
  template <class Model>
  void write(nlohmann::json& config_io, const std::vector<std::string>& /*paths*/, const Model& model) const {
    write_rows(config_io, prompt.rows, model);
    const bool names_text = start.kind == PromptStart::Kind::text && !text.empty() && !tokenizer.empty();
    config_io.update({{"prompt_tuning_init", names_text                                    ? "TEXT"
                                             : start.kind == PromptStart::Kind::vocabulary ? "SAMPLE_VOCAB"
                                                                                           : "RANDOM"},
                      {"prompt_tuning_init_text", names_text ? nlohmann::json(text) : nlohmann::json(nullptr)},
                      {"tokenizer_name_or_path", names_text ? nlohmann::json(tokenizer) : nlohmann::json(nullptr)}});
    if (prompt.prompts == 1 && prompt.like_words) return;
    config_io.update({{"peft_type", kOwnType}, {"prompts", prompt.prompts}, {"like_words", prompt.like_words}, {"after_first", prompt.after_first}});
  }

  template <class Model>
  void place(typename Model::Context& ctx, Model& model, Attachment<typename Model::Tensor>& attachment, std::uint64_t seed, const std::string& where) const {
    using X = typename Model::Tensor;
    prompt.validate(where);
    const PromptStart from = evaluated ? PromptStart{} : start;
    from.validate(where, prompt);
    InputSite<X>& site = model.input();
    attachment.add(site, Prompt<X>(ctx, site.width, prompt, prompt_start<X>(ctx, from, prompt, model.word_table().value(), derive(seed))));
  }
};

}  // namespace deltatune

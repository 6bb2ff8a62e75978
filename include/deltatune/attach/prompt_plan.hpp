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

  static std::vector<std::pair<std::string, PromptPlan>> methods() {
    PromptPlan words;
    words.start.kind = PromptStart::Kind::vocabulary;
    return {{kMethod, words}};
  }
  DELTATUNE_FUNCTION std::vector<Setting> settings() {
    using Kind = PromptStart::Kind;
    return {{"num_virtual_tokens", &prompt.rows, "--virtual-tokens", kRowsHelp},
            {"",
             Choice(start.kind, {{"random", Kind::normal},
                                 {"scaled", Kind::vocabulary_scale},
                                 {"vocabulary", Kind::vocabulary},
                                 {"text", Kind::text},
                                 {"labels", Kind::labels},
                                 {"uniform", Kind::uniform}}),
             "--prompt-init", "random, scaled (as wide as words), vocabulary (random words), text, labels or uniform"},
            {"", &text, "--prompt-text", "the text it starts from"},
            {.key = "prompts", .value = &prompt.prompts, .only_own = true},
            {.key = "like_words", .value = &prompt.like_words, .only_own = true},
            {.key = "after_first", .value = &prompt.after_first, .only_own = true}};
  }
  void validate(const std::string& where) const { prompt.validate(where); }
  bool own() const { return prompt.prompts != 1 || !prompt.like_words; }
  DELTATUNE_FUNCTION void read_more(const JsonConfig& json) {
    using Kind = PromptStart::Kind;
    read_rows(json);
    if (json.has("prompt_tuning_init"))
      Choice(start.kind, {{"RANDOM", Kind::normal}, {"TEXT", Kind::text}, {"SAMPLE_VOCAB", Kind::vocabulary}})
          .set(json.get<std::string>("prompt_tuning_init"), json.name() + ": prompt_tuning_init");
    text = json.get_or<std::string>("prompt_tuning_init_text", "");
    tokenizer = json.get_or<std::string>("tokenizer_name_or_path", "");
  }
  template <class Model>
  void write_more(nlohmann::json& config_io, const std::vector<std::string>& /*paths*/, Model& model) const {
    write_rows(config_io, model);
    const bool names_text = start.kind == PromptStart::Kind::text && !text.empty() && !tokenizer.empty();
    config_io.update({{"prompt_tuning_init", names_text                                    ? "TEXT"
                                             : start.kind == PromptStart::Kind::vocabulary ? "SAMPLE_VOCAB"
                                                                                           : "RANDOM"},
                      {"prompt_tuning_init_text", names_text ? nlohmann::json(text) : nlohmann::json(nullptr)},
                      {"tokenizer_name_or_path", names_text ? nlohmann::json(tokenizer) : nlohmann::json(nullptr)}});
  }

  static RandomKey stream_of(std::uint64_t seed) { return derive(seed); }
  template <class Model, class X>
  void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, RandomKey key, const std::string& where) const {
    prompt.validate(where);
    check_submodules(model, where);
    const PromptStart from = evaluated ? PromptStart{} : start;
    from.validate(where, prompt);
    PromptConfig config = prompt;
    config.unread = (submodules - 1) * prompt.rows;
    InputSite<X>& site = model.input();
    attachment.add(site, Prompt<X>(ctx, site.width, config, prompt_start<X>(ctx, from, config, model.word_table().value(), key)));
  }
};

}  // namespace deltatune

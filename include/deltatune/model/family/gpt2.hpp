// GPT-2: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", as Hugging Face's GPT2Model, GPT2LMHeadModel and
// GPT2ForSequenceClassification.
#pragma once

#include <cmath>

#include "deltatune/model/config_fields.hpp"
#include "deltatune/seam/architecture.hpp"

namespace deltatune::family {

DELTATUNE_FUNCTION Architecture gpt2(const JsonConfig& json) {
  using namespace detail;
  const Index width = config_size(json, "n_embd"), heads = config_size(json, "n_head"), layers = config_size(json, "n_layer");
  const double dropout = config_dropout(json, "resid_pdrop", 0.1);
  check_heads(json, "n_embd", width, "n_head", heads);
  check_absent_or(json, "add_cross_attention", false);
  Architecture a = described(json, "GPT-2", "GPT2", "transformer.");
  a.hidden_size = width;
  a.max_position_embeddings = config_size(json, "n_positions");
  a.smaller_branch_ends = a.transposed_in_file = true;
  a.input = {.module = "wte", .words = "wte", .positions = "wpe", .dropout = config_dropout(json, "embd_pdrop", 0.1)};
  LayerSpec layer{.attention = {.heads = heads,
                                .kv_heads = heads,
                                .head_width = width / heads,
                                .scale = json.get_or<bool>("scale_attn_weights", true) ? 1.0 / std::sqrt(static_cast<double>(width / heads)) : 1.0,
                                .causal = true,
                                .dropout = config_dropout(json, "attn_pdrop", 0.1),
                                .output_dropout = dropout},
                  .feed_forward = {.intermediate_size = json.has("n_inner") ? config_size(json, "n_inner") : 4 * width,
                                   .activation = config_activation(json, "activation_function", "gelu_new"),
                                   .output_dropout = dropout}};
  a.stack = {.layers = repeated(layer, layers),
             .norm = {.epsilon = json.get_or<double>("layer_norm_epsilon", 1e-5)},
             .place = NormPlace::before,
             .final_norm = "ln_f",
             .names = {"h.{}.",
                       {{"attn", "attention_adapters.adapters", "ln_1"}, "attn", {"attn.c_attn"}, "attn.c_proj"},
                       {{"mlp", "output_adapters.adapters", "ln_2"}, {"mlp.c_fc"}, "mlp.c_proj"}}};
  if (json.get_or<bool>("scale_attn_by_inverse_layer_idx", false))
    for (std::size_t l = 0; l < a.stack.layers.size(); ++l) a.stack.layers[l].attention.scale /= static_cast<double>(l + 1);
  a.head = {.pool = HeadSpec::Pool::last_row,
            .classifier = "score",
            .classifier_bias = false,
            .lm_head = "lm_head",
            .tied = json.get_or<bool>("tie_word_embeddings", true),
            .language_model_class = "GPT2LMHeadModel"};
  a.default_targets = {
      {{"LORA", "ADALORA", "VERA"}, {"c_attn"}}, {{"IA3"}, {"c_attn", "mlp.c_proj"}, {"mlp.c_proj"}}, {{"LN_TUNING"}, {"ln_1", "ln_2", "ln_f"}}};
  a.adapterhub_prompts = false;
  a.unread = {"{score,lm_head,multiple_choice_head}.**", "**.attn.{bias,masked_bias}"};
  return a;
}

}  // namespace deltatune::family

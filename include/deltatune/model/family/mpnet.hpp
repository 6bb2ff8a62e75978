// MPNet: Song et al. 2020, arXiv 2004.09297. BERT's layers with a bias by distance in every attention, RoBERTa's positions, and no token types.
#pragma once

#include "deltatune/model/family/bert.hpp"

namespace deltatune::family {

DELTATUNE_FUNCTION Architecture mpnet(const JsonConfig& json) {
  Architecture a = bert_encoder(json, "MPNet", "MPNet", "mpnet.", false);
  constexpr Index kPadding = 1;  // in transformers' code, whatever the configuration says
  const Index buckets = json.get_or<std::int64_t>("relative_attention_num_buckets", 32);
  if (buckets != 32)
    throw Error(json.name() + ": relative_attention_num_buckets", "is not supported",
                {.expected = "32, which transformers computes with", .got = std::to_string(buckets)});
  a.pad_id = kPadding;
  a.input.first_position = kPadding + 1;
  a.input.skips_padding_id = true;
  a.stack.relative_bias = {.table = "encoder.relative_attention_bias", .buckets = buckets};
  AttentionNames& attention = a.stack.names.attention;
  attention.norm = "attention.LayerNorm";
  attention.site = "attention";
  attention.adapters = "attention.adapters";
  attention.module = "attention.attn";
  attention.projections = {"attention.attn.q", "attention.attn.k", "attention.attn.v"};
  attention.output = "attention.attn.o";
  a.head.pooler = "pooler.dense";
  a.head.dense = "classifier.dense";
  a.head.classifier = "classifier.out_proj";
  a.head.drops_pooled = true;
  a.default_targets = {{{"LORA", "ADALORA", "VERA"}, {"q", "v"}}, {{"IA3"}, {"k", "v", "output.dense"}, {"output.dense"}}, {{"LN_TUNING"}, {"LayerNorm"}}};
  a.adapterhub_prompts = false;
  a.unread = {"{lm_head,qa_outputs,classifier}.**", "**.embeddings.position_ids"};
  return a;
}

}  // namespace deltatune::family

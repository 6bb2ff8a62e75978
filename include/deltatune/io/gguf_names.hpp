// What llama.cpp calls a model of Hugging Face Transformers and the weights in it, and how their rows lie in its files.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/io/json_config.hpp"

namespace deltatune {

namespace detail {

struct GgufPart {
  std::string_view module, tensor;  // "self_attn.q_proj", "attn_q"
};

// How the modules of several families are called: within a layer, and outside of layers.
struct GgufModules {
  std::string_view layers;  // "layers.", before the number
  std::string_view count;   // of the layers, in config.json
  std::span<const GgufPart> of_layer, others;
};

inline constexpr std::array<GgufPart, 9> kGgufDecoderLayer{{{"self_attn.q_proj", "attn_q"},
                                                            {"self_attn.k_proj", "attn_k"},
                                                            {"self_attn.v_proj", "attn_v"},
                                                            {"self_attn.qkv_proj", "attn_qkv"},
                                                            {"self_attn.o_proj", "attn_output"},
                                                            {"mlp.gate_proj", "ffn_gate"},
                                                            {"mlp.up_proj", "ffn_up"},
                                                            {"mlp.gate_up_proj", "ffn_up"},
                                                            {"mlp.down_proj", "ffn_down"}}};
inline constexpr std::array<GgufPart, 2> kGgufDecoderOthers{{{"embed_tokens", "token_embd"}, {"lm_head", "output"}}};
// Its table of positions has a name in the format, but llama.cpp applies no adapter to it.
inline constexpr std::array<GgufPart, 4> kGgufGpt2Layer{
    {{"attn.c_attn", "attn_qkv"}, {"attn.c_proj", "attn_output"}, {"mlp.c_fc", "ffn_up"}, {"mlp.c_proj", "ffn_down"}}};
inline constexpr std::array<GgufPart, 2> kGgufGpt2Others{{{"wte", "token_embd"}, {"lm_head", "output"}}};
inline constexpr std::array<GgufPart, 6> kGgufBertLayer{{{"attention.self.query", "attn_q"},
                                                         {"attention.self.key", "attn_k"},
                                                         {"attention.self.value", "attn_v"},
                                                         {"attention.output.dense", "attn_output"},
                                                         {"intermediate.dense", "ffn_up"},
                                                         {"output.dense", "ffn_down"}}};
inline constexpr std::array<GgufPart, 1> kGgufBertOthers{{{"embeddings.word_embeddings", "token_embd"}}};
inline constexpr std::array<GgufPart, 6> kGgufDistilBertLayer{{{"attention.q_lin", "attn_q"},
                                                               {"attention.k_lin", "attn_k"},
                                                               {"attention.v_lin", "attn_v"},
                                                               {"attention.out_lin", "attn_output"},
                                                               {"ffn.lin1", "ffn_up"},
                                                               {"ffn.lin2", "ffn_down"}}};
inline constexpr std::array<GgufPart, 4> kGgufModernBertLayer{
    {{"attn.Wqkv", "attn_qkv"}, {"attn.Wo", "attn_output"}, {"mlp.Wi", "ffn_up"}, {"mlp.Wo", "ffn_down"}}};
inline constexpr std::array<GgufPart, 1> kGgufModernBertOthers{{{"embeddings.tok_embeddings", "token_embd"}}};

inline constexpr GgufModules kGgufDecoder{"layers.", "num_hidden_layers", kGgufDecoderLayer, kGgufDecoderOthers};
inline constexpr GgufModules kGgufGpt2{"h.", "n_layer", kGgufGpt2Layer, kGgufGpt2Others};
inline constexpr GgufModules kGgufBert{"encoder.layer.", "num_hidden_layers", kGgufBertLayer, kGgufBertOthers};
inline constexpr GgufModules kGgufDistilBert{"layer.", "n_layers", kGgufDistilBertLayer, kGgufBertOthers};
inline constexpr GgufModules kGgufModernBert{"layers.", "num_hidden_layers", kGgufModernBertLayer, kGgufModernBertOthers};

struct GgufFamily {
  std::string_view model_type;    // in config.json
  std::string_view architecture;  // general.architecture
  const GgufModules* modules;
  bool pairs_rotary_rows = false;                // rows of queries and keys lie in the order of permuted_heads()
  std::optional<bool> tie_word_embeddings = {};  // where config.json does not say; none: the model has no language head in llama.cpp
};

inline constexpr std::array<GgufFamily, 20> kGgufFamilies{{{"llama", "llama", &kGgufDecoder, true, false},
                                                           {"mistral", "llama", &kGgufDecoder, true, false},
                                                           {"qwen2", "qwen2", &kGgufDecoder, false, false},
                                                           {"qwen3", "qwen3", &kGgufDecoder, false, false},
                                                           {"gemma", "gemma", &kGgufDecoder, false, true},
                                                           {"gemma2", "gemma2", &kGgufDecoder, false, true},
                                                           {"gemma3_text", "gemma3", &kGgufDecoder, false, true},
                                                           {"gemma3", "gemma3", &kGgufDecoder, false, true},
                                                           {"phi3", "phi3", &kGgufDecoder, false, false},
                                                           {"smollm3", "smollm3", &kGgufDecoder, true, true},
                                                           {"olmo2", "olmo2", &kGgufDecoder, false, false},
                                                           {"olmo3", "olmo2", &kGgufDecoder, false, false},
                                                           {"granite", "granite", &kGgufDecoder, true, false},
                                                           {"gpt2", "gpt2", &kGgufGpt2, false, true},
                                                           {"bert", "bert", &kGgufBert},
                                                           {"roberta", "bert", &kGgufBert},
                                                           {"camembert", "bert", &kGgufBert},
                                                           {"xlm-roberta", "bert", &kGgufBert},
                                                           {"distilbert", "bert", &kGgufDistilBert},
                                                           {"modernbert", "modern-bert", &kGgufModernBert}}};

}  // namespace detail

// The names of one model.
class GgufNames {
 public:
  // From config.json. Throws Error for a family that llama.cpp has no adapters for, and for a setting that is missing or of a wrong type.
  DELTATUNE_FUNCTION static GgufNames of(const JsonConfig& config) {
    const std::string type = config.get<std::string>("model_type");
    std::string known;
    for (const detail::GgufFamily& family : detail::kGgufFamilies) {
      if (family.model_type == type) return GgufNames(family, config.has("text_config") ? config.object("text_config") : config);
      known += (known.empty() ? "" : ", ") + std::string(family.model_type);
    }
    throw Error(config.name() + ": model_type", "this family cannot be exported to GGUF", {.expected = "one of " + known, .got = "\"" + type + "\""});
  }

  std::string architecture() const { return std::string(family_->architecture); }
  Index layers() const { return layers_; }
  // The language head is the table of embeddings, and has no tensor of its own.
  bool tied() const { return tied_; }

  // The tensor of a module without ".weight": "blk.0.attn_q" of "layers.0.self_attn.q_proj", whatever prefix ("model.", "bert.") the module's path has; empty
  // where llama.cpp has none, or applies no adapter to it.
  DELTATUNE_FUNCTION std::string tensor_of(std::string_view module) const {
    const detail::GgufModules& modules = *family_->modules;
    for (bool stripped = true; stripped;) {
      stripped = false;
      for (const std::string_view prefix : {"model.", "language_model.", "transformer.", "bert.", "roberta.", "distilbert."})
        if (module.starts_with(prefix)) {
          module.remove_prefix(prefix.size());
          stripped = true;
        }
    }
    for (const detail::GgufPart& part : modules.others)
      if (part.module == module) return std::string(part.tensor);
    if (!module.starts_with(modules.layers)) return {};
    const std::string_view rest = module.substr(modules.layers.size());
    const std::size_t dot = rest.find('.');
    const std::string number(rest.substr(0, dot));
    if (dot == std::string_view::npos || number.empty() || number.size() > 9 || number.find_first_not_of("0123456789") != std::string::npos) return {};
    if (std::stoll(number) >= layers_) return {};
    for (const detail::GgufPart& part : modules.of_layer)
      if (part.module == rest.substr(dot + 1)) return "blk." + number + "." + std::string(part.tensor);
    return {};
  }

  // The heads of whose rows llama.cpp's file has another order than Transformers' (permuted_heads()); 0: none.
  DELTATUNE_FUNCTION Index permuted_heads_of(std::string_view tensor) const {
    if (!family_->pairs_rotary_rows) return 0;
    return tensor.ends_with(".attn_q") ? heads_ : tensor.ends_with(".attn_k") ? kv_heads_ : 0;
  }

 private:
  GgufNames(const detail::GgufFamily& family, const JsonConfig& config)
      : family_(&family),
        layers_(config.get<std::int64_t>(family.modules->count)),
        tied_(family.tie_word_embeddings && config.get_or<bool>("tie_word_embeddings", *family.tie_word_embeddings)) {
    if (!family.pairs_rotary_rows) return;
    heads_ = config.get<std::int64_t>("num_attention_heads");
    kv_heads_ = config.get_or<std::int64_t>("num_key_value_heads", heads_);
  }

  const detail::GgufFamily* family_;
  Index layers_, heads_ = 0, kv_heads_ = 0;
  bool tied_;
};

namespace detail {

// Rotary embeddings turn rows i and i + d/2 of a head of size d together; llama.cpp's llama has them side by side. rows: (heads · d, cols), row-major.
DELTATUNE_FUNCTION std::vector<float> permuted_heads(const std::vector<float>& rows, Index heads, Index cols) {
  std::vector<float> result(rows.size());
  const Index size = static_cast<Index>(rows.size()) / cols / heads, half = size / 2;
  for (Index head = 0; head < heads; ++head)
    for (Index i = 0; i < half; ++i)
      for (Index part = 0; part < 2; ++part)
        for (Index c = 0; c < cols; ++c)
          result[static_cast<std::size_t>((head * size + 2 * i + part) * cols + c)] =
              rows[static_cast<std::size_t>((head * size + part * half + i) * cols + c)];
  return result;
}

}  // namespace detail

}  // namespace deltatune

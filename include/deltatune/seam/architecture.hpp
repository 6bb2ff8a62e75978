// What distinguishes one Transformer from another: sizes, the kind of each part, and the names of its tensors. Data alone: model/transformer.hpp runs it.
//
// A family is a function that makes one of these from a config.json (model/family/). Names are those of Hugging Face's modules; "" where a family has no
// such part. What a layer's names say stands below names.layer, what the others say below `prefix`, or, of the head, at the top.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/ops/activation.hpp"

namespace deltatune {

struct NormSpec {
  enum class Kind { layer_norm, rms_norm } kind = Kind::layer_norm;
  double epsilon = 1e-12;
  bool bias = true;
  double weight_offset = 0;  // added to the weight: 1 in Gemma
};

// Rotary position embeddings of queries and keys: Su et al. 2021, arXiv 2104.09864.
struct RotarySpec {
  double theta = 10000;
  Index width = 0;                                // rotated columns of a head; 0: all
  std::vector<double> frequency_scale = {};       // (width / 2), or empty: of Llama 3, YaRN
  double magnitude = 1;                           // of cos and sin: YaRN, LongRoPE
  std::vector<double> long_frequency_scale = {};  // (width / 2): of a batch with a position from long_from on, as a whole (LongRoPE); or empty
  Index long_from = 0;

  bool operator==(const RotarySpec&) const = default;
};

// A bias of the scores by the distance of query and key, from a table (buckets, heads): Raffel et al. 2020, arXiv 1910.10683.
struct RelativeBiasSpec {
  std::string table = {};  // one for all layers, or with {} in place of a layer's number one per layer: UMT5
  Index buckets = 32, max_distance = 128;
  bool bidirectional = true;
};

struct AttentionSpec {
  Index heads = 0, kv_heads = 0, head_width = 0;  // H, Hkv, D
  double scale = 0;                               // of the scores; 0: 1/√D
  double soft_cap = 0;                            // scores become c·tanh(s/c): Gemma 2; 0: none
  Index window = 0;                               // a query sees keys at most so far away; 0: all
  bool causal = false;                            // none behind it
  bool bias = true, output_bias = true;
  double dropout = 0, output_dropout = 0;  // of the probabilities; of the result
  std::optional<RotarySpec> rotary = {};
  std::optional<NormSpec> qk_norm = {};  // of queries and keys before they are rotated
  bool qk_norm_over_heads = false;       // of all heads together: OLMo 2
};
struct FeedForwardSpec {
  Index intermediate_size = 0;  // F
  ops::Activation activation = ops::Activation::gelu;
  bool gated = false;  // f(gate) ∘ up: Shazeer 2020, arXiv 2002.05202
  bool bias = true;
  double inner_dropout = 0, output_dropout = 0;  // behind the activation; of the result
};

// h' = norm_sum(h + dropout(branch_scale · norm_branch(branch(norm_before(h))))): which of the norms a sublayer has.
enum class NormPlace {
  after_sum,     // BERT
  before,        // GPT-2, Llama, T5
  around,        // before and of the branch: Gemma 2
  after_branch,  // OLMo 2
};

struct LayerSpec {
  AttentionSpec attention;
  FeedForwardSpec feed_forward;
  bool first_norm = true;                   // ModernBERT's layer 0 has none before its attention
  std::optional<AttentionSpec> cross = {};  // behind the first attention: of a decoder's rows to an encoder's output
};

struct SublayerNames {
  std::string site;              // of its result, where deltas stand
  std::string adapters = {};     // the same in AdapterHub's files
  std::string norm = {};         // where NormPlace says
  std::string branch_norm = {};  // the second one of NormPlace::around
};
struct AttentionNames : SublayerNames {
  std::string module;                    // of prefixes
  std::vector<std::string> projections;  // one, or query, key and value
  std::string output;
  std::string q_norm = {}, k_norm = {};
};
struct FeedForwardNames : SublayerNames {
  std::vector<std::string> up;  // one, or gate and up
  std::string down;
  std::string adapterhub_intermediate = {},
              adapterhub_output = {};  // where AdapterHub's intermediate_lora and output_lora go; "": to the first of up, and down

  const std::string& intermediate_lora() const { return adapterhub_intermediate.empty() ? up.front() : adapterhub_intermediate; }
  const std::string& output_lora() const { return adapterhub_output.empty() ? down : adapterhub_output; }
};
struct StackNames {
  std::string layer;  // "encoder.layer.{}."
  AttentionNames attention;
  FeedForwardNames feed_forward;
  AttentionNames cross = {};
};

// A layer's number in place of {}, where there is one: "encoder.layer.0."
DELTATUNE_FUNCTION std::string with_layer(const std::string& name, Index layer) {
  const std::size_t at = name.find("{}");
  return at == std::string::npos ? name : name.substr(0, at) + std::to_string(layer) + name.substr(at + 2);
}

struct StackSpec {
  std::vector<LayerSpec> layers = {};
  NormSpec norm = {};  // of all norms
  NormPlace place = NormPlace::before;
  std::string final_norm = {};
  double final_dropout = 0;  // behind it
  double branch_scale = 1;   // h' = h + branch_scale · branch: Granite
  std::optional<RelativeBiasSpec> relative_bias = {};
  StackNames names = {};

  // Where a layer's names stand in a model without a head: "encoder.layer.0."
  std::string layer_path(Index layer) const { return with_layer(names.layer, layer); }
  // The layer that a path without a prefix lies in.
  DELTATUNE_FUNCTION std::optional<Index> layer_of(const std::string& path) const {
    for (Index layer = 0; layer < static_cast<Index>(layers.size()); ++layer)
      if (path.starts_with(layer_path(layer))) return layer;
    return std::nullopt;
  }
  // Whether a path without a prefix is of its layers, its last norm or its table.
  DELTATUNE_FUNCTION bool has(const std::string& path) const {
    return path.starts_with(names.layer.substr(0, names.layer.find("{}"))) || (!final_norm.empty() && path.starts_with(final_norm + ".")) ||
           (relative_bias && path.starts_with(relative_bias->table + "."));
  }
};

struct InputSpec {
  std::string module;  // where rows of prompts stand
  std::string words, positions = {}, types = {}, norm = {};
  std::string projection = {};  // from embedding_size to hidden_size, behind norm and dropout: ELECTRA
  Index embedding_size = 0;     // 0: hidden_size
  double dropout = 0;
  double scale = 1;                // of the word embeddings: √hidden_size in Gemma
  bool scales_prompts = false;     // and of rows of prompts among them: Gemma 2 and Granite, not Gemma 3
  Index first_position = 0;        // of a sequence's first token
  bool skips_padding_id = false;   // tokens that equal pad_id stand at position pad_id and are not counted: RoBERTa
  bool padding_row_learns = true;  // the row pad_id of the word embeddings has a gradient

  // Whether a path without a prefix is one of it.
  DELTATUNE_FUNCTION bool has(const std::string& path) const {
    for (const std::string* const part : {&module, &words, &positions, &types, &norm, &projection})
      if (!part->empty() && (path == *part || path.starts_with(*part + "."))) return true;
    return false;
  }
};

// What a classifier computes of each sequence: pool, [dropout, dense, activation, norm,] dropout, classifier.
struct HeadSpec {
  enum class Pool { first_row, last_row, mean, last_end } pool = Pool::first_row;  // last_end: of a decoder that reads the text, too, at its last end token
  std::string pooler = {};  // of the model without a head, which may hold it; a classifier's dense layer where `dense` is empty
  std::string dense = {};   // of the head
  bool dense_bias = true;
  ops::Activation activation = ops::Activation::tanh;
  std::string norm = {};
  std::string classifier;
  bool classifier_bias = true;
  double dropout = 0;
  bool drops_pooled = false;     // dropout before the dense layer, too
  std::string lm_head = {};      // of a language model
  bool tied = true;              // it is the table of word embeddings
  bool always_tied = false;      // in every folder: transformers reads no other of BART
  double logit_scale = 1;        // of a language model's logits: Granite
  double logit_cap = 0;          // and c·tanh(logit / c) of them: Gemma 2; 0: none
  std::string logits_bias = {};  // and what is added to them first, which never trains: BART
  std::string language_model_class = {};

  // The output module as a whole: "classifier" of "classifier.out_proj".
  std::string output_module() const { return classifier.substr(0, classifier.find('.')); }
};

// Of an encoder-decoder, what reads the source text. Its word embeddings are those of the decoder, which Architecture's other parts describe.
struct EncoderSpec {
  InputSpec input;
  StackSpec stack;
};

// Where in the layers a path lies.
struct LayerPlace {
  const StackSpec* stack = nullptr;
  Index layer = 0;          // counted over both stacks of an encoder-decoder, the encoder's first
  std::string module = {};  // the path behind the layer's own: "attention.output.dense"
};

// Where deltas of some methods, under PEFT's names, go when nobody says.
struct DefaultTargets {
  std::vector<std::string> methods;
  std::vector<std::string> names;
  std::vector<std::string> feed_forward = {};  // those of (IA)³ that are scaled at their input
};

struct Architecture {
  std::string family;                  // config.json's model_type
  std::string title;                   // as people write it: "GPT-2"
  std::string class_name;              // transformers': "Bert" of BertForSequenceClassification
  std::string prefix;                  // of the base in a model with a head: "bert."
  std::string classifier_prefix = {};  // of a classifier, where that is another one: T5
  Index vocab_size = 0, hidden_size = 0, max_position_embeddings = 0, type_vocab_size = 0;
  Index pad_id = -1;                       // -1: none
  std::vector<std::int32_t> eos_ids = {};  // each ends a text
  double initializer_range = 0.02;
  bool smaller_branch_ends = false;      // weights at the ends of branches start smaller by √(2·layers): GPT-2
  bool transposed_in_file = false;       // GPT-2's Conv1D
  std::vector<std::string> labels = {};  // names of the classes, by number
  InputSpec input;
  StackSpec stack;
  HeadSpec head;
  std::optional<EncoderSpec> encoder = {};
  std::int32_t start_id = -1;                                     // of an encoder-decoder: what its decoder reads in front of a text; -1: none
  bool starts_with_last = false;                                  // in training that is the text's own last token, a language code's, say: mBART
  std::vector<DefaultTargets> default_targets = {};               // PEFT's tables, and LN_TUNING's, which PEFT wants to be told
  bool adapterhub_prompts = true, adapterhub_bottlenecks = true;  // whether AdapterHub has prompt tuning, and bottlenecks that start from the model
  std::string adapterhub_prefix = "self_prefix";                  // its name of prefixes
  std::vector<std::array<std::string, 2>> old_names = {};         // ends of paths, new and old: {"LayerNorm.weight", "LayerNorm.gamma"}
  std::vector<std::string> unread = {};                           // globs of tensors that a file may hold besides: other heads, buffers

  // Whether max_position_embeddings is a limit: not where distances between tokens are all that counts (T5).
  bool limits_positions() const { return !input.positions.empty() || !stack.relative_bias; }
  // The most tokens of a sequence.
  Index longest() const { return max_position_embeddings - input.first_position; }
  Index layers() const { return static_cast<Index>(stack.layers.size()); }
  // Of an encoder-decoder, the first of its decoder where layers are counted over both stacks; else 0.
  Index encoder_layers() const { return encoder ? static_cast<Index>(encoder->stack.layers.size()) : 0; }
  // Where a layer's names stand in a model without a head: "encoder.layer.0."
  std::string layer_path(Index layer) const { return stack.layer_path(layer); }
  // Where a path without a prefix lies, if in a layer; what it points to is part of this.
  DELTATUNE_FUNCTION std::optional<LayerPlace> place_of(const std::string& path) const {
    if (encoder)
      if (const std::optional<Index> layer = encoder->stack.layer_of(path))
        return LayerPlace{&encoder->stack, *layer, path.substr(encoder->stack.layer_path(*layer).size())};
    if (const std::optional<Index> layer = stack.layer_of(path))
      return LayerPlace{&stack, encoder_layers() + *layer, path.substr(stack.layer_path(*layer).size())};
    return std::nullopt;
  }
  // Null where a method has no default.
  DELTATUNE_FUNCTION const DefaultTargets* targets_of(const std::string& method) const {
    for (const DefaultTargets& targets : default_targets)
      if (std::find(targets.methods.begin(), targets.methods.end(), method) != targets.methods.end()) return &targets;
    return nullptr;
  }
  // What the decoder of an encoder-decoder reads to predict `target`, token by token: what stands in front of a text, and the text without its last token;
  // the padding's id where a token is `ignored`, which no loss counts. Throws Error for an empty target, and where nothing can stand in front.
  DELTATUNE_FUNCTION std::vector<std::int32_t> decoder_input(const std::vector<std::int32_t>& target, std::int32_t ignored) const {
    if (target.empty()) throw Error(title, "has an empty target", {.expected = "at least its end-of-text token"});
    const std::int32_t first = starts_with_last ? target.back() : start_id;
    if (first < 0)
      throw Error(title, "has nothing that a target begins with",
                  {.expected = starts_with_last ? "a target whose last token is scored" : "decoder_start_token_id in config.json"});
    std::vector<std::int32_t> read{first};
    for (std::size_t t = 0; t + 1 < target.size(); ++t) read.push_back(target[t] == ignored ? static_cast<std::int32_t>(pad_id) : target[t]);
    return read;
  }
  std::string without_prefix(const std::string& path) const { return path.starts_with(prefix) ? path.substr(prefix.size()) : path; }
  // Whether a path is of the head: the output layers of a classifier or language model.
  DELTATUNE_FUNCTION bool is_head(const std::string& path) const {
    for (const std::string* const module : {&head.dense, &head.norm, &head.classifier, &head.lm_head, &head.logits_bias})
      if (!module->empty() && (path == *module || path.starts_with(*module + "."))) return true;
    return false;
  }
  // Whether a path without a prefix is one of the base: of the model without a head.
  DELTATUNE_FUNCTION bool is_base(const std::string& path) const {
    if (stack.has(path) || (encoder && (encoder->stack.has(path) || encoder->input.has(path))) || input.has(path)) return true;
    return !head.pooler.empty() && (path == head.pooler || path.starts_with(head.pooler + "."));
  }
};

namespace detail {

DELTATUNE_FUNCTION void check_supported(const std::string& title, const StackSpec& stack) {
  const auto refuse = [&](const std::string& what) { throw Error(title, what + ", which is not supported"); };
  if (stack.layers.empty()) refuse("has no layers");
  const bool has_rms = stack.norm.kind == NormSpec::Kind::rms_norm;
  if (has_rms && stack.place == NormPlace::after_sum) refuse("has RMSNorm after the residual sum");
  if (!has_rms && stack.norm.weight_offset != 0) refuse("has LayerNorm with an offset");
  for (const LayerSpec& layer : stack.layers) {
    for (const AttentionSpec* const attention : {&layer.attention, layer.cross ? &*layer.cross : &layer.attention}) {
      if (attention->heads < 1 || attention->kv_heads < 1 || attention->heads % attention->kv_heads != 0)
        throw Error(title, "the query heads cannot share the key and value heads",
                    {.expected = "a multiple of " + std::to_string(attention->kv_heads) + " heads", .got = std::to_string(attention->heads)});
      if (attention->qk_norm && attention->qk_norm->kind != NormSpec::Kind::rms_norm) refuse("normalises queries and keys by LayerNorm");
    }
  }
}

}  // namespace detail

// Throws Error unless a classifier whose decoder reads the text, too, has the tokens for it.
DELTATUNE_FUNCTION void check_reads_twice(const Architecture& a) {
  if (a.eos_ids.size() != 1 || a.eos_ids.front() < 0)
    throw Error(a.title, "needs one end-of-text token, where a classifier reads its decoder", {.expected = "one eos_token_id in config.json"});
  if (a.start_id < 0 && !a.starts_with_last)
    throw Error(a.title, "has no token that its decoder starts with", {.expected = "decoder_start_token_id in config.json"});
}

// Throws Error for what no layer here computes yet.
DELTATUNE_FUNCTION void check_supported(const Architecture& a) {
  detail::check_supported(a.title, a.stack);
  if (a.encoder) detail::check_supported(a.title, a.encoder->stack);
}

}  // namespace deltatune

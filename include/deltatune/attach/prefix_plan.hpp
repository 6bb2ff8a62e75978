// Prefix tuning for a whole model. The settings of PEFT's PrefixTuningConfig, and those of AdapterHub's.
//
// On an encoder-decoder there are three prefixes, as in Li and Liang 2021 (arXiv 2101.00190), each with parameters of its own: in the encoder's
// self-attention, in cross-attention, and in the decoder's self-attention. Where scores have a bias by distance (T5), their rows have none.
//
// PEFT's prefix (of_peft()) is narrower, and what PEFT 0.21.2 computes from its file is not what the file looks like:
//   - The encoder and cross-attention have none: PEFT takes an empty cache for cross-attention.
//   - Of the L pairs of keys and values in the file, layer l of the decoder reads pair 2l mod L: PEFT lays the pairs out twice, for two kinds of attention, and
//     cuts four tensors per layer. With an even L, half of the pairs are in no layer, and layers l and l + L/2 share theirs.
//   - Scores are biased as if the rows were tokens in front of the decoder's.
// Files of it are read as PEFT computes them; those that start here have an odd L, with which every layer has a pair of its own (L is num_layers of the file,
// which need not be the model's).
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/prompt_learning.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/delta/prefix.hpp"

namespace deltatune {

struct PrefixPlan : PromptLearningPlan {
  static constexpr const char* kMethod = "prefix";
  static constexpr const char* kPeftType = "PREFIX_TUNING";
  // With what PEFT has not: gates, layers left out, positions that stay, and all of an encoder-decoder but the decoder's self-attention.
  static constexpr const char* kOwnType = "DELTATUNE_PREFIX";

  PrefixConfig prefix = {};
  std::vector<Index> leave_out = {};                                       // numbers of layers; the decoder's after the encoder's
  bool encoder_prefix = true, cross_prefix = true, decoder_prefix = true;  // of an encoder-decoder; the names are AdapterHub's
  Index pairs = 0;                                                         // L of PEFT's file for an encoder-decoder; 0: one per layer, and an odd number

  // PEFT's prefix for an encoder-decoder.
  static PrefixPlan of_peft(PrefixConfig prefix = {}, Index pairs = 0) {
    PrefixPlan plan;
    prefix.distances = RowDistances::real;
    plan.prefix = prefix;
    plan.encoder_prefix = plan.cross_prefix = false;
    plan.pairs = pairs;
    plan.submodules = 2;
    return plan;
  }

  static std::vector<std::pair<std::string, PrefixPlan>> methods() {
    PrefixPlan encoded;
    encoded.prefix.hidden = 512;
    return {{kMethod, {}}, {"prefix_mlp", encoded}};
  }
  DELTATUNE_FUNCTION std::vector<Setting> settings() {
    using Gates = PrefixConfig::Gates;
    std::vector<Setting> all{
        {"num_virtual_tokens", &prefix.rows, "--virtual-tokens", kRowsHelp},
        {"", &prefix.dropout, "--dropout", kDropoutHelp},
        {.key = "gates", .value = Choice(prefix.gates, {{"none", Gates::none}, {"shared", Gates::shared}, {"separate", Gates::separate}}), .only_own = true},
        {.key = "shifts_positions", .value = &prefix.shifts_positions, .only_own = true},
        {.key = "leave_out", .value = &leave_out, .only_own = true}};
    if (prefix.hidden > 0) all.push_back({"", &prefix.hidden, "--encoder-hidden", kEncoderHelp});
    for (const Kind& kind : kinds())
      all.push_back({.key = "", .value = Choice(this->*kind.wanted, {{"yes", true}, {"no", false}}), .option = kind.option, .help = kind.help});
    return all;
  }
  void validate(const std::string& where) const { prefix.validate(where); }
  bool own() const { return !prefix.shifts_positions || prefix.gates != PrefixConfig::Gates::none || !leave_out.empty(); }
  template <class Model>
  bool own(const Model& model) const {
    if (model.architecture().encoder) return own() || !is_of_peft();
    return own() || model.architecture().stack.relative_bias.has_value();  // PEFT has none there
  }
  DELTATUNE_FUNCTION void read_more(const JsonConfig& json) {
    read_rows(json);
    if (json.get_or<bool>("prefix_projection", false))
      prefix.hidden = json.get_or<std::int64_t>("encoder_hidden_size", json.get_or<std::int64_t>("token_dim", 0));
    encoder_prefix = json.get_or<bool>("encoder_prefix", true);
    cross_prefix = json.get_or<bool>("cross_prefix", true);
    decoder_prefix = json.get_or<bool>("decoder_prefix", true);
    if (json.has("distances")) distances_choice(prefix.distances).set(json.get<std::string>("distances"), json.name() + ": distances");
    if (json.get_or<std::string>("peft_type", "") != kPeftType) return;
    if (submodules == 2) {
      *this = of_peft(prefix, json.get<std::int64_t>("num_layers"));
    } else if (json.get_or<std::string>("task_type", "") == "SEQ_2_SEQ_LM") {
      throw Error(json.name() + ": num_transformer_submodules", "is not 2, without which PEFT cannot run prefixes on an encoder-decoder",
                  {.expected = "2", .got = std::to_string(submodules)});
    }
  }
  template <class Model>
  void write_more(nlohmann::json& config_io, const std::vector<std::string>& /*paths*/, Model& model) const {
    write_rows(config_io, model);
    const AttentionSpec& attention = model.architecture().stack.layers.at(0).attention;
    const Index width = key_width(model.architecture());
    config_io.update({{"prefix_projection", prefix.hidden > 0},
                      {"encoder_hidden_size", prefix.hidden > 0 ? prefix.hidden : width},
                      {"num_attention_heads", attention.kv_heads},
                      {"token_dim", width}});
    const bool two_stacks = model.architecture().encoder.has_value();
    if (two_stacks && !own(model)) config_io["num_layers"] = pairs_for(model);
    if (!own(model)) return;
    PrefixConfig written = prefix;
    if (model.architecture().stack.relative_bias) config_io["distances"] = distances_choice(written.distances).word();
    if (two_stacks) config_io.update({{"encoder_prefix", encoder_prefix}, {"cross_prefix", cross_prefix}, {"decoder_prefix", decoder_prefix}});
  }

  // Returns the prefixes. seed: a number, or the key of a stream.
  template <class Model, class X, class Seed>
  Prefixes<X>& place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, Seed seed, const std::string& where) const {
    prefix.validate(where);
    check_submodules(model, where);
    const bool two_stacks = model.architecture().encoder.has_value();
    const Index before = model.architecture().encoder_layers();
    detail::check_left_out(model, leave_out, where);
    Prefixes<X> prefixes;
    bool wanted = false;
    for (const Kind& kind : kinds()) {
      if (two_stacks ? !(this->*kind.wanted) : kind.kind != AttentionKind::self) continue;
      wanted = true;
      PrefixConfig config = prefix;
      if (evaluated) config.hidden = 0;
      if (two_stacks && (own(model) || kind.kind != AttentionKind::self)) config.shifts_positions = false;
      std::vector<Parameter<X>*> rows;
      const std::uint64_t stream = static_cast<std::uint64_t>(kind.stream);
      bool leaves_out = false, biased = false;
      model.visit_attentions([&](KvSite<X>& site) {
        if (site.kind != kind.kind) return;
        const Index number = site.layer + (site.kind != AttentionKind::encoder_self ? before : 0);
        biased = biased || site.biased;
        if (detail::holds(leave_out, number)) {
          leaves_out = true;
          return;
        }
        if (site.slides && !prefix.shifts_positions)
          throw Error(where + ": " + site.path, "has a sliding window, past which AdapterHub's prefixes would be seen; that is not supported",
                      {.remedy = "use PEFT's form of prefixes, or leave the layer out"});
        const RandomKey key = derive(seed, 2 * stream, static_cast<std::uint64_t>(site.layer));
        rows.push_back(&attachment.add(site, PrefixRows<X>(ctx, site.path, site.input_width, site.width, config, key)).kv());
      });
      if (rows.empty()) continue;
      if (leaves_out && biased && prefix.distances == RowDistances::shifted)
        throw Error(where + ": leave_out",
                    "names a layer with a bias by distance: AdapterHub leaves that bias out of all layers behind, which is not supported",
                    {.expected = "no layer, or a whole stack"});
      PrefixSlots slots{.names = kind.names};
      if (two_stacks && !own(model)) slots = slots_of_peft(model, where);
      prefixes.add(Prefix<X>(ctx, std::move(rows), embedding_width(model.architecture()), config, derive(seed, 2 * stream + 1), std::move(slots)));
    }
    if (!wanted)
      throw Error(where, "has a prefix neither in the encoder nor in the decoder nor in cross-attention", {.remedy = "leave at least one of the three on"});
    if (prefixes.empty()) throw Error(where + ": leave_out", "leaves out every layer");
    return attachment.add(model.derived(), std::move(prefixes));
  }

 private:
  struct Kind {
    AttentionKind kind;
    bool PrefixPlan::*wanted;
    const char* names;  // of its parameters
    int stream;         // of random numbers
    const char *option, *help;
  };
  static std::array<Kind, 3> kinds() {
    return {Kind{AttentionKind::self, &PrefixPlan::decoder_prefix, "", 0, "--decoder-prefix", "of an encoder-decoder: rows in the decoder's self-attention"},
            Kind{AttentionKind::encoder_self, &PrefixPlan::encoder_prefix, "encoder_prefix.", 1, "--encoder-prefix",
                 "of an encoder-decoder: rows in the encoder's self-attention"},
            Kind{AttentionKind::cross, &PrefixPlan::cross_prefix, "cross_prefix.", 2, "--cross-prefix", "of an encoder-decoder: rows in cross-attention"}};
  }

  static Choice distances_choice(RowDistances& distances) {
    return Choice(distances, {{"none", RowDistances::none}, {"real", RowDistances::real}, {"shifted", RowDistances::shifted}});
  }
  bool is_of_peft() const { return submodules == 2 && !encoder_prefix && !cross_prefix && decoder_prefix && prefix.distances == RowDistances::real; }
  template <class Model>
  Index pairs_for(const Model& model) const {
    return pairs > 0 ? pairs : model.layers() + 1 - model.layers() % 2;
  }
  template <class Model>
  PrefixSlots slots_of_peft(const Model& model, const std::string& where) const {
    PrefixSlots slots{.count = pairs_for(model)};
    if (slots.count < model.layers())
      throw Error(where + ": num_layers", "is not enough for the decoder",
                  {.expected = "at least " + std::to_string(model.layers()), .got = std::to_string(slots.count)});
    for (Index l = 0; l < model.layers(); ++l) slots.of_layer.push_back(2 * l % slots.count);
    return slots;
  }
  static Index key_width(const Architecture& architecture) {
    const AttentionSpec& attention = architecture.stack.layers.at(0).attention;
    return attention.kv_heads * attention.head_width;
  }
  // Columns of what the encoder reads: PEFT takes those of the keys, AdapterHub those of the hidden states.
  Index embedding_width(const Architecture& architecture) const {
    if (prefix.embedding > 0) return prefix.embedding;
    return prefix.shifts_positions ? key_width(architecture) : architecture.hidden_size;
  }
};

}  // namespace deltatune

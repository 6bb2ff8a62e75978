// Prefix tuning for a whole model. The settings of PEFT's PrefixTuningConfig, and those of AdapterHub's.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "deltatune/attach/prompt_learning.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/delta/prefix.hpp"

namespace deltatune {

struct PrefixPlan : PromptLearningPlan {
  static constexpr const char* kMethod = "prefix";
  static constexpr const char* kPeftType = "PREFIX_TUNING";
  static constexpr bool kOnEncoderDecoders = false;
  static constexpr const char* kOwnType = "DELTATUNE_PREFIX";  // with what PEFT has not: gates, layers left out, positions that stay

  PrefixConfig prefix = {};
  std::vector<Index> leave_out = {};  // numbers of layers

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
    return all;
  }
  void validate(const std::string& where) const { prefix.validate(where); }
  bool own() const { return !prefix.shifts_positions || prefix.gates != PrefixConfig::Gates::none || !leave_out.empty(); }
  DELTATUNE_FUNCTION void read_more(const JsonConfig& json) {
    read_rows(json);
    if (json.get_or<bool>("prefix_projection", false))
      prefix.hidden = json.get_or<std::int64_t>("encoder_hidden_size", json.get_or<std::int64_t>("token_dim", 0));
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
  }

  // Returns the rows. seed: a number, or the key of a stream.
  template <class Model, class X, class Seed>
  Prefix<X>& place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, Seed seed, const std::string& where) const {
    prefix.validate(where);
    detail::check_left_out(model, leave_out, where);
    PrefixConfig config = prefix;
    if (evaluated) config.hidden = 0;
    std::vector<Parameter<X>*> rows;
    Index layer = 0;
    model.visit_attentions([&](KvSite<X>& site) {
      const std::uint64_t number = static_cast<std::uint64_t>(layer);
      if (detail::holds(leave_out, layer++)) return;
      if (site.slides && !prefix.shifts_positions)
        throw Error(where + ": " + site.path, "has a sliding window, past which AdapterHub's prefixes would be seen; that is not supported",
                    {.remedy = "use PEFT's form of prefixes, or leave the layer out"});
      rows.push_back(&attachment.add(site, PrefixRows<X>(ctx, site.path, site.input_width, site.width, config, derive(seed, 0, number))).kv());
    });
    if (rows.empty()) throw Error(where + ": leave_out", "leaves out every layer");
    return attachment.add(model.derived(), Prefix<X>(ctx, rows, embedding_width(model.architecture()), config, derive(seed, 1)));
  }

 private:
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

// Decoders as descriptions: what their configurations say and leave out, and what is refused.
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "deltatune/model/families.hpp"
#include "support/error_text.hpp"

using namespace deltatune;
using Catch::Contains;

namespace {

Architecture decoder_with(const std::string& type, const nlohmann::json& changes) {
  nlohmann::json config{{"model_type", type},           {"vocab_size", 32},       {"hidden_size", 64},
                        {"num_attention_heads", 8},     {"num_hidden_layers", 4}, {"intermediate_size", 96},
                        {"max_position_embeddings", 64}};
  if (changes.is_object()) config.update(changes);
  return architecture_of(JsonConfig::parse(config.dump(), "config.json"));
}

std::vector<Index> windows(const Architecture& a) {
  std::vector<Index> windows;
  for (const LayerSpec& layer : a.stack.layers) windows.push_back(layer.attention.window);
  return windows;
}

}  // namespace

TEST_CASE("decoders: what a configuration leaves out is the family's own default", "[model][families]") {
  const auto attention = [](const std::string& type, const nlohmann::json& changes = nlohmann::json::object()) {
    return decoder_with(type, changes).stack.layers[0].attention;
  };
  CHECK(attention("llama").kv_heads == 8);
  CHECK(attention("mistral").kv_heads == 8);
  CHECK(attention("gemma2").kv_heads == 4);
  CHECK(attention("llama").head_width == 8);
  CHECK(attention("qwen3", {{"num_key_value_heads", 2}}).head_width == 128);
  CHECK(attention("gemma").head_width == 256);
  CHECK(attention("gemma2").scale == Approx(1.0 / 16));
  CHECK(attention("gemma2").soft_cap == 50);
  CHECK(attention("gemma2", {{"attn_logit_softcapping", nullptr}}).soft_cap == 0);
  CHECK(decoder_with("gemma2", {}).head.logit_cap == 30);
  CHECK(decoder_with("gemma3_text", {}).head.logit_cap == 0);
  CHECK(attention("gemma3_text").rotary->theta == 10000);
  CHECK(decoder_with("gemma3_text", {{"num_hidden_layers", 6}}).stack.layers[5].attention.rotary->theta == 1e6);
  CHECK(attention("smollm3", {{"num_key_value_heads", 4}}).rotary->theta == 2e6);
  CHECK(decoder_with("phi3", {}).stack.norm.epsilon == 1e-5);
  CHECK(decoder_with("llama", {}).stack.norm.epsilon == 1e-6);
  for (const char* const type : {"gemma", "gemma2", "gemma3_text", "smollm3"}) CHECK(decoder_with(type, {}).head.tied);
  for (const char* const type : {"llama", "mistral", "qwen2", "qwen3", "phi3", "olmo2", "granite"})
    CHECK_FALSE(decoder_with(type, {{"num_key_value_heads", 2}}).head.tied);
  CHECK(decoder_with("llama", {{"eos_token_id", {1, 7}}}).eos_ids == std::vector<std::int32_t>{1, 7});
  CHECK(decoder_with("llama", {{"eos_token_id", 3}}).eos_ids == std::vector<std::int32_t>{3});
  CHECK(decoder_with("llama", {{"eos_token_id", nullptr}}).eos_ids.empty());
}

TEST_CASE("decoders: windows count the query's own key", "[model][families]") {
  using Windows = std::vector<Index>;
  CHECK(windows(decoder_with("mistral", {{"sliding_window", 5}})) == Windows{4, 4, 4, 4});
  CHECK(windows(decoder_with("mistral", {{"sliding_window", nullptr}})) == Windows{0, 0, 0, 0});
  CHECK(windows(decoder_with("mistral", {})) == Windows{4095, 4095, 4095, 4095});
  const nlohmann::json few{{"num_key_value_heads", 2}, {"sliding_window", 5}};
  const auto with = [&](const std::string& type, const nlohmann::json& changes) {
    nlohmann::json all = few;
    if (changes.is_object()) all.update(changes);
    return windows(decoder_with(type, all));
  };
  CHECK(with("qwen2", {{"max_window_layers", 2}}) == Windows{0, 0, 0, 0});
  CHECK(with("qwen2", {{"use_sliding_window", true}, {"max_window_layers", 2}}) == Windows{0, 0, 4, 4});
  CHECK(with("qwen3", {{"use_sliding_window", true}, {"layer_types", {"full_attention", "sliding_attention", "full_attention", "full_attention"}}}) ==
        Windows{0, 4, 0, 0});
  CHECK(with("qwen2", {{"use_sliding_window", true}, {"sliding_window", nullptr}, {"max_window_layers", 0}}) == Windows{0, 0, 0, 0});
  CHECK(with("gemma2", {}) == Windows{4, 0, 4, 0});
  CHECK(with("gemma3_text", {{"sliding_window_pattern", 3}}) == Windows{4, 4, 0, 4});
  CHECK(with("smollm3", {{"no_rope_layer_interval", 2}, {"use_sliding_window", true}}) == Windows{0, 4, 0, 4});
  const Architecture smol = decoder_with("smollm3", {{"num_key_value_heads", 2}, {"no_rope_layers", {1, 0, 0, 1}}});
  CHECK(smol.stack.layers[0].attention.rotary.has_value());
  CHECK_FALSE(smol.stack.layers[1].attention.rotary.has_value());
  CHECK_THAT(test::error_text([&] {
               decoder_with("smollm3", {{"num_key_value_heads", 2}, {"no_rope_layers", {1}}});
             }),
             Contains("one number per layer") && Contains("expected 4"));
}

TEST_CASE("decoders: rotary embeddings of both versions of transformers, and those that are refused", "[model][families]") {
  const auto rotary = [](const std::string& type, const nlohmann::json& changes) { return *decoder_with(type, changes).stack.layers[0].attention.rotary; };
  const nlohmann::json llama3{
      {"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 16}};
  nlohmann::json new_llama3 = llama3;
  new_llama3["rope_theta"] = 5e5;
  const RotarySpec old = rotary("llama", {{"rope_theta", 5e5}, {"rope_scaling", llama3}});
  CHECK(old == rotary("llama", {{"rope_parameters", new_llama3}}));
  CHECK(old.theta == 5e5);
  CHECK(old.frequency_scale.front() == Approx((16 / (2 * M_PI) - 1) / 3 + (1 - (16 / (2 * M_PI) - 1) / 3) / 8));
  CHECK(old.frequency_scale.back() == 1.0 / 8);
  CHECK(rotary("llama", {{"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}}).frequency_scale == std::vector<double>(4, 0.25));
  CHECK(rotary("llama", {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}}}).magnitude == Approx(0.1 * std::log(4.0) + 1));
  CHECK(rotary("phi3", {{"partial_rotary_factor", 0.75}}).width == 6);
  CHECK(rotary("gemma3_text", {{"rope_parameters", {{"full_attention", {{"rope_theta", 7.0}}}, {"sliding_attention", {{"rope_theta", 3.0}}}}}}).theta == 3.0);
  const auto message = [&](const nlohmann::json& scaling) { return test::error_text([&] { rotary("llama", {{"rope_scaling", scaling}}); }); };
  CHECK_THAT(message({{"rope_type", "dynamic"}, {"factor", 2.0}}), Contains("dynamic") && Contains("batches before"));
  CHECK_THAT(message({{"rope_type", "spiral"}}), Contains("spiral") && Contains("longrope"));
  CHECK_THAT(message({{"rope_type", "linear"}}), Contains("factor") && Contains("missing"));
  CHECK_THAT(message({{"rope_type", "longrope"}, {"short_factor", {1.0}}, {"long_factor", {1.0}}}), Contains("one factor per frequency"));
}

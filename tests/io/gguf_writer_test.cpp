#include "deltatune/io/gguf_writer.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <string>
#include <vector>

#include "deltatune/io/gguf_names.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

namespace deltatune {
namespace {

using Catch::Contains;
using test::content_of;
using test::error_text;

JsonConfig model_config(const std::string& text) { return JsonConfig::parse(text, "config.json"); }

TEST_CASE("GGUF: the bytes are those of the gguf package", "[gguf]") {
  GgufWriter writer;
  writer.set("general.architecture", std::string("llama"));
  writer.set("general.type", std::string("adapter"));
  writer.set("a.u8", std::uint8_t{200});
  writer.set("a.i8", std::int8_t{-5});
  writer.set("a.u16", std::uint16_t{60000});
  writer.set("a.i16", std::int16_t{-300});
  writer.set("a.u32", std::uint32_t{4000000000});
  writer.set("a.i32", std::int32_t{-70000});
  writer.set("a.f32", 0.1F);
  writer.set("a.true", true);
  writer.set("a.false", false);
  writer.set("a.text", std::string("Grüße"));
  writer.set("a.u64", std::uint64_t{1} << 40);
  writer.set("a.i64", -(std::int64_t{1} << 40));
  writer.set("a.f64", 0.1);
  writer.set("a.texts", std::vector<std::string>{"one", "two", "three"});
  writer.set("a.u32s", std::vector<std::uint32_t>{1, 2, 3});
  writer.set("a.floats", std::vector<float>{0.5F, -1.5F});
  std::vector<float> halves;
  for (int i = 0; i < 20; ++i) halves.push_back(static_cast<float>(i) / 8);
  writer.add("first", {2, 3}, std::vector<float>{0, 1, 2, 3, 4, 5}, DType::F32);
  writer.add("halves", {5, 4}, halves, DType::F16);
  writer.add("vector", {3}, std::vector<float>{7, -7, 7}, DType::F32);
  const test::TemporaryFolder folder;
  writer.write(folder / "settings.gguf");
  CHECK((content_of(folder / "settings.gguf") == content_of(std::filesystem::path(DELTATUNE_TEST_DIR) / "data/gguf/settings.gguf")));
  CHECK(folder.names().size() == 1);
}

TEST_CASE("GGUF: what a file cannot hold", "[gguf]") {
  GgufWriter writer;
  writer.set("key", 1.0F);
  const std::vector<float> two{1, 2};
  writer.add("t", {2}, two, DType::F32);
  CHECK_THAT(error_text([&] { writer.set("key", true); }), Contains("key") && Contains("twice"));
  CHECK_THAT(error_text([&] { writer.add("t", {2}, two, DType::F32); }), Contains("t: ") && Contains("already"));
  CHECK_THAT(error_text([&] { writer.add("u", {3}, two, DType::F32); }), Contains("u: ") && Contains("[3]"));
  CHECK_THAT(error_text([&] { writer.add("v", {1, 1, 1, 1, 2}, two, DType::F32); }), Contains("1 to 4 extents"));
  CHECK_THAT(error_text([&] { writer.add("w", {2}, two, DType::BF16); }), Contains("F32 or F16") && Contains("BF16"));
  CHECK_THAT(error_text([&] { writer.add("x", {2}, std::vector<float>{1, 1e6F}, DType::F16); }), Contains("x: ") && Contains("65504"));
  CHECK_THAT(error_text([&] { writer.add(std::string(64, 'n'), {2}, two, DType::F32); }), Contains("1 to 63 bytes"));
  writer.add(std::string(63, 'n'), {2}, two, DType::F32);
  writer.add("y", {2}, std::vector<float>{1, std::numeric_limits<float>::infinity()}, DType::F16);
}

TEST_CASE("GGUF: names of modules in llama.cpp", "[gguf]") {
  const GgufNames llama = GgufNames::of(model_config(R"({"model_type":"llama","num_hidden_layers":12,"num_attention_heads":8,"num_key_value_heads":2})"));
  CHECK(llama.architecture() == "llama");
  CHECK(llama.tensor_of("model.layers.11.self_attn.q_proj") == "blk.11.attn_q");
  CHECK(llama.tensor_of("layers.0.mlp.down_proj") == "blk.0.ffn_down");
  CHECK(llama.tensor_of("model.embed_tokens") == "token_embd");
  CHECK(llama.tensor_of("lm_head") == "output");
  for (const char* path : {"model.layers.12.self_attn.q_proj", "model.layers.x.self_attn.q_proj", "model.layers.-1.mlp.up_proj", "model.layers.1",
                           "model.layers.1.mlp.act", "model.norm", "classifier", ""})
    CHECK(llama.tensor_of(path).empty());
  CHECK_FALSE(llama.tied());
  CHECK(llama.permuted_heads_of("blk.1.attn_q") == 8);
  CHECK(llama.permuted_heads_of("blk.1.attn_k") == 2);
  CHECK(llama.permuted_heads_of("blk.1.attn_v") == 0);

  const auto of = [](const std::string& type, const std::string& layers = "num_hidden_layers") {
    return GgufNames::of(model_config(R"({"model_type":")" + type + R"(","num_attention_heads":4,")" + layers + R"(":2})"));
  };
  // Whose rows of queries and keys are stored pairwise; whose head is tied where the configuration does not say.
  for (const char* type : {"llama", "mistral", "smollm3", "granite"}) CHECK(of(type).permuted_heads_of("blk.0.attn_k") == 4);
  for (const char* type : {"qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2"}) CHECK(of(type).permuted_heads_of("blk.0.attn_k") == 0);
  for (const char* type : {"gemma2", "gemma3_text", "smollm3"}) CHECK(of(type).tied());
  for (const char* type : {"mistral", "qwen2", "qwen3", "phi3", "olmo2", "granite", "bert"}) CHECK_FALSE(of(type).tied());
  CHECK(of("mistral").architecture() == "llama");
  CHECK(of("gemma3_text").architecture() == "gemma3");
  CHECK(of("phi3").tensor_of("model.layers.1.self_attn.qkv_proj") == "blk.1.attn_qkv");
  CHECK(of("phi3").tensor_of("model.layers.1.mlp.gate_up_proj") == "blk.1.ffn_up");
  CHECK(of("gpt2", "n_layer").tensor_of("transformer.h.1.attn.c_attn") == "blk.1.attn_qkv");
  CHECK(of("gpt2", "n_layer").tensor_of("transformer.wpe").empty());
  CHECK(of("bert").tensor_of("bert.encoder.layer.0.attention.self.key") == "blk.0.attn_k");
  CHECK(of("xlm-roberta").tensor_of("roberta.encoder.layer.0.output.dense") == "blk.0.ffn_down");
  CHECK(of("distilbert", "n_layers").tensor_of("distilbert.transformer.layer.1.ffn.lin1") == "blk.1.ffn_up");
  CHECK(of("modernbert").tensor_of("model.layers.1.attn.Wqkv") == "blk.1.attn_qkv");
  CHECK_THAT(error_text([&] { of("electra"); }), Contains("model_type") && Contains("llama, mistral") && Contains("\"electra\""));
}

TEST_CASE("GGUF: rows of a head that rotate together lie side by side", "[gguf]") {
  // Two heads of four rows and one column; a head's rows 0 and 2, 1 and 3 are pairs.
  CHECK((detail::permuted_heads({0, 1, 2, 3, 4, 5, 6, 7}, 2, 1) == std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7}));
  CHECK((detail::permuted_heads({0, 10, 1, 11, 2, 12, 3, 13}, 1, 2) == std::vector<float>{0, 10, 2, 12, 1, 11, 3, 13}));
}

}  // namespace
}  // namespace deltatune

// A PEFT folder as a GGUF adapter: names, order of rows and scales by hand, and what such a file cannot hold.
#include "deltatune/attach/gguf_lora.hpp"

#include <catch2/catch.hpp>
#include <functional>
#include <nlohmann/json.hpp>

#include "support/error_text.hpp"
#include "support/gguf_file.hpp"

namespace {

using namespace deltatune;
using Catch::Contains;
using test::GgufFile;

const std::filesystem::path kGgufLlama = std::filesystem::path(DELTATUNE_TEST_DIR) / "data/gguf/llama";
const std::filesystem::path kGgufConformance = std::filesystem::path(DELTATUNE_TEST_DIR) / "conformance";

// A copy of the tiny Llama and its LoRA, to be spoiled: width 16, 4 heads, 2 heads of keys, 2 layers.
struct GgufPlace {
  GgufPlace() { std::filesystem::copy(kGgufLlama, folder / "llama", std::filesystem::copy_options::recursive); }

  GgufLora write(DType dtype = DType::F32) const { return export_gguf_lora(adapter, model, out, dtype); }
  std::string error() const {
    const std::string text = test::error_text([&] { write(); });
    CHECK_FALSE(std::filesystem::exists(out));
    return text;
  }
  void set(const std::filesystem::path& file, const std::string& key, const nlohmann::json& value) const {
    nlohmann::json json = nlohmann::json::parse(test::content_of(file));
    json[key] = value;
    std::ofstream(file) << json.dump();
  }
  // The adapter's tensors, changed.
  void rewrite(const std::function<void(SafeTensorsWriter&, const TensorInfo&)>& put) const {
    SafeTensorsWriter writer;
    const SafeTensors file = SafeTensors::open(adapter / "adapter_model.safetensors");
    for (const auto& [name, tensor] : file.tensors()) put(writer, tensor);
    writer.write(folder / "changed.safetensors");
    std::filesystem::rename(folder / "changed.safetensors", adapter / "adapter_model.safetensors");
  }
  void add(const std::string& name, const Shape& shape) const {
    bool added = false;
    rewrite([&](SafeTensorsWriter& writer, const TensorInfo& tensor) {
      if (!std::exchange(added, true)) writer.add_copy(name, shape, std::vector<float>(static_cast<std::size_t>(element_count(shape)), 0.5F));
      writer.add(tensor);
    });
  }

  test::TemporaryFolder folder;
  std::filesystem::path model = folder / "llama", adapter = folder / "llama/lora", out = folder / "lora.gguf";
  std::filesystem::path config = adapter / "adapter_config.json";
};

std::vector<float> of_peft(const std::filesystem::path& adapter, const std::string& key) {
  const SafeTensors file = SafeTensors::open(adapter / "adapter_model.safetensors");
  return detail::floats_of(file.at("base_model.model." + key));
}

}  // namespace

TEST_CASE("a Llama's LoRA as GGUF, by hand", "[gguf]") {
  const GgufPlace place;
  const GgufLora written = place.write();
  const GgufFile file(place.out);
  CHECK(file.texts.at("general.architecture") == "llama");
  CHECK(file.texts.at("general.type") == "adapter");
  CHECK(file.texts.at("adapter.type") == "lora");
  CHECK(file.texts.at("general.name") == "lora");
  CHECK(file.numbers.at("general.file_type") == 0);
  // alpha 6, rank 4, rank-stabilised: PEFT scales by 6 / √4 = 3, llama.cpp by 12 / 4.
  CHECK(file.floats.at("adapter.lora.alpha") == 12);
  CHECK(written.alpha == 12);
  CHECK(written.pairs == 7);
  CHECK(file.tensors.size() == 14);
  CHECK(written.rescaled == 3);
  CHECK(written.notes.empty());

  const auto check = [&](const std::string& site, const std::string& tensor, Index rank, Index out, double peft_scale,
                         const std::function<Index(Index)>& row_of) {
    INFO(site);
    const std::vector<float> a = of_peft(place.adapter, site + ".lora_A.weight"), b = of_peft(place.adapter, site + ".lora_B.weight");
    const GgufFile::Tensor &x = file.tensors.at(tensor + ".weight.lora_a"), &y = file.tensors.at(tensor + ".weight.lora_b");
    CHECK(x.shape == Shape{rank, static_cast<Index>(a.size()) / rank});
    CHECK(y.shape == Shape{out, rank});
    CHECK((x.values == a));
    const float factor = static_cast<float>(peft_scale * static_cast<double>(rank) / 12);  // llama.cpp: 12 / rank
    for (Index i = 0; i < out; ++i)
      for (Index r = 0; r < rank; ++r) CHECK(y.at(i, r) == factor * b[static_cast<std::size_t>(row_of(i) * rank + r)]);
  };
  const auto same = [](Index row) { return row; };
  // A head has 4 rows, of which 0 and 2, 1 and 3 rotate together.
  const auto paired = [](Index row) { return row / 4 * 4 + (row % 2) * 2 + row % 4 / 2; };
  check("model.layers.0.self_attn.q_proj", "blk.0.attn_q", 2, 16, 6 / std::sqrt(2.0), paired);
  check("model.layers.1.self_attn.q_proj", "blk.1.attn_q", 4, 16, 3, paired);
  check("model.layers.0.self_attn.k_proj", "blk.0.attn_k", 4, 8, 3, paired);
  check("model.layers.1.mlp.down_proj", "blk.1.ffn_down", 4, 16, 1.5, same);  // alpha 3
  check("lm_head", "output", 4, 20, 3, same);
}

TEST_CASE("a LoRA as GGUF in float16", "[gguf]") {
  const GgufPlace place;
  place.write(DType::F16);
  const GgufFile file(place.out);
  CHECK(file.numbers.at("general.file_type") == 1);
  const std::vector<float> a = of_peft(place.adapter, "model.layers.1.self_attn.k_proj.lora_A.weight");
  CHECK((file.tensors.at("blk.1.attn_k.weight.lora_a").values == a));  // eighths
}

TEST_CASE("a table's LoRA lies in GGUF the other way round", "[gguf]") {
  const GgufPlace place;
  place.rewrite([](SafeTensorsWriter& writer, const TensorInfo& tensor) {
    if (!tensor.name.ends_with("lm_head.lora_A.weight")) return;
    std::vector<float> a, b;
    for (int i = 0; i < 4 * 20; ++i) a.push_back(static_cast<float>(i));
    for (int i = 0; i < 16 * 4; ++i) b.push_back(static_cast<float>(-i));
    writer.add_copy("base_model.model.model.embed_tokens.lora_embedding_A", {4, 20}, a);
    writer.add_copy("base_model.model.model.embed_tokens.lora_embedding_B", {16, 4}, b);
    writer.add_copy("base_model.model.model.embed_tokens.base_layer.weight", {20, 16}, std::vector<float>(20 * 16, 1.0F));
  });
  const GgufLora written = place.write();
  REQUIRE(written.notes.size() == 1);  // there is no base to compare with
  CHECK_THAT(written.notes[0], Contains("embed_tokens.weight"));
  const GgufFile file(place.out);
  const GgufFile::Tensor &a = file.tensors.at("token_embd.weight.lora_a"), &b = file.tensors.at("token_embd.weight.lora_b");
  CHECK(a.shape == Shape{20, 4});
  CHECK(b.shape == Shape{16, 4});
  CHECK(a.at(7, 3) == 3 * 20 + 7);
  CHECK(b.at(5, 2) == -(5 * 4 + 2));

  SafeTensorsWriter base;
  base.add_copy("model.embed_tokens.weight", {20, 16}, std::vector<float>(20 * 16, 1.0F));
  base.write(place.model / "model.safetensors");
  CHECK(place.write().notes.empty());
  SafeTensorsWriter other;
  other.add_copy("model.embed_tokens.weight", {20, 16}, std::vector<float>(20 * 16, 2.0F));
  other.write(place.model / "model.safetensors");
  std::filesystem::remove(place.out);
  CHECK_THAT(place.error(), Contains("embed_tokens.base_layer.weight: differs from the base model's"));
  place.set(place.model / "config.json", "tie_word_embeddings", true);
  std::filesystem::remove(place.model / "model.safetensors");
  CHECK_THAT(place.error(), Contains("model.embed_tokens: ") && Contains("tie_word_embeddings"));
}

TEST_CASE("what a GGUF adapter cannot hold is refused", "[gguf]") {
  const auto spoiled = [](const std::string& key, const nlohmann::json& value) {
    const GgufPlace place;
    place.set(place.config, key, value);
    return place.error();
  };
  CHECK_THAT(spoiled("use_dora", true), Contains("use_dora") && Contains("magnitudes") && Contains("convert --to lora"));
  CHECK_THAT(spoiled("peft_type", "IA3"), Contains("peft_type") && Contains("expected LORA, got IA3") && Contains("convert --to lora"));
  CHECK_THAT(spoiled("init_lora_weights", "pissa"), Contains("init_lora_weights"));
  CHECK_THAT(spoiled("alora_invocation_tokens", {1, 2}), Contains("alora_invocation_tokens"));
  CHECK_THAT(spoiled("target_parameters", {"x"}), Contains("target_parameters"));
  CHECK_THAT(spoiled("r", 8), Contains("mlp.down_proj") && Contains("expected 8, got 4"));

  const auto with = [](const std::string& name, const Shape& shape) {
    const GgufPlace place;
    place.add(name, shape);
    return place.error();
  };
  const std::string path = "base_model.model.model.layers.0.self_attn.q_proj.";
  CHECK_THAT(with(path + "lora_B.bias", {16}), Contains("lora_B.bias") && Contains("a bias of LoRA"));
  CHECK_THAT(with(path + "base_layer.bias", {16}), Contains("base_layer.bias") && Contains("saved whole"));
  CHECK_THAT(with(path + "lora_magnitude_vector", {16}), Contains("magnitudes"));
  CHECK_THAT(with("base_model.model.score.weight", {3, 16}), Contains("score.weight") && Contains("merge the adapter"));
  CHECK_THAT(with("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", {3, 16}), Contains("trainable_tokens_delta"));
  CHECK_THAT(with("base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight", {4, 16}), Contains("no lora_B") && Contains("layers.1.self_attn.v_proj"));
  CHECK_THAT(with("base_model.model.layers.0.self_attn.q_proj.lora_A.weight", {2, 16}), Contains("occurs twice"));

  const auto for_model = [](const std::string& key, const nlohmann::json& value) {
    const GgufPlace place;
    place.set(place.model / "config.json", key, value);
    return place.error();
  };
  CHECK_THAT(for_model("num_hidden_layers", 1), Contains("layers.1.mlp.down_proj") && Contains("1 layers"));
  CHECK_THAT(for_model("tie_word_embeddings", true), Contains("lm_head") && Contains("tie_word_embeddings"));
  CHECK_THAT(for_model("num_key_value_heads", 3), Contains("layers.0.self_attn.k_proj") && Contains("2 · 3 rows") && Contains("got 8"));
  CHECK_THAT(for_model("model_type", "mpnet"), Contains("\"mpnet\""));
}

TEST_CASE("the LoRAs of other families as GGUF", "[gguf]") {
  const test::TemporaryFolder folder;
  // GPT-2's weights are transposed in Transformers' files, and their LoRA is not.
  export_gguf_lora(kGgufConformance / "cases/gpt2_lora/adapter", kGgufConformance / "models/gpt2_lm", folder / "x.gguf");
  const GgufFile file(folder / "x.gguf");
  CHECK(file.texts.at("general.architecture") == "gpt2");
  CHECK(file.tensors.at("blk.0.attn_qkv.weight.lora_b").shape.at(0) == 3 * 32);
  CHECK_THAT(test::error_text(
                 [&] { export_gguf_lora(kGgufConformance / "cases/lora_query_value/adapter", kGgufConformance / "models/bert_gelu", folder / "y.gguf"); }),
             Contains("classifier") && Contains("whole"));
}

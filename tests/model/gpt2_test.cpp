// Gradients of the whole model under every pattern of what trains, what a step costs when most of it is frozen, files, and the language model's
// head, which never sees all rows at once.
#include "deltatune/model/gpt2.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/io/hf_export.hpp"
#include "deltatune/io/model_folder.hpp"
#include "support/device.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"
#include "support/instances.hpp"
#include "support/shapes.hpp"
#include "support/temporary_folder.hpp"

using namespace deltatune;
namespace fs = std::filesystem;

namespace {

using Globs = std::vector<std::string>;

test::Gpt2Shape tiny() {
  test::Gpt2Shape config;
  config.vocab_size = 30;
  config.hidden_size = 12;
  config.layers = 3;
  config.heads = 3;
  config.intermediate_size = 20;
  config.max_position_embeddings = 10;
  config.residual_dropout = 0.1;
  config.attention_dropout = 0.2;
  config.embedding_dropout = 0.15;
  return config;
}

PackedBatch packed(const std::vector<Index>& lengths, std::int32_t first_token = 4) {
  PackedBatch batch;
  std::int32_t token = first_token;
  for (const Index length : lengths) {
    std::vector<std::int32_t> tokens;
    for (Index t = 0; t < length; ++t) tokens.push_back(token = (token * 5 + 3) % 30);
    batch.add(tokens);
    batch.labels.push_back(token % 3);
    for (Index t = 0; t < length; ++t) batch.token_labels.push_back(t == 2 ? ops::kIgnoredLabel : tokens[static_cast<std::size_t>(t)]);
  }
  return batch;
}

const std::map<std::string, Globs> kPatterns{
    {"everything", {"**"}},
    {"biases", {"**.bias"}},
    {"norms", {"**.{ln_1,ln_2,ln_f}.*"}},
    {"last norm", {"transformer.ln_f.*"}},
    {"a middle layer", {"transformer.h.1.**"}},
    {"a middle layer's last bias", {"transformer.h.1.mlp.c_proj.bias"}},
    {"a middle layer's second norm", {"transformer.h.1.ln_2.weight"}},
    {"attention's weights", {"**.attn.c_attn.weight"}},
    {"embeddings", {"transformer.{wte,wpe}.*"}},
    {"word embeddings", {"transformer.wte.weight"}},
    {"position embeddings", {"transformer.wpe.weight"}},
};

auto classifier_body(const Globs& trainable, Mode mode) {
  return [=]<class X>(check::Trial<X>& trial) {
    trial.pass().mode = mode;
    Gpt2<X> fresh(trial.ctx(), tiny(), Head::classifier(3));
    unfreeze(fresh, trainable);
    Gpt2<X>& model = trial.own(std::move(fresh));
    DeviceBatch<X> batch(trial.ctx());
    batch.upload(packed({4, 1, 6}), model.embeddings_train());
    typename Gpt2<X>::Activations kept;
    const auto logits = trial.output("logits", 3, 3);
    model.forward(trial.pass(), batch, logits.value, kept);
    if (trial.backward_wanted()) model.backward(trial.pass(), batch, kept, logits.gradient);
  };
}

// From the hidden states.
auto decoder_body(const Globs& trainable, Mode mode) {
  return [=]<class X>(check::Trial<X>& trial) {
    trial.pass().mode = mode;
    test::Gpt2Shape config = tiny();
    config.scales_by_layer = true;
    config.scales_attention = false;
    Gpt2<X> fresh(trial.ctx(), config, Head::none());
    unfreeze(fresh, trainable);
    Gpt2<X>& model = trial.own(std::move(fresh));
    DeviceBatch<X> batch(trial.ctx());
    batch.upload(packed({4, 1, 6}), model.embeddings_train());
    typename Gpt2<X>::Activations kept;
    const auto h = trial.output("h", 11, 12);
    model.encode(trial.pass(), batch, h.value, kept);
    if (trial.backward_wanted()) model.encode_backward(trial.pass(), batch, kept, h.gradient);
  };
}

// The loss of a model with any head.
auto loss_body(const Globs& trainable, Mode mode, Head head, bool tied = true) {
  return [=]<class X>(check::Trial<X>& trial) {
    trial.pass().mode = mode;
    test::Gpt2Shape config = tiny();
    config.tied = tied;
    Gpt2<X> fresh(trial.ctx(), config, head);
    unfreeze(fresh, trainable);
    Gpt2<X>& model = trial.own(std::move(fresh));
    allocate_gradients(model, trial.ctx());  // a language model's loss() writes some of them
    const PackedBatch host = packed({4, 1, 6});
    DeviceBatch<X> batch(trial.ctx());
    batch.upload(host, model.embeddings_train());
    typename Gpt2<X>::Activations kept;
    const auto loss = trial.loss("loss");
    backend_of<X>::fill(trial.ctx(), loss.value, scalar_of<X>(0));
    model.loss(trial.pass(), batch, {.label_smoothing = 0.1, .total_weight = 6}, loss.value, kept);
    if (trial.backward_wanted()) model.backward(trial.pass(), batch, kept);
  };
}

// One step at a time, as a trainer runs them.
template <class X>
struct Runner {
  using T = scalar_of<X>;

  Runner(context_of<X>& context, const Globs& trainable, Head head = Head::language_model(), std::uint64_t seed = 3)
      : ctx(context), model(context, tiny(), head), saved(context), scratch(context), batch(context), loss(context, {1}) {
    model.initialise(ctx, seed);
    unfreeze(model, trainable);
    allocate_gradients(model, ctx);
  }

  void upload(const PackedBatch& host) { batch.upload(host, model.embeddings_train()); }
  // Returns the bytes that the forward pass keeps.
  Index step(Mode mode = Mode::train, std::uint64_t step_number = 0) {
    Pass<X> pass{ctx, saved, scratch, mode, 17, step_number};
    const WorkspaceScope<backend_of<X>> all(saved);
    backend_of<X>::fill(ctx, loss.view(), T(0));
    model.loss(pass, batch, {.total_weight = 3}, loss.view(), kept);
    const Index bytes = saved.mark();
    if (mode != Mode::evaluate) model.backward(pass, batch, kept);
    return bytes;
  }
  double loss_value() { return static_cast<double>(test::on_host<X>(ctx, loss.view())[0]); }
  std::vector<T> logits(const PackedBatch& host) {
    batch.upload(host, false);
    Pass<X> pass{ctx, saved, scratch};
    const WorkspaceScope<backend_of<X>> all(saved);
    const bool classifies = model.has_classifier();
    const View<T> result = classifies ? pass.keep(host.count(), model.num_labels()) : pass.keep(host.rows(), model.architecture().vocab_size);
    model.forward(pass, batch, result, kept);
    return test::on_host<X>(ctx, result);
  }
  std::vector<std::vector<Index>> products() {
    std::vector<GemmRecord> records;
    ctx.trace_gemms(&records);
    step();
    ctx.trace_gemms(nullptr);
    std::vector<std::vector<Index>> result;
    for (const GemmRecord& r : records) result.push_back({r.m, r.n, r.k});
    return result;
  }
  std::vector<T> numbers(bool gradients) {
    std::vector<T> all;
    model.visit([&](Parameter<X>& p) {
      const View<const T> view = gradients ? View<const T>(p.gradient()) : View<const T>(p.value());
      const std::vector<T> host = test::on_host<X>(ctx, view);
      all.insert(all.end(), host.begin(), host.end());
    });
    return all;
  }

  context_of<X>& ctx;
  Gpt2<X> model;
  workspace_of<X> saved, scratch;
  DeviceBatch<X> batch;
  X loss;
  typename Gpt2<X>::Activations kept;
};

using DeviceRunner = Runner<test::DeviceTensor>;

Index arena_bytes(Index rows, Index cols) { return (rows * cols * 4 + 63) / 64 * 64; }

const fs::path kModels = fs::path(DELTATUNE_TEST_DIR) / "conformance" / "models";

// A config.json with something replaced.
std::string altered_config(const std::string& from, const std::string& to) {
  std::string config = test::content_of(kModels / "gpt2_lm" / "config.json");
  const std::size_t place = config.find(from);
  REQUIRE(place != std::string::npos);
  return config.replace(place, from.size(), to);
}

}  // namespace

TEST_CASE("gpt2: adjoint of every trainable gradient, for each pattern of what trains", "[model][gpt2]") {
  for (const Mode mode : {Mode::train, Mode::differentiate}) {
    for (const auto& [name, trainable] : kPatterns) {
      INFO(name);
      test::check_adjoint(classifier_body(trainable, mode));
      test::check_adjoint(loss_body(trainable, mode, Head::language_model()));
    }
    for (const Globs& trainable : {Globs{"**"}, Globs{"**.bias"}, Globs{"h.1.**"}, Globs{"{wte,wpe}.*"}, Globs{"ln_f.*"}})
      test::check_adjoint(decoder_body(trainable, mode));
    for (const Globs& trainable : {Globs{"**"}, Globs{"lm_head.weight"}, Globs{"transformer.wte.weight"}})
      test::check_adjoint(loss_body(trainable, mode, Head::language_model(), false));
    test::check_adjoint(classifier_body({"score.weight"}, mode));
    test::check_adjoint(loss_body({"**"}, mode, Head::classifier(3)));
  }
}

TEST_CASE("gpt2: float gradients against double, and by finite differences", "[model][gpt2]") {
  for (const auto& [name, trainable] : kPatterns) {
    INFO(name);
    test::check_device(classifier_body(trainable, Mode::train), 1e-4);  // three layers deep
    test::check_device(loss_body(trainable, Mode::train, Head::language_model()), 1e-4);
    test::check_differences(loss_body(trainable, Mode::train, Head::language_model()));
  }
  test::check_device(decoder_body({"**"}, Mode::train), 1e-4);
}

TEST_CASE("gpt2: frozen means free, in matrix products", "[model][gpt2][frozen]") {
  test::DeviceContext ctx(2);
  constexpr std::size_t kForward = 4 * 3 + 1;  // four a layer, and the head
  const PackedBatch host = packed({4, 1, 6});
  const auto backward = [&](const Globs& trainable) {
    DeviceRunner runner(ctx, trainable);
    runner.upload(host);
    auto all = runner.products();
    CHECK(all[kForward - 1] == std::vector<Index>{6, 30, 12});  // of eleven rows six predict a token
    all.erase(all.begin(), all.begin() + kForward);
    return all;
  };
  using Products = std::vector<std::vector<Index>>;
  const Products head{{6, 12, 30}}, layer{{11, 20, 12}, {11, 12, 20}, {11, 12, 12}, {11, 12, 36}};  // down, up, attention's output, query-key-value
  CHECK(backward({"transformer.ln_f.*"}) == head);
  CHECK(backward({"transformer.h.2.mlp.c_proj.bias"}) == head);
  CHECK(backward({"transformer.h.2.mlp.c_proj.weight"}) == Products{{6, 12, 30}, {12, 20, 11}});
  CHECK(backward({"transformer.h.2.mlp.c_fc.bias"}) == Products{{6, 12, 30}, {11, 20, 12}});
  CHECK(backward({"transformer.h.2.ln_2.bias"}) == Products{{6, 12, 30}, {11, 20, 12}, {11, 12, 20}});
  CHECK(backward({"transformer.h.2.attn.c_proj.bias"}) == Products{{6, 12, 30}, {11, 20, 12}, {11, 12, 20}});
  Products biases = head;
  for (int l = 0; l < 3; ++l) biases.insert(biases.end(), layer.begin(), layer.end());
  CHECK(backward({"**.bias"}) == biases);
  CHECK(backward({"**"}).size() == biases.size() + 1 + 4 * 3);

  DeviceRunner runner(ctx, {"**"});
  runner.upload(host);
  ctx.reset_counters();
  runner.step(Mode::evaluate);
  CHECK(ctx.gemm_calls() == static_cast<Index>(kForward));
}

TEST_CASE("gpt2: frozen means free, in bytes", "[model][gpt2][frozen]") {
  test::DeviceContext ctx(2);
  const auto kept_by = [&](const Globs& trainable) {
    DeviceRunner runner(ctx, trainable);
    runner.upload(packed({4, 1, 6}));
    return runner.step();
  };
  const Index norm = arena_bytes(11, 12) + arena_bytes(11, 1);
  const Index head = 2 * arena_bytes(6, 12) + arena_bytes(6, 1);                                  // x̂ and gradient of the rows that predict
  const Index layer = arena_bytes(11, 36) + arena_bytes(11, 3) + arena_bytes(11, 20) + 2 * norm;  // qkv, lse, u, norms
  CHECK(kept_by({"transformer.ln_f.*"}) == head);
  const Index feed_forward = arena_bytes(11, 20) + norm;
  CHECK(kept_by({"transformer.h.2.mlp.c_proj.bias"}) == head + feed_forward);
  CHECK(kept_by({"transformer.h.2.mlp.**"}) == head + feed_forward);  // their inputs are computed again
  CHECK(kept_by({"transformer.h.2.attn.c_attn.weight"}) == head + layer);
  CHECK(kept_by({"transformer.h.2.attn.c_proj.weight"}) == head + layer + arena_bytes(11, 12));  // and its input
  CHECK(kept_by({"transformer.h.1.attn.c_attn.bias"}) == head + 2 * layer);
  CHECK(kept_by({"transformer.wpe.weight"}) == head + 3 * layer);

  DeviceRunner runner(ctx, {"**.bias"});
  Index gradient_bytes = 0;
  runner.model.visit([&](Parameter<test::DeviceTensor>& p) {
    CHECK(p.has_gradient() == p.path().ends_with(".bias"));
    gradient_bytes += p.gradient_bytes();
  });
  CHECK(gradient_bytes == trainable_count(runner.model) * 4);
}

TEST_CASE("gpt2: a dry run measures what the step then takes, and the second step allocates nothing", "[model][gpt2][frozen]") {
  test::DeviceContext ctx(2);
  for (const auto& [name, trainable] : kPatterns) {
    INFO(name);
    DeviceRunner runner(ctx, trainable);
    runner.upload(packed({10, 7, 9}));
    const std::vector<float> values = runner.numbers(false);
    {
      const DryRun dry(ctx);
      runner.step();
    }
    CHECK(runner.numbers(false) == values);
    const std::vector<float> gradients = runner.numbers(true);
    CHECK(std::all_of(gradients.begin(), gradients.end(), [](float g) { return g == 0.0F; }));
    const Index saved_peak = runner.saved.peak(), scratch_peak = runner.scratch.peak();
    runner.saved.reserve(saved_peak);
    runner.scratch.reserve(scratch_peak);
    ctx.reset_counters();
    runner.saved.reset_peak();
    runner.scratch.reset_peak();
    runner.step();
    CHECK(runner.saved.peak() == saved_peak);
    CHECK(runner.scratch.peak() == scratch_peak);
    runner.upload(packed({2, 8, 3}, 9));
    runner.step();
    runner.upload(packed({1}, 11));  // nothing to predict
    runner.step();
    CHECK(runner.loss_value() == 0);
    CHECK(ctx.allocations() == 0);
  }
}

TEST_CASE("gpt2: same seed and threads give the same bits, another step gives other masks", "[model][gpt2]") {
  test::DeviceContext ctx(2);
  const auto run = [&](std::uint64_t step) {
    DeviceRunner runner(ctx, {"**"});
    runner.upload(packed({10, 7, 9}));
    runner.step(Mode::train, step);
    return runner.numbers(true);
  };
  CHECK(run(0) == run(0));
  CHECK(run(0) != run(1));
}

TEST_CASE("gpt2: a row's scores depend on what is before it alone, neither on what follows nor on its neighbours", "[model][gpt2]") {
  test::DeviceContext ctx(1);
  DeviceRunner runner(ctx, {"**"});
  const PackedBatch together = packed({4, 1, 6});
  const std::vector<float> all = runner.logits(together);
  for (std::size_t b = 0; b < 3; ++b) {
    const std::size_t first = static_cast<std::size_t>(together.offsets[b]);
    for (std::size_t length = 1; length <= static_cast<std::size_t>(together.offsets[b + 1]) - first; ++length) {
      PackedBatch alone;
      alone.add(std::span<const std::int32_t>(together.ids).subspan(first, length));
      const std::vector<float> part = runner.logits(alone);
      for (std::size_t i = 0; i < part.size(); ++i) CHECK(part[i] == Approx(all[first * 30 + i]).margin(1e-5));
    }
  }
}

TEST_CASE("gpt2: the loss is that of all logits", "[model][gpt2]") {
  test::DeviceContext ctx(1);
  DeviceRunner runner(ctx, {"**"});
  const PackedBatch host = packed({4, 1, 6});
  runner.upload(host);
  runner.step(Mode::evaluate);
  const double loss = runner.loss_value();
  const std::vector<float> logits = runner.logits(host);
  double expected = 0;
  for (std::size_t b = 0; b < 3; ++b)
    for (Index row = host.offsets[b]; row + 1 < host.offsets[b + 1]; ++row) {
      const std::int32_t label = host.token_labels[static_cast<std::size_t>(row) + 1];
      if (label == ops::kIgnoredLabel) continue;
      double sum = 0;
      for (std::size_t v = 0; v < 30; ++v) sum += std::exp(static_cast<double>(logits[static_cast<std::size_t>(row) * 30 + v]));
      expected += std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(row) * 30 + static_cast<std::size_t>(label)]);
    }
  CHECK(label_weight(host, {}) == 6);
  CHECK(loss == Approx(expected / 3).epsilon(1e-5));
}

TEST_CASE("gpt2: gradients of two batches add up", "[model][gpt2]") {
  test::DeviceContext ctx(1);
  DeviceRunner once(ctx, {"**"}), twice(ctx, {"**"});
  once.upload(packed({4, 1, 6}));
  twice.upload(packed({4, 1, 6}));
  once.step(Mode::differentiate);
  twice.step(Mode::differentiate);
  twice.step(Mode::differentiate);
  const std::vector<float> a = once.numbers(true), b = twice.numbers(true);
  float largest = 0, difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(a[i]));
    difference = std::max(difference, std::abs(2 * a[i] - b[i]));
  }
  CHECK(largest > 0);
  CHECK(difference <= 1e-5F * largest);
}

TEST_CASE("gpt2: paths are those of the checkpoint, frozen at first", "[model][gpt2]") {
  Reference::Context ctx;
  Gpt2<Tensor<double, Reference>> model(ctx, tiny(), Head::classifier(3));
  std::vector<std::string> paths, sites;
  model.visit([&](auto& p) { paths.push_back(p.path()); });
  model.visit_sites([&](auto& site) { sites.push_back(site.path); });
  CHECK_FALSE(trains(model));
  CHECK(paths.size() == 2 + 12 * 3 + 2 + 1);
  CHECK(paths.front() == "transformer.wte.weight");
  CHECK(paths[2] == "transformer.h.0.ln_1.weight");
  CHECK(paths.back() == "score.weight");
  CHECK(sites.size() == 4 * 3 + 1);
  CHECK(sites[3] == "transformer.h.0.mlp.c_proj");
  CHECK(parameter_count(model) == (30 + 10) * 12 + 3 * (4 * (12 * 12 + 12) + 2 * 12 * 20 + 20 + 12 + 4 * 12) + 2 * 12 + 3 * 12);
}

TEST_CASE("gpt2: files, with and without prefix, tied and not, there and back in the file's orientation", "[model][gpt2]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx;
  Gpt2<X> model = Gpt2<X>::load(ctx, kModels / "gpt2_lm", Head::language_model());
  CHECK(model.load_report().initialised.empty());
  const test::TemporaryFolder out;
  save_hf_checkpoint(ctx, out.path(), model, kModels / "gpt2_lm", {});
  const SafeTensors before = SafeTensors::open(kModels / "gpt2_lm" / "model.safetensors"), after = SafeTensors::open(out / "model.safetensors");
  CHECK(before.tensors().size() == after.tensors().size());
  for (const auto& [name, tensor] : before.tensors()) {
    INFO(name);
    CHECK(after.at(name).shape == tensor.shape);
    CHECK(std::equal(tensor.bytes.begin(), tensor.bytes.end(), after.at(name).bytes.begin()));
  }
  CHECK(JsonConfig::open(out / "config.json").get<std::vector<std::string>>("architectures") == std::vector<std::string>{"GPT2LMHeadModel"});

  CHECK(Gpt2<X>::load(ctx, kModels / "gpt2_bare", Head::language_model()).load_report().names.at("transformer.wte.weight") == "wte.weight");
  CHECK(Gpt2<X>::load(ctx, kModels / "gpt2_lm", Head::none()).load_report().names.at("wte.weight") == "transformer.wte.weight");
  CHECK(Gpt2<X>::load(ctx, kModels / "gpt2_lm", Head::classifier(2)).load_report().initialised == std::vector<std::string>{"score.weight"});
  CHECK(Gpt2<X>::load(ctx, kModels / "gpt2_cls", Head::language_model()).load_report().left_out == std::vector<std::string>{"score.weight"});

  // A head of its own, and the buffers of old files.
  SafeTensorsWriter writer;
  for (const auto& [name, tensor] : before.tensors()) {
    std::vector<float> values(static_cast<std::size_t>(element_count(tensor.shape)));
    read_floats(tensor, std::span<float>(values));
    writer.add_copy(name, tensor.shape, values);
  }
  writer.add_copy("lm_head.weight", {120, 32}, std::vector<float>(120 * 32, 0.5F));
  writer.add_copy("transformer.h.0.attn.bias", {1, 1, 2, 2}, std::vector<float>(4, 1.0F));
  writer.add_copy("transformer.h.0.attn.masked_bias", {1}, std::vector<float>(1, -1e4F));
  const test::TemporaryFolder tied, untied;
  write_model_folder(tied.path(), "model.safetensors", writer, "config.json", test::content_of(kModels / "gpt2_lm" / "config.json"));
  write_model_folder(untied.path(), "model.safetensors", writer, "config.json",
                     altered_config("\"model_type\"", "\"tie_word_embeddings\": false, \"model_type\""));
  CHECK(Gpt2<X>::load(ctx, tied.path(), Head::language_model()).load_report().left_out.front() == "lm_head.weight");
  Gpt2<X> own_head = Gpt2<X>::load(ctx, untied.path(), Head::language_model());
  CHECK(own_head.load_report().left_out == std::vector<std::string>{"transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias"});
  own_head.visit([&](Parameter<X>& p) {
    if (p.path() == "lm_head.weight") CHECK(download_floats<X>(ctx, p.value())[7] == 0.5F);
  });
}

TEST_CASE("gpt2: what cannot be loaded or learnt from is refused", "[model][gpt2]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx;
  const auto message = [&](const std::string& from, const std::string& to) {
    const test::TemporaryFolder folder;
    folder.file("config.json", altered_config(from, to));
    folder.file("model.safetensors", test::content_of(kModels / "gpt2_lm" / "model.safetensors"));
    return test::error_text([&] { Gpt2<X>::load(ctx, folder.path(), Head::language_model()); });
  };
  using Catch::Contains;
  CHECK_THAT(message("\"model_type\": \"gpt2\"", "\"model_type\": \"mamba\""), Contains("model_type") && Contains("gpt2") && Contains("\"mamba\""));
  CHECK_THAT(message("\"model_type\"", "\"add_cross_attention\": true, \"model_type\""), Contains("add_cross_attention"));
  CHECK_THAT(message("\"gelu_new\"", "\"swish\""), Contains("activation_function") && Contains("swish"));
  CHECK_THAT(message("\"n_head\": 4", "\"n_head\": 5"), Contains("n_embd") && Contains("multiple of 5"));
  CHECK_THAT(message("\"n_layer\": 2", "\"n_layer\": 3"), Contains("transformer.h.2.ln_1.weight"));
  CHECK_THAT(message("\"n_layer\": 2", "\"n_layer\": 1"), Contains("transformer.h.1.") && Contains("1 layers"));
  CHECK_THAT(message("\"n_inner\": null", "\"n_inner\": 100"), Contains("mlp.c_fc.weight") && Contains("[32, 100]") && Contains("[32, 128]"));
  CHECK_THAT(message("\"n_positions\": 40", "\"n_positions\": 0"), Contains("n_positions"));

  DeviceRunner runner(ctx, {"transformer.ln_f.*"});
  runner.upload(packed({11}));
  CHECK_THAT(test::error_text([&] { runner.step(); }), Contains("expected at most 10 tokens, got 11"));
  PackedBatch batch = packed({4, 3});
  runner.model.check_labels(batch);
  batch.token_labels[1] = 30;
  CHECK_THAT(test::error_text([&] { runner.model.check_labels(batch); }), Contains("0 to 29") && Contains("30"));
  batch.token_labels.pop_back();
  CHECK_THAT(test::error_text([&] { runner.model.check_labels(batch); }), Contains("one label per token"));
  CHECK_THROWS_AS(runner.upload(batch), Error);
  CHECK_THROWS_AS(Bert<X>(ctx, test::BertShape{}, Head::language_model()), Error);
}

// The numbers of transformers + PEFT (README.md beside this file): logits, loss, gradients, ten AdamW steps, and adapter folders there and back.
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/delta/selections.hpp"
#include "deltatune/io/hf_export.hpp"
#include "deltatune/train/trainer.hpp"
#include "support/device.hpp"
#include "support/instances.hpp"
#include "support/temporary_folder.hpp"

namespace {

using namespace deltatune;
namespace fs = std::filesystem;

const fs::path kRoot = fs::path(DELTATUNE_TEST_DIR) / "conformance";

constexpr double kLogitsTolerance = 2e-5;
constexpr double kGradientTolerance = 2e-4;  // of the largest entry of the case

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kRoot / "cases")) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// A padded batch as the generator wrote it, without its padding.
PackedBatch packed(const SafeTensors& file, const std::string& prefix, Index classes) {
  const std::vector<std::int64_t> ids = read_integers(file.at(prefix + "input_ids")), mask = read_integers(file.at(prefix + "attention_mask"));
  const TensorInfo* types = file.find(prefix + "token_type_ids");
  const Shape shape = file.at(prefix + "input_ids").shape;
  PackedBatch batch;
  for (Index b = 0; b < shape[0]; ++b) {
    for (Index s = 0; s < shape[1]; ++s) {
      const std::size_t i = static_cast<std::size_t>(b * shape[1] + s);
      if (mask[i] == 0) continue;
      batch.ids.push_back(static_cast<std::int32_t>(ids[i]));
      batch.positions.push_back(static_cast<std::int32_t>(s));
      batch.types.push_back(types == nullptr ? 0 : static_cast<std::int32_t>(read_integers(*types)[i]));
    }
    batch.offsets.push_back(batch.rows());
  }
  const TensorInfo* labels = file.find(prefix + "labels");
  if (labels == nullptr) return batch;
  if (classes == 1) {
    batch.targets.resize(static_cast<std::size_t>(shape[0]));
    read_floats(*labels, std::span<float>(batch.targets));
  } else {
    for (const std::int64_t label : read_integers(*labels)) batch.labels.push_back(static_cast<std::int32_t>(label));
  }
  return batch;
}

std::vector<double> doubles(const TensorInfo& tensor) {
  std::vector<double> values(static_cast<std::size_t>(element_count(tensor.shape)));
  read_floats(tensor, std::span<double>(values));
  return values;
}

template <class X>
double largest_difference(context_of<X>& ctx, const std::vector<double>& expected, View<const scalar_of<X>> values) {
  const std::vector<scalar_of<X>> host = test::on_host<X>(ctx, values);
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::fabs(expected[i] - static_cast<double>(host.at(i)));
    if (!(difference <= largest)) largest = difference;  // NaN counts
  }
  return largest;
}

Selection selection_named(const std::string& name) {
  if (name == "full") return full_fine_tuning();
  if (name == "head") return head_only();
  return name == "bitfit" ? bitfit() : bitfit_query_ffn();
}

// A case with its model, adapted and with gradients allocated.
template <class X>
struct Case {
  using Model = Bert<X>;

  Case(context_of<X>& ctx, const std::string& name)
      : folder(kRoot / "cases" / name),
        config(JsonConfig::open(folder / "case.json")),
        classes(config.get_or<std::string>("head", "classifier") == "none" ? 0 : config.get<std::int64_t>("num_labels")),
        model(Model::load(ctx, kRoot / "models" / config.get<std::string>("model"), Head{classes})) {
    if (config.has("adapter")) {
      adapter = load_adapter(ctx, model, folder / config.get<std::string>("adapter"));
      keys = adapter->keys;
    } else if (config.has("trainable")) {
      apply(model, selection_named(config.get<std::string>("trainable")));
      for (const auto& [path, file_name] : model.load_report().names) keys[path] = file_name;
    }
    allocate_gradients(model, ctx);
  }

  fs::path folder;
  JsonConfig config;
  Index classes;
  Model model;
  std::optional<LoadedAdapter<X>> adapter;
  std::map<std::string, std::string> keys;  // parameter path -> key in expected files
};

// Runs a model over one batch.
template <class X>
struct Run {
  using B = backend_of<X>;
  using T = scalar_of<X>;

  Run(context_of<X>& ctx, Bert<X>& model, const PackedBatch& batch, Mode mode)
      : saved(ctx), scratch(ctx), device(ctx), pass{ctx, saved, scratch, mode} {
    device.upload(batch, true);
    if (model.has_classifier()) {
      logits = pass.keep(batch.count(), model.classes());
      model.forward(pass, device, logits, kept);
    } else {
      hidden = pass.keep(batch.rows(), model.config().width);
      model.encode(pass, device, hidden, kept);
    }
  }

  Workspace<B> saved, scratch;
  DeviceBatch<X> device;
  Pass<X> pass;
  typename Bert<X>::Activations kept;
  View<T> logits;
  View<T> hidden;
};

}  // namespace

#ifdef DELTATUNE_TEST_CUDA
#define DELTATUNE_FLOAT_TENSORS test::DeviceTensor
#else
#define DELTATUNE_FLOAT_TENSORS test::DeviceTensor, (Tensor<float, Cpu<EigenGemm>>)
#endif

TEMPLATE_TEST_CASE("logits, loss and gradients are those of transformers + PEFT", "[conformance]", DELTATUNE_FLOAT_TENSORS,
                   (Tensor<double, Reference>)) {
  using X = TestType;
  using T = scalar_of<X>;
  context_of<X> ctx;
  for (const std::string& name : case_names()) {
    INFO(name);
    Case<X> c(ctx, name);
    const SafeTensors inputs = SafeTensors::open(c.folder / "batch.safetensors"), expected = SafeTensors::open(c.folder / "expected.safetensors");
    const PackedBatch batch = packed(inputs, "", c.classes);
    Run<X> run(ctx, c.model, batch, Mode::differentiate);
    if (c.classes == 0) {
      const View<T> mean = run.pass.keep(batch.count(), c.model.config().width);
      ops::mean_rows<backend_of<X>, T>(ctx, run.hidden, run.device.sequences().offsets, mean);
      CHECK(largest_difference<X>(ctx, doubles(expected.at("last_hidden_state")), run.hidden) < kLogitsTolerance);
      CHECK(largest_difference<X>(ctx, doubles(expected.at("sentence_embedding")), mean) < kLogitsTolerance);
      continue;
    }
    CHECK(largest_difference<X>(ctx, doubles(expected.at("logits")), run.logits) < kLogitsTolerance);
    const View<T> dlogits = run.pass.keep(batch.count(), c.classes), loss = run.pass.keep(1, 1);
    backend_of<X>::fill(ctx, loss, T(0));
    classification_loss<X>(run.pass, run.device, run.logits, {}, {}, label_weight(batch, {}), dlogits, loss);
    CHECK(largest_difference<X>(ctx, doubles(expected.at("loss")), loss) < kLogitsTolerance);
    c.model.backward(run.pass, run.device, run.kept, dlogits);

    std::size_t compared = 0, in_file = 0;
    double largest = 0, difference = 0;
    for (const auto& [key, tensor] : expected.tensors()) {
      if (!key.starts_with("grad.")) continue;
      ++in_file;
      for (const double g : doubles(tensor)) largest = std::max(largest, std::fabs(g));
    }
    c.model.visit([&](Parameter<X>& parameter) {
      if (!parameter.trains()) return;
      const TensorInfo& tensor = expected.at("grad." + c.keys.at(parameter.path()));
      REQUIRE(tensor.shape == parameter.shape());
      difference = std::max(difference, largest_difference<X>(ctx, doubles(tensor), parameter.gradient()));
      ++compared;
    });
    CHECK(compared == in_file);
    CHECK(difference <= kGradientTolerance * largest);
  }
}

TEMPLATE_TEST_CASE("ten AdamW steps follow PyTorch's", "[conformance]", DELTATUNE_FLOAT_TENSORS) {
  using X = TestType;
  context_of<X> ctx;
  for (const std::string name : {"full", "lora_query_value", "bitfit"}) {
    INFO(name);
    Case<X> c(ctx, name);
    const JsonConfig settings = c.config.object("adamw");
    const SafeTensors file = SafeTensors::open(c.folder / "adamw.safetensors");
    TrainerConfig config;
    config.dropout = false;
    config.optimizer.learning_rate = settings.get<double>("learning_rate");
    config.optimizer.weight_decay = settings.get<double>("weight_decay");
    config.schedule = {Schedule::Kind::linear, settings.get<std::int64_t>("warmup_steps"), settings.get<std::int64_t>("steps")};
    config.max_gradient_norm = settings.get<double>("clip_norm");
    std::map<std::string, std::vector<float>> start;
    c.model.visit([&](Parameter<X>& parameter) {
      if (parameter.trains()) start[parameter.path()] = download_floats<X>(ctx, parameter.value());
    });
    Trainer<Bert<X>> trainer(ctx, c.model, config);
    const std::vector<double> losses = doubles(file.at("losses")), norms = doubles(file.at("gradient_norms")), rates = doubles(file.at("learning_rates"));
    const Index batches = settings.get<std::int64_t>("batches");
    const auto noise = settings.get<std::vector<std::string>>("noise_only");
    for (Index step = 1; step <= settings.get<std::int64_t>("steps"); ++step) {
      const std::size_t i = static_cast<std::size_t>(step) - 1;
      const StepReport report = trainer.step(packed(file, "batch_" + std::to_string((step - 1) % batches) + ".", c.classes));
      CHECK(report.loss == Approx(losses[i]).epsilon(1e-5));
      CHECK(report.gradient_norm == Approx(norms[i]).epsilon(1e-4));
      CHECK(report.learning_rate == Approx(rates[i]).epsilon(1e-12));
      if (!file.find("step_" + std::to_string(step) + "." + c.keys.begin()->second)) continue;
      // What the steps changed, beside what PyTorch's changed: root mean square over everything that trains.
      double error = 0, change = 0;
      c.model.visit([&](Parameter<X>& parameter) {
        if (!parameter.trains() || std::find(noise.begin(), noise.end(), parameter.path()) != noise.end()) return;
        const std::vector<double> expected = doubles(file.at("step_" + std::to_string(step) + "." + c.keys.at(parameter.path())));
        const std::vector<float> now = download_floats<X>(ctx, parameter.value());
        for (std::size_t e = 0; e < now.size(); ++e) {
          error += std::pow(static_cast<double>(now[e]) - expected[e], 2.0);
          change += std::pow(expected[e] - static_cast<double>(start.at(parameter.path())[e]), 2.0);
        }
      });
      CHECK(change > 0);
      CHECK(std::sqrt(error / change) < 5e-3);
    }
  }
}

TEST_CASE("PEFT folders come back as they were", "[conformance]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx;
  for (const std::string& name : case_names()) {
    if (!name.starts_with("lora")) continue;
    INFO(name);
    Case<X> c(ctx, name);
    REQUIRE(c.adapter->peft);
    const test::TemporaryFolder out;
    save_peft<X>(ctx, out.path(), c.model, c.adapter->peft->plan, c.adapter->peft->attachment, "base");
    const SafeTensors before = SafeTensors::open(c.folder / "adapter" / "adapter_model.safetensors"), after = SafeTensors::open(out.path() / "adapter_model.safetensors");
    CHECK(after.tensors().size() + c.adapter->peft->ignored.size() == before.tensors().size());
    for (const auto& [key, tensor] : after.tensors()) {
      INFO(key);
      REQUIRE(before.find(key) != nullptr);
      CHECK(before.at(key).shape == tensor.shape);
      CHECK(std::equal(tensor.bytes.begin(), tensor.bytes.end(), before.at(key).bytes.begin()));
    }
    // And the settings: the same scales at the same sites.
    Bert<X> again = Bert<X>::load(ctx, kRoot / "models" / c.config.get<std::string>("model"), Head{c.classes});
    const PeftAdapter<X> reloaded = load_peft(ctx, again, out.path());
    REQUIRE(reloaded.attachment.entries().size() == c.adapter->peft->attachment.entries().size());
    for (std::size_t i = 0; i < reloaded.attachment.entries().size(); ++i)
      CHECK(reloaded.attachment.entries()[i].delta->config().scale() == c.adapter->peft->attachment.entries()[i].delta->config().scale());
  }
}

TEST_CASE("merged equals attached, unmerged restores the bits, a written checkpoint gives the same logits", "[conformance]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx;
  for (const std::string name : {"lora_query_value", "lora_all_linear_rslora", "lora_bias_all", "lora_patterns_layers"}) {
    INFO(name);
    Case<X> c(ctx, name);
    const PackedBatch batch = packed(SafeTensors::open(c.folder / "batch.safetensors"), "", c.classes);
    const auto logits_of = [&](Bert<X>& model) {
      const Run<X> run(ctx, model, batch, Mode::evaluate);
      const std::vector<float> host = download_floats<X>(ctx, run.logits);
      return std::vector<double>(host.begin(), host.end());
    };
    const auto weights_of = [&] {
      std::vector<std::vector<float>> weights;
      c.model.visit([&](Parameter<X>& parameter) { weights.push_back(download_floats<X>(ctx, parameter.value())); });
      return weights;
    };
    const std::vector<double> attached = logits_of(c.model);
    const auto before = weights_of();
    auto& attachment = c.adapter->peft->attachment;
    attachment.merge(ctx);
    const std::vector<double> merged = logits_of(c.model);
    // One case is ill-conditioned: PyTorch itself is 5e-6 from its own float64 there, so its bound goes by the largest logit.
    double bound = 1e-5;
    if (name == "lora_all_linear_rslora") bound *= 4.4;
    for (std::size_t i = 0; i < attached.size(); ++i) CHECK(std::fabs(merged[i] - attached[i]) < bound);
    CHECK(before != weights_of());
    CHECK_THROWS_AS(attachment.merge(ctx), Error);

    const test::TemporaryFolder out;
    save_hf_checkpoint(ctx, out.path(), c.model, kRoot / "models" / c.config.get<std::string>("model"), {});
    Bert<X> whole = Bert<X>::load(ctx, out.path(), Head::classifier(c.classes));
    CHECK(logits_of(whole) == merged);

    attachment.unmerge(ctx);
    CHECK(before == weights_of());
    CHECK(logits_of(c.model) == attached);

    const auto set_first = [&](float value) { test::Device::copy_in(ctx, &value, attachment.entries()[0].delta->b().value().data, sizeof value); };
    set_first(std::nanf(""));
    CHECK_THROWS_AS(attachment.merge(ctx), Error);
    set_first(1.0F);
    attachment.set_enabled(false);
    CHECK(logits_of(c.model) != attached);
    attachment.detach();
    c.model.visit([](Parameter<X>& parameter) { CHECK(parameter.role() != Role::delta); });
  }
}

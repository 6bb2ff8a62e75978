// What every delta method promises, checked on a model of your choice. No test framework: broken promises come back as sentences.
//
//   const auto broken = check::contract(ctx, make_model, batch, MyPlan{...}, {.parameters = 2 * 7 * 32, .folder = "/tmp/somewhere"});
//   for (const std::string& sentence : broken) std::cout << sentence << "\n";
//
// - attached, it changes nothing yet (where the method starts so), and has as many parameters as its formula says
// - what is frozen owns no bytes; a step after the first allocates nothing
// - training changes the deltas' parameters and no bit of the base; the same seed gives the same bits
// - switched off, merged, unmerged, detached: outputs and base weights are what they should be; a merge that would not be finite is refused;
//   detached, it leaves no bit, byte or product behind
// - written and read back on a fresh base it gives the same outputs; with a tensor less, more or of another shape its file is refused
// - it trains beside another method
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/peft_format.hpp"
#include "deltatune/train/trainer.hpp"

namespace deltatune::check {

struct ContractOptions {
  Index parameters = -1;  // of all deltas together, by the method's formula; -1: not checked
  bool starts_as_identity = true;
  bool merges = false;                // exactly; else merge() has to refuse
  double tolerance = 1e-5;            // of the largest output
  std::filesystem::path folder = {};  // for writing and reading; empty: not checked
};

namespace detail {

template <class Model>
std::vector<double> outputs(typename Model::Context& ctx, Model& model, const PackedBatch& host) {
  using X = typename Model::Tensor;
  Workspace<backend_of<X>> saved(ctx), scratch(ctx);
  DeviceBatch<X> batch(ctx);
  batch.upload(host, false, model.layout());
  Pass<X> pass{ctx, saved, scratch};
  typename Model::Activations kept;
  const bool per_token = model.is_language_model();
  const View<scalar_of<X>> logits = pass.keep(per_token ? host.rows() : host.count(), per_token ? model.architecture().vocab_size : model.num_labels());
  model.forward(pass, batch, logits, kept);
  const std::vector<float> floats = download_floats<X>(ctx, logits);
  return {floats.begin(), floats.end()};
}

// All parameters' bits that a file would hold, by path; base: those of the model itself, else those of deltas.
template <class Model>
std::map<std::string, std::vector<float>> values(typename Model::Context& ctx, Model& model, bool base) {
  using X = typename Model::Tensor;
  std::map<std::string, std::vector<float>> all;
  model.visit([&](Parameter<X>& parameter) {
    if ((parameter.role() != Role::delta) == base && (base || !parameter.derived())) all[parameter.path()] = download_floats<X>(ctx, parameter.value());
  });
  return all;
}

// An adapter's folder once more, with other tensors.
template <class Change>
void copy_changed(const std::filesystem::path& from, const std::filesystem::path& to, const Change& change) {
  const char* const name = std::filesystem::exists(from / "adapter.safetensors") ? "adapter.safetensors" : "adapter_model.safetensors";
  const SafeTensors file = SafeTensors::open(from / name);
  std::vector<TensorInfo> tensors;
  for (const auto& [key, tensor] : file.tensors()) tensors.push_back(tensor);
  change(tensors);
  SafeTensorsWriter writer;
  for (const TensorInfo& tensor : tensors) writer.add(tensor);
  make_directory(to);
  writer.write(to / name);
  std::filesystem::copy_file(from / "adapter_config.json", to / "adapter_config.json", std::filesystem::copy_options::overwrite_existing);
}

inline double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(a[i] - b.at(i));
    if (!(d <= difference)) difference = d;
    size = std::max(size, std::fabs(a[i]));
  }
  return difference / size;
}

template <class Model>
TrainerConfig contract_training() {
  TrainerConfig config;
  config.optimizer.learning_rate = 0.01;
  config.schedule = {Schedule::Kind::linear, 0, 12};
  config.seed = 3;
  return config;
}

}  // namespace detail

// make(ctx): a model, by value, with the same weights each time. batch: with the labels the model learns from.
template <class Make, class Context, class Plan>
std::vector<std::string> contract(Context& ctx, const Make& make, const PackedBatch& batch, Plan plan, const ContractOptions& options) {
  using Model = decltype(make(ctx));
  using X = typename Model::Tensor;
  std::vector<std::string> broken;
  const auto expect = [&](bool kept, const std::string& sentence) {
    if (!kept) broken.push_back(sentence);
  };
  const auto alike = [&](const std::vector<double>& a, const std::vector<double>& b) { return detail::largest_difference(a, b) <= options.tolerance; };
  plan.modules_to_save = {};
  plan.bias = BiasTraining::none;
  constexpr std::uint64_t kSeed = 5;
  constexpr int kSteps = 3;

  Model model = make(ctx);
  freeze_base(model);
  const Index bytes = ctx.live_bytes();
  ctx.reset_counters();
  const std::vector<double> plain = detail::outputs(ctx, model, batch);
  const Index products = ctx.gemm_calls();
  const auto base_bits = detail::values(ctx, model, true);
  const auto base_kept = [&](const std::string& when) {
    const auto now = detail::values(ctx, model, true);
    expect(now == base_bits, "a weight of the base has changed " + when);
  };

  auto attachment = attach(ctx, model, plan, kSeed);
  if (options.starts_as_identity) expect(alike(plain, detail::outputs(ctx, model, batch)), "the outputs change when it is attached");
  Index own = 0;
  attachment.visit([&](Parameter<X>& parameter) { own += parameter.derived() ? 0 : parameter.trainable_count(); });
  if (options.parameters >= 0)
    expect(own == options.parameters, "it has " + std::to_string(own) + " trainable parameters and not " + std::to_string(options.parameters));

  const auto before = detail::values(ctx, model, false);
  {
    Trainer<Model> trainer(ctx, model, detail::contract_training<Model>());
    trainer.plan(batch);
    model.visit([&](const Parameter<X>& parameter) {
      if (!parameter.trains()) expect(parameter.gradient_bytes() == 0, parameter.path() + " is frozen and has a gradient");
    });
    for (int i = 0; i < kSteps; ++i) {
      ctx.reset_counters();
      trainer.step(batch);
      if (i > 0) expect(ctx.allocations() == 0, "step " + std::to_string(i + 1) + " allocates memory");
    }
  }
  const auto after = detail::values(ctx, model, false);
  attachment.visit([&](Parameter<X>& parameter) {
    if (parameter.updated()) expect(before.at(parameter.path()) != after.at(parameter.path()), parameter.path() + " does not learn");
  });
  const std::vector<double> trained = detail::outputs(ctx, model, batch);
  expect(!alike(plain, trained), "the outputs stay the same whatever it learns");
  attachment.set_enabled(false);
  expect(alike(plain, detail::outputs(ctx, model, batch)), "switched off it still changes the outputs");
  base_kept("by training");
  attachment.set_enabled(true);
  expect(alike(trained, detail::outputs(ctx, model, batch)), "switched on again it gives other outputs");

  {
    Model again = make(ctx);
    auto twin = attach(ctx, again, plan, kSeed);
    Trainer<Model> trainer(ctx, again, detail::contract_training<Model>());
    trainer.plan(batch);
    for (int i = 0; i < kSteps; ++i) trainer.step(batch);
    expect(detail::values(ctx, again, false) == after, "the same seed gives other bits");
  }

  if (!options.folder.empty()) {
    save_adapter(ctx, options.folder, model, plan, attachment, "base");
    Model fresh = make(ctx);
    freeze_base(fresh);
    const JsonConfig json = JsonConfig::open(options.folder / "adapter_config.json");
    auto loaded = load_adapter_as(ctx, fresh, options.folder, deltatune::detail::read_plan<Plan>(json));
    expect(alike(trained, detail::outputs(ctx, fresh, batch)), "read back from its folder it gives other outputs");

    const auto refuses = [&](const std::string& mistake, const auto& change) {
      const std::filesystem::path spoilt = options.folder / "spoilt";
      detail::copy_changed(options.folder, spoilt, change);
      Model untouched = make(ctx);
      freeze_base(untouched);
      try {
        load_adapter_as(ctx, untouched, spoilt, deltatune::detail::read_plan<Plan>(json));
        expect(false, "a file with " + mistake + " is accepted silently");
      } catch (const Error&) {
        expect(alike(plain, detail::outputs(ctx, untouched, batch)), "a file with " + mistake + " is refused and leaves something behind");
      }
    };
    refuses("a tensor less", [](std::vector<TensorInfo>& tensors) { tensors.erase(tensors.begin()); });
    refuses("a tensor more", [](std::vector<TensorInfo>& tensors) {
      tensors.push_back(tensors.front());
      tensors.back().name += "_more";
    });
    refuses("a tensor of another shape", [](std::vector<TensorInfo>& tensors) { tensors.back().shape.push_back(1); });
  }

  if (options.merges) {
    attachment.merge(ctx);
    expect(alike(trained, detail::outputs(ctx, model, batch)), "merged it gives other outputs");
    attachment.unmerge(ctx);
    attachment.set_enabled(false);
    base_kept("by merge and unmerge");
    attachment.merge(ctx);
    attachment.unmerge(ctx);
    expect(alike(plain, detail::outputs(ctx, model, batch)), "merged and unmerged while switched off, it is switched on");
    base_kept("by merge and unmerge while switched off");
    attachment.set_enabled(true);
    expect(alike(trained, detail::outputs(ctx, model, batch)), "unmerged it gives other outputs");
    std::vector<float> kept;
    Parameter<X>* spoilt = nullptr;
    attachment.visit([&](Parameter<X>& parameter) {
      if (spoilt == nullptr && parameter.updated()) spoilt = &parameter;
    });
    kept = download_floats<X>(ctx, spoilt->value());
    upload_values(ctx, std::span<const float>(std::vector<float>(kept.size(), std::numeric_limits<float>::quiet_NaN())), *spoilt);
    bool refused = false;
    try {
      attachment.merge(ctx);
    } catch (const Error&) {
      refused = true;
    }
    expect(refused, "it merges values that are not finite");
    upload_values(ctx, std::span<const float>(kept), *spoilt);
  } else {
    bool refused = false;
    try {
      attachment.merge(ctx);
    } catch (const Error&) {
      refused = true;
    }
    expect(refused, "it merges although it cannot exactly");
  }

  // Beside a LoRA everywhere.
  LoraPlan other;
  other.name = "beside";
  other.targets = Targets::every_linear();
  other.modules_to_save = {};
  other.lora.rank = 2;
  auto beside = attach_beside(ctx, model, other, kSeed + 1);
  expect(alike(trained, detail::outputs(ctx, model, batch)), "another method attached beside it changes its outputs");
  const auto both = detail::values(ctx, model, false);
  {
    Trainer<Model> trainer(ctx, model, detail::contract_training<Model>());
    trainer.plan(batch);
    trainer.step(batch);
    trainer.step(batch);
  }
  const auto both_trained = detail::values(ctx, model, false);
  for (const auto& [path, value] : both) expect(!path.ends_with("lora_B.weight") || value != both_trained.at(path), path + " does not learn beside it");
  attachment.detach();
  beside.detach();
  base_kept("by both methods");
  ctx.reset_counters();
  expect(plain == detail::outputs(ctx, model, batch), "taken out it still changes the outputs");
  expect(ctx.gemm_calls() == products, "taken out it leaves products behind");
  expect(ctx.live_bytes() == bytes, "taken out it still holds memory");
  return broken;
}

}  // namespace deltatune::check

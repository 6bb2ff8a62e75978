// One case of the benchmark: a model with random weights, a method, a batch; ready to step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../shapes.hpp"
#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/backend/cpu.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/delta/selections.hpp"
#include "deltatune/model/transformer.hpp"
#include "deltatune/train/trainer.hpp"
#include "profiled.hpp"

namespace deltatune::bench {

using Device = Profiled<DefaultCpu>;
using X = Tensor<float, Device>;

enum class Method { lora, lora_all, bitfit, full };

struct Case {
  std::string name;
  Architecture architecture;
  std::vector<Index> lengths;  // of the batch's sequences
  bool dropout = false;        // as the config says
  Method method = Method::lora;
  bool bf16 = false;  // of the base weights
};

// A prepared case. It does not move: the model refers to the context.
struct Job {
  Device::Context ctx;
  std::function<double()> step;  // seconds of one; ctx.profile.products are then its products
  Index rows = 0;
  double activations = 0;                      // bytes kept a layer, in units of rows · width floats
  double floor = 0;                            // the same, as few as can be
  double gemm_flops = 0;                       // of a step
  double (*peak)(Device::Context&) = nullptr;  // FLOP/s of the fastest of some large products of the base weights' type

  // So far.
  double best_peak = 0;
  Index steps = 0;
  double seconds = 0;
};

namespace detail {

template <class Model>
Model& prepare(Device::Context& ctx, Model& model, const Case& c) {
  model.initialise(ctx, 1);
  LoraPlan plan;
  plan.lora = {.rank = 8, .alpha = 16};  // for query and value, c_attn or Wqkv
  switch (c.method) {
    case Method::lora_all:
      plan.targets.all_linear = true;
      [[fallthrough]];
    case Method::lora:
      attach(ctx, model, plan);
      break;
    case Method::bitfit:
      apply(model, bitfit(family_of(model)));
      break;
    case Method::full:
      apply(model, full_fine_tuning());
      break;
  }
  if constexpr (kRounds<X>) {
    if (c.bf16) model.cast_base_to_bf16(ctx);
  }
  return model;
}

// Random tokens; what a language model learns to predict is the tokens themselves.
template <class Model>
PackedBatch make_batch(const Model& model, const std::vector<Index>& lengths) {
  PackedBatch batch;
  const auto draw = [](Index stream, Index i, Index bound) {
    const RandomKey key = derive(2, static_cast<std::uint64_t>(stream));
    return static_cast<std::int32_t>(random_bits(key, static_cast<std::uint64_t>(i)) % static_cast<std::uint32_t>(bound));
  };
  for (const Index length : lengths) {
    std::vector<std::int32_t> tokens;
    for (Index t = 0; t < length; ++t) tokens.push_back(draw(batch.count(), t, model.architecture().vocab_size));
    if (model.has_classifier()) batch.labels.push_back(draw(batch.count(), length, model.num_labels()));
    batch.add(tokens);
  }
  if (model.is_language_model()) batch.token_labels = batch.ids;
  return batch;
}

// What backward has to read, a layer in units of rows · width floats; masks and the outputs of norms and activations are computed again:
// q, k, v, two normalised inputs, and F/C for the feed-forward part before its activation: 9; and attention's output where something in the
// projection behind it trains: 10. (Statistics of a row and LoRA's columns, less than a quarter of a unit, are not in it.)
inline double whole_block(Index intermediate_size, Index width, Method method) {
  const bool output_is_read = method == Method::lora_all || method == Method::full;
  return (output_is_read ? 6.0 : 5.0) + static_cast<double>(intermediate_size) / static_cast<double>(width);
}
// A classifier: of the last block only its input, k and v for all rows; the rest, and its output, for the rows that it reads. With BitFit not the
// embeddings' normalised rows either: the gradient of the norm's shift is a column sum. A language model: and of the rows that predict what the last norm
// has made of them, and their gradient.
inline double activation_floor(const Architecture& a, bool classifies, const PackedBatch& batch, Method method) {
  const double layers = static_cast<double>(a.layers()), rows = static_cast<double>(batch.rows()), count = static_cast<double>(batch.count());
  const double whole = whole_block(a.stack.layers.front().feed_forward.intermediate_size, a.hidden_size, method);
  if (!classifies) return whole + 2.0 * (rows - count) / rows / layers;
  return (whole * (layers - 1.0) + 3.0 + (whole - 2.0) * count / rows - (method == Method::bitfit ? 1.0 : 0.0)) / layers;
}

// FLOP/s of the fastest of some large products x·Wᵀ.
template <class In>
double gemm_peak(Device::Context& ctx) {
  double best = 0;
  for (const Index size : {1024, 1536, 2048}) {
    Tensor<In, Device> a(ctx, {size, size}), b(ctx, {size, size});
    X c(ctx, {size, size});
    Device::fill(ctx, a.view(), In(0.5F));
    Device::fill(ctx, b.view(), In(0.25F));
    const Gemm<float, In> product{.a = a.view(), .b = b.view(), .c = c.view(), .transpose_b = true};
    const double flops = 2.0 * static_cast<double>(size * size * size);
    for (int i = 0; i < 2; ++i) best = std::max(best, flops / seconds_of([&] { DefaultCpu::gemm(ctx, product); }));
  }
  return best;
}

inline void set_up(Job& job, const Case& c) {
  using Model = Transformer<X>;
  struct Training {
    Model model;
    Trainer<Model> trainer;
    PackedBatch batch;
    Training(Device::Context& ctx, const Case& c)
        : model(ctx, c.architecture, c.architecture.head.lm_head.empty() ? Head::classifier(3) : Head::language_model()),
          trainer(ctx, prepare(ctx, model, c), {.optimizer = {.learning_rate = 1e-4}, .dropout = c.dropout}),
          batch(make_batch(model, c.lengths)) {}
  };
  const auto training = std::make_shared<Training>(job.ctx, c);
  training->trainer.plan(training->batch);
  job.rows = training->batch.rows();
  const Index unit = job.rows * c.architecture.hidden_size * static_cast<Index>(sizeof(float));
  job.activations = static_cast<double>(training->trainer.memory().activations) / static_cast<double>(unit * c.architecture.layers());
  job.floor = activation_floor(c.architecture, training->model.has_classifier(), training->batch, c.method);
  job.step = [&job, training] {
    job.ctx.profile.products.clear();
    return training->trainer.step(training->batch).seconds;
  };
}

}  // namespace detail

inline std::unique_ptr<Job> make_job(const Case& c) {
  auto job = std::make_unique<Job>();
  detail::set_up(*job, c);
  job->step();
  job->ctx.reset_counters();
  job->step();
  job->gemm_flops = static_cast<double>(job->ctx.gemm_flops());
  job->ctx.profile.ops.clear();
  job->peak = detail::gemm_peak<float>;
  if constexpr (kRounds<X>) {
    if (c.bf16) job->peak = detail::gemm_peak<Bfloat16>;
  }
  return job;
}

}  // namespace deltatune::bench

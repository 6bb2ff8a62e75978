// Every layer under every pattern of what trains below and inside of it: gradients by the adjoint test, and float on both providers.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/backend/cpu/gemm_eigen.hpp"
#include "deltatune/nn/block.hpp"
#include "deltatune/nn/embedding.hpp"
#include "deltatune/nn/head.hpp"
#include "deltatune/nn/pre_norm_block.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

// What trains inside a layer, and whether something below it does.
struct Pattern {
  std::vector<std::string> trainable;
  bool below = true;
};

// The layer's input: a variable when something below trains.
template <class X>
struct Input {
  View<const scalar_of<X>> value;
  View<scalar_of<X>> gradient;
};
template <class X>
Input<X> layer_input(check::Trial<X>& trial, bool below, Index rows, Index cols) {
  if (!below) return {trial.constant(rows, cols), {}};
  const auto x = trial.input("x", rows, cols);
  return {x.value, x.gradient};
}

template <class X, class Module>
Module& own(check::Trial<X>& trial, Module module, const Pattern& pattern) {
  unfreeze(module, pattern.trainable);
  return trial.own(std::move(module));
}

template <class X>
GradientSink<scalar_of<X>> sink(const Input<X>& x) {
  return x.gradient ? GradientSink<scalar_of<X>>::fresh(x.gradient) : GradientSink<scalar_of<X>>::none();
}

// What is rebuilt for backward must be what forward handed on.
template <class T>
double largest_difference(const std::vector<T>& a, const std::vector<T>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(static_cast<double>(value_of(a[i] - b[i]))));
  return largest;
}

auto linear_body(const Pattern& pattern, Index rows, Index in, Index out) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    auto& layer = own(trial, Linear<X>(trial.ctx(), in, {{"query", out}, {"key", out + 2}, {"value", 3}}), pattern);
    const Input<X> x = layer_input(trial, pattern.below, rows, in);
    const auto y = trial.output("y", rows, layer.out());
    typename Linear<X>::Saved saved;
    layer.forward(trial.pass(), x.value, y.value, saved);
    if (!trial.backward_wanted()) return;
    layer.backward(trial.pass(), saved, layer.needs_input() ? x.value : View<const T>(), y.gradient, sink(x));
  };
}

auto feed_forward_body(const Pattern& pattern, Index rows, Index width, Index inner, bool recompute = false) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    auto& layer =
        own(trial, FeedForward<X>(Linear<X>(trial.ctx(), width, {{"up", inner}}), Linear<X>(trial.ctx(), inner, {{"down", width}}), ops::Activation::gelu),
            pattern);
    layer.set_recompute(recompute);
    const Input<X> x = layer_input(trial, pattern.below, rows, width);
    const auto y = trial.output("y", rows, width);
    typename FeedForward<X>::Saved saved;
    layer.forward(trial.pass(), x.value, y.value, saved);
    if (!trial.backward_wanted()) return;
    layer.backward(trial.pass(), saved, layer.needs_input() ? x.value : View<const T>(), y.gradient, sink(x));
  };
}

template <class X>
SelfAttention<X> self_attention(context_of<X>& ctx, Index width, Index heads, double dropout) {
  return {"attention",
          Linear<X>(ctx, width, {{"query", width}, {"key", width}, {"value", width}}),
          Linear<X>(ctx, width, {{"output", width}}),
          {.heads = heads, .dropout = dropout}};
}

auto attention_body(const Pattern& pattern, const std::vector<Index>& lengths, Index width, Index heads, double dropout) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    trial.pass().mode = Mode::train;
    auto& layer = own(trial, self_attention<X>(trial.ctx(), width, heads, dropout), pattern);
    const Sequences sequences = trial.sequences(lengths);
    const Input<X> x = layer_input(trial, pattern.below, sequences.rows, width);
    const auto y = trial.output("y", sequences.rows, width);
    typename SelfAttention<X>::Saved saved;
    layer.forward(trial.pass(), sequences, x.value, y.value, saved);
    if (!trial.backward_wanted()) return;
    layer.backward(trial.pass(), saved, layer.needs_input() ? x.value : View<const T>(), y.gradient, sink(x));
  };
}

// The last `read` rows of each sequence are demanded; empty: all rows are.
template <class X>
Demand demand_of(check::Trial<X>& trial, const std::vector<Index>& lengths, const std::vector<Index>& read) {
  if (read.empty()) return {};
  std::vector<Index> rows;
  Index end = 0;
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    end += lengths[b];
    for (Index i = end - read[b]; i < end; ++i) rows.push_back(i);
  }
  return {trial.array(rows), trial.sequences(read)};
}

// Runs a block on x, all of its rows or those demanded, and takes the gradient back.
template <class X, class Block, class Backward>
void run_block(check::Trial<X>& trial, const Block& layer, const Pattern& pattern, const std::vector<Index>& lengths, const std::vector<Index>& read,
               Index width, const Backward& backward) {
  using B = backend_of<X>;
  using T = scalar_of<X>;
  const Sequences sequences = trial.sequences(lengths);
  const Demand demand = demand_of(trial, lengths, read);
  const Input<X> x = layer_input(trial, pattern.below, sequences.rows, width);
  const auto y = trial.output("y", demand ? demand.sequences.rows : sequences.rows, width);
  typename Block::Saved saved;
  if (demand) {
    layer.forward(trial.pass(), sequences, demand, x.value, y.value, saved);
  } else {
    ops::copy<B, T>(trial.ctx(), x.value, y.value);
    layer.forward(trial.pass(), sequences, y.value, saved);
  }
  if (!trial.backward_wanted()) return;
  backward(saved, x.value, y.value, y.gradient, demand ? x.gradient : y.gradient);
  if (x.gradient && !demand) ops::copy<B, T>(trial.ctx(), y.gradient, x.gradient);
}

auto block_body(const Pattern& pattern, const std::vector<Index>& lengths, Index width, Index heads, double dropout, const std::vector<Index>& read = {}) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    auto& ctx = trial.ctx();
    trial.pass().mode = Mode::train;
    auto& layer = own(
        trial,
        PostNormBlock<X>(self_attention<X>(ctx, width, heads, dropout), PostNormResidual<X>({}, LayerNorm<X>(ctx, "attention_norm", width, 1e-6), dropout),
                         FeedForward<X>(Linear<X>(ctx, width, {{"up", 2 * width}}), Linear<X>(ctx, 2 * width, {{"down", width}}), ops::Activation::gelu_new),
                         PostNormResidual<X>({}, LayerNorm<X>(ctx, "output_norm", width, 1e-6), dropout)),
        pattern);
    run_block(trial, layer, pattern, lengths, read, width, [&](const auto& saved, View<const T> x, View<T> y, View<T> dy, View<T> dx) {
      const View<T> rebuilt = trial.pass().take(y.rows, width);
      layer.rebuild_output(trial.pass(), saved, rebuilt);
      CHECK(largest_difference(test::on_host<X>(ctx, rebuilt), test::on_host<X>(ctx, y)) <= 1e-5);
      layer.backward(trial.pass(), saved, layer.needs_input() ? x : View<const T>(), dy, dx, pattern.below);
    });
  };
}

auto pre_norm_body(const Pattern& pattern, const std::vector<Index>& lengths, Index width, Index heads, double dropout, const std::vector<Index>& read = {}) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    auto& ctx = trial.ctx();
    trial.pass().mode = Mode::train;
    SelfAttention<X> attention("attention", Linear<X>(ctx, width, {{"c_attn", 3 * width}}), Linear<X>(ctx, width, {{"c_proj", width}}),
                               {.heads = heads, .dropout = dropout, .causal = true});
    FeedForward<X> feed_forward(Linear<X>(ctx, width, {{"up", 2 * width}}, {.bias = false}), Linear<X>(ctx, 2 * width, {{"down", width}}),
                                ops::Activation::gelu_new);
    auto& layer = own(trial,
                      PreNormBlock<X>({LayerNorm<X>(ctx, "ln_1", width, 1e-6), std::move(attention), {}, dropout},
                                      {LayerNorm<X>(ctx, "ln_2", width, 1e-6), std::move(feed_forward), {}, dropout}),
                      pattern);
    run_block(trial, layer, pattern, lengths, read, width,
              [&](const auto& saved, View<const T>, View<T>, View<T> dy, View<T> dx) { layer.backward(trial.pass(), saved, dy, dx, pattern.below); });
  };
}

PackedBatch toy_batch() {
  PackedBatch batch;
  for (const std::vector<std::int32_t>& tokens : {std::vector<std::int32_t>{3, 7, 3, 1}, {2}, {7, 5, 6}}) batch.add(tokens);
  batch.types = {0, 0, 1, 1, 0, 1, 0, 0};
  return batch;
}

auto embeddings_body(const Pattern& pattern, Index width, double dropout) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    auto& ctx = trial.ctx();
    trial.pass().mode = Mode::train;
    auto& layer = own(trial,
                      BertEmbeddings<X>("embeddings", Embedding<X>(ctx, "word", 9, width, 0), Embedding<X>(ctx, "position", 6, width),
                                        Embedding<X>(ctx, "type", 2, width), LayerNorm<X>(ctx, "norm", width, 1e-6), dropout),
                      pattern);
    DeviceBatch<X> batch(ctx);
    batch.upload(toy_batch(), layer.tables_train());
    const auto h = trial.output("h", batch.sequences().rows, width);
    typename BertEmbeddings<X>::Saved saved;
    layer.forward(trial.pass(), batch, h.value, saved);
    if (!trial.backward_wanted()) return;
    const View<T> rebuilt = trial.pass().take(h.value.rows, width);
    layer.rebuild_output(trial.pass(), saved, rebuilt);
    CHECK(largest_difference(test::on_host<X>(ctx, rebuilt), test::on_host<X>(ctx, h.value)) <= 1e-5);
    layer.backward(trial.pass(), batch, saved, h.gradient);
  };
}

auto head_body(const Pattern& pattern, Index rows, Index width, double dropout) {
  return [=]<class X>(check::Trial<X>& trial) {
    auto& ctx = trial.ctx();
    trial.pass().mode = Mode::train;
    auto& layer = own(trial, ClassificationHead<X>(Linear<X>(ctx, width, {{"pooler", width}}), Linear<X>(ctx, width, {{"classifier", 3}}), dropout), pattern);
    const Input<X> h = layer_input(trial, pattern.below, rows, width);
    const auto logits = trial.output("logits", rows, 3);
    typename ClassificationHead<X>::Saved saved;
    layer.forward(trial.pass(), h.value, logits.value, saved);
    if (trial.backward_wanted()) layer.backward(trial.pass(), saved, logits.gradient, h.gradient);
  };
}

// A body small enough for the adjoint test, then one large enough for threads.
template <class Small, class Large>
void check_layer(const Small& small, const Large& large) {
  test::check_adjoint(small);
  test::check_device(small, 5e-5);
  test::check_device(large, 5e-5);
}

}  // namespace

TEST_CASE("linear: several sites, trained as a whole, in part, or only passed through", "[nn][linear]") {
  const Pattern pattern =
      GENERATE(Pattern{{"**"}}, Pattern{{"**"}, false}, Pattern{{"**.bias"}}, Pattern{{"key.weight"}}, Pattern{{"value.**"}, false}, Pattern{});
  check_layer(linear_body(pattern, 4, 6, 5), linear_body(pattern, 67, 131, 45));
#ifndef DELTATUNE_TEST_CUDA
  test::check_device<Tensor<float, Cpu<EigenGemm>>>(linear_body(pattern, 67, 131, 45));
#endif
}

TEST_CASE("linear: reads its input only where a weight trains", "[nn][linear]") {
  Reference::Context ctx;
  Linear<Tensor<float, Reference>> layer(ctx, 2, {{"a", 2}, {"b", 3}});
  CHECK(layer.in() == 2);
  CHECK(layer.out() == 5);
  CHECK_FALSE(layer.needs_input());
  unfreeze(layer, {"**.bias"});
  CHECK_FALSE(layer.needs_input());
  unfreeze(layer, {"b.weight"});
  CHECK(layer.needs_input());
  CHECK_FALSE(static_cast<bool>(Linear<Tensor<float, Reference>>()));
}

TEST_CASE("linear: its sites are parts of one weight", "[nn][linear]") {
  Reference::Context ctx;
  Workspace<Reference> arena(ctx);
  Pass<Tensor<float, Reference>> pass{ctx, arena, arena};
  Linear<Tensor<float, Reference>> layer(ctx, 2, {{"a", 1}, {"b", 2}});
  float next = 1;
  layer.visit([&](auto& parameter) {  // a.weight 1 2, a.bias 3, b.weight 4 5 6 7, b.bias 8 9
    for (Index i = 0; i < parameter.size(); ++i) parameter.value().data[i] = next++;
  });
  const float x[] = {10, 100};
  float y[3];
  Linear<Tensor<float, Reference>>::Saved saved;
  ctx.reset_counters();
  layer.forward(pass, {x, 1, 2}, {y, 1, 3}, saved);
  CHECK(std::vector<float>(y, y + 3) == std::vector<float>{213, 548, 769});
  CHECK(ctx.gemm_calls() == 1);
}

TEST_CASE("feed-forward", "[nn]") {
  const Pattern pattern =
      GENERATE(Pattern{{"**"}}, Pattern{{"**"}, false}, Pattern{{"**.bias"}}, Pattern{{"down.**"}, false}, Pattern{{"up.bias"}, false}, Pattern{});
  check_layer(feed_forward_body(pattern, 4, 6, 9), feed_forward_body(pattern, 67, 45, 131));
  check_layer(feed_forward_body(pattern, 4, 6, 9, true), feed_forward_body(pattern, 67, 45, 131, true));
}

TEST_CASE("self-attention", "[nn]") {
  const Pattern pattern = GENERATE(Pattern{{"**"}}, Pattern{{"**"}, false}, Pattern{{"**.bias"}, false}, Pattern{{"output.**"}, false},
                                   Pattern{{"query.weight", "value.bias"}}, Pattern{});
  const double dropout = GENERATE(0.0, 0.3);
  check_layer(attention_body(pattern, {3, 1, 4}, 6, 2, dropout), attention_body(pattern, {70, 9, 33}, 24, 3, dropout));
}

TEST_CASE("post-norm block", "[nn]") {
  const Pattern pattern = GENERATE(Pattern{{"**"}}, Pattern{{"**"}, false}, Pattern{{"**.bias"}, false}, Pattern{{"output_norm.**"}, false},
                                   Pattern{{"down.**"}, false}, Pattern{{"up.weight"}, false}, Pattern{{"attention_norm.bias"}, false},
                                   Pattern{{"output.bias"}, false}, Pattern{{"*_norm.weight"}}, Pattern{{"key.weight"}, false}, Pattern{});
  const double dropout = GENERATE(0.0, 0.3);
  check_layer(block_body(pattern, {3, 1, 4}, 6, 2, dropout), block_body(pattern, {70, 9, 33}, 24, 3, dropout));
  check_layer(block_body(pattern, {3, 1, 4}, 6, 2, dropout, {1, 1, 2}), block_body(pattern, {70, 9, 33}, 24, 3, dropout, {1, 1, 1}));
}

TEST_CASE("pre-norm block", "[nn]") {
  const Pattern pattern = GENERATE(Pattern{{"**"}}, Pattern{{"**"}, false}, Pattern{{"**.bias"}, false}, Pattern{{"down.**"}, false},
                                   Pattern{{"up.weight"}, false}, Pattern{{"ln_2.bias"}, false}, Pattern{{"c_proj.bias"}, false}, Pattern{{"c_proj.weight"}},
                                   Pattern{{"c_attn.weight"}, false}, Pattern{{"ln_1.weight"}, false}, Pattern{});
  const double dropout = GENERATE(0.0, 0.3);
  check_layer(pre_norm_body(pattern, {3, 1, 4}, 6, 2, dropout), pre_norm_body(pattern, {70, 9, 33}, 24, 3, dropout));
  check_layer(pre_norm_body(pattern, {3, 1, 4}, 6, 2, dropout, {1, 1, 2}), pre_norm_body(pattern, {70, 9, 33}, 24, 3, dropout, {1, 1, 1}));
}

TEST_CASE("linear: without a bias, and the other way round in files", "[nn][linear]") {
  Reference::Context ctx;
  Linear<Tensor<float, Reference>> layer(ctx, 2, {{"score", 3}}, {.bias = false, .transposed_in_file = true});
  std::vector<std::string> paths;
  layer.visit([&](auto& parameter) {
    paths.push_back(parameter.path());
    CHECK(parameter.shape() == Shape{3, 2});
    CHECK(parameter.file_shape() == Shape{2, 3});
  });
  CHECK(paths == std::vector<std::string>{"score.weight"});
}

TEST_CASE("embeddings", "[nn]") {
  const Pattern pattern =
      GENERATE(Pattern{{"**"}}, Pattern{{"word.weight"}}, Pattern{{"position.weight", "type.weight"}}, Pattern{{"norm.**"}}, Pattern{{"norm.bias"}});
  const double dropout = GENERATE(0.0, 0.3);
  check_layer(embeddings_body(pattern, 7, dropout), embeddings_body(pattern, 1301, dropout));
}

TEST_CASE("embeddings: the padding id's row gets no gradient", "[nn]") {
  using X = Tensor<double, Reference>;
  Reference::Context ctx;
  Workspace<Reference> saved_arena(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved_arena, scratch, Mode::differentiate};
  Embedding<X> word(ctx, "word", 3, 2, 1);
  unfreeze(word, {"**"});
  allocate_gradients(word, ctx);
  PackedBatch packed;
  packed.add(std::vector<std::int32_t>{0, 1, 2, 1});
  DeviceBatch<X> batch(ctx);
  batch.upload(packed, true);
  const std::vector<double> dy(8, 1.0);
  word.backward(pass, {dy.data(), 4, 2}, batch.id_groups(), {});
  word.visit([](Parameter<X>& p) {
    CHECK(p.gradient()(0, 0) == 1.0);
    CHECK(p.gradient()(1, 0) == 0.0);
    CHECK(p.gradient()(2, 0) == 1.0);
  });
}

TEST_CASE("classification head", "[nn]") {
  const Pattern pattern = GENERATE(Pattern{{"**"}}, Pattern{{"**"}, false}, Pattern{{"classifier.**"}, false}, Pattern{{"pooler.bias"}, false},
                                   Pattern{{"classifier.bias"}}, Pattern{});
  const double dropout = GENERATE(0.0, 0.3);
  check_layer(head_body(pattern, 3, 6, dropout), head_body(pattern, 67, 131, dropout));
}

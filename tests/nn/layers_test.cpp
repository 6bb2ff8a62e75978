// Every layer under every pattern of what trains below and inside of it: gradients by the adjoint test, and float on both providers.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/backend/cpu/gemm_tiled.hpp"
#include "deltatune/nn/cross_attention.hpp"
#include "deltatune/nn/head.hpp"
#include "deltatune/nn/input_embeddings.hpp"
#include "deltatune/nn/sublayer.hpp"
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

// As in Qwen 3 (of each head) or OLMo 2 (over all heads), with half as many heads of keys and values.
template <class X>
SelfAttention<X> normalised_attention(context_of<X>& ctx, Index width, Index heads, bool over_heads) {
  const NormSpec rms{.kind = NormSpec::Kind::rms_norm, .epsilon = 1e-6};
  const auto norm = [&](const char* path, Index count) {
    return Norm<X>(ctx, path, over_heads ? width / heads * count : width / heads, rms, over_heads ? 1 : count);
  };
  return {"attention",
          Linear<X>(ctx, width, {{"query", width}, {"key", width / 2}, {"value", width / 2}}),
          Linear<X>(ctx, width, {{"output", width}}),
          {.heads = heads, .kv_heads = heads / 2, .causal = true},
          {},
          QueryKeyNorms<X>{norm("q_norm", heads), norm("k_norm", heads / 2)}};
}

template <class X>
SelfAttention<X> self_attention(context_of<X>& ctx, Index width, Index heads, double dropout) {
  return {"attention",
          Linear<X>(ctx, width, {{"query", width}, {"key", width}, {"value", width}}),
          Linear<X>(ctx, width, {{"output", width}}),
          {.heads = heads, .dropout = dropout}};
}

enum class Normalised { none, heads, row };

auto attention_body(const Pattern& pattern, const std::vector<Index>& lengths, Index width, Index heads, double dropout,
                    Normalised normalised = Normalised::none) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    trial.pass().mode = Mode::train;
    auto& layer = own(trial,
                      normalised == Normalised::none ? self_attention<X>(trial.ctx(), width, heads, dropout)
                                                     : normalised_attention<X>(trial.ctx(), width, heads, normalised == Normalised::row),
                      pattern);
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

// What trains in two layers that read the same source, below them and in the encoder.
struct CrossPattern : Pattern {
  bool source = true;
};

// The source is half as wide again; keys and values have half as many heads.
auto cross_attention_body(const CrossPattern& pattern, const std::vector<Index>& targets, const std::vector<Index>& sources, Index width, Index heads,
                          double dropout) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    const auto cross_attention = [&](const std::string& path) -> CrossAttention<X>& {
      return own(
          trial,
          CrossAttention<X>(path, Linear<X>(trial.ctx(), width, {{path + ".q", width}}),
                            Linear<X>(trial.ctx(), width * 3 / 2, {{path + ".k", width / 2}, {path + ".v", width / 2}}),
                            Linear<X>(trial.ctx(), width, {{path + ".o", width}}), {.heads = heads, .kv_heads = heads / 2, .dropout = dropout, .scale = 1}),
          pattern);
    };
    trial.pass().mode = Mode::train;
    CrossAttention<X>&first = cross_attention("first"), &second = cross_attention("second");
    const Sequences target = trial.sequences(targets), source = trial.sequences(sources);
    const Input<X> x = layer_input(trial, pattern.below, target.rows, width);
    Source<X> s;
    s.sequences = source;
    if (pattern.source) {
      const auto rows = trial.input("source", source.rows, width * 3 / 2);
      s.rows = rows.value;
      s.gradient = rows.gradient;
    } else {
      s.rows = trial.constant(source.rows, width * 3 / 2);
    }
    trial.pass().source = &s;
    const auto y = trial.output("y", target.rows, width), z = trial.output("z", target.rows, width);
    typename CrossAttention<X>::Saved of_first, of_second;
    first.forward(trial.pass(), target, x.value, y.value, of_first);
    second.forward(trial.pass(), target, x.value, z.value, of_second);
    if (!trial.backward_wanted()) return;
    if (s.gradient) backend_of<X>::fill(trial.ctx(), s.gradient, T(0));
    GradientSink<T> dx = sink(x);
    for (const bool is_first : {false, true}) {
      CrossAttention<X>& layer = is_first ? first : second;
      layer.backward(trial.pass(), is_first ? of_first : of_second, layer.needs_input() ? x.value : View<const T>(), is_first ? y.gradient : z.gradient, dx);
      if (dx.wanted()) dx = GradientSink<T>::accumulating(x.gradient);
    }
  };
}

// Which norms a sublayer has: before its branch, of the branch, of the sum.
struct Norms {
  bool before = false, branch = false, sum = false;
  NormSpec::Kind kind = NormSpec::Kind::layer_norm;
  double scale = 1;  // of the branch
};

// Attention, or the feed-forward part, on x: all of its rows, or those demanded.
auto sublayer_body(const Pattern& pattern, bool attends, Norms which, const std::vector<Index>& lengths, Index width, Index heads, double dropout,
                   const std::vector<Index>& read = {}) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    auto& ctx = trial.ctx();
    trial.pass().mode = Mode::train;
    const auto norm = [&](bool there, const char* path) {
      return there ? std::optional(Norm<X>(ctx, path, width, {.kind = which.kind, .epsilon = 1e-6})) : std::nullopt;
    };
    typename ResidualSublayer<X>::Branch branch = self_attention<X>(ctx, width, heads, dropout);
    if (!attends) branch = FeedForward<X>(Linear<X>(ctx, width, {{"up", 2 * width}}), Linear<X>(ctx, 2 * width, {{"down", width}}), ops::Activation::gelu_new);
    auto& layer =
        own(trial,
            ResidualSublayer<X>(std::move(branch), {norm(which.before, "norm_before"), norm(which.branch, "norm_branch"), norm(which.sum, "norm_sum")}, {},
                                dropout, which.scale),
            pattern);
    const Sequences sequences = trial.sequences(lengths);
    const Demand demand = demand_of(trial, lengths, read);
    const Input<X> x = layer_input(trial, pattern.below, sequences.rows, width);
    const auto y = trial.output("y", demand ? demand.sequences.rows : sequences.rows, width);
    typename ResidualSublayer<X>::Saved saved;
    if (demand) {
      layer.forward(trial.pass(), sequences, demand, x.value, y.value, saved);
    } else {
      ops::copy<B, T>(ctx, x.value, y.value);
      layer.forward(trial.pass(), sequences, {}, y.value, y.value, saved);
    }
    if (!trial.backward_wanted()) return;
    if (layer.can_rebuild_output()) {
      const View<T> rebuilt = trial.pass().take(y.value.rows, width);
      layer.rebuild_output(trial.pass(), saved, rebuilt);
      CHECK(largest_difference(test::on_host<X>(ctx, rebuilt), test::on_host<X>(ctx, y.value)) <= 1e-5);
    }
    layer.backward(trial.pass(), saved, layer.needs_input() ? View<const T>(x.value) : View<const T>(), y.gradient, demand ? x.gradient : y.gradient,
                   pattern.below);
    if (x.gradient && !demand) ops::copy<B, T>(ctx, y.gradient, x.gradient);
  };
}

PackedBatch toy_batch() {
  PackedBatch batch;
  for (const std::vector<std::int32_t>& tokens : {std::vector<std::int32_t>{3, 7, 3, 1}, {2}, {7, 5, 6}}) batch.add(tokens);
  batch.types = {0, 0, 1, 1, 0, 1, 0, 0};
  return batch;
}

auto embeddings_body(const Pattern& pattern, Index width, double dropout, double scale = 1) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    auto& ctx = trial.ctx();
    trial.pass().mode = Mode::train;
    auto& layer = own(trial,
                      InputEmbeddings<X>("embeddings",
                                         {.word = std::make_shared<Embedding<X>>(ctx, "word", 9, width, 0),
                                          .position = Embedding<X>(ctx, "position", 6, width),
                                          .type = Embedding<X>(ctx, "type", 2, width),
                                          .norm = Norm<X>(ctx, "norm", width, {.epsilon = 1e-6})},
                                         dropout, scale),
                      pattern);
    DeviceBatch<X> batch(ctx);
    batch.upload(toy_batch(), layer.tables_train());
    const auto h = trial.output("h", batch.sequences().rows, width);
    typename InputEmbeddings<X>::Saved saved;
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
    auto& layer = own(trial,
                      ClassificationHead<X>(
                          {.dense = Linear<X>(ctx, width, {{"pooler", width}}), .classifier = Linear<X>(ctx, width, {{"classifier", 3}}), .dropout = dropout}),
                      pattern);
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
  test::check_device<Tensor<float, Cpu<TiledGemm>>>(linear_body(pattern, 67, 131, 45));
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

TEST_CASE("self-attention: queries and keys normalised, of each head or of all together", "[nn]") {
  const Pattern pattern = GENERATE(Pattern{{"**"}}, Pattern{{"**"}, false}, Pattern{{"q_norm.weight"}, false}, Pattern{{"k_norm.weight", "value.bias"}},
                                   Pattern{{"output.bias"}, false}, Pattern{});
  const Normalised normalised = GENERATE(Normalised::heads, Normalised::row);
  check_layer(attention_body(pattern, {3, 1, 4}, 12, 4, 0.3, normalised), attention_body(pattern, {70, 9, 33}, 48, 6, 0.3, normalised));
}

TEST_CASE("cross-attention: two layers that read one source", "[nn]") {
  const CrossPattern pattern =
      GENERATE(CrossPattern{{{"**"}}}, CrossPattern{{{"**"}, false}, false}, CrossPattern{{{}, false}, true}, CrossPattern{{{}, true}, false},
               CrossPattern{{{"*.k.weight"}, false}, false}, CrossPattern{{{"*.q.weight", "*.v.bias"}, true}, true}, CrossPattern{{{"*.q.bias"}, false}, false},
               CrossPattern{{{"*.o.**"}, false}, false});
  const double dropout = GENERATE(0.0, 0.3);
  check_layer(cross_attention_body(pattern, {3, 1, 4}, {2, 5, 1}, 8, 4, dropout), cross_attention_body(pattern, {20, 9, 33}, {70, 5, 31}, 48, 6, dropout));
}

TEST_CASE("sublayers: RMSNorm in its places, and branches that are scaled", "[nn][sublayer]") {
  const Pattern pattern = GENERATE(Pattern{{"**"}}, Pattern{{"norm_*.weight"}, false}, Pattern{{"**.bias"}, false});
  constexpr NormSpec::Kind kRms = NormSpec::Kind::rms_norm;
  const Norms norms = GENERATE(Norms{.before = true, .kind = kRms}, Norms{.before = true, .kind = kRms, .scale = 0.3}, Norms{.branch = true, .kind = kRms},
                               Norms{.before = true, .branch = true, .kind = kRms}, Norms{.sum = true, .scale = 0.3});
  const bool attends = GENERATE(true, false);
  const double dropout = GENERATE(0.0, 0.3);
  test::check_adjoint(sublayer_body(pattern, attends, norms, {3, 1, 4}, 6, 2, dropout));
  test::check_device(sublayer_body(pattern, attends, norms, {70, 9, 33}, 24, 3, dropout), 2e-4);
  if (attends) test::check_adjoint(sublayer_body(pattern, true, norms, {3, 1, 4}, 6, 2, dropout, {1, 1, 2}));
}

TEST_CASE("sublayers: attention, with every place of a norm", "[nn][sublayer]") {
  const Pattern pattern =
      GENERATE(Pattern{{"**"}}, Pattern{{"**"}, false}, Pattern{{"**.bias"}, false}, Pattern{{"query.weight"}}, Pattern{{"output.bias"}, false}, Pattern{});
  const Norms norms = GENERATE(Norms{}, Norms{.before = true}, Norms{.sum = true}, Norms{.branch = true}, Norms{.before = true, .branch = true});
  const double dropout = GENERATE(0.0, 0.3);
  const std::vector<Index> few{3, 1, 4}, many{70, 9, 33};
  check_layer(sublayer_body(pattern, true, norms, few, 6, 2, dropout), sublayer_body(pattern, true, norms, many, 24, 3, dropout));
  check_layer(sublayer_body(pattern, true, norms, few, 6, 2, dropout, {1, 1, 2}), sublayer_body(pattern, true, norms, many, 24, 3, dropout, {1, 1, 1}));
}

TEST_CASE("sublayers: the feed-forward part, with every place of a norm", "[nn][sublayer]") {
  const Pattern pattern = GENERATE(Pattern{{"**"}}, Pattern{{"**"}, false}, Pattern{{"down.**"}, false}, Pattern{{"up.weight"}, false}, Pattern{});
  const Norms norms = GENERATE(Norms{}, Norms{.before = true}, Norms{.sum = true}, Norms{.branch = true}, Norms{.before = true, .branch = true});
  const double dropout = GENERATE(0.0, 0.3);
  check_layer(sublayer_body(pattern, false, norms, {3, 1, 4}, 6, 2, dropout), sublayer_body(pattern, false, norms, {70, 9, 33}, 24, 3, dropout));
}

TEST_CASE("sublayers: a norm alone trains", "[nn][sublayer]") {
  for (const auto& [norms, path] :
       {std::pair<Norms, const char*>{{.before = true}, "norm_before.weight"}, {{.sum = true}, "norm_sum.weight"}, {{.branch = true}, "norm_branch.bias"}})
    for (const bool attends : {true, false}) test::check_adjoint(sublayer_body({{path}, false}, attends, norms, {3, 1, 4}, 6, 2, 0.3));
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
  test::check_adjoint(embeddings_body(pattern, 7, dropout, 2.5));
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

// P-tuning: rows in front of each sequence as in prompt tuning, computed by an encoder. Liu et al. 2021, arXiv 2103.10385.
//
//   E = head(W)  or  head(LSTM(W)),   W (P, C);   head: linear layers with ReLU between; LSTM: over the rows, in both directions
//   MLP: three linear layers C -> H -> H -> C.  LSTM: 2H columns from `layers` layers, dropout between them; then two linear layers 2H -> 2H -> C
//   backward: dE, which the rows get as those of a prompt, through the encoder
//
// Start       W normal; weights uniform in ±1/√columns, those of the LSTM in ±1/√H. The delta isn't 0 at the start.
// Parameters  MLP: P·C + H·(C + 1) + H·(H + 1) + C·(H + 1)
//             LSTM: P·C + Σ over layers 8H·(columns in + H + 2) + 2H·(2H + 1) + C·(2H + 1)
// Seam        input: the rows, a Prompt whose parameter is derived; parameter: what computes it
// Merge       none: it adds rows
// Files       PEFT: prompt_embeddings (P, C), computed; the encoder is not in the file
#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/delta/check_settings.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/ops/activation.hpp"
#include "deltatune/ops/lstm.hpp"
#include "deltatune/seam/parameter.hpp"

namespace deltatune {

struct PTuningConfig {
  enum class Encoder { mlp, lstm };

  Index rows = 20;  // P
  Encoder encoder = Encoder::mlp;
  Index hidden = 0;    // H; 0: as wide as the model
  Index layers = 2;    // of the LSTM
  double dropout = 0;  // between them

  // Throws Error; `where` names the place the numbers come from.
  void validate(const std::string& where) const {
    if (rows < 1) throw Error(where + ": num_virtual_tokens", "is not a number of rows", {.expected = "at least 1", .got = std::to_string(rows)});
    if (hidden < 0)
      throw Error(where + ": encoder_hidden_size", "is not a size", {.expected = "at least 1, or 0 for the model's", .got = std::to_string(hidden)});
    if (layers < 1) throw Error(where + ": encoder_num_layers", "is not a number of layers", {.expected = "at least 1", .got = std::to_string(layers)});
    detail::check_dropout(where + ": encoder_dropout", dropout);
  }
};

namespace detail {

// One layer of an LSTM in both directions: (N, C) -> (N, 2H).
template <class X>
class OwnLstmLayer {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  OwnLstmLayer(Context& ctx, const std::string& path, Index layer, Index in, Index hidden, RandomKey key) : hidden_(hidden) {
    for (const bool reversed : {false, true}) {
      const std::string end = "_l" + std::to_string(layer) + (reversed ? "_reverse" : "");
      std::uint64_t stream = 0;
      const auto parameter = [&](const char* name, const Shape& shape) {
        return OwnParameter<X>(ctx, path + name + end, shape, uniform_start(derive(key, reversed, stream++), 1.0 / std::sqrt(static_cast<double>(hidden))));
      };
      Direction& direction = directions_[reversed ? 1 : 0];
      direction.input = parameter(".weight_ih", {4 * hidden, in});
      direction.hidden = parameter(".weight_hh", {4 * hidden, hidden});
      direction.input_bias = parameter(".bias_ih", {4 * hidden});
      direction.hidden_bias = parameter(".bias_hh", {4 * hidden});
    }
  }

  template <class F>
  void visit(const F& f) {
    for (Direction& d : directions_)
      for (OwnParameter<X>* const parameter : {&d.input, &d.hidden, &d.input_bias, &d.hidden_bias}) f(**parameter);
  }

  Index columns() const { return 2 * hidden_; }

  // y (N, 2H): kept by the caller, as x is.
  void forward(Pass<X>& pass, View<const T> x, View<T> y) {
    for (const bool reversed : {false, true}) {
      Direction& d = directions_[reversed ? 1 : 0];
      d.gates = pass.keep(x.rows, 4 * hidden_);
      d.cells = pass.keep(x.rows, hidden_);
      ops::lstm_forward<B, T>(pass.ctx, reversed, x, weights(d), half(y, reversed), d.gates, d.cells);
    }
  }
  // dy_io: used up. dx (N, C): overwritten.
  void backward(Pass<X>& pass, View<const T> x, View<const T> y, View<T> dy_io, View<T> dx) {
    const auto scope = pass.scope();
    const View<T> d_gates = pass.take(x.rows, 4 * hidden_), d_cell = pass.take(1, hidden_);
    for (const bool reversed : {false, true}) {
      Direction& d = directions_[reversed ? 1 : 0];
      const ops::LstmWeights<T> gradients{d.input->gradient(), d.hidden->gradient(), d.input_bias->gradient(), d.hidden_bias->gradient()};
      ops::lstm_backward<B, T>(pass.ctx, reversed, x, weights(d), half(y, reversed), d.gates, d.cells, half(dy_io, reversed), d_gates, d_cell, gradients, dx,
                               reversed);
    }
  }

 private:
  struct Direction {
    OwnParameter<X> input, hidden, input_bias, hidden_bias;
    View<T> gates, cells;  // of the last pass
  };
  static ops::LstmWeights<const T> weights(const Direction& d) { return {d.input->value(), d.hidden->value(), d.input_bias->value(), d.hidden_bias->value()}; }
  template <class V>
  V half(V both, bool reversed) const {
    return both.column_range(reversed ? hidden_ : 0, hidden_);
  }

  Index hidden_;
  Direction directions_[2];
};

}  // namespace detail

template <class X>
class PTuning {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  // rows (P, C): what it computes, a derived parameter that stays where it is.
  PTuning(Context& ctx, Parameter<X>& rows, PTuningConfig config, RandomKey key)
      : config_(config), rows_(&rows), start_(ctx, "prompt_encoder.embedding.weight", rows.shape(), detail::normal_start(derive(key, 0), 1.0)) {
    const Index width = rows.shape().at(1), hidden = config.hidden > 0 ? config.hidden : width;
    std::vector<Index> columns{width, hidden, hidden, width};  // of the head
    if (config.encoder == PTuningConfig::Encoder::lstm) {
      for (Index l = 0; l < config.layers; ++l) lstm_.emplace_back(ctx, "prompt_encoder.lstm_head", l, l == 0 ? width : 2 * hidden, hidden, derive(key, 1, l));
      columns = {2 * hidden, 2 * hidden, width};
    }
    for (std::size_t i = 0; i + 1 < columns.size(); ++i)
      head_.emplace_back(ctx, "prompt_encoder.mlp_head." + std::to_string(2 * i), columns[i], columns[i + 1], derive(key, 2, i), derive(key, 3, i));
  }

  template <class F>
  void visit(const F& f) {
    f(*start_);
    for (auto& layer : lstm_) layer.visit(f);
    for (auto& layer : head_) layer.visit(f);
  }

  void forward(Pass<X>& pass) {
    View<T> x = start_->value();
    steps_.clear();
    for (std::size_t l = 0; l < lstm_.size(); ++l) {
      const View<T> y = pass.keep(x.rows, lstm_[l].columns());
      lstm_[l].forward(pass, x, y);
      steps_.push_back({x, y, {}});
      x = y;
      if (l + 1 == lstm_.size()) break;
      const DropoutMask mask = pass.dropout(config_.dropout);
      if (!mask.active()) continue;
      steps_.back().dropout = mask;
      x = pass.keep(y.rows, y.cols);
      ops::dropout<B, T>(pass.ctx, mask, y, x);
    }
    for (std::size_t i = 0; i < head_.size(); ++i) {
      const bool last = i + 1 == head_.size();
      const View<T> y = last ? rows_->value() : pass.keep(x.rows, head_[i].out());
      head_[i].forward(pass.ctx, x, y);
      steps_.push_back({x, y, {}});
      if (last) break;
      x = pass.keep(y.rows, y.cols);
      ops::activation_forward<B, T>(pass.ctx, ops::Activation::relu, y, x);
    }
  }

  void backward(Pass<X>& pass) {
    if (!rows_->trains()) return;
    const auto scope = pass.scope();
    View<T> dy = rows_->gradient();
    for (std::size_t i = head_.size(); i-- > 0;) {
      const Step& step = steps_[lstm_.size() + i];
      const View<T> dx = pass.take(step.x.rows, step.x.cols);
      head_[i].backward(pass.ctx, step.x, dy, GradientSink<T>::fresh(dx));
      if (i > 0) ops::activation_backward<B, T>(pass.ctx, ops::Activation::relu, steps_[lstm_.size() + i - 1].y, dx);
      dy = dx;
    }
    for (std::size_t l = lstm_.size(); l-- > 0;) {
      const Step& step = steps_[l];
      if (step.dropout.active()) ops::dropout<B, T>(pass.ctx, step.dropout, dy, dy);
      const View<T> dx = pass.take(step.x.rows, step.x.cols);
      lstm_[l].backward(pass, step.x, step.y, dy, dx);
      dy = dx;
    }
    if (start_->trains()) ops::axpy<B, T>(pass.ctx, T(1), dy, start_->gradient());
    B::fill(pass.ctx, rows_->gradient(), T(0));
  }

  // The rows of the encoder as it is now.
  void evaluate(Context& ctx) {
    workspace_of<X> saved(ctx), scratch(ctx);
    Pass<X> pass{ctx, saved, scratch};
    forward(pass);
  }

 private:
  // A layer of the last pass: what it read, what it gave, and the mask over that.
  struct Step {
    View<T> x, y;
    DropoutMask dropout;
  };

  PTuningConfig config_;
  Parameter<X>* rows_;
  detail::OwnParameter<X> start_;
  std::vector<detail::OwnLstmLayer<X>> lstm_;
  std::vector<detail::OwnLinear<X>> head_;
  std::vector<Step> steps_;
};

}  // namespace deltatune

// What a forward or backward pass carries from layer to layer: context, workspace, mode, and the names of its random streams.
#pragma once

#include <cstdint>

#include "deltatune/core/random.hpp"
#include "deltatune/tensor/routes.hpp"
#include "deltatune/tensor/sequence.hpp"
#include "deltatune/tensor/tensor_trait.hpp"

namespace deltatune {

// What follows a forward pass.
enum class Mode {
  evaluate,       // nothing: no dropout, nothing is kept
  differentiate,  // backward, without dropout: gradients of the evaluated model
  train,          // backward, with dropout
};

// What a decoder's cross-attention reads: the encoder's output, normalised.
template <class X>
struct Source {
  View<const scalar_of<X>> rows = {};  // (Ns, C)
  Sequences sequences = {};
  const Routes* routes = nullptr;
  View<scalar_of<X>> gradient = {};  // (Ns, C): backward adds to it; empty where nobody wants it
};

// Two arenas: `saved` holds what backward will read, `scratch` what a layer needs while it runs.
template <class X>
struct Pass {
  context_of<X>& ctx;
  workspace_of<X>& saved;
  workspace_of<X>& scratch;
  Mode mode = Mode::evaluate;
  std::uint64_t seed = 0;  // with step and micro_step names the dropout masks of this pass
  std::uint64_t step = 0;
  std::uint64_t micro_step = 0;
  std::uint64_t next_stream = 0;
  const Sequences* sequences = nullptr;     // of the rows that the encoder's layers run on; set by the model
  const Routes* routes = nullptr;           // of those rows, through routed deltas
  const std::int32_t* positions = nullptr;  // (N) of all rows of the batch; set by the model
  Index last_position = 0;                  // the largest of them
  const Source<X>* source = nullptr;        // of an encoder-decoder, while its decoder runs; set by the model
  bool source_is_read = false;              // that of the batches to come, by the batch before: the encoder need not run again
  bool rounds_kept = false;                 // what layers keep of their rows is rounded to bfloat16 (nn/kept.hpp)

  // The next dropout mask of this pass. Layers ask in a fixed order and keep the answer (a few bytes) for backward.
  DropoutMask dropout(double probability) {
    const std::uint64_t stream = next_stream++;
    if (mode != Mode::train || probability == 0.0) return {};
    return {derive(seed, step, micro_step, stream), probability};
  }

  View<scalar_of<X>> keep(Index rows, Index cols) { return saved.template take<scalar_of<X>>(rows, cols); }
  View<scalar_of<X>> take(Index rows, Index cols) { return scratch.template take<scalar_of<X>>(rows, cols); }
  // The same pass for a layer that keeps nothing: all it takes is scratch. stream: of its first dropout mask.
  Pass without_keeping(std::uint64_t stream) {
    return {ctx, scratch, scratch, mode, seed, step, micro_step, stream, sequences, routes, positions, last_position, source};
  }
  // Scratch taken from here on is given back at the end of the scope.
  WorkspaceScope<backend_of<X>> scope() { return WorkspaceScope<backend_of<X>>(scratch); }
};

// layer(pass), which keeps what backward reads, or nothing: then all it takes is scratch.
template <class X, class Layer>
void run_keeping(Pass<X>& pass, bool keeps, const Layer& layer) {
  if (keeps) return layer(pass);
  const auto scope = pass.scope();
  Pass<X> passing = pass.without_keeping(pass.next_stream);
  layer(passing);
  pass.next_stream = passing.next_stream;
}

// Where the gradient of an input goes. It may be wanted or not (below the gradient frontier nothing is), and it knows whether it has been
// written: the first contribution overwrites, later ones add.
template <class T>
class GradientSink {
 public:
  static GradientSink none() { return GradientSink({}, false); }
  static GradientSink fresh(View<T> dx) { return GradientSink(dx, false); }        // dx holds nothing yet
  static GradientSink accumulating(View<T> dx) { return GradientSink(dx, true); }  // dx holds a contribution already

  bool wanted() const { return static_cast<bool>(dx_); }
  bool written() const { return written_; }
  View<T> view() const { return dx_; }

  // beta of the product that contributes next: 0 the first time, 1 after.
  T next_beta() {
    const T beta = written_ ? T(1) : T(0);
    written_ = true;
    return beta;
  }

 private:
  GradientSink(View<T> dx, bool written) : dx_(dx), written_(written) {}
  View<T> dx_;
  bool written_;
};

}  // namespace deltatune

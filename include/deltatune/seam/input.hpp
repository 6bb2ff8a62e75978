// The input seam: rows of its own that a delta puts at the beginning of each sequence. A model has a slot for them.
//
//   struct MyDelta {
//     struct Saved {...};                          // trivially copyable, at most kDeltaSavedBytes
//     template <class F> void visit(const F& f);   // f(Parameter<X>&) for each of its parameters
//     InputRows rows() const;                      // how many, and where they go
//     void forward(Pass<X>&, View<T> rows, Saved&) const;         // rows (B·P, C): those of the first sequence, then of the second, ...
//     void backward(Pass<X>&, const Saved&, View<const T> drows);
//   };
//
// backward accumulates into the gradients of its own parameters.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "deltatune/seam/pass.hpp"
#include "deltatune/seam/slot.hpp"

namespace deltatune {

struct InputRows {
  Index count = 0;           // P
  bool like_words = true;    // true: in place of word embeddings, with positions of their own (PEFT); false: in place of finished
                             // embeddings, and the positions of the tokens stay as they are (AdapterHub)
  bool after_first = false;  // behind the first token, so that a classifier's first row stays where it is; not with like_words
  Index prompts = 1;         // of so many prompts one is chosen for each sequence: pass.sequences->prompts
};

// How the model wants sequences laid out. Where the rows of deltas lie in each: `front` before its first token, `after_first` behind it.
struct InputLayout {
  Index front = 0;
  Index after_first = 0;
  Index counted = 0;                                  // of all these, how many have positions, which the tokens' come after
  Index shift = 0;                                    // the first position: with prefixes that count (PEFT's) not 0
  Index prompts = 1;                                  // that a sequence may choose from
  Index first_position = 0;                           // of a token without all these: RoBERTa's is pad_id + 1
  Index target_shift = 0, target_first_position = 0;  // `shift` and the same of what an encoder-decoder's decoder reads: see of_target()
  std::int32_t skipped_id = -1;  // tokens with this id stand at the position of this number, and are not counted (RoBERTa's padding); -1: none
  std::int32_t pad_id = -1;      // padding: a classifier of the last token leaves it out at the end of a sequence; -1: none
  std::int32_t end_id = -1;      // of a classifier with a decoder, which reads the text, too, and is read at its last token with this id; -1: none
  std::int32_t start_id = -1;    // what such a decoder reads in front of the text; -1: the text's own last token

  Index rows() const { return front + after_first; }
  bool moves_tokens() const { return rows() > 0 || counted > 0 || shift != 0; }
  // Of an encoder-decoder, whose layout is that of the source: how its decoder's sequences lie.
  InputLayout of_target() const { return {.shift = target_shift, .first_position = target_first_position}; }
  bool operator==(const InputLayout&) const = default;
};

template <class D, class X>
concept InputDelta = kIsDeltaSaved<typename D::Saved> &&
    requires(D delta, const D& constant, Pass<X>& pass, View<scalar_of<X>> rows, View<const scalar_of<X>> drows, typename D::Saved& saved) {
  delta.visit(detail::IgnoreParameter{});
  { constant.rows() } -> std::same_as<InputRows>;
  constant.forward(pass, rows, saved);
  delta.backward(pass, saved, drows);
};

namespace detail {

template <class X>
struct ErasedInputDelta : ErasedDelta<X> {
  using T = scalar_of<X>;

  virtual InputRows rows() const = 0;
  virtual void forward(Pass<X>& pass, View<T> rows, DeltaSaved& saved) const = 0;
  virtual void backward(Pass<X>& pass, const DeltaSaved& saved, View<const T> drows) = 0;
};

template <class X, InputDelta<X> D>
struct InputDeltaHolder final : DeltaHolder<X, D, ErasedInputDelta<X>> {
  using T = scalar_of<X>;
  using DeltaHolder<X, D, ErasedInputDelta<X>>::DeltaHolder, DeltaHolder<X, D, ErasedInputDelta<X>>::delta;

  InputRows rows() const override { return delta.rows(); }
  void forward(Pass<X>& pass, View<T> rows, DeltaSaved& saved) const override { delta.forward(pass, rows, saved.emplace<typename D::Saved>()); }
  void backward(Pass<X>& pass, const DeltaSaved& saved, View<const T> drows) override { delta.backward(pass, saved.get<typename D::Saved>(), drows); }
};

}  // namespace detail

// The deltas at a model's input.
template <class X>
class InputSlot : public SeamSlot<X, detail::ErasedInputDelta<X>> {
 public:
  using typename SeamSlot<X, detail::ErasedInputDelta<X>>::T, typename SeamSlot<X, detail::ErasedInputDelta<X>>::Saved;

  template <InputDelta<X> D>
  D& add(std::string name, D delta) {
    return this->template insert<detail::InputDeltaHolder<X, D>>(std::move(name), std::move(delta));
  }

  // How all rows of all deltas lie in a sequence.
  InputLayout layout() const {
    InputLayout layout;
    this->visit_enabled([&](std::size_t, const auto& delta) {
      const InputRows rows = delta.rows();
      (rows.after_first ? layout.after_first : layout.front) += rows.count;
      if (rows.like_words) layout.counted += rows.count;
      if (rows.prompts > 1) layout.prompts = layout.prompts > 1 ? std::min(layout.prompts, rows.prompts) : rows.prompts;
    });
    return layout;
  }
  bool has_rows(bool like_words) const {
    return this->any([&](const auto& delta) { return delta.rows().like_words == like_words; });
  }

  // place(count, first, rows): puts rows (B·count, C) into the rows from `first` on of each sequence; for the deltas of one kind. Returns whether
  // there are any.
  template <class Place>
  bool forward(Pass<X>& pass, Index sequences, Index width, bool like_words, Saved& saved, const Place& place) const {
    saved.resize(this->entries_.size());
    bool any = false;
    visit_placed(like_words, [&](std::size_t i, auto& delta, Index first) {
      const auto scope = pass.scope();
      const Index count = delta.rows().count;
      const View<T> rows = pass.take(sequences * count, width);
      delta.forward(pass, rows, saved[i]);
      place(count, first, rows);
      any = true;
    });
    return any;
  }
  // fetch(count, first, drows): the gradient of what place() put there.
  template <class Fetch>
  void backward(Pass<X>& pass, Index sequences, Index width, bool like_words, const Saved& saved, const Fetch& fetch) {
    visit_placed(like_words, [&](std::size_t i, auto& delta, Index first) {
      const auto scope = pass.scope();
      const Index count = delta.rows().count;
      const View<T> drows = pass.take(sequences * count, width);
      fetch(count, first, drows);
      delta.backward(pass, saved[i], drows);
    });
  }

 private:
  // f(i, delta, first row in the sequence)
  template <class F>
  void visit_placed(bool like_words, const F& f) const {
    // Those that have positions first.
    Index words = 0, front = layout().counted, behind = layout().front + 1;
    this->visit_enabled([&](std::size_t i, auto& delta) {
      const InputRows rows = delta.rows();
      Index& next = rows.after_first ? behind : rows.like_words ? words : front;
      if (rows.like_words == like_words) f(i, delta, next);
      next += rows.count;
    });
  }
};

// A model's input, as attach sees it.
template <class X>
struct InputSite {
  std::string path;  // "bert.embeddings"
  Index width = 0;   // C
  InputSlot<X> deltas;
};

}  // namespace deltatune

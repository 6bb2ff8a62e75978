// Prompt tuning: trained rows in front of each sequence. Lester et al. 2021, arXiv 2104.08691.
//
//   [E_k; word embeddings of the tokens],   E (K·P, C): K prompts of P rows, k the one that the batch chooses for the sequence
//   backward:  dE_k += the sum of the gradients of the rows over the sequences with prompt k
//
// Shapes      E (K·P, C); K is 1 but where prompts form an ensemble (train/prompt_ensemble.hpp)
// Start       N(0, 1); N(0, σ²) with the σ of the word embeddings; uniform in ±1/2; or word embeddings: of random words, of a text, of the
//             names of the classes, one a row and random words behind. The delta isn't 0 at the start.
// Parameters  K·P·C
// Seam        input: like words, with positions and all else that embeddings get (PEFT); or among the finished embeddings (AdapterHub)
// Merge       none: it adds rows
// Files       PEFT: prompt_embeddings (P, C).  AdapterHub: ....prompt_embedding.weight (P, C)
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/seam/input.hpp"

namespace deltatune {

struct PromptConfig {
  Index rows = 20;         // P
  Index prompts = 1;       // K
  bool like_words = true;  // see InputRows
  bool after_first = false;
  Index unread = 0;  // rows behind all these that no sequence gets: PEFT makes them for decoders (attach/prompt_learning.hpp)

  Index all_rows() const { return prompts * rows + unread; }

  // Throws Error; `where` names the place the numbers come from.
  void validate(const std::string& where) const {
    if (rows < 1) throw Error(where + ": num_virtual_tokens", "is not a number of rows", {.expected = "at least 1", .got = std::to_string(rows)});
    if (prompts < 1) throw Error(where + ": prompts", "is not a number of prompts", {.expected = "at least 1", .got = std::to_string(prompts)});
    if (like_words && after_first)
      throw Error(where + ": after_first", "needs rows among the finished embeddings", {.remedy = "set like_words to false, or after_first"});
  }
};

struct PromptStart {
  enum class Kind {
    normal,
    vocabulary_scale,  // normal, as wide as the word embeddings
    uniform,
    vocabulary,  // random words
    text,        // tokens[0], again and again
    labels,      // tokens of the names of the classes: one a row, the mean of its tokens; random words behind
  };
  Kind kind = Kind::normal;
  std::vector<std::vector<std::int32_t>> tokens = {};

  void validate(const std::string& where, const PromptConfig& config) const {
    if (kind != Kind::text && kind != Kind::labels) return;
    const char* const what = kind == Kind::text ? "a text" : "the names of the classes";
    if (tokens.empty() || (kind == Kind::text && tokens.size() != 1))
      throw Error(where + ": prompt", std::string("is to start from ") + what + ": tokens are missing");
    for (const std::vector<std::int32_t>& list : tokens)
      if (list.empty()) throw Error(where + ": prompt", std::string("is to start from ") + what + " that has no tokens");
    if (kind == Kind::text && config.prompts > 1)
      throw Error(where + ": prompt", "is to start from a text: all prompts would be the same", {.remedy = "start from random words, or train one prompt"});
  }
};

// The values of a start: E (K·P, C) and the rows that nobody reads, row-major. words (V, C): the word embeddings. Throws Error for a token that is none.
template <class X>
std::vector<double> prompt_start(context_of<X>& ctx, const PromptStart& start, const PromptConfig& config, View<const scalar_of<X>> words, RandomKey key) {
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Kind = PromptStart::Kind;
  const Index rows = config.all_rows(), width = words.cols;
  std::vector<double> values(static_cast<std::size_t>(rows * width), 0.0);
  const auto fill = [&](const auto& value) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = value(static_cast<Index>(i));
  };
  const auto word = [&](std::int32_t token) {
    if (token < 0 || token >= words.rows)
      throw Error("prompt", "starts from a token that the model does not have",
                  {.expected = "0 to " + std::to_string(words.rows - 1), .got = std::to_string(token)});
    std::vector<T> host(static_cast<std::size_t>(width));
    B::copy_out(ctx, words.row(token), host.data(), width * static_cast<Index>(sizeof(T)));
    B::synchronize(ctx);
    return host;
  };
  if (start.kind == Kind::normal) {
    fill(detail::normal_start(key, 1.0));
  } else if (start.kind == Kind::uniform) {
    fill(detail::uniform_start(key, 0.5));
  } else if (start.kind == Kind::vocabulary_scale) {
    double sum = 0, squares = 0;
    for (Index token = 0; token < words.rows; ++token)
      for (const T& x : word(static_cast<std::int32_t>(token))) {
        sum += static_cast<double>(value_of(x));
        squares += static_cast<double>(value_of(x)) * static_cast<double>(value_of(x));
      }
    const double count = static_cast<double>(words.size()), mean = sum / count;
    fill(detail::normal_start(key, std::sqrt(std::max(0.0, squares / count - mean * mean))));
  } else {
    for (Index row = 0; row < rows; ++row) {
      const Index place = row % config.rows;  // in its prompt
      std::vector<std::int32_t> tokens;
      if (start.kind == Kind::text) {
        tokens = {start.tokens[0][static_cast<std::size_t>(place) % start.tokens[0].size()]};
      } else if (start.kind == Kind::labels && place < static_cast<Index>(start.tokens.size())) {
        tokens = start.tokens[static_cast<std::size_t>(place)];
      } else {
        tokens = {static_cast<std::int32_t>(static_cast<Index>(random_bits(key, static_cast<std::uint64_t>(row))) % words.rows)};
      }
      for (const std::int32_t token : tokens) {
        const std::vector<T> host = word(token);
        for (std::size_t j = 0; j < host.size(); ++j)
          values[static_cast<std::size_t>(row * width) + j] += static_cast<double>(value_of(host[j])) / static_cast<double>(tokens.size());
      }
    }
  }
  return values;
}

namespace detail {

// The row among all prompts that row i of the sequences' prompts is a copy of.
struct PromptRow {
  const std::int32_t* chosen;  // (B) or nullptr: the first
  Index count;                 // P
  DELTATUNE_HD Index operator()(Index i) const { return (chosen == nullptr ? 0 : chosen[i / count] * count) + i % count; }
};

template <class T>
struct PromptBackwardRow {
  View<const T> drows;
  const std::int32_t* chosen;
  Index count;
  View<T> d_prompts_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index row) const {
    T* to = d_prompts_io.row(row);
    for (Index b = 0; b * count < drows.rows; ++b) {
      if ((chosen == nullptr ? 0 : chosen[b]) != row / count) continue;
      team.each(drows.cols, [to, from = drows.row(b * count + row % count)](Index j) { to[j] = to[j] + from[j]; });
    }
  }
};

}  // namespace detail

template <class X>
class Prompt {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  struct Saved {};

  // For a model of this width. start: prompt_start(); without one the rows are 0 and derived, for a delta that computes them.
  Prompt(Context& ctx, Index width, PromptConfig config, const std::vector<double>& start)
      : config_(config), prompts_(ctx, "prompt_embeddings", {config.all_rows(), width}, [&](Index i) { return start[static_cast<std::size_t>(i)]; }) {}
  Prompt(Context& ctx, Index width, PromptConfig config) : config_(config), prompts_(ctx, "prompt_embeddings", {config.all_rows(), width}) {
    prompts_->set_derived(true);
  }

  Parameter<X>& prompt_embeddings() { return *prompts_; }  // (K·P, C)

  template <class F>
  void visit(const F& f) {
    f(*prompts_);
  }

  InputRows rows() const { return {config_.rows, config_.like_words, config_.after_first, config_.prompts}; }

  void forward(Pass<X>& pass, View<T> rows, Saved&) const {
    ops::copy_rows<B>(pass.ctx, rows.rows, View<const T>(prompts_->value()), detail::PromptRow{chosen(pass), config_.rows}, rows, ops::SameRow{});
  }
  void backward(Pass<X>& pass, const Saved&, View<const T> drows) {
    const View<T> gradient = prompts_->gradient();
    if (!gradient) return;
    B::for_each_row(pass.ctx, gradient.rows, drows.size() / gradient.rows + 1, detail::PromptBackwardRow<T>{drows, chosen(pass), config_.rows, gradient});
  }

 private:
  const std::int32_t* chosen(const Pass<X>& pass) const { return config_.prompts == 1 ? nullptr : pass.sequences->prompts; }

  PromptConfig config_;
  detail::OwnParameter<X> prompts_;
};

}  // namespace deltatune

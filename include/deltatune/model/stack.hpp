// A stack of residual sublayers, two per layer, three with cross-attention, as an Architecture describes it, with the two frontiers of training:
//   gradient frontier   below the lowest sublayer that trains nothing runs backward, and what a layer would keep is scratch
//   demand frontier     the last attention reads all N rows and writes the M that somebody reads; what follows runs on M rows (nn/demand.hpp)
// A sublayer's input is rebuilt from what the one below kept, or kept where nothing can give it again.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/nn/demand.hpp"
#include "deltatune/nn/sublayer.hpp"
#include "deltatune/seam/architecture.hpp"

namespace deltatune {

template <class X>
class Stack {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Part = ResidualSublayer<X>;
  // Of sequences that are read token by token, and of the source texts that cross-attention reads.
  struct Cache {
    KvCaches<X> text, source;
  };

  struct Saved {
    std::vector<typename Part::Saved> parts;
    std::vector<View<T>> inputs;  // (N, C), (M, C) above the last attention: of sublayers whose input nothing gives again
    Index lowest = 0;             // lowest sublayer that trains; -1: something below the stack; count(): nothing of it
    Index narrow = 0;             // the attention that reads N rows and writes M; count(): none
    Demand demand;
  };

  Stack() = default;
  // All values 0. spec: of the architecture, its own or its encoder's. first: the number of its first layer, for its sites. prefix: of the names, "bert." or
  // "". rounded: weights are held in bfloat16.
  Stack(context_of<X>& ctx, const Architecture& architecture, const StackSpec& spec, Index first, const std::string& prefix, bool rounded) {
    const Blueprint plan{ctx, architecture, spec, rounded};
    for (Index l = 0; l < static_cast<Index>(spec.layers.size()); ++l) {
      const StackNames& names = spec.names;
      const std::string path = prefix + spec.layer_path(l);
      const LayerSpec& layer = spec.layers[at(l)];
      const auto add = [&](typename Part::Branch branch, const SublayerNames& names_of_it, Sublayer sublayer, double dropout, bool has_norm) {
        parts_.emplace_back(std::move(branch), make_norms(plan, names_of_it, path, has_norm),
                            SublayerSite<X>{path + names_of_it.site, path + names_of_it.adapters, first + l, sublayer, architecture.hidden_size, {}}, dropout,
                            spec.branch_scale);
        if (KvSite<X>* const site = parts_.back().kv_site()) site->layer = l;
      };
      add(make_attention(plan, layer.attention, path, {rotary_of(plan, layer.attention), bias_of(plan, prefix, l)}), names.attention, Sublayer::attention,
          layer.attention.output_dropout, layer.first_norm);
      if (layer.cross) add(make_cross_attention(plan, *layer.cross, path), names.cross, Sublayer::cross_attention, layer.cross->output_dropout, true);
      add(make_feed_forward(plan, layer.feed_forward, path), names.feed_forward, Sublayer::feed_forward, layer.feed_forward.output_dropout, true);
    }
  }

  Index count() const { return static_cast<Index>(parts_.size()); }
  std::vector<Part>& parts() { return parts_; }
  const std::vector<Part>& parts() const { return parts_; }

  template <class F>
  void visit(const F& f) {
    for (Part& part : parts_) part.visit(f);
    for (const auto& bias : biases_) bias->visit(f);
  }

  // Room for so many positions in the tables of rotary embeddings.
  void reserve_positions(context_of<X>& ctx, Index positions) {
    for (auto& [spec, table] : rotary_) table->reserve(ctx, positions);
  }

  // The gradient frontier. below_trains: whether something below the stack does; source_trains: whether something of the encoder does.
  Index frontier(const Pass<X>& pass, bool below_trains, bool source_trains = false) {
    if (pass.mode == Mode::evaluate) return count();
    if (below_trains) return -1;
    const auto lowest = std::find_if(parts_.begin(), parts_.end(),
                                     [&](Part& part) { return trains(part) || part.shared_table_trains() || (source_trains && part.reads_source()); });
    return static_cast<Index>(lowest - parts_.begin());
  }

  // What forward has to know of the rest of the model.
  struct Below {
    bool trains = false;         // something below the stack does
    bool rebuilds = false;       // what made h can give it again
    bool source_trains = false;  // something of the encoder does
  };

  // h (N, C) used up -> out (M, C): what is demanded of it; h itself where that is all.
  void forward(Pass<X>& pass, const Sequences& sequences, const Demand& demand, const Below& below, View<T> h, View<T> out, Saved& saved,
               Cache* cache = nullptr) {
    saved.lowest = frontier(pass, below.trains, below.source_trains);
    saved.narrow = demand ? narrowest() : count();
    saved.demand = demand;
    saved.parts.resize(parts_.size());
    saved.inputs.assign(parts_.size(), {});
    const Demand all;
    View<T> rows = h;
    KvCache<X>* next_cache = cache != nullptr ? cache->text.layers().data() : nullptr;
    KvCache<X>* next_source = cache != nullptr ? cache->source.layers().data() : nullptr;
    for (Index i = 0; i < count(); ++i) {
      const Part& part = parts_[at(i)];
      const bool is_given_again = i > saved.lowest && (i > 0 ? parts_[at(i - 1)].can_rebuild_output() : below.rebuilds);
      if (i >= saved.lowest && part.needs_input() && !is_given_again) {
        saved.inputs[at(i)] = pass.keep(rows.rows, rows.cols);
        ops::copy<B, T>(pass.ctx, rows, saved.inputs[at(i)]);
      }
      const bool narrows = i == saved.narrow;
      const View<T> next = narrows ? out : rows;
      const DemandScope<X> scope(pass, i > saved.narrow ? demand : all);
      KvCache<X>* const seen = cache == nullptr ? nullptr : part.attention() != nullptr ? next_cache++ : part.reads_source() ? next_source++ : nullptr;
      const Sequences& of_rows = i > saved.narrow ? demand.sequences : sequences;
      run_keeping(pass, i >= saved.lowest, [&](Pass<X>& p) { part.forward(p, of_rows, narrows ? demand : all, rows, next, saved.parts[at(i)], seen); });
      rows = next;
    }
    if (demand && saved.narrow == count()) ops::gather_rows<B, T>(pass.ctx, h, demand.rows, out);
  }

  // d_out_io (M, C): used up. dh (N, C): the gradient of the stack's input where something below it trains, else scratch; d_out_io itself where all rows
  // were demanded. rebuild_input(h): the stack's input (N, C) again.
  template <class Rebuild>
  void backward(Pass<X>& pass, const Saved& saved, View<T> d_out_io, View<T> dh, const Rebuild& rebuild_input) {
    const Demand all;
    for (Index i = count() - 1; i >= std::max<Index>(0, saved.lowest); --i) {
      const auto scope = pass.scope();
      const DemandScope<X> rows(pass, i > saved.narrow ? saved.demand : all);
      View<T> h = saved.inputs[at(i)];
      if (parts_[at(i)].needs_input() && !h) {
        h = i > saved.narrow ? pass.take(d_out_io.rows, d_out_io.cols) : pass.take(dh.rows, dh.cols);
        if (i > 0) {
          parts_[at(i - 1)].rebuild_output(pass, saved.parts[at(i - 1)], h);
        } else {
          rebuild_input(h);
        }
      }
      parts_[at(i)].backward(pass, saved.parts[at(i)], h, i >= saved.narrow ? d_out_io : dh, i > saved.narrow ? d_out_io : dh, i > saved.lowest);
    }
  }

  // Slots for `slots` sequences of at most `rows` rows each, besides those of prefixes, and for source texts likewise.
  Cache make_cache(context_of<X>& ctx, Index slots, Index rows, Index source_slots = 0, Index source_rows = 0) const {
    Cache cache{{slots, rows}, {source_slots, source_rows}};
    for (const Part& part : parts_) {
      if (const SelfAttention<X>* const attention = part.attention()) cache.text.add_layer(ctx, 2 * attention->site().width, attention->site().deltas.rows());
      if (const CrossAttention<X>* const cross = part.cross_attention()) cache.source.add_layer(ctx, 2 * cross->site().width, cross->site().deltas.rows());
    }
    return cache;
  }

 private:
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  struct Blueprint {
    context_of<X>& ctx;
    const Architecture& architecture;
    const StackSpec& stack;
    bool rounded;

    Linear<X> linear(Index in, const std::vector<std::pair<std::string, Index>>& sites, bool bias) const {
      return Linear<X>(ctx, in, sites, {.bias = bias, .transposed_in_file = architecture.transposed_in_file, .rounded = rounded});
    }
  };

  // The same table for all layers with the same angles.
  std::shared_ptr<const Rotary<X>> rotary_of(const Blueprint& plan, const AttentionSpec& spec) {
    if (!spec.rotary) return {};
    for (const auto& [known, table] : rotary_)
      if (known == *spec.rotary) return table;
    rotary_.emplace_back(*spec.rotary, std::make_shared<Rotary<X>>(plan.ctx, *spec.rotary, spec.head_width, plan.architecture.max_position_embeddings));
    return rotary_.back().second;
  }
  // The table of a layer's attention, which may be that of all layers.
  std::shared_ptr<RelativeBias<X>> bias_of(const Blueprint& plan, const std::string& prefix, Index layer) {
    if (!plan.stack.relative_bias) return {};
    const RelativeBiasSpec& spec = *plan.stack.relative_bias;
    const std::string path = prefix + with_layer(spec.table, layer);
    if (biases_.empty() || biases_.back()->table().path() != path + ".weight")
      biases_.push_back(std::make_shared<RelativeBias<X>>(plan.ctx, path, plan.stack.layers[at(layer)].attention.heads,
                                                          RelativeBuckets{spec.buckets, spec.max_distance, spec.bidirectional}));
    return biases_.back();
  }
  static AttentionConfig config_of(const AttentionSpec& spec) {
    return {.heads = spec.heads,
            .kv_heads = spec.kv_heads,
            .dropout = spec.dropout,
            .causal = spec.causal,
            .scale = spec.scale,
            .soft_cap = spec.soft_cap,
            .window = spec.window};
  }
  static SelfAttention<X> make_attention(const Blueprint& plan, const AttentionSpec& spec, const std::string& layer, AttentionTables<X> tables) {
    const AttentionNames& names = plan.stack.names.attention;
    const Index hidden = plan.architecture.hidden_size, width = spec.heads * spec.head_width, kv_width = spec.kv_heads * spec.head_width;
    std::vector<std::pair<std::string, Index>> sites;
    for (const std::string& name : names.projections)
      sites.emplace_back(layer + name, names.projections.size() == 1 ? width + 2 * kv_width : sites.empty() ? width : kv_width);
    return SelfAttention<X>(layer + names.module, plan.linear(hidden, sites, spec.bias), plan.linear(width, {{layer + names.output, hidden}}, spec.output_bias),
                            config_of(spec), std::move(tables), make_norms(plan.ctx, spec, names, layer));
  }
  static CrossAttention<X> make_cross_attention(const Blueprint& plan, const AttentionSpec& spec, const std::string& layer) {
    const AttentionNames& names = plan.stack.names.cross;
    const Index hidden = plan.architecture.hidden_size, width = spec.heads * spec.head_width, kv_width = spec.kv_heads * spec.head_width;
    return CrossAttention<X>(layer + names.module, plan.linear(hidden, {{layer + names.projections.at(0), width}}, spec.bias),
                             plan.linear(hidden, {{layer + names.projections.at(1), kv_width}, {layer + names.projections.at(2), kv_width}}, spec.bias),
                             plan.linear(width, {{layer + names.output, hidden}}, spec.output_bias), config_of(spec));
  }
  static std::optional<QueryKeyNorms<X>> make_norms(context_of<X>& ctx, const AttentionSpec& spec, const AttentionNames& names, const std::string& layer) {
    if (!spec.qk_norm) return {};
    const auto norm = [&](const std::string& name, Index heads) {
      const Index groups = spec.qk_norm_over_heads ? 1 : heads;
      return Norm<X>(ctx, layer + name, heads * spec.head_width / groups, *spec.qk_norm, groups);
    };
    return QueryKeyNorms<X>{norm(names.q_norm, spec.heads), norm(names.k_norm, spec.kv_heads)};
  }
  static FeedForward<X> make_feed_forward(const Blueprint& plan, const FeedForwardSpec& spec, const std::string& layer) {
    const FeedForwardNames& names = plan.stack.names.feed_forward;
    const Index hidden = plan.architecture.hidden_size;
    std::vector<std::pair<std::string, Index>> sites;
    for (const std::string& name : names.up)
      sites.emplace_back(layer + name, spec.gated && names.up.size() == 1 ? 2 * spec.intermediate_size : spec.intermediate_size);
    return FeedForward<X>(plan.linear(hidden, sites, spec.bias), plan.linear(spec.intermediate_size, {{layer + names.down, hidden}}, spec.bias),
                          spec.activation, spec.inner_dropout);
  }
  static SublayerNorms<X> make_norms(const Blueprint& plan, const SublayerNames& names, const std::string& layer, bool has_norm) {
    SublayerNorms<X> norms;
    if (!has_norm) return norms;
    const NormPlace place = plan.stack.place;
    const auto norm = [&](const std::string& name) { return Norm<X>(plan.ctx, layer + name, plan.architecture.hidden_size, plan.stack.norm); };
    (place == NormPlace::after_sum ? norms.sum : place == NormPlace::after_branch ? norms.branch : norms.before) = norm(names.norm);
    if (place == NormPlace::around) norms.branch = norm(names.branch_norm);
    return norms;
  }

  // The last self-attention, unless it or something above it reads other rows of its sequence.
  Index narrowest() const {
    for (Index i = count() - 1; i >= 0; --i) {
      if (parts_[at(i)].mixes_rows()) return count();
      if (parts_[at(i)].attention() != nullptr) return i;
    }
    return count();
  }

  std::vector<Part> parts_;
  std::vector<std::shared_ptr<RelativeBias<X>>> biases_;  // one, or one per layer
  std::vector<std::pair<RotarySpec, std::shared_ptr<Rotary<X>>>> rotary_;
};

}  // namespace deltatune

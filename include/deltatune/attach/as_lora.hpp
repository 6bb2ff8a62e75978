// What a model has become - by merged adapters of any method, or by training all of it - as a plain LoRA on what it was: for every weight and table that
// changed, the best B·A of a given rank, from the singular values of the difference.
//
//   W' - W = U·S·Vᵀ ≈ B·A,   B = U·√S (out, R), A = √S·Vᵀ (R, in),   α = R: the scale is 1
//
// A bias that changed at such a place is c of LoRA (lora_bias); output layers that changed are saved whole (modules_to_save). Nothing else can change.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/adapter_reader.hpp"
#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/attach/plan.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/host_matrix.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/core/truncated_svd.hpp"
#include "deltatune/io/parameter_io.hpp"

namespace deltatune {

// How well a LoRA holds the change of one weight: Frobenius norms.
struct LoraFit {
  std::string path;   // of the site
  double change = 0;  // of W' - W
  double left = 0;    // of W' - W - B·A, with A and B as float32
  double share() const { return change == 0 ? 0 : left / change; }
};

// The LoRA, attached to the model as it was, and how well it fits at each place.
template <class X>
struct LoraApproximation {
  Attached<X, LoraPlan> attached;
  std::vector<LoraFit> sites;
  // ‖what is left‖ / ‖change‖ over all places.
  double share() const {
    double change = 0, left = 0;
    for (const LoraFit& site : sites) {
      change += site.change * site.change;
      left += site.left * site.left;
    }
    return change == 0 ? 0 : std::sqrt(left / change);
  }
};

namespace detail {

struct LowRankFactors {
  std::vector<float> a, b;  // (R, in), (out, R)
  LoraFit fit;
};

// difference: (out, in).
DELTATUNE_FUNCTION LowRankFactors factors_of(const HostMatrix& difference, const std::string& path, Index rank, RandomKey key) {
  const SvdFactors svd = truncated_svd(difference, rank, key);
  LowRankFactors factors{std::vector<float>(static_cast<std::size_t>(rank * difference.cols)), {}, {path, 0, 0}};
  factors.b.reserve(static_cast<std::size_t>(rank * difference.rows));
  const auto root = [&](Index k) { return std::sqrt(svd.values[static_cast<std::size_t>(k)]); };
  HostMatrix a(rank, difference.cols);
  for (Index k = 0; k < rank; ++k)
    for (Index j = 0; j < difference.cols; ++j) {
      const float value = static_cast<float>(root(k) * svd.vt(k, j));
      factors.a[static_cast<std::size_t>(k * difference.cols + j)] = value;
      a(k, j) = value;
    }
  std::vector<double> row(static_cast<std::size_t>(difference.cols));
  double change = 0, left = 0;
  for (Index i = 0; i < difference.rows; ++i) {
    std::copy(difference.row(i), difference.row(i) + difference.cols, row.begin());
    change += dot(row.data(), row.data(), difference.cols);
    for (Index k = 0; k < rank; ++k) {
      const float value = static_cast<float>(root(k) * svd.u(i, k));
      factors.b.push_back(value);
      for (Index j = 0; j < difference.cols; ++j) row[static_cast<std::size_t>(j)] -= double{value} * a(k, j);
    }
    left += dot(row.data(), row.data(), difference.cols);
  }
  factors.fit.change = std::sqrt(change);
  factors.fit.left = std::sqrt(left);
  return factors;
}

template <class X>
HostMatrix difference_of(context_of<X>& ctx, const Parameter<X>& now, const Parameter<X>& before) {
  if (now.shape() != before.shape())
    throw Error(now.path(), "has another shape than before, which a LoRA cannot change",
                {.expected = to_string(before.shape()), .got = to_string(now.shape())});
  const std::vector<float> x = download_floats<X>(ctx, now.value()), y = download_floats<X>(ctx, before.value());
  const Index rows = before.shape().size() > 1 ? before.shape()[0] : 1;
  HostMatrix difference(rows, before.size() / rows);
  for (std::size_t i = 0; i < x.size(); ++i) difference.values[i] = double{x[i]} - double{y[i]};
  return difference;
}

inline bool is_zero(const HostMatrix& matrix) {
  return std::all_of(matrix.values.begin(), matrix.values.end(), [](double x) { return x == 0; });
}

}  // namespace detail

// base: the model as it was, with the same head, without deltas; changed: as it is, with everything merged. Attaches the LoRA to the base, whose output layers
// take over the values of the changed ones. seed: of the random sketches. Throws Error where nothing changed, and for what changed and a LoRA cannot hold.
template <class Model>
LoraApproximation<typename Model::Tensor> approximate_by_lora(typename Model::Context& ctx, Model& base, Model& changed, Index rank, std::uint64_t seed = 0) {
  using X = typename Model::Tensor;
  const Architecture& architecture = base.architecture();
  std::map<std::string, Parameter<X>*> now;
  changed.visit([&](Parameter<X>& parameter) {
    if (parameter.role() != Role::delta) now[parameter.path()] = &parameter;
  });
  const auto is_output = [&](const std::string& path) { return architecture.is_head(path) && path.substr(0, path.rfind('.')) != architecture.head.lm_head; };

  LoraPlan plan;
  plan.lora = {.rank = rank, .alpha = static_cast<double>(rank)};
  plan.modules_to_save.clear();
  std::map<std::string, detail::LowRankFactors> factors;  // by site
  std::map<std::string, std::vector<float>> biases;
  std::set<std::string> compared, without_bias;
  std::uint64_t stream = 0;
  const auto take = [&](const std::string& site, const Parameter<X>& after, const Parameter<X>& before, const Parameter<X>* bias, bool table) {
    compared.insert(before.path());
    HostMatrix difference = detail::difference_of<X>(ctx, after, before);
    bool differs = !detail::is_zero(difference);
    if (bias != nullptr && bias->value()) {
      compared.insert(bias->path());
      const HostMatrix of_bias = detail::difference_of<X>(ctx, *now.at(bias->path()), *bias);
      if (!detail::is_zero(of_bias)) differs = plan.lora.bias = true;
      biases[site].assign(of_bias.values.begin(), of_bias.values.end());
    } else {
      without_bias.insert(site);
    }
    const std::uint64_t key = stream++;
    if (!differs) return;
    if (table) difference = difference.transposed();
    factors.emplace(site, detail::factors_of(difference, site, rank, derive(seed, key)));
    plan.targets.paths.push_back(site);
  };
  base.visit_lookups([&](LookupSite<X>& site) { take(site.path, *now.at(site.table.path()), site.table, nullptr, true); });
  base.visit_sites([&](LinearSite<X>& site) {
    if (is_output(site.weight.path())) return;
    const auto own = now.find(site.weight.path());  // a head that is tied to the table of words has no weight of its own
    take(site.path, own == now.end() ? changed.word_table() : *own->second, site.weight, &site.bias, false);
  });

  std::vector<std::string> others;
  std::vector<std::pair<Parameter<X>*, Parameter<X>*>> outputs;
  base.visit([&](Parameter<X>& parameter) {
    if (parameter.role() == Role::delta || compared.contains(parameter.path())) return;
    Parameter<X>& after = *now.at(parameter.path());
    if (detail::is_zero(detail::difference_of<X>(ctx, after, parameter))) return;
    if (!is_output(parameter.path())) return others.push_back(parameter.path());
    outputs.emplace_back(&parameter, &after);
    const std::string module = parameter.path().substr(0, parameter.path().rfind('.'));
    if (!plan.saves(module)) plan.modules_to_save.push_back(module);
  });
  if (!others.empty())
    throw Error(others.front(), "has changed, which a LoRA cannot hold",
                {.expected = "changes of linear layers, tables of embeddings and output layers alone",
                 .got = detail::shortened_list(others),
                 .remedy = "keep the adapter, or merge it"});
  if (plan.targets.paths.empty()) throw Error("model", "has no linear layer or table that changed", {.remedy = "there is nothing that a LoRA could hold"});
  if (plan.lora.bias)
    for (const std::string& path : plan.targets.paths)
      if (without_bias.contains(path))
        throw Error(path, "has changed and has no bias, while biases elsewhere have changed: a LoRA has biases at all of its places or at none",
                    {.remedy = "keep the adapter, or merge it"});

  LoraApproximation<X> result{attach(ctx, base, plan), {}};
  std::map<std::string, Parameter<X>*> deltas;
  result.attached.visit([&](Parameter<X>& parameter) { deltas[parameter.path()] = &parameter; });
  for (const std::string& path : result.attached.paths()) {
    const detail::LowRankFactors& of_site = factors.at(path);
    const bool table = deltas.contains(path + ".lora_embedding_A");
    const std::vector<float> a = table ? detail::transposed(of_site.a, {rank, static_cast<Index>(of_site.a.size()) / rank}) : of_site.a;
    upload_values(ctx, std::span<const float>(a), *deltas.at(path + (table ? ".lora_embedding_A" : ".lora_A.weight")));
    upload_values(ctx, std::span<const float>(of_site.b), *deltas.at(path + (table ? ".lora_embedding_B" : ".lora_B.weight")));
    if (plan.lora.bias) upload_values(ctx, std::span<const float>(biases.at(path)), *deltas.at(path + ".lora_B.bias"));
    result.sites.push_back(of_site.fit);
  }
  for (const auto& [before, after] : outputs) {
    const std::vector<float> values = download_floats<X>(ctx, after->value());
    upload_values(ctx, std::span<const float>(values), *before);
  }
  return result;
}

}  // namespace deltatune

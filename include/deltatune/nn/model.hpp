// What trainers, methods and file formats ask of a network. Transformer<X> meets it for every family that can be described (seam/architecture.hpp); a network
// that cannot, state-space layers say, meets it with a class of its own and is then trained, adapted and saved by the same code.
//
//   types       Tensor, Context and Activations: what one forward pass keeps, apart from the saved arena; one object serves any number of steps
//   describe    architecture() with the names that formats write, class_name() and task_type() as transformers and PEFT name them; layers(), num_labels(),
//               has_classifier(), is_language_model()
//   visit       f(Parameter<X>&) for every parameter, deltas' included, in an order that never changes; a tied weight once
//   sites       where deltas go, each named by the path it has in checkpoints:
//               visit_linears f(Linear<X>&), visit_sites f(LinearSite<X>&), visit_lookups f(LookupSite<X>&), visit_sublayers f(SublayerSite<X>&),
//               visit_attentions f(KvSite<X>&), input() with the rows that deltas put in front of a sequence, derived() with the values that deltas compute
//   batches     layout(): how DeviceBatch::upload() lays sequences out; embeddings_train(): whether it groups rows by their ids
//   run         forward() gives scores, loss() adds the objective to loss_io, backward() accumulates gradients: once after each loss(). What lies below the
//               lowest parameter that trains runs forward alone and keeps nothing.
#pragma once

#include <concepts>
#include <string>

#include "deltatune/nn/linear.hpp"
#include "deltatune/nn/loss.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/seam/architecture.hpp"
#include "deltatune/seam/input.hpp"
#include "deltatune/seam/kv.hpp"
#include "deltatune/seam/lookup.hpp"
#include "deltatune/seam/parameter.hpp"
#include "deltatune/seam/sublayer.hpp"

namespace deltatune {

namespace detail {
struct IgnoreSite {
  template <class Site>
  void operator()(Site&) const {}
};
}  // namespace detail

template <class M>
concept TrainableModel = requires(M& model, const M& constant, Pass<typename M::Tensor>& pass, const DeviceBatch<typename M::Tensor>& batch,
                                  const PackedBatch& host, const Objective<typename M::Tensor>& objective, View<scalar_of<typename M::Tensor>> values,
                                  typename M::Activations& kept) {
  requires std::same_as<typename M::Context, context_of<typename M::Tensor>>;
  { constant.architecture() } -> std::convertible_to<const Architecture&>;
  { constant.class_name() } -> std::convertible_to<std::string>;
  { constant.task_type() } -> std::convertible_to<std::string>;
  { constant.layers() } -> std::same_as<Index>;
  { constant.num_labels() } -> std::same_as<Index>;
  { constant.has_classifier() } -> std::same_as<bool>;
  { constant.is_language_model() } -> std::same_as<bool>;
  model.visit(detail::IgnoreParameter{});
  model.visit_linears(detail::IgnoreSite{});
  model.visit_sites(detail::IgnoreSite{});
  model.visit_lookups(detail::IgnoreSite{});
  model.visit_sublayers(detail::IgnoreSite{});
  model.visit_attentions(detail::IgnoreSite{});
  { model.input() } -> std::same_as<InputSite<typename M::Tensor>&>;
  { model.derived() } -> std::same_as<ParameterSlot<typename M::Tensor>&>;
  { model.word_table() } -> std::same_as<Parameter<typename M::Tensor>&>;
  { constant.layout() } -> std::same_as<InputLayout>;
  { model.embeddings_train() } -> std::same_as<bool>;
  constant.check_labels(host);  // throws Error unless loss() can learn from the batch
  model.forward(pass, batch, values, kept);
  model.loss(pass, batch, objective, values, kept);
  model.backward(pass, batch, kept);
};

}  // namespace deltatune

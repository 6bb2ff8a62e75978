// Parameters of a model from a checkpoint, or drawn at random.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "deltatune/core/random.hpp"
#include "deltatune/io/hf_checkpoint.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/model/load_report.hpp"

namespace deltatune::detail {

// As Hugging Face initialises: normal weights, zero biases, unit norms.
template <class X>
void draw_parameter(context_of<X>& ctx, Parameter<X>& parameter, double spread, std::uint64_t seed, std::uint64_t stream) {
  const RandomKey key = derive(seed, stream);
  const bool is_drawn = parameter.role() == Role::weight || parameter.role() == Role::embedding;
  std::vector<float> values(static_cast<std::size_t>(parameter.size()), parameter.role() == Role::norm_scale ? 1.0F : 0.0F);
  if (is_drawn)
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(spread * normal(key, i));
  upload_values(ctx, std::span<const float>(values), parameter);
}

// How a family names its tensors.
struct CheckpointNames {
  std::string family;                                                      // "BERT"
  std::function<std::vector<std::string>(const std::string&)> candidates;  // names a file may hold a parameter under, likeliest first
  std::function<bool(const std::string&)> is_head;                         // parameters that a file may lack: they are drawn
  std::function<bool(const std::string&)> may_be_left_out;                 // tensors that the model may not use
};

// Throws Error for any other missing, unknown or misshapen tensor.
template <class Model>
LoadReport load_parameters(typename Model::Context& ctx, const HfCheckpoint& checkpoint, Model& model, const CheckpointNames& names, double spread,
                           std::uint64_t seed) {
  const std::map<std::string, TensorInfo>& tensors = checkpoint.tensors();
  LoadReport report;
  std::set<std::string> used;
  std::uint64_t stream = 0;
  model.visit([&](Parameter<typename Model::Tensor>& parameter) {
    ++stream;
    for (const std::string& name : names.candidates(parameter.path())) {
      const auto tensor = tensors.find(name);
      if (tensor == tensors.end()) continue;
      read_parameter(ctx, tensor->second, parameter);
      checkpoint.forget(tensor->second);
      report.names[parameter.path()] = name;
      used.insert(name);
      return;
    }
    if (!names.is_head(parameter.path()))
      throw Error(checkpoint.folder().string(), "has no tensor for " + parameter.path(),
                  {.expected = "shape " + to_string(parameter.file_shape()), .remedy = "is this a " + names.family + " checkpoint, and complete?"});
    draw_parameter(ctx, parameter, spread, seed, stream);
    report.initialised.push_back(parameter.path());
  });
  for (const auto& [name, tensor] : tensors) {
    if (used.contains(name)) continue;
    if (!names.may_be_left_out(name))
      throw Error(tensor.file + ": " + name, "is not a tensor of a " + names.family + " model with " + std::to_string(model.layers()) + " layers",
                  {.remedy = "does config.json belong to this file?"});
    report.left_out.push_back(name);
  }
  return report;
}

}  // namespace deltatune::detail

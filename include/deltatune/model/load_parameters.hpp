// Parameters of a model from a checkpoint, or drawn at random.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "deltatune/core/path.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/io/hf_checkpoint.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/model/head.hpp"
#include "deltatune/model/load_report.hpp"
#include "deltatune/seam/architecture.hpp"

namespace deltatune::detail {

// As Hugging Face initialises: normal weights, zero biases, unit norms.
template <class X>
void draw_parameter(context_of<X>& ctx, Parameter<X>& parameter, double spread, std::uint64_t seed, std::uint64_t stream, double unit = 1) {
  const RandomKey key = derive(seed, stream);
  const bool is_drawn = parameter.role() == Role::weight || parameter.role() == Role::embedding;
  std::vector<float> values(static_cast<std::size_t>(parameter.size()), parameter.role() == Role::norm_scale ? static_cast<float>(unit) : 0.0F);
  if (is_drawn)
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(spread * normal(key, i));
  upload_values(ctx, std::span<const float>(values), parameter);
}

// How a checkpoint names the tensors of a model.
struct CheckpointNames {
  const Architecture& architecture;
  Head head;
  std::string prefix;  // of the base in memory: that of the architecture, or ""

  bool is_base(const std::string& path) const { return prefix.empty() ? architecture.is_base(path) : path.starts_with(prefix); }
  // Names a file may hold a parameter under, likeliest first: with and without the prefix, and old ones.
  DELTATUNE_FUNCTION std::vector<std::string> candidates(const std::string& path) const {
    if (!is_base(path)) {
      const bool drawn = head.fresh && path.starts_with(architecture.head.classifier + ".");
      return drawn ? std::vector<std::string>{} : std::vector<std::string>{path};
    }
    const std::string bare = path.substr(prefix.size());
    std::vector<std::string> names{architecture.prefix + bare, bare};
    if (!architecture.classifier_prefix.empty()) names.push_back(architecture.classifier_prefix + bare);
    for (const auto& [end, old] : architecture.old_names) {
      if (!bare.ends_with(end)) continue;
      const std::string renamed = bare.substr(0, bare.size() - end.size()) + old;
      names.push_back(architecture.prefix + renamed);
      names.push_back(renamed);
    }
    return names;
  }
  // Whether a file may lack a parameter, which is drawn then.
  bool is_head(const std::string& path) const {
    const std::string& pooler = architecture.head.pooler;
    return !is_base(path) || (!pooler.empty() && path.starts_with(prefix + pooler + "."));
  }
  // Whether a file may hold a tensor that the model does not use: of another head, or a buffer.
  DELTATUNE_FUNCTION bool may_be_left_out(const std::string& name) const {
    const std::string& pooler = architecture.head.pooler;
    if (!pooler.empty() && (name.starts_with(pooler + ".") || name.starts_with(architecture.prefix + pooler + "."))) return true;
    return std::any_of(architecture.unread.begin(), architecture.unread.end(), [&](const std::string& glob) { return matches(glob, name); });
  }
};

// Throws Error for any other missing, unknown or misshapen tensor.
template <class Model>
LoadReport load_parameters(typename Model::Context& ctx, const HfCheckpoint& checkpoint, Model& model, const CheckpointNames& names, std::uint64_t seed) {
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
                  {.expected = "shape " + to_string(parameter.file_shape()), .remedy = "is this a " + names.architecture.title + " checkpoint, and complete?"});
    draw_parameter(ctx, parameter, names.architecture.initializer_range, seed, stream);
    report.initialised.push_back(parameter.path());
  });
  for (const auto& [name, tensor] : tensors) {
    if (used.contains(name)) continue;
    if (!names.may_be_left_out(name))
      throw Error(tensor.file + ": " + name, "is not a tensor of a " + names.architecture.title + " model with " + std::to_string(model.layers()) + " layers",
                  {.remedy = "does config.json belong to this file?"});
    report.left_out.push_back(name);
  }
  return report;
}

}  // namespace deltatune::detail

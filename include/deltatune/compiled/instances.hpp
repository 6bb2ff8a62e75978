// What deltatune::compiled holds of deltatune.hpp: the templates for float on the default CPU backend. Programs that link it see `extern template`
// here; the files of the library (cmake/compiled.cmake) instantiate them.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "deltatune/compiled/vector_width.hpp"

// Who instantiates: each of these is `extern`, and nothing in the one file of the library that does.
#ifndef DELTATUNE_LAYERS
#define DELTATUNE_LAYERS extern
#endif
#ifndef DELTATUNE_BERT
#define DELTATUNE_BERT extern
#endif
#ifndef DELTATUNE_GPT2
#define DELTATUNE_GPT2 extern
#endif

namespace deltatune {

using CompiledTensor = Tensor<float, DefaultCpu>;

DELTATUNE_LAYERS template class Parameter<CompiledTensor>;
DELTATUNE_LAYERS template class Linear<CompiledTensor>;
DELTATUNE_LAYERS template class LayerNorm<CompiledTensor>;
DELTATUNE_LAYERS template class Embedding<CompiledTensor>;
DELTATUNE_LAYERS template class SelfAttention<CompiledTensor>;
DELTATUNE_LAYERS template class FeedForward<CompiledTensor>;
DELTATUNE_LAYERS template class ClassificationHead<CompiledTensor>;
DELTATUNE_LAYERS template class DeviceBatch<CompiledTensor>;
DELTATUNE_LAYERS template class TrainableParameters<CompiledTensor>;
DELTATUNE_LAYERS template class AdamW<CompiledTensor>;
DELTATUNE_LAYERS template class Attachment<CompiledTensor>;

#define DELTATUNE_METHOD_INSTANCES(EXTERN, Model, Plan)                                                                                   \
  EXTERN template Attachment<CompiledTensor> attach_beside(DefaultCpu::Context&, Model&, const Plan&, std::uint64_t, const std::string&); \
  EXTERN template Attachment<CompiledTensor> attach(DefaultCpu::Context&, Model&, const Plan&, std::uint64_t, const std::string&);        \
  EXTERN template void save_adapter(DefaultCpu::Context&, const std::filesystem::path&, Model&, const Plan&, Attachment<CompiledTensor>&, const std::string&);

#define DELTATUNE_MODEL_INSTANCES(EXTERN, Model)                                                                                    \
  EXTERN template class Model;                                                                                                      \
  EXTERN template class Trainer<Model>;                                                                                             \
  EXTERN template void freeze_base(Model&);                                                                                         \
  EXTERN template void freeze(Model&, const std::vector<std::string>&);                                                             \
  EXTERN template void unfreeze(Model&, const std::vector<std::string>&);                                                           \
  EXTERN template Evaluation evaluate(Trainer<Model>&, const Dataset&, Index);                                                      \
  EXTERN template Progress fit(Trainer<Model>&, const Dataset&, const Dataset*, const FitConfig&, Progress, const FitCallbacks&);   \
  EXTERN template void save_checkpoint(const std::filesystem::path&, Trainer<Model>&, const Progress&, const nlohmann::json&);      \
  EXTERN template Progress load_checkpoint(const std::filesystem::path&, Trainer<Model>&, const nlohmann::json&);                   \
  EXTERN template void save_hf_checkpoint(DefaultCpu::Context&, const std::filesystem::path&, Model&, const std::filesystem::path&, \
                                          const std::vector<std::string>&, const std::string&, SavedDtype);                         \
  DELTATUNE_METHOD_INSTANCES(EXTERN, Model, LoraPlan)                                                                               \
  DELTATUNE_METHOD_INSTANCES(EXTERN, Model, SelectionPlan)

DELTATUNE_MODEL_INSTANCES(DELTATUNE_BERT, Bert<CompiledTensor>)
DELTATUNE_MODEL_INSTANCES(DELTATUNE_GPT2, Gpt2<CompiledTensor>)
DELTATUNE_GPT2 template std::vector<std::int32_t> generate(DefaultCpu::Context&, Gpt2<CompiledTensor>&, std::span<const std::int32_t>, const GenerationConfig&,
                                                           const std::function<void(std::int32_t)>&);

}  // namespace deltatune

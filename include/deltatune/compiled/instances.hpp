// What deltatune::compiled holds of deltatune.hpp: the templates for float on the default CPU backend. Programs that link it see `extern template`
// here; the files of the library (cmake/compiled.cmake) instantiate them.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "deltatune/compiled/method_instances.hpp"
#include "deltatune/compiled/vector_width.hpp"

// Who instantiates: each of these is `extern`, and nothing in the one file of the library that does.
#ifndef DELTATUNE_LAYERS
#define DELTATUNE_LAYERS extern
#endif
#ifndef DELTATUNE_MODEL
#define DELTATUNE_MODEL extern
#endif

namespace deltatune {

using CompiledTensor = Tensor<float, DefaultCpu>;

DELTATUNE_LAYERS template class Parameter<CompiledTensor>;
DELTATUNE_LAYERS template class Linear<CompiledTensor>;
DELTATUNE_LAYERS template class Norm<CompiledTensor>;
DELTATUNE_LAYERS template class Embedding<CompiledTensor>;
DELTATUNE_LAYERS template class SelfAttention<CompiledTensor>;
DELTATUNE_LAYERS template class FeedForward<CompiledTensor>;
DELTATUNE_LAYERS template class ClassificationHead<CompiledTensor>;
DELTATUNE_LAYERS template class DeviceBatch<CompiledTensor>;
DELTATUNE_LAYERS template class TrainableParameters<CompiledTensor>;
DELTATUNE_LAYERS template class AdamW<CompiledTensor>;
DELTATUNE_LAYERS template class Attachment<CompiledTensor>;

using CompiledModel = Transformer<CompiledTensor>;

DELTATUNE_MODEL template class Transformer<CompiledTensor>;
DELTATUNE_MODEL template class Trainer<CompiledModel>;
DELTATUNE_MODEL template void freeze_base(CompiledModel&);
DELTATUNE_MODEL template void freeze(CompiledModel&, const std::vector<std::string>&);
DELTATUNE_MODEL template void unfreeze(CompiledModel&, const std::vector<std::string>&);
DELTATUNE_MODEL template Evaluation evaluate(Trainer<CompiledModel>&, const Dataset&, Index);
DELTATUNE_MODEL template Progress fit(Trainer<CompiledModel>&, const Dataset&, const Dataset*, const FitConfig&, Progress, const FitCallbacks&);
DELTATUNE_MODEL template void save_checkpoint(const std::filesystem::path&, Trainer<CompiledModel>&, const Progress&, const nlohmann::json&);
DELTATUNE_MODEL template Progress load_checkpoint(const std::filesystem::path&, Trainer<CompiledModel>&, const nlohmann::json&);
DELTATUNE_MODEL template void save_hf_checkpoint(DefaultCpu::Context&, const std::filesystem::path&, CompiledModel&, const std::filesystem::path&,
                                                 const HfExport&);
DELTATUNE_MODEL template std::vector<std::int32_t> generate(DefaultCpu::Context&, CompiledModel&, std::span<const std::int32_t>, const GenerationConfig&,
                                                            const std::function<void(std::int32_t)>&);
DELTATUNE_MODEL template std::vector<Continuation> generate(DefaultCpu::Context&, CompiledModel&, const PackedBatch&, const GenerationConfig&, const OnToken&,
                                                            GenerationMemory<CompiledModel>*);
DELTATUNE_CORE_METHODS(DELTATUNE_METHOD_INSTANCES, DELTATUNE_MODEL, CompiledTensor)

}  // namespace deltatune

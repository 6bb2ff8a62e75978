// What the commands ask of a device. The CPU's answers are compiled in cpu.cpp, those of CUDA in cuda.cu; nothing here depends on either.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "deltatune/attach/any_plan.hpp"
#include "deltatune/delta/selections.hpp"
#include "deltatune/io/safetensors.hpp"
#include "deltatune/model/generate.hpp"
#include "deltatune/model/head.hpp"
#include "deltatune/model/load_report.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/seam/selection.hpp"
#include "deltatune/train/fit.hpp"

namespace deltatune::cli {

struct DeviceOptions {
  std::string device = "cpu";              // "cpu", "cuda" or "cuda:NUMBER"
  int threads = 0;                         // of the CPU; 0: all processors
  bool tf32 = false;                       // of CUDA
  std::string base_precision = "float32";  // of the frozen weights; or "bf16"

  bool rounds_base() const { return base_precision == "bf16"; }
};

// What the commands have to know of a model.
struct ModelInfo {
  ModelFamily family;
  bool is_language_model = false;
  bool is_encoder_decoder = false;
  Index num_labels = 0;  // of the output layer; 0: there is none
  Index vocab_size = 0, max_position_embeddings = 0, type_vocab_size = 1, hidden_size = 0, layers = 0, heads = 0, intermediate_size = 0;
  Index taken = 0;                  // of the positions, by prefixes and prompts
  std::vector<std::string> labels;  // one name per class
};

// A batch of a file, with the place of each packed row among the padded ones.
struct PaddedBatch {
  PackedBatch batch;
  Index rows = 0, columns = 0;
  std::vector<Index> places;  // row · columns + column
};

// A model on a device, with its adapters: everything frozen, or the adapters' parameters train.
class DeviceModel {
 public:
  virtual ~DeviceModel() = default;
  virtual const ModelInfo& info() const = 0;

  // Of a classifier: (B, K), row-major, without dropout.
  virtual std::vector<float> logits(const PackedBatch& batch) = 0;
  // Of a language model: the sum over the predicted tokens, and how many they are.
  virtual std::pair<double, double> loss(const PackedBatch& batch) = 0;
  // Of an encoder-decoder: the log-likelihood of each choice as the target of each source, (B, K), row-major.
  virtual std::vector<double> choice_log_likelihoods(const PackedBatch& sources, std::span<const std::vector<std::int32_t>> choices) = 0;
  // Of an encoder-decoder the prompts are sources, and the continuations targets.
  virtual std::vector<Continuation> generate(const PackedBatch& prompts, const GenerationConfig& config, const OnToken& on_token) = 0;
  // The same for one sequence, of which what it has in common with the last one is not read again.
  virtual Continuation answer(std::span<const std::int32_t> conversation, const GenerationConfig& config, const OnToken& on_token) = 0;

  // Instead of what the adapters train.
  virtual void select(const Selection& selection) = 0;
  // Writes all there is for the batch, without dropout: last_hidden_state and sentence_embedding of an encoder; else logits, the loss where
  // there are labels, and if wanted the gradient of everything that trains.
  virtual void forward(const PaddedBatch& batch, bool gradients, SafeTensorsWriter& writer) = 0;
};

// What is trained.
struct Recipe {
  std::filesystem::path model;
  Head head;
  std::vector<std::string> labels;
  std::string problem_type;  // of a whole model's classifier, as transformers names it
  std::vector<AnyPlan> plans;
  std::vector<std::filesystem::path> init_adapters;  // instead of plans: trained adapters that are trained further
  double lora_plus_ratio = 0;                        // 0: LoRA+ is not asked for
  bool saves_model = false;                          // a whole model and not an adapter
  bool recompute = false;                            // inner values of feed-forward layers are computed again in backward
  Index feature_batch = 0;                           // features are computed once, so many texts at a time; 0: they aren't
  TrainerConfig trainer;
};

struct PartSize {
  Index all = 0, trained = 0;  // parameters
};

// A model in training on a device.
class DeviceTraining {
 public:
  virtual ~DeviceTraining() = default;
  virtual const LoadReport& load_report() const = 0;
  virtual std::string method() const = 0;  // "lora", "prefix+parallel"
  virtual Progress resume(const std::filesystem::path& folder, const nlohmann::json& settings) = 0;
  virtual void save_checkpoint(const std::filesystem::path& folder, const Progress& progress, const nlohmann::json& settings) = 0;
  virtual Progress fit(Dataset& training, Dataset* evaluation, const FitConfig& config, const Progress& progress, const FitCallbacks& callbacks) = 0;
  virtual void save(const std::filesystem::path& folder) = 0;
  virtual std::map<std::string, PartSize> parts() = 0;  // embeddings, encoder, deltas, pooler, classifier
  virtual MemoryReport memory() = 0;
};

// Outlives what it has made.
class Device {
 public:
  virtual ~Device() = default;
  virtual int threads() const = 0;  // of the CPU; 0 elsewhere
  virtual std::unique_ptr<DeviceModel> load(const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters) = 0;
  virtual std::unique_ptr<DeviceTraining> train(const Recipe& recipe) = 0;
};

// Throws Error for an unknown device, one that is not there, and options that are not of this device.
std::unique_ptr<Device> open_device(const DeviceOptions& options);

std::unique_ptr<Device> open_cpu(const DeviceOptions& options);
std::unique_ptr<Device> open_cuda(int number, const DeviceOptions& options);  // in load_cuda.cpp, or in no_cuda.cpp

}  // namespace deltatune::cli

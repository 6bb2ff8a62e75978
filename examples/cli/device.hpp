// What the commands ask of a device. The CPU's answers are compiled in cpu.cpp, those of CUDA in cuda.cu; nothing here depends on either.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/io/safetensors.hpp"
#include "deltatune/model/bert.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/seam/selection.hpp"
#include "deltatune/train/fit.hpp"

namespace deltatune::cli {

struct DeviceOptions {
  std::string device = "cpu";  // "cpu", "cuda" or "cuda:NUMBER"
  int threads = 0;             // of the CPU; 0: all processors
  bool tf32 = false;           // of CUDA
};

// A model on a device, with its adapter: everything frozen, or the adapter's parameters train.
class DeviceModel {
 public:
  virtual ~DeviceModel() = default;
  virtual const BertConfig& config() const = 0;
  virtual Index classes() const = 0;                           // 0: an encoder alone
  virtual const std::vector<std::string>& labels() const = 0;  // one name a class

  // (B, K), row-major, without dropout.
  virtual std::vector<float> logits(const PackedBatch& batch) = 0;

  // Instead of what the adapter trains.
  virtual void select(const Selection& selection) = 0;
  // Writes all there is for the batch, without dropout: last_hidden_state and sentence_embedding of an encoder; else logits, the loss where
  // there are labels, and if wanted the gradient of everything that trains.
  virtual void forward(const PackedBatch& batch, bool gradients, SafeTensorsWriter& writer) = 0;
};

// What is trained, and where the result goes.
struct Recipe {
  std::filesystem::path model, out;
  std::vector<std::string> labels;
  std::variant<LoraPlan, Selection> method;
  bool saves_model = false;  // a whole model and not an adapter
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
  virtual Progress resume(const std::filesystem::path& folder, const nlohmann::json& settings) = 0;
  virtual void save_checkpoint(const std::filesystem::path& folder, const Progress& progress, const nlohmann::json& settings) = 0;
  virtual Progress fit(const Dataset& training, const Dataset* evaluation, const FitConfig& config, const Progress& progress, const FitCallbacks& callbacks) = 0;
  virtual void save() = 0;
  virtual std::map<std::string, PartSize> parts() = 0;  // embeddings, encoder, deltas, pooler, classifier
  virtual MemoryReport memory() = 0;
};

// Outlives what it has made.
class Device {
 public:
  virtual ~Device() = default;
  virtual int threads() const = 0;  // of the CPU; 0 elsewhere
  virtual std::unique_ptr<DeviceModel> load(const std::filesystem::path& model, const std::filesystem::path& adapter) = 0;
  virtual std::unique_ptr<DeviceTraining> train(const Recipe& recipe) = 0;
};

// Throws Error for an unknown device, one that is not there, and options that are not of this device.
std::unique_ptr<Device> open_device(const DeviceOptions& options);

std::unique_ptr<Device> open_cpu(int threads);
std::unique_ptr<Device> open_cuda(int number, bool tf32);  // in cuda.cu, or in no_cuda.cpp

}  // namespace deltatune::cli

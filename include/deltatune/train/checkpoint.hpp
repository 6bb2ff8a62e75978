// The state of an unfinished training run, from which it goes on to the same bits: trainable values, AdamW's moments, what methods keep
// from one update to the next, and where it stood.
//
//   state.safetensors   value.<path>, first.<path>, second.<path> for each trainable parameter; value.<path> for what methods keep; in the
//                       metadata as JSON, under "progress" and "settings": step and best evaluation, and what makes it the same run
// One file, so that it is whole or not there at all.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/safetensors.hpp"
#include "deltatune/train/evaluation.hpp"
#include "deltatune/train/trainer.hpp"

namespace deltatune {

// Where a run stands besides its parameters.
struct Progress {
  Index step = 0;       // updates done
  Index best_step = 0;  // 0: no evaluation yet
  double best_accuracy = 0;
  double best_loss = 0;
  double best_value = 0;  // of the metric that decides (Evaluation::value)
  Index evaluations_since_best = 0;
};

namespace detail {

template <class Model, class F>
void visit_state(Trainer<Model>& trainer, const F& f) {
  // Deltas of several methods may have equal paths: the second one is <path>#2.
  std::map<std::string, int> seen;
  trainer.optimizer().visit([&](auto& parameter, auto first, auto second) {
    const int number = ++seen[parameter.path()];
    const std::string path = number == 1 ? parameter.path() : parameter.path() + "#" + std::to_string(number);
    f("value." + path, parameter.shape(), parameter.value());
    f("first." + path, parameter.shape(), first);
    f("second." + path, parameter.shape(), second);
  });
  trainer.model().visit([&](auto& parameter) {
    if (parameter.constant() && parameter.derived()) f("value." + parameter.path(), parameter.shape(), parameter.value());
  });
}

inline constexpr const char* kCheckpointFile = "state.safetensors";
inline constexpr const char* kResumeRemedy = "resume with the options, the data and the model that the run began with, or start a new run";

// One of the JSON objects in a checkpoint's metadata.
DELTATUNE_FUNCTION JsonConfig checkpoint_metadata(const SafeTensors& file, const std::filesystem::path& path, const char* key) {
  const auto text = file.metadata().find(key);
  if (text == file.metadata().end())
    throw Error(path.string(), "is no checkpoint of this version",
                {.expected = std::string("\"") + key + "\" in its metadata", .remedy = "start the run anew"});
  return JsonConfig::parse(text->second, path.string() + ": " + key);
}

}  // namespace detail

DELTATUNE_FUNCTION bool has_checkpoint(const std::filesystem::path& folder) { return std::filesystem::exists(folder / detail::kCheckpointFile); }

// The settings that a checkpoint was saved with. Throws Error when the folder holds none.
DELTATUNE_FUNCTION JsonConfig checkpoint_settings(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / detail::kCheckpointFile;
  return detail::checkpoint_metadata(SafeTensors::open(path), path, "settings");
}

// settings: whatever makes two runs the same run (data, batch size, seed, ...); load_checkpoint compares it. T is float or double.
template <class Model>
void save_checkpoint(const std::filesystem::path& folder, Trainer<Model>& trainer, const Progress& progress, const nlohmann::json& settings) {
  using T = typename Trainer<Model>::T;
  using B = typename Trainer<Model>::B;
  SafeTensorsWriter writer;
  detail::visit_state(trainer, [&](const std::string& name, const Shape& shape, View<T> values) {
    std::vector<T> host(static_cast<std::size_t>(values.size()));
    B::copy_out(trainer.context(), values.data, host.data(), values.size() * static_cast<Index>(sizeof(T)));
    B::synchronize(trainer.context());
    writer.add_copy(name, shape, host);
  });
  const nlohmann::json state = {
      {"step", progress.step},           {"best_step", progress.best_step},   {"best_accuracy", progress.best_accuracy},
      {"best_loss", progress.best_loss}, {"best_value", progress.best_value}, {"evaluations_since_best", progress.evaluations_since_best}};
  writer.set_metadata("progress", state.dump());
  writer.set_metadata("settings", settings.dump());
  make_directory(folder);
  writer.write(folder / detail::kCheckpointFile);
}

// settings: those that must be as they were; the checkpoint may have been saved with more. Throws Error when the folder holds no checkpoint, or one of a
// run with other settings or other trainable parameters.
template <class Model>
Progress load_checkpoint(const std::filesystem::path& folder, Trainer<Model>& trainer, const nlohmann::json& settings) {
  using T = typename Trainer<Model>::T;
  using B = typename Trainer<Model>::B;
  const std::filesystem::path path = folder / detail::kCheckpointFile;
  const SafeTensors file = SafeTensors::open(path);
  const JsonConfig state = detail::checkpoint_metadata(file, path, "progress"), before = detail::checkpoint_metadata(file, path, "settings");
  nlohmann::json expected = nlohmann::json::object(), got = nlohmann::json::object();
  for (const auto& [key, value] : settings.items()) {
    const nlohmann::json was = before.raw().value(key, nlohmann::json(nullptr));
    if (was == value) continue;
    expected[key] = was;
    got[key] = value;
  }
  if (got.size() == 1)
    throw Error(before.name() + ": " + got.items().begin().key(), "is not the same as in the run that is to be resumed",
                {.expected = expected.front().dump(), .got = got.front().dump(), .remedy = detail::kResumeRemedy});
  if (!got.empty())
    throw Error(before.name(), "are not the same as in the run that is to be resumed",
                {.expected = expected.dump(), .got = got.dump(), .remedy = detail::kResumeRemedy});
  std::size_t used = 0;
  detail::visit_state(trainer, [&](const std::string& name, const Shape& shape, View<T> values) {
    const TensorInfo& tensor = file.at(name);
    if (tensor.shape != shape) throw Error(tensor.file + ": " + name, "does not fit the model", {.expected = to_string(shape), .got = to_string(tensor.shape)});
    std::vector<T> host(static_cast<std::size_t>(values.size()));
    read_floats(tensor, std::span<T>(host));
    B::copy_in(trainer.context(), host.data(), values.data, values.size() * static_cast<Index>(sizeof(T)));
    ++used;
  });
  if (used != file.tensors().size()) throw Error(path.string(), "holds tensors of parameters that do not train in this run");
  const Progress progress{.step = state.get<std::int64_t>("step"),
                          .best_step = state.get<std::int64_t>("best_step"),
                          .best_accuracy = state.get<double>("best_accuracy"),
                          .best_loss = state.get<double>("best_loss"),
                          .best_value = state.get<double>("best_value"),
                          .evaluations_since_best = state.get<std::int64_t>("evaluations_since_best")};
  trainer.optimizer().set_step_count(progress.step);
  return progress;
}

}  // namespace deltatune

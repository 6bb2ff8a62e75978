// The state of an unfinished training run, from which it goes on to the same bits: trainable values, AdamW's moments, what methods keep
// from one update to the next, and where it stood.
//
//   state.safetensors   value.<path>, first.<path>, second.<path> for each trainable parameter; value.<path> for what methods keep
//   state.json          step, best evaluation, and the settings of the run, which must be the same when it goes on
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "deltatune/io/json_config.hpp"
#include "deltatune/io/model_folder.hpp"
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

}  // namespace detail

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
  const nlohmann::json state = {{"step", progress.step},
                                {"best_step", progress.best_step},
                                {"best_accuracy", progress.best_accuracy},
                                {"best_loss", progress.best_loss},
                                {"evaluations_since_best", progress.evaluations_since_best},
                                {"settings", settings}};
  write_model_folder(folder, "state.safetensors", writer, "state.json", state.dump(2) + "\n");
}

// Throws Error when the folder holds no checkpoint, or one of a run with other settings or other trainable parameters.
template <class Model>
Progress load_checkpoint(const std::filesystem::path& folder, Trainer<Model>& trainer, const nlohmann::json& settings) {
  using T = typename Trainer<Model>::T;
  using B = typename Trainer<Model>::B;
  const JsonConfig state = JsonConfig::open(folder / "state.json");
  const JsonConfig before = state.object("settings");
  for (const auto& [key, value] : settings.items())
    if (!before.raw().contains(key) || before.raw().at(key) != value)
      throw Error(before.name() + ": " + key, "is not the same as in the run to go on with",
                  {.expected = before.raw().contains(key) ? before.raw().at(key).dump() : "nothing", .got = value.dump()});
  const SafeTensors file = SafeTensors::open(folder / "state.safetensors");
  std::size_t used = 0;
  detail::visit_state(trainer, [&](const std::string& name, const Shape& shape, View<T> values) {
    const TensorInfo& tensor = file.at(name);
    if (tensor.shape != shape) throw Error(tensor.file + ": " + name, "does not fit the model", {.expected = to_string(shape), .got = to_string(tensor.shape)});
    std::vector<T> host(static_cast<std::size_t>(values.size()));
    read_floats(tensor, std::span<T>(host));
    B::copy_in(trainer.context(), host.data(), values.data, values.size() * static_cast<Index>(sizeof(T)));
    ++used;
  });
  if (used != file.tensors().size()) throw Error((folder / "state.safetensors").string(), "holds tensors of parameters that do not train in this run");
  Progress progress{state.get<std::int64_t>("step"), state.get<std::int64_t>("best_step"), state.get<double>("best_accuracy"),
                    state.get<double>("best_loss"), state.get<std::int64_t>("evaluations_since_best")};
  trainer.optimizer().set_step_count(progress.step);
  return progress;
}

}  // namespace deltatune

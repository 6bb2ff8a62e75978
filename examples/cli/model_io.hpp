// What the commands share: the types of the program, and a model from its folder with the adapter attached.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/backend/cpu.hpp"
#include "deltatune/model/bert.hpp"
#include "deltatune/seam/selection.hpp"

namespace deltatune::cli {

using Backend = DefaultCpu;
using Context = Backend::Context;
using X = Tensor<float, Backend>;
using Model = Bert<X>;

}  // namespace deltatune::cli

// Compiled once, in model_io.cpp.
extern template class deltatune::Bert<deltatune::cli::X>;

namespace deltatune::cli {

struct LoadedModel {
  Model model;
  std::optional<LoadedAdapter<X>> adapter;
  std::vector<std::string> labels;  // one name a class
};

// The model of a folder, everything frozen, or with the adapter of a second folder (empty: none), whose parameters then train.
// The output layer has the classes that the adapter carries, else those of the model's file, else there is none.
LoadedModel load_model(Context& ctx, const std::filesystem::path& folder, const std::filesystem::path& adapter);

// "full", "bitfit", "bitfit_query_ffn" or "head".
Selection selection_of(const std::string& name);

}  // namespace deltatune::cli

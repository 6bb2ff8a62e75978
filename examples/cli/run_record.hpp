// run.json in the folder of a result: with what options, of what data and which version it was trained.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "deltatune/core/shape.hpp"

namespace deltatune::cli {

inline constexpr const char* kRunRecord = "run.json";

// The texts' greatest length in training, by the records beside the adapters, or where there are no adapters the model's. The smallest, where they
// differ; nothing where there is no record.
std::optional<Index> trained_max_length(const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters);

}  // namespace deltatune::cli

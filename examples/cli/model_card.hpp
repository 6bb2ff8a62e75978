// README.md beside what was trained: the model card of the Hugging Face hub, with what it was trained on, how well it does and how to load it.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace deltatune::cli {

inline constexpr const char* kModelCard = "README.md";

// Whether the file is one that this program has written.
bool is_model_card(const std::filesystem::path& file);

// The text of the card. folder: the result, complete but for the card; name: its folder's name. record: its run.json, finished. metrics: names and values, such
// as
// {"loss", 0.25}.
std::string model_card(const std::filesystem::path& folder, const std::string& name, const nlohmann::json& record,
                       const std::vector<std::pair<std::string, double>>& metrics);

}  // namespace deltatune::cli

#include "run_record.hpp"

#include <algorithm>

#include "deltatune/io/json_config.hpp"

namespace deltatune::cli {

std::optional<Index> trained_max_length(const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters) {
  std::optional<Index> length;
  for (const std::filesystem::path& folder : adapters.empty() ? std::vector{model} : adapters) {
    if (!std::filesystem::exists(folder / kRunRecord)) continue;
    const JsonConfig record = JsonConfig::open(folder / kRunRecord);
    if (!record.has("max_length")) continue;
    const Index its_own = record.get<std::int64_t>("max_length");
    if (its_own < 2) throw Error(record.name() + ": max_length", "is not a length of texts", {.expected = "at least 2", .got = std::to_string(its_own)});
    length = std::min(length.value_or(its_own), its_own);
  }
  return length;
}

}  // namespace deltatune::cli

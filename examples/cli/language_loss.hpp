// How well a language model foretells the tokens of a data set.
#pragma once

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "device.hpp"
#include "report.hpp"

namespace deltatune::cli {

struct LanguageLoss {
  double mean = 0;    // per predicted token
  double tokens = 0;  // predicted ones

  double perplexity() const { return std::exp(mean); }
};

inline LanguageLoss language_loss(DeviceModel& model, const Dataset& data, Index batch_size) {
  LanguageLoss result;
  std::vector<Index> members;
  for (Index first = 0; first < data.size(); first += batch_size) {
    members.resize(static_cast<std::size_t>(std::min(batch_size, data.size() - first)));
    std::iota(members.begin(), members.end(), first);
    const auto [loss, tokens] = model.loss(data.batch(members));
    result.mean += loss;
    result.tokens += tokens;
  }
  result.mean /= std::max(1.0, result.tokens);
  return result;
}

// unit: what each example is, "text".
inline std::string loss_report(Index examples, const std::string& unit, const LanguageLoss& loss) {
  return counted(examples, unit) + ", " + counted(static_cast<Index>(loss.tokens), "predicted token") + ", mean loss " + formatted("%.4f", loss.mean) +
         ", perplexity " + formatted("%.2f", loss.perplexity());
}
inline nlohmann::json to_json(Index examples, const LanguageLoss& loss) {
  return {{"examples", examples}, {"tokens", loss.tokens}, {"eval_loss", loss.mean}, {"perplexity", loss.perplexity()}};
}

}  // namespace deltatune::cli

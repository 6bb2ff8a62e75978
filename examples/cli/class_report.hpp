// How good a classifier is, on the screen: accuracy, loss, a table of the classes, who is taken for whom.
#pragma once

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "confusion.hpp"
#include "deltatune/train/evaluation.hpp"
#include "report.hpp"

namespace deltatune::cli {

namespace detail {

// In at most `width` columns of the screen, with names that are cut where they are long.
inline std::string class_table(const ClassCounts& confusion, const std::vector<std::string>& labels, std::size_t width) {
  const std::size_t for_name = std::max(width, std::size_t{60}) - 40;  // the numbers take the rest
  TextTable table({"label", "precision", "recall", "F1", "examples"});
  const auto share = [](double x) { return formatted("%.3f", x); };
  for (std::size_t c = 0; c < labels.size(); ++c)
    table.add(
        {shortened(labels[c], for_name), share(confusion.precision(c)), share(confusion.recall(c)), share(confusion.f1(c)), grouped(confusion.examples(c))});
  table.add({"macro average", share(confusion.macro_precision()), share(confusion.macro_recall()), share(confusion.macro_f1()), grouped(confusion.examples())});
  return table.text();
}

inline nlohmann::json to_json(const Evaluation& result, const std::vector<std::string>& labels) {
  const ClassCounts& confusion = result.classes;
  nlohmann::json classes = nlohmann::json::array();
  for (std::size_t c = 0; c < labels.size(); ++c)
    classes.push_back({{"label", labels[c]},
                       {"precision", confusion.precision(c)},
                       {"recall", confusion.recall(c)},
                       {"f1", confusion.f1(c)},
                       {"examples", confusion.examples(c)}});
  return {{"examples", result.examples},
          {"eval_accuracy", result.accuracy},
          {"eval_loss", result.loss},
          {"macro_f1", confusion.macro_f1()},
          {"weighted_f1", confusion.weighted_f1()},
          {"matthews", confusion.matthews()},
          {"classes", classes},
          {"confusion", confusion.counts()}};
}

}  // namespace detail

// json: the numbers once more as one JSON object.
inline void report_classes(const Evaluation& result, const std::vector<std::string>& labels, bool json) {
  const std::size_t width = static_cast<std::size_t>(terminal_width());
  std::cout << counted(result.examples, "example") << ", accuracy " << percent(result.accuracy) << ", weighted F1 "
            << formatted("%.3f", result.classes.weighted_f1()) << ", Matthews " << formatted("%.3f", result.classes.matthews()) << ", mean loss "
            << formatted("%.4f", result.loss) << "\n\n"
            << detail::class_table(result.classes, labels, width) << "\n"
            << confusion_table(result.classes, labels, width);
  if (json) std::cout << detail::to_json(result, labels).dump() << "\n";
}

}  // namespace deltatune::cli

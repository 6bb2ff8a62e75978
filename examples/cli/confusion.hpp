// Who is taken for whom, on the screen.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "deltatune/train/class_counts.hpp"
#include "report.hpp"

namespace deltatune::cli {

namespace detail {

// Columns `first` to `last` of the counts.
inline TextTable confusion_columns(const ClassCounts& confusion, const std::vector<std::string>& rows, const std::vector<std::string>& columns,
                                   std::size_t first, std::size_t last) {
  std::vector<std::string> header{"truth \\ answer"};
  header.insert(header.end(), columns.begin() + static_cast<std::ptrdiff_t>(first), columns.begin() + static_cast<std::ptrdiff_t>(last));
  TextTable table(header);
  for (std::size_t truth = 0; truth < rows.size(); ++truth) {
    std::vector<std::string> row{rows[truth]};
    for (std::size_t answer = first; answer < last; ++answer) row.push_back(grouped(confusion.counts()[truth][answer]));
    table.add(row);
  }
  return table;
}

}  // namespace detail

// Truth by row, answer by column, in at most `width` columns of the screen: where the names are too long for that they are cut; where that would not do, the
// columns have numbers, which stand beside the names of the rows; and where there are too many, they come in several tables.
inline std::string confusion_table(const ClassCounts& confusion, const std::vector<std::string>& labels, std::size_t width) {
  constexpr std::size_t kShortest = 8;
  std::size_t longest = 0;
  for (const std::string& label : labels) longest = std::max(longest, display_width(label));
  for (std::size_t most = longest; most >= std::min(longest, kShortest) && 3 * labels.size() < width; --most) {
    std::vector<std::string> names;
    for (const std::string& label : labels) names.push_back(shortened(label, most));
    if (std::set<std::string>(names.begin(), names.end()).size() < names.size()) break;
    const TextTable table = detail::confusion_columns(confusion, names, names, 0, labels.size());
    if (table.width() <= width) return table.text();
    if (most == 0) break;
  }
  std::vector<std::string> numbers, rows;
  std::vector<std::size_t> widths;  // of each column
  std::size_t names = 14;           // as wide as what stands above them
  for (std::size_t c = 0; c < labels.size(); ++c) {
    numbers.push_back(std::to_string(c + 1));
    rows.push_back(shortened(numbers.back() + " " + labels[c], std::max(width / 3, names)));
    widths.push_back(numbers.back().size());
    for (const auto& counts : confusion.counts()) widths.back() = std::max(widths.back(), grouped(counts[c]).size());
  }
  for (const std::string& row : rows) names = std::max(names, display_width(row));
  std::string text;
  for (std::size_t first = 0, last; first < labels.size(); first = last) {
    std::size_t used = names;
    for (last = first; last < labels.size() && (last == first || used + 2 + widths[last] <= width); ++last) used += 2 + widths[last];
    text += (first == 0 ? "" : "\n") + detail::confusion_columns(confusion, rows, numbers, first, last).text();
  }
  return text;
}

}  // namespace deltatune::cli

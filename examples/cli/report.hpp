// Plain-text tables, and the one that says what a training run trains and holds.
#pragma once

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/param/parameter.hpp"
#include "device.hpp"
#include "display.hpp"

namespace deltatune::cli {

// printf's format for one number: formatted("%.2f", 0.5).
inline std::string formatted(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// "22,713,216"
inline std::string grouped(Index value) {
  std::string text = std::to_string(value);
  for (std::ptrdiff_t at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3) text.insert(static_cast<std::size_t>(at), ",");
  return text;
}

// "1 step", "22,713 steps"
inline std::string counted(Index count, const std::string& singular) { return grouped(count) + " " + singular + (count == 1 ? "" : "s"); }

// "1 of 12 texts is empty", "2 of 12 texts are empty"
inline std::string some_of(Index count, Index all, const std::string& things, const std::string& singular, const std::string& plural) {
  return grouped(count) + " of " + grouped(all) + " " + things + " " + (count == 1 ? singular : plural);
}

// "a, b, c"
inline std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// "0.32 %"
inline std::string percent(Index part, Index whole) {
  return formatted("%.2f %%", whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

// Of a share of 1: "66.67 %"
inline std::string percent(double share) { return formatted("%.2f %%", 100.0 * share); }

// "86.6 MB"
inline std::string megabytes(Index bytes) { return formatted("%.1f MB", static_cast<double>(bytes) / 1e6); }

// Columns under a header: the first to the left, `left` of them in all, the others to the right.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header, std::size_t left = 1) : rows_{std::move(header)}, left_(left) {}

  void add(std::vector<std::string> row) {
    row.resize(rows_[0].size());
    rows_.push_back(std::move(row));
  }

  // Columns on the screen.
  std::size_t width() const {
    std::size_t sum = 0;
    for (const std::size_t each : widths()) sum += each + 2;
    return sum - 2;
  }

  std::string text() const {
    const std::vector<std::size_t> columns = widths();
    std::string text;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      text += line(rows_[r], columns);
      if (r > 0) continue;
      for (std::size_t c = 0; c < columns.size(); ++c) text += (c == 0 ? "" : "  ") + std::string(columns[c], '-');
      text += "\n";
    }
    return text;
  }

 private:
  std::vector<std::size_t> widths() const {
    std::vector<std::size_t> columns(rows_[0].size(), 0);
    for (const auto& row : rows_)
      for (std::size_t c = 0; c < row.size(); ++c) columns[c] = std::max(columns[c], display_width(row[c]));
    return columns;
  }

  std::string line(const std::vector<std::string>& row, const std::vector<std::size_t>& columns) const {
    std::string text;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string space(columns[c] - display_width(row[c]), ' ');
      text += (c == 0 ? "" : "  ") + (c < left_ ? row[c] + space : space + row[c]);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text + "\n";
  }

  std::vector<std::vector<std::string>> rows_;
  std::size_t left_;
};

// Parameters of the model itself, without deltas.
template <class Model>
Index base_parameter_count(Model& model) {
  Index count = 0;
  model.visit([&](const auto& parameter) { count += parameter.role() == Role::delta ? 0 : parameter.size(); });
  return count;
}

inline PartSize total(const std::map<std::string, PartSize>& parts) {
  PartSize sum;
  for (const auto& [name, part] : parts) sum = {sum.all + part.all, sum.trained + part.trained};
  return sum;
}

// What is trained, part by part, and what the run holds in memory.
inline std::string training_report(const std::map<std::string, PartSize>& parts, const MemoryReport& memory) {
  TextTable table({"part", "parameters", "trained", "of the part"});
  const auto add = [&table](const std::string& name, const PartSize& part) {
    table.add({name, grouped(part.all), grouped(part.trained), percent(part.trained, part.all)});
  };
  for (const char* name : {"embeddings", "layers", "deltas", "pooler", "classifier", "head"})
    if (const auto part = parts.find(name); part != parts.end()) add(name, part->second);
  add("total", total(parts));

  TextTable bytes({"memory", "size"});
  bytes.add({"weights", megabytes(memory.weights)});
  bytes.add({"gradients", megabytes(memory.gradients)});
  bytes.add({"optimiser", megabytes(memory.optimizer)});
  bytes.add({"activations kept for backward", megabytes(memory.activations)});
  bytes.add({"scratch", megabytes(memory.scratch)});
  bytes.add({"total", megabytes(memory.weights + memory.gradients + memory.optimizer + memory.activations + memory.scratch)});
  return table.text() + "\n" + bytes.text();
}

}  // namespace deltatune::cli

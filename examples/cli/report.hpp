// Plain-text tables, and the one that says what a training run trains and holds.
#pragma once

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/utf8.hpp"
#include "deltatune/param/parameter.hpp"
#include "deltatune/train/trainer.hpp"

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

// "0.32 %"
inline std::string percent(Index part, Index whole) {
  return formatted("%.2f %%", whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

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

  std::string text() const {
    std::vector<std::size_t> widths(rows_[0].size(), 0);
    for (const auto& row : rows_)
      for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width(row[c]));
    std::string text;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      text += line(rows_[r], widths);
      if (r > 0) continue;
      for (std::size_t c = 0; c < widths.size(); ++c) text += (c == 0 ? "" : "  ") + std::string(widths[c], '-');
      text += "\n";
    }
    return text;
  }

 private:
  static std::size_t width(const std::string& cell) {
    return static_cast<std::size_t>(std::count_if(cell.begin(), cell.end(), [](char byte) { return !is_utf8_continuation(byte); }));
  }

  std::string line(const std::vector<std::string>& row, const std::vector<std::size_t>& widths) const {
    std::string text;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string space(widths[c] - width(row[c]), ' ');
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

// The part of a model that a parameter belongs to, in a reader's words.
template <class Parameter>
std::string part_of(const Parameter& parameter) {
  const std::string& path = parameter.path();
  if (parameter.role() == Role::delta) return "deltas";
  for (const char* part : {"embeddings", "pooler", "classifier"})
    if (path.starts_with(part) || path.starts_with(std::string("bert.") + part)) return part;
  return "encoder";
}

// What is trained, part by part, and what the run holds in memory.
template <class Model>
std::string training_report(Model& model, const MemoryReport& memory) {
  std::vector<std::string> parts{"embeddings", "encoder", "deltas", "pooler", "classifier"};
  std::map<std::string, std::pair<Index, Index>> counts;  // all, trained
  model.visit([&](const auto& parameter) {
    auto& [all, trained] = counts[part_of(parameter)];
    all += parameter.size();
    trained += parameter.trainable_count();
  });
  TextTable table({"part", "parameters", "trained", "of the part"});
  Index all = 0, trained = 0;
  for (const std::string& part : parts) {
    if (!counts.contains(part)) continue;
    const auto& [part_all, part_trained] = counts.at(part);
    table.add({part, grouped(part_all), grouped(part_trained), percent(part_trained, part_all)});
    all += part_all;
    trained += part_trained;
  }
  table.add({"total", grouped(all), grouped(trained), percent(trained, all)});

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

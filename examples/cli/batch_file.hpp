// A batch of the forward command: a safetensors file with padded int64 rows, and the packed batch that the model runs.
//   input_ids (B, S)   attention_mask (B, S), 1 for real tokens; absent: all are   token_type_ids (B, S), absent: 0
//   labels (B): classes (-100: a row without one), or numbers for a model with a single output; (B, S) for a language model: the token itself
//   where it is to be predicted, -100 where not; (B, T) for an encoder-decoder: the targets, behind which -100 stands. Its decoder reads them one token later.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "deltatune/io/safetensors.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/ops/cross_entropy.hpp"
#include "device.hpp"
#include "report.hpp"

namespace deltatune::cli {

class BatchFile {
 public:
  explicit BatchFile(const std::filesystem::path& path) : name_(path.string()), file_(SafeTensors::open(path)) {
    const Shape& shape = file_.at("input_ids").shape;
    if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1)
      throw Error(place("input_ids"), "wrong shape", {.expected = "[sequences, tokens], both at least 1", .got = to_string(shape)});
    rows_ = shape[0];
    columns_ = shape[1];
  }

  bool has_labels() const { return file_.find("labels") != nullptr; }

  // Names of tensors that are not read.
  std::vector<std::string> unused() const {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : file_.tensors())
      if (name != "input_ids" && name != "attention_mask" && name != "token_type_ids" && name != "labels") names.push_back(name);
    return names;
  }

  // Without the padding. Positions are the numbers of the columns. Throws Error for whatever the model cannot take.
  PaddedBatch pack(const ModelInfo& config) const {
    const std::vector<std::int64_t> ids = *matrix("input_ids");
    const std::optional<std::vector<std::int64_t>> mask = matrix("attention_mask"), types = matrix("token_type_ids");
    const Index room = config.family.architecture.longest() - config.taken;
    PaddedBatch padded{{}, rows_, columns_, {}};
    PackedBatch& batch = padded.batch;
    for (Index row = 0; row < rows_; ++row) {
      for (Index column = 0; column < columns_; ++column) {
        const std::size_t i = static_cast<std::size_t>(row * columns_ + column);
        if (mask && !checked("attention_mask", row, column, (*mask)[i], 2)) {
          if (column == 0) fail_without_first(row);
          continue;
        }
        if (column >= room)
          throw Error(place("attention_mask"), "row " + std::to_string(row) + " is longer than the model's positions",
                      {.expected = "real tokens in the first " + std::to_string(room) + " columns", .got = "one in column " + std::to_string(column)});
        batch.ids.push_back(checked("input_ids", row, column, ids[i], config.vocab_size));
        batch.positions.push_back(static_cast<std::int32_t>(column));
        padded.places.push_back(static_cast<Index>(i));
        batch.types.push_back(types ? checked("token_type_ids", row, column, (*types)[i], config.type_vocab_size) : 0);
      }
      batch.offsets.push_back(batch.rows());
    }
    return padded;
  }

  // The same for an encoder-decoder: the input ids are the source, and the rows and columns are those of the labels, the target.
  PaddedBatch pack_pairs(const ModelInfo& config) const {
    const TensorInfo* const tensor = file_.find("labels");
    if (tensor == nullptr)
      throw Error(place("labels"), "is missing", {.expected = "the targets, which the decoder of an encoder-decoder reads", .got = joined(names())});
    if (tensor->shape.size() != 2 || tensor->shape[0] != rows_ || tensor->shape[1] < 1)
      throw Error(place("labels"), "wrong shape", {.expected = "[" + std::to_string(rows_) + ", tokens of a target]", .got = to_string(tensor->shape)});
    const std::vector<std::int64_t> labels = read_integers(*tensor);
    const Index columns = tensor->shape[1], room = config.family.architecture.longest();
    PaddedBatch padded{{}, rows_, columns, {}};
    for (Index row = 0; row < rows_; ++row) {
      const std::span<const std::int64_t> of_row = std::span(labels).subspan(static_cast<std::size_t>(row * columns), static_cast<std::size_t>(columns));
      Index length = columns;
      while (length > 0 && of_row[static_cast<std::size_t>(length - 1)] == ops::kIgnoredLabel) --length;
      if (length == 0) throw Error(place("labels"), "row " + std::to_string(row) + " has no target", {.expected = "a token id", .got = "-100 alone"});
      if (length > room)
        throw Error(place("labels"), "row " + std::to_string(row) + " is longer than the model's positions",
                    {.expected = "at most " + std::to_string(room) + " tokens", .got = std::to_string(length)});
      std::vector<std::int32_t> target;
      for (Index t = 0; t < length; ++t) {
        const std::int64_t label = of_row[static_cast<std::size_t>(t)];
        target.push_back(label == ops::kIgnoredLabel ? ops::kIgnoredLabel : checked("labels", row, t, label, config.vocab_size));
        padded.places.push_back(row * columns + t);
      }
      padded.batch.add(config.family.architecture.decoder_input(target, ops::kIgnoredLabel));
      padded.batch.token_labels.insert(padded.batch.token_labels.end(), target.begin(), target.end());
    }
    padded.batch.source.push_back(pack(config).batch);
    return padded;
  }

  // Into the batch of a language model: a label per token.
  void add_token_labels(Index vocab_size, PaddedBatch& padded_io) const {
    const std::vector<std::int64_t> labels = *matrix("labels");
    for (const Index place : padded_io.places) {
      const std::int64_t label = labels[static_cast<std::size_t>(place)];
      padded_io.batch.token_labels.push_back(label == ops::kIgnoredLabel ? ops::kIgnoredLabel
                                                                         : checked("labels", place / columns_, place % columns_, label, vocab_size));
    }
  }

  // Into the batch: labels below `classes`, or targets when there is a single output.
  void add_labels(Index classes, PackedBatch& batch_io) const {
    const TensorInfo& tensor = file_.at("labels");
    if (tensor.shape != Shape{rows_}) throw Error(place("labels"), "wrong shape", {.expected = to_string(Shape{rows_}), .got = to_string(tensor.shape)});
    if (classes == 1) {
      batch_io.targets = numbers(tensor);
      return;
    }
    bool any = false;
    for (const std::int64_t label : read_integers(tensor)) {
      if (label != ops::kIgnoredLabel && (label < 0 || label >= classes))
        throw Error(place("labels"), "row " + std::to_string(batch_io.labels.size()) + " holds a label outside the classes",
                    {.expected = "0 to " + std::to_string(classes - 1) + ", or -100 for none", .got = std::to_string(label)});
      any = any || label != ops::kIgnoredLabel;
      batch_io.labels.push_back(static_cast<std::int32_t>(label));
    }
    if (!any) throw Error(place("labels"), "all are -100, so there is no loss");
  }

 private:
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& [name, tensor] : file_.tensors()) all.push_back(name);
    return all;
  }
  std::string place(const std::string& tensor) const { return name_ + ": " + tensor; }

  // Nothing when the file holds no such tensor.
  std::optional<std::vector<std::int64_t>> matrix(const std::string& name) const {
    const TensorInfo* const tensor = file_.find(name);
    if (tensor == nullptr) return std::nullopt;
    const Shape expected{rows_, columns_};
    if (tensor->shape != expected)
      throw Error(place(name), "wrong shape", {.expected = to_string(expected) + " as input_ids", .got = to_string(tensor->shape)});
    return read_integers(*tensor);
  }

  std::int32_t checked(const std::string& tensor, Index row, Index column, std::int64_t value, Index bound) const {
    if (value < 0 || value >= bound)
      throw Error(place(tensor), "value outside the range at row " + std::to_string(row) + ", column " + std::to_string(column),
                  {.expected = "0 to " + std::to_string(bound - 1), .got = std::to_string(value)});
    return static_cast<std::int32_t>(value);
  }

  [[noreturn]] void fail_without_first(Index row) const {
    throw Error(place("attention_mask"), "masks the first token of row " + std::to_string(row) + ", which the model reads",
                {.expected = "1 in column 0", .got = "0", .remedy = "pad on the right"});
  }

  static std::vector<float> numbers(const TensorInfo& tensor) {
    if (tensor.dtype == DType::F64 || tensor.dtype == DType::F32 || tensor.dtype == DType::F16 || tensor.dtype == DType::BF16) {
      std::vector<float> values(static_cast<std::size_t>(element_count(tensor.shape)));
      read_floats(tensor, std::span<float>(values));
      return values;
    }
    std::vector<float> values;
    for (const std::int64_t value : read_integers(tensor)) values.push_back(static_cast<float>(value));
    return values;
  }

  std::string name_;
  SafeTensors file_;
  Index rows_ = 0, columns_ = 0;
};

}  // namespace deltatune::cli

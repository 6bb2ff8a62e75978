// From the cells of a label column to classes or scores, and from what is known of a model's output layer to the names of its classes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "deltatune/core/shape.hpp"
#include "deltatune/io/table.hpp"

namespace deltatune::cli {

// A label without white space around it and in Unicode's composed form (NFC): what looks the same is the same. "": no label.
std::string normal_label(const std::string& cell);
// What labels have in common that may be meant to be the same: without case, compatibility forms and invisible characters, underscores and white
// space alike, 1.0 as 1.
std::string folded_label(const std::string& label);

// "negative", "neutral", "positive", ... of long lists and long names the beginning.
std::string listed(const std::vector<std::string>& names);
// LABEL_0, LABEL_1, ...: what Hugging Face calls classes that nobody named.
bool are_placeholders(const std::vector<std::string>& names);
std::vector<std::string> placeholder_names(Index classes);

// Of the option --labels, or another: names with commas between them, or a .json file with a list of strings. Throws Error for an empty or repeated name.
std::vector<std::string> labels_option(const std::string& value, const std::string& option = "--labels");

// The label column of a table.
struct LabelColumn {
  const Table* table = nullptr;
  std::string column;
  std::vector<std::string> labels;  // normal, one per row; "": none
  Index missing = 0;
  std::vector<std::string> notes = {};

  std::string place() const { return table->name + ": column " + column; }
  std::string place(std::size_t row) const { return table->place(row) + ", column " + column; }
  std::vector<std::string> distinct() const;  // sorted, without ""
};
// Throws Error when no row has a label. left_out: what notes say of rows without one.
LabelColumn read_label_column(const Table& table, const std::string& column);

// The classes that a column names when nothing else does: whole numbers in order of value, else in alphabetical order. Throws Error for numbers that
// are no class numbers, and for nearly as many labels as rows, unless `whatever`. Notes spellings that are nearly the same.
std::vector<std::string> classes_in(LabelColumn& column_io, bool whatever);

// The number of each row's class, -1 for a row without a label. Labels are read as names; else as names but for case and white space; else as class
// numbers, where the names are not numbers themselves: the first reading that fits all of them. Throws Error for the first label that fits none.
std::vector<std::int32_t> class_numbers(LabelColumn& column_io, const std::vector<std::string>& classes, const std::string& remedy = "");

// The number of each row, nothing for a row without one. Throws Error, with their number, for cells that are no finite numbers.
std::vector<std::optional<float>> scores(const LabelColumn& column, const std::string& remedy);

// Whether both hold the same names, but for case and the like, in different orders. Names that nobody gave, LABEL_0 and so on, have no order.
bool reorders(const std::vector<std::string>& names, const std::vector<std::string>& own);

// What a model's output layer is: a trained one, none, or one to be drawn anew.
struct OutputLayer {
  std::string model;                                           // for messages
  Index classes = 0;                                           // that it was trained for; 0: it is drawn at random
  std::vector<std::string> labels;                             // names in config.json, or empty
  std::string remedy = "--new-head draws a new output layer";  // where it does not fit
};
// The classes to train, in the order of the output layer's rows. given: --labels, or empty. Throws Error, with both lists, when a trained output layer
// is for other classes than the data's.
std::vector<std::string> choose_classes(LabelColumn& column_io, const OutputLayer& layer, const std::vector<std::string>& given, bool whatever);

}  // namespace deltatune::cli

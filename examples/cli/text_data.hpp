// Labelled text of a table as token sequences, and names of classes.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "deltatune/io/table.hpp"
#include "deltatune/text/tokenizer.hpp"
#include "deltatune/train/dataset.hpp"

namespace deltatune::cli {

// Which columns hold what; empty names: the usual ones ("text", "sentence", "tweet"; "label", "sentiment"), if the table has them.
struct TextColumns {
  std::string text;
  std::string pair;  // second text, empty: none
  std::string label;
};

// The names with the empty ones filled in. Throws Error when the table has none of the usual columns.
TextColumns resolve_columns(const Table& table, TextColumns columns, bool with_label);

// Names of the classes in a column: numbers in order of value, else in alphabetical order.
std::vector<std::string> class_names(const Table& table, const std::string& label_column);

// Token sequences; labels are numbers of `classes` (a name that is not among them is an Error with file, row and label), or none without `classes`.
Dataset tokenize(const Table& table, const TextColumns& columns, const Tokenizer& tokenizer, Index max_length, const std::vector<std::string>& classes);

// Token sequences of a language model, all labels with the tokens: of a plain text, cut into blocks of max_length tokens; or of a .jsonl file with
// "prompt" and "completion" (or "text" alone) on each line, where the completion and an end-of-text token behind it are to be predicted.
Dataset tokenize_for_language(const std::filesystem::path& file, const Tokenizer& tokenizer, Index max_length);

// A line about bytes that were not UTF-8, or nothing.
std::string encoding_note(const Table& table);

}  // namespace deltatune::cli

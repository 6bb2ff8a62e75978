// Texts of a table or a file as token sequences.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "deltatune/io/table.hpp"
#include "deltatune/train/dataset.hpp"
#include "kept_ids.hpp"

namespace deltatune::cli {

// What is noted of rows: how many, and the first.
struct Counted {
  Index count = 0;
  std::size_t first = 0;
  void add(std::size_t row) {
    if (count++ == 0) first = row;
  }
};

// On standard error.
void print(const Notes& notes);

// Whether a cell has no text but white space and invisible characters.
bool is_empty_text(const std::string& cell);

// In how many records of a JSON file a column's key is missing, or its value is not a text.
void note_json_values(const Table& table, std::size_t column, Notes& notes_io);

// For texts that the tokenizer makes no token of. rows: which of the table.
Error no_tokens(const Table& table, std::size_t column, const Counted& rows);

// The model's tokenizer; prints what the user should know of it.
Tokenizer tokenizer_of(const std::filesystem::path& model);

// Throws Error when the model knows fewer tokens than its tokenizer.
void check_vocabulary(const std::filesystem::path& model, const Tokenizer& tokenizer, Index vocab_size);

// Which columns hold what; empty names: the usual ones ("text", "sentence", "tweet"; "label", "labels", "sentiment", in any case), if the table has
// them.
struct TextColumns {
  std::string text;
  std::string pair;  // second text, empty: none
  std::string label;
};

// The names with the empty ones filled in. Throws Error when the table has none of the usual columns, and when one column is to be two of them.
TextColumns resolve_columns(const Table& table, TextColumns columns, bool with_label);

// What was repaired or guessed in reading the table.
Notes table_notes(const Table& table);

// Token sequences, one per row; of rows that are not `wanted` an empty one. Texts that were cut, that are empty, or that a JSON file does not have as texts
// are counted in the notes. Throws Error, with its row,
// for a text without any tokens.
std::vector<Example> tokenize(const Table& table, const TextColumns& columns, const TextEncoding& encoding, Index max_length, Notes& notes_io,
                              const std::function<bool(std::size_t)>& wanted = {});

// Token sequences of a language model, all labels with the tokens: of a plain text, cut into blocks of max_length tokens; or of a .jsonl or .json file
// with "prompt" and "completion" (or "text" alone, or Alpaca's fields) in each record, where the completion and an end-of-text token behind it are to be
// predicted.
Dataset tokenize_for_language(const std::filesystem::path& file, const TextEncoding& encoding, Index max_length, Notes& notes_io);

}  // namespace deltatune::cli

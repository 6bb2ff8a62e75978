// Source and target texts of a table as token sequences of an encoder-decoder.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "deltatune/seam/architecture.hpp"
#include "run_record.hpp"
#include "text_data.hpp"

namespace deltatune::cli {

// The usual --max-length of sources, and --max-target-length.
inline constexpr Index kSourceLength = 512, kTargetLength = 128;

// The options that are for sources and targets alone.
inline constexpr const char* kPairOptions[] = {"--source-column",     "--target-column",   "--task-prefix",
                                               "--max-target-length", "--source-language", "--target-language"};

// Empty names: the usual ones, if the table has one of them.
struct PairColumns {
  std::string source, target;
};

// How a table is read.
struct PairSettings {
  PairColumns columns;
  std::string prefix;  // in front of each source
  Index max_length = 0, max_target_length = 0;
  PairLanguages languages = {};
};

// A model's tokenizer for sources, and for targets. Throws Error for a language that it does not have.
Tokenizer source_tokenizer(const Tokenizer& tokenizer, const PairLanguages& languages);
Tokenizer target_tokenizer(const Tokenizer& tokenizer, const PairLanguages& languages);

// The names with the empty ones filled in; without a target where that is not wanted. Throws Error where the table has none of the usual columns or several,
// and where one column is to be both.
PairColumns resolve_pair_columns(const Table& table, PairColumns columns, bool with_target);

// --max-target-length, or where it is 0 the usual one, as far as the model has positions. Throws Error when it has fewer than are given.
Index target_length_of(Index given, Index usual, const Architecture& architecture);

// Sources alone, as the ids of examples, one per row; of rows that are not `wanted` an empty one. Sources that are empty, were cut or are no texts in a JSON
// file are counted in the notes. Throws Error for a source without any tokens.
std::vector<Example> tokenize_sources(const Table& table, const PairSettings& settings, const TextEncoding& encoding, Notes& notes_io,
                                      const std::function<bool(std::size_t)>& wanted = {});

// What an encoder-decoder learns, and the row of each example. Rows without a target are left out; these, and what is cut, are counted in the notes. Throws
// Error where no row has a target, and for a text without any tokens.
struct Pairs {
  Dataset data;
  std::vector<std::size_t> rows = {};
};
Pairs tokenize_pairs(const Table& table, const PairSettings& settings, const TextEncoding& encoding, const Architecture& architecture, Notes& notes_io);

}  // namespace deltatune::cli

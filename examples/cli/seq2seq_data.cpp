#include "seq2seq_data.hpp"

#include <algorithm>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>

#include "deltatune/core/hash.hpp"
#include "deltatune/text/language_code.hpp"
#include "deltatune/train/teacher_forcing.hpp"
#include "labels.hpp"
#include "report.hpp"

namespace deltatune::cli {

namespace {

const std::vector<std::string> kSources{"source",   "input", "document", "article", "dialogue", "text",
                                        "sentence", "tweet", "question", "context", "prompt",   "instruction"};
const std::vector<std::string> kTargets{"target", "output", "summary", "highlights", "answer", "completion", "response", "label", "labels", "sentiment"};

// The one usual column that a table has and nothing else is. What else could be meant is for the user to say: an instruction or its input?
std::string the_usual_column(const Table& table, const std::vector<std::string>& usual, const std::string& other, const std::string& option) {
  std::vector<std::string> found;
  for (const std::string& column : table.columns)
    if (column != other && std::find(usual.begin(), usual.end(), folded_label(column)) != usual.end()) found.push_back(column);
  if (found.size() == 1) return found.front();
  if (found.size() > 1) throw Error(table.name, "has several columns for " + option, {.got = joined(found), .remedy = "name the right one with " + option});
  throw Error(table.name, "has no column for " + option,
              {.expected = "one of: " + joined(usual), .got = joined(table.columns), .remedy = "name it with " + option});
}

// A column to be tokenized.
struct PairColumn {
  std::size_t column;
  std::string things;  // "sources"
  std::string prefix;
  std::string option;  // of its length
  Index max_length;
  std::string language;
  Tokenizer tokenizer;
};

void append(const EncodedBatch& more, EncodedBatch& batch_io) {
  const std::size_t before = batch_io.ids.size();
  batch_io.ids.insert(batch_io.ids.end(), more.ids.begin(), more.ids.end());
  for (std::size_t i = 0; i < more.size(); ++i) batch_io.begins.push_back(before + more.begins[i + 1]);
}

// The ids of some rows of each column, the texts of one column after the other; and the notes.
std::vector<std::vector<std::int32_t>> encoded_columns(const Table& table, const std::vector<PairColumn>& columns, const std::vector<std::size_t>& rows,
                                                       const TextEncoding& encoding, Notes& notes_io) {
  std::vector<std::string> with_prefix;
  std::vector<std::string_view> texts;
  with_prefix.reserve(rows.size() * columns.size());  // texts are views of them
  std::string settings = "seq2seq\n";
  std::size_t bytes = 0;
  ContentHash which;  // texts: as they were read, whatever is in the file by now
  for (const PairColumn& column : columns) {
    settings += table.columns[column.column] + "\n" + std::to_string(column.max_length) + "\n" + column.language + "\n";
    for (const std::size_t row : rows) {
      const std::string& cell = table.rows[row][column.column];
      if (!column.prefix.empty()) with_prefix.push_back(column.prefix + cell);
      texts.emplace_back(column.prefix.empty() ? cell : with_prefix.back());
      which.add(static_cast<std::uint64_t>(texts.back().size()));
      which.add(texts.back());
      bytes += texts.back().size();
    }
  }
  const EncodedBatch batch = ids_of(table.name, encoding, settings + which.text(), bytes, texts.size(), false, notes_io, [&] {
    EncodedBatch of_all;
    for (std::size_t c = 0; c < columns.size(); ++c)
      append(columns[c].tokenizer.encode_batch(std::span(texts).subspan(c * rows.size(), rows.size()), {.max_length = columns[c].max_length + 1},
                                               encoding.threads),
             of_all);
    return of_all;
  });

  std::vector<std::vector<std::int32_t>> all;
  for (const PairColumn& column : columns) {
    Counted cut, empty, without_tokens;
    for (const std::size_t row : rows) {
      const std::size_t i = all.size();
      const auto ids = batch[i];
      const bool is_long = static_cast<Index>(ids.size()) > column.max_length;
      all.push_back(is_long ? column.tokenizer.encode(texts[i], column.max_length) : std::vector<std::int32_t>(ids.begin(), ids.end()));
      if (is_long) cut.add(row);
      if (is_empty_text(table.rows[row][column.column])) empty.add(row);
      if (all.back().empty()) without_tokens.add(row);
    }
    if (without_tokens.count > 0) throw no_tokens(table, column.column, without_tokens);
    const auto note = [&](const Counted& counted_rows, const std::string& singular, const std::string& plural) {
      if (counted_rows.count > 0)
        notes_io.push_back(table.name + ": " + some_of(counted_rows.count, static_cast<Index>(rows.size()), column.things, singular, plural) +
                           "; the first in data row " + std::to_string(counted_rows.first + 1));
    };
    note(empty, "is empty", "are empty");
    const std::string length = "longer than " + column.option + " " + std::to_string(column.max_length);
    note(cut, "is " + length + " and was cut", "are " + length + " and were cut");
    note_json_values(table, column.column, notes_io);
  }
  return all;
}

PairColumn source_column(const Table& table, const PairSettings& settings, const TextEncoding& encoding) {
  return {static_cast<std::size_t>(table.column(settings.columns.source)),
          "sources",
          settings.prefix,
          "--max-length",
          settings.max_length,
          settings.languages.source,
          source_tokenizer(encoding.tokenizer, settings.languages)};
}

}  // namespace

Tokenizer source_tokenizer(const Tokenizer& tokenizer, const PairLanguages& languages) {
  return languages.source.empty() ? tokenizer : in_language(tokenizer, languages.source, "--source-language");
}
Tokenizer target_tokenizer(const Tokenizer& tokenizer, const PairLanguages& languages) {
  return languages.target.empty() ? tokenizer : in_language(tokenizer, languages.target, "--target-language");
}

PairColumns resolve_pair_columns(const Table& table, PairColumns columns, bool with_target) {
  if (columns.source.empty()) columns.source = the_usual_column(table, kSources, columns.target, "--source-column");
  if (!with_target) columns.target.clear();
  if (with_target && columns.target.empty()) columns.target = the_usual_column(table, kTargets, columns.source, "--target-column");
  for (const std::string& name : {columns.source, columns.target})
    if (!name.empty()) table.column(name);  // throws where it is not there
  if (columns.source == columns.target)
    throw Error(table.name, "column \"" + columns.source + "\" cannot be two things",
                {.expected = "different columns for --source-column and --target-column", .got = joined(table.columns)});
  return columns;
}

Index target_length_of(Index given, Index usual, const Architecture& architecture) {
  const Index longest = architecture.longest();
  if (given > longest)
    throw Error("--max-target-length", "is more than the model's positions", {.expected = "at most " + std::to_string(longest), .got = std::to_string(given)});
  return given > 0 ? given : std::min(usual, longest);
}

std::vector<Example> tokenize_sources(const Table& table, const PairSettings& settings, const TextEncoding& encoding, Notes& notes_io,
                                      const std::function<bool(std::size_t)>& wanted) {
  std::vector<std::size_t> rows;
  for (std::size_t row = 0; row < table.rows.size(); ++row)
    if (!wanted || wanted(row)) rows.push_back(row);
  std::vector<std::vector<std::int32_t>> ids = encoded_columns(table, {source_column(table, settings, encoding)}, rows, encoding, notes_io);
  std::vector<Example> examples(table.rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) examples[rows[i]].ids = std::move(ids[i]);
  return examples;
}

Pairs tokenize_pairs(const Table& table, const PairSettings& settings, const TextEncoding& encoding, const Architecture& architecture, Notes& notes_io) {
  const PairColumn target{static_cast<std::size_t>(table.column(settings.columns.target)),
                          "targets",
                          "",
                          "--max-target-length",
                          settings.max_target_length,
                          settings.languages.target,
                          target_tokenizer(encoding.tokenizer, settings.languages)};
  Pairs pairs;
  Counted missing;
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    if (is_empty_text(table.rows[row][target.column])) {
      missing.add(row);
    } else {
      pairs.rows.push_back(row);
    }
  }
  if (pairs.rows.empty())
    throw Error(table.name + ": column " + settings.columns.target, "no row has a target", {.expected = "the text to be written from the source"});
  if (missing.count > 0)
    notes_io.push_back(
        table.name + ": " +
        some_of(missing.count, static_cast<Index>(table.rows.size()), "rows", "has no target and is left out", "have no target and are left out") +
        "; the first is data row " + std::to_string(missing.first + 1));
  const std::vector<std::vector<std::int32_t>> ids = encoded_columns(table, {source_column(table, settings, encoding), target}, pairs.rows, encoding, notes_io);
  for (std::size_t i = 0; i < pairs.rows.size(); ++i) pairs.data.add(teacher_forced(ids[i], ids[pairs.rows.size() + i], architecture));
  return pairs;
}

}  // namespace deltatune::cli

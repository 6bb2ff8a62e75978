#include "text_data.hpp"

#include <algorithm>
#include <iostream>
#include <span>
#include <string_view>
#include <utility>

#include "deltatune/core/hash.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/ops/cross_entropy.hpp"
#include "deltatune/text/chat_record.hpp"
#include "labels.hpp"
#include "report.hpp"

namespace deltatune::cli {

namespace {

std::string usual_column(const Table& table, const std::vector<std::string>& usual, const char* option) {
  for (const std::string& name : usual)
    if (std::find(table.columns.begin(), table.columns.end(), name) != table.columns.end()) return name;
  for (const std::string& name : usual)
    for (const std::string& column : table.columns)
      if (folded_label(column) == name) return column;
  const bool has_completions = std::find(table.columns.begin(), table.columns.end(), "completion") != table.columns.end();
  throw Error(table.name, "has no column \"" + usual.front() + "\"",
              {.got = joined(table.columns),
               .remedy = std::string("name the column with ") + option + (has_completions ? "; --task lm learns prompts and completions" : "")});
}

// The completion, with a token behind it that ends the text, is to be predicted.
Example prompted_example(const std::string& prompt, const std::string& completion_text, const Tokenizer& tokenizer) {
  Example example;
  if (!prompt.empty()) example.ids = tokenizer.encode(prompt, 0);
  example.token_labels.assign(example.ids.size(), ops::kIgnoredLabel);
  // Behind a prompt the text goes on: no second token to begin with.
  std::vector<std::int32_t> completion = tokenizer.encode(completion_text, EncodeOptions{.special_tokens = example.ids.empty()});
  if (const auto end = tokenizer.eos_id(); end && (completion.empty() || completion.back() != *end)) completion.push_back(*end);
  example.ids.insert(example.ids.end(), completion.begin(), completion.end());
  example.token_labels.insert(example.token_labels.end(), completion.begin(), completion.end());
  return example;
}

// "prompt", "completion" and "text" of a record, or Alpaca's "instruction", "input" and "output".
Example language_example(const JsonConfig& row, const Tokenizer& tokenizer, bool& is_instruction) {
  const char* const target = row.has("completion") ? "completion" : "text";
  is_instruction = !row.has(target) && row.has("instruction") && row.has("output");
  if (is_instruction) {
    const std::string input = row.get_or<std::string>("input", "");
    return prompted_example(instruction_prompt(row.get<std::string>("instruction"), input), row.get<std::string>("output"), tokenizer);
  }
  if (!row.has(target)) {
    std::vector<std::string> fields;
    for (const auto& [name, value] : row.raw().items()) fields.push_back(name);
    const bool is_chat = row.has("messages") || row.has("conversations");
    throw Error(row.name(), row.has("prompt") ? "has a prompt but no completion" : "has neither prompt and completion nor text",
                {.expected = "{\"prompt\": ..., \"completion\": ...} or {\"text\": ...}, all strings",
                 .got = "the fields " + joined(fields),
                 .remedy = is_chat ? "--task chat learns conversations" : "write the records so first, or as conversations for --task chat"});
  }
  return prompted_example(row.has("prompt") ? row.get<std::string>("prompt") : std::string(), row.get<std::string>(target), tokenizer);
}

bool has_prediction(const Example& example) {
  return example.ids.size() > 1 &&
         std::any_of(example.token_labels.begin() + 1, example.token_labels.end(), [](std::int32_t label) { return label != ops::kIgnoredLabel; });
}

Dataset language_records(std::string_view text, const std::string& file, const Tokenizer& tokenizer, Index max_length, Notes& notes_io) {
  Dataset data;
  Counted cut, without_room, without_text, instructions;
  const std::vector<deltatune::detail::JsonRecord> records = deltatune::detail::json_records(text, file);
  for (const auto& record : records) {
    const std::size_t line = static_cast<std::size_t>(record.line);
    bool is_instruction = false;
    Example example = language_example(JsonConfig::parse(record.text, file + ": line " + std::to_string(line)), tokenizer, is_instruction);
    if (is_instruction) instructions.add(line);
    if (!has_prediction(example)) {
      without_text.add(line);
      continue;
    }
    if (static_cast<Index>(example.ids.size()) > max_length) {
      example.ids.resize(static_cast<std::size_t>(max_length));
      example.token_labels.resize(static_cast<std::size_t>(max_length));
      if (!has_prediction(example)) {  // the prompt leaves no room for its completion
        without_room.add(line);
        continue;
      }
      cut.add(line);
    }
    data.add(std::move(example));
  }
  const Index all = static_cast<Index>(records.size());
  const auto note = [&](const Counted& rows, const std::string& singular, const std::string& plural) {
    if (rows.count > 0)
      notes_io.push_back(file + ": " + some_of(rows.count, all, "texts", singular, plural) + "; the first in line " + std::to_string(rows.first));
  };
  const std::string length = "--max-length " + std::to_string(max_length);
  if (data.size() == 0 && without_room.count > 0)
    throw Error(file, "every prompt is longer than " + length + ", which leaves no room for a completion",
                {.remedy = "raise --max-length, or shorten the prompts"});
  note(instructions, "is an instruction, which is learnt with Alpaca's prompt in front", "are instructions, which are learnt with Alpaca's prompt in front");
  note(without_room, "is left out, since its prompt alone is longer than " + length, "are left out, since their prompts alone are longer than " + length);
  note(cut, "is longer than " + length + " and was cut", "are longer than " + length + " and were cut");
  note(without_text, "is left out, since it has nothing to predict", "are left out, since they have nothing to predict");
  return data;
}

Dataset language_blocks(std::string_view text, const std::string& file, const TextEncoding& encoding, Index max_length, Notes& notes_io) {
  Dataset data;
  const std::vector<std::int32_t> ids = ids_of(file, encoding, "text", text.size(), 1, false, notes_io, [&] {
                                          return encoding.tokenizer.encode_batch(std::span(&text, 1), {}, encoding.threads);
                                        }).ids;
  for (std::size_t first = 0; first < ids.size(); first += static_cast<std::size_t>(max_length)) {
    const std::size_t last = std::min(ids.size(), first + static_cast<std::size_t>(max_length));
    if (last - first < 2) {
      if (first > 0)
        notes_io.push_back(file + ": the last of " + grouped(static_cast<Index>(ids.size())) + " tokens stands alone in its block and is left out");
      break;
    }
    Example example{.ids = {ids.begin() + static_cast<std::ptrdiff_t>(first), ids.begin() + static_cast<std::ptrdiff_t>(last)}};
    example.token_labels = example.ids;
    data.add(std::move(example));
  }
  return data;
}

// Ids of the texts or pairs of some rows, at most max_length of each.
EncodedBatch encoded(const Table& table, const TextColumns& columns, const std::vector<std::size_t>& rows, const TextEncoding& encoding, Index max_length,
                     Notes& notes_io) {
  const std::size_t text = static_cast<std::size_t>(table.column(columns.text));
  const std::size_t pair = columns.pair.empty() ? 0 : static_cast<std::size_t>(table.column(columns.pair));
  std::vector<std::string_view> texts;
  std::vector<std::pair<std::string_view, std::string_view>> pairs;
  std::size_t bytes = 0;
  ContentHash which;  // texts: as they were read, whatever is in the file by now
  const auto add = [&](const std::string& cell) {
    which.add(static_cast<std::uint64_t>(cell.size()));
    which.add(std::string_view(cell));
    bytes += cell.size();
  };
  for (const std::size_t row : rows) {
    add(table.rows[row][text]);
    if (columns.pair.empty()) {
      texts.emplace_back(table.rows[row][text]);
    } else {
      add(table.rows[row][pair]);
      pairs.emplace_back(table.rows[row][text], table.rows[row][pair]);
    }
  }
  const std::string settings = columns.text + "\n" + columns.pair + "\n" + std::to_string(max_length) + "\n" + which.text();
  return ids_of(table.name, encoding, settings, bytes, rows.size(), !columns.pair.empty(), notes_io, [&] {
    const EncodeOptions options{.max_length = max_length};
    return columns.pair.empty() ? encoding.tokenizer.encode_batch(texts, options, encoding.threads)
                                : encoding.tokenizer.encode_batch(pairs, options, encoding.threads);
  });
}

}  // namespace

void print(const Notes& notes) {
  for (const std::string& note : notes) std::cerr << "note: " << note << "\n";
}

bool is_empty_text(const std::string& cell) {
  return std::none_of(cell.begin(), cell.end(), [](char c) { return c > ' ' && c < 0x7F; }) && normal_label(cell).empty();
}

void note_json_values(const Table& table, std::size_t column, Notes& notes_io) {
  if (column >= table.json.size()) return;
  const JsonColumn& values = table.json[column];
  const Index records = static_cast<Index>(table.rows.size());
  const std::string name = "\"" + table.columns[column] + "\"";
  const auto note = [&](const std::string& what, std::size_t first) {
    notes_io.push_back(table.name + ": " + what + "; the first in data row " + std::to_string(first + 1));
  };
  if (values.missing > 0) note(some_of(values.missing, records, "records", "has no key " + name, "have no key " + name), values.first_missing);
  const std::string number = " a number, true or false as " + name + ", which is read as it is written";
  if (values.not_text > 0) note(some_of(values.not_text, records, "records", "has" + number, "have" + number), values.first_not_text);
}

Error no_tokens(const Table& table, std::size_t column, const Counted& rows) {
  const bool has_no_key = column < table.json.size() && table.json[column].missing > 0 && table.json[column].first_missing == rows.first;
  return Error(table.place(rows.first) + ", column " + table.columns[column], "is empty, and this model's tokenizer makes no token of an empty text",
               {.expected = "a text",
                .got = (has_no_key ? "no key \"" + table.columns[column] + "\"" : "\"\"") +
                       (rows.count > 1 ? ", and " + std::to_string(rows.count - 1) + " more empty texts" : ""),
                .remedy = "leave out the row, or give it a text"});
}

Tokenizer tokenizer_of(const std::filesystem::path& model) {
  Tokenizer tokenizer = open_tokenizer(model);
  print(tokenizer.notes());
  return tokenizer;
}

void check_vocabulary(const std::filesystem::path& model, const Tokenizer& tokenizer, Index vocab_size) {
  if (tokenizer.vocab_size() > vocab_size)
    throw Error(model.string(), "the tokenizer has more tokens than the model",
                {.expected = "at most " + std::to_string(vocab_size), .got = std::to_string(tokenizer.vocab_size())});
}

TextColumns resolve_columns(const Table& table, TextColumns columns, bool with_label) {
  if (columns.text.empty()) columns.text = usual_column(table, {"text", "sentence", "tweet"}, "--text-column");
  if (with_label && columns.label.empty()) columns.label = usual_column(table, {"label", "labels", "sentiment"}, "--label-column");
  const auto differ = [&table](const std::string& a, const std::string& b, const char* option, const char* other) {
    if (a == b)
      throw Error(table.name, "column \"" + a + "\" cannot be two things",
                  {.expected = std::string("different columns for ") + option + " and " + other, .got = joined(table.columns)});
  };
  if (!columns.pair.empty()) differ(columns.text, columns.pair, "--text-column", "--text-pair-column");
  if (with_label) differ(columns.text, columns.label, "--text-column", "--label-column");
  if (with_label && !columns.pair.empty()) differ(columns.pair, columns.label, "--text-pair-column", "--label-column");
  return columns;
}

Notes table_notes(const Table& table) {
  Notes notes;
  const std::string extension = std::filesystem::path(table.name).extension().string();
  if (folded_label(extension) == ".csv" && table.delimiter != ',')
    notes.push_back(table.name + ": the header has no commas, so the columns are cut at " + (table.delimiter == ';' ? "semicolons" : "tabs"));
  if (table.rows_with_invalid_utf8 > 0)
    notes.push_back(table.name + ": " + std::to_string(table.replaced_sequences) + " sequences of bytes in " + std::to_string(table.rows_with_invalid_utf8) +
                    " rows are not UTF-8 and were replaced by U+FFFD");
  return notes;
}

std::vector<Example> tokenize(const Table& table, const TextColumns& columns, const TextEncoding& encoding, Index max_length, Notes& notes_io,
                              const std::function<bool(std::size_t)>& wanted) {
  const std::size_t text = static_cast<std::size_t>(table.column(columns.text));
  const std::size_t pair = columns.pair.empty() ? 0 : static_cast<std::size_t>(table.column(columns.pair));
  std::vector<std::size_t> rows_read;
  for (std::size_t row = 0; row < table.rows.size(); ++row)
    if (!wanted || wanted(row)) rows_read.push_back(row);
  const EncodedBatch batch = encoded(table, columns, rows_read, encoding, max_length + 1, notes_io);
  struct TextColumn {
    std::size_t column;
    Counted empty = {};
  };
  std::vector<TextColumn> texts{{text}};
  if (!columns.pair.empty()) texts.push_back({pair});
  std::vector<Example> examples(table.rows.size());
  Counted cut, without_tokens;
  const Index read = static_cast<Index>(rows_read.size());
  for (std::size_t i = 0; i < rows_read.size(); ++i) {
    const std::size_t row = rows_read[i];
    Example& example = examples[row];
    const auto ids = batch[i];
    if (static_cast<Index>(ids.size()) > max_length) {
      if (columns.pair.empty()) {
        example.ids = encoding.tokenizer.encode(table.rows[row][text], max_length);
      } else {
        EncodedPair both = encoding.tokenizer.encode_pair(table.rows[row][text], table.rows[row][pair], max_length);
        example.ids = std::move(both.ids);
        example.types = std::move(both.token_types);
      }
      cut.add(row);
    } else {
      example.ids.assign(ids.begin(), ids.end());
      if (!columns.pair.empty()) {
        const auto types = batch.token_types.begin();
        example.types.assign(types + static_cast<std::ptrdiff_t>(batch.begins[i]), types + static_cast<std::ptrdiff_t>(batch.begins[i + 1]));
      }
    }
    if (examples[row].ids.empty()) without_tokens.add(row);
    for (TextColumn& each : texts)
      if (is_empty_text(table.rows[row][each.column])) each.empty.add(row);
  }
  if (without_tokens.count > 0) throw no_tokens(table, text, without_tokens);
  const auto note = [&](const std::string& of, const std::string& what, std::size_t first) {
    notes_io.push_back(table.name + ": " + (texts.size() > 1 ? of : "") + what + "; the first in data row " + std::to_string(first + 1));
  };
  for (const TextColumn& each : texts) {
    const std::string of = "column " + table.columns[each.column] + ": ";
    if (each.empty.count > 0) note(of, some_of(each.empty.count, read, "texts", "is empty", "are empty"), each.empty.first);
    note_json_values(table, each.column, notes_io);
  }
  const std::string length = "longer than --max-length " + std::to_string(max_length);
  if (cut.count > 0) note("", some_of(cut.count, read, "texts", "is " + length + " and was cut", "are " + length + " and were cut"), cut.first);
  return examples;
}

Dataset tokenize_for_language(const std::filesystem::path& file, const TextEncoding& encoding, Index max_length, Notes& notes_io) {
  const std::string extension = file.extension().string();
  if (extension == ".csv" || extension == ".tsv")
    throw Error(file.string(), "is a table, which a language model does not learn from",
                {.expected = "a plain text, or .jsonl with prompt and completion", .remedy = "--task classify trains on texts with labels"});
  const MappedFile mapped(file);
  const bool has_records = extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
  Dataset data = has_records ? language_records(mapped.text(), file.string(), encoding.tokenizer, max_length, notes_io)
                             : language_blocks(mapped.text(), file.string(), encoding, max_length, notes_io);
  if (data.size() == 0) throw Error(file.string(), "holds no text to learn from", {.expected = "a plain text, or .jsonl with prompt and completion"});
  return data;
}

}  // namespace deltatune::cli

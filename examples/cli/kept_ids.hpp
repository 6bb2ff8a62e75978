// The ids of a data set, kept in a file beside it, so that the next run over the same texts with the same tokenizer need not make them again.
// The file is never trusted: it counts only with the hashes of data, tokenizer and settings in it, and with its own checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "deltatune/tokenizers.hpp"

namespace deltatune::cli {

// What the user should know about the data, one sentence each.
using Notes = std::vector<std::string>;

// How a command turns texts into ids.
struct TextEncoding {
  Tokenizer tokenizer;
  std::filesystem::path folder;  // of the model, whose tokenizer it is
  unsigned threads = 0;          // 0: one per processor
  bool keeps_ids = true;
};

// DATA.ids
std::filesystem::path kept_ids_file(const std::filesystem::path& data);

// The hash under which the ids of a data set are kept. settings: which texts of it, and how they are cut.
std::uint64_t kept_ids_key(const std::filesystem::path& data, const TextEncoding& encoding, const std::string& settings);

// The ids of a file, or nothing where it is not there, not of this key, or damaged.
std::optional<EncodedBatch> read_kept_ids(const std::filesystem::path& file, std::uint64_t key);
// Throws Error where the file cannot be written.
void write_kept_ids(const std::filesystem::path& file, std::uint64_t key, const EncodedBatch& batch);

// The ids that encode() makes of `text_bytes` bytes of a data set: those that are kept, else new ones, which are kept then. Few texts are not worth a file.
// texts, pairs: how many there are, and whether tokens have types.
EncodedBatch ids_of(const std::filesystem::path& data, const TextEncoding& encoding, const std::string& settings, std::size_t text_bytes, std::size_t texts,
                    bool pairs, Notes& notes_io, const std::function<EncodedBatch()>& encode);

}  // namespace deltatune::cli

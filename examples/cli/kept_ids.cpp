#include "kept_ids.hpp"

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>

#include "deltatune/core/hash.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/result_files.hpp"
#include "deltatune/version.hpp"

namespace deltatune::cli {

namespace {

// magic, key, number of texts, of ids, of types; where texts begin, ids, types; checksum of all before. In this machine's byte order, which the magic tells.
constexpr std::uint64_t kMagic = 0x316469656E757464;  // "dtuneid1"
constexpr std::size_t kHeaderWords = 5;

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

// Whether a file is one of these, whole or not.
bool holds_kept_ids(const std::filesystem::path& file) {
  try {
    const MappedFile mapped(file);
    return mapped.bytes().size() >= sizeof kMagic && std::memcmp(mapped.bytes().data(), &kMagic, sizeof kMagic) == 0;
  } catch (const Error&) {
    return false;
  }
}

void add_text(std::string_view text, ContentHash& hash_io) {
  hash_io.add(static_cast<std::uint64_t>(text.size()));
  hash_io.add(text);
}

}  // namespace

std::filesystem::path kept_ids_file(const std::filesystem::path& data) { return data.string() + ".ids"; }

std::uint64_t kept_ids_key(const std::filesystem::path& data, const TextEncoding& encoding, const std::string& settings) {
  ContentHash hash;
  add_text(DELTATUNE_VERSION_STRING, hash);
  add_text(settings, hash);
  add_text(MappedFile(data).text(), hash);
  for (const char* const name : deltatune::detail::kTokenizerFiles) {
    if (!std::filesystem::exists(encoding.folder / name)) continue;
    add_text(name, hash);
    add_text(MappedFile(encoding.folder / name).text(), hash);
  }
  if (std::filesystem::exists(encoding.folder / "config.json")) add_text(MappedFile(encoding.folder / "config.json").text(), hash);  // whose family is it
  return hash.value();
}

std::optional<EncodedBatch> read_kept_ids(const std::filesystem::path& file, std::uint64_t key) {
  std::error_code failure;
  if (!std::filesystem::is_regular_file(file, failure)) return std::nullopt;
  try {
    const MappedFile mapped(file);
    std::span<const std::byte> bytes = mapped.bytes();
    if (bytes.size() < (kHeaderWords + 1) * sizeof(std::uint64_t)) return std::nullopt;
    std::uint64_t header[kHeaderWords], checksum = 0;
    std::memcpy(header, bytes.data(), sizeof header);
    std::memcpy(&checksum, bytes.data() + bytes.size() - sizeof checksum, sizeof checksum);
    const auto [magic, kept_key, texts, ids, types] = header;
    const std::uint64_t most = bytes.size();
    if (magic != kMagic || kept_key != key || texts >= most || ids >= most || (types != 0 && types != ids)) return std::nullopt;
    if (sizeof header + (texts + 1) * sizeof(std::uint64_t) + (ids + types) * sizeof(std::int32_t) + sizeof checksum != most) return std::nullopt;
    ContentHash hash;
    hash.add(bytes.first(bytes.size() - sizeof checksum));
    if (hash.value() != checksum) return std::nullopt;
    EncodedBatch batch;
    bytes = bytes.subspan(sizeof header);
    const auto take = [&bytes](auto& values, std::uint64_t count) {
      values.resize(static_cast<std::size_t>(count));
      const std::size_t size = values.size() * sizeof values[0];
      if (size > 0) std::memcpy(values.data(), bytes.data(), size);
      bytes = bytes.subspan(size);
    };
    take(batch.begins, texts + 1);
    take(batch.ids, ids);
    take(batch.token_types, types);
    if (batch.begins.front() != 0 || batch.begins.back() != ids || !std::is_sorted(batch.begins.begin(), batch.begins.end())) return std::nullopt;
    return batch;
  } catch (const Error&) {  // somebody else's file, or one that cannot be read
    return std::nullopt;
  }
}

void write_kept_ids(const std::filesystem::path& file, std::uint64_t key, const EncodedBatch& batch) {
  const std::vector<std::uint64_t> header{kMagic, key, batch.size(), batch.ids.size(), batch.token_types.size()};
  ContentHash hash;
  AtomicFile out(file);
  for (const auto part : {bytes_of(header), bytes_of(batch.begins), bytes_of(batch.ids), bytes_of(batch.token_types)}) {
    hash.add(part);
    out.write(part);
  }
  const std::vector<std::uint64_t> checksum{hash.value()};
  out.write(bytes_of(checksum));
  out.commit();
}

EncodedBatch ids_of(const std::filesystem::path& data, const TextEncoding& encoding, const std::string& settings, std::size_t text_bytes, std::size_t texts,
                    bool pairs, Notes& notes_io, const std::function<EncodedBatch()>& encode) {
  constexpr std::size_t kWorthAFile = std::size_t{4} << 20U;
  std::error_code failure;
  if (!encoding.keeps_ids || text_bytes < kWorthAFile || !std::filesystem::is_regular_file(data, failure)) return encode();
  const std::filesystem::path file = kept_ids_file(data);
  if (std::filesystem::exists(file) && !holds_kept_ids(file)) {
    notes_io.push_back("the tokens of " + data.filename().string() + " are not kept for the next run: " + file.string() + " is another file");
    return encode();
  }
  const std::uint64_t key = kept_ids_key(data, encoding, settings);
  const auto fits = [&](const EncodedBatch& batch) {  // whoever made the file
    const Index words = encoding.tokenizer.vocab_size();
    return batch.size() == texts && batch.token_types.size() == (pairs ? batch.ids.size() : 0) &&
           std::all_of(batch.ids.begin(), batch.ids.end(), [words](std::int32_t id) { return id >= 0 && id < words; });
  };
  if (std::optional<EncodedBatch> kept = read_kept_ids(file, key); kept && fits(*kept)) return std::move(*kept);
  EncodedBatch batch = encode();
  try {
    write_kept_ids(file, key, batch);
    notes_io.push_back(file.string() + " keeps the tokens of " + data.filename().string() + " for the next run (--no-kept-ids: no such file)");
  } catch (const Error& error) {
    notes_io.push_back("the tokens of " + data.filename().string() + " are not kept for the next run: " + error.what());
  }
  return batch;
}

}  // namespace deltatune::cli

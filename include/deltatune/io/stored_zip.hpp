// Zip archives whose entries are stored without compression, also with 64-bit sizes: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/io/byte_cursor.hpp"

namespace deltatune {

using ZipEntries = std::map<std::string, std::span<const std::byte>, std::less<>>;

namespace detail {

inline constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t remainder = i;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1U) ^ ((remainder & 1U) != 0 ? 0xEDB88320U : 0U);
    table[i] = remainder;
  }
  return table;
}();

DELTATUNE_FUNCTION std::uint32_t crc32(std::span<const std::byte> bytes) {
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const std::byte byte : bytes) crc = (crc >> 8U) ^ kCrcTable[(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xFFU];
  return ~crc;
}

struct ZipDirectory {
  std::uint64_t entries = 0;
  std::uint64_t size = 0;
  std::uint64_t offset = 0;
};

inline void expect_signature(ByteCursor& cursor, std::uint32_t signature, const std::string& of) {
  if (cursor.number<std::uint32_t>() != signature) cursor.fail("is not " + of + " of a zip archive: truncated or corrupt");
}

// From the end of the file, where nothing may follow the record that closes an archive.
DELTATUNE_FUNCTION ZipDirectory find_zip_directory(std::span<const std::byte> bytes, const std::string& where) {
  constexpr std::size_t kEndSize = 22, kLocatorSize = 20;
  if (bytes.size() < kEndSize) throw Error(where, "is too short for a zip archive", {.got = std::to_string(bytes.size()) + " bytes"});
  const std::size_t end_offset = bytes.size() - kEndSize;
  ByteCursor end(bytes, where);
  end.take(end_offset);
  expect_signature(end, 0x06054b50, "the last record");
  end.take(6);  // numbers of disks, entries on this disk
  ZipDirectory directory;
  directory.entries = end.number<std::uint16_t>();
  directory.size = end.number<std::uint32_t>();
  directory.offset = end.number<std::uint32_t>();
  if (end.number<std::uint16_t>() != 0) end.fail("has a comment at the end", {.expected = "an archive as torch.save writes it"});

  if (end_offset >= kLocatorSize) {
    ByteCursor locator(bytes, where);
    locator.take(end_offset - kLocatorSize);
    if (locator.number<std::uint32_t>() == 0x07064b50) {
      locator.take(4);  // number of a disk
      ByteCursor end64(bytes, where);
      end64.take(locator.number<std::uint64_t>());
      expect_signature(end64, 0x06064b50, "the 64-bit end record");
      end64.take(28);  // size, versions, numbers of disks, entries on this disk
      directory.entries = end64.number<std::uint64_t>();
      directory.size = end64.number<std::uint64_t>();
      directory.offset = end64.number<std::uint64_t>();
    }
  }
  return directory;
}

}  // namespace detail

// Name -> content of all entries, which have passed their checksum. The content lies in `bytes`; `where` names the file in messages.
DELTATUNE_FUNCTION ZipEntries read_stored_zip(std::span<const std::byte> bytes, const std::string& where) {
  const detail::ZipDirectory found = detail::find_zip_directory(bytes, where);
  ByteCursor before(bytes, where + ": zip directory");
  const auto data = before.take(found.offset);
  ByteCursor directory(before.take(found.size), where + ": zip directory");
  ZipEntries entries;
  std::uint64_t end_of_previous = 0;
  for (std::uint64_t i = 0; i < found.entries; ++i) {
    detail::expect_signature(directory, 0x02014b50, "an entry");
    directory.take(4);  // versions
    const auto flags = directory.number<std::uint16_t>();
    const auto method = directory.number<std::uint16_t>();
    directory.take(4);  // time, date
    const auto crc = directory.number<std::uint32_t>();
    std::uint64_t stored_size = directory.number<std::uint32_t>();
    std::uint64_t size = directory.number<std::uint32_t>();
    const auto name_length = directory.number<std::uint16_t>();
    const auto extra_length = directory.number<std::uint16_t>();
    const auto comment_length = directory.number<std::uint16_t>();
    directory.take(8);  // number of a disk, attributes
    std::uint64_t offset = directory.number<std::uint32_t>();
    const std::string name(directory.text(name_length));
    const std::string entry = where + ": " + detail::printable(name);

    // 64-bit values stand here, in this order, for those that are all ones above.
    ByteCursor extra(directory.take(extra_length), entry + ": extra field");
    while (extra.left() > 0) {
      const auto kind = extra.number<std::uint16_t>();
      ByteCursor field(extra.take(extra.number<std::uint16_t>()), entry + ": extra field");
      if (kind != 1) continue;
      for (std::uint64_t* value : {&size, &stored_size, &offset})
        if (*value == std::numeric_limits<std::uint32_t>::max()) *value = field.number<std::uint64_t>();
    }
    directory.take(comment_length);

    if (method != 0 || stored_size != size)
      throw Error(entry, "is compressed", {.expected = "an entry that is stored as it is", .remedy = "write the file with torch.save"});
    if ((flags & 1U) != 0) throw Error(entry, "is encrypted");

    ByteCursor local(data, entry);
    if (offset < end_of_previous) local.fail("begins inside the entry before it", {.got = "offset " + std::to_string(offset)});
    local.take(offset);
    detail::expect_signature(local, 0x04034b50, "an entry");
    local.take(22);  // what the directory says, too
    const auto local_name_length = local.number<std::uint16_t>();
    const auto local_extra_length = local.number<std::uint16_t>();
    if (local.text(local_name_length) != name) local.fail("has another name in the directory of the archive");
    local.take(local_extra_length);
    const auto content = local.take(size);
    end_of_previous = local.position();
    if (const std::uint32_t computed = detail::crc32(content); computed != crc) {
      throw Error(entry, "does not match its checksum",
                  {.expected = std::to_string(crc), .got = std::to_string(computed), .remedy = "the file is corrupt; fetch it again"});
    }
    if (!entries.emplace(name, content).second) throw Error(entry, "occurs twice in the archive");
  }
  if (directory.left() != 0) directory.fail("has bytes that belong to no entry", {.got = std::to_string(directory.left())});
  return entries;
}

}  // namespace deltatune

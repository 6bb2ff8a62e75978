// The file of a SentencePiece model: pieces with their scores, and what else its tokenizer needs.
// A protocol buffer, read field by field: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/io/byte_cursor.hpp"
#include "deltatune/io/mapped_file.hpp"

namespace deltatune::detail {

struct SentencePiece {
  enum class Type { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
  std::string text;
  float score = 0;
  Type type = Type::kNormal;
};

struct SentencePieceModel {
  enum class Type { kUnigram = 1, kBpe };
  std::vector<SentencePiece> pieces;
  Type type = Type::kUnigram;
  std::int64_t unknown = 0;
  std::string unknown_piece = "<unk>";
  std::string charsmap;  // empty: none
};

// Goes through the fields of a message: visit(number, value) with a ProtoValue of what the field holds.
struct ProtoValue {
  std::uint64_t number = 0;  // of a number, or the bits of a float
  std::string_view bytes;    // of a text or a message
  bool is_bytes = false;
};

template <class Visit>
void for_each_field(std::string_view message, const std::string& where, Visit&& visit) {
  ByteCursor cursor(std::as_bytes(std::span(message)), where);
  const auto varint = [&cursor] {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      const std::uint64_t byte = cursor.number<std::uint8_t>();
      if (shift < 64) value |= (byte & 0x7FU) << shift;
      if (byte < 0x80) return value;
    }
    cursor.fail("is no protocol buffer");
  };
  while (cursor.left() > 0) {
    const std::uint64_t tag = varint();
    ProtoValue value;
    switch (tag & 7U) {
      case 0:
        value.number = varint();
        break;
      case 1:
        value.number = cursor.number<std::uint64_t>();
        break;
      case 2:
        value.bytes = cursor.text(varint());
        value.is_bytes = true;
        break;
      case 5:
        value.number = cursor.number<std::uint32_t>();
        break;
      default:
        cursor.fail("is no protocol buffer");
    }
    visit(tag >> 3U, value);
  }
}

// `name` stands for the bytes in messages.
DELTATUNE_FUNCTION SentencePieceModel parse_sentence_piece(std::string_view bytes, const std::string& name) {
  SentencePieceModel model;
  std::int64_t type = 1;
  for_each_field(bytes, name, [&](std::uint64_t field, const ProtoValue& message) {
    if (!message.is_bytes) return;
    if (field == 1) {
      SentencePiece piece;
      const std::string where = name + ": piece " + std::to_string(model.pieces.size());
      for_each_field(message.bytes, where, [&](std::uint64_t part, const ProtoValue& value) {
        if (part == 1 && value.is_bytes) piece.text = value.bytes;
        if (part == 2) piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(value.number));
        if (!std::isfinite(piece.score)) throw Error(where + ": score", "is not a number", {.remedy = "the file is damaged; fetch it again"});
        if (part == 3 && value.number >= 1 && value.number <= 6) piece.type = static_cast<SentencePiece::Type>(value.number);
      });
      if (std::string copy = piece.text; piece.text.empty() || deltatune::replace_invalid_utf8(copy) > 0) {
        throw Error(where, piece.text.empty() ? "is empty" : "is not UTF-8", {.remedy = "the file is damaged; fetch it again"});
      }
      model.pieces.push_back(std::move(piece));
    } else if (field == 2) {
      for_each_field(message.bytes, name + ": trainer_spec", [&](std::uint64_t part, const ProtoValue& value) {
        if (part == 3) type = static_cast<std::int64_t>(value.number);
        if (part == 40) model.unknown = static_cast<std::int64_t>(value.number);
        if (part == 45 && value.is_bytes) model.unknown_piece = value.bytes;
      });
    } else if (field == 3) {
      for_each_field(message.bytes, name + ": normalizer_spec", [&model](std::uint64_t part, const ProtoValue& value) {
        if (part == 2 && value.is_bytes) model.charsmap = value.bytes;
      });
    }
  });
  if (model.pieces.empty()) throw Error(name, "is no SentencePiece model: it has no pieces", {.remedy = "fetch the file again"});
  if (type != 1 && type != 2) {
    throw Error(name + ": trainer_spec: model_type", "not supported", {.expected = "1 (unigram) or 2 (BPE)", .got = std::to_string(type)});
  }
  model.type = static_cast<SentencePieceModel::Type>(type);
  return model;
}

DELTATUNE_FUNCTION SentencePieceModel read_sentence_piece(const std::filesystem::path& path) {
  return parse_sentence_piece(MappedFile(path).text(), path.string());
}

}  // namespace deltatune::detail

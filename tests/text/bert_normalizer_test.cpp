#include "deltatune/text/bert_normalizer.hpp"

#include <catch2/catch.hpp>

#include "text/tokenizer_files.hpp"

using namespace deltatune;
namespace files = tokenizer_files;

namespace {

std::string words(std::string_view normalized) {
  std::string result;
  for_each_word(normalized, [&](std::string_view word) { result += (result.empty() ? "" : "|") + std::string(word); });
  return result;
}

}  // namespace

// 256 code points c at a time: the words of "a" + c + "b".
TEST_CASE("every code point as the Hugging Face tokenizer treats it", "[text][normalizer]") {
  const auto hashes = files::read_hashes(files::data / "code_points.fnv32");
  std::size_t at = 0;
  for (const char* name : {"uncased", "cased", "nothing", "cased_stripped"}) {
    const BertNormalizer normalize = files::normalizer(name);
    for (char32_t block = 0; block < 0x110000; block += 256) {
      if (block >= 0xD800 && block < 0xE000) continue;
      std::string text;
      for (char32_t c = block; c < block + 256; ++c) {
        std::string context = "a";
        append_utf8(c, context);
        for_each_word(normalize(context + "b"), [&](std::string_view word) { text += (text.empty() ? "" : " ") + std::string(word); });
      }
      INFO(name << ", block " << std::hex << static_cast<std::uint32_t>(block));
      CHECK(files::fnv1a(text) == hashes.at(at++));
    }
  }
  CHECK(at == hashes.size());
}

TEST_CASE("clean_text drops control characters and makes white space blank", "[text][normalizer]") {
  const std::string text =
      "a\tb\x01"
      "c\xC2\xA0"
      "d\xEF\xBF\xBD"
      "e\xE2\x80\x8B"
      "f" +
      std::string(1, '\0') + "g";
  CHECK(BertNormalizer{}(text) == "a bc defg");
  CHECK(BertNormalizer{.clean_text = false}(text) == text);
  CHECK(BertNormalizer{}("a\r\n\x7F"
                         "b") == "a  b");
}

TEST_CASE("handle_chinese_chars puts blanks around ideographs", "[text][normalizer]") {
  CHECK(BertNormalizer{}("x\xE4\xB8\xADy\xE3\x81\x82") == "x \xE4\xB8\xAD y\xE3\x81\x82");
  CHECK(BertNormalizer{.handle_chinese_chars = false}("x\xE4\xB8\xADy") == "x\xE4\xB8\xADy");
}

TEST_CASE("strip_accents follows lowercase unless it is set", "[text][normalizer]") {
  const std::string text =
      "\xC3\x89"
      "A e\xCC\x81";  // É A, e and an accent
  CHECK(BertNormalizer{.lowercase = true}(text) == "ea e");
  CHECK(BertNormalizer{.lowercase = false}(text) == text);
  CHECK(BertNormalizer{.strip_accents = true, .lowercase = false}(text) == "EA e");
  CHECK(BertNormalizer{.strip_accents = false, .lowercase = true}(text) ==
        "\xC3\xA9"
        "a e\xCC\x81");
}

TEST_CASE("lower-casing is Unicode's full mapping", "[text][normalizer]") {
  const BertNormalizer normalize{.strip_accents = false};
  CHECK(normalize("\xC4\xB0") == "i\xCC\x87");                 // U+0130
  CHECK(normalize("\xCE\xA3\xCE\xA3") == "\xCF\x83\xCF\x83");  // no final sigma
  CHECK(normalize("\xE1\xBA\x9E") == "\xC3\x9F");              // capital sharp s
  CHECK(normalize("\xF0\x90\x90\x80") == "\xF0\x90\x90\xA8");
}

TEST_CASE("marks come into canonical order", "[text][normalizer]") {
  // U+0345 (class 240), U+0301 (230), U+0323 (220), U+0301: sorted by class, equal ones as they came
  CHECK(unicode::decompose(U"a\u0345\u0301\u0323\u0300") == U"a\u0323\u0301\u0300\u0345");
  CHECK(unicode::decompose(U"\u1EADb\uAC01") == U"a\u0323\u0302b\u1100\u1161\u11A8");
  CHECK(unicode::decompose(U"") == U"");
  std::u32string many(100000, U'\u0301');
  many.back() = U'\u0323';
  CHECK(unicode::decompose(many).front() == U'\u0323');
}

TEST_CASE("words end at white space and at every punctuation character", "[text][normalizer]") {
  CHECK(words("  it's  a-b\t\xE2\x80\x9Cq\xE2\x80\x9D $5 ") == "it|'|s|a|-|b|\xE2\x80\x9C|q|\xE2\x80\x9D|$|5");
  CHECK(words("") == "");
  CHECK(words(" \n ") == "");
}

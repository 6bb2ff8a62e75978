// Template text to tokens, with Jinja's rules for white space under trim_blocks and lstrip_blocks: the line end after a block goes, and so do the blanks
// between the start of a line and a block; - takes all white space on its side, + keeps it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/jinja/python_text.hpp"

namespace deltatune::jinja {

enum class TokenKind { kText, kPrintBegin, kPrintEnd, kBlockBegin, kBlockEnd, kName, kString, kInteger, kFloat, kOperator, kEnd };

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text = {};  // of a string: what it means
  int line = 1;
};

// "NAME: line 3", the place of a mistake.
inline std::string place_in(const std::string& name, int line) { return name + ": line " + std::to_string(line); }

class Lexer {
 public:
  // `name` stands for the template in messages.
  Lexer(std::string_view source, const std::string& name) : name_(name) {
    source_.reserve(source.size());
    for (std::size_t i = 0; i < source.size(); ++i) {
      if (source[i] != '\r') {
        source_ += source[i];
      } else if (i + 1 == source.size() || source[i + 1] != '\n') {
        source_ += '\n';
      }
    }
    if (source_.ends_with('\n')) source_.pop_back();
  }

  // All tokens, the last one is kEnd. Throws Error for what does not read as a template.
  DELTATUNE_FUNCTION std::vector<Token> run() {
    if (std::string copy = source_; replace_invalid_utf8(copy) > 0) throw Error(name_, "not UTF-8", {.remedy = "the file is damaged; fetch it again"});
    while (at_ < source_.size()) {
      const std::size_t begin = next_tag();
      if (begin == std::string::npos) {
        push_text(source_.substr(at_));
        go_to(source_.size());
        break;
      }
      const char kind = source_[begin + 1];
      text_before(begin, kind != '{');
      skip_sign();
      if (kind == '#') {
        comment();
      } else if (kind == '{') {
        inside(TokenKind::kPrintBegin, TokenKind::kPrintEnd);
      } else if (!raw()) {
        inside(TokenKind::kBlockBegin, TokenKind::kBlockEnd);
      }
    }
    push(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& what, int line, const ErrorDetail& detail = {}) const { throw Error(place_in(name_, line), what, detail); }

  bool has(std::string_view text, std::size_t at) const { return std::string_view(source_).substr(at, text.size()) == text; }
  char byte(std::size_t at) const { return at < source_.size() ? source_[at] : '\0'; }

  void push(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  void push_text(std::string text) {
    if (!text.empty()) push(TokenKind::kText, std::move(text));
  }

  // Moves on; the line and whether a line begins here follow from the bytes passed.
  void go_to(std::size_t end) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_), source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    if (end > at_) starts_line_ = source_[end - 1] == '\n';
    at_ = end;
  }

  std::size_t next_tag() const {
    std::size_t at = source_.find('{', at_);
    while (at != std::string::npos && byte(at + 1) != '{' && byte(at + 1) != '%' && byte(at + 1) != '#') at = source_.find('{', at + 1);
    return at;
  }

  std::size_t after_space(std::size_t at) const {
    while (at < source_.size()) {
      const DecodedCodePoint next = decode_utf8(source_, at);
      if (!is_space(next.code_point)) break;
      at += next.bytes;
    }
    return at;
  }

  // The text up to the tag that begins at `begin`, of which it takes two bytes; `strips`: the tag takes the blanks in front of it.
  DELTATUNE_FUNCTION void text_before(std::size_t begin, bool strips) {
    std::string_view text = std::string_view(source_).substr(at_, begin - at_);
    const char sign = byte(begin + 2);
    if (sign == '-') {
      text = strip(text, nullptr, false, true);
    } else if (sign != '+' && strips) {
      const std::size_t line_start = text.rfind('\n') + 1;  // npos + 1 is 0
      if ((line_start > 0 || starts_line_) && strip(text.substr(line_start), nullptr, true, false).empty()) text = text.substr(0, line_start);
    }
    push_text(std::string(text));
    go_to(begin + 2);
  }

  void skip_sign() {
    if (byte(at_) == '-' || byte(at_) == '+') go_to(at_ + 1);
  }

  // Behind the end of a comment, block or raw section that stands at `end`; `sign`: what precedes it.
  void leave_tag(char sign, std::size_t end) {
    end += 2;
    if (sign == '-') end = after_space(end);
    if (sign != '-' && sign != '+' && byte(end) == '\n') ++end;
    go_to(end);
  }

  DELTATUNE_FUNCTION void comment() {
    const std::size_t end = source_.find("#}", at_);
    if (end == std::string::npos) fail("a comment has no end", line_, {.expected = "#}"});
    leave_tag(end > at_ ? source_[end - 1] : '\0', end);
  }

  // {% raw %}: the text up to {% endraw %} as it stands. False for another block.
  DELTATUNE_FUNCTION bool raw() {
    std::size_t at = after_space(at_);
    if (!has("raw", at)) return false;
    at = after_space(at + 3);
    const bool takes_space = has("-%}", at);
    if (!takes_space && !has("%}", at)) return false;
    const int line = line_;
    go_to(takes_space ? after_space(at + 3) : at + 2);
    for (std::size_t begin = source_.find("{%", at_); begin != std::string::npos; begin = source_.find("{%", begin + 2)) {
      std::size_t end = begin + 2;
      if (byte(end) == '-' || byte(end) == '+') ++end;
      end = after_space(end);
      if (!has("endraw", end)) continue;
      end = after_space(end + 6);
      const char sign = byte(end) == '-' || byte(end) == '+' ? byte(end++) : '\0';
      if (!has("%}", end)) continue;
      text_before(begin, true);
      leave_tag(sign, end);
      return true;
    }
    fail("a raw section has no end", line, {.expected = "{% endraw %}"});
  }

  DELTATUNE_FUNCTION void inside(TokenKind begin_kind, TokenKind end_kind) {
    const bool is_block = begin_kind == TokenKind::kBlockBegin;
    const std::string_view end = is_block ? "%}" : "}}";
    const int line = line_;
    push(begin_kind, "");
    std::string open;  // the brackets that wait for their ends
    for (;;) {
      go_to(after_space(at_));
      if (at_ >= source_.size()) fail(is_block ? "a block has no end" : "a print expression has no end", line, {.expected = std::string(end)});
      const char sign = byte(at_);
      const bool has_sign = sign == '-' || (sign == '+' && is_block);
      if (open.empty() && has(end, at_ + (has_sign ? 1 : 0))) {
        push(end_kind, "");
        if (is_block) {
          leave_tag(has_sign ? sign : '\0', at_ + (has_sign ? 1 : 0));
        } else {
          go_to(has_sign ? after_space(at_ + 3) : at_ + 2);
        }
        return;
      }
      token(open);
    }
  }

  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

  DELTATUNE_FUNCTION void token(std::string& open_io) {
    const char c = byte(at_);
    if (is_digit(c)) return number();
    if (is_name_start(c)) {
      std::size_t end = at_;
      while (is_name_start(byte(end)) || is_digit(byte(end))) ++end;
      return take(TokenKind::kName, end);
    }
    if (c == '"' || c == '\'') return string(c);
    constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
    for (const std::string_view two : kTwo)
      if (has(two, at_)) return take(TokenKind::kOperator, at_ + 2);
    if (std::string_view("+-/*%~<>=.:|,;()[]{}").find(c) == std::string_view::npos) {
      fail("the character " + std::string(source_.substr(at_, decode_utf8(source_, at_).bytes)) + " has no meaning here", line_);
    }
    if (c == '(' || c == '[' || c == '{') open_io += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open_io.empty() || open_io.back() != c) {
        fail(std::string("the bracket ") + c + " closes nothing", line_, {.expected = open_io.empty() ? "" : std::string(1, open_io.back())});
      }
      open_io.pop_back();
    }
    take(TokenKind::kOperator, at_ + 1);
  }

  void take(TokenKind kind, std::size_t end) {
    push(kind, source_.substr(at_, end - at_));
    go_to(end);
  }

  // Digits with single underscores between them; `at` stands on a digit.
  std::size_t after_digits(std::size_t at) const {
    while (is_digit(byte(at)) || (byte(at) == '_' && is_digit(byte(at + 1)))) ++at;
    return at;
  }

  DELTATUNE_FUNCTION void number() {
    std::size_t end = after_digits(at_);
    bool is_float = false;
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';  // the 1 of x.1.2 is an index
    if (!after_dot && byte(end) == '.' && is_digit(byte(end + 1))) {
      end = after_digits(end + 1);
      is_float = true;
    }
    if (!after_dot && (byte(end) == 'e' || byte(end) == 'E')) {
      const std::size_t digits = end + (byte(end + 1) == '+' || byte(end + 1) == '-' ? 2 : 1);
      if (is_digit(byte(digits))) {
        end = after_digits(digits);
        is_float = true;
      }
    }
    std::string text = source_.substr(at_, end - at_);
    std::erase(text, '_');
    const bool other_base = text == "0" && is_name_start(byte(end)) && std::string_view("bBoOxX").find(byte(end)) != std::string_view::npos;
    if (other_base) fail("an integer of another base than 10 is not part of this engine", line_, {.remedy = "write it in decimal digits"});
    if (!is_float && text.size() > 1 && text.front() == '0' && text.find_first_not_of('0') != std::string::npos)
      fail("an integer begins with 0", line_, {.got = text});
    push(is_float ? TokenKind::kFloat : TokenKind::kInteger, std::move(text));
    go_to(end);
  }

  DELTATUNE_FUNCTION void string(char quote) {
    const int line = line_;
    std::string text;
    std::size_t at = at_ + 1;
    for (; byte(at) != quote || at >= source_.size(); ++at) {
      if (at >= source_.size()) fail("a string has no end", line, {.expected = std::string(1, quote)});
      if (source_[at] != '\\') {
        text += source_[at];
      } else {
        escape(++at, text);
      }
    }
    push(TokenKind::kString, std::move(text));
    go_to(at + 1);
  }

  // Python's escapes; `at` stands behind the backslash and is left on the last byte.
  DELTATUNE_FUNCTION void escape(std::size_t& at_io, std::string& text_io) const {
    const char c = byte(at_io);
    constexpr std::string_view kLetters = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
    if (const std::size_t letter = kLetters.find(c); letter != std::string_view::npos && c != '\0') {
      text_io += kMeanings[letter];
    } else if (c == '\n') {  // continues the line
    } else if (c >= '0' && c <= '7') {
      char32_t value = 0;
      std::size_t end = at_io;
      for (; end < at_io + 3 && byte(end) >= '0' && byte(end) <= '7'; ++end) value = 8 * value + static_cast<char32_t>(byte(end) - '0');
      append_utf8(value, text_io);
      at_io = end - 1;
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      char32_t value = 0;
      for (std::size_t i = 1; i <= digits; ++i) {
        const std::size_t digit = std::string_view("0123456789abcdef0123456789ABCDEF").find(byte(at_io + i));
        if (digit == std::string_view::npos || byte(at_io + i) == '\0')
          fail("an escape \\" + std::string(1, c) + " is cut short", line_, {.expected = std::to_string(digits) + " hexadecimal digits"});
        value = (value << 4U) | static_cast<char32_t>(digit % 16);
      }
      if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) fail("an escape \\" + std::string(1, c) + " names no character", line_);
      append_utf8(value, text_io);
      at_io += digits;
    } else if (c == 'N') {
      fail("the escape \\N is not part of this engine", line_, {.remedy = "write the character itself"});
    } else {  // stays as it is
      text_io += '\\';
      if (at_io < source_.size()) {
        const std::size_t bytes = decode_utf8(source_, at_io).bytes;
        text_io.append(source_, at_io, bytes);
        at_io += bytes - 1;
      }
    }
  }

  std::string source_;
  const std::string& name_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool starts_line_ = true;
};

}  // namespace deltatune::jinja

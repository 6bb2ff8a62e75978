// Text on a terminal: how many columns it takes, cut to fewer, wrapped into lines.
#pragma once

#include <sys/ioctl.h>
#include <unistd.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>

#include "deltatune/core/shape.hpp"
#include "deltatune/core/utf8.hpp"

namespace deltatune::cli {

// Columns of the terminal on standard output; 80 where it does not say.
inline Index terminal_width() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? static_cast<Index>(size.ws_col) : 80;
}

// How many bytes of a text, in whole characters, take at most `columns` columns: Chinese, Japanese and Korean characters take two, accents of their own none.
// width: the columns that those take.
inline std::size_t bytes_within(const std::string& text, std::size_t columns, std::size_t& width) {
  width = 0;
  for (std::size_t at = 0; at < text.size();) {
    const DecodedCodePoint next = decode_utf8(text, at);
    const std::size_t wider = width + static_cast<std::size_t>(std::max(0, utf8proc_charwidth(static_cast<utf8proc_int32_t>(next.code_point))));
    if (wider > columns) return at;
    width = wider;
    at += next.bytes;
  }
  return text.size();
}

// Columns that a text takes.
inline std::size_t display_width(const std::string& text) {
  std::size_t width = 0;
  bytes_within(text, std::numeric_limits<std::size_t>::max(), width);
  return width;
}

// The text, or its beginning with "..." behind it, in at most `columns` columns.
inline std::string shortened(const std::string& text, std::size_t columns) {
  const std::string dots = columns > 3 ? "..." : "";
  std::size_t width = 0;
  if (bytes_within(text, columns, width) == text.size()) return text;
  return text.substr(0, bytes_within(text, columns - dots.size(), width)) + dots;
}

// The text in lines of at most `columns` columns where its words allow, cut at spaces. A line that goes on another one begins with `indent` spaces, which
// count. line_break: what stands between lines. Line ends stay, and so do the spaces that a line begins with.
inline std::string wrapped(const std::string& text, std::size_t columns, std::size_t indent = 0, const std::string& line_break = "\n") {
  std::string result;
  std::size_t used = 0;
  bool begins = true;  // nothing but spaces stands in the line
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '\n') {
      result += line_break;
      used = 0;
      begins = true;
      ++at;
      continue;
    }
    const std::size_t word = std::min(text.find_first_not_of(' ', at), text.size()), end = std::min(text.find_first_of(" \n", word), text.size());
    const std::string letters = text.substr(word, end - word);
    const std::size_t width = display_width(letters);
    if (!begins && !letters.empty() && used + (word - at) + width > columns) {
      result += line_break + std::string(indent, ' ') + letters;
      used = indent + width;
    } else {
      result += text.substr(at, end - at);
      used += word - at + width;
    }
    begins = begins && letters.empty();
    at = end;
  }
  return result;
}

}  // namespace deltatune::cli

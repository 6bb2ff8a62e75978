// Tokenizers with any regular expression: Tokenizer::open() by Oniguruma. Link deltatune::regex.
#pragma once

#include <filesystem>

#include "deltatune/io/regex.hpp"
#include "deltatune/text/tokenizer.hpp"

namespace deltatune {

// The tokenizer of a folder, or of a tokenizer.json. Throws what Tokenizer::open() throws, and Error for an expression that does not compile.
inline Tokenizer open_tokenizer(const std::filesystem::path& path) { return Tokenizer::open(path, search_regex); }

}  // namespace deltatune

// Texts to ids, offsets and back, one JSON object per line; for comparing with the Hugging Face tokenizers library and for measuring beside it.
//   tokenize FOLDER_OR_TOKENIZER_JSON TEXTS.jsonl [--pairs] [--max-length N --strategy longest_first|only_first|only_second --side right|left]
//            [--no-special] [--threads T] [--decode] [--decode-skip-special] [--time REPEATS]
// TEXTS.jsonl: one JSON string per line; with --pairs a list of two.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/tokenizers.hpp"

namespace {

struct Arguments {
  std::string tokenizer, texts;
  bool pairs = false, decodes = false, skips_special = false;
  deltatune::EncodeOptions options;
  unsigned threads = 1;
  int repeats = 0;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] {
      if (++i == argc) throw deltatune::Error(word, "needs a value");
      return std::string(argv[i]);
    };
    if (word == "--pairs") {
      arguments.pairs = true;
    } else if (word == "--max-length") {
      arguments.options.max_length = std::stol(value());
    } else if (word == "--strategy") {
      const std::string name = value();
      arguments.options.truncation = name == "only_first"    ? deltatune::Truncation::kOnlyFirst
                                     : name == "only_second" ? deltatune::Truncation::kOnlySecond
                                                             : deltatune::Truncation::kLongestFirst;
    } else if (word == "--side") {
      arguments.options.cut_side = value() == "left" ? deltatune::Side::kLeft : deltatune::Side::kRight;
    } else if (word == "--no-special") {
      arguments.options.special_tokens = false;
    } else if (word == "--threads") {
      arguments.threads = static_cast<unsigned>(std::stoul(value()));
    } else if (word == "--decode") {
      arguments.decodes = true;
    } else if (word == "--decode-skip-special") {
      arguments.decodes = arguments.skips_special = true;
    } else if (word == "--time") {
      arguments.repeats = std::stoi(value());
    } else {
      words.push_back(word);
    }
  }
  if (words.size() != 2) throw deltatune::Error("tokenize", "needs a tokenizer and a file of texts");
  arguments.tokenizer = words[0];
  arguments.texts = words[1];
  return arguments;
}

void run(const Arguments& arguments) {
  const deltatune::Tokenizer tokenizer = deltatune::open_tokenizer(arguments.tokenizer);
  std::vector<std::string> first, second;
  std::ifstream file(arguments.texts);
  if (!file) throw deltatune::Error(arguments.texts, "cannot be opened");
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json text = nlohmann::json::parse(line);
    first.push_back(arguments.pairs ? text.at(0).get<std::string>() : text.get<std::string>());
    if (arguments.pairs) second.push_back(text.at(1).get<std::string>());
  }
  std::vector<std::string_view> texts(first.begin(), first.end());
  std::vector<std::pair<std::string_view, std::string_view>> pairs;
  for (std::size_t i = 0; i < second.size(); ++i) pairs.emplace_back(first[i], second[i]);
  const auto encode = [&] {
    return arguments.pairs ? tokenizer.encode_batch(pairs, arguments.options, arguments.threads)
                           : tokenizer.encode_batch(texts, arguments.options, arguments.threads);
  };
  if (arguments.repeats > 0) {
    std::vector<double> seconds;
    std::size_t tokens = 0;
    for (int i = 0; i < arguments.repeats; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      tokens = encode().ids.size();
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    std::sort(seconds.begin(), seconds.end());
    std::cout << nlohmann::json{{"tokens", tokens}, {"best", seconds.front()}, {"median", seconds[seconds.size() / 2]}}.dump() << "\n";
    return;
  }
  const deltatune::EncodedBatch batch = encode();
  for (std::size_t i = 0; i < first.size(); ++i) {
    const deltatune::Encoding encoding =
        arguments.pairs ? tokenizer.encode_with_offsets(first[i], second[i], arguments.options) : tokenizer.encode_with_offsets(first[i], arguments.options);
    const auto ids = batch[i];
    if (!std::equal(ids.begin(), ids.end(), encoding.ids.begin(), encoding.ids.end())) {
      throw deltatune::Error("text " + std::to_string(i + 1), "has other ids with offsets than without");
    }
    nlohmann::json line{{"ids", encoding.ids}, {"types", encoding.token_types}, {"tokens", encoding.tokens}};
    line["offsets"] = nlohmann::json::array();
    for (const deltatune::TextSpan& span : encoding.offsets) line["offsets"].push_back({span.begin, span.end});
    if (arguments.decodes) line["decoded"] = tokenizer.decode(encoding.ids, arguments.skips_special);
    std::cout << line.dump() << "\n";
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  try {
    run(parse(argc, argv));
    return 0;
  } catch (const std::exception& failure) {
    std::cerr << "error: " << failure.what() << "\n";
    return 1;
  }
}

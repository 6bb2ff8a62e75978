// tokenizer.json as a tree of settings, with vocabulary and merges beside it: their hundreds of thousands of entries never become a tree.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/parse_json.hpp"

namespace deltatune::detail {

// Many strings in one.
class StringPool {
 public:
  void add(std::string_view text) {
    bytes_ += text;
    ends_.push_back(bytes_.size());
  }
  std::size_t size() const { return ends_.size(); }
  std::string_view operator[](std::size_t i) const {
    const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(begin, ends_[i] - begin);
  }

 private:
  std::string bytes_;
  std::vector<std::size_t> ends_;
};

struct ModelEntries {
  enum class Kind { kNone, kIds, kScores };
  Kind kind = Kind::kNone;
  StringPool tokens;
  std::vector<std::int64_t> ids;  // of kIds
  std::vector<double> scores;     // of kScores
  bool has_merges = false;
  StringPool merges;  // left and right in turn
};

// "left right"
DELTATUNE_FUNCTION std::pair<std::string_view, std::string_view> split_merge(std::string_view line, const std::string& where) {
  const std::size_t blank = line.find(' ');
  if (blank == std::string_view::npos || line.find(' ', blank + 1) != std::string_view::npos) {
    throw Error(where, "not a merge", {.expected = "two tokens with one blank between them", .got = "\"" + std::string(line) + "\""});
  }
  return {line.substr(0, blank), line.substr(blank + 1)};
}

// Builds the tree but for "vocab" and "merges" of `model_key` ("" for the outermost object), which go to ModelEntries; null stands in their place.
class TokenizerJsonReader : public JsonBuilder {
 public:
  TokenizerJsonReader(std::string_view text, const std::string& name, ModelEntries& entries_out)
      : JsonBuilder(text, name, DuplicateKeys::kLastWins, nullptr), name_(name), entries_(entries_out) {}

  bool null() override { return section_ == Section::kNone ? leaf() && JsonBuilder::null() : wrong("null"); }
  bool boolean(bool value) override { return section_ == Section::kNone ? leaf() && JsonBuilder::boolean(value) : wrong(value ? "true" : "false"); }

  bool number_integer(number_integer_t value) override {
    if (section_ == Section::kNone) return leaf() && JsonBuilder::number_integer(value);
    return number(static_cast<double>(value), value, true);
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (section_ == Section::kNone) return leaf() && JsonBuilder::number_unsigned(value);
    constexpr number_unsigned_t kLargest = std::numeric_limits<std::int64_t>::max();
    return number(static_cast<double>(value), static_cast<std::int64_t>(std::min(value, kLargest)), true);
  }

  bool number_float(number_float_t value, const string_t& text) override {
    if (section_ == Section::kNone) return leaf() && JsonBuilder::number_float(value, text);
    return number(value, 0, false);
  }

  bool string(string_t& value) override {
    if (section_ == Section::kNone) return leaf() && JsonBuilder::string(value);
    if (section_ == Section::kMerges) {
      if (depth_ == 1) {
        const auto [left, right] = split_merge(value, where());
        entries_.merges.add(left);
        entries_.merges.add(right);
      } else if (++parts_ <= 2) {
        entries_.merges.add(value);
      }
      return true;
    }
    if (section_ == Section::kScores && depth_ == 2 && parts_ == 0) {
      ++parts_;
      entries_.tokens.add(value);
      return true;
    }
    return wrong("string \"" + value + "\"");
  }

  bool start_object(std::size_t count) override {
    if (section_ != Section::kNone) return wrong("an object");
    if (next_ == Next::kVocabulary) return enter(Section::kIds);
    leaf();
    ++open_;
    return JsonBuilder::start_object(count);
  }

  bool end_object() override {
    if (section_ == Section::kIds) return leave();
    --open_;
    return JsonBuilder::end_object();
  }

  bool start_array(std::size_t count) override {
    if (section_ == Section::kNone) {
      if (next_ == Next::kVocabulary) return enter(Section::kScores);
      if (next_ == Next::kMerges) return enter(Section::kMerges);
      leaf();
      ++open_;
      return JsonBuilder::start_array(count);
    }
    if (section_ == Section::kIds || depth_ != 1) return wrong("an array");
    depth_ = 2;
    parts_ = 0;
    return true;
  }

  bool end_array() override {
    if (section_ == Section::kNone) {
      --open_;
      return JsonBuilder::end_array();
    }
    if (depth_ == 1) return leave();
    if (parts_ != 2) {
      const std::string expected = section_ == Section::kMerges ? "two tokens" : "a token and its score";
      throw Error(where(), section_ == Section::kMerges ? "not a merge" : "wrong type", {.expected = expected, .got = std::to_string(parts_)});
    }
    depth_ = 1;
    if (section_ == Section::kScores) ++count_;
    return true;
  }

  bool key(string_t& name) override {
    if (section_ == Section::kIds) {
      token_ = name;
      return true;
    }
    if (open_ == 1) in_model_ = name == "model";
    next_ = open_ == 2 && in_model_ && name == "vocab" ? Next::kVocabulary : open_ == 2 && in_model_ && name == "merges" ? Next::kMerges : Next::kOther;
    return JsonBuilder::key(name);
  }

 private:
  enum class Section { kNone, kIds, kScores, kMerges };
  enum class Next { kOther, kVocabulary, kMerges };

  bool leaf() {
    next_ = Next::kOther;
    return true;
  }

  bool enter(Section section) {
    section_ = section;
    depth_ = 1;
    count_ = 0;
    next_ = Next::kOther;
    if (section == Section::kMerges) {
      entries_.has_merges = true;
      entries_.merges = {};
    } else {
      entries_.kind = section == Section::kIds ? ModelEntries::Kind::kIds : ModelEntries::Kind::kScores;
      entries_.tokens = {};
      entries_.ids.clear();
      entries_.scores.clear();
    }
    return JsonBuilder::null();
  }

  bool leave() {
    section_ = Section::kNone;
    return true;
  }

  bool number(double value, std::int64_t integer, bool is_integer) {
    if (section_ == Section::kIds && is_integer) {
      entries_.tokens.add(token_);
      entries_.ids.push_back(integer);
      return true;
    }
    if (section_ == Section::kScores && depth_ == 2 && parts_ == 1) {
      ++parts_;
      entries_.scores.push_back(value);
      return true;
    }
    return wrong(is_integer ? "number " + std::to_string(integer) : "number " + std::to_string(value));
  }

  // The entry that is being read, as messages name it.
  std::string where() const {
    const std::string model = name_ + ": model: ";
    if (section_ == Section::kIds) return model + "vocab." + token_;
    if (section_ == Section::kScores) return model + "vocab[" + std::to_string(count_) + "]";
    return model + "merges[" + std::to_string((entries_.merges.size() - std::min<std::size_t>(parts_of_merge(), 2)) / 2) + "]";
  }
  std::size_t parts_of_merge() const { return depth_ == 2 ? static_cast<std::size_t>(parts_) : 0; }

  bool wrong(const std::string& got) const {
    const std::string expected = section_ == Section::kIds ? "an integer" : section_ == Section::kScores ? "a token and its score" : "a merge of two tokens";
    throw Error(where(), "wrong type", {.expected = expected, .got = got});
  }

  const std::string& name_;
  ModelEntries& entries_;
  Section section_ = Section::kNone;
  Next next_ = Next::kOther;
  int depth_ = 0;          // within a section: 2 in the list of an entry
  int parts_ = 0;          // of that list
  std::size_t count_ = 0;  // of entries of kScores
  int open_ = 0;           // objects and lists around
  bool in_model_ = false;
  std::string token_;
};

}  // namespace deltatune::detail

// Dotted parameter paths ("encoder.layer.0.attention.self.query.weight") and the globs that select them.
//
//   *       any run of characters inside one segment, also none        layer.*.attention
//   **      any number of whole segments, also none                    **.bias    classifier.**
//   {a,b}   one of the alternatives; they nest and may hold anything   **.{query,value}.weight
//
// Everything else stands for itself. A glob matches the whole path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"

namespace deltatune {

namespace detail {

// Reads the glob once from left to right and carries the set of all places of the path that the part read so far can reach: the time is at
// most the product of the two lengths, whatever the glob.
class GlobMatch {
 public:
  GlobMatch(std::string_view glob, std::string_view path) : glob_(glob), path_(path) {}

  DELTATUNE_FUNCTION bool run() {
    Places start(path_.size() + 1);
    start[0] = kOwed;
    const Places end = sequence(std::move(start), 0);
    if (at_ < glob_.size()) fail("a } that closes nothing");
    return (end.back() & (kInside | kComplete)) != 0;
  }

 private:
  // What may come next at a place of the path.
  static constexpr std::uint8_t kInside = 1;    // a character of the segment begun, a dot, or the end
  static constexpr std::uint8_t kOwed = 2;      // a new segment, with the dot in front of it (none at the start of the path)
  static constexpr std::uint8_t kComplete = 4;  // after **: a dot, or the end
  using Places = std::vector<std::uint8_t>;     // for each place 0..size of the path the states it is reached in

  static constexpr int kDeepest = 32;

  DELTATUNE_FUNCTION Places sequence(Places places, int depth) {
    while (at_ < glob_.size()) {
      const char c = glob_[at_];
      if (c == '}' || (c == ',' && depth > 0)) break;
      if (c == '{') {
        places = alternatives(places, depth + 1);
      } else if (glob_.substr(at_, 2) == "**") {
        require_whole_segment();
        at_ += 2;
        places = any_segments(places);
      } else {
        ++at_;
        places = c == '*' ? any_run(places) : c == '.' ? dot(places) : literal(places, c);
      }
    }
    return places;
  }

  DELTATUNE_FUNCTION Places alternatives(const Places& places, int depth) {
    if (depth > kDeepest) fail("braces nested too deeply");
    Places reached(places.size());
    do {
      ++at_;
      const Places one = sequence(places, depth);
      for (std::size_t i = 0; i < reached.size(); ++i) reached[i] = static_cast<std::uint8_t>(reached[i] | one[i]);
      if (at_ == glob_.size()) fail("a { that is never closed");
    } while (glob_[at_] == ',');
    ++at_;
    return reached;
  }

  DELTATUNE_FUNCTION Places literal(const Places& places, char c) const {
    Places reached(places.size());
    for (std::size_t i = 0; i < path_.size(); ++i) {
      if ((places[i] & kInside) != 0 && path_[i] == c) reached[i + 1] |= kInside;
      if ((places[i] & kOwed) != 0 && first_of_segment(i) < path_.size() && path_[first_of_segment(i)] == c) reached[first_of_segment(i) + 1] |= kInside;
    }
    return reached;
  }

  DELTATUNE_FUNCTION Places any_run(const Places& places) const {
    Places reached(places.size());
    for (std::size_t i = 0; i < path_.size(); ++i) {
      if ((places[i] & kInside) != 0) reached[i] |= kInside;
      if ((places[i] & kOwed) != 0) reached[first_of_segment(i)] |= kInside;
      if ((reached[i] & kInside) != 0 && path_[i] != '.') reached[i + 1] |= kInside;
    }
    if ((places.back() & kInside) != 0) reached.back() |= kInside;
    return reached;
  }

  DELTATUNE_FUNCTION Places any_segments(const Places& places) const {
    Places reached(places.size());
    bool begun = false;
    for (std::size_t i = 0; i <= path_.size(); ++i) {
      const bool owed = (places[i] & kOwed) != 0;
      if (owed || (begun && ends_segment(i))) reached[i] = kComplete;
      begun = begun || owed;
    }
    return reached;
  }

  DELTATUNE_FUNCTION Places dot(const Places& places) const {
    Places reached(places.size());
    for (std::size_t i = 0; i <= path_.size(); ++i) {
      const bool nothing_yet = i == 0 && (places[i] & kComplete) != 0;  // ** has stood for no segment
      if (nothing_yet || ((places[i] & (kInside | kComplete)) != 0 && ends_segment(i))) reached[i] = kOwed;
    }
    return reached;
  }

  bool ends_segment(std::size_t i) const { return i == path_.size() || path_[i] == '.'; }
  static std::size_t first_of_segment(std::size_t i) { return i == 0 ? 0 : i + 1; }

  void require_whole_segment() const {
    const bool before = at_ == 0 || std::string_view(".{,").find(glob_[at_ - 1]) != std::string_view::npos;
    const bool after = at_ + 2 == glob_.size() || std::string_view(".},").find(glob_[at_ + 2]) != std::string_view::npos;
    if (!before || !after) fail("** beside other characters of a segment", "** between dots (a.**.b), or * inside a segment");
  }

  [[noreturn]] void fail(const std::string& what, const std::string& expected = "") const {
    throw Error("pattern \"" + std::string(glob_) + "\"", what + ", at character " + std::to_string(at_ + 1), {.expected = expected});
  }

  std::string_view glob_;
  std::string_view path_;
  std::size_t at_ = 0;
};

}  // namespace detail

// Whether the glob matches the whole path. Throws when the glob is malformed.
inline bool matches(std::string_view glob, std::string_view path) { return detail::GlobMatch(glob, path).run(); }

// Whether path is suffix or ends in "." + suffix: PEFT's rule for target_modules.
DELTATUNE_FUNCTION bool is_suffix_path(std::string_view path, std::string_view suffix) {
  if (!path.ends_with(suffix)) return false;
  return path.size() == suffix.size() || path[path.size() - suffix.size() - 1] == '.';
}

}  // namespace deltatune

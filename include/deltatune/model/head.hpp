// What stands on top of a model's encoder or decoder.
#pragma once

#include "deltatune/core/shape.hpp"

namespace deltatune {

struct Head {
  Index classes = 0;        // of a classifier of sequences
  bool next_token = false;  // scores of all tokens as the next one

  static Head none() { return {}; }
  static Head classifier(Index classes) { return {.classes = classes}; }
  static Head language_model() { return {.next_token = true}; }
};

}  // namespace deltatune

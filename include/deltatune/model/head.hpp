// What stands on top of a model's encoder or decoder.
#pragma once

#include "deltatune/core/shape.hpp"

namespace deltatune {

struct Head {
  Index num_labels = 0;     // of a classifier of sequences
  bool next_token = false;  // scores of all tokens as the next one
  bool fresh = false;       // a classifier's output layer is drawn at random, whatever the model's file holds

  static Head none() { return {}; }
  static Head classifier(Index num_labels, bool fresh = false) { return {.num_labels = num_labels, .fresh = fresh}; }
  static Head language_model() { return {.next_token = true}; }
};

}  // namespace deltatune

// LoRA+: a higher learning rate for B than for A. Hayou et al. 2024, arXiv 2402.12354. The groups are PEFT's (create_loraplus_optimizer): besides
// lora_B all that is one row of numbers learns faster (biases, magnitudes), and LoRA on embeddings has a rate of its own.
#pragma once

#include <cmath>
#include <string>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/param/parameter.hpp"

namespace deltatune {

struct LoraPlus {
  double ratio = 16;             // of B's learning rate to A's
  double embedding_rate = 1e-6;  // learning rate of LoRA on embeddings

  DELTATUNE_FUNCTION void validate(double learning_rate) const {
    const auto check = [](bool holds, const char* what, double got) {
      if (!holds) throw Error(std::string("LoRA+: ") + what, "is not usable", {.expected = "a finite number > 0", .got = std::to_string(got)});
    };
    check(ratio > 0 && std::isfinite(ratio), "ratio", ratio);
    check(embedding_rate > 0 && std::isfinite(embedding_rate), "embedding rate", embedding_rate);
    check(learning_rate > 0 && std::isfinite(learning_rate), "learning rate", learning_rate);
  }
};

// Sets the rate factors of all parameters of a model (or of an attachment, which leaves out what trains beside it) for an optimiser with this
// learning rate. To be called before a Trainer is made.
template <class Trained>
void lora_plus(Trained& trained, double learning_rate, const LoraPlus& settings = {}) {
  settings.validate(learning_rate);
  trained.visit([&]<class X>(Parameter<X>& parameter) {
    const std::string& path = parameter.path();
    const bool is_embedding = path.ends_with(".lora_embedding_A") || path.ends_with(".lora_embedding_B");
    const bool is_fast = path.find("lora_B") != std::string::npos || parameter.file_shape().size() == 1;
    parameter.set_rate_factor(is_embedding ? settings.embedding_rate / learning_rate : is_fast ? settings.ratio : 1.0);
  });
}

}  // namespace deltatune
